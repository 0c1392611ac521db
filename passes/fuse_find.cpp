// Finds the spellings of fused.def in canonical forms. Each claim is looked for where its rarest
// factor stands (a root, a sum of exponentials, a tanh), which tells what the formula's words are;
// whether the formula with these words divides the form then decides.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "passes/fuse_parts.h"

namespace gradc::fusing {

using namespace canonical;

namespace {

bool is_operation(const Base& b, Opcode code) {
  return b.kind == Base::operation && b.code == code;
}

AxisList list_of(const std::vector<AxisId>& axes) {
  AxisList out;
  for (AxisId a : axes) out.push_back(a);
  return out;
}

// Scaling of forms rounds: the number of fewest digits that is as good as equal.
double tidy(double x) {
  for (int digits = 6; digits < 17; ++digits)
    if (const double y = std::stod(fmt::format("{:.{}g}", x, digits));
        std::fabs(y - x) <= 1e-15 * std::fabs(x))
      return y;
  return x;
}

// t / part, factor by factor; a plain factor may be there more often.
std::optional<TermId> quotient(Algebra& in, TermId t, TermId part) {
  if (!in.is_product(t) || !in.is_product(part)) return std::nullopt;
  std::vector<Factor> rest = in.factors(t);
  for (const Factor& f : in.factors(part)) {
    const auto it = std::find_if(rest.begin(), rest.end(),
                                 [&](const Factor& r) { return r.base == f.base; });
    if (it == rest.end()) return std::nullopt;
    if (same_number(it->power, f.power)) {
      rest.erase(it);
    } else if (f.power == 1 && it->power > 1 && it->power == std::floor(it->power) &&
               !is_operation(in.base(f.base), Opcode::exp_)) {
      it->power -= 1;
    } else {
      return std::nullopt;
    }
  }
  const double c = in.coefficient(t) / in.coefficient(part);
  return in.term(close(c, 1) ? 1 : tidy(c), std::move(rest));
}

}  // namespace

std::optional<Found> Finder::find(ValueId v, TermId t) {
  dtype_ = f_.type(v).dtype;
  return in_.is_product(t) ? product(t) : cross_entropy(t);
}

std::optional<Found> Finder::product(TermId t) {
  const std::vector<Factor> factors = in_.factors(t);
  for (const Factor& f : factors) {
    const Base b = in_.base(f.base);
    std::optional<Found> found;
    if (f.power == -0.5)
      found = norm(t, f);
    else if (f.power == 1 && b.kind == Base::sum)
      found = activation(t, f);
    else if (f.power == -1 && b.kind == Base::sum)
      found = silu(t, f);
    else if (f.power == -1 && is_operation(b, Opcode::sum_))
      found = softmax(t, f);
    if (found) return found;
  }
  return std::nullopt;
}

std::optional<Found> Finder::fits(Claim claim, const FormWords& w, TermId t) {
  if (!options_.on(claim)) return std::nullopt;
  for (const Spelling& s : spellings()) {
    if (s.claim != claim) continue;
    const TermId whole = form_of(s.formula, w, in_, f_, dtype_);
    if (const auto rest = quotient(in_, t, whole))
      return Found{.spelling = s.also ? &definition(claim) : &s, .words = w, .rest = *rest};
  }
  return std::nullopt;
}

// … · (Σ b² · c + …)^−½: x is b, or what of b has the summed axes.
std::optional<Found> Finder::norm(TermId t, const Factor& root) {
  const Base q = in_.base(root.base);
  struct Reduction {
    BaseId sum;
    double coefficient;
  };
  std::vector<Reduction> reductions;
  double constant = 0;
  if (is_operation(q, Opcode::sum_)) {
    reductions.push_back({root.base, 1});
  } else if (q.kind == Base::sum) {
    const Sum s = in_.sum(q.arguments[0]);
    constant = s.constant;
    for (const Part& p : s.parts) {
      const std::vector<Factor>& f = in_.product(p.product).factors;
      if (f.size() == 1 && f[0].power == 1 && is_operation(in_.base(f[0].base), Opcode::sum_))
        reductions.push_back({f[0].base, p.coefficient});
    }
  }
  for (const Reduction& r : reductions) {
    const Base sum = in_.base(r.sum);
    if (!in_.is_product(sum.arguments[0]) || r.coefficient <= 0 || constant < 0) continue;
    std::vector<Factor> halves = in_.factors(sum.arguments[0]);
    if (std::any_of(halves.begin(), halves.end(),
                    [](const Factor& f) { return f.power != 2 * std::floor(f.power / 2); }))
      continue;
    for (Factor& f : halves) f.power /= 2;
    FormWords w;
    w.over = list_of(sum.attr.axes);
    double n = 1;
    for (AxisId a : w.over) n *= static_cast<double>(f_.extent(a));
    const double eps = constant / (r.coefficient * n);
    const TermId b = in_.term(1, std::move(halves));
    const TermId centred = in_.bound(b, w.over);
    // A form has a coefficient of its own choice; the value of the text may be a multiple.
    const auto as_written = [&](TermId x) {
      const double k = in_.sum(x).parts[0].coefficient;
      w.x = in_.value(x).valid() || k == 1 ? x : in_.scale(x, 1 / k);
      w.eps = tidy(w.x == x ? eps : eps / (k * k));
    };
    // A layernorm is the rmsnorm of what is centred: the larger one first.
    double ignored = 0;
    if (!in_.is_number(centred, ignored)) {
      as_written(centred);
      if (auto found = fits(Claim::layernorm, w, t)) return found;
    }
    as_written(b);
    if (auto found = fits(Claim::rmsnorm, w, t)) return found;
  }
  return std::nullopt;
}

// … · (1 + tanh(u)) and … · (1 + erf(u)).
std::optional<Found> Finder::activation(TermId t, const Factor& one_plus) {
  const Sum s = in_.sum(in_.base(one_plus.base).arguments[0]);
  if (s.parts.size() != 1 || std::fabs(s.constant) != 1 || s.parts[0].coefficient != 1)
    return std::nullopt;
  const Base* inner = in_.only_base(in_.term(s.parts[0]));
  if (inner == nullptr) return std::nullopt;
  const bool tanh = is_operation(*inner, Opcode::tanh_);
  if (!tanh && !is_operation(*inner, Opcode::erf_)) return std::nullopt;
  // tanh(u) − 1 is −(1 + tanh(−u)).
  const TermId u = in_.scale(inner->arguments[0], s.constant);
  FormWords w;
  if (tanh) {
    w.x = in_.scale(u, 2);
    if (auto found = fits(Claim::silu, w, t)) return found;
    constexpr double a = 0.7978845608028654, b = 0.044715;
    // u = a·x + a·b·x³ up to the coefficient k of x.
    for (const Part& p : in_.sum(u).parts) {
      std::vector<Factor> root = in_.product(p.product).factors;
      if (std::any_of(root.begin(), root.end(), [](const Factor& f) {
            return f.power != 3 * std::floor(f.power / 3) || f.power == 0;
          }))
        continue;
      for (Factor& f : root) f.power /= 3;
      const TermId x = in_.term(1, std::move(root));
      const TermId linear = in_.sub(u, in_.term(p));
      double ignored = 0;
      if (in_.is_number(linear, ignored)) continue;
      const double ak = in_.sum(linear).parts[0].coefficient / in_.sum(x).parts[0].coefficient;
      if (in_.scale(x, ak) != linear) continue;
      const double k = close(std::fabs(ak), a) ? std::copysign(1, ak) : ak / a;
      w.x = in_.scale(x, k);
      w.a = tidy(ak / k);
      w.b = tidy(p.coefficient / (ak * k * k));
      if (!close(w.b, b)) continue;
      if (auto found = fits(Claim::gelu, w, t)) return found;
    }
    return std::nullopt;
  }
  constexpr double half_root = 0.7071067811865476;
  std::vector<TermId> candidates;
  for (const Factor& f : in_.factors(t))
    if (f.power >= 1) candidates.push_back(in_.term(f.base));
  if (in_.is_product(u)) candidates.push_back(in_.scale(u, 1 / in_.coefficient(u)));
  for (TermId x : candidates) {
    double ignored = 0;
    if (in_.is_number(x, ignored)) continue;
    const double ak = in_.sum(u).parts[0].coefficient / in_.sum(x).parts[0].coefficient;
    if (in_.scale(x, ak) != u) continue;
    const double k = close(std::fabs(ak), half_root) ? std::copysign(1, ak) : ak / half_root;
    w.x = in_.scale(x, k);
    w.a = tidy(ak / k);
    if (auto found = fits(Claim::gelu, w, t)) return found;
  }
  return std::nullopt;
}

TermId Finder::exponent(TermId t) {
  if (!in_.is_product(t) || in_.coefficient(t) <= 0) return {};
  for (const Factor& f : in_.factors(t)) {
    const Base& b = in_.base(f.base);
    if (!is_operation(b, Opcode::exp_) && b.kind != Base::indicator) return {};
  }
  return in_.log(t);
}

// … / (1 + exp(−x)).
std::optional<Found> Finder::silu(TermId t, const Factor& below) {
  const Sum s = in_.sum(in_.base(below.base).arguments[0]);
  if (s.parts.size() != 1 || s.constant <= 0) return std::nullopt;
  const TermId minus_x = exponent(in_.scale(in_.term(s.parts[0]), 1 / s.constant));
  if (!minus_x.valid()) return std::nullopt;
  FormWords w;
  for (const double sign : {-1.0, 1.0}) {
    w.x = in_.scale(minus_x, sign);
    if (auto found = fits(Claim::silu, w, t)) return found;
  }
  return std::nullopt;
}

// … · exp(x) / Σ exp(x).
std::optional<Found> Finder::softmax(TermId t, const Factor& sum) {
  const Base r = in_.base(sum.base);
  FormWords w;
  w.x = exponent(r.arguments[0]);
  w.over = list_of(r.attr.axes);
  if (!w.x.valid() || w.over.size() != 1) return std::nullopt;
  if (auto found = fits(Claim::softmax, w, t)) return found;
  return contracted_softmax(t, sum, w);
}

// … · contract(exp(x) · weights, with) / Σ exp(x).
std::optional<Found> Finder::contracted_softmax(TermId t, const Factor& sum, const FormWords& w) {
  if (!options_.on(Claim::softmax)) return std::nullopt;
  const Base r = in_.base(sum.base);
  for (const Factor& f : in_.factors(t)) {
    const Base c = in_.base(f.base);
    if (!is_operation(c, Opcode::contract_) || f.power != 1 || c.attr.axes != r.attr.axes) continue;
    for (const std::size_t i : {0, 1}) {
      const auto weights = quotient(in_, c.arguments[i], r.arguments[0]);
      if (!weights) continue;
      std::vector<Factor> rest;
      for (const Factor& g : in_.factors(t))
        if (g.base != f.base && g.base != sum.base) rest.push_back(g);
      return Found{.spelling = &definition(Claim::softmax),
                   .words = w,
                   .rest = in_.term(in_.coefficient(t), std::move(rest)),
                   .contracted = true,
                   .weights = *weights,
                   .with = c.arguments[1 - i]};
    }
  }
  return std::nullopt;
}

// log Σ exp(x) − gather(x, target) + rest.
std::optional<Found> Finder::cross_entropy(TermId t) {
  if (!options_.on(Claim::cross_entropy)) return std::nullopt;
  const Sum s = in_.sum(t);
  for (const Part& l : s.parts) {
    const Base* log = in_.only_base(in_.term(1, in_.product(l.product).factors));
    if (log == nullptr || !is_operation(*log, Opcode::log_)) continue;
    const Base* sum = in_.only_base(log->arguments[0]);
    if (sum == nullptr || !is_operation(*sum, Opcode::sum_) || sum->attr.axes.size() != 1) continue;
    FormWords w;
    w.over = list_of(sum->attr.axes);
    w.x = exponent(sum->arguments[0]);
    if (!w.x.valid()) continue;
    for (const Part& g : s.parts) {
      const Base* gather = in_.only_base(in_.term(1, in_.product(g.product).factors));
      if (gather == nullptr || !is_operation(*gather, Opcode::gather_) ||
          gather->attr.from != w.over[0] || gather->arguments[0] != w.x ||
          !same_number(g.coefficient, -l.coefficient))
        continue;
      w.target = gather->arguments[1];
      const Spelling& spelling = definition(Claim::cross_entropy);
      const TermId whole = form_of(spelling.formula, w, in_, f_, dtype_);
      return Found{.spelling = &spelling,
                   .words = w,
                   .added = true,
                   .coefficient = l.coefficient,
                   .rest = in_.sub(t, in_.scale(whole, l.coefficient))};
    }
  }
  return std::nullopt;
}

}  // namespace gradc::fusing
