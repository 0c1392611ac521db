// Owns the sweep that decides which kernel computes which operation; passes/group.cpp tells of it.
// Its parts: group_classify.cpp looks at each operation by itself, group_cluster.cpp sweeps,
// group_home.cpp finds a node for an operation, group_merge.cpp joins nodes.
#pragma once

#include <algorithm>
#include <vector>

#include "passes/group.h"

namespace gradc::grouping {

inline constexpr std::size_t most_ops = 96;  // of one kernel: bounds the time of its compilation

class Sweep {
 public:
  explicit Sweep(const Function& f) : f_(f) {
    c_.fate.assign(f.ops.size(), Fate::opaque);
    c_.owner.assign(f.ops.size(), Clusters::none);
    c_.free_source.assign(f.ops.size(), 0);
    c_.uses.resize(f.values.size());
    c_.products.assign(f.values.size(), 0);
    for (const Op& op : f.ops)
      if (op.code == Opcode::contract_)
        for (ValueId v : op.operands) ++c_.products[v.index];
    work_.assign(f.values.size(), 0);
    loads_.assign(f.values.size(), 0);
    epilogue_.assign(f.values.size(), 0);
    after_.assign(f.values.size(), 0);
  }

  Clusters run();

 private:
  double elements(ValueId v) const { return static_cast<double>(f_.elements(f_.type(v))); }
  const Op* def(ValueId v) const { return f_.definition(v); }

  // ---- forward (group_classify.cpp): the operation's fate so far, work_, loads_, epilogue_,
  // after_
  void classify(OpId id);
  void from_memory(ValueId v) {
    work_[v.index] = 0;
    loads_[v.index] = elements(v);
  }

  // ---- backward (group_cluster.cpp): each operation meets all users of its values
  static void note(std::vector<std::uint32_t>& list, std::uint32_t node) {
    const std::size_t look = std::min<std::size_t>(list.size(), 16);
    for (std::size_t i = 0; i < look; ++i)
      if (list[list.size() - 1 - i] == node) return;
    list.push_back(node);
  }
  void uses_of_clone(ValueId x, const Uses& of, bool before_sum);
  void inside(ValueId x, std::uint32_t node, bool before_sum) {
    note(c_.uses[x.index].inside, node);
    c_.uses[x.index].before_sum |= before_sum;
  }
  void memory(ValueId x, std::uint32_t node) {
    note(c_.uses[x.index].memory, node);
    c_.uses[x.index].kept = true;
  }
  // Current numbers, first to run first.
  std::vector<std::uint32_t> current(const std::vector<std::uint32_t>& list) const;
  std::uint32_t new_node(Family family, const AxisList& axes);
  // The operation's node is known: its readers have it as an input.
  void own(OpId id, std::uint32_t node);
  void place(OpId id);
  void view(const Op& op);
  void clone(const Op& op);
  void opaque(OpId id);
  void operands_of(OpId id, std::uint32_t node);

  // ---- a node for an operation (group_home.cpp)
  // The node of the first reader, if the value can be made there: it is wanted in memory only
  // later.
  std::uint32_t candidate(const Uses& u) const;
  std::uint32_t home(OpId id);
  // Whether an elementwise operation may stand in the node, as a `result` or for its readers there
  // only.
  bool fits(const Node& n, const Op& op, bool result) const;
  // The node has sums over all axes, and what they are of, and nothing that reads them: a contraction
  // with these axes can compute them behind itself.
  bool totals_alone(std::uint32_t node, const AxisList& axes) const;
  // A full-size value may follow the reduction in its kernel: see passes/group.cpp.
  bool reduces_along(const Op& op) const;
  std::uint32_t reduction_home(const Op& op, std::uint32_t at);

  // ---- mergers (group_merge.cpp)
  void merge_readers(ValueId v);
  bool can_merge(std::uint32_t first, std::uint32_t second) const;
  // What one kernel's form allows; `a` runs first.
  bool compatible(const Node& a, const Node& b) const;
  double size_of(const Node& n) const;  // elements of its axes
  void merge(std::uint32_t first, std::uint32_t second);

  // When all kernels are known: a reader joins the last kernel that it waits for, and a kernel
  // whose results one other takes, and nobody else, becomes part of that.
  void second_look();
  void sink(std::uint32_t n);

  const Function& f_;
  Clusters c_;
  std::vector<double> work_, loads_;  // by value: to compute it again from what is surely in memory
  // By value: 1 + the index of the contraction that could hand it out, 0: none; likewise of the
  // last operation of all that it comes from that no consumer can compute for itself.
  std::vector<std::uint32_t> epilogue_, after_;
};

}  // namespace gradc::grouping
