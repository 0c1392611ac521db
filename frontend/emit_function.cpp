// Types, values and operations of one function.
#include "frontend/emit_function.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "ir/diagnostic.h"

namespace gradc {

FunctionEmitter::FunctionEmitter(IrWriter& all, std::uint32_t home, bool training,
                                 std::string_view name)
    : all_(all),
      graph_(all.graph()),
      home_(home),
      training_(training),
      stamp_(all.next_stamp()),
      builder_(all.program(), function_) {
  function_.name = all.program().intern(name);
  bodies_.emplace_back();
}

void FunctionEmitter::define(NodeId n, ValueId v) { bodies_.back().values[n.index] = v; }

void FunctionEmitter::name(ValueId v, NameId n) {
  if (n.valid()) builder_.name(v, all_.program().text(n));
}

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

ValueId FunctionEmitter::exactly(ValueId v, const Type& storage) {
  return builder_.expand(v, type(storage).axes);
}

// One for each value that is met, in the body or region.
ValueId FunctionEmitter::constant(const Node& n) {
  const auto key =
      std::pair(n.type.dtype, is_real(n.type.dtype) ? std::bit_cast<std::uint64_t>(n.attr.real)
                                                    : static_cast<std::uint64_t>(n.attr.integer));
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
  const ValueId thin =
      known >= 0 ? builder_.integer(known, DType::boolean) : base(all_.thin(n, training_));
  const Type want = type(graph_.node(n).type);
  const ValueId v =
      same_set(builder_.type(thin).axes, want.axes) ? thin : builder_.expand(thin, want.axes);
  return values[n.index] = v;
}

void FunctionEmitter::operations() {
  for (NodeId n : live_) {
    const Node& node = graph_.node(n);
    if (node.kind == Node::param) {
      const ParamRef& p = graph_.params[node.item];
      const ValueId first = p.fixed ? fixed_ : trained_;
      const ValueId v{first.index + static_cast<std::uint32_t>(all_.leaf(p))};
      builder_.at = all_.location(node.at);
      define(n, fitted(v, type(node.type).axes));
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
    operands.push_back(thin && all_.known(n.operands[i], training_) < 0 ? base(from[i])
                                                                        : value(n.operands[i]));
  }
  const ValueId v = builder_.add(n.code, operands, attributes(n.attr), type(n.type));
  name(v, n.name);
  define(id, v);
}

ValueId FunctionEmitter::site(std::int64_t offset) {
  if (!site_.valid()) return builder_.integer(offset, DType::i64);
  return offset == 0 ? site_
                     : builder_.binary(Opcode::add_, site_, builder_.integer(offset, DType::i64));
}

void FunctionEmitter::draw(NodeId id) {
  const Node& n = graph_.node(id);
  const ValueId v =
      builder_.add(Opcode::uniform_, {seed_, step_, site(n.attr.integer)}, {}, type(n.type));
  name(v, n.name);
  define(id, v);
}

void FunctionEmitter::calls(NodeId id) {
  const Node& n = graph_.node(id);
  const RepeatInfo& r = graph_.repeats[n.owner];
  const TurnFunction& t = all_.turn(n.owner, training_);
  std::vector<ValueId> carried;
  for (std::size_t i = 0; i < n.operands.size(); ++i)
    carried.push_back(exactly(value(n.operands[i]), graph_.node(r.carried[i]).type));
  std::vector<Type> types;
  for (NodeId c : r.carried) types.push_back(type(graph_.node(c).type));
  std::vector<ValueId> captured;
  for (NodeId c : t.captured) captured.push_back(exactly(value(c), graph_.node(c).type));
  const Standing values = standing(t);
  for (std::int64_t k = 0; k < r.turns; ++k) {
    Standing stands = values;
    std::vector<ValueId> operands = carried;
    operands.insert(operands.end(), captured.begin(), captured.end());
    const auto members = [&](ValueId first, std::uint32_t parent, std::uint32_t member,
                             std::uint32_t bundle) {
      const std::int64_t count = all_.leaf_count(bundle),
                         begin = all_.first_leaf(parent, member) + k * count;
      for (std::int64_t i = 0; i < count; ++i)
        operands.push_back(
            member_for(t, operands.size(),
                       ValueId{first.index + static_cast<std::uint32_t>(begin + i)}, stands));
    };
    if (t.trained) members(trained_, graph_.repeats[home_].trained, r.trained_member, r.trained);
    if (t.fixed) members(fixed_, graph_.repeats[home_].fixed, r.fixed_member, r.fixed);
    if (t.random) {
      operands.push_back(site(r.site + k * r.sites));
      operands.push_back(step_);
      operands.push_back(seed_);
    }
    carried = builder_.add_multi(Opcode::call_, operands, {.callee = t.function}, types);
    for (std::size_t i = 0; i < carried.size(); ++i)
      name(carried[i], graph_.node(r.carried[i]).name);
  }
  // What the last turn leaves stands right behind.
  for (std::uint32_t i = 0; i < carried.size(); ++i) define(NodeId{r.end + 1 + i}, carried[i]);
}

FunctionId FunctionEmitter::finish(std::span<const NodeId> results,
                                   std::span<const std::string> names,
                                   std::span<const NodeId> like) {
  std::vector<ValueId> values;
  for (std::size_t i = 0; i < results.size(); ++i)
    values.push_back(
        exactly(value(results[i]), graph_.node(like.empty() ? results[i] : like[i]).type));
  std::vector<NameId> ids;
  for (const std::string& n : names) ids.push_back(all_.program().intern(n));
  builder_.finish(values, ids);
  if (function_.axes.size() > most_axes)
    all_.report().error({}, fmt::format("`{}` has more than {} axes",
                                        all_.program().text(function_.name), most_axes));
  Program& p = all_.program();
  p.functions.push_back(std::move(function_));
  return FunctionId{static_cast<std::uint32_t>(p.functions.size() - 1)};
}

}  // namespace gradc
