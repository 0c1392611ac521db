// A scan as an operation with a region: states, slices, invariants; its axis is taken away within.
#include "frontend/emit_function.h"

#include <utility>

namespace gradc {

void FunctionEmitter::scan(NodeId id) {
  const std::uint32_t index = graph_.node(id).owner;
  const ScanInfo& s = graph_.scans[index];
  std::vector<std::uint32_t> states;
  for (std::uint32_t i = 0; i < s.states.size(); ++i)
    if (all_.stamps()[s.states[i].previous.index] == stamp_) states.push_back(i);
  std::vector<NodeId> results;
  for (std::uint32_t i = 0; i < s.collected.size(); ++i)  // they stand right behind
    if (all_.stamps()[s.end + 1 + i] == stamp_) results.push_back(NodeId{s.end + 1 + i});
  const std::vector<NodeId>& outside = outside_[index];
  std::vector<NodeId> sliced, invariant;
  for (NodeId n : outside)
    (graph_.node(n).type.axes.contains(s.axis) ? sliced : invariant).push_back(n);

  Attr attr{.from = axis(s.axis),
            .carried = static_cast<std::uint32_t>(states.size()),
            .sliced = static_cast<std::uint32_t>(sliced.size()),
            .reverse = s.reverse};
  std::vector<ValueId> operands;
  std::vector<Type> types;
  std::vector<AxisId> dropped = bodies_.back().dropped;
  dropped.push_back(s.axis);
  const std::vector<AxisId> kept = std::exchange(bodies_.back().dropped, dropped);
  for (std::uint32_t i : states) {
    const Type t = type(graph_.node(s.states[i].previous).type);
    operands.push_back(builder_.expand(constant(Node{.type = {t.dtype, {}}}), t.axes));  // 0
    types.push_back(t);
  }
  bodies_.back().dropped = kept;
  for (NodeId n : sliced) operands.push_back(base(n));
  for (NodeId n : invariant) operands.push_back(base(n));
  for (NodeId n : results) types.push_back(type(graph_.node(n).type));

  const RegionId region = builder_.open();
  bodies_.push_back({{}, {}, dropped});
  for (std::size_t i = 0; i < states.size(); ++i) {
    const ScanState& state = s.states[states[i]];
    const ValueId v = builder_.argument(types[i]);
    name(v, state.name);
    define(state.previous, v);
  }
  for (std::size_t i = states.size(); i < operands.size(); ++i) {
    const NodeId n = i - states.size() < sliced.size()
                         ? sliced[i - states.size()]
                         : invariant[i - states.size() - sliced.size()];
    Type t = builder_.type(operands[i]);
    if (i - states.size() < sliced.size()) t.axes = t.axes.without(attr.from);
    const ValueId v = builder_.argument(t);
    name(v, graph_.node(n).name);
    define(n, v);
  }
  for (NodeId n : by_scan_[index]) operation(n);
  std::vector<ValueId> yielded;
  for (std::uint32_t i : states)
    yielded.push_back(exactly(value(s.states[i].next), graph_.node(s.states[i].previous).type));
  for (NodeId n : results) yielded.push_back(value(s.collected[graph_.node(n).item]));
  builder_.close(yielded);
  bodies_.pop_back();
  builder_.at = all_.location(graph_.node(id).at);
  const RegionId regions[] = {region};
  const std::vector<ValueId> made =
      builder_.add_multi(Opcode::scan_, operands, attr, types, regions);
  for (std::size_t i = 0; i < results.size(); ++i) {
    name(made[states.size() + i], graph_.node(results[i]).name);
    define(results[i], made[states.size() + i]);
  }
}

}  // namespace gradc
