// Owns reverse-mode differentiation, IR to IR. One walker goes backward through a function and
// un-broadcasts; passes/derivatives.def holds a formula for every operation, complete at compile time.
#pragma once

#include "ir/program.h"
#include "ir/diagnostic.h"

namespace gradc {

// Adds to `program` the function `name`(arguments of f, then a cotangent for each real result unless f
// has one real scalar result, whose cotangent is 1) -> cotangents of the body's arguments `wrt` (indices),
// each of exactly its argument's type, then f's results. Functions that f calls get @callee.fwd and
// @callee.bwd. Values that no gradient reaches get zeros. Can be applied to its own output.
Result<FunctionId> add_gradient(Program& program, FunctionId f, const std::vector<std::uint32_t>& wrt,
                                std::string_view name);

// Members of %p that the gradient of @loss cannot reach, by stored name (patterns unrolled).
std::vector<std::string> unreached_parameters(const Program& program);

}  // namespace gradc
