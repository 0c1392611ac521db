// Owns the order in which functions and regions get their derivatives, and what becomes of each.
//
// A region (of fused, scan) becomes a body that takes the cotangents of its results and some of its
// arguments, computes forward again and goes back; it is then placed inside an operation like its
// own. A function f becomes @f.fwd, which also returns what is saved (passes/saving.h has the
// choice), and @f.bwd(arguments that it reads, saved, cotangents) -> cotangents; one of each for
// all calls. The root becomes one function: forward, then back.
#pragma once

#include <string_view>
#include <vector>

#include "ir/diagnostic.h"
#include "ir/program.h"
#include "passes/remark.h"

namespace gradc {

// As add_gradient (passes/differentiate.h). `gradients_of`: the group of arguments of the root
// whose cotangents are named `g.…`; those of other values %x are named `d_x`.
// Remarks: what each function computes again instead of saving it.
Result<FunctionId> derive(Program& program, FunctionId root, const std::vector<std::uint32_t>& wrt,
                          std::string_view name, std::string_view gradients_of,
                          std::vector<Remark>* remarks = nullptr);

}  // namespace gradc
