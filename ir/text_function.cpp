// Printing of functions: the head, regions, types and places. The order in which axes are written
// decides where their extents stand, so each part is appended in the order of the text.
#include "ir/text_function.h"

#include <fmt/format.h>

namespace gradc::text {

std::string FunctionPrinter::axis(AxisId a) const {
  return a.valid() ? std::string(p_.text(f_.axis(a).name)) : "_";
}

// In a type, with the extent where the axis occurs first.
void FunctionPrinter::in_type(AxisId a) {
  const std::string name = axis(a);
  out_ += name;
  if (axes_.knows(name)) return;
  axes_.add(name, a, f_.extent(a));
  out_ += fmt::format("={}", f_.extent(a));
}

void FunctionPrinter::type(const Type& t) {
  out_.append(name(t.dtype)) += '[';
  for (int i = 0; i < t.axes.size(); ++i) {
    if (i > 0) out_ += ' ';
    in_type(t.axes[i]);
  }
  out_ += ']';
}

// Whether the rule for axes of bundles (AxisScope::resolve) gives the values just the types that
// they have; if so the axes count as written.
bool FunctionPrinter::bundle_fits(BundleId bundle, std::span<const ValueId> values) {
  const std::vector<Leaf>& leaves = layouts_[bundle].leaves;
  std::vector<std::string> added;
  const auto fits = [&](const Leaf& leaf, const Type& have) {
    const Type& want = leaf.member->type;
    if (want.dtype != have.dtype || want.axes.size() != have.axes.size()) return false;
    AxisList so_far;
    for (int i = 0; i < have.axes.size(); ++i) {
      const Axis& theirs = p_.bundle(leaf.bundle).axes[want.axes[i].index];
      const AxisScope::Resolved r = axes_.resolve(p_.text(theirs.name), theirs.extent, so_far);
      const AxisId a = have.axes[i];
      if (r.axis.valid() ? r.axis != a : (r.fresh != axis(a) || theirs.extent != f_.extent(a)))
        return false;
      if (!r.axis.valid()) {
        axes_.add(r.fresh, a, theirs.extent);
        added.push_back(r.fresh);
      }
      so_far.push_back(a);
    }
    return true;
  };
  bool all = leaves.size() == values.size();
  for (std::size_t i = 0; all && i < leaves.size(); ++i) all = fits(leaves[i], f_.type(values[i]));
  if (!all)
    for (const std::string& name : added) axes_.remove(name);
  return all;
}

// `@params`, or with the types where the axes have other names: `@params(f32[d=4], f32[d n=3])`.
void FunctionPrinter::group_type(const Group& g) {
  std::vector<ValueId> values(g.count);
  for (std::uint32_t i = 0; i < g.count; ++i) values[i] = ValueId{g.first.index + i};
  out_ += fmt::format("@{}", p_.text(p_.bundle(g.bundle).name));
  if (bundle_fits(g.bundle, values)) return;
  for (std::uint32_t i = 0; i < g.count; ++i) {
    out_ += i == 0 ? "(" : ", ";
    type(f_.type(values[i]));
  }
  out_ += ')';
}

void FunctionPrinter::place(ValueId v) {
  if (f_.placed.empty()) return;
  const Placement& at = f_.placed[v.index];
  if (at.arena == Arena::none) return;
  out_ += fmt::format(" at {}+{} [", name(at.arena), at.offset);
  for (int i = 0; i < f_.type(v).axes.size(); ++i)
    out_ += fmt::format("{}{}", i > 0 ? " " : "", at.strides[static_cast<std::size_t>(i)]);
  out_ += ']';
}

// `at p+0` where the members lie one after the other, each in the order of its type's axes;
// otherwise the place of each: `at (p+0 [4 1], none, …)`.
void FunctionPrinter::place_group(const Group& g) {
  if (f_.placed.empty()) return;
  const Placement& first = f_.placed[g.first.index];
  bool dense = first.arena != Arena::none, any = false;
  std::int64_t offset = first.offset;
  for (std::uint32_t i = 0; i < g.count; ++i) {
    const ValueId v{g.first.index + i};
    const Placement& at = f_.placed[v.index];
    const Type& t = f_.type(v);
    any |= at.arena != Arena::none;
    dense &= at.arena == first.arena && at.offset == offset;
    std::int64_t stride = 1;
    for (int a = t.axes.size(); a-- > 0;) {
      dense &= at.strides[static_cast<std::size_t>(a)] == stride;
      stride *= f_.extent(t.axes[a]);
    }
    offset += stride * bytes(t.dtype);
  }
  if (dense) {
    out_ += fmt::format(" at {}+{}", name(first.arena), first.offset);
  } else if (any) {
    out_ += " at (";
    for (std::uint32_t i = 0; i < g.count; ++i) {
      if (i > 0) out_ += ", ";
      const std::size_t begin = out_.size();
      place(ValueId{g.first.index + i});
      if (begin == out_.size())
        out_ += "none";
      else
        out_.erase(begin, 4);  // " at "
    }
    out_ += ')';
  }
}

// Arguments: names, types and places.
void FunctionPrinter::definitions(const std::vector<ValueId>& values, std::string_view between) {
  for (std::size_t i = 0; i < values.size();) {
    if (i > 0) out_ += between;
    if (const Group* g = names_.group_starting_at(values[i])) {
      out_ += names_.group_name(*g) + ": ";
      group_type(*g);
      place_group(*g);
      i += g->count;
    } else {
      out_ += names_[values[i]] + ": ";
      type(f_.type(values[i]));
      place(values[i]);
      ++i;
    }
  }
}

// How many results from `first` on are a bundle's members by name and type; if any, prints them.
std::size_t FunctionPrinter::bundle_result(std::size_t first) {
  const auto name_at = [&](std::size_t i) { return p_.text(f_.result_names[i]); };
  const std::string_view whole = name_at(first);
  const std::vector<ValueId>& results = f_.body().results;
  for (std::size_t dot = whole.find('.'); dot != std::string_view::npos;
       dot = whole.find('.', dot + 1)) {
    const std::string_view prefix = whole.substr(0, dot + 1);
    const auto candidates = bundles_.by_first_leaf.find(std::string(whole.substr(dot + 1)));
    if (candidates == bundles_.by_first_leaf.end()) continue;
    for (BundleId b : candidates->second) {
      const std::vector<Leaf>& leaves = layouts_[b].leaves;
      if (leaves.size() > results.size() - first) continue;
      bool named = true;
      for (std::size_t i = 0; named && i < leaves.size(); ++i) {
        const std::string_view n = name_at(first + i);
        named = n.starts_with(prefix) && n.substr(prefix.size()) == leaves[i].path;
      }
      if (!named || !bundle_fits(b, std::span(results).subspan(first, leaves.size()))) continue;
      out_ += fmt::format("{}: @{}", prefix.substr(0, dot), p_.text(p_.bundle(b).name));
      return leaves.size();
    }
  }
  return 0;
}

void FunctionPrinter::results_of_head() {
  const std::vector<ValueId>& results = f_.body().results;
  if (results.empty()) return;
  const bool named = f_.result_names.size() == results.size();
  out_ += named ? " -> (" : " -> ";
  for (std::size_t i = 0; i < results.size();) {
    if (i > 0) out_ += ", ";
    if (named) {
      if (const std::size_t n = bundle_result(i)) {
        i += n;
        continue;
      }
      out_ += fmt::format("{}: ", p_.text(f_.result_names[i]));
    }
    type(f_.type(results[i++]));
  }
  if (named) out_ += ')';
}

void FunctionPrinter::head() {
  const std::string_view name_of = p_.text(f_.name);
  if (f_.family == Family::none)
    out_ += fmt::format("func @{}(", name_of);
  else
    out_ += fmt::format("kernel @{} {}(", name_of, name(f_.family));
  definitions(f_.body().arguments, ", ");
  out_ += ')';
  results_of_head();
  out_ += " {\n";
}

std::string FunctionPrinter::whole() {
  head();
  // As ir/walk.h, but elided regions are left out.
  struct Frame {
    RegionId region;
    std::size_t next = 0;
  };
  std::vector<Frame> stack{{RegionId{0}}};
  depth_ = 1;
  while (!stack.empty()) {
    Frame& top = stack.back();
    const Region& region = f_.regions[top.region.index];
    line_ = out_.size();
    indent();
    if (top.next == region.ops.size()) {
      out_ += stack.size() == 1 ? "return" : "yield";
      if (!region.results.empty()) out_ += ' ';
      names_.list(out_, region.results);
      --depth_;
      out_ += '\n';
      indent();
      out_ += "}\n";
      stack.pop_back();
      continue;
    }
    const Op& op = f_.op(region.ops[top.next++]);
    if (names_.stands_inline(op)) {
      out_.resize(line_);
      continue;
    }
    operation(op);
    const bool opens = !op.regions.empty() && !elided(op);
    if (opens) region_head(op.regions[0]);
    if (options_.locations) location(op.loc);
    out_ += '\n';
    if (!opens) continue;
    ++depth_;
    stack.push_back({op.regions[0]});
  }
  return std::move(out_);
}

std::string FunctionPrinter::one(OpId op) {
  one_line_ = true;
  operation(f_.op(op));
  return std::move(out_);
}

void FunctionPrinter::region_head(RegionId r) {
  out_ += " { (";
  definitions(f_.regions[r.index].arguments, ", ");
  out_ += ')';
}

}  // namespace gradc::text
