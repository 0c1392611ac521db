// The verifier's first parts: every index is inside its array, and each function is a tree of
// regions whose values are defined once, before their uses. What comes later may rely on it.
#include <fmt/format.h>

#include <algorithm>

#include "ir/verify_parts.h"
#include "ir/walk.h"

namespace gradc::verifier {
namespace {

template <class Id, class Array>
bool inside(Id id, const Array& array) {
  return id.index < array.size();
}
template <class Id, class Array>
bool inside_or_none(Id id, const Array& array) {
  return !id.valid() || inside(id, array);
}
template <class Id, class Array>
bool all_inside(const std::vector<Id>& ids, const Array& array) {
  return std::all_of(ids.begin(), ids.end(), [&](Id id) { return inside(id, array); });
}
bool all_inside(const Type& t, const std::vector<Axis>& axes) {
  return static_cast<int>(t.dtype) <= static_cast<int>(DType::boolean) &&
         std::all_of(t.axes.begin(), t.axes.end(), [&](AxisId a) { return inside(a, axes); });
}
bool named(const Program& p, const std::vector<Axis>& axes) {
  return std::all_of(axes.begin(), axes.end(),
                     [&](const Axis& a) { return inside(a.name, p.names); });
}

bool bundle_inside(const Program& p, const Bundle& b) {
  if (!inside(b.name, p.names) || !named(p, b.axes)) return false;
  for (const Member& m : b.members) {
    if (!inside(m.name, p.names)) return false;
    if (m.nested.valid() ? !inside(m.nested, p.bundles) : !all_inside(m.type, b.axes)) return false;
    if (m.initial.kind == Initial::computed ? !inside(m.initial.function, p.functions)
                                            : m.initial.function.valid())
      return false;
  }
  return true;
}

bool attr_inside(const Program& p, const Function& f, const Attr& a) {
  return inside_or_none(a.from, f.axes) && inside_or_none(a.to, f.axes) &&
         std::all_of(a.axes.begin(), a.axes.end(),
                     [&](AxisId x) { return inside_or_none(x, f.axes); }) &&
         inside_or_none(a.bundle, p.bundles) && inside_or_none(a.flag, p.names) &&
         inside_or_none(a.callee, p.functions) &&
         static_cast<int>(a.claim) <= static_cast<int>(Claim::optimizer);
}

std::string function_inside(const Program& p, const Function& f) {
  if (!inside(f.name, p.names) || f.regions.empty() ||
      static_cast<int>(f.family) >= family_count)
    return "its name, family or body";
  if (!named(p, f.axes)) return "an axis";
  for (const Value& v : f.values)
    if (!all_inside(v.type, f.axes) || !inside_or_none(v.name, p.names) ||
        !inside_or_none(v.def, f.ops))
      return "a value";
  for (std::size_t i = 0; i < f.ops.size(); ++i) {
    const Op& o = f.ops[i];
    if (static_cast<int>(o.code) >= opcode_count || !all_inside(o.operands, f.values) ||
        !all_inside(o.results, f.values) || !all_inside(o.regions, f.regions) ||
        !attr_inside(p, f, o.attr) || !inside_or_none(o.loc, p.locations))
      return fmt::format("operation {}", i);
  }
  for (const Region& r : f.regions)
    if (!all_inside(r.arguments, f.values) || !all_inside(r.ops, f.ops) ||
        !all_inside(r.results, f.values))
      return "a region";
  if (!all_inside(f.result_names, p.names)) return "a result's name";
  for (const Group& g : f.groups)
    if (!inside(g.name, p.names) || !inside(g.bundle, p.bundles) || !inside(g.first, f.values) ||
        g.count > f.values.size() - g.first.index)
      return "a group";
  if (!f.placed.empty() && f.placed.size() != f.values.size()) return "the placements";
  for (const Placement& at : f.placed)
    if (static_cast<int>(at.arena) > static_cast<int>(Arena::output)) return "a placement";
  return "";
}

void check_locations(Report& report) {
  const Program& p = report.program;
  for (const Location& l : p.locations) {
    bool ok = static_cast<int>(l.role) <= static_cast<int>(Role::update);
    for (std::size_t i = 0; i < l.lines.size(); ++i)
      ok = ok && inside(l.lines[i].file, p.files) && l.lines[i].line > 0 && l.lines[i].column > 0 &&
           (i == 0 || l.lines[i - 1] < l.lines[i]);
    if (!ok)
      report.add(locations, "a location's lines are not sorted, distinct and in files that exist");
  }
}

// What an operation is called before its text can be shown.
std::string called(const Function& f, OpId o) {
  return fmt::format("operation {} (`{}`) ", o.index, facts(f.op(o).code).name);
}

bool check_regions(Report& report, FunctionId id) {
  const Function& f = report.program.function(id);
  std::vector<std::uint32_t> owners(f.regions.size(), 0), homes(f.ops.size(), 0);
  for (const Op& o : f.ops)
    for (RegionId r : o.regions) ++owners[r.index];
  for (const Region& r : f.regions)
    for (OpId o : r.ops) ++homes[o.index];
  for (std::size_t r = 0; r < owners.size(); ++r)
    if (owners[r] != (r == 0 ? 0u : 1u))
      return report.add(regions, id,
                        fmt::format("region {} belongs to {} operations", r, owners[r])),
             false;
  for (std::uint32_t o = 0; o < homes.size(); ++o)
    if (homes[o] != 1)
      return report.add(regions, id, OpId{o}, called(f, OpId{o}) + "stands in no region, or in two",
                        false),
             false;
  for (std::uint32_t o = 0; o < f.ops.size(); ++o)
    if (static_cast<int>(f.ops[o].regions.size()) != facts(f.ops[o].code).regions)
      return report.add(regions, id, OpId{o}, called(f, OpId{o}) + "has another number of regions",
                        false),
             false;
  // Each is owned once, so what the body reaches is a tree; a cycle beside it would not be reached.
  std::size_t seen = 0;
  int depth = 0, deepest = 0;
  walk(
      f, [&](RegionId, OpId) { deepest = std::max(deepest, depth++); }, [&](OpId) { ++seen; },
      [&](RegionId, OpId) { --depth; });
  if (seen != f.ops.size()) return report.add(regions, id, "regions hold each other"), false;
  if (deepest > text::max_depth) return report.add(regions, id, "regions nest too deep"), false;
  return true;
}

bool check_definitions(Report& report, FunctionId id) {
  const Function& f = report.program.function(id);
  std::vector<std::uint32_t> times(f.values.size(), 0);
  std::vector<OpId> by(f.values.size());
  for (const Region& r : f.regions)
    for (ValueId v : r.arguments) ++times[v.index];
  for (std::uint32_t o = 0; o < f.ops.size(); ++o)
    for (ValueId v : f.ops[o].results) {
      ++times[v.index];
      by[v.index] = OpId{o};
    }
  for (std::uint32_t v = 0; v < f.values.size(); ++v)
    if (times[v] != 1 || by[v] != f.values[v].def)
      return report.add(
                 definitions, id,
                 fmt::format("value {} is defined {} times, or not by what it says", v, times[v])),
             false;
  return true;
}

void check_uses(Report& report, FunctionId id) {
  const Function& f = report.program.function(id);
  constexpr std::uint32_t nowhere = UINT32_MAX;
  std::vector<std::uint32_t> defined(f.values.size(), nowhere);
  std::vector<RegionId> open;
  const auto define = [&](const std::vector<ValueId>& values) {
    for (ValueId v : values) defined[v.index] = open.back().index;
  };
  const auto usable = [&](ValueId v) { return defined[v.index] == open.back().index; };
  walk(
      f,
      [&](RegionId r, OpId) {
        open.push_back(r);
        define(f.regions[r.index].arguments);
      },
      [&](OpId o) {
        if (!std::all_of(f.op(o).operands.begin(), f.op(o).operands.end(), usable))
          report.add(uses, id, o, called(f, o) + "uses what is not defined before, in its region",
                     false);
        define(f.op(o).results);
      },
      [&](RegionId r, OpId owner) {
        const std::vector<ValueId>& results = f.regions[r.index].results;
        if (!std::all_of(results.begin(), results.end(), usable))
          report.add(uses, id, owner, "a region gives what is not defined in it", false);
        open.pop_back();
      });
}

void check_counts(Report& report, FunctionId id) {
  const Function& f = report.program.function(id);
  for (std::uint32_t i = 0; i < f.ops.size(); ++i) {
    const Op& o = f.ops[i];
    const Facts& row = facts(o.code);
    const int n = static_cast<int>(o.operands.size());
    const bool many = row.kind == Kind::control && o.code != Opcode::flat_;
    if (n < row.least || (row.most >= 0 && n > row.most) || (!many && o.results.size() != 1))
      report.add(
          counts, id, OpId{i},
          called(f, OpId{i}) + fmt::format("has {} operands and {} results", n, o.results.size()),
          false);
  }
}

// The attribute with the fields of the operation's form set back, which must leave nothing; false
// if a field that the form needs is absent.
bool strip(const Function& f, const Op& op, Attr& a) {
  bool there = true;
  const auto id = [&](auto& field) {
    there &= field.valid();
    field = {};
  };
  const auto k = [&] { a.integer = 0; };
  const auto axes = [&](bool all_valid) {
    for (AxisId x : a.axes) there &= x.valid() || !all_valid;
    a.axes.clear();
  };
  switch (facts(op.code).attr) {
    case AttrForm::none:
      if (op.code != Opcode::constant_) break;
      if (is_real(f.type(op.results[0]).dtype))
        a.real = 0;
      else
        k();
      break;
    case AttrForm::axis: id(a.to); break;
    case AttrForm::bundle: id(a.bundle), id(a.flag); break;
    case AttrForm::from_to: id(a.from), id(a.to); break;
    case AttrForm::from_at: id(a.from), k(); break;
    case AttrForm::from_to_affine: id(a.from), id(a.to), k(), a.stride = 1; break;
    case AttrForm::from_axes: id(a.from), axes(true); break;
    case AttrForm::axes_to: id(a.to), axes(true); break;
    case AttrForm::to_at: id(a.to), k(); break;
    case AttrForm::concat: id(a.to), axes(false); break;
    case AttrForm::from: id(a.from); break;
    case AttrForm::to: id(a.to); break;
    case AttrForm::axes: axes(true); break;
    case AttrForm::bundle_to: id(a.bundle), id(a.to); break;
    case AttrForm::callee: id(a.callee); break;
    case AttrForm::claim: a.claim = Claim::none; break;
    case AttrForm::scan: id(a.from), a.carried = a.sliced = 0, a.reverse = false; break;
  }
  return there;
}

void check_attributes(Report& report, FunctionId id) {
  const Function& f = report.program.function(id);
  for (std::uint32_t i = 0; i < f.ops.size(); ++i) {
    const Op& o = f.ops[i];
    Attr rest = o.attr;
    std::string why;
    if (!strip(f, o, rest))
      why = "lacks an attribute";
    else if (rest != Attr{})
      why = "has an attribute that it does not use";
    else if (o.code == Opcode::constant_) {
      const DType d = f.type(o.results[0]).dtype;
      const std::int64_t n = o.attr.integer;
      if ((d == DType::boolean && n != 0 && n != 1) ||
          (d == DType::i32 && (n < INT32_MIN || n > INT32_MAX)))
        why = fmt::format("{} does not fit {}", n, name(d));
    }
    if (!why.empty()) report.add(attributes, id, OpId{i}, called(f, OpId{i}) + why, false);
  }
}

// Members lie where one region's arguments or one operation's results do, with their types.
std::string check_group(Report& report, const Function& f, const Group& g,
                        const std::vector<std::uint32_t>& place) {
  const std::vector<Leaf>& leaves = report.layouts[g.bundle].leaves;
  if (g.count == 0 || g.count != leaves.size())
    return fmt::format("has {} values for {} members", g.count, leaves.size());
  for (std::uint32_t i = 0; i < g.count; ++i) {
    const ValueId v{g.first.index + i};
    if (place[v.index] != place[g.first.index] + i || f.value(v).def != f.value(g.first).def)
      return "is not consecutive where it is defined";
    const Type& have = f.type(v);
    const Leaf& leaf = leaves[i];
    bool same = have.dtype == leaf.member->type.dtype &&
                have.axes.size() == static_cast<int>(leaf.extents.size());
    for (int a = 0; same && a < have.axes.size(); ++a)
      same = f.extent(have.axes[a]) == leaf.extents[static_cast<std::size_t>(a)];
    if (!same) return fmt::format("has another type than the bundle at `{}`", leaf.path);
  }
  return "";
}

void check_groups(Report& report, FunctionId id) {
  const Function& f = report.program.function(id);
  if (f.groups.empty()) return;
  // Places count through the function, with a gap behind each list, so that no run crosses lists.
  std::vector<std::uint32_t> place(f.values.size(), 0);
  std::vector<char> grouped(f.values.size(), 0);
  std::uint32_t next = 0;
  const auto lay = [&](const std::vector<ValueId>& list) {
    for (ValueId v : list) place[v.index] = next++;
    ++next;
  };
  for (const Region& r : f.regions) lay(r.arguments);
  for (const Op& o : f.ops) lay(o.results);
  std::int64_t total = 0;
  for (const Group& g : f.groups) {
    std::string why = check_group(report, f, g, place);
    total += g.count;
    for (std::uint32_t i = 0; why.empty() && i < g.count; ++i) {
      if (grouped[g.first.index + i]) why = "shares values with another";
      grouped[g.first.index + i] = 1;
    }
    if (!why.empty())
      report.add(groups, id, fmt::format("group `{}` {}", report.program.text(g.name), why));
  }
  if (total > text::max_grouped) report.add(groups, id, "groups have too many members");
}

}  // namespace

void check_ids(Report& report) {
  const Program& p = report.program;
  check_locations(report);
  for (const Bundle& b : p.bundles)
    if (!bundle_inside(p, b)) report.add(ids, "an index in a bundle is outside its array");
  for (const Input& in : p.inputs)
    if (!inside(in.name, p.names) || !named(p, in.axes))
      report.add(ids, "an index in an input is outside its array");
  for (std::uint32_t f = 0; f < p.functions.size(); ++f)
    if (const std::string where = function_inside(p, p.functions[f]); !where.empty()) {
      const NameId name = p.functions[f].name;
      report.add(ids, fmt::format("function {} (@{}): an index in {} is outside its array", f,
                                  inside(name, p.names) ? p.text(name) : "?", where));
    }
}

void check_structure(Report& report, FunctionId id) {
  const Function& f = report.program.function(id);
  if (std::string why = check_axes(report.program, f.axes); !why.empty())
    return report.add(axes, id, std::move(why));
  for (const Value& v : f.values)
    if (std::string why = check_type(f.axes, v.type); !why.empty())
      return report.add(types, id, std::move(why));
  if (!check_regions(report, id) || !check_definitions(report, id)) return;
  check_uses(report, id);
  check_counts(report, id);
  if (report.any()) return;
  check_attributes(report, id);
  check_groups(report, id);
}

}  // namespace gradc::verifier
