// Owns what kernels cost, counted from their bodies and extents, never from a clock: floating-point
// operations and bytes moved. A plan's totals are in PlanSummary (passes.h).
#pragma once

#include <cstdint>

#include "ir/program.h"

namespace gradc {

// The relative work of one operation of a kernel's body: the row's cost in ir/ops.def for each
// element of the result, of what a reduction takes, or for each product of a contraction.
double operation_cost(const Function& kernel, const Op& op);

struct Cost {
  // Two for each product of a contraction; one for each element that an elementwise operation makes
  // or a reduction takes, where it is real. What a mask excludes counts.
  double flop = 0;
  // Of all operands, as much as the body reads, and all results, each element once: what moves if
  // caches hold a kernel's working set and nothing between kernels. Of a table that a `gather`
  // reads no more than is looked up.
  std::int64_t bytes = 0;
  std::int64_t written = 0;  // of them: the results'
};
Cost kernel_cost(const Function& kernel);

// Of a launch in a planned function: a scatter or update whose result lies in its base's place
// moves only the elements that it changes.
Cost launch_cost(const Program& program, const Function& planned, const Op& launch);

}  // namespace gradc
