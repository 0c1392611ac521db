// Gives the region of each scan to a function of its own, `@f.turn`, so that what comes behind sees
// nothing but functions: grouping forms a turn's kernels as it does any function's, and the plan
// inlines a turn as it inlines a call. The region that is left hands its arguments to one call:
//
//     %h, %hs = scan t carry 1 slice 1 %h0, %z, %w -> … { (%s, %x, %w)
//       %y = call @f.turn %s, %x, %w -> f32[b d]
//       yield %y, %y
//     }
//
// A value that is yielded twice is one result of the call, and what the region yields of its own
// arguments does not go through it: so the plan sees which sequences are those of a state. A scan
// along an axis without positions has no turn; it gives its states and empty sequences. Scans
// within a scan are outlined in the function that their region went to. What is outlined already
// stays as it is. Linear.
#include <fmt/format.h>

#include <algorithm>

#include "ir/builder.h"
#include "passes/passes.h"

namespace gradc {
namespace {

class Outliner {
 public:
  explicit Outliner(const Program& program) : from_(program), out_(program) {
    out_.functions.clear();
  }

  Program run() {
    std::vector<FunctionId> roots;
    for (std::uint32_t i = 0; i < from_.functions.size(); ++i) {
      roots.push_back(FunctionId{i});
      names_.push_back(from_.functions[i].name);
    }
    std::vector<FunctionId> now(from_.functions.size());
    for (FunctionId id : reachable(from_, roots)) {  // callees first
      Function f = from_.function(id);
      for (Op& op : f.ops)
        if (op.attr.callee.valid()) op.attr.callee = now[op.attr.callee.index];
      now[id.index] = push(without_regions(f));
    }
    for (Bundle& b : out_.bundles)
      for (Member& m : b.members)
        if (m.initial.function.valid()) m.initial.function = now[m.initial.function.index];
    return std::move(out_);
  }

 private:
  FunctionId push(Function f) {
    out_.functions.push_back(std::move(f));
    return FunctionId{static_cast<std::uint32_t>(out_.functions.size() - 1)};
  }

  // The function with its scans calling; the functions that they call are in the program then. As
  // deep as scans nest, which the parsers bound.
  Function without_regions(const Function& f) {
    const auto scans = [&](OpId o) {
      return f.op(o).code == Opcode::scan_ && !is_outlined(f, f.op(o));
    };
    const std::vector<OpId>& ops = f.body().ops;
    if (f.family != Family::none || std::none_of(ops.begin(), ops.end(), scans)) return f;
    Function made{.name = f.name};
    Builder to(out_, made);
    Cloner copy(f, to);
    copy.arguments();
    for (OpId id : ops) {
      if (!scans(id))
        copy.clone(id);
      else if (f.extent(f.op(id).attr.from) == 0)
        no_turn(f, f.op(id), to, copy);
      else
        scan(f, f.op(id), to, copy);
    }
    std::vector<ValueId> results;
    for (ValueId v : f.body().results) results.push_back(copy(v));
    to.finish(results, f.result_names);
    return made;
  }

  // The region hands on to a call, or has nothing to compute.
  static bool is_outlined(const Function& f, const Op& scan) {
    const Region& region = f.regions[scan.regions[0].index];
    if (f.extent(scan.attr.from) == 0 || region.ops.size() > 1) return false;
    return region.ops.empty() || (f.op(region.ops[0]).code == Opcode::call_ &&
                                  f.op(region.ops[0]).operands == region.arguments);
  }

  static void no_turn(const Function& f, const Op& op, Builder& to, Cloner& copy) {
    to.at = op.loc;
    for (std::size_t r = 0; r < op.results.size(); ++r) {
      const Type type = copy(f.type(op.results[r]));
      if (r < op.attr.carried) {
        copy.map(op.results[r], copy(op.operands[r]));
        continue;
      }
      const ValueId zero =
          is_real(type.dtype) ? to.constant(0, type.dtype) : to.integer(0, type.dtype);
      copy.map(op.results[r], to.expand(zero, type.axes));
    }
  }

  // What the call gives: each yielded value once, arguments aside.
  static std::vector<ValueId> computed(const Function& f, const Region& region) {
    std::vector<ValueId> out;
    for (ValueId v : region.results)
      if (f.value(v).def.valid() && std::find(out.begin(), out.end(), v) == out.end())
        out.push_back(v);
    return out;
  }

  Function turn(const Function& f, const Op& op, const std::vector<ValueId>& results) {
    const Region& region = f.regions[op.regions[0].index];
    std::string wish = fmt::format("{}.turn", out_.text(f.name));
    for (int n = 2; std::any_of(names_.begin(), names_.end(),
                                [&](NameId taken) { return out_.text(taken) == wish; });
         ++n)
      wish = fmt::format("{}.turn{}", out_.text(f.name), n);
    Function made{.name = out_.intern(wish)};
    names_.push_back(made.name);
    Builder to(out_, made);
    Cloner copy(f, to);
    for (ValueId v : region.arguments)
      copy.map(v, to.argument(copy(f.type(v)), out_.text(f.value(v).name)));
    copy.inline_region(region);
    std::vector<ValueId> given;
    for (ValueId v : results) given.push_back(copy(v));
    to.finish(given);
    return made;
  }

  void scan(const Function& f, const Op& op, Builder& to, Cloner& copy) {
    const Region& region = f.regions[op.regions[0].index];
    const std::vector<ValueId> results = computed(f, region);
    FunctionId callee;
    if (!results.empty()) callee = push(without_regions(turn(f, op, results)));
    std::vector<ValueId> operands, arguments;
    std::vector<Type> types, call_types;
    for (ValueId v : op.operands) operands.push_back(copy(v));
    for (ValueId v : op.results) types.push_back(copy(f.type(v)));
    for (ValueId v : results) call_types.push_back(copy(f.type(v)));
    const Attr attr = copy(op.attr);
    to.at = op.loc;
    const RegionId opened = to.open();
    for (ValueId v : region.arguments) {
      arguments.push_back(to.argument(copy(f.type(v)), out_.text(f.value(v).name)));
      copy.map(v, arguments.back());
    }
    if (callee.valid()) {
      const std::vector<ValueId> made =
          to.add_multi(Opcode::call_, arguments, {.callee = callee}, call_types);
      for (std::size_t i = 0; i < made.size(); ++i) {
        copy.map(results[i], made[i]);
        to.name(made[i], out_.text(f.value(results[i]).name));
      }
    }
    std::vector<ValueId> yields;
    for (ValueId v : region.results) yields.push_back(copy(v));
    to.close(yields);
    const std::vector<ValueId> made =
        to.add_multi(Opcode::scan_, operands, attr, types, std::array{opened});
    for (std::size_t i = 0; i < made.size(); ++i) {
      copy.map(op.results[i], made[i]);
      to.name(made[i], out_.text(f.value(op.results[i]).name));
    }
  }

  const Program& from_;
  Program out_;
  std::vector<NameId> names_;  // of functions
};

}  // namespace

Program outline(const Program& program) {
  const auto scans = [](const Function& f) {
    return std::any_of(f.ops.begin(), f.ops.end(),
                       [](const Op& op) { return op.code == Opcode::scan_; });
  };
  if (std::none_of(program.functions.begin(), program.functions.end(), scans)) return program;
  return Outliner(program).run();
}

}  // namespace gradc
