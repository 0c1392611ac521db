// Owns the join of a step's launches with the text that they come from: what each line takes
// forward and backward, what it keeps for backward, and the kernels that it went into.
//
// A launch's time is divided over the operations of its kernel's body by their cost
// (operation_cost: ops.def's row times elements or products), an operation's evenly over its lines.
// A kernel is written once for equal structures; where a launch is of other lines than the body
// says (a bias gradient here and one there), its time goes evenly over the launch's own lines.
//
// Forward is what the loss depends on; a kernel of it that also begins the gradient is divided by
// the roles of its operations. All else but the update is backward, and so is what is computed
// again. A line keeps the bytes of the activations that its forward operations made and that a
// launch of backward reads last, views followed.
#pragma once

#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ir/diagnostic.h"
#include "ir/program.h"
#include "runtime/json.h"

namespace gradc {

struct LineWork {
  double forward = 0, backward = 0;                // seconds
  double kept = 0;                                 // bytes
  std::map<std::string, double> kernels;           // name, seconds of it here
};
struct LineProfile {
  std::map<std::pair<std::uint32_t, std::uint32_t>, LineWork> lines;   // by source and line
  double update = 0;                               // seconds of the optimizer
  LineWork nowhere;                                // of launches without any line
  double launches() const;                         // all seconds: lines, update, nowhere
};

// `seconds` of each launch of a planned function, in order.
LineProfile lines_of(const Program& program, FunctionId planned, std::span<const double> seconds);

// The texts with milliseconds forward and backward and megabytes kept before each line, and its
// kernels behind it, the longest first: the first source, and each that has a line with time. Then
// what belongs to no line, and the step, which is all of it.
std::string lines_text(const LineProfile& profile, const Sources& sources, double step_seconds);
// The same as a list `lines`, one object a line.
void lines_json(JsonObject& to, const LineProfile& profile, const Sources& sources);

}  // namespace gradc
