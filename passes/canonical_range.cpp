// Ranges of integers, for reads that are known to be inside.
#include <algorithm>

#include "passes/canonical.h"

namespace gradc::canonical {
namespace {

using Range = std::optional<std::pair<std::int64_t, std::int64_t>>;
constexpr int deepest = 16;

// Entry functions take the inputs by name.
Range range_of_argument(const Program& program, const Function& f, ValueId v) {
  const std::string_view name = program.text(f.name);
  if (name != "loss" && name != "eval" && name != "grad" && name != "step") return {};
  for (const Input& in : program.inputs)
    if (in.bounded && in.name == f.value(v).name) return {{in.low, in.high - 1}};
  return {};
}

Range range_at(const Program& program, const Function& f, ValueId v, int depth) {
  if (depth > deepest || !is_integer(f.type(v).dtype)) return {};
  const OpId def = f.value(v).def;
  if (!def.valid()) return range_of_argument(program, f, v);
  const Op& op = f.op(def);
  const auto operand = [&](std::size_t i) {
    return range_at(program, f, op.operands[i], depth + 1);
  };
  switch (op.code) {
    case Opcode::constant_:
      return {{op.attr.integer, op.attr.integer}};
    case Opcode::position_:
      if (!op.operands.empty()) return {};
      return {{0, f.extent(op.attr.to) - 1}};
    case Opcode::expand_:
    case Opcode::relabel_:
    case Opcode::pick_:
    case Opcode::split_:
    case Opcode::merge_:
    case Opcode::stop_:
      return operand(0);
    case Opcode::max_:
    case Opcode::min_: {
      const Range a = operand(0), b = operand(1);
      const bool max = op.code == Opcode::max_;
      if (!a || !b) return {};
      return max ? Range{{std::max(a->first, b->first), std::max(a->second, b->second)}}
                 : Range{{std::min(a->first, b->first), std::min(a->second, b->second)}};
    }
    case Opcode::select_: {
      const Range a = operand(1), b = operand(2);
      if (!a || !b) return {};
      return {{std::min(a->first, b->first), std::max(a->second, b->second)}};
    }
    default:
      return {};
  }
}

}  // namespace

std::optional<std::pair<std::int64_t, std::int64_t>> range_of(const Program& program,
                                                              const Function& f, ValueId v) {
  return range_at(program, f, v, 0);
}

}  // namespace gradc::canonical
