// The entries: any gradient, and @grad from @loss. passes/derive.h does the work.
#include "passes/differentiate.h"

#include <fmt/format.h>

#include "passes/activity.h"
#include "passes/derive.h"
#include "passes/passes.h"

namespace gradc {
namespace {

// The arguments of @loss that are members of %p.
std::vector<std::uint32_t> parameters(const Program& program, const Function& loss) {
  std::vector<std::uint32_t> out;
  for (const Group& g : loss.groups) {
    if (program.text(g.name) != "p" || g.count == 0 || loss.value(g.first).def.valid()) continue;
    for (std::uint32_t i = 0; i < loss.body().arguments.size(); ++i)
      if (const ValueId v = loss.body().arguments[i];
          v.index >= g.first.index && v.index < g.first.index + g.count)
        out.push_back(i);
  }
  return out;
}

}  // namespace

Result<FunctionId> add_gradient(Program& program, FunctionId f,
                                const std::vector<std::uint32_t>& wrt, std::string_view name) {
  const Function& fn = program.function(f);
  if (fn.family != Family::none)
    return failure(Exit::text, "a kernel has no derivative: differentiate before grouping");
  for (std::uint32_t i : wrt)
    if (i >= fn.body().arguments.size() || !is_real(fn.type(fn.body().arguments[i]).dtype))
      return failure(Exit::text,
                     fmt::format("argument {} of @{} is no real", i, program.text(fn.name)));
  return derive(program, f, wrt, name, "");
}

Result<Program> differentiate(const Program& program, std::vector<Remark>* remarks) {
  const FunctionId loss = program.find("loss");
  if (!loss.valid()) return failure(Exit::text, "there is no @loss to differentiate");
  if (program.find("grad").valid()) return failure(Exit::text, "there is a @grad already");
  const Function& fn = program.function(loss);
  if (fn.body().results.size() != 1 || !is_real(fn.type(fn.body().results[0]).dtype) ||
      !fn.type(fn.body().results[0]).axes.empty())
    return failure(Exit::text, "@loss does not give one real scalar");
  Program out = program;
  const std::vector<std::uint32_t> wrt = parameters(program, fn);
  Result<FunctionId> made = derive(out, loss, wrt, "grad", "p", remarks);
  if (!made) return std::move(made.failure());
  return out;
}

std::vector<std::string> unreached_parameters(const Program& program) {
  std::vector<std::string> out;
  const FunctionId loss = program.find("loss");
  if (!loss.valid()) return out;
  const Function& fn = program.function(loss);
  const std::vector<std::uint32_t> wrt = parameters(program, fn);
  const Activity activity(program, loss, wrt);
  for (const Group& g : fn.groups) {
    if (program.text(g.name) != "p" || fn.value(g.first).def.valid()) continue;
    std::uint32_t next = g.first.index;
    for (const Leaf& leaf : leaves(program, g.bundle))
      if (!activity.wanted(loss, ValueId{next++})) out.push_back(leaf.stored);
  }
  return out;
}

}  // namespace gradc
