// The rule table, compiled, and its checks.
#include "passes/rules.h"

namespace gradc {
namespace {

using namespace term;

constexpr RewriteRule rules[] = {
#include "passes/rules.def"
};

// The columns of ops.def that the checks need, at compile time.
constexpr int costs[] = {
#define OP(op_name, fewest, greatest, op_kind, form, ...) Facts{.name = #op_name, .least = (fewest), .most = (greatest), .kind = Kind::op_kind, .attr = AttrForm::form, __VA_ARGS__}.cost,
#define many -1
#include "ir/ops.def"
#undef many
#undef OP
};

constexpr int cost(const RuleTerm& t) {
  int total = 0;
  for (int i = 0; i < t.count; ++i) {
    const TermNode& n = t.nodes[static_cast<std::size_t>(i)];
    // An operation on constants alone is folded.
    bool folded = n.kind == TermNode::operation;
    for (std::int8_t k : n.operands) {
      if (k < 0) continue;
      const TermNode& o = t.nodes[static_cast<std::size_t>(k)];
      folded = folded && (o.kind == TermNode::constant || o.name == 'c' || o.name == 'd');
    }
    if (n.kind == TermNode::operation && !folded) total += costs[static_cast<int>(n.code)];
  }
  return total;
}

constexpr bool bound(const RewriteRule& r) {
  for (int i = 0; i < r.to.count; ++i) {
    const TermNode& n = r.to.nodes[static_cast<std::size_t>(i)];
    if (n.kind == TermNode::variable && !r.from.mentions(n.name)) return false;
  }
  return true;
}

template <std::size_t row>
constexpr bool check_row() {
  static_assert(rules[row].from.root().kind == TermNode::operation, "a rule starts at an operation");
  static_assert(bound(rules[row]), "the right side uses a variable that the left does not bind");
  static_assert(cost(rules[row].to) <= cost(rules[row].from), "the right side costs more");
  return true;
}
template <std::size_t... rows>
constexpr bool check_all(std::index_sequence<rows...>) {
  return (check_row<rows>() && ...);
}
static_assert(check_all(std::make_index_sequence<std::size(rules)>()));

}  // namespace

std::span<const RewriteRule> rewrite_rules() { return rules; }
int cost_of(const RuleTerm& t) { return cost(t); }

}  // namespace gradc
