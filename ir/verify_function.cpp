// The verifier's part for functions whose structure holds: types, names, kernels, places.
#include <fmt/format.h>

#include <algorithm>

#include "ir/control.h"
#include "ir/kernel.h"
#include "ir/typing.h"
#include "ir/verify_parts.h"

namespace gradc::verifier {
namespace {

bool check_typing(Report& report, FunctionId id) {
  const Program& p = report.program;
  const Function& f = p.function(id);
  std::vector<Type> types;
  bool ok = true;
  for (std::uint32_t i = 0; i < f.ops.size() && !report.full(); ++i) {
    const Op& o = f.ops[i];
    std::string why;
    if (facts(o.code).kind == Kind::control && o.code != Opcode::flat_) {
      types.clear();
      for (ValueId v : o.results) types.push_back(f.type(v));
      why = check_control(p, f, o, types);
    } else {
      why = check_types(p, f, o.code, o.operands, o.attr, f.type(o.results[0]));
    }
    if (why.empty()) continue;
    report.add(typing, id, OpId{i}, std::move(why));
    ok = false;
  }
  return ok;
}

void check_names(Report& report, FunctionId id) {
  const Program& p = report.program;
  const Function& f = p.function(id);
  const auto proper = [&](Invariant invariant, NameId n, std::unordered_set<std::uint32_t>& seen,
                          std::string_view what) {
    if (!text::is_name(p.text(n)))
      report.add(invariant, id, fmt::format("{} `{}` has no proper name", what, p.text(n)));
    if (!seen.insert(n.index).second)
      report.add(invariant, id, fmt::format("two {}s are called `{}`", what, p.text(n)));
  };
  std::unordered_set<std::uint32_t> seen_results, seen_values;
  if (!f.result_names.empty() && f.result_names.size() != f.body().results.size())
    report.add(
        results, id,
        fmt::format("has {} names for {} results", f.result_names.size(), f.body().results.size()));
  for (NameId n : f.result_names) proper(results, n, seen_results, "result");
  for (const Value& v : f.values)
    if (v.name.valid()) proper(value_names, v.name, seen_values, "value");
  for (const Group& g : f.groups) proper(value_names, g.name, seen_values, "group");
}

// "" or what is wrong with where a value lies.
std::string check_placement(const Function& f, const Type& t, const Placement& at) {
  const std::int64_t size = bytes(t.dtype);
  if (at.offset < 0 || at.offset % size != 0)
    return "its offset is negative, or no multiple of its element's size";
  bool fits = true, empty = false;
  std::int64_t last = 0;
  for (int i = 0; i < t.axes.size(); ++i) {
    const std::int64_t stride = at.strides[static_cast<std::size_t>(i)], n = f.extent(t.axes[i]);
    std::int64_t step = 0;
    if (stride < 0) return "a stride is negative";
    empty |= n == 0;
    fits &= n == 0 || (!__builtin_mul_overflow(stride, n - 1, &step) &&
                       !__builtin_add_overflow(last, step, &last));
  }
  std::int64_t end = 0;
  fits &= !__builtin_add_overflow(last, 1, &end) && !__builtin_mul_overflow(end, size, &end) &&
          !__builtin_add_overflow(end, at.offset, &end);
  return fits || empty ? "" : "it ends beyond 64 bits";
}

void check_placements(Report& report, FunctionId id) {
  const Function& f = report.program.function(id);
  if (f.placed.empty()) return;
  if (f.family != Family::none) return report.add(placements, id, "a kernel's values have places");
  for (std::uint32_t v = 0; v < f.values.size(); ++v)
    if (f.placed[v].arena != Arena::none)
      if (std::string why = check_placement(f, f.values[v].type, f.placed[v]); !why.empty())
        report.add(placements, id, f.values[v].def, std::move(why));
  const auto placed = [&](ValueId v) { return f.placed[v.index].arena != Arena::none; };
  const auto all = [&](const std::vector<ValueId>& list) {
    return std::all_of(list.begin(), list.end(), placed);
  };
  if (!all(f.body().arguments) || !all(f.body().results))
    report.add(placements, id, "an argument or a result has no place");
  for (std::uint32_t i = 0; i < f.ops.size(); ++i)
    if (f.ops[i].code == Opcode::launch_ && (!all(f.ops[i].operands) || !all(f.ops[i].results)))
      report.add(placements, id, OpId{i}, "an operand or result of a launch has no place");
}

}  // namespace

void check_function(Report& report, FunctionId id) {
  const Function& f = report.program.function(id);
  const bool typed = check_typing(report, id);
  check_names(report, id);
  if (f.family != Family::none && typed)
    if (KernelFault k = check_kernel(report.program, f); !k.why.empty())
      report.add(kernels, id, k.op, std::move(k.why));
  check_placements(report, id);
}

}  // namespace gradc::verifier
