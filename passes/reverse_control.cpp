// The walkers: operations with any number of operands, and those with regions or callees. The
// derivative of a region is a region, made before its operation is walked.
#include <algorithm>
#include <unordered_map>

#include "ir/diagnostic.h"
#include "ir/typing.h"
#include "passes/reverse.h"

namespace gradc {
// ---- joined values

// Each operand's cotangent is its stretch of the result's.
void Reverse::walk_concat(const Op& op) {
  const ValueId g = cotangent(op.results[0]);
  const AxisId axis = map_(op.attr.to);
  std::int64_t at = 0;
  for (std::size_t k = 0; k < op.operands.size(); ++k) {
    const AxisId stretch = map_(op.attr.axes[k]);
    const std::int64_t begin = at;
    at += stretch.valid() ? from_.extent(op.attr.axes[k]) : 1;
    if (!flows(op, k)) continue;
    const Type want = map_(from_.type(op.operands[k]));
    const ValueId part =
        !stretch.valid() ? to_.add(Opcode::pick_, {g}, {.integer = begin, .from = axis}, want)
        : stretch == axis
            ? g
            : to_.add(Opcode::slice_, {g}, {.integer = begin, .from = axis, .to = stretch}, want);
    contribute(op.operands[k], {part, {}});
  }
}

// A member's cotangent is its stretch of the flat one, its axes split off the stretch one by one.
void Reverse::walk_flat(const Op& op) {
  const ValueId g = cotangent(op.results[0]);
  const AxisId axis = map_(op.attr.to);
  std::int64_t at = 0;
  for (std::size_t k = 0; k < op.operands.size(); ++k) {
    const Type want = map_(from_.type(op.operands[k]));
    std::int64_t rest = to_.function().elements(want);
    const std::int64_t begin = at;
    at += rest;
    if (!flows(op, k)) continue;
    if (want.axes.empty()) {
      contribute(op.operands[k],
                 {to_.add(Opcode::pick_, {g}, {.integer = begin, .from = axis}), {}});
      continue;
    }
    if (rest == 0) {
      contribute(op.operands[k], {zeros(want), {}});
      continue;
    }
    const auto part_axis = [&](int i) {  // what is still to be split, or the last axis itself
      return i + 1 == want.axes.size() && want.axes[i] != axis ? want.axes[i]
                                                               : to_.fresh_axis("n", rest);
    };
    AxisId left = part_axis(0);
    ValueId part = to_.add(Opcode::slice_, {g}, {.integer = begin, .from = axis, .to = left});
    for (int i = 0; i + 1 < want.axes.size(); ++i) {
      rest /= to_.function().extent(want.axes[i]);
      const AxisId next = part_axis(i + 1);
      part = to_.add(Opcode::split_, {part}, {.from = left, .axes = {want.axes[i], next}});
      left = next;
    }
    if (const AxisId last = want.axes[want.axes.size() - 1]; left != last)
      part = to_.add(Opcode::relabel_, {part}, {.from = left, .to = last});
    contribute(op.operands[k], {part, {}});
  }
}

// ---- extras: what the forward direction hands over beside an operation's results

bool Reverse::has_extras(OpId id) const {
  const Op& op = from_.op(id);
  if ((op.code != Opcode::call_ && op.code != Opcode::scan_ && op.code != Opcode::fused_) ||
      !activity_.active(from_id_, op))
    return false;
  const Derived& d = gradient_.of(from_id_, op);
  switch (op.code) {
    case Opcode::call_: return d.saved.valid();
    case Opcode::scan_: return d.states_read(op) > 0 || !d.kept.empty();
    default: return d.lse || !further(op, d).empty();
  }
}

// What is kept of a fused region and is no result of it.
std::vector<ValueId> Reverse::further(const Op& op, const Derived& d) const {
  const std::vector<ValueId>& results = from_.regions[op.regions[0].index].results;
  std::vector<ValueId> out;
  for (ValueId v : d.kept)
    if (std::find(results.begin(), results.end(), v) == results.end()) out.push_back(v);
  return out;
}

std::vector<Type> Reverse::extra_types(OpId id) {
  const Op& op = from_.op(id);
  const Derived& d = gradient_.of(from_id_, op);
  std::vector<Type> types;
  if (op.code == Opcode::scan_) {
    for (std::size_t i = 0; i < d.states_read(op); ++i) {
      Type t = map_(from_.type(op.operands[d.arguments[i]]));
      t.axes.push_back(map_(op.attr.from));
      types.push_back(t);
    }
    for (ValueId v : d.kept) {
      Type t = map_(from_.type(v));
      t.axes.push_back(map_(op.attr.from));
      types.push_back(t);
    }
    return types;
  }
  if (op.code == Opcode::fused_) {
    for (ValueId v : further(op, d)) types.push_back(map_(from_.type(v)));
    if (d.lse) types.push_back(map_(lse_type(op)));
    return types;
  }
  // The callee's own axes become axes here, those of its arguments and results being bound.
  const Function& callee = to_.program().function(d.forward);
  Cloner theirs(callee, to_);
  std::vector<AxisId> bound(callee.axes.size());
  const auto bind = [&](const std::vector<ValueId>& formal, const std::vector<ValueId>& actual) {
    for (std::size_t i = 0; i < actual.size(); ++i) {
      const Type& t = callee.type(formal[i]);
      const Type mine = map_(from_.type(actual[i]));
      for (int k = 0; k < t.axes.size(); ++k) bound[t.axes[k].index] = mine.axes[k];
    }
  };
  bind(callee.body().arguments, op.operands);
  bind(callee.body().results, op.results);
  for (std::uint32_t i = 0; i < bound.size(); ++i)
    if (bound[i].valid()) theirs.map_axis(AxisId{i}, bound[i]);
  for (std::size_t i = op.results.size(); i < callee.body().results.size(); ++i)
    types.push_back(theirs(callee.type(callee.body().results[i])));
  return types;
}

void Reverse::take_extras(OpId id) {
  const Op& op = from_.op(id);
  std::vector<ValueId>& extras = extras_[id.index];
  std::size_t n = 0;
  for (const Type& t : extra_types(id)) extras.push_back(to_.argument(t, extra_name(op, n++)));
}

const std::vector<ValueId>& Reverse::extras(OpId id) {
  if (const auto it = extras_.find(id.index); it != extras_.end()) return it->second;
  if (values_ == Values::asked) {
    asked_extras_.push_back(id);
    take_extras(id);
  } else {
    recompute(id);
  }
  return extras_[id.index];
}

void Reverse::copy_call(OpId id) {
  const Op& op = from_.op(id);
  const Derived& d = gradient_.of(from_id_, op);
  std::vector<ValueId> operands;
  for (ValueId v : op.operands) operands.push_back(map_(v));
  std::vector<Type> types;
  for (ValueId v : op.results) types.push_back(map_(from_.type(v)));
  for (const Type& t : extra_types(id)) types.push_back(t);
  Attr attr = op.attr;
  attr.callee = d.forward;
  const std::vector<ValueId> made = to_.add_multi(Opcode::call_, operands, attr, types);
  const std::size_t results = op.results.size();
  for (std::size_t i = 0; i < results; ++i) {
    map_.map(op.results[i], made[i]);
    to_.name(made[i], to_.program().text(from_.value(op.results[i]).name));
  }
  for (const Group& g : from_.groups)
    if (results > 0 && g.first.index >= op.results[0].index &&
        g.first.index + g.count <= op.results[0].index + results)
      to_.group(to_.program().text(g.name), g.bundle, made[g.first.index - op.results[0].index],
                g.count);
  extras_[id.index] = {made.begin() + static_cast<std::ptrdiff_t>(results), made.end()};
  to_.group("s", d.saved, made[results], static_cast<std::uint32_t>(made.size() - results));
}

// ---- call

void Reverse::walk_call(OpId id) {
  const Op& op = from_.op(id);
  const Derived& d = gradient_.of(from_id_, op);
  const Function& callee = to_.program().function(op.attr.callee);
  std::vector<ValueId> operands;
  for (std::uint32_t i : d.arguments) operands.push_back(primal(op.operands[i]));
  if (has_extras(id))
    for (ValueId v : extras(id)) operands.push_back(v);
  for (std::uint32_t i : d.slots) operands.push_back(incoming(op.results[i]));
  if (d.gives.empty()) return;
  std::vector<Type> types;
  for (std::uint32_t i : d.gives) types.push_back(map_(from_.type(op.operands[i])));
  to_.at = gradient_of(op.loc);
  const std::vector<ValueId> made =
      to_.add_multi(Opcode::call_, operands, {.callee = d.backward}, types);
  // A bundle's cotangents are the same bundle, so that they print as one name.
  for (const Group& g : callee.groups) {
    const auto first = std::find_if(callee.body().arguments.begin(), callee.body().arguments.end(),
                                    [&](ValueId v) { return v == g.first; });
    if (first == callee.body().arguments.end() || g.count == 0) continue;
    const auto argument = static_cast<std::uint32_t>(first - callee.body().arguments.begin());
    const auto at = std::lower_bound(d.gives.begin(), d.gives.end(), argument);
    const auto n = static_cast<std::size_t>(at - d.gives.begin());
    if (n + g.count > d.gives.size() || d.gives[n] != argument ||
        d.gives[n + g.count - 1] != argument + g.count - 1)
      continue;
    std::string wish = cotangent_name(op.operands[argument]);
    const std::string member = "." + leaves(to_.program(), g.bundle)[0].path;
    if (wish.ends_with(member)) wish.resize(wish.size() - member.size());
    to_.group(wish, g.bundle, made[n], g.count);
    for (std::size_t i = n; i < n + g.count; ++i) grouped_.insert(made[i].index);
  }
  const Reach& reach = activity_.reach(from_id_, id);
  for (std::size_t n = 0; n < made.size(); ++n) {
    const std::uint32_t k = d.gives[n];
    bool asked = false;
    for (std::size_t i = 0; i < op.results.size() && flows(op, k) && !asked; ++i)
      asked = activity_.wanted(from_id_, op.results[i]) && reach(i, k);
    if (asked)
      contribute(op.operands[k], {made[n], {}});
    else
      unasked_.emplace(op.operands[k].index, made[n]);
  }
}

// ---- regions

// What the derivative of a region calls its argument `i`: cotangents come first.
std::string_view Reverse::formal_name(const Derived& d, std::size_t i) const {
  return to_.program().text(d.body.value(d.body.body().arguments[i]).name);
}

// Axes of a region's derivative are those of the same names here; others are its own.
void Reverse::map_axes_of(const Function& body, Cloner& copy) {
  std::unordered_map<NameId, AxisId> here;
  for (std::uint32_t i = 0; i < from_.axes.size(); ++i)
    here.emplace(from_.axes[i].name, AxisId{i});
  for (std::uint32_t i = 0; i < body.axes.size(); ++i)
    if (const auto it = here.find(body.axes[i].name); it != here.end())
      copy.map_axis(AxisId{i}, map_(it->second));
}

// The derivative of a region, copied into the innermost open region.
std::vector<ValueId> Reverse::embed(const Derived& d, std::span<const ValueId> cotangents,
                                    std::span<const ValueId> arguments) {
  Cloner copy(d.body, to_);
  map_axes_of(d.body, copy);
  const std::vector<ValueId>& formal = d.body.body().arguments;
  for (std::size_t i = 0; i < cotangents.size(); ++i) copy.map(formal[i], cotangents[i]);
  for (std::size_t i = 0; i < arguments.size(); ++i)
    copy.map(formal[cotangents.size() + i], arguments[i]);
  return copy.inline_region(d.body.body());
}

}  // namespace gradc
