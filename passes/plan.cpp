// Plans the memory of one entry function: inlines its calls (turns too, those of scans by
// passes/plan_turns.cpp), keeps the order of its launches but for what passes/plan_order.cpp
// moves, drops dead ones, and gives every value a place, so that a step allocates
// nothing.
//
// 1. Places that callers know come first (passes/plan_boundary.cpp): parameters, moments and
//    gradients at the offsets of their bundle's leaves, inputs and scalars in 64-byte slots,
//    results in theirs. A result that replaces an argument (p, m, v of a step) is written over it
//    if the launch reads it only element by element and nobody reads it later.
// 2. Backward over the launches (passes/plan_layout.cpp), each reader tells where it wants a value:
//    inside the buffer of a concat, in a gradient's slot, with two axes adjacent for a merge, over
//    or under a result that may be written in place. Through views the wish becomes one about the
//    value that they look at. What no reader asks for lies dense in the order of its type.
// 3. Forward, the function is written again (passes/plan_write.cpp), with a copy where a wish could
//    not be met: a merge of axes that lie apart, an argument that has to be elsewhere, a value
//    wanted in two places.
// 4. The buffers of the activation arena are packed by their times of life (passes/plan_pack.cpp).
//
// What could go wrong here is checked by code that shares nothing with it: passes/check_plan.cpp.
#include "passes/plan.h"

#include <fmt/format.h>

#include "ir/diagnostic.h"
#include "ir/walk.h"
#include "passes/passes.h"

namespace gradc {
namespace planning {

ValueId under_axes(Builder& to, ValueId v, const AxisList& axes) {
  const auto relabel = [&](int i, AxisId axis) {
    v = to.add(Opcode::relabel_, {v}, {.from = to.type(v).axes[i], .to = axis});
  };
  for (;;) {
    int other = -1;
    for (int i = 0; i < axes.size(); ++i) {
      if (to.type(v).axes[i] == axes[i]) continue;
      other = i;
      if (!to.type(v).axes.contains(axes[i])) break;
    }
    if (other < 0) return v;
    // By way of a new one, if two have changed places.
    const AxisId want = axes[other];
    relabel(other, to.type(v).axes.contains(want)
                       ? to.fresh_axis(to.program().text(to.function().axis(want).name),
                                       to.function().extent(want))
                       : want);
  }
}

namespace {

// Every operation of `f`, its calls replaced by the bodies of functions that have no calls any
// more, its scans by their turns.
Function without_calls(Program& program, const Function& f) {
  Function out;
  out.name = f.name;
  Builder to(program, out);
  Cloner copy(f, to);
  copy.arguments();
  for (OpId id : f.body().ops) inline_operation(program, f, id, to, copy);
  std::vector<ValueId> results;
  for (ValueId v : f.body().results) results.push_back(copy(v));
  to.finish(results, f.result_names);
  return out;
}

}  // namespace

void inline_operation(const Program& program, const Function& f, OpId id, Builder& to,
                      Cloner& copy) {
  const Op& op = f.op(id);
  if (op.code == Opcode::scan_) return inline_turns(program, f, op, to, copy);
  if (op.code != Opcode::call_) return copy.clone(id);
  std::vector<ValueId> operands;
  for (ValueId v : op.operands) operands.push_back(copy(v));
  const std::vector<ValueId> made = inline_call(program.function(op.attr.callee), to, operands);
  for (std::size_t i = 0; i < made.size(); ++i)
    copy.map(op.results[i], under_axes(to, made[i], copy(f.type(op.results[i])).axes));
}

Function inline_calls(Program& program, std::string_view entry) {
  const FunctionId root = program.find(entry);
  if (!root.valid()) internal_error(fmt::format("there is no function @{} to plan", entry));
  for (FunctionId f : reachable(program, {root}))
    if (program.function(f).family == Family::none)
      program.functions[f.index] = without_calls(program, program.function(f));
  return program.function(root);
}

}  // namespace planning

Program plan(const Program& program, const Target&, std::string_view entry) {
  Program out = program;
  const Function flat = planning::order_launches(out, planning::inline_calls(out, entry));
  Function placed = planning::lay_out(out, flat);
  // Behind its kernels, copies too, so that the text has definitions first.
  out.function(out.find(entry)).name = {};
  out.functions.push_back(std::move(placed));
  drop_unreachable(out, {std::string(entry)});
  return out;
}

std::string unsupported(const Program& program, std::string_view entry) {
  const FunctionId root = program.find(entry);
  if (!root.valid()) return fmt::format("there is no function @{}", entry);
  for (FunctionId id : reachable(program, {root})) {
    const Function& f = program.function(id);
    if (f.family != Family::none) continue;
    for (OpId o : f.body().ops) {
      const Op& op = f.op(o);
      switch (op.code) {
        case Opcode::launch_:
        case Opcode::call_:
        case Opcode::concat_:
        case Opcode::flat_: continue;
        case Opcode::scan_:  // its region: what is called there is looked at by itself
          if (f.regions[op.regions[0].index].ops.size() <= 1) continue;
          [[fallthrough]];
        default:
          if (!planning::is_static_view(op))
            return fmt::format("@{}: `{}` runs in the interpreter only", program.text(f.name),
                               facts(op.code).name);
      }
    }
  }
  return "";
}

std::string too_long(const Program& program, std::string_view entry) {
  constexpr double most = 1 << 18;
  const FunctionId root = program.find(entry);
  if (!root.valid()) return "";
  std::vector<double> launches(program.functions.size(), 0);
  for (FunctionId id : reachable(program, {root})) {
    const Function& f = program.function(id);
    if (f.family != Family::none) continue;
    double& all = launches[id.index];
    walk(
        f, [](RegionId, OpId) {},
        [&](OpId o) {
          const Op& op = f.op(o);
          if (op.code == Opcode::launch_) ++all;
          if (op.code == Opcode::call_) all += launches[op.attr.callee.index];
          if (op.code != Opcode::scan_) return;
          // One turn counts where its region is walked.
          for (OpId inner : f.regions[op.regions[0].index].ops)
            if (const FunctionId callee = f.op(inner).attr.callee; callee.valid())
              all += launches[callee.index] * static_cast<double>(f.extent(op.attr.from) - 1);
        },
        [](RegionId, OpId) {});
  }
  if (launches[root.index] <= most) return "";
  return fmt::format(
      "@{} would be a step of {:.0f} launches, and at most {:.0f} are planned: fewer turns of its "
      "scans, or layers, or `run --interpret`",
      entry, launches[root.index], most);
}

}  // namespace gradc
