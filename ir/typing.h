// Owns the type rule of every operation but those of `control` that depend on regions: what the result
// is, given operands and attributes. The builder infers with it, the parser and the verifier check.
#pragma once

#include <optional>
#include <span>
#include <string>

#include "ir/program.h"

namespace gradc {

// The result's type where it follows from operands and attributes alone, with the axes in the default
// order: left operand's first, then new ones; an index puts its axes where the axis it replaces stood.
// Operations whose result must be written (constant, uniform, cast, expand, contract, scatter's extents,
// flags, flat, control) give nullopt with an empty fault; a broken rule gives nullopt and a fault.
std::optional<Type> infer(const Program& p, const Function& f, Opcode code, std::span<const ValueId> operands,
                          const Attr& attr, std::string& fault);

// "" if `result` is a right type for the operation, else what is wrong. Elementwise results have exactly
// the union of the operands' axes; any operation may list its result's axes in any order.
std::string check_types(const Program& p, const Function& f, Opcode code, std::span<const ValueId> operands,
                        const Attr& attr, const Type& result);

// Binds the axes of a callee's types to the caller's, position by position: the same dtype, rank and
// extents, each callee axis to one caller axis. "" or what is wrong. `map` is indexed by callee axis.
std::string bind_axes(const Function& callee, const Type& theirs, const Function& caller, const Type& ours,
                      std::vector<AxisId>& map);

// `f32[b=2 t d]`-like, without extents: for messages.
std::string describe(const Program& p, const Function& f, const Type& t);

}  // namespace gradc
