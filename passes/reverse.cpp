// The walk: values of the forward direction found or computed again, cotangents collected and
// combined.
#include "passes/reverse.h"

#include <algorithm>
#include <bit>
#include <tuple>

#include "ir/diagnostic.h"

namespace gradc {

const Derived& Gradient::of(FunctionId f, const Op& op) const {
  return op.code == Opcode::call_ ? derived.at({op.attr.callee, RegionId{0}})
                                  : derived.at({f, op.regions[0]});
}

Reverse::Reverse(Gradient& gradient, FunctionId from, RegionId region, Builder& to, Values values)
    : gradient_(gradient),
      activity_(gradient.activity),
      from_id_(from),
      from_(gradient.program.function(from)),
      region_(from_.regions[region.index]),
      to_(to),
      values_(values),
      map_(from_, to),
      slots_(from_.values.size()) {
  for (std::uint32_t i = 0; i < region_.arguments.size(); ++i)
    argument_.emplace(region_.arguments[i].index, i);
}

void Reverse::map_all_axes() {
  for (std::uint32_t i = 0; i < from_.axes.size(); ++i) map_(AxisId{i});
}

// ---- values of the forward direction

ValueId Reverse::primal(ValueId v) {
  if (map_.mapped(v)) return map_(v);
  const Type type = map_(from_.type(v));
  const std::string name(to_.program().text(from_.value(v).name));  // names move as they are made
  if (values_ == Values::asked) {
    asked_.push_back(v);
    map_.map(v, to_.argument(type, name));
  } else if (values_ == Values::taken && is_taken(v)) {
    if (const auto argument = argument_.find(v.index); argument != argument_.end()) {
      map_.map(v, take({Taken::argument, argument->second}, type, name));
    } else if (keepable_[v.index] != 0) {
      map_.map(v, take({Taken::kept, v.index}, type, name));
    } else {  // the weight of an attention
      const ValueId x = primal(softmax_->x);
      const ValueId lse = lse_.valid()
                              ? primal(lse_)
                              : take({Taken::lse}, map_(from_.type(softmax_->max)), "lse");
      const ValueId below = to_.add(Opcode::sub_, {x, lse}, {}, type);
      map_.map(v, to_.unary(Opcode::exp_, below));
      to_.name(map_(v), name.empty() ? std::string("weight") : name);
    }
  } else {
    recompute(from_.value(v).def);
  }
  return map_(v);
}

// An explicit stack: chains are as long as the program.
void Reverse::recompute(OpId id) {
  struct Frame {
    OpId op;
    std::size_t next = 0;
  };
  const LocId at = to_.at;
  std::vector<Frame> stack{{id}};
  while (!stack.empty()) {
    Frame& top = stack.back();
    if (!top.op.valid())
      internal_error("a gradient reads a value that was neither saved nor given");
    const Op& op = from_.op(top.op);
    while (top.next < op.operands.size()) {
      const ValueId v = op.operands[top.next];
      if (values_ == Values::taken && is_taken(v)) primal(v);
      if (!map_.mapped(v)) break;
      ++top.next;
    }
    if (top.next < op.operands.size()) {
      stack.push_back({from_.value(op.operands[top.next]).def});  // invalidates top
      continue;
    }
    if (values_ == Values::given && op.code == Opcode::fused_ && extras_.contains(top.op.index))
      copy_from_kept(top.op);
    else
      copy_forward(top.op);
    stack.pop_back();
  }
  to_.at = at;
}

void Reverse::copy_forward(OpId id) {
  const Op& op = from_.op(id);
  if (!has_extras(id)) return map_.clone(id);
  to_.at = op.loc;
  switch (op.code) {
    case Opcode::call_: return copy_call(id);
    case Opcode::scan_: return copy_scan(id);
    default: return copy_fused(id);
  }
}

// ---- cotangents

bool Reverse::flows(const Op& op, std::size_t k) const {
  return activity_.varied(from_id_, op.operands[k]) && passes_gradient(from_, op, k);
}

ValueId Reverse::constant(double x, DType dtype) {
  ValueId& made = constants_[{std::bit_cast<std::uint64_t>(x), dtype}];
  if (!made.valid()) made = to_.constant(x, dtype);
  return made;
}

ValueId Reverse::zeros(const Type& type) { return to_.expand(constant(0, type.dtype), type.axes); }

ValueId Reverse::solid(const Cotangent& c) {
  if (c.guard.empty()) return c.value;
  const Type type = to_.type(c.value);
  bool where = true;
  const ValueId condition = conjunction(c.guard, where);
  const ValueId zero = constant(0, type.dtype);
  return where ? to_.add(Opcode::select_, {condition, c.value, zero}, {}, type)
               : to_.add(Opcode::select_, {condition, zero, c.value}, {}, type);
}

// The conditions as one, which keeps where it is `where`.
ValueId Reverse::conjunction(const Guard& guard, bool& where) {
  where = guard[0].where;
  if (guard.size() == 1) return guard[0].value;
  where = std::any_of(guard.begin(), guard.end(), [](const Condition& c) { return c.where; });
  ValueId all;
  for (const Condition& c : guard) {
    const ValueId one = c.where == where ? c.value : to_.unary(Opcode::not_, c.value);
    all = all.valid() ? to_.binary(where ? Opcode::and_ : Opcode::or_, all, one) : one;
  }
  return all;
}

void Reverse::relabel_guard(const Op& op, Guard& guard) {
  const AxisId from = map_(op.attr.from), to = map_(op.attr.to);
  for (Condition& c : guard)
    if (to_.type(c.value).axes.contains(to))
      c.value = to_.add(Opcode::relabel_, {c.value}, {.from = to, .to = from});
}

void Reverse::add_to(Slot& slot, const Cotangent& c) {
  if (!slot.sum.value.valid()) {
    slot.sum = c;
    return;
  }
  const Type type = to_.type(slot.sum.value);
  if (slot.sum.value == c.value && slot.sum.guard == c.guard)
    slot.sum.value = to_.add(Opcode::mul_, {c.value, constant(2, type.dtype)}, {}, type);
  else if (slot.sum.guard == c.guard)
    slot.sum.value = to_.add(Opcode::add_, {slot.sum.value, c.value}, {}, type);
  else
    slot.sum = {to_.add(Opcode::add_, {solid(slot.sum), solid(c)}, {}, type), {}};
}

// Sums over axes that a value of type `want` lacks. Conditions without a summed axis go on.
Reverse::Cotangent Reverse::narrowed(Cotangent c, const Type& want) {
  const Type have = to_.type(c.value);
  AxisList over, rest;
  for (AxisId a : have.axes)
    if (!want.axes.contains(a)) over.push_back(a);
  for (AxisId a : want.axes)
    if (have.axes.contains(a)) rest.push_back(a);
  if (over.empty()) return c;
  const auto summed = [&](const Condition& x) {
    const AxisList& axes = to_.type(x.value).axes;
    return std::any_of(axes.begin(), axes.end(), [&](AxisId a) { return over.contains(a); });
  };
  Guard inner, outer;
  for (const Condition& x : c.guard) (summed(x) ? inner : outer).push_back(x);
  const ValueId kept = solid({c.value, inner});
  return {
      to_.add(Opcode::sum_, {kept}, {.axes = {over.begin(), over.end()}}, Type{have.dtype, rest}),
      outer};
}

// The one place that un-broadcasts: sums over axes that the value lacks, casts, expands to those
// that it has more, orders.
void Reverse::contribute(ValueId v, Cotangent c) {
  const Type want = cotangent_type(v);
  c = narrowed(std::move(c), want);
  c.value = to_.expand(to_.cast(c.value, want.dtype), want.axes);
  add_to(slots_[v.index], c);
}

void Reverse::contribute_at(ValueId v, const Placed& p) {
  std::vector<Placed>& placed = slots_[v.index].placed;
  for (Placed& before : placed)
    if (before.axis == p.axis && before.stretch == p.stretch && before.at == p.at) {
      before.value = to_.add(Opcode::add_, {before.value, p.value}, {}, to_.type(before.value));
      return;
    }
  placed.push_back(p);
}

// Parts that fill the axis without overlap are one `concat`; else each is padded with zeros and
// added.
void Reverse::gather_placed(Slot& slot, const Type& type) {
  std::vector<Placed> parts = std::move(slot.placed);
  slot.placed.clear();
  const AxisId axis = parts[0].axis;
  const bool one_axis =
      std::all_of(parts.begin(), parts.end(), [&](const Placed& p) { return p.axis == axis; });
  std::sort(parts.begin(), parts.end(), [](const Placed& a, const Placed& b) {
    return std::tie(a.at, a.length, a.value) < std::tie(b.at, b.length, b.value);
  });
  std::int64_t end = 0;
  bool fill = one_axis;
  for (const Placed& p : parts) {
    fill = fill && p.at == end;
    end = p.at + p.length;
  }
  if (fill && end == to_.function().extent(axis)) {
    Attr attr{.to = axis};
    std::vector<ValueId> values;
    for (const Placed& p : parts) {
      attr.axes.push_back(p.stretch);
      values.push_back(p.value);
    }
    return add_to(slot, {to_.add(Opcode::concat_, values, attr, type), {}});
  }
  for (const Placed& p : parts) {
    const ValueId whole =
        p.stretch.valid()
            ? to_.add(Opcode::pad_, {p.value}, {.integer = p.at, .from = p.axis, .to = p.stretch},
                      type)
            : to_.add(Opcode::place_, {p.value}, {.integer = p.at, .to = p.axis}, type);
    add_to(slot, {whole, {}});
  }
}

Reverse::Cotangent Reverse::finish(ValueId v) {
  Slot& slot = slots_[v.index];
  if (!slot.placed.empty()) gather_placed(slot, map_(from_.type(v)));
  if (slot.sum.value.valid() && slot.sum.guard.empty()) name_cotangent(slot.sum.value, v);
  return slot.sum;
}

ValueId Reverse::cotangent(ValueId v, bool any) {
  if (slots_[v.index].empty()) {
    const auto it = unasked_.find(v.index);
    return any && it != unasked_.end() ? it->second : ValueId{};
  }
  const Cotangent c = finish(v);
  const ValueId value = solid(c);
  slots_[v.index].sum = {value, {}};
  name_cotangent(value, v);
  return value;
}

ValueId Reverse::incoming(ValueId result) {
  const ValueId c = cotangent(result);
  return c.valid() ? c : zeros(map_(from_.type(result)));
}

const std::string& Reverse::path(ValueId v) {
  if (paths_.empty()) {
    paths_.resize(from_.values.size());
    for (std::uint32_t i = 0; i < from_.values.size(); ++i)
      paths_[i] = to_.program().text(from_.values[i].name);
    for (const Group& g : from_.groups) {
      std::uint32_t next = g.first.index;
      const std::string name(to_.program().text(g.name));
      for (const Leaf& leaf : leaves(to_.program(), g.bundle))
        paths_[next++] = name + "." + leaf.path;
    }
  }
  return paths_[v.index];
}

std::string Reverse::cotangent_name(ValueId v) {
  const std::string& of = path(v);
  if (of.empty()) return "";
  const std::string& group = gradient_.gradients_of;
  if (from_id_ == gradient_.root && !group.empty() && of.starts_with(group + "."))
    return "g" + of.substr(group.size());
  return "d_" + of;
}

void Reverse::name_cotangent(ValueId value, ValueId of) {
  const Value& made = to_.function().value(value);
  if (made.name.valid() || !made.def.valid() || grouped_.contains(value.index)) return;
  if (to_.function().op(made.def).code != Opcode::constant_) to_.name(value, cotangent_name(of));
}

void Reverse::seed(std::size_t slot, ValueId cotangent) {
  const ValueId result = region_.results[slot];
  const OpId def = from_.value(result).def;
  to_.at = gradient_of(def.valid() ? from_.op(def).loc : LocId{});
  contribute(result, {cotangent, {}});
}

void Reverse::walk() {
  for (auto op = region_.ops.rbegin(); op != region_.ops.rend(); ++op)
    if (softmax_ && from_.op(*op).results[0] == softmax_->weight)
      walk_softmax();
    else
      visit(*op);
}

}  // namespace gradc
