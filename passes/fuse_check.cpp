// Claims, proved again: the form of a region's result must be the formula of its claim.
#include <fmt/format.h>

#include <algorithm>

#include "ir/attention.h"
#include "passes/fuse_parts.h"

namespace gradc {
namespace {

using canonical::Algebra;
using canonical::TermId;

std::string check_formula(const Program& program, const Function& f, const Region& region,
                          Claim claim) {
  Algebra in(program, f);
  for (OpId o : region.ops)
    for (ValueId v : f.op(o).results) in.of(v);
  const ValueId y = region.results[0];
  const TermId t = in.of(y);
  const FuseOptions every;
  fusing::Finder finder(program, f, in, every);
  const auto found = finder.find(y, t);
  double rest = 0;
  const bool whole = found && found->spelling->claim == claim && !found->contracted &&
                     in.is_number(found->rest, rest) && rest == (found->added ? 0 : 1) &&
                     found->coefficient == 1;
  if (!whole || in.value(found->words.x) != region.arguments[0])
    return "its region is not the formula of the claim";
  if (found->words.target.valid() &&
      (region.arguments.size() != 2 || in.value(found->words.target) != region.arguments[1]))
    return "its target is not its second operand";
  // Behind it what differentiation keeps: statistics of rows.
  for (std::size_t i = 1; i < region.results.size(); ++i) {
    const AxisList& axes = f.type(region.results[i]).axes;
    const auto summed = [&](AxisId x) { return axes.contains(x); };
    if (found->words.over.empty() ||
        std::any_of(found->words.over.begin(), found->words.over.end(), summed))
      return fmt::format("its result {} is no statistic of its rows", i + 1);
  }
  return "";
}

// AdamW or SGD as passes/update.cpp makes them, whatever the numbers. Arguments: (p, g, m, v, rate,
// spread), and `keep`, the factor of p, where something decays; or (p, g, m, lr).
std::string check_optimizer(const Program& program, const Function& f, const Region& region) {
  const std::vector<ValueId>& a = region.arguments;
  const std::size_t count = region.results.size();
  const bool adamw = count == 3 && (a.size() == 6 || a.size() == 7);
  if (!adamw && (count != 2 || a.size() != 4))
    return "an optimizer gives p, m and v of p, g, m, v, rate, spread; or p and m of p, g, m, lr";
  Algebra in(program, f);
  std::vector<double> numbers{0};
  for (OpId o : region.ops) {
    if (f.op(o).code == Opcode::constant_) numbers.push_back(f.op(o).attr.real);
    for (ValueId v : f.op(o).results) in.of(v);
  }
  const auto form = [&](std::size_t i) { return in.of(a[i]); };
  const auto result = [&](std::size_t i) { return in.of(region.results[i]); };
  // c · state + (whole ? 1 : 1 − c) · x for some number c of the region.
  const auto moves = [&](TermId next, TermId state, TermId x, bool whole) {
    return std::any_of(numbers.begin(), numbers.end(), [&](double c) {
      return next == in.add(in.scale(state, c), in.scale(x, whole ? 1 : 1 - c));
    });
  };
  if (!adamw) {
    if (!moves(result(1), form(2), form(1), true)) return "its m is not momentum * m + g";
    if (result(0) != in.sub(form(0), in.mul(form(3), result(1)))) return "its p is not p - lr * m";
    return "";
  }
  const TermId kept = a.size() == 7 ? in.mul(form(0), form(6)) : form(0);
  if (!moves(result(1), form(2), form(1), false)) return "its m is no running mean of g";
  if (!moves(result(2), form(3), in.mul(form(1), form(1)), false))
    return "its v is no running mean of g * g";
  const TermId root = in.mul(in.power(result(2), 0.5), form(5));
  const bool steps = std::any_of(numbers.begin(), numbers.end(), [&](double eps) {
    const TermId below = in.add(root, in.number(eps));
    return result(0) == in.sub(kept, in.mul(form(4), in.div(result(1), below)));
  });
  return steps ? "" : "its p is not p - rate * m / (sqrt(v) * spread + eps)";
}

}  // namespace

std::string check_claim(const Program& program, const Function& f, const Op& fused) {
  const Region& region = f.regions[fused.regions[0].index];
  if (fused.attr.claim != Claim::none && region.results.empty()) return "it has no result";
  switch (fused.attr.claim) {
    case Claim::none:
      return "";
    case Claim::optimizer:
      return check_optimizer(program, f, region);
    case Claim::attention: {
      AttentionForm form;
      return attention_form(f, region, form);
    }
    case Claim::attention_grad: {
      AttentionGradForm form;
      return attention_grad_form(f, region, form);
    }
    case Claim::softmax: {
      SoftmaxForm form;
      if (!softmax_form(f, region.results[0], form)) return "its region is no softmax";
      if (region.arguments.size() != 1 || form.x != region.arguments[0])
        return "its softmax is not of its operand";
      return "";
    }
    case Claim::layernorm:
    case Claim::rmsnorm:
    case Claim::cross_entropy:
    case Claim::gelu:
    case Claim::silu:
      return check_formula(program, f, region, fused.attr.claim);
  }
  return "";
}

std::string check_claims(const Program& program) {
  for (const Function& f : program.functions)
    for (const Op& op : f.ops)
      if (op.code == Opcode::fused_)
        if (const std::string why = check_claim(program, f, op); !why.empty())
          return fmt::format("@{}: `fused {}`: {}", program.text(f.name), name(op.attr.claim), why);
  return "";
}

}  // namespace gradc
