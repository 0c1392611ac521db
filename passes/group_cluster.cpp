// The second step of grouping: decides which kernel computes which operation. See passes/group.cpp.
#include <algorithm>

#include "ir/diagnostic.h"
#include "passes/group.h"

namespace gradc::grouping {
namespace {

constexpr std::size_t most_ops = 96;            // of one kernel: bounds the time of its compilation
constexpr std::size_t most_siblings = 8;        // readers of one value that are tried for a merger
constexpr std::int64_t longest_row = 1 << 16;   // elements; a longer one does not stay in cache for its second pass
constexpr double cheap = 6;                     // cost an element up to which a value is computed again

bool is_static_view(const Op& op) {
  switch (op.code) {
    case Opcode::relabel_:
    case Opcode::split_:
    case Opcode::merge_: return true;
    case Opcode::pick_:
    case Opcode::slice_: return op.operands.size() == 1;
    default: return false;
  }
}

bool within(const AxisList& part, const AxisList& whole) { return whole.contains_all(part); }

class Sweep {
 public:
  explicit Sweep(const Function& f) : f_(f) {
    c_.fate.assign(f.ops.size(), Fate::opaque);
    c_.owner.assign(f.ops.size(), Clusters::none);
    c_.free_source.assign(f.ops.size(), 0);
    c_.uses.resize(f.values.size());
    work_.assign(f.values.size(), 0);
    loads_.assign(f.values.size(), 0);
    epilogue_.assign(f.values.size(), 0);
  }

  Clusters run() {
    for (ValueId v : f_.body().arguments) loads_[v.index] = elements(v);
    for (OpId o : f_.body().ops) classify(o);
    for (ValueId v : f_.body().results) c_.uses[v.index].kept = true;
    const std::vector<OpId>& ops = f_.body().ops;
    for (std::size_t i = ops.size(); i-- > 0;) place(ops[i]);
    for (ValueId v : f_.body().arguments) merge_readers(v);
    return std::move(c_);
  }

 private:
  double elements(ValueId v) const { return static_cast<double>(f_.elements(f_.type(v))); }
  const Op* def(ValueId v) const {
    const OpId o = f_.value(v).def;
    return o.valid() ? &f_.op(o) : nullptr;
  }

  // ---- forward: what each operation could become, and what it costs to compute it again from memory

  void classify(OpId id) {
    const Op& op = f_.op(id);
    Fate& fate = c_.fate[id.index];
    if (op.results.size() != 1 || facts(op.code).kind == Kind::control || op.code == Opcode::concat_ ||
        op.code == Opcode::scatter_ || op.code == Opcode::update_) {
      for (ValueId v : op.results) from_memory(v);
      return;                                    // opaque
    }
    const ValueId v = op.results[0];
    const Kind kind = facts(op.code).kind;
    if (kind == Kind::reduce || kind == Kind::contract) {
      fate = Fate::placed;
      from_memory(v);
      epilogue_[v.index] = kind == Kind::contract;
      return;
    }
    if (is_address(op.code)) {
      const Op* source = def(op.operands[0]);
      const bool in_kernel = source != nullptr && is_address(source->code) && source->code != Opcode::gather_ &&
                             c_.fate[f_.value(op.operands[0]).def.index] == Fate::clone;
      fate = is_static_view(op) && !in_kernel ? Fate::view : Fate::clone;
      from_memory(v);
      return;
    }
    // Sources, elementwise operations and expand.
    work_[v.index] = std::max(facts(op.code).cost, 1) * elements(v);
    for (ValueId x : op.operands) {
      work_[v.index] += work_[x.index];
      loads_[v.index] += loads_[x.index];
      epilogue_[v.index] |= epilogue_[x.index] && same_set(f_.type(x).axes, f_.type(v).axes);
    }
    bool free = op.code != Opcode::uniform_ && work_[v.index] <= 4 * cheap * elements(v);
    for (ValueId x : op.operands) free &= def(x) != nullptr && c_.free_source[f_.value(x).def.index] != 0;
    c_.free_source[id.index] = free;
    const double few = f_.type(v).axes.empty() ? 8 : 1.5 * elements(v);
    const bool repeat = work_[v.index] <= cheap * elements(v) && loads_[v.index] <= few;
    fate = repeat || free ? Fate::clone : Fate::placed;
    if (fate == Fate::placed) work_[v.index] = 0, loads_[v.index] = elements(v);
  }
  void from_memory(ValueId v) {
    work_[v.index] = 0;
    loads_[v.index] = elements(v);
  }

  // ---- backward: each operation meets all users of its values

  static void note(std::vector<std::uint32_t>& list, std::uint32_t node) {
    const std::size_t look = std::min<std::size_t>(list.size(), 16);
    for (std::size_t i = 0; i < look; ++i)
      if (list[list.size() - 1 - i] == node) return;
    list.push_back(node);
  }
  void uses_of_clone(ValueId x, const Uses& of, bool before_sum) {
    Uses& u = c_.uses[x.index];
    for (std::uint32_t n : of.inside) note(u.inside, n);
    u.before_sum |= before_sum;
  }
  void inside(ValueId x, std::uint32_t node, bool before_sum) {
    note(c_.uses[x.index].inside, node);
    c_.uses[x.index].before_sum |= before_sum;
  }
  void memory(ValueId x, std::uint32_t node) {
    note(c_.uses[x.index].memory, node);
    c_.uses[x.index].kept = true;
  }
  // Current numbers, first to run first.
  std::vector<std::uint32_t> current(const std::vector<std::uint32_t>& list) const {
    std::vector<std::uint32_t> out;
    for (std::uint32_t n : list) out.push_back(c_.find(n));
    std::sort(out.begin(), out.end(), std::greater<>());
    out.erase(std::unique(out.begin(), out.end()), out.end());
    return out;
  }
  std::uint32_t new_node(Family family, const AxisList& axes) {
    c_.nodes.push_back({.family = family, .axes = axes});
    return static_cast<std::uint32_t>(c_.nodes.size() - 1);
  }
  // The operation's node is known: its readers have it as an input.
  void own(OpId id, std::uint32_t node) {
    c_.owner[id.index] = node;
    c_.nodes[node].ops.push_back(id);
    for (ValueId v : f_.op(id).results) {
      const Uses& u = c_.uses[v.index];
      for (std::uint32_t n : u.inside)
        if (const std::uint32_t k = c_.find(n); k != node) c_.nodes[k].inputs.push_back({node, false});
      for (std::uint32_t n : u.memory) c_.nodes[c_.find(n)].inputs.push_back({node, true});
    }
  }

  void place(OpId id) {
    const Op& op = f_.op(id);
    bool wanted = false;
    for (ValueId v : op.results) {
      const Uses& u = c_.uses[v.index];
      wanted |= u.kept || !u.inside.empty();
    }
    if (!wanted) return;
    Fate& fate = c_.fate[id.index];
    if (fate != Fate::clone || c_.uses[op.results[0].index].kept)
      for (ValueId v : op.results) merge_readers(v);
    switch (fate) {
      case Fate::view: return view(op);
      case Fate::opaque: return opaque(id);
      case Fate::clone:
        if (!c_.uses[op.results[0].index].kept) return clone(op);
        if (c_.free_source[id.index]) {          // others compute it themselves
          clone(op);
          const std::uint32_t node = new_node(Family::map, f_.type(op.results[0]).axes);
          c_.owner[id.index] = node;
          c_.nodes[node].ops.push_back(id);
          const Uses& u = c_.uses[op.results[0].index];
          for (std::uint32_t n : u.memory) c_.nodes[c_.find(n)].inputs.push_back({node, true});
          for (ValueId x : op.operands) inside(x, node, false);
          return;
        }
        fate = Fate::placed;
        break;
      case Fate::placed: break;
    }
    const std::uint32_t node = home(id);
    own(id, node);
    operands_of(id, node);
  }

  void view(const Op& op) {
    const Uses& u = c_.uses[op.results[0].index];
    Uses& x = c_.uses[op.operands[0].index];
    for (std::uint32_t n : u.inside) note(x.memory, n);
    for (std::uint32_t n : u.memory) note(x.memory, n);
    x.kept = true;
  }
  void clone(const Op& op) {
    const ValueId v = op.results[0];
    const Uses u = c_.uses[v.index];
    for (std::size_t i = 0; i < op.operands.size(); ++i) {
      const ValueId x = op.operands[i];
      if (reads_memory(f_, c_, op, i)) {
        for (std::uint32_t n : u.inside) memory(x, n);
        c_.uses[x.index].kept = true;
      } else {
        uses_of_clone(x, u, u.before_sum || is_address(op.code));
      }
    }
  }
  void opaque(OpId id) {
    const Op& op = f_.op(id);
    const bool read = op.code == Opcode::scatter_ || op.code == Opcode::update_;
    const std::uint32_t node = new_node(read ? Family::read : Family::none, {});
    own(id, node);
    for (ValueId x : op.operands) memory(x, node);
  }
  void operands_of(OpId id, std::uint32_t node) {
    const Op& op = f_.op(id);
    const ValueId v = op.results[0];
    const Node& n = c_.nodes[node];
    const Kind kind = facts(op.code).kind;
    const bool before = kind == Kind::reduce || c_.uses[v.index].before_sum ||
                        (n.family == Family::rows && !within(f_.type(v).axes, n.kept));
    for (std::size_t i = 0; i < op.operands.size(); ++i) {
      ValueId x = op.operands[i];
      if (!reads_memory(f_, c_, op, i)) {
        inside(x, node, before);
        continue;
      }
      if (kind == Kind::contract && is_absorbed_cast(f_, c_, x)) x = def(x)->operands[0];
      memory(x, node);
    }
  }

  // ---- a node for an operation

  // The node of the first reader, if the value can be made there: it is wanted in memory only later.
  std::uint32_t candidate(const Uses& u) const {
    const std::vector<std::uint32_t> readers = current(u.inside);
    if (readers.empty()) return Clusters::none;
    for (std::uint32_t n : u.memory)
      if (c_.find(n) >= readers[0]) return Clusters::none;
    return c_.nodes[readers[0]].ops.size() < most_ops ? readers[0] : Clusters::none;
  }
  std::uint32_t home(OpId id) {
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
      return new_node(Family::contract, f_.type(v).axes);
    }
    if (kind == Kind::reduce) return reduction_home(op, at);
    if (at != Clusters::none && fits(c_.nodes[at], op, result)) return at;
    return new_node(Family::map, f_.type(v).axes);
  }

  bool fits(const Node& n, const Op& op, bool result) const {
    const ValueId v = op.results[0];
    const AxisList& axes = f_.type(v).axes;
    if (n.family != Family::map && n.family != Family::rows && n.family != Family::contract) return false;
    if (!within(axes, n.axes)) return false;
    const bool whole = same_set(axes, n.axes);
    if (n.family == Family::rows) {
      if (same_set(axes, n.kept) && (n.along || !c_.uses[v.index].before_sum)) return true;
      // A contraction's epilogue writes the value for less than a reading kernel does.
      if (result && !(whole && n.along && !epilogue_[v.index])) return false;
    } else if (result && !whole) {
      return false;
    }
    return whole || facts(op.code).cost <= 2;    // not worth doing once an element of a larger value
  }

  bool reduces_along(const Op& op) const {
    const AxisList& axes = f_.type(op.operands[0]).axes;
    const AxisList kept = f_.type(op.results[0]).axes;
    std::int64_t row = 1;
    int innermost = 0;
    for (int i = axes.size(); i-- > 0 && !kept.contains(axes[i]); ++innermost) row *= f_.extent(axes[i]);
    return !kept.empty() && innermost + kept.size() == axes.size() && row <= longest_row;
  }
  std::uint32_t reduction_home(const Op& op, std::uint32_t at) {
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

  // ---- mergers: two kernels that read the same value become one if the later one could run earlier

  void merge_readers(ValueId v) {
    std::vector<std::uint32_t> readers = current(c_.uses[v.index].inside);
    if (readers.size() < 2 || readers.size() > most_siblings) return;
    const double size = elements(v);
    for (std::size_t i = 1; i < readers.size(); ++i)
      for (std::size_t j = 0; j < i; ++j) {
        const std::uint32_t a = c_.find(readers[j]), b = c_.find(readers[i]);
        if (a == b) break;
        double whole = 1;
        for (AxisId x : c_.nodes[a].axes) whole *= static_cast<double>(f_.extent(x));
        if (2 * size >= whole && can_merge(a, b)) {
          merge(a, b);
          break;
        }
      }
  }
  bool can_merge(std::uint32_t first, std::uint32_t second) const {
    const Node& a = c_.nodes[first];
    const Node& b = c_.nodes[second];
    if (!compatible(a, b) || a.ops.size() + b.ops.size() > most_ops || b.inputs.size() > 4 * most_ops) return false;
    const bool columns = a.family == Family::rows && !a.along;
    for (const Node::Input& in : b.inputs) {
      const std::uint32_t n = c_.find(in.node);
      if (n == second || n > first) continue;
      if (n != first || in.memory || columns) return false;
    }
    return true;
  }
  static bool compatible(const Node& a, const Node& b) {
    if (a.family == Family::rows && b.family == Family::rows)
      return a.along == b.along && same_set(a.kept, b.kept) && same_set(a.reduced, b.reduced);
    const auto flat = [](const Node& n) { return n.family == Family::map || n.family == Family::contract; };
    if (flat(a) && flat(b))
      return same_set(a.axes, b.axes) && !(a.family == Family::contract && b.family == Family::contract);
    const auto row = [](const Node& n) { return n.family == Family::rows && n.along; };
    return ((row(a) && b.family == Family::map) || (a.family == Family::map && row(b))) && same_set(a.axes, b.axes);
  }
  void merge(std::uint32_t first, std::uint32_t second) {
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

  const Function& f_;
  Clusters c_;
  std::vector<double> work_, loads_;    // by value: to compute it again from what is surely in memory
  std::vector<char> epilogue_;          // by value: a contraction could hand it out
};

}  // namespace

std::uint32_t Clusters::find(std::uint32_t node) const {
  while (nodes[node].moved_to != UINT32_MAX) node = nodes[node].moved_to;
  return node;
}

bool is_address(Opcode code) {
  const Kind kind = facts(code).kind;
  return (kind == Kind::view && code != Opcode::expand_) ||
         (kind == Kind::read && code != Opcode::concat_ && code != Opcode::scatter_ && code != Opcode::update_);
}

bool reads_memory(const Function& f, const Clusters& c, const Op& op, std::size_t operand) {
  if (op.code == Opcode::contract_) return true;
  const OpId def = f.value(op.operands[operand]).def;
  if (op.code == Opcode::gather_ && operand == 1) return def.valid() && facts(f.op(def).code).kind == Kind::reduce;
  if (operand != 0 || !is_address(op.code)) return false;
  // Behind another read it becomes part of its addressing; an index of a gather must have the kernel's axes.
  return !def.valid() || c.fate[def.index] != Fate::clone || !is_address(f.op(def).code) ||
         f.op(def).code == Opcode::gather_;
}

bool is_absorbed_cast(const Function& f, const Clusters& c, ValueId operand) {
  OpId def = f.value(operand).def;
  if (!def.valid() || f.op(def).code != Opcode::cast_) return false;
  ValueId x = f.op(def).operands[0];
  for (def = f.value(x).def; def.valid(); def = f.value(x).def) {
    if (c.fate[def.index] != Fate::view) return false;
    x = f.op(def).operands[0];
  }
  return true;
}

Clusters cluster(const Function& f) { return Sweep(f).run(); }

}  // namespace gradc::grouping
