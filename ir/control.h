// Owns the type rules of operations with regions or callees: call, launch, fused, scan. The others
// are in ir/typing.h.
#pragma once

#include <span>
#include <string>

#include "ir/program.h"

namespace gradc {

// "" if operands, regions and `results` fit, else what is wrong. Every id must be in range.
//   call, launch  the callee is no kernel, or one; operands and results have its arguments' and
//                 results' types, its axes bound to the caller's one to one
//   fused         the region's arguments have the operands' types, and its results the results'
//   scan          as ir/README.md says; the next states have the states' types
std::string check_control(const Program& program, const Function& f, const Op& op,
                          std::span<const Type> results);

}  // namespace gradc
