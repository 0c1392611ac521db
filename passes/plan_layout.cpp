// The way backward through a function that is laid out: each reader tells where it wants a value.
#include "passes/plan_layout.h"

namespace gradc::planning {

void Layout::run() {
  liveness();
  place_arguments();
  known_places();
  find_reads();
  place_results();
  for (std::size_t t = f_.body().ops.size(); t-- > 0;)
    if (alive_[op_at(t).index]) place(static_cast<std::int64_t>(t));
  write();
  assign_addresses();
}

void Layout::liveness() {
  for (ValueId v : f_.body().results) last_use_[v.index] = at_end;
  position_.assign(f_.ops.size(), -1);
  for (std::size_t t = f_.body().ops.size(); t-- > 0;) {
    const OpId id = op_at(t);
    const Op& op = f_.op(id);
    position_[id.index] = static_cast<std::int64_t>(t);
    std::int64_t use = -1;
    for (ValueId v : op.results) use = std::max(use, last_use_[v.index]);
    if (use < 0) continue;  // nobody wants it
    alive_[id.index] = 1;
    for (ValueId v : op.operands) {
      last_use_[v.index] =
          std::max(last_use_[v.index], passes_on(op) ? use : static_cast<std::int64_t>(t));
      if (is_join(op)) joined_[v.index] = 1;
      if (is_static_view(op)) joined_[v.index] |= joined_[op.results[0].index];
    }
  }
}

bool Layout::agree(const Op& launch, std::size_t i, std::size_t r, const Spot& a,
                   const Spot& b) const {
  return a.buffer == b.buffer &&
         same_place(f_, f_.type(launch.operands[i]), a, turned(launch, i, r, b));
}

Spot Layout::turned(const Op& launch, std::size_t i, std::size_t r, const Spot& of_result) const {
  const Function& k = program_.function(launch.attr.callee);
  const AxisList& from = k.type(k.body().results[r]).axes;
  const AxisList& to = k.type(k.body().arguments[i]).axes;
  Spot s{of_result.buffer, of_result.offset, {}};
  for (int x = 0; x < to.size(); ++x)
    s.strides[static_cast<std::size_t>(x)] =
        of_result.strides[static_cast<std::size_t>(from.index_of(to[x]))];
  return s;
}

bool Layout::bring(ValueId v, Spot place) {
  for (OpId d = f_.value(v).def; d.valid() && is_static_view(f_.op(d)); d = f_.value(v).def) {
    Spot x;
    if (!invert_view(f_, f_.op(d), place, x)) return false;
    place = x;
    v = f_.op(d).operands[0];
  }
  Spot& s = spots_[v.index];
  if (s.valid()) return same_place(f_, f_.type(v), s, place);
  s = place;
  return true;
}

void Layout::place(std::int64_t t) {
  const OpId id = op_at(static_cast<std::size_t>(t));
  const Op& op = f_.op(id);
  if (op.code == Opcode::merge_) {
    // Ask for axes that follow each other; where that fails, write() copies.
    const ValueId v = op.results[0];
    if (const ValueId x = root(v); !spots_[x.index].valid() && f_.value(x).def.valid()) {
      const std::uint32_t b = new_buffer(Arena::activations, bytes_of(v));
      bring(v, dense(f_, f_.type(v), b, 0));
    }
    return;
  }
  if (is_static_view(op)) return;
  if (is_join(op)) return join(id);
  for (ValueId v : op.results)
    if (!spots_[v.index].valid())
      spots_[v.index] = dense(f_, f_.type(v), new_buffer(Arena::activations, bytes_of(v)), 0);
  if (op.code == Opcode::launch_) reuse(op, t);
}

void Layout::join(OpId id) {
  const Op& op = f_.op(id);
  const ValueId v = op.results[0];
  Spot& whole = spots_[v.index];
  if (stays_[id.index]) return;
  if (!whole.valid()) {
    // The gradients of a step are the flat of the parameters' bundle that is not the parameters.
    const bool gradients = op.code == Opcode::flat_ && op.attr.bundle == parameters_ &&
                           of_arena_[static_cast<std::size_t>(Arena::gradients)] == Spot::none;
    whole = dense(
        f_, f_.type(v),
        gradients ? arena_buffer(Arena::gradients) : new_buffer(Arena::activations, bytes_of(v)),
        0);
  }
  std::vector<Part>& parts = parts_[id.index];
  for (const Spot& place : parts_of(program_, f_, op, whole)) {
    const ValueId x = op.operands[parts.size()];
    parts.push_back({place, bring_part(x, place)});
  }
}

bool Layout::bring_part(ValueId x, const Spot& place) {
  const bool here = f_.value(root(x)).def.valid() && !spots_[root(x).index].valid();
  return here && bring(x, place);
}

// What forward saved, made long before, is not to hold a place within a larger buffer (a concat's,
// of gradients) all that time: nothing else of the buffer is there yet.
bool Layout::waits_long(ValueId x, std::int64_t t, const Spot& place) const {
  constexpr std::int64_t long_ago = 32;  // launches, about a turn of a `repeat`
  return buffers_[place.buffer].bytes > bytes_of(x) &&
         t - position_[f_.value(x).def.index] > long_ago;
}

void Layout::reuse(const Op& op, std::int64_t t) {
  const Function& kernel = program_.function(op.attr.callee);
  std::vector<char> taken(op.operands.size(), 0);
  for (std::size_t r = 0; r < op.results.size(); ++r) {
    const Spot& place = spots_[op.results[r].index];
    if (buffers_[place.buffer].arguments) continue;
    for (std::size_t i = 0; i < op.operands.size(); ++i) {
      const ValueId x = root(op.operands[i]);
      const OpId def = f_.value(x).def;
      if (taken[i] || !def.valid() || is_join(f_.op(def)) || joined_[x.index] ||
          spots_[x.index].valid() || last_use_[x.index] != t ||
          bytes_of(x) != bytes_of(op.results[r]) || read_twice(op, x) ||
          !may_overwrite(kernel, i, r) || waits_long(x, t, place))
        continue;
      if (!bring(op.operands[i], turned(op, i, r, place))) continue;
      taken[i] = 1;
      break;
    }
  }
}

bool Layout::read_twice(const Op& op, ValueId x) const {
  return std::count_if(op.operands.begin(), op.operands.end(),
                       [&](ValueId o) { return root(o) == x; }) > 1;
}

Function lay_out(Program& program, const Function& flat) {
  Function out;
  out.name = flat.name;
  Layout(program, flat, out).run();
  return out;
}

}  // namespace gradc::planning
