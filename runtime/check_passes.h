// Owns the check of passes: the interpreter before and behind each of them, at one random point. It
// knows no pass: whoever runs them hands over what each gave.
#pragma once

#include <string>
#include <vector>

#include "runtime/oracle.h"

namespace gradc {

// What a pass did. Differences are relative to the largest element of their value; of a gradient
// that is small beside others, to 1e-4 of the largest gradient.
struct PassLine {
  std::string pass;
  double difference = 0;  // the largest; infinite where integers, shapes or NaNs differ
  std::string value;      // where: `loss`, `grad.h.0.wq`, `p`; the first beyond the tolerance
  std::int64_t before = 0, after = 0;  // operations of all functions
  bool ok = true;
};
// `ok    simplify        1.2e-16 of grad.wte          104 -> 61 operations`, without a newline.
std::string text_of(const PassLine& line);

// A value that entries of the program give: `loss` and `grad.STORED` of @loss, @grad and @step,
// `p`, `m`, `v` and `norm` of @step, `eval.NAME` of @eval.
struct NamedArray {
  std::string name;
  Array array;
};

class PassCheck {
 public:
  static constexpr double tolerance = 1e-9;

  // The point is random_feed, and for @step moments and a learning rate; `program` is the first
  // that others are compared with.
  static Result<PassCheck> begin(const Program& program, std::uint64_t seed);
  // Compares what the program's entries give with what the one before gave, and remembers it. A
  // value that did not exist before is taken as it is.
  Result<PassLine> behind(std::string_view pass, const Program& program);

  // All values of a program's entries at the point.
  Result<std::vector<NamedArray>> values(const Program& program) const;
  // The arguments of @step, @grad, @loss or @eval at the point.
  Result<std::vector<Array>> arguments(const Program& program, std::string_view entry) const;
  const std::vector<NamedArray>& before() const { return before_; }

 private:
  OracleFeed feed_;
  Array m_, v_;
  std::vector<NamedArray> before_;
  std::int64_t operations_ = 0;
};

// Fills `difference`, `value` and `ok` of a line.
void compare_values(const std::vector<NamedArray>& before, const std::vector<NamedArray>& after,
                    double tolerance, PassLine& line);

}  // namespace gradc
