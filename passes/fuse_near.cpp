// Why a candidate was not found: what came near a spelling of fused.def and misses it by something
// that its author can change. A candidate is known by the factor that it is about; a value further
// on may still be found with it, so reasons are told at the end.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "passes/fuse_parts.h"

namespace gradc::fusing {

using namespace canonical;

namespace {

bool meets(const AxisList& a, const AxisList& b) {
  return std::any_of(a.begin(), a.end(), [&](AxisId x) { return b.contains(x); });
}

}  // namespace

std::vector<Remark> Finder::near() const {
  std::vector<Remark> out;
  for (const auto& [key, remark] : near_)
    if (!done_.contains(key)) out.push_back(remark);
  return out;
}

void Finder::missed(Claim claim, BaseId anchor, std::string text, std::string advice) {
  if (!options_.on(claim)) return;
  near_.try_emplace(
      {claim, anchor},
      Remark{.at = at_, .claim = claim, .text = std::move(text), .advice = std::move(advice)});
}

std::string Finder::shown(TermId t) const {
  const ValueId v = in_.value(t);
  if (v.valid()) return text_of_value(program_, f_, v);
  return fmt::format("a value [{}]", text_of_axes(program_, f_, in_.axes(t)));
}

bool Finder::has_factor_along(TermId t, const AxisList& axes, BaseId but) const {
  for (const Factor& f : in_.factors(t))
    if (f.base != but && f.power > 0 && meets(in_.base(f.base).axes, axes)) return true;
  return false;
}

void Finder::near_softmax(TermId t, const Factor& sum) {
  const Base r = in_.base(sum.base);
  if (!in_.is_product(r.arguments[0])) return;
  const AxisList over = list_of(r.attr.axes);
  bool exponentials = false, divided = false;
  for (const Factor& f : in_.factors(r.arguments[0]))
    exponentials = exponentials || is_operation(in_.base(f.base), Opcode::exp_);
  for (const Factor& f : in_.factors(t))
    divided = divided ||
              (is_operation(in_.base(f.base), Opcode::exp_) && meets(in_.base(f.base).axes, over));
  if (!exponentials || !divided) return;
  if (over.size() != 1)
    return missed(Claim::softmax, sum.base,
                  fmt::format("the sum is over several axes, {}", text_of_axes(program_, f_, over)),
                  "merge them into one axis, z[i = n // size(j), j = n % size(j)], and take the "
                  "softmax over that");
  const TermId x = exponent(r.arguments[0]);
  if (!x.valid())
    return missed(Claim::softmax, sum.base, "the sum is of more than exponentials",
                  "divide exp(x) by the sum of the same exp(x); weights can follow");
  bool masked = false, same = true;
  for (const Factor& f : in_.factors(r.arguments[0])) {
    const std::vector<Factor>& above = in_.factors(t);
    const bool there = std::any_of(above.begin(), above.end(), [&](const Factor& g) {
      return g.base == f.base && same_number(g.power, f.power);
    });
    if (in_.base(f.base).kind == Base::indicator)
      masked = masked || !there;
    else
      same = same && there;
  }
  if (same && masked)
    return missed(Claim::softmax, sum.base,
                  "the sum leaves out by a condition what is divided without it",
                  "put the condition on both: softmax[s](x where …)");
  missed(Claim::softmax, sum.base,
         "the exponentials that are divided are not those that are summed",
         "divide exp(x) by the sum of exp of the same x");
}

// … / (Σ exp(x) + 1e-9).
void Finder::near_guarded_softmax(TermId t, const Factor& below) {
  const Sum s = in_.sum(in_.base(below.base).arguments[0]);
  if (s.constant == 0) return;
  for (const Part& p : s.parts) {
    const std::vector<Factor> factors = in_.product(p.product).factors;
    for (const Factor& f : factors) {
      const Base sum = in_.base(f.base);
      if (f.power != 1 || !is_operation(sum, Opcode::sum_)) continue;
      const AxisList over = list_of(sum.attr.axes);
      if (!exponent(sum.arguments[0]).valid() || !has_factor_along(t, over, below.base)) continue;
      return missed(Claim::softmax, below.base,
                    fmt::format("{:.3g} is added to the sum", s.constant / p.coefficient),
                    "leave it out: behind the maximum the sum is at least 1, and a row of which "
                    "all is excluded gives 0");
    }
  }
}

void Finder::near_norm(TermId t, const Factor& root) {
  for (TermId square : in_.under_roots(root.base)) {
    const Sum q = in_.sum(square);
    for (const Part& p : q.parts) {
      const Base* sum = in_.only_base(in_.term(1, in_.product(p.product).factors));
      if (sum == nullptr || !is_operation(*sum, Opcode::sum_) || !in_.is_product(sum->arguments[0]))
        continue;
      const AxisList over = list_of(sum->attr.axes);
      if (!has_factor_along(t, over, root.base)) continue;
      std::vector<Factor> halves = in_.factors(sum->arguments[0]);
      if (std::any_of(halves.begin(), halves.end(),
                      [](const Factor& f) { return f.power != 2 * std::floor(f.power / 2); }))
        continue;
      for (Factor& f : halves) f.power /= 2;
      double n = 1;
      for (AxisId a : over) n *= static_cast<double>(f_.extent(a));
      const TermId b = in_.term(1, std::move(halves));
      const TermId x = in_.bound(b, over);
      const Claim claim = x == b ? Claim::rmsnorm : Claim::layernorm;
      if (q.constant < 0)
        return missed(claim, root.base, fmt::format("{} is added under the root", q.constant),
                      "eps is not negative");
      if (close(p.coefficient, 1 / (n - 1)))
        return missed(claim, root.base,
                      fmt::format("the variance is divided by {}, which is {} - 1", n - 1, n),
                      "divide by n: mean[d](y * y)");
      if (close(p.coefficient, 1))
        return missed(claim, root.base, "under the root stands the sum of squares, not their mean",
                      "divide the sum by n, and the result by sqrt(n)");
      return missed(claim, root.base,
                    fmt::format("what is divided is not {}, whose squares stand under the root",
                                shown(x == b ? b : x)),
                    "divide what was squared, centred in the same way");
    }
  }
}

// … / (sqrt(variance) + eps).
void Finder::near_root_plus(TermId t, const Factor& below) {
  const Sum s = in_.sum(in_.base(below.base).arguments[0]);
  if (s.constant == 0 || s.parts.size() != 1) return;
  const std::vector<Factor>& f = in_.product(s.parts[0].product).factors;
  if (f.size() != 1 || f[0].power != 0.5) return;
  const Base& b = in_.base(f[0].base);
  if (!is_operation(b, Opcode::sum_) || !has_factor_along(t, list_of(b.attr.axes), below.base))
    return;
  missed(Claim::layernorm, below.base, "a number is added to the root, not under it",
         "add eps to the variance: y / sqrt(mean[d](y * y) + eps)");
}

// … / (1 + exp(−kx)).
void Finder::near_silu(TermId t, const Factor& below) {
  const Sum s = in_.sum(in_.base(below.base).arguments[0]);
  if (s.parts.size() != 1 || s.constant <= 0) return;
  const TermId u = exponent(in_.scale(in_.term(s.parts[0]), 1 / s.constant));
  if (u.valid()) near_activation(t, below, in_.scale(u, -0.5), false);
}

void Finder::near_activation(TermId t, const Factor& one_plus, TermId u, bool erf) {
  const Sum s = in_.sum(u);
  const std::vector<Factor> factors = in_.factors(t);
  for (const Factor& f : factors) {
    if (f.base == one_plus.base || f.power < 1) continue;
    const TermId x = in_.term(f.base);
    double ignored = 0;
    if (in_.is_number(x, ignored)) continue;
    const double k = s.parts[0].coefficient / in_.sum(x).parts[0].coefficient;
    if (erf && in_.scale(x, k) == u)
      return missed(
          Claim::gelu, one_plus.base,
          fmt::format("its erf is of {:.6g} times what it multiplies, GELU's of 0.707107", k),
          "the library has it as gelu_erf");
    if (in_.scale(x, k) == u)
      return missed(Claim::silu, one_plus.base,
                    fmt::format("its sigmoid is of {:.6g} times what it multiplies", 2 * k),
                    "SiLU is x * sigmoid(x); GELU is in the library as gelu and gelu_erf");
    const TermId cube = in_.power(x, 3);
    const ProductId cubic = in_.sum(cube).parts[0].product;
    for (const Part& p : s.parts)
      if (p.product == cubic && s.parts.size() > 1)
        return missed(Claim::gelu, one_plus.base,
                      fmt::format("its constants are {:.6g} and {:.6g}, GELU's are 0.797885 and "
                                  "0.044715",
                                  k, p.coefficient / k),
                      "the library has it as gelu");
  }
}

void Finder::near_cross_entropy(BaseId log, TermId x, const Part& l, const Part& g) {
  const Base* gather = in_.only_base(in_.term(1, in_.product(g.product).factors));
  const TermId from = gather->arguments[0];
  if (from != x)
    return missed(Claim::cross_entropy, log,
                  fmt::format("the logarithm is of {}, and the target is read from {}", shown(x),
                              shown(from)),
                  "both are of the same logits");
  missed(Claim::cross_entropy, log,
         fmt::format("the logarithm counts {:.6g} and the target's logit {:.6g}", l.coefficient,
                     g.coefficient),
         "cross_entropy[v](x, target) has both once; what is left can be added");
}

}  // namespace gradc::fusing
