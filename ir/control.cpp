// Type rules of call, launch, fused and scan.
#include "ir/control.h"

#include <fmt/format.h>

#include "ir/diagnostic.h"
#include "ir/typing.h"

namespace gradc {
namespace {

std::string counts(std::string_view what, std::size_t have, std::size_t want) {
  return have == want ? "" : fmt::format("has {} {}, not {}", have, what, want);
}

std::string check_call(const Program& p, const Function& f, const Op& op,
                       std::span<const Type> results) {
  const Function& callee = p.function(op.attr.callee);
  if ((callee.family == Family::none) != (op.code == Opcode::call_))
    return callee.family == Family::none ? "launches what is no kernel" : "calls a kernel";
  const Region& body = callee.body();
  if (std::string why = counts("operands", op.operands.size(), body.arguments.size()); !why.empty())
    return why;
  if (std::string why = counts("results", results.size(), body.results.size()); !why.empty())
    return why;
  std::vector<AxisId> map(callee.axes.size());
  const auto bind = [&](ValueId theirs, const Type& ours, std::string_view what,
                        std::size_t i) -> std::string {
    const std::string why = bind_axes(callee, callee.type(theirs), f, ours, map);
    return why.empty() ? "" : fmt::format("{} {}: {}", what, i, why);
  };
  for (std::size_t i = 0; i < op.operands.size(); ++i)
    if (std::string why = bind(body.arguments[i], f.type(op.operands[i]), "operand", i);
        !why.empty())
      return why;
  for (std::size_t i = 0; i < results.size(); ++i)
    if (std::string why = bind(body.results[i], results[i], "result", i); !why.empty()) return why;
  // Were two of the callee's axes one of the caller's, inlining would change what an outer product
  // means.
  std::vector<char> taken(f.axes.size(), 0);
  for (AxisId a : map) {
    if (!a.valid()) continue;
    if (taken[a.index])
      return fmt::format("two axes of the callee stand for `{}`", p.text(f.axis(a).name));
    taken[a.index] = 1;
  }
  return "";
}

std::string same(const Program& p, const Function& f, const Type& have, const Type& want,
                 std::string_view what, std::size_t i) {
  if (have == want) return "";
  return fmt::format("{} {} is {}, not {}", what, i, describe(p, f, have), describe(p, f, want));
}

std::string check_fused(const Program& p, const Function& f, const Op& op,
                        std::span<const Type> results) {
  const Region& r = f.regions[op.regions[0].index];
  if (std::string why = counts("region arguments", r.arguments.size(), op.operands.size());
      !why.empty())
    return why;
  if (std::string why = counts("results", results.size(), r.results.size()); !why.empty())
    return why;
  if (results.empty()) return "has no result";
  for (std::size_t i = 0; i < r.arguments.size(); ++i)
    if (std::string why =
            same(p, f, f.type(r.arguments[i]), f.type(op.operands[i]), "region argument", i);
        !why.empty())
      return why;
  for (std::size_t i = 0; i < results.size(); ++i)
    if (std::string why = same(p, f, results[i], f.type(r.results[i]), "result", i); !why.empty())
      return why;
  return "";
}

std::string check_scan(const Program& p, const Function& f, const Op& op,
                       std::span<const Type> results) {
  const Region& r = f.regions[op.regions[0].index];
  const std::size_t states = op.attr.carried, slices = op.attr.sliced;
  const AxisId along = op.attr.from;
  if (states + slices > op.operands.size()) return "has fewer operands than it carries and slices";
  if (std::string why = counts("region arguments", r.arguments.size(), op.operands.size());
      !why.empty())
    return why;
  if (std::string why = counts("results", results.size(), r.results.size()); !why.empty())
    return why;
  if (results.empty()) return "has no result";
  if (results.size() < states) return "yields fewer values than it carries";
  for (std::size_t i = 0; i < op.operands.size(); ++i) {
    Type want = f.type(op.operands[i]);
    if (i >= states && i < states + slices) {
      if (!want.axes.contains(along))
        return fmt::format("operand {} has no axis `{}` to slice", i, p.text(f.axis(along).name));
      want.axes = want.axes.without(along);
    }
    if (std::string why = same(p, f, f.type(r.arguments[i]), want, "region argument", i);
        !why.empty())
      return why;
  }
  for (std::size_t i = 0; i < results.size(); ++i) {
    const Type& yielded = f.type(r.results[i]);
    if (i < states) {
      const Type& state = f.type(op.operands[i]);
      if (std::string why = same(p, f, yielded, state, "next state", i); !why.empty()) return why;
      if (std::string why = same(p, f, results[i], state, "result", i); !why.empty()) return why;
      continue;
    }
    if (yielded.axes.contains(along))
      return fmt::format("collected value {} has axis `{}` already", i, p.text(f.axis(along).name));
    if (yielded.axes.full()) return "result would have too many axes";
    if (results[i].dtype != yielded.dtype || !same_set(results[i].axes, yielded.axes.with(along)))
      return fmt::format("result {} is {}, not {} along `{}`", i, describe(p, f, results[i]),
                         describe(p, f, yielded), p.text(f.axis(along).name));
  }
  return "";
}

}  // namespace

std::string check_control(const Program& program, const Function& f, const Op& op,
                          std::span<const Type> results) {
  switch (op.code) {
    case Opcode::call_:
    case Opcode::launch_: return check_call(program, f, op, results);
    case Opcode::fused_: return check_fused(program, f, op, results);
    case Opcode::scan_: return check_scan(program, f, op, results);
    default: internal_error("an operation without region or callee has its rule in ir/typing.cpp");
  }
}

}  // namespace gradc
