// The algebra of canonical forms.
#include "passes/canonical.h"

#include <algorithm>
#include <cmath>

namespace gradc::canonical {
namespace {

constexpr std::size_t widest = 24;

// Rounded to 30 bits, for keys.
double rounded(double x) {
  if (x == 0 || !std::isfinite(x)) return x == 0 ? 0 : x;
  int e = 0;
  const double m = std::frexp(x, &e);
  return std::ldexp(std::round(std::ldexp(m, 30)), e - 30);
}
double added(double a, double b) {
  const double s = a + b;
  return std::fabs(s) <= 1e-9 * std::max(std::fabs(a), std::fabs(b)) ? 0 : s;
}
bool is_integer(double x) { return x == std::floor(x); }

class Key {
 public:
  explicit Key(char kind) { text_.push_back(kind); }
  template <class T>
  Key& put(const T& x) {
    text_.append(reinterpret_cast<const char*>(&x), sizeof x);
    return *this;
  }
  Key& real(double x) { return put(rounded(x)); }
  Key& set(const AxisList& axes) {
    std::vector<AxisId> sorted(axes.begin(), axes.end());
    std::sort(sorted.begin(), sorted.end());
    return list(sorted);
  }
  template <class List>
  Key& list(const List& items) {
    put(static_cast<std::uint32_t>(items.size()));
    for (const auto& x : items) put(x);
    return *this;
  }
  Key& attr(const Attr& a) {
    real(a.real).put(a.integer).put(a.stride).put(a.from).put(a.to).put(a.bundle).put(a.flag);
    put(a.callee).put(a.claim).put(a.carried).put(a.sliced).put(a.reverse);
    return list(a.axes);
  }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

AxisList without(const AxisList& axes, const AxisList& gone) {
  AxisList out;
  for (AxisId a : axes)
    if (!gone.contains(a)) out.push_back(a);
  return out;
}
bool meets(const AxisList& a, const AxisList& b) {
  return std::any_of(a.begin(), a.end(), [&](AxisId x) { return b.contains(x); });
}

}  // namespace

bool same_number(double a, double b) { return rounded(a) == rounded(b); }
bool close(double a, double b) {
  return std::fabs(a - b) <= 1e-6 * std::max(std::fabs(a), std::fabs(b));
}

TermId Algebra::intern(Sum s) {
  Key key('s');
  key.real(s.constant);
  for (const Part& p : s.parts) key.put(p.product).real(p.coefficient);
  const auto [it, fresh] = known_.try_emplace(key.text(), static_cast<std::uint32_t>(sums_.size()));
  if (fresh) {
    for (const Part& p : s.parts) s.axes = unite(s.axes, product(p.product).axes);
    sums_.push_back(std::move(s));
  }
  return TermId{it->second};
}

ProductId Algebra::intern(std::vector<Factor> factors) {
  Key key('p');
  for (const Factor& f : factors) key.put(f.base).real(f.power);
  const auto [it, fresh] =
      known_.try_emplace(key.text(), static_cast<std::uint32_t>(products_.size()));
  if (fresh) {
    Product p{std::move(factors), {}};
    for (const Factor& f : p.factors) p.axes = unite(p.axes, base(f.base).axes);
    products_.push_back(std::move(p));
  }
  return ProductId{it->second};
}

BaseId Algebra::intern(Base b) {
  Key key('b');
  key.put(b.kind).put(b.of).put(b.code).put(b.dtype).attr(b.attr).list(b.arguments);
  if (b.code == Opcode::uniform_)
    key.list(std::vector<AxisId>(b.axes.begin(), b.axes.end()));  // their order decides the bits
  else
    key.set(b.axes);
  const auto [it, fresh] =
      known_.try_emplace(key.text(), static_cast<std::uint32_t>(bases_.size()));
  if (fresh) bases_.push_back(std::move(b));
  return BaseId{it->second};
}

bool Algebra::is_number(TermId t, double& x) const {
  x = sum(t).constant;
  return sum(t).parts.empty();
}
bool Algebra::is_product(TermId t) const {
  return sum(t).constant == 0 && sum(t).parts.size() == 1;
}
const std::vector<Factor>& Algebra::factors(TermId t) const {
  return product(sum(t).parts[0].product).factors;
}
const Base* Algebra::only_base(TermId t) const {
  if (!is_product(t) || coefficient(t) != 1) return nullptr;
  const std::vector<Factor>& f = factors(t);
  return f.size() == 1 && f[0].power == 1 ? &base(f[0].base) : nullptr;
}

bool Algebra::nonnegative(TermId t) const {
  if (sum(t).constant < 0) return false;
  for (const Part& p : sum(t).parts) {
    if (p.coefficient < 0) return false;
    for (const Factor& f : product(p.product).factors)
      if (!base(f.base).nonnegative && !is_integer(f.power / 2)) return false;
  }
  return true;
}
bool Algebra::masked(TermId t) const {
  return std::any_of(sum(t).parts.begin(), sum(t).parts.end(), [&](const Part& p) {
    const std::vector<Factor>& f = product(p.product).factors;
    return f.size() == 1 && base(f[0].base).kind == Base::mask;
  });
}

TermId Algebra::number(double x) { return intern(Sum{.constant = x}); }
TermId Algebra::term(BaseId b) { return term(1, {{b, 1}}); }

TermId Algebra::term(double coefficient, std::vector<Factor> factors) {
  std::sort(factors.begin(), factors.end(),
            [](const Factor& a, const Factor& b) { return a.base < b.base; });
  std::vector<Factor> merged;
  for (const Factor& f : factors) {
    if (merged.empty() || merged.back().base != f.base)
      merged.push_back(f);
    else
      merged.back().power = added(merged.back().power, f.power);
    // An indicator is its own square.
    if (base(f.base).kind == Base::indicator && merged.back().power > 0) merged.back().power = 1;
  }
  std::erase_if(merged, [](const Factor& f) { return f.power == 0; });
  if (coefficient == 0 || merged.empty()) return number(coefficient);
  if (merged.size() == 1 && merged[0].power == 1) {
    const Base& b = base(merged[0].base);
    if (b.kind == Base::sum) return scale(b.arguments[0], coefficient);
    if (b.kind == Base::mask && coefficient > 0) coefficient = 1;
  }
  if (merged.size() > widest) {
    std::vector<Factor> rest(merged.begin() + widest / 2, merged.end());
    merged.resize(widest / 2);
    const TermId lump = group(term(1, std::move(merged)));
    rest.push_back(this->factors(lump)[0]);
    return term(coefficient, std::move(rest));
  }
  return intern(Sum{.parts = {{intern(std::move(merged)), coefficient}}});
}

TermId Algebra::group(TermId t) {
  return term(intern(
      Base{.kind = Base::group, .arguments = {t}, .axes = axes(t), .nonnegative = nonnegative(t)}));
}

TermId Algebra::add(TermId a, TermId b) {
  if (sum(a).parts.size() + sum(b).parts.size() > widest) {
    if (sum(a).parts.size() >= sum(b).parts.size())
      a = group(a);
    else
      b = group(b);
  }
  const Sum &x = sum(a), &y = sum(b);
  Sum s{.constant = added(x.constant, y.constant)};
  std::size_t i = 0, j = 0;
  while (i < x.parts.size() || j < y.parts.size()) {
    if (j == y.parts.size() || (i < x.parts.size() && x.parts[i].product < y.parts[j].product)) {
      s.parts.push_back(x.parts[i++]);
    } else if (i == x.parts.size() || y.parts[j].product < x.parts[i].product) {
      s.parts.push_back(y.parts[j++]);
    } else {
      double c = added(x.parts[i].coefficient, y.parts[j].coefficient);
      const std::vector<Factor>& f = product(x.parts[i].product).factors;
      if (f.size() == 1 && base(f[0].base).kind == Base::mask) c = x.parts[i].coefficient;
      if (c != 0) s.parts.push_back({x.parts[i].product, c});
      ++i, ++j;
    }
  }
  // Sums of one sum: 2(x + y) − (x + y).
  if (s.constant == 0 && s.parts.size() == 1) return term(s.parts[0]);
  return intern(std::move(s));
}

TermId Algebra::scale(TermId t, double c) {
  if (c == 1) return t;
  if (c == 0) return number(0);
  if (c < 0 && masked(t)) {
    const auto [k, b] = as_factor(t, true);
    return intern(Sum{.parts = {{intern(std::vector<Factor>{{b, 1}}), c * k}}});
  }
  Sum s{.constant = sum(t).constant * c};
  for (const Part& p : sum(t).parts) {
    const std::vector<Factor>& f = product(p.product).factors;
    const bool mask = f.size() == 1 && base(f[0].base).kind == Base::mask;
    s.parts.push_back({p.product, mask ? 1 : p.coefficient * c});
  }
  return intern(std::move(s));
}

std::pair<double, BaseId> Algebra::as_factor(TermId t, bool root) {
  double k = masked(t) ? 1 : sum(t).parts[0].coefficient;
  if (root) k = std::fabs(k);
  const TermId unit = scale(t, 1 / k);
  return {k, intern(Base{.kind = Base::sum,
                         .arguments = {unit},
                         .axes = axes(unit),
                         .nonnegative = nonnegative(unit)})};
}

std::pair<double, std::vector<Factor>> Algebra::as_product(TermId t) {
  if (sum(t).parts.empty()) return {sum(t).constant, {}};
  if (is_product(t)) return {coefficient(t), factors(t)};
  const auto [k, b] = as_factor(t, false);
  return {k, {{b, 1}}};
}

TermId Algebra::mul(TermId a, TermId b) {
  double k = 0;
  if (is_number(a, k)) return scale(b, k);
  if (is_number(b, k)) return scale(a, k);
  auto [c, f] = as_product(a);
  const auto [d, g] = as_product(b);
  f.insert(f.end(), g.begin(), g.end());
  return term(c * d, std::move(f));
}

TermId Algebra::power(TermId t, double p) {
  double k = 0;
  if (p == 1) return t;
  if (is_number(t, k) && std::isfinite(std::pow(k, p))) return number(std::pow(k, p));
  if (sum(t).parts.empty()) {
    const TermId g = group(t);
    return term(1, {{factors(g)[0].base, p}});
  }
  const bool root = !is_integer(p);
  if (!is_product(t)) {
    const auto [c, b] = as_factor(t, root);
    if (root) note_root(b, t);
    return term(std::pow(c, p), {{b, p}});
  }
  double c = coefficient(t);
  std::vector<Factor> f = factors(t);
  // (x²)^½ is |x|, and of a product of unknown signs a root does not come apart.
  if (root) {
    const auto apart = [&](const Factor& x) {
      return base(x.base).nonnegative || (f.size() == 1 && !is_integer(x.power / 2));
    };
    if (c < 0 || !std::all_of(f.begin(), f.end(), apart)) {
      const TermId g = group(c < 0 ? t : term(1, f));
      f = {{factors(g)[0].base, 1}};
      if (c < 0) c = 1;
    }
  }
  if (root && f.size() == 1 && f[0].power == 1) note_root(f[0].base, t);
  for (Factor& x : f) x.power *= p;
  return term(std::pow(c, p), std::move(f));
}

void Algebra::note_root(BaseId b, TermId t) {
  std::vector<TermId>& known = under_roots_[b.index];
  if (std::find(known.begin(), known.end(), t) == known.end()) known.push_back(t);
}
const std::vector<TermId>& Algebra::under_roots(BaseId b) const {
  static const std::vector<TermId> none;
  const auto it = under_roots_.find(b.index);
  return it == under_roots_.end() ? none : it->second;
}

TermId Algebra::exp(TermId t) {
  const Sum s = sum(t);
  if (std::fabs(s.constant) > 80 || std::isnan(s.constant))
    return operation(Opcode::exp_, {}, DType::f32, {t}, s.axes);
  TermId out = number(std::exp(s.constant));
  for (const Part& p : s.parts) {
    const std::vector<Factor> f = product(p.product).factors;
    const Base* b = f.size() == 1 && f[0].power == 1 ? &base(f[0].base) : nullptr;
    TermId factor;
    if (b != nullptr && b->kind == Base::mask) {
      factor = indicator(b->arguments[0]);
    } else if (b != nullptr && b->kind == Base::operation && b->code == Opcode::log_) {
      factor = power(b->arguments[0], p.coefficient);
    } else {
      const TermId one = term(1, f);
      const BaseId e = intern(Base{.kind = Base::operation,
                                   .code = Opcode::exp_,
                                   .arguments = {one},
                                   .axes = axes(one),
                                   .nonnegative = true});
      factor = term(1, {{e, p.coefficient}});
    }
    out = mul(out, factor);
  }
  return out;
}

TermId Algebra::log(TermId t) {
  const auto plain = [&] { return operation(Opcode::log_, {}, DType::f32, {t}, axes(t)); };
  if (!is_product(t) || coefficient(t) <= 0) return plain();
  const std::vector<Factor> f = factors(t);
  for (const Factor& x : f)
    if (!base(x.base).nonnegative && !(f.size() == 1 && x.power == 1)) return plain();
  TermId out = number(std::log(coefficient(t)));
  for (const Factor& x : f) {
    const Base b = base(x.base);
    TermId part;
    if (b.kind == Base::operation && b.code == Opcode::exp_)
      part = b.arguments[0];
    else if (b.kind == Base::indicator && x.power == 1)
      part = mask(b.arguments[0]);
    else
      part = operation(Opcode::log_, {}, DType::f32, {term(x.base)}, b.axes);
    out = add(out, scale(part, x.power));
  }
  return out;
}

TermId Algebra::odd(Opcode code, TermId t, DType dtype) {
  double k = 0;
  if (is_number(t, k)) return number(code == Opcode::tanh_ ? std::tanh(k) : std::erf(k));
  const bool turn = !masked(t) && sum(t).parts[0].coefficient < 0;
  const TermId r = operation(code, {}, dtype, {turn ? scale(t, -1) : t}, axes(t));
  return turn ? scale(r, -1) : r;
}

TermId Algebra::mask(TermId condition) {
  return term(intern(Base{.kind = Base::mask, .arguments = {condition}, .axes = axes(condition)}));
}
TermId Algebra::indicator(TermId condition) {
  return term(intern(Base{.kind = Base::indicator,
                          .arguments = {condition},
                          .axes = axes(condition),
                          .nonnegative = true}));
}

TermId Algebra::operation(Opcode code, const Attr& attr, DType dtype, std::vector<TermId> arguments,
                          const AxisList& axes) {
  if (facts(code).commutes) std::sort(arguments.begin(), arguments.end());
  const bool nonnegative_result = code == Opcode::exp_ || code == Opcode::abs_ ||
                                  (code == Opcode::sum_ && nonnegative(arguments[0]));
  // exp, log and reductions are found across widths of reals.
  const bool any_real = code == Opcode::exp_ || code == Opcode::log_;
  return term(intern(Base{.kind = Base::operation,
                          .code = code,
                          .attr = attr,
                          .dtype = any_real ? DType::f32 : dtype,
                          .arguments = std::move(arguments),
                          .axes = axes,
                          .nonnegative = nonnegative_result}));
}

TermId Algebra::bound(TermId t, const AxisList& over) {
  Sum s;
  for (const Part& p : sum(t).parts)
    if (meets(product(p.product).axes, over)) s.parts.push_back(p);
  if (s.parts.size() == 1) return term(s.parts[0]);
  return intern(std::move(s));
}

// Parts and factors without any of the axes come out; an axis that nothing has is a factor. An
// indicator stays: where it is 0 everywhere the sum of nothing must be seen.
TermId Algebra::sum_over(TermId t, const AxisList& over, DType dtype) {
  const auto extents = [&](const AxisList& missing) {
    double n = 1;
    for (AxisId a : missing) n *= static_cast<double>(f_.extent(a));
    return n;
  };
  const TermId inner = bound(t, over);
  TermId out = scale(sub(t, inner), extents(over));
  double ignored = 0;
  if (is_number(inner, ignored)) return out;
  if (!is_product(inner) && !masked(inner)) {
    const std::vector<Part> parts = sum(inner).parts;
    for (const Part& p : parts) {
      const TermId one = term(p);
      out = add(out, sum_over(one, over, dtype));
    }
    return out;
  }
  const double n = extents(without(over, axes(inner)));
  AxisList rest;
  for (AxisId a : over)
    if (axes(inner).contains(a)) rest.push_back(a);
  double c = n;
  std::vector<Factor> outside, inside;
  if (is_product(inner)) {
    c *= coefficient(inner);
    for (const Factor& f : factors(inner))
      (meets(base(f.base).axes, rest) || base(f.base).kind == Base::indicator ? inside : outside)
          .push_back(f);
  }
  const TermId unit = is_product(inner) ? term(1, inside) : inner;
  if (!outside.empty()) {
    const TermId reduced = sum_over(unit, rest, dtype);
    return add(out, mul(term(c, outside), reduced));
  }
  Attr attr;
  attr.axes.assign(rest.begin(), rest.end());
  TermId argument = unit;
  if (const Base* b = only_base(unit);
      b != nullptr && b->kind == Base::operation && b->code == Opcode::sum_) {
    attr.axes.insert(attr.axes.end(), b->attr.axes.begin(), b->attr.axes.end());
    argument = b->arguments[0];
  }
  std::sort(attr.axes.begin(), attr.axes.end());
  const AxisList left = without(axes(unit), rest);
  const TermId reduced = operation(Opcode::sum_, attr, dtype, {argument}, left);
  return add(out, scale(reduced, c));
}

TermId Algebra::contract(TermId a, TermId b, const AxisList& result, DType dtype) {
  const AxisList summed = without(unite(axes(a), axes(b)), result);
  TermId outer = number(1);
  const auto take = [&](TermId t) {
    if (sum(t).parts.empty()) return t;
    if (!is_product(t)) {
      if (masked(t)) return t;
      const double c = sum(t).parts[0].coefficient;
      outer = scale(outer, c);
      return scale(t, 1 / c);
    }
    std::vector<Factor> outside, inside;
    for (const Factor& f : factors(t))
      (meets(base(f.base).axes, summed) || base(f.base).kind == Base::indicator ? inside : outside)
          .push_back(f);
    if (inside.empty()) return t;
    outer = mul(outer, term(coefficient(t), outside));
    return term(1, inside);
  };
  const TermId x = take(a), y = take(b);
  Attr attr;
  attr.axes.assign(summed.begin(), summed.end());
  std::sort(attr.axes.begin(), attr.axes.end());
  const TermId c =
      operation(Opcode::contract_, attr, dtype, {x, y}, without(unite(axes(x), axes(y)), summed));
  return mul(outer, c);
}

}  // namespace gradc::canonical
