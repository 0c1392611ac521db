// The passes in order: the first file to read. Each takes a program and gives another; the verifier
// looks at every one of them.
#include "passes/pipeline.h"

#include <fmt/format.h>

#include <algorithm>

#include "ir/verify.h"
#include "passes/plan.h"
#include "passes/recompute.h"

namespace gradc {
namespace {

// What a pass gave, if the verifier finds no fault in it.
Result<Program> checked(Program program, std::string_view pass) {
  const std::vector<Fault> faults = verify(program);
  if (faults.empty()) {
    const std::string why = check_claims(program);
    if (why.empty()) return program;
    return failure(Exit::internal, fmt::format("after {}: {}", pass, why));
  }
  return failure(Exit::internal, fmt::format("after {}: {} (and {} more)", pass, faults[0].message,
                                             faults.size() - 1));
}

// Why @update and @step cannot be made, or "".
std::string no_update(const Program& program) {
  if (!program.find("grad").valid()) return "there is no @grad to update with";
  if (program.find("update").valid() || program.find("step").valid())
    return "there is an @update or a @step already";
  const Function& grad = program.function(program.find("grad"));
  const auto is_p = [&](const Group& g) {
    return program.text(g.name) == "p" && !grad.value(g.first).def.valid();
  };
  const auto p = std::find_if(grad.groups.begin(), grad.groups.end(), is_p);
  if (p == grad.groups.end()) return "@grad has no parameters %p";
  const std::vector<ValueId>& results = grad.body().results;
  if (results.size() != p->count + 1) return "@grad does not give the gradients of %p and the loss";
  const DType real = grad.type(p->first).dtype;
  for (std::uint32_t i = 0; i < p->count; ++i)
    if (const Type& t = grad.type(ValueId{p->first.index + i});
        t.dtype != real || !is_real(real) || grad.type(results[i]) != t)
      return "the parameters, or their gradients, are not of one real dtype";
  const std::vector<ValueId>& arguments = grad.body().arguments;
  const auto is_step = [&](ValueId v) {
    return program.text(grad.value(v).name) == "step" && grad.type(v) == Type{DType::i64, {}};
  };
  if (arguments.front() != p->first || std::none_of(arguments.begin(), arguments.end(), is_step))
    return "@grad does not take %p first and an i64 %step";
  return "";
}

bool has_scan(const Program& program) {
  return std::any_of(program.functions.begin(), program.functions.end(), [](const Function& f) {
    return std::any_of(f.ops.begin(), f.ops.end(),
                       [](const Op& op) { return op.code == Opcode::scan_; });
  });
}

// Bytes of activations once the passes behind `recompute` have run.
std::int64_t planned_activations(const Program& program, const Pipeline& options) {
  const Program chunked = chunk(program, options.target, nullptr, options.chunks);
  const Program spread = spread_update(spread_norm(chunked), options.updates);
  const Program planned = plan(group(spread, options.target), options.target, options.entry);
  return summarize_plan(planned, planned.find(options.entry))
      .bytes[static_cast<std::size_t>(Arena::activations)];
}

}  // namespace

Result<Program> run_pipeline(const Program& program, const Pipeline& options) {
  Result<Program> p = program;
  const auto then = [&](std::string_view pass, auto&& run) {
    if (!p) return;
    Result<Program> next = run(*p);
    p = next && options.verify ? checked(std::move(*next), pass) : std::move(next);
    if (p && options.after) options.after(pass, *p);
  };
  const auto simplified = [](const Program& x) -> Result<Program> { return simplify(x); };
  const bool trains =
      options.entry == "step" || options.entry == "update" || options.entry == "grad";

  if (options.verify) p = checked(program, "the frontend");
  if (options.until == Stage::ir) return p;

  then("simplify", simplified);
  then("fuse", [&](const Program& x) -> Result<Program> {
    return fuse(x, options.fuse, options.remarks);
  });
  if (options.until == Stage::fused) return p;

  if (trains) {
    then("differentiate", [&](const Program& x) { return differentiate(x, options.remarks); });
    if (options.entry != "grad")
      then("update", [&](const Program& x) -> Result<Program> {
        if (options.fuse.on(Claim::optimizer)) return add_update(x);
        std::array<bool, claim_count> optimizer{};
        optimizer[static_cast<std::size_t>(Claim::optimizer)] = true;
        return unfuse_claims(add_update(x), optimizer);
      });
    then("simplify", simplified);
  }
  if (options.until == Stage::grad) return p;

  // What has no kernel of its own has done its work: what it keeps is saved. Nothing simplifies
  // behind this, so that what is computed again stays apart from the first time.
  then("unfuse", [](const Program& x) -> Result<Program> { return unfuse(x, false); });
  then("simplify", simplified);
  if (p && has_scan(*p)) {
    then("hoist", [](const Program& x) -> Result<Program> { return hoist(x); });
    then("simplify", simplified);
    then("outline", [](const Program& x) -> Result<Program> { return outline(x); });
  }
  if (options.precision == Precision::bf16) {
    then("precision", [&](const Program& x) -> Result<Program> {
      return lower_precision(x, options.least_reads);
    });
    then("rounded", [](const Program& x) -> Result<Program> { return keep_rounded(x); });
    then("simplify", simplified);
  }
  if (options.memory_budget > 0 && (options.entry == "step" || options.entry == "grad"))
    then("recompute", [&](const Program& x) {
      return recompute(
          x, options.memory_budget,
          [&](const Program& y) { return planned_activations(y, options); }, options.remarks);
    });
  then("chunk", [&](const Program& x) -> Result<Program> {
    return chunk(x, options.target, options.remarks, options.chunks);
  });
  if (trains && options.entry != "grad")
    then("norm", [](const Program& x) -> Result<Program> { return spread_norm(x); });
  if (trains && options.entry == "step")
    then("spread", [&](const Program& x) -> Result<Program> {
      return spread_update(x, options.updates);
    });
  then("group", [&](const Program& x) -> Result<Program> { return group(x, options.target); });
  if (options.until == Stage::grouped) return p;

  then("plan", [&](const Program& x) -> Result<Program> {
    if (std::string why = too_long(x, options.entry); !why.empty())
      return failure(Exit::usage, std::move(why));
    return plan(x, options.target, options.entry);
  });
  return p;
}

const std::vector<PassInfo>& pass_list() {
  static const std::vector<PassInfo> passes{
      {"simplify", "fold, merge, drop what is dead, apply the rules of passes/rules.def"},
      {"fuse", "recognise softmax, attention, norms and their like (passes/fused.def)"},
      {"unfuse", "put the definitions of fused operations in their places"},
      {"differentiate", "add @grad, the gradient of @loss by its parameters"},
      {"update", "add @update, the optimizer, and @step, which calls @grad and @update"},
      {"hoist", "compute before or behind a scan what needs no recurrence"},
      {"outline", "give the region of every scan to a function that it calls"},
      {"precision", "round the operands of contractions to bf16"},
      {"rounded", "keep a copy of the parameters in bf16, which @update writes and products read"},
      {"recompute", "compute every turn of a `repeat` again instead of keeping what it saves"},
      {"chunk", "run a loss over a large vocabulary in chunks of rows"},
      {"norm", "add up the gradient's norm where the gradients are made"},
      {"spread", "update each part of the parameters by itself, as soon as its gradient is there"},
      {"group", "form kernels: launches of definitions shared by structure"},
      {"plan",
       "inline the calls of @step (or @grad, @eval, @loss), order, and place every value in "
       "memory"},
  };
  return passes;
}

Result<Program> run_pass(const Program& program, std::string_view pass, const Target& target) {
  const auto run = [&]() -> Result<Program> {
    if (pass == "simplify") return simplify(program);
    if (pass == "fuse") return fuse(program);
    if (pass == "unfuse") return unfuse(program);
    if (pass == "differentiate") return differentiate(program);
    if (pass == "update") {
      if (std::string why = no_update(program); !why.empty())
        return failure(Exit::text, std::move(why));
      return add_update(program);
    }
    if (pass == "hoist") return hoist(program);
    if (pass == "outline") return outline(program);
    if (pass == "precision") return lower_precision(program);
    if (pass == "rounded") return keep_rounded(program);
    if (pass == "recompute") return recompute_turns(program, recomputable_turns(program));
    if (pass == "chunk") return chunk(program, target);
    if (pass == "norm") return spread_norm(program);
    if (pass == "spread") return spread_update(program);
    if (pass == "group") return group(program, target);
    if (pass == "plan") {
      for (std::string_view entry : {"step", "grad", "eval", "loss"})
        if (program.find(entry).valid()) return plan(program, target, entry);
      return failure(Exit::text, "there is no @step, @grad, @eval or @loss to plan");
    }
    return failure(Exit::usage, fmt::format("there is no pass `{}`", pass));
  };
  Result<Program> p = run();
  return p ? checked(std::move(*p), pass) : std::move(p);
}

}  // namespace gradc
