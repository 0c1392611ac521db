// What is alive in one function, what it captures, and what its scans read from outside them.
#include "frontend/emit_function.h"

#include <algorithm>

namespace gradc {

void FunctionEmitter::need(NodeId n) {
  differs_ = differs_ || all_.differs(n);
  if (all_.known(n, training_) >= 0) return;
  n = all_.thin(n, training_);
  const Node& node = graph_.node(n);
  if (home_ != anywhere && node.home != home_) {
    if (!is_constant(node) && is_captured_.try_emplace(n.index, 1).second) captured_.push_back(n);
    return;
  }
  std::uint32_t& stamp = all_.stamps()[n.index];
  if (stamp == stamp_) return;
  stamp = stamp_;
  work_.push_back(n);
}

std::vector<NodeId> FunctionEmitter::used(const Node& n) const {
  if (n.kind != Node::operation || !is_elementwise(n.code)) return n.operands;
  std::vector<NodeId> thin;
  std::size_t found = 0;
  for (AxisId a : n.type.axes)
    found += std::any_of(n.operands.begin(), n.operands.end(), [&](NodeId o) {
      return all_.known(o, training_) < 0 &&
             graph_.node(all_.thin(o, training_)).type.axes.contains(a);
    });
  if (found != static_cast<std::size_t>(n.type.axes.size())) return n.operands;
  for (NodeId o : n.operands) thin.push_back(all_.thin(o, training_));
  return thin;
}

void FunctionEmitter::visit(NodeId id) {
  const Node& n = graph_.node(id);
  live_.push_back(id);
  switch (n.kind) {
    case Node::operation:
      for (NodeId o : n.operands) need(o);
      random_ = random_ || n.code == Opcode::uniform_;
      return;
    case Node::turned: return need(NodeId{graph_.repeats[n.owner].end});
    case Node::repeat: {
      for (NodeId o : n.operands) need(o);
      const TurnFunction& t = all_.turn(n.owner, training_);
      for (NodeId c : t.captured) need(c);
      random_ = random_ || t.random;
      differs_ = differs_ || t.differs;
      return;
    }
    case Node::state:
      need(graph_.scans[n.owner].states[n.item].next);
      return need(NodeId{graph_.scans[n.owner].end});
    case Node::collected:
      need(graph_.scans[n.owner].collected[n.item]);
      return need(NodeId{graph_.scans[n.owner].end});
    case Node::scan:
    case Node::training:
    case Node::input:
    case Node::param:
    case Node::carried: return;
  }
}

void FunctionEmitter::mark(std::span<const NodeId> roots) {
  for (NodeId r : roots) need(r);
  while (!work_.empty()) {
    const NodeId n = work_.back();
    work_.pop_back();
    visit(n);
  }
  std::sort(live_.begin(), live_.end());
  std::sort(captured_.begin(), captured_.end());
  externals();
}

void FunctionEmitter::externals() {
  std::map<std::uint32_t, std::unordered_map<std::uint32_t, char>> seen;
  const auto reads = [&](std::uint32_t level, NodeId o) {
    if (all_.known(o, training_) >= 0) return;
    o = all_.thin(o, training_);
    const Node& from = graph_.node(o);
    if (is_constant(from)) return;
    for (; level != no_index && !graph_.within(from.level, level);
         level = graph_.scans[level].outer)
      if (seen[level].try_emplace(o.index, 1).second) outside_[level].push_back(o);
  };
  for (NodeId id : live_) {
    const Node& n = graph_.node(id);
    if (n.level != no_index) by_scan_[n.level].push_back(id);
    for (NodeId o : n.operands) reads(n.level, o);
    if (n.kind == Node::state) reads(n.owner, graph_.scans[n.owner].states[n.item].next);
    if (n.kind == Node::collected) reads(n.owner, graph_.scans[n.owner].collected[n.item]);
  }
}

}  // namespace gradc
