// Mergers: two kernels that read the same value become one if the later one could run earlier, as
// do a kernel and a reader of its results.
#include <algorithm>

#include "passes/group_sweep.h"

namespace gradc::grouping {
namespace {

constexpr std::size_t most_siblings = 8;  // readers of one value that are tried for a merger
constexpr std::uint32_t farthest = 64;    // kernels between two that merge: what moves lives longer
constexpr double long_row = 1 << 20;      // elements of a single row that all workers share

}  // namespace

void Sweep::merge_readers(ValueId v) {
  std::vector<std::uint32_t> readers = current(c_.uses[v.index].inside);
  if (readers.size() < 2 || readers.size() > most_siblings) return;
  const double size = elements(v);
  for (std::size_t i = 1; i < readers.size(); ++i)
    for (std::size_t j = 0; j < i; ++j) {
      const std::uint32_t a = c_.find(readers[j]), b = c_.find(readers[i]);
      if (a == b) break;
      if (2 * size >= size_of(c_.nodes[a]) && can_merge(a, b)) {
        merge(a, b);
        break;
      }
    }
}

double Sweep::size_of(const Node& n) const {
  double size = 1;
  for (AxisId x : n.axes) size *= static_cast<double>(f_.extent(x));
  return size;
}

bool Sweep::can_merge(std::uint32_t first, std::uint32_t second) const {
  const Node& a = c_.nodes[first];
  const Node& b = c_.nodes[second];
  if (!compatible(a, b) || a.ops.size() + b.ops.size() > most_ops ||
      b.inputs.size() > 4 * most_ops || first - second > farthest)
    return false;
  // What follows the sum of a whole cannot come in the pass that makes it.
  const bool columns = a.family == Family::rows && !a.along &&
                       (b.family != Family::map || same_set(a.axes, b.axes));
  for (const Node::Input& in : b.inputs) {
    const std::uint32_t n = c_.find(in.node);
    if (n == second || n > first) continue;
    if (n != first || in.memory || columns || (in.total && a.family == Family::contract))
      return false;
  }
  return true;
}

bool Sweep::compatible(const Node& a, const Node& b) const {
  if (a.family == Family::rows && b.family == Family::rows)
    return a.along == b.along && same_set(a.kept, b.kept) && same_set(a.reduced, b.reduced);
  const auto flat = [](const Node& n) {
    return n.family == Family::map || n.family == Family::contract;
  };
  if (flat(a) && flat(b))
    return same_set(a.axes, b.axes) &&
           !(a.family == Family::contract && b.family == Family::contract);
  if (a.family == Family::rows && b.family == Family::map && same_set(a.kept, b.axes)) return true;
  // The sum of a long whole, and what else passes over its elements.
  const auto whole = [&](const Node& n) {
    return n.family == Family::rows && n.kept.empty() && size_of(n) >= long_row;
  };
  if ((whole(a) && b.family == Family::map) || (a.family == Family::map && whole(b)))
    return same_set(a.axes, b.axes);
  const auto row = [](const Node& n) { return n.family == Family::rows && n.along; };
  return ((row(a) && b.family == Family::map) || (a.family == Family::map && row(b))) &&
         same_set(a.axes, b.axes);
}

void Sweep::merge(std::uint32_t first, std::uint32_t second) {
  Node& a = c_.nodes[first];
  Node& b = c_.nodes[second];
  if (b.family != Family::map) {
    a.family = b.family;
    a.kept = b.kept;
    a.reduced = b.reduced;
    a.along = b.along;
  }
  a.ops.insert(a.ops.end(), b.ops.begin(), b.ops.end());
  a.inputs.insert(a.inputs.end(), b.inputs.begin(), b.inputs.end());
  b = {};
  b.moved_to = first;
}

void Sweep::second_look() {
  for (std::uint32_t n = static_cast<std::uint32_t>(c_.nodes.size()); n-- > 0;) {
    const Node& node = c_.nodes[n];
    if (node.moved_to != UINT32_MAX || node.family == Family::none || node.family == Family::read)
      continue;
    std::uint32_t last = Clusters::none;  // none is the largest number there is
    for (const Node::Input& in : node.inputs)
      if (const std::uint32_t k = c_.find(in.node); k != n) last = std::min(last, k);
    if (last != Clusters::none && can_merge(last, n)) merge(last, n);
  }
  for (std::uint32_t n = 0; n < c_.nodes.size(); ++n)
    if (c_.nodes[n].moved_to == UINT32_MAX && c_.nodes[n].family == Family::map) sink(n);
}

void Sweep::sink(std::uint32_t n) {
  std::uint32_t reader = Clusters::none;
  for (OpId o : c_.nodes[n].ops) {
    const Uses& u = c_.uses[f_.op(o).results[0].index];
    if (u.kept) return;
    for (std::uint32_t r : current(u.inside)) {
      if (r == n) continue;
      if (reader != Clusters::none && reader != r) return;
      reader = r;
    }
  }
  if (reader == Clusters::none || c_.nodes[reader].ops.size() + c_.nodes[n].ops.size() > most_ops)
    return;
  for (OpId o : c_.nodes[n].ops)
    if (!fits(c_.nodes[reader], f_.op(o), false)) return;
  Node& to = c_.nodes[reader];
  Node& from = c_.nodes[n];
  to.ops.insert(to.ops.end(), from.ops.begin(), from.ops.end());
  to.inputs.insert(to.inputs.end(), from.inputs.begin(), from.inputs.end());
  from = {};
  from.moved_to = reader;
}

}  // namespace gradc::grouping
