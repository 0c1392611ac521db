// The way forward: writes the planned function with its copies, then packs the arena of activations
// and gives every value its address.
#include <fmt/format.h>

#include "ir/structure.h"
#include "passes/plan_layout.h"

namespace gradc::planning {

void Layout::define(ValueId made, const Spot& s) {
  if (placed_.size() <= made.index) placed_.resize(made.index + 1);
  placed_[made.index] = s;
}

void Layout::write() {
  copy_.arguments();
  for (ValueId v : f_.body().arguments) define(copy_(v), spots_[v.index]);
  for (OpId id : f_.body().ops) {
    if (!alive_[id.index]) continue;
    const Op& op = f_.op(id);
    to_.at = op.loc;
    if (is_static_view(op)) {
      view(id);
      continue;
    }
    if (is_join(op))
      join_with_copies(id);
    else
      copy_.clone(id);
    for (ValueId v : op.results) define(copy_(v), spots_[v.index]);
  }
  finish();
}

void Layout::join_with_copies(OpId id) {
  const Op& op = f_.op(id);
  std::vector<ValueId> operands;
  for (ValueId v : op.operands) operands.push_back(copy_(v));
  const std::vector<Part>& parts = parts_[id.index];
  for (std::size_t i = 0; i < parts.size(); ++i)
    if (!parts[i].there) operands[i] = copied(operands[i], parts[i].place);
  const ValueId made = to_.add(op.code, operands, copy_(op.attr), copy_(f_.type(op.results[0])));
  copy_.map(op.results[0], made);
  to_.name(made, text(f_.value(op.results[0]).name));
}

void Layout::view(OpId id) {
  const Op& op = f_.op(id);
  const ValueId source = op.operands[0];
  Spot y;
  // Places of views follow from those of their operands, which may be copies.
  Spot x = placed_[copy_(source).index];
  if (!view_spot(f_, op, x, y)) {
    const ValueId original = copy_(source);
    const Type type = f_.type(source);
    Type order{type.dtype, {}};  // the inner axis of the merge right behind the outer one
    for (AxisId a : type.axes) {
      if (a == op.attr.axes[1]) continue;
      order.axes.push_back(a);
      if (a == op.attr.axes[0]) order.axes.push_back(op.attr.axes[1]);
    }
    x = dense(f_, order, new_buffer(Arena::activations, bytes_of(source)), 0);
    const ValueId made = copied(original, copy_(order), x);
    copy_.map(source, made);
    copy_.clone(id);
    copy_.map(source, original);
    Spot in_order = x;  // as view_spot wants it: in the order of the source's type
    for (int i = 0; i < type.axes.size(); ++i)
      in_order.strides[static_cast<std::size_t>(i)] =
          x.strides[static_cast<std::size_t>(order.axes.index_of(type.axes[i]))];
    view_spot(f_, op, in_order, y);
  } else {
    copy_.clone(id);
  }
  define(copy_(op.results[0]), y);
}

ValueId Layout::copied(ValueId v, const Type& type, const Spot& place) {
  const FunctionId kernel = copy_kernel(to_.type(v), type);
  const std::vector<Type> types{type};
  const std::vector<ValueId> operands{v};
  const ValueId made = to_.add_multi(Opcode::launch_, operands, {.callee = kernel}, types)[0];
  define(made, place);
  return made;
}

FunctionId Layout::copy_kernel(const Type& from, const Type& to) {
  Function k;
  k.family = Family::map;
  {
    Builder b(program_, k);
    const auto own = [&](const Type& t) {
      Type out{t.dtype, {}};
      for (AxisId a : t.axes)
        out.axes.push_back(b.axis(text(to_.function().axis(a).name), to_.function().extent(a)));
      return out;
    };
    const ValueId x = b.argument(own(from), "x");
    const ValueId y = b.add(Opcode::stop_, {x}, {}, own(to));  // the identity
    const std::vector<ValueId> results{y};
    b.finish(results);
  }
  const auto [it, fresh] = copies_.try_emplace(structure_key(program_, k));
  if (fresh) {
    k.name = program_.intern(program_.unique_function_name("copy"));
    it->second = FunctionId{static_cast<std::uint32_t>(program_.functions.size())};
    program_.functions.push_back(std::move(k));
  }
  return it->second;
}

void Layout::finish() {
  std::vector<ValueId> results;
  for (ValueId v : f_.body().results) results.push_back(copy_(v));
  to_.at = {};
  std::sort(late_.begin(), late_.end(), [&](const Late& a, const Late& b) {
    return std::pair(buffers_[a.target.buffer].arguments, a.result) <
           std::pair(buffers_[b.target.buffer].arguments, b.result);
  });
  for (const Late& l : late_) {
    const ValueId v = f_.body().results[l.result];
    if (buffers_[l.target.buffer].arguments && lies_in_arguments(v))
      results[l.result] = copied(
          results[l.result], dense(f_, f_.type(v), new_buffer(Arena::activations, bytes_of(v)), 0));
  }
  for (const Late& l : late_) results[l.result] = copied(results[l.result], l.target);
  to_.finish(results, f_.result_names);
}

// When what of the gradients' arena is in use. Empty where callers hand the gradients in.
std::vector<Taken> Layout::gradients_taken() {
  const std::uint32_t b = of_arena_[static_cast<std::size_t>(Arena::gradients)];
  if (b == Spot::none || buffers_[b].arguments) return {};
  const Function& out = to_.function();
  const std::int64_t n = static_cast<std::int64_t>(out.body().ops.size());
  std::vector<std::int64_t> first(out.values.size(), -1), last(out.values.size(), -1);
  for (std::int64_t t = 0; t < n; ++t) {
    const Op& op = out.op(out.body().ops[static_cast<std::size_t>(t)]);
    for (ValueId v : op.operands) last[v.index] = t;
    for (ValueId v : op.results) first[v.index] = last[v.index] = t;
  }
  for (ValueId v : out.body().results) last[v.index] = n;
  std::vector<Taken> taken;
  for (std::uint32_t v = 0; v < out.values.size(); ++v) {
    const Spot& s = placed_[v];
    const Type& type = out.values[v].type;
    if (s.buffer != b || out.elements(type) == 0) continue;
    std::int64_t far = 0;
    for (int i = 0; i < type.axes.size(); ++i)
      far += s.strides[static_cast<std::size_t>(i)] * (out.extent(type.axes[i]) - 1);
    taken.push_back({s.offset, s.offset + (far + 1) * bytes(type.dtype), first[v], last[v]});
  }
  return taken;
}

void Layout::assign_addresses() {
  Function& out = to_.function();
  placed_.resize(out.values.size());
  std::vector<Interval> life(buffers_.size(), {0, INT64_MAX, -1});
  const auto touch = [&](ValueId v, std::int64_t t) {
    if (!placed_[v.index].valid()) return;
    Interval& i = life[placed_[v.index].buffer];
    i.first = std::min(i.first, t);
    i.last = std::max(i.last, t);
  };
  const std::int64_t n = static_cast<std::int64_t>(out.body().ops.size());
  for (std::int64_t t = 0; t < n; ++t) {
    const Op& op = out.op(out.body().ops[static_cast<std::size_t>(t)]);
    for (ValueId v : op.operands) touch(v, t);
    for (ValueId v : op.results) touch(v, t);
  }
  for (ValueId v : out.body().results) touch(v, n);
  std::vector<Interval> intervals;
  std::vector<std::size_t> which;
  for (std::size_t b = 0; b < buffers_.size(); ++b) {
    if (buffers_[b].arena != Arena::activations || life[b].last < 0) continue;
    life[b].bytes = buffers_[b].bytes;
    intervals.push_back(life[b]);
    which.push_back(b);
  }
  const std::vector<std::int64_t> lent = lend(intervals, gradients_taken());
  std::vector<Interval> own;
  for (std::size_t i = 0; i < which.size(); ++i)
    if (lent[i] < 0) own.push_back(intervals[i]);
  const Packing packing = pack(own);
  for (std::size_t i = 0, n = 0; i < which.size(); ++i) {
    Buffer& b = buffers_[which[i]];
    b.base = lent[i] < 0 ? packing.offsets[n++] : lent[i];
    if (lent[i] >= 0) b.arena = Arena::gradients;
  }
  out.placed.assign(out.values.size(), {});
  for (std::size_t v = 0; v < out.values.size(); ++v)
    if (const Spot& s = placed_[v]; s.valid())
      out.placed[v] = {buffers_[s.buffer].arena, buffers_[s.buffer].base + s.offset, s.strides};
}

}  // namespace gradc::planning
