// Liveness, arguments and operations of one function.
#include "frontend/emit_function.h"

#include <algorithm>
#include <bit>

#include "ir/diagnostic.h"

namespace gradc {
namespace {

constexpr std::uint32_t anywhere = no_index;

bool is_constant(const Node& n) { return n.kind == Node::operation && n.code == Opcode::constant_; }

}  // namespace

FunctionEmitter::FunctionEmitter(IrWriter& all, std::uint32_t home, bool training, std::string_view name)
    : all_(all), graph_(all.graph()), home_(home), training_(training), stamp_(all.next_stamp()), builder_(all.program(), function_) {
  function_.name = all.program().intern(name);
  bodies_.emplace_back();
}

// ---- liveness

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
  for (AxisId a : n.type.axes) found += std::any_of(n.operands.begin(), n.operands.end(), [&](NodeId o) {
    return all_.known(o, training_) < 0 && graph_.node(all_.thin(o, training_)).type.axes.contains(a);
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
    for (; level != no_index && !graph_.within(from.level, level); level = graph_.scans[level].outer)
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

// ---- arguments

void FunctionEmitter::define(NodeId n, ValueId v) { bodies_.back().values[n.index] = v; }

void FunctionEmitter::name(ValueId v, NameId n) {
  if (n.valid()) builder_.name(v, all_.program().text(n));
}

// The group's members take the axes that their names mean here (ir/text_names.h); what the graph would
// call otherwise is relabelled where it is used.
void FunctionEmitter::group(std::uint32_t bundle, BundleId id, std::string_view text, ValueId& first) {
  const Group g = builder_.arguments(id, text);
  first = g.first;
  std::vector<const Type*> types;
  all_.leaf_types(bundle, types);
  for (std::uint32_t i = 0; i < g.count; ++i) {
    const AxisList actual = builder_.type(ValueId{g.first.index + i}).axes;
    for (int k = 0; k < actual.size(); ++k) {
      const AxisId s = types[i]->axes[k];
      if (axes_.contains(s.index) || storage_of_.contains(actual[k].index)) continue;
      axes_[s.index] = actual[k];
      storage_of_[actual[k].index] = s;
    }
  }
}

void FunctionEmitter::entry_arguments(std::span<const EntryInput> inputs) {
  if (const BundleId p = all_.trained(0); p.valid()) group(graph_.repeats[0].trained, p, "p", trained_);
  if (const BundleId f = all_.fixed(0); f.valid()) group(graph_.repeats[0].fixed, f, "f", fixed_);
  for (const EntryInput& in : inputs) define(in.node, builder_.argument(type(graph_.node(in.node).type), in.name));
  step_ = builder_.argument(Type{DType::i64, {}}, "step");
  seed_ = builder_.argument(Type{DType::i64, {}}, "seed");
}

TurnFunction FunctionEmitter::turn_arguments() {
  const RepeatInfo& r = graph_.repeats[home_];
  TurnFunction t;
  t.captured = captured_;
  t.random = random_;
  std::vector<NodeId> values = r.carried;
  values.insert(values.end(), captured_.begin(), captured_.end());
  for (NodeId n : values) {
    const ValueId v = builder_.argument(type(graph_.node(n).type));
    name(v, graph_.node(n).name);
    define(n, v);
  }
  if (const BundleId p = all_.trained(home_); p.valid()) {
    group(r.trained, p, "p", trained_);
    t.trained = true;
  }
  if (const BundleId f = all_.fixed(home_); f.valid()) {
    group(r.fixed, f, "f", fixed_);
    t.fixed = true;
  }
  if (random_) {
    site_ = builder_.argument(Type{DType::i64, {}}, "site");
    step_ = builder_.argument(Type{DType::i64, {}}, "step");
    seed_ = builder_.argument(Type{DType::i64, {}}, "seed");
  }
  for (ValueId v : function_.regions[0].arguments) {
    std::vector<AxisId> axes;
    for (AxisId a : builder_.type(v).axes) axes.push_back(storage_of_.contains(a.index) ? storage_of_[a.index] : AxisId{});
    t.arguments.push_back(std::move(axes));
  }
  return t;
}

// ---- types and values

AxisId FunctionEmitter::axis(AxisId storage) {
  if (!storage.valid()) return storage;
  auto [it, fresh] = axes_.try_emplace(storage.index);
  if (fresh) {
    const StorageAxis& a = graph_.axes[storage.index];
    it->second = builder_.fresh_axis(a.name, a.extent);
    storage_of_[it->second.index] = storage;
  }
  return it->second;
}

Type FunctionEmitter::type(const Type& storage) {
  Type out{storage.dtype, {}};
  const std::vector<AxisId>& dropped = bodies_.back().dropped;
  for (AxisId s : storage.axes)
    if (std::find(dropped.begin(), dropped.end(), s) == dropped.end()) out.axes.push_back(axis(s));
  return out;
}

Attr FunctionEmitter::attributes(const Attr& a) {
  Attr out = a;
  out.from = axis(a.from);
  out.to = axis(a.to);
  for (AxisId& x : out.axes) x = axis(x);
  return out;
}

ValueId FunctionEmitter::exactly(ValueId v, const Type& storage) { return builder_.expand(v, type(storage).axes); }

// One for each value that is met, in the body or region.
ValueId FunctionEmitter::constant(const Node& n) {
  const auto key = std::pair(n.type.dtype, is_real(n.type.dtype) ? std::bit_cast<std::uint64_t>(n.attr.real) : static_cast<std::uint64_t>(n.attr.integer));
  const auto [it, fresh] = bodies_.back().constants.try_emplace(key);
  if (fresh) it->second = builder_.add(Opcode::constant_, {}, n.attr, Type{n.type.dtype, {}});
  return it->second;
}

ValueId FunctionEmitter::base(NodeId n) {
  std::unordered_map<std::uint32_t, ValueId>& values = bodies_.back().values;
  if (const auto it = values.find(n.index); it != values.end()) return it->second;
  const Node& node = graph_.node(n);
  if (!is_constant(node)) internal_error("a value is used before it is there");
  return values[n.index] = constant(node);
}

ValueId FunctionEmitter::value(NodeId n) {
  std::unordered_map<std::uint32_t, ValueId>& values = bodies_.back().values;
  if (const auto it = values.find(n.index); it != values.end()) return it->second;
  const signed char known = all_.known(n, training_);
  const ValueId thin = known >= 0 ? builder_.integer(known, DType::boolean) : base(all_.thin(n, training_));
  const Type want = type(graph_.node(n).type);
  const ValueId v = same_set(builder_.type(thin).axes, want.axes) ? thin : builder_.expand(thin, want.axes);
  return values[n.index] = v;
}

// The value with the axes of a callee's argument: relabelled where a name meant another axis.
ValueId FunctionEmitter::fitted(ValueId v, const std::vector<AxisId>& storage) {
  AxisList want;
  const AxisList have = builder_.type(v).axes;
  for (std::size_t i = 0; i < storage.size(); ++i) want.push_back(storage[i].valid() ? axis(storage[i]) : have[static_cast<int>(i)]);
  for (int i = 0; i < want.size(); ++i) {
    const AxisList now = builder_.type(v).axes;
    if (now[i] == want[i]) continue;
    // Another axis may stand where this one goes; it steps aside.
    if (const int other = now.index_of(want[i]); other >= 0) {
      const AxisId aside = builder_.fresh_axis(all_.program().text(function_.axis(want[i]).name), function_.extent(want[i]));
      v = builder_.add(Opcode::relabel_, {v}, {.from = want[i], .to = aside});
    }
    v = builder_.add(Opcode::relabel_, {v}, {.from = builder_.type(v).axes[i], .to = want[i]});
  }
  return v;
}

// ---- operations

void FunctionEmitter::operations() {
  for (NodeId n : live_) {
    const Node& node = graph_.node(n);
    if (node.kind == Node::param) {
      const ParamRef& p = graph_.params[node.item];
      const ValueId first = p.fixed ? fixed_ : trained_;
      const ValueId v{first.index + static_cast<std::uint32_t>(all_.leaf(p))};
      builder_.at = all_.location(node.at);
      define(n, fitted(v, {node.type.axes.begin(), node.type.axes.end()}));
    } else if (node.level == no_index) {
      operation(n);
    }
  }
}

void FunctionEmitter::operation(NodeId id) {
  const Node& n = graph_.node(id);
  builder_.at = all_.location(n.at);
  switch (n.kind) {
    case Node::repeat: return calls(id);
    case Node::scan: return scan(id);
    case Node::operation: break;
    default: return;
  }
  if (is_constant(n)) return;
  if (n.code == Opcode::uniform_) return draw(id);
  std::vector<ValueId> operands;
  const std::vector<NodeId> from = used(n);
  for (std::size_t i = 0; i < from.size(); ++i) {
    const bool thin = is_elementwise(n.code) && from[i] == all_.thin(n.operands[i], training_);
    operands.push_back(thin && all_.known(n.operands[i], training_) < 0 ? base(from[i]) : value(n.operands[i]));
  }
  const ValueId v = builder_.add(n.code, operands, attributes(n.attr), type(n.type));
  name(v, n.name);
  define(id, v);
}

ValueId FunctionEmitter::site(std::int64_t offset) {
  if (!site_.valid()) return builder_.integer(offset, DType::i64);
  return offset == 0 ? site_ : builder_.binary(Opcode::add_, site_, builder_.integer(offset, DType::i64));
}

void FunctionEmitter::draw(NodeId id) {
  const Node& n = graph_.node(id);
  const ValueId v = builder_.add(Opcode::uniform_, {seed_, step_, site(n.attr.integer)}, {}, type(n.type));
  name(v, n.name);
  define(id, v);
}

void FunctionEmitter::calls(NodeId id) {
  const Node& n = graph_.node(id);
  const RepeatInfo& r = graph_.repeats[n.owner];
  const TurnFunction& t = all_.turn(n.owner, training_);
  std::vector<ValueId> carried;
  for (std::size_t i = 0; i < n.operands.size(); ++i) carried.push_back(exactly(value(n.operands[i]), graph_.node(r.carried[i]).type));
  std::vector<Type> types;
  for (NodeId c : r.carried) types.push_back(type(graph_.node(c).type));
  std::vector<ValueId> captured;
  for (NodeId c : t.captured) captured.push_back(exactly(value(c), graph_.node(c).type));
  for (std::int64_t k = 0; k < r.turns; ++k) {
    std::vector<ValueId> operands = carried;
    operands.insert(operands.end(), captured.begin(), captured.end());
    const auto members = [&](ValueId first, std::uint32_t parent, std::uint32_t member, std::uint32_t bundle) {
      const std::int64_t count = all_.leaf_count(bundle), begin = all_.first_leaf(parent, member) + k * count;
      for (std::int64_t i = 0; i < count; ++i)
        operands.push_back(fitted(ValueId{first.index + static_cast<std::uint32_t>(begin + i)}, t.arguments[operands.size()]));
    };
    if (t.trained) members(trained_, graph_.repeats[home_].trained, r.trained_member, r.trained);
    if (t.fixed) members(fixed_, graph_.repeats[home_].fixed, r.fixed_member, r.fixed);
    if (t.random) {
      operands.push_back(site(r.site + k * r.sites));
      operands.push_back(step_);
      operands.push_back(seed_);
    }
    carried = builder_.add_multi(Opcode::call_, operands, {.callee = t.function}, types);
    for (std::size_t i = 0; i < carried.size(); ++i) name(carried[i], graph_.node(r.carried[i]).name);
  }
  // What the last turn leaves stands right behind.
  for (std::uint32_t i = 0; i < carried.size(); ++i) define(NodeId{r.end + 1 + i}, carried[i]);
}

void FunctionEmitter::scan(NodeId id) {
  const std::uint32_t index = graph_.node(id).owner;
  const ScanInfo& s = graph_.scans[index];
  std::vector<std::uint32_t> states;
  for (std::uint32_t i = 0; i < s.states.size(); ++i)
    if (all_.stamps()[s.states[i].previous.index] == stamp_) states.push_back(i);
  std::vector<NodeId> results;
  for (std::uint32_t i = 0; i < s.collected.size(); ++i)   // they stand right behind
    if (all_.stamps()[s.end + 1 + i] == stamp_) results.push_back(NodeId{s.end + 1 + i});
  const std::vector<NodeId>& outside = outside_[index];
  std::vector<NodeId> sliced, invariant;
  for (NodeId n : outside) (graph_.node(n).type.axes.contains(s.axis) ? sliced : invariant).push_back(n);

  Attr attr{.from = axis(s.axis), .carried = static_cast<std::uint32_t>(states.size()), .sliced = static_cast<std::uint32_t>(sliced.size()), .reverse = s.reverse};
  std::vector<ValueId> operands;
  std::vector<Type> types;
  std::vector<AxisId> dropped = bodies_.back().dropped;
  dropped.push_back(s.axis);
  const std::vector<AxisId> kept = std::exchange(bodies_.back().dropped, dropped);
  for (std::uint32_t i : states) {
    const Type t = type(graph_.node(s.states[i].previous).type);
    operands.push_back(builder_.expand(constant(Node{.type = {t.dtype, {}}}), t.axes));   // 0
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
    const NodeId n = i - states.size() < sliced.size() ? sliced[i - states.size()] : invariant[i - states.size() - sliced.size()];
    Type t = builder_.type(operands[i]);
    if (i - states.size() < sliced.size()) t.axes = t.axes.without(attr.from);
    const ValueId v = builder_.argument(t);
    name(v, graph_.node(n).name);
    define(n, v);
  }
  for (NodeId n : by_scan_[index]) operation(n);
  std::vector<ValueId> yielded;
  for (std::uint32_t i : states) yielded.push_back(exactly(value(s.states[i].next), graph_.node(s.states[i].previous).type));
  for (NodeId n : results) yielded.push_back(value(s.collected[graph_.node(n).item]));
  builder_.close(yielded);
  bodies_.pop_back();
  builder_.at = all_.location(graph_.node(id).at);
  const RegionId regions[] = {region};
  const std::vector<ValueId> made = builder_.add_multi(Opcode::scan_, operands, attr, types, regions);
  for (std::size_t i = 0; i < results.size(); ++i) {
    name(made[states.size() + i], graph_.node(results[i]).name);
    define(results[i], made[states.size() + i]);
  }
}

FunctionId FunctionEmitter::finish(std::span<const NodeId> results, std::span<const std::string> names, std::span<const NodeId> like) {
  std::vector<ValueId> values;
  for (std::size_t i = 0; i < results.size(); ++i)
    values.push_back(exactly(value(results[i]), graph_.node(like.empty() ? results[i] : like[i]).type));
  std::vector<NameId> ids;
  for (const std::string& n : names) ids.push_back(all_.program().intern(n));
  builder_.finish(values, ids);
  Program& p = all_.program();
  p.functions.push_back(std::move(function_));
  return FunctionId{static_cast<std::uint32_t>(p.functions.size() - 1)};
}

}  // namespace gradc
