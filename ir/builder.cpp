// Building and copying of functions.
#include "ir/builder.h"

#include <fmt/format.h>

#include <algorithm>

#include "ir/diagnostic.h"
#include "ir/typing.h"

namespace gradc {
namespace {

// `wish`, or with the first suffix `.n` that makes it new. Values and groups share their names.
NameId free_name(Program& program, const std::unordered_map<std::uint32_t, std::uint32_t>& taken,
                 std::unordered_map<std::string, std::uint32_t>& next_suffix, std::string_view wish) {
  NameId id = program.intern(wish);
  if (!taken.contains(id.index)) return id;
  // `x.2` wishes for `x`: a copy of a numbered name does not grow a second number. The base is a copy, since
  // `wish` may point into the program's names, which grow.
  std::string base(wish);
  if (const std::size_t dot = base.rfind('.'); dot != std::string::npos && dot > 0 && dot + 1 < base.size() &&
                                               base.find_first_not_of("0123456789", dot + 1) == std::string::npos)
    base.resize(dot);
  std::uint32_t& n = next_suffix["%" + base];
  do id = program.intern(fmt::format("{}.{}", base, ++n));
  while (taken.contains(id.index));
  return id;
}

}  // namespace

Builder::Builder(Program& program, Function& function) : program_(program), function_(function) {
  if (!function.regions.empty()) internal_error("a builder needs an empty function");
  function.regions.emplace_back();
  open_.push_back(RegionId{0});
  for (std::size_t i = 0; i < function.axes.size(); ++i)
    axis_by_name_[function.axes[i].name.index] = AxisId{static_cast<std::uint32_t>(i)};
}

AxisId Builder::axis(std::string_view name, std::int64_t extent) {
  const std::string wish(name);   // a copy: the program's names grow
  const auto it = axis_by_name_.find(program_.intern(wish).index);
  if (it == axis_by_name_.end()) return fresh_axis(wish, extent);
  if (function_.extent(it->second) == extent) return it->second;
  // The same base name with another suffix may have the extent.
  const std::string base = wish.substr(0, wish.find('.'));
  for (std::uint32_t n = 1;; ++n) {
    const auto other = axis_by_name_.find(program_.intern(fmt::format("{}.{}", base, n)).index);
    if (other == axis_by_name_.end()) return fresh_axis(wish, extent);
    if (function_.extent(other->second) == extent) return other->second;
  }
}

AxisId Builder::fresh_axis(std::string_view wish, std::int64_t extent) {
  NameId id = program_.intern(wish);
  if (axis_by_name_.contains(id.index)) {
    const std::string base(wish.substr(0, wish.find('.')));
    std::uint32_t& n = next_suffix_["[" + base];
    do id = program_.intern(fmt::format("{}.{}", base, ++n));
    while (axis_by_name_.contains(id.index));
  }
  const AxisId a{static_cast<std::uint32_t>(function_.axes.size())};
  function_.axes.push_back({id, extent});
  axis_by_name_[id.index] = a;
  return a;
}

ValueId Builder::argument(const Type& type, std::string_view wish) {
  const ValueId v{static_cast<std::uint32_t>(function_.values.size())};
  function_.values.push_back({type, {}, {}});
  function_.regions[open_.back().index].arguments.push_back(v);
  name(v, wish);
  return v;
}

Group Builder::arguments(BundleId bundle, std::string_view wish) {
  Group g{program_.intern(wish), bundle, ValueId{static_cast<std::uint32_t>(function_.values.size())}, 0};
  for (const Leaf& leaf : leaves(program_, bundle)) {
    const Bundle& b = program_.bundle(leaf.bundle);
    Type t{leaf.member->type.dtype, {}};
    for (AxisId a : leaf.member->type.axes) {
      const Axis& x = b.axes[a.index];
      AxisId made = axis(program_.text(x.name), x.extent);
      if (t.axes.contains(made)) made = fresh_axis(program_.text(x.name), x.extent);
      t.axes.push_back(made);
    }
    argument(t);
    ++g.count;
  }
  if (g.count == 0) return g;   // nothing that could print
  g.name = free_name(program_, taken_, next_suffix_, wish);
  taken_[g.name.index] = g.first.index;
  function_.groups.push_back(g);
  return g;
}

ValueId Builder::append(Opcode code, std::span<const ValueId> operands, const Attr& attr, const Type& result) {
  const OpId o{static_cast<std::uint32_t>(function_.ops.size())};
  const ValueId v{static_cast<std::uint32_t>(function_.values.size())};
  function_.ops.push_back({code, at, {operands.begin(), operands.end()}, {v}, {}, attr});
  function_.values.push_back({result, {}, o});
  function_.regions[open_.back().index].ops.push_back(o);
  return v;
}

ValueId Builder::add(Opcode code, std::span<const ValueId> operands, const Attr& attr) {
  std::string fault;
  const std::optional<Type> t = infer(program_, function_, code, operands, attr, fault);
  if (!t) internal_error(fmt::format("cannot build {}: {}", facts(code).name, fault.empty() ? "its type must be written" : fault));
  return append(code, operands, attr, *t);
}

ValueId Builder::add(Opcode code, std::span<const ValueId> operands, const Attr& attr, const Type& result) {
  if (const std::string fault = check_types(program_, function_, code, operands, attr, result); !fault.empty())
    internal_error(fmt::format("cannot build {} -> {}: {}", facts(code).name, describe(program_, function_, result), fault));
  return append(code, operands, attr, result);
}

std::vector<ValueId> Builder::add_multi(Opcode code, std::span<const ValueId> operands, const Attr& attr,
                                        std::span<const Type> results, std::span<const RegionId> regions) {
  const OpId o{static_cast<std::uint32_t>(function_.ops.size())};
  std::vector<ValueId> out;
  for (const Type& t : results) {
    out.push_back(ValueId{static_cast<std::uint32_t>(function_.values.size())});
    function_.values.push_back({t, {}, o});
  }
  function_.ops.push_back({code, at, {operands.begin(), operands.end()}, out, {regions.begin(), regions.end()}, attr});
  function_.regions[open_.back().index].ops.push_back(o);
  return out;
}

void Builder::group(std::string_view wish, BundleId bundle, ValueId first, std::uint32_t count) {
  if (count == 0) return;
  const NameId id = free_name(program_, taken_, next_suffix_, wish);
  taken_[id.index] = first.index;
  function_.groups.push_back({id, bundle, first, count});
}

RegionId Builder::open() {
  const RegionId r{static_cast<std::uint32_t>(function_.regions.size())};
  function_.regions.emplace_back();
  open_.push_back(r);
  return r;
}

void Builder::close(std::span<const ValueId> results) {
  if (open_.size() < 2) internal_error("no region is open");
  function_.regions[open_.back().index].results.assign(results.begin(), results.end());
  open_.pop_back();
}

void Builder::finish(std::span<const ValueId> results, std::span<const NameId> names) {
  if (open_.size() != 1) internal_error("a region is still open");
  function_.regions[0].results.assign(results.begin(), results.end());
  function_.result_names.assign(names.begin(), names.end());
  open_.clear();
}

void Builder::name(ValueId value, std::string_view wish) {
  if (wish.empty()) return;
  const NameId id = free_name(program_, taken_, next_suffix_, wish);
  taken_[id.index] = value.index;
  function_.values[value.index].name = id;
}

ValueId Builder::constant(double real, DType dtype) {
  return add(Opcode::constant_, {}, {.real = real}, Type{dtype, {}});
}
ValueId Builder::integer(std::int64_t value, DType dtype) {
  return add(Opcode::constant_, {}, {.integer = value}, Type{dtype, {}});
}
ValueId Builder::cast(ValueId x, DType to) {
  const Type t = type(x);
  return t.dtype == to ? x : add(Opcode::cast_, {x}, {}, Type{to, t.axes});
}
ValueId Builder::expand(ValueId x, const AxisList& axes) {
  const Type t = type(x);
  return t.axes == axes ? x : add(Opcode::expand_, {x}, {}, Type{t.dtype, axes});
}
ValueId Builder::sum(ValueId x, const AxisList& over) { return over.empty() ? x : reduce(Opcode::sum_, x, over); }
ValueId Builder::reduce(Opcode code, ValueId x, const AxisList& over) {
  return add(code, {x}, {.axes = {over.begin(), over.end()}});
}
ValueId Builder::contract(ValueId a, ValueId b, const AxisList& result) {
  const DType d = type(a).dtype;
  return add(Opcode::contract_, {a, b}, {}, Type{d == DType::bf16 || d == DType::f16 ? DType::f32 : d, result});
}

Cloner::Cloner(const Function& from, Builder& to)
    : from_(from), to_(to), values_(from.values.size()), axes_(from.axes.size()) {
  for (const Group& g : from.groups)
    groups_.emplace_back(g.first.index, static_cast<std::uint32_t>(groups_.size()));
  std::sort(groups_.begin(), groups_.end());
}

void Cloner::map(ValueId from, ValueId to) { values_[from.index] = to; }

ValueId Cloner::operator()(ValueId from) const {
  const ValueId v = values_[from.index];
  if (!v.valid()) internal_error("a value is used before it was copied");
  return v;
}

AxisId Cloner::operator()(AxisId from) {
  if (!from.valid()) return from;
  AxisId& a = axes_[from.index];
  if (!a.valid()) {
    const Axis x = from_.axis(from);
    const std::string wish(to_.program().text(x.name));
    a = to_.axis(wish, x.extent);
    // Two axes of the source never become one.
    for (std::size_t i = 0; i < axes_.size(); ++i)
      if (i != from.index && axes_[i] == a) {
        a = to_.fresh_axis(wish, x.extent);
        break;
      }
  }
  return a;
}

Type Cloner::operator()(const Type& type) {
  Type out{type.dtype, {}};
  for (AxisId a : type.axes) out.axes.push_back((*this)(a));
  return out;
}

Attr Cloner::operator()(const Attr& attr) {
  Attr out = attr;
  out.from = (*this)(attr.from);
  out.to = (*this)(attr.to);
  for (AxisId& a : out.axes) a = (*this)(a);
  return out;
}

void Cloner::arguments() {
  for (ValueId v : from_.body().arguments)
    map(v, to_.argument((*this)(from_.type(v)), to_.program().text(from_.value(v).name)));
  clone_groups(from_.body().arguments);
}

// Groups that begin in one of the lists of values which were just copied.
void Cloner::clone_groups(const std::vector<ValueId>& defined) {
  // A deep model has a group a turn, and as many calls: each looks up its own values alone.
  std::vector<std::uint32_t> met;
  if (!groups_.empty())
    for (ValueId v : defined)
      if (const auto at = std::lower_bound(groups_.begin(), groups_.end(), std::pair(v.index, 0u));
          at != groups_.end() && at->first == v.index)
        met.push_back(at->second);
  std::sort(met.begin(), met.end());
  for (std::uint32_t i : met) {
    const Group& g = from_.groups[i];
    to_.group(std::string(to_.program().text(g.name)), g.bundle, (*this)(g.first), g.count);
  }
}

void Cloner::clone(OpId id, bool keep_at) {
  const Op& op = from_.op(id);
  struct Frame {
    OpId op;
    std::size_t region = 0, next = 0;
    RegionId open;
    std::vector<RegionId> done;
  };
  const auto begin = [&](const Op& o) {
    if (!keep_at) to_.at = o.loc;
  };
  const auto finish = [&](const Op& o, const std::vector<RegionId>& regions) {
    begin(o);
    std::vector<ValueId> operands;
    for (ValueId v : o.operands) operands.push_back((*this)(v));
    std::vector<Type> types;
    for (ValueId v : o.results) types.push_back((*this)(from_.type(v)));
    const Attr attr = (*this)(o.attr);
    std::vector<ValueId> made;
    if (facts(o.code).kind == Kind::control && o.code != Opcode::flat_)
      made = to_.add_multi(o.code, operands, attr, types, regions);
    else
      made = {to_.add(o.code, operands, attr, types[0])};
    for (std::size_t i = 0; i < made.size(); ++i) {
      map(o.results[i], made[i]);
      to_.name(made[i], to_.program().text(from_.value(o.results[i]).name));
    }
    if (facts(o.code).kind == Kind::control) clone_groups(o.results);
  };
  // Depth of nesting is the user's, so no recursion.
  std::vector<Frame> stack;
  if (op.regions.empty()) return finish(op, {});
  stack.push_back({id});
  while (!stack.empty()) {
    Frame& f = stack.back();
    const Op& o = from_.op(f.op);
    if (f.region == o.regions.size()) {
      const std::vector<RegionId> done = f.done;
      const OpId at = f.op;
      stack.pop_back();
      finish(from_.op(at), done);
      continue;
    }
    const Region& r = from_.regions[o.regions[f.region].index];
    if (!f.open.valid()) {
      f.open = to_.open();
      for (ValueId v : r.arguments)
        map(v, to_.argument((*this)(from_.type(v)), to_.program().text(from_.value(v).name)));
      clone_groups(r.arguments);
    }
    if (f.next == r.ops.size()) {
      std::vector<ValueId> results;
      for (ValueId v : r.results) results.push_back((*this)(v));
      to_.close(results);
      f.done.push_back(f.open);
      f.open = {};
      f.next = 0;
      ++f.region;
      continue;
    }
    const OpId inner = r.ops[f.next++];
    if (from_.op(inner).regions.empty())
      finish(from_.op(inner), {});
    else
      stack.push_back({inner});
  }
}

std::vector<ValueId> Cloner::inline_region(const Region& region, bool keep_at) {
  for (OpId o : region.ops) clone(o, keep_at);
  std::vector<ValueId> out;
  for (ValueId v : region.results) out.push_back((*this)(v));
  return out;
}

std::vector<ValueId> inline_call(const Function& callee, Builder& to, std::span<const ValueId> operands) {
  Cloner cloner(callee, to);
  std::vector<AxisId> map;
  const Region& body = callee.body();
  for (std::size_t i = 0; i < operands.size(); ++i) {
    const std::string fault =
        bind_axes(callee, callee.type(body.arguments[i]), to.function(), to.type(operands[i]), map);
    if (!fault.empty()) internal_error("inlining a call: " + fault);
    cloner.map(body.arguments[i], operands[i]);
  }
  for (std::size_t i = 0; i < map.size(); ++i)
    if (map[i].valid()) cloner.map_axis(AxisId{static_cast<std::uint32_t>(i)}, map[i]);
  return cloner.inline_region(body);
}

}  // namespace gradc
