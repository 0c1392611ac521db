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

constexpr double gelu_a = 0.7978845608028654, gelu_b = 0.044715;  // √(2/π)
constexpr double half_root = 0.7071067811865476;

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
    const auto it =
        std::find_if(rest.begin(), rest.end(), [&](const Factor& r) { return r.base == f.base; });
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

// Attention is grown around a softmax.
bool Finder::on(Claim claim) const {
  return options_.on(claim) || (claim == Claim::softmax && options_.on(Claim::attention));
}

std::optional<Found> Finder::find(ValueId v, TermId t) {
  dtype_ = f_.type(v).dtype;
  at_ = f_.op(f_.value(v).def).loc;
  if (!in_.is_product(t)) t = gathered(t);
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
    if (found) {
      done_.insert({found->spelling->claim, f.base});
      return found;
    }
    if (f.power == -0.5) near_norm(t, f);
    if (f.power == -1 && b.kind == Base::sum) near_root_plus(t, f);
    if (f.power == -1 && b.kind == Base::sum) near_silu(t, f);
    if (f.power == -1 && b.kind == Base::sum) near_guarded_softmax(t, f);
    if (f.power == -1 && is_operation(b, Opcode::sum_)) near_softmax(t, f);
  }
  return std::nullopt;
}

std::optional<Found> Finder::fits(Claim claim, const FormWords& w, TermId t) {
  if (!on(claim)) return std::nullopt;
  for (const Spelling& s : spellings()) {
    if (s.claim != claim) continue;
    const TermId whole = form_of(s.formula, w, in_, f_, dtype_);
    if (const auto rest = quotient(in_, t, whole))
      return Found{.spelling = s.also ? &definition(claim) : &s, .words = w, .rest = *rest};
  }
  return std::nullopt;
}

// … · (Σ b² · c + eps)^−½: x is b, or what of b has the summed axes, up to a factor k with c =
// k²/n.
std::optional<Found> Finder::norm(TermId t, const Factor& root) {
  const std::vector<TermId> written = in_.under_roots(root.base);
  for (TermId square : written) {
    const Sum q = in_.sum(square);
    if (q.constant < 0) continue;
    for (const Part& p : q.parts) {
      const Base* sum = in_.only_base(in_.term(1, in_.product(p.product).factors));
      if (sum == nullptr || !is_operation(*sum, Opcode::sum_) || p.coefficient <= 0 ||
          !in_.is_product(sum->arguments[0]))
        continue;
      FormWords w{.eps = q.constant, .over = list_of(sum->attr.axes)};
      std::vector<Factor> halves = in_.factors(sum->arguments[0]);
      if (std::any_of(halves.begin(), halves.end(),
                      [](const Factor& f) { return f.power != 2 * std::floor(f.power / 2); }))
        continue;
      for (Factor& f : halves) f.power /= 2;
      double n = 1;
      for (AxisId a : w.over) n *= static_cast<double>(f_.extent(a));
      const TermId b = in_.term(1, std::move(halves));
      double k = std::sqrt(p.coefficient * n);
      if (close(k, 1)) k = 1;
      // The text may have a multiple of what the form chose, of either sign.
      for (const double multiple : {k, -k}) {
        const TermId y = in_.scale(b, multiple), x = in_.bound(y, w.over);
        if (k != 1 && !in_.value(x).valid() && !in_.value(y).valid()) continue;
        // A layernorm is the rmsnorm of what is centred: the larger one first.
        double ignored = 0;
        w.x = x;
        if (!in_.is_number(x, ignored))
          if (auto found = fits(Claim::layernorm, w, t)) return found;
        w.x = y;
        if (in_.value(x).valid() || in_.value(y).valid() || multiple > 0)
          if (auto found = fits(Claim::rmsnorm, w, t)) return found;
      }
    }
  }
  return std::nullopt;
}

// x·f(kx) is f of kx over k, which is not what its author wrote: only a multiple that is there, or
// one that a form took out of a sum.
bool Finder::as_written(TermId x) {
  double ignored = 0;
  if (in_.is_number(x, ignored)) return false;
  const double k = in_.sum(x).parts[0].coefficient;
  if (std::fabs(k) == 1 || in_.value(x).valid()) return true;
  const TermId unit = in_.scale(x, 1 / k);
  return !in_.value(unit).valid() && !in_.value(in_.scale(unit, -1)).valid();
}

// x·c + x·tanh(u)·c is x·(1 + tanh(u))·c.
TermId Finder::gathered(TermId t) {
  const Sum s = in_.sum(t);
  for (const Part& p : s.parts) {
    const std::vector<Factor> factors = in_.product(p.product).factors;
    for (const Factor& f : factors) {
      const Base b = in_.base(f.base);
      if (f.power != 1 || (!is_operation(b, Opcode::tanh_) && !is_operation(b, Opcode::erf_)))
        continue;
      std::vector<Factor> rest;
      for (const Factor& g : factors)
        if (g.base != f.base) rest.push_back(g);
      const TermId x = in_.term(p.coefficient, rest);
      for (const double sign : {1.0, -1.0}) {
        if (in_.sub(t, in_.term(p)) != in_.scale(x, sign)) continue;
        const TermId one = in_.number(sign);
        return in_.mul(x, in_.add(in_.term(f.base), one));
      }
    }
  }
  return t;
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
  w.x = in_.scale(u, 2);
  std::optional<Found> found;
  if (tanh && as_written(w.x)) found = fits(Claim::silu, w, t);
  if (!found) found = tanh ? gelu_tanh(t, u) : gelu_erf(t, u);
  if (!found) near_activation(t, one_plus, u, !tanh);
  return found;
}

// u = a·x + a·b·x³, up to the factor k that the form took out of x.
std::optional<Found> Finder::gelu_tanh(TermId t, TermId u) {
  const Sum s = in_.sum(u);
  for (const Part& p : s.parts) {
    std::vector<Factor> root = in_.product(p.product).factors;
    if (std::any_of(root.begin(), root.end(),
                    [](const Factor& f) { return f.power != 3 * std::floor(f.power / 3); }))
      continue;
    for (Factor& f : root) f.power /= 3;
    const TermId x = in_.term(1, std::move(root));
    const TermId linear = in_.sub(u, in_.term(p));
    double ignored = 0;
    if (in_.is_number(linear, ignored)) continue;
    const double ak = in_.sum(linear).parts[0].coefficient / in_.sum(x).parts[0].coefficient;
    if (in_.scale(x, ak) != linear) continue;
    const double k = close(std::fabs(ak), gelu_a) ? std::copysign(1, ak) : ak / gelu_a;
    FormWords w{.x = in_.scale(x, k), .a = tidy(ak / k), .b = tidy(p.coefficient / (ak * k * k))};
    if (!close(w.b, gelu_b) || !as_written(w.x)) continue;
    if (auto found = fits(Claim::gelu, w, t)) return found;
  }
  return std::nullopt;
}

// u = a·x.
std::optional<Found> Finder::gelu_erf(TermId t, TermId u) {
  std::vector<TermId> candidates;
  const std::vector<Factor> factors = in_.factors(t);
  for (const Factor& f : factors)
    if (f.power >= 1) candidates.push_back(in_.term(f.base));
  if (in_.is_product(u)) candidates.push_back(in_.scale(u, 1 / in_.coefficient(u)));
  for (TermId x : candidates) {
    double ignored = 0;
    if (in_.is_number(x, ignored)) continue;
    const double ak = in_.sum(u).parts[0].coefficient / in_.sum(x).parts[0].coefficient;
    if (in_.scale(x, ak) != u) continue;
    const double k = close(std::fabs(ak), half_root) ? std::copysign(1, ak) : ak / half_root;
    const FormWords w{.x = in_.scale(x, k), .a = tidy(ak / k)};
    if (!as_written(w.x)) continue;
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
  for (const double sign : {1.0, -1.0}) {
    w.x = in_.scale(minus_x, sign);
    if (!as_written(w.x)) continue;
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
  std::optional<Found> found = fits(Claim::softmax, w, t);
  if (!found) found = contracted_softmax(t, sum, w);
  // exp(log softmax(x) − m): by itself exp(−m) may be infinite where the softmax is 0.
  if (found && (has_exponential(found->rest) ||
                (found->weights.valid() && has_exponential(found->weights)))) {
    missed(Claim::softmax, sum.base, "it is multiplied by another exponential",
           "name the softmax in a line of its own");
    return std::nullopt;
  }
  return found;
}

bool Finder::has_exponential(TermId t) {
  if (!in_.is_product(t)) return false;
  const std::vector<Factor>& factors = in_.factors(t);
  return std::any_of(factors.begin(), factors.end(), [&](const Factor& f) {
    return is_operation(in_.base(f.base), Opcode::exp_);
  });
}

// … · contract(exp(x) · weights, with) / Σ exp(x).
std::optional<Found> Finder::contracted_softmax(TermId t, const Factor& sum, const FormWords& w) {
  if (!on(Claim::softmax)) return std::nullopt;
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
  if (!on(Claim::cross_entropy)) return std::nullopt;
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
          gather->attr.from != w.over[0])
        continue;
      if (gather->arguments[0] != w.x || !same_number(g.coefficient, -l.coefficient)) {
        near_cross_entropy(in_.product(l.product).factors[0].base, w.x, l, g);
        continue;
      }
      done_.insert({Claim::cross_entropy, in_.product(l.product).factors[0].base});
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
