// What callers of a planned function expect: where its arguments and results lie.
#include "passes/plan_layout.h"

namespace gradc::planning {

std::uint32_t Layout::new_buffer(Arena arena, std::int64_t size, bool arguments) {
  buffers_.push_back({arena, size, 0, arguments});
  return static_cast<std::uint32_t>(buffers_.size() - 1);
}

std::uint32_t Layout::arena_buffer(Arena arena) {
  std::uint32_t& b = of_arena_[static_cast<std::size_t>(arena)];
  if (b == Spot::none) b = new_buffer(arena, 0);
  return b;
}

void Layout::place_arguments() {
  of_arena_.fill(Spot::none);
  const std::vector<ValueId>& arguments = f_.body().arguments;
  for (const Group& g : f_.groups) {
    const Arena arena = bundle_arena(text(g.name));
    if (f_.value(g.first).def.valid() || arena == Arena::none) continue;
    const std::uint32_t b = arena_buffer(arena);
    if (arena == Arena::parameters) parameters_ = g.bundle;
    std::uint32_t i = 0;
    for (const Leaf& leaf : leaves(program_, g.bundle)) {
      const ValueId v{g.first.index + i++};
      set_argument(v, dense(f_, f_.type(v), b, leaf.offset * bytes(f_.type(v).dtype)));
    }
  }
  for (ValueId v : arguments) {
    if (spots_[v.index].valid()) continue;
    if (const Arena a = state_arena(text(f_.value(v).name), f_.type(v)); a != Arena::none) {
      set_argument(v, dense(f_, f_.type(v), arena_buffer(a), 0));
      continue;
    }
    set_argument(v, dense(f_, f_.type(v), arena_buffer(Arena::input), inputs_));
    inputs_ += aligned(bytes_of(v));
  }
}

void Layout::set_argument(ValueId v, const Spot& s) {
  spots_[v.index] = s;
  buffers_[s.buffer].arguments = true;
}

Arena Layout::state_arena(std::string_view name, const Type& type) const {
  if (type.axes.size() != 1) return Arena::none;
  const bool ours =
      text(f_.name) == "update" ||
      (parameters_.valid() && element_count(program_, parameters_) == f_.extent(type.axes[0]));
  if (!ours) return Arena::none;
  if (name == "p") return Arena::parameters;
  if (name == "g") return Arena::gradients;
  if (name == "m") return Arena::moment1;
  if (name == "v") return Arena::moment2;
  return name == "rounded" ? Arena::rounded : Arena::none;
}

void Layout::known_places() {
  for (OpId id : f_.body().ops) {
    const Op& op = f_.op(id);
    if (is_static_view(op)) {
      const Spot& x = spots_[op.operands[0].index];
      Spot y;
      if (x.valid() && view_spot(f_, op, x, y)) spots_[op.results[0].index] = y;
    } else if (is_join(op) && !op.operands.empty()) {
      const Spot& first = spots_[op.operands[0].index];
      if (!first.valid()) continue;
      const Spot whole = dense(f_, f_.type(op.results[0]), first.buffer, first.offset);
      const std::vector<Spot> parts = parts_of(program_, f_, op, whole);
      bool all = true;
      for (std::size_t i = 0; i < parts.size() && all; ++i)
        all = same_place(f_, f_.type(op.operands[i]), spots_[op.operands[i].index], parts[i]);
      if (!all) continue;
      spots_[op.results[0].index] = whole;
      stays_[id.index] = 1;
    }
  }
}

void Layout::place_results() {
  const Function& f = f_;
  std::vector<Leaf> members;
  if (parameters_.valid()) members = leaves(program_, parameters_);
  std::size_t gradient = 0;
  for (std::size_t i = 0; i < f.body().results.size(); ++i) {
    const ValueId v = f.body().results[i];
    const std::string_view name =
        i < f.result_names.size() ? text(f.result_names[i]) : std::string_view();
    Spot target;
    if (name.starts_with("g.") && gradient < members.size())
      target = dense(f, f.type(v), arena_buffer(Arena::gradients),
                     members[gradient++].offset * bytes(f.type(v).dtype));
    else if (const Arena a = state_arena(name, f.type(v)); a != Arena::none)
      target = dense(f, f.type(v), arena_buffer(a), 0);
    else {
      target = dense(f, f.type(v), arena_buffer(Arena::output), outputs_);
      outputs_ += aligned(bytes_of(v));
    }
    if (!bring_result(v, target)) late_.push_back({i, target});
  }
}

bool Layout::bring_result(ValueId v, const Spot& target) {
  if (spots_[v.index].valid() && same_place(f_, f_.type(v), spots_[v.index], target)) return true;
  return (!buffers_[target.buffer].arguments || overwrites_safely(v, target)) && bring(v, target);
}

void Layout::find_reads() {
  reads_.resize(buffers_.size());
  const auto note = [&](ValueId v, std::int64_t time) {
    const Spot& s = spots_[v.index];
    if (!s.valid() || !buffers_[s.buffer].arguments || bytes_of(v) == 0) return;
    const Type& type = f_.type(v);
    std::int64_t far = 1;
    for (int i = 0; i < type.axes.size(); ++i)
      far += s.strides[static_cast<std::size_t>(i)] * (f_.extent(type.axes[i]) - 1);
    reads_[s.buffer].push_back({s.offset, s.offset + far * bytes(type.dtype), time, 0});
  };
  for (OpId id : f_.body().ops) {
    const Op& op = f_.op(id);
    if (!alive_[id.index] || stays_[id.index]) continue;
    if (is_static_view(op) && spots_[op.results[0].index].valid()) continue;
    // What a join or a view copies is read no later than what it makes.
    for (ValueId v : op.operands)
      note(v, passes_on(op) ? last_use_[op.results[0].index] : position_[id.index]);
  }
  for (ValueId v : f_.body().results) note(v, at_end);
  for (std::vector<Read>& list : reads_) {
    std::sort(list.begin(), list.end(),
              [](const Read& a, const Read& b) { return a.begin < b.begin; });
    std::int64_t reach = 0;
    for (Read& r : list) r.reach = reach = std::max(reach, r.end);
  }
}

bool Layout::read_behind(std::int64_t time, std::uint32_t buffer, std::int64_t begin,
                         std::int64_t end) const {
  const std::vector<Read>& list = reads_[buffer];
  auto r = std::partition_point(list.begin(), list.end(),
                                [&](const Read& x) { return x.begin < end; });
  while (r != list.begin() && (--r)->reach > begin)
    if (r->end > begin && r->time > time) return true;
  return false;
}

bool Layout::overwrites_safely(ValueId v, const Spot& target) const {
  const OpId def = f_.value(root(v)).def;
  if (!def.valid()) return false;
  const Op& launch = f_.op(def);
  if (root(v) == v && is_join(launch)) {
    const std::vector<Spot> parts = parts_of(program_, f_, launch, target);
    for (std::size_t i = 0; i < parts.size(); ++i)
      if (!overwrites_safely(launch.operands[i], parts[i])) return false;
    return true;
  }
  if (launch.code != Opcode::launch_) return false;
  const std::int64_t now = position_[def.index];
  if (read_behind(now, target.buffer, target.offset, target.offset + bytes_of(v))) return false;
  if (root(v) != v) return false;
  const std::size_t r = result_index(launch, v);
  for (std::size_t i = 0; i < launch.operands.size(); ++i) {
    const ValueId x = launch.operands[i];
    if (spots_[x.index].buffer != target.buffer) continue;
    if (!may_overwrite(program_.function(launch.attr.callee), i, r) ||
        !agree(launch, i, r, spots_[x.index], target))
      return false;
  }
  return true;
}

}  // namespace gradc::planning
