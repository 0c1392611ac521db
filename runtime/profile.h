// Owns what a profile is: timed runs of a step added up by launch and by kernel, beside what the
// machine could do (runtime/roofline.h), as a table and as JSON. Where the time goes in the text of
// the model is in lines.h, when things happened in trace.h.
#pragma once

#include <string>
#include <vector>

#include "runtime/entry.h"
#include "runtime/json.h"
#include "runtime/roofline.h"

namespace gradc {

// Of at least one number; of an even count the mean of the two in the middle.
double median(std::vector<double> x);

class Profile {
 public:
  // Of a loaded entry, which must outlive it.
  explicit Profile(Entry& entry);
  // Adds the last run_timed(), which took `wall` seconds with all that the caller did around it.
  void add(double wall);

  // Means over the steps, in seconds. A launch's time is the mean over the threads of being inside
  // it and waiting behind it, so that the launches' sum is a step without its beginning and end.
  struct Times {
    std::vector<double> busy, waiting;   // by thread
    double seconds() const;
  };
  std::vector<Times> launches() const;   // in the order of the plan
  double step() const;                   // the wall time
  double sum() const;                    // of the launches
  // Of a step, what is left of the wall time beside the longest thread's time in each launch; the
  // median over the steps, as a part of a step.
  double overhead() const;

  // A row a kernel, the longest first; then the sum, the overhead, the machine's rates.
  std::string text(const Roofline& machine) const;
  // Adds what text() shows: rates, `profile_ms`, `profile_share`, `overhead`, and `profile`, an
  // object a kernel; of each also `median_ms` and `least_ms`, the sums over its launches of their
  // medians over the steps, which other processes disturb less than the means, and of their least.
  void json(JsonObject& to, const Roofline& machine) const;

 private:
  struct Row;
  std::vector<Row> rows(const Roofline& machine) const;
  Entry& entry_;
  std::vector<Times> sums_;
  std::vector<std::vector<double>> seconds_;   // by launch, then step
  std::vector<double> overheads_;
  double wall_ = 0;
};

}  // namespace gradc
