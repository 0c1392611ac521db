// A node for an operation: that of its first reader, if the form of kernels allows, or a new one.
#include <algorithm>

#include "passes/group_sweep.h"

namespace gradc::grouping {
namespace {

constexpr std::int64_t longest_row =
    1 << 16;  // elements; a longer one does not stay in cache for its second pass

}  // namespace

std::uint32_t Sweep::candidate(const Uses& u) const {
  const std::vector<std::uint32_t> readers = current(u.inside);
  if (readers.empty()) return Clusters::none;
  for (std::uint32_t n : u.memory)
    if (c_.find(n) >= readers[0]) return Clusters::none;
  return c_.nodes[readers[0]].ops.size() < most_ops ? readers[0] : Clusters::none;
}

std::uint32_t Sweep::home(OpId id) {
  const Op& op = f_.op(id);
  const ValueId v = op.results[0];
  const Uses& u = c_.uses[v.index];
  const std::uint32_t at = candidate(u);
  const bool result = u.kept || current(u.inside).size() > 1;
  const Kind kind = facts(op.code).kind;
  if (kind == Kind::contract) {
    if (at != Clusters::none && c_.nodes[at].family == Family::map &&
        same_set(c_.nodes[at].axes, f_.type(v).axes)) {
      c_.nodes[at].family = Family::contract;
      return at;
    }
    if (at != Clusters::none && result && totals_alone(at, f_.type(v).axes)) {
      Node& n = c_.nodes[at];
      n = {.family = Family::contract,
           .axes = f_.type(v).axes,
           .ops = std::move(n.ops),
           .inputs = std::move(n.inputs)};
      return at;
    }
    return new_node(Family::contract, f_.type(v).axes);
  }
  if (kind == Kind::reduce) return reduction_home(op, at);
  if (at != Clusters::none && fits(c_.nodes[at], op, result)) return at;
  return new_node(Family::map, f_.type(v).axes);
}

bool Sweep::totals_alone(std::uint32_t at, const AxisList& axes) const {
  const Node& n = c_.nodes[at];
  if (n.family != Family::rows || !n.kept.empty() || !same_set(n.axes, axes)) return false;
  return std::all_of(n.ops.begin(), n.ops.end(), [&](OpId o) {
    const Op& op = f_.op(o);
    if (op.code != Opcode::sum_) return !f_.type(op.results[0]).axes.empty();
    const std::vector<std::uint32_t> readers = current(c_.uses[op.results[0].index].inside);
    return std::find(readers.begin(), readers.end(), at) == readers.end();
  });
}

bool Sweep::fits(const Node& n, const Op& op, bool result) const {
  const ValueId v = op.results[0];
  const AxisList& axes = f_.type(v).axes;
  if (n.family != Family::map && n.family != Family::rows && n.family != Family::contract)
    return false;
  if (!n.axes.contains_all(axes)) return false;
  const bool whole = same_set(axes, n.axes);
  if (n.family == Family::rows) {
    if (same_set(axes, n.kept) && (n.along || !c_.uses[v.index].before_sum)) return true;
    // A contraction's epilogue writes the value for less than a reading kernel does.
    if (result && !(whole && n.along && !epilogue_[v.index])) return false;
  } else if (result && !whole) {
    return false;
  }
  return whole || facts(op.code).cost <= 2;  // not worth doing once an element of a larger value
}

bool Sweep::reduces_along(const Op& op) const {
  const AxisList& axes = f_.type(op.operands[0]).axes;
  const AxisList kept = f_.type(op.results[0]).axes;
  std::int64_t row = 1;
  int innermost = 0;
  for (int i = axes.size(); i-- > 0 && !kept.contains(axes[i]); ++innermost)
    row *= f_.extent(axes[i]);
  return !kept.empty() && innermost + kept.size() == axes.size() && row <= longest_row;
}

std::uint32_t Sweep::reduction_home(const Op& op, std::uint32_t at) {
  const AxisList& axes = f_.type(op.operands[0]).axes;
  const AxisList& kept = f_.type(op.results[0]).axes;
  AxisList reduced;
  for (AxisId a : op.attr.axes) reduced.push_back(a);
  const bool along = reduces_along(op);
  if (at != Clusters::none) {
    Node& n = c_.nodes[at];
    const auto becomes_rows = [&](bool row) {
      n.family = Family::rows;
      n.axes = axes;
      n.kept = kept;
      n.reduced = reduced;
      n.along = row;
      return at;
    };
    if (n.family == Family::map && along && same_set(n.axes, axes)) return becomes_rows(true);
    if (n.family == Family::map && same_set(n.axes, kept)) return becomes_rows(along);
    if (n.family == Family::rows && same_set(n.kept, kept) && same_set(n.reduced, reduced) &&
        (n.along ? along : !c_.uses[op.results[0].index].before_sum))
      return at;
  }
  const std::uint32_t node = new_node(Family::rows, axes);
  c_.nodes[node].kept = kept;
  c_.nodes[node].reduced = reduced;
  c_.nodes[node].along = along;
  return node;
}

}  // namespace gradc::grouping
