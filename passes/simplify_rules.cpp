// Matching and building of the table's terms against the function that is being built.
#include "passes/simplifier.h"

namespace gradc {
namespace {

// Rules by the operation at the root of their left side.
const std::vector<const RewriteRule*>& rules_of(Opcode code) {
  static const auto by_root = [] {
    std::array<std::vector<const RewriteRule*>, static_cast<std::size_t>(opcode_count)> out;
    for (const RewriteRule& r : rewrite_rules()) out[static_cast<std::size_t>(r.from.root().code)].push_back(&r);
    return out;
  }();
  return by_root[static_cast<std::size_t>(code)];
}

}  // namespace

bool Simplifier::match(const RuleTerm& term, int index, ValueId value, std::array<ValueId, 128>& bound) {
  const TermNode& node = term.nodes[static_cast<std::size_t>(index)];
  if (node.kind == TermNode::constant) {
    const std::optional<double> k = constant_of(value);
    return k && *k == node.value;
  }
  if (node.kind == TermNode::variable) {
    if ((node.name == 'c' || node.name == 'd') && !constant_of(value)) return false;
    ValueId& known = bound[static_cast<std::size_t>(node.name)];
    if (known.valid()) return known == value;
    known = value;
    return true;
  }
  const Op* op = def(value, node.code);
  return op != nullptr && match_operands(term, node, op->operands, bound);
}

// Terms are shallow, so this recursion is as deep as the table's deepest row.
bool Simplifier::match_operands(const RuleTerm& term, const TermNode& node, const std::vector<ValueId>& operands,
                                std::array<ValueId, 128>& bound) {
  const auto in_order = [&](bool swapped) {
    for (std::size_t i = 0; i < operands.size(); ++i) {
      const std::size_t k = swapped ? 1 - i : i;
      if (!match(term, node.operands[i], operands[k], bound)) return false;
    }
    return true;
  };
  const std::array<ValueId, 128> before = bound;
  if (in_order(false)) return true;
  bound = before;
  if (!facts(node.code).commutes) return false;
  if (in_order(true)) return true;
  bound = before;
  return false;
}

ValueId Simplifier::build(const RuleTerm& term, int index, const std::array<ValueId, 128>& bound, DType dtype) {
  const TermNode& node = term.nodes[static_cast<std::size_t>(index)];
  if (node.kind == TermNode::constant) return constant(node.value, dtype);
  if (node.kind == TermNode::variable) return bound[static_cast<std::size_t>(node.name)];
  std::vector<ValueId> operands;
  for (std::int8_t k : node.operands)
    if (k >= 0) operands.push_back(build(term, k, bound, dtype));
  AxisList axes;
  for (ValueId v : operands) axes = unite(axes, type(v).axes);
  // Comparisons aside, what the table builds has the dtype of its last operand.
  const bool truth = node.code == Opcode::lt_ || node.code == Opcode::le_ || node.code == Opcode::eq_ || node.code == Opcode::ne_;
  return make(node.code, operands, {}, Type{truth ? DType::boolean : type(operands.back()).dtype, axes});
}

std::optional<ValueId> Simplifier::table(Opcode code, const std::vector<ValueId>& operands, const Type& t) {
  if (!is_elementwise(code)) return std::nullopt;
  for (const RewriteRule* rule : rules_of(code)) {
    std::array<ValueId, 128> bound{};
    if (!match_operands(rule->from, rule->from.root(), operands, bound)) continue;
    fired(rule->name);
    const DType dtype = t.dtype == DType::boolean && rule->to.count == 1 ? DType::boolean : type(operands.back()).dtype;
    return fit(build(rule->to, rule->to.count - 1, bound, dtype), t);
  }
  return std::nullopt;
}

}  // namespace gradc
