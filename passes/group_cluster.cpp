// The second step of grouping: decides which kernel computes which operation, going backward over
// the function. See passes/group.cpp.
#include <functional>
#include <algorithm>

#include "passes/group_sweep.h"

namespace gradc::grouping {

Clusters Sweep::run() {
  for (ValueId v : f_.body().arguments) loads_[v.index] = elements(v);
  for (OpId o : f_.body().ops) classify(o);
  for (ValueId v : f_.body().results) c_.uses[v.index].kept = true;
  const std::vector<OpId>& ops = f_.body().ops;
  for (std::size_t i = ops.size(); i-- > 0;) place(ops[i]);
  for (ValueId v : f_.body().arguments) merge_readers(v);
  second_look();
  return std::move(c_);
}

void Sweep::uses_of_clone(ValueId x, const Uses& of, bool before_sum) {
  Uses& u = c_.uses[x.index];
  for (std::uint32_t n : of.inside) note(u.inside, n);
  u.before_sum |= before_sum;
}

std::vector<std::uint32_t> Sweep::current(const std::vector<std::uint32_t>& list) const {
  std::vector<std::uint32_t> out;
  for (std::uint32_t n : list) out.push_back(c_.find(n));
  std::sort(out.begin(), out.end(), std::greater<>());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

std::uint32_t Sweep::new_node(Family family, const AxisList& axes) {
  c_.nodes.push_back({.family = family, .axes = axes});
  return static_cast<std::uint32_t>(c_.nodes.size() - 1);
}

void Sweep::own(OpId id, std::uint32_t node) {
  c_.owner[id.index] = node;
  c_.nodes[node].ops.push_back(id);
  for (ValueId v : f_.op(id).results) {
    const Uses& u = c_.uses[v.index];
    const bool total = f_.op(id).code == Opcode::sum_ && f_.type(v).axes.empty();
    for (std::uint32_t n : u.inside)
      if (const std::uint32_t k = c_.find(n); k != node)
        c_.nodes[k].inputs.push_back({node, false, total});
    for (std::uint32_t n : u.memory) c_.nodes[c_.find(n)].inputs.push_back({node, true});
  }
}

void Sweep::place(OpId id) {
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
      if (c_.free_source[id.index]) {  // others compute it themselves
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

void Sweep::view(const Op& op) {
  const Uses& u = c_.uses[op.results[0].index];
  Uses& x = c_.uses[op.operands[0].index];
  for (std::uint32_t n : u.inside) note(x.memory, n);
  for (std::uint32_t n : u.memory) note(x.memory, n);
  x.kept = true;
}

void Sweep::clone(const Op& op) {
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

void Sweep::opaque(OpId id) {
  const Op& op = f_.op(id);
  const bool read = op.code == Opcode::scatter_ || op.code == Opcode::update_;
  const std::uint32_t node = new_node(read ? Family::read : Family::none, {});
  own(id, node);
  for (ValueId x : op.operands) memory(x, node);
}

void Sweep::operands_of(OpId id, std::uint32_t node) {
  const Op& op = f_.op(id);
  const ValueId v = op.results[0];
  const Node& n = c_.nodes[node];
  const Kind kind = facts(op.code).kind;
  const bool before = kind == Kind::reduce || c_.uses[v.index].before_sum ||
                      (n.family == Family::rows && !n.kept.contains_all(f_.type(v).axes));
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

std::uint32_t Clusters::find(std::uint32_t node) const {
  while (nodes[node].moved_to != UINT32_MAX) node = nodes[node].moved_to;
  return node;
}

bool is_address(Opcode code) {
  const Kind kind = facts(code).kind;
  return (kind == Kind::view && code != Opcode::expand_) ||
         (kind == Kind::read && code != Opcode::concat_ && code != Opcode::scatter_ &&
          code != Opcode::update_);
}

bool reads_memory(const Function& f, const Clusters& c, const Op& op, std::size_t operand) {
  if (op.code == Opcode::contract_) return true;
  const OpId def = f.value(op.operands[operand]).def;
  if (op.code == Opcode::gather_ && operand == 1)
    return def.valid() && facts(f.op(def).code).kind == Kind::reduce;
  if (operand != 0 || !is_address(op.code)) return false;
  // Behind another read it becomes part of its addressing; an index of a gather must have the
  // kernel's axes.
  return !def.valid() || c.fate[def.index] != Fate::clone || !is_address(f.op(def).code) ||
         f.op(def).code == Opcode::gather_;
}

bool is_absorbed_cast(const Function& f, const Clusters& c, ValueId operand) {
  OpId def = f.value(operand).def;
  if (!def.valid() || f.op(def).code != Opcode::cast_) return false;
  ValueId x = f.op(def).operands[0];
  if (bytes(f.type(x).dtype) < bytes(f.type(operand).dtype)) return true;
  if (c.products[operand.index] > 1 && f.elements(f.type(operand)) < most_copied) return false;
  for (def = f.value(x).def; def.valid(); def = f.value(x).def) {
    if (c.fate[def.index] != Fate::view) return false;
    x = f.op(def).operands[0];
  }
  return true;
}

Clusters cluster(const Function& f) { return Sweep(f).run(); }

}  // namespace gradc::grouping
