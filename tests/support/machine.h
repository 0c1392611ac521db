// Owns the machine that runs plans: memory in which an element that something else overwrote reads
// as NaN.
#pragma once

#include <span>
#include <vector>

#include "ir/evaluate.h"

namespace gradc::plan_test {

// Runs a planned function on arenas: operands are read from their places, kernels evaluated,
// results written to theirs. `arguments` lie in their places before, results after.
Result<std::vector<Array>> run_placed(const Program& p, FunctionId function,
                                      std::span<const Array> arguments);

}  // namespace gradc::plan_test
