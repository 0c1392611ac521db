// Horner's scheme for several variables, greedily: the factor that most terms of a sum have is taken out of
// them with whatever else they share, and what is left of them and the other terms are factored likewise.
#include "passes/group_factor.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <iterator>

namespace gradc::grouping {
namespace {

bool is_constant(const Sum& s) { return s.size() == 1 && s[0].factors.empty(); }
Product times(Product a, const Product& b) {
  a.constant *= b.constant;
  a.factors.insert(a.factors.end(), b.factors.begin(), b.factors.end());
  std::sort(a.factors.begin(), a.factors.end());
  return a;
}
std::vector<Factor> without(const std::vector<Factor>& from,
                                   const std::vector<Factor>& what) {
  std::vector<Factor> rest;
  std::set_difference(from.begin(), from.end(), what.begin(), what.end(),
                      std::back_inserter(rest));
  return rest;
}
std::vector<Factor> common(const Sum& s) {
  std::vector<Factor> all = s[0].factors;
  for (const Product& p : s) {
    std::vector<Factor> both;
    std::set_intersection(all.begin(), all.end(), p.factors.begin(), p.factors.end(),
                          std::back_inserter(both));
    all = std::move(both);
  }
  return all;
}

}  // namespace

Sum value_of(ValueId v) { return {{1, {v.index}}}; }

Sum scaled(Sum s, double c) {
  for (Product& p : s) p.constant *= c;
  return s;
}

Sum added(Sum a, const Sum& b) {
  a.insert(a.end(), b.begin(), b.end());
  Sum out;
  double constant = 0;
  std::ptrdiff_t at = 0, met = 0;
  for (Product& p : a) {
    if (!p.factors.empty()) {
      out.push_back(std::move(p));
      continue;
    }
    if (met++ == 0) at = std::ssize(out);
    constant += p.constant;
  }
  if (met > 0 && (met == 1 || constant != 0 || out.empty()))
    out.insert(out.begin() + at, {constant, {}});
  return out;
}

Sum Factoring::multiplied(const Sum& a, const Sum& b) {
  if (is_constant(a)) return scaled(b, a[0].constant);
  if (is_constant(b)) return scaled(a, b[0].constant);
  Product left = as_product(a);
  return {times(std::move(left), as_product(b))};
}

// A sum as a product: what all its terms share, and what is left as one factor.
Product Factoring::as_product(const Sum& s) {
  if (s.size() == 1) return s[0];
  Product out{1, common(s)};
  const double size = std::abs(s[0].constant);
  const bool alike = std::all_of(
      s.begin(), s.end(), [&](const Product& p) { return std::abs(p.constant) == size; });
  if (alike && size != 0) out.constant = size;
  Sum rest;
  for (const Product& p : s)
    rest.push_back({p.constant / out.constant, without(p.factors, out.factors)});
  out.factors.push_back(nested(rest));
  std::sort(out.factors.begin(), out.factors.end());
  return out;
}

// The factor that stands for a sum: the same for the same.
Factor Factoring::nested(const Sum& s) {
  std::vector<std::pair<std::uint64_t, std::vector<Factor>>> key;
  for (const Product& p : s)
    key.emplace_back(std::bit_cast<std::uint64_t>(p.constant), p.factors);
  const auto [it, fresh] = nested_.try_emplace(key, -1 - static_cast<Factor>(sums_.size()));
  if (fresh) sums_.push_back(s);
  return it->second;
}

AxisList Factoring::axes_of(Factor x) const {
  if (x < 0) return axes_of(sums_[static_cast<std::size_t>(-1 - x)]);
  return function_.type(ValueId{static_cast<std::uint32_t>(x)}).axes;
}
AxisList Factoring::axes_of(const Sum& s) const {
  AxisList out;
  for (const Product& p : s)
    for (Factor y : p.factors) out = unite(out, axes_of(y));
  return out;
}

int Factoring::add_step(Step step) {
  steps_.push_back(std::move(step));
  return static_cast<int>(steps_.size()) - 1;
}
int Factoring::operation(Opcode code, int a, int b) {
  const AxisList all = b >= 0 ? unite(axes(a), axes(b)) : axes(a);
  return add_step({.kind = Step::operation, .code = code, .a = a, .b = b, .axes = all});
}
int Factoring::step_of(Factor x) {
  const auto it = step_of_.find(x);
  if (it != step_of_.end()) return it->second;
  const int n =
      x < 0 ? step_of_sum(sums_[static_cast<std::size_t>(-1 - x)])
            : add_step({.kind = Step::leaf,
                        .value = ValueId{static_cast<std::uint32_t>(x)},
                        .axes = axes_of(x)});
  return step_of_[x] = n;
}

// Factors of fewer axes first: their products are computed less often.
int Factoring::step_of_product(const Product& p, int last) {
  std::vector<int> factors;
  for (Factor x : p.factors) factors.push_back(step_of(x));
  if (last >= 0) factors.push_back(last);
  if (factors.empty()) return number(p.constant);
  const auto rank = [&](int n) { return axes(n).size(); };
  std::stable_sort(factors.begin(), factors.end(),
                   [&](int a, int b) { return rank(a) < rank(b); });
  const bool scales = p.constant != 1 && p.constant != -1;
  const bool early = rank(factors.front()) < rank(factors.back());
  int out = factors[0];
  if (scales && early) out = operation(Opcode::mul_, out, number(p.constant));
  for (std::size_t k = 1; k < factors.size(); ++k)
    out = operation(Opcode::mul_, out, factors[k]);
  if (scales && !early) out = operation(Opcode::mul_, out, number(p.constant));
  return p.constant == -1 ? operation(Opcode::neg_, out) : out;
}

int Factoring::step_of_sum(const Sum& s) {
  if (s.size() == 1) return step_of_product(s[0]);
  // The factor that most terms have, unless what it multiplies has fewer axes: 1 − rate · decay of a
  // parameter is rounded to a parameter's size less well by itself.
  const auto rank = axes_of(s).size();
  std::map<Factor, int> terms;
  for (const Product& p : s)
    for (std::size_t k = 0; k < p.factors.size(); ++k)
      if (k == 0 || p.factors[k] != p.factors[k - 1]) ++terms[p.factors[k]];
  Sum with, rest;
  std::vector<Factor> shared;
  int most = 1;
  for (const auto& [x, count] : terms) {
    if (count <= most) continue;
    Sum having, others;
    for (const Product& p : s)
      (std::binary_search(p.factors.begin(), p.factors.end(), x) ? having : others).push_back(p);
    const std::vector<Factor> out = common(having);
    for (Product& p : having) p.factors = without(p.factors, out);
    if (axes_of(having).size() < rank) continue;
    most = count;
    with = std::move(having);
    rest = std::move(others);
    shared = out;
  }
  if (most == 1) return step_of_terms(s);
  const int product = step_of_product({1, shared}, step_of_sum(with));
  if (rest.empty()) return product;
  if (rest.size() == 1 && rest[0].constant < 0)
    return operation(Opcode::sub_, product, step_of_product({-rest[0].constant, rest[0].factors}));
  return operation(Opcode::add_, product, step_of_sum(rest));
}

// One by one, in order, a positive one first.
int Factoring::step_of_terms(const Sum& s) {
  auto first = std::find_if(s.begin(), s.end(), [](const Product& p) { return p.constant > 0; });
  if (first == s.end()) first = s.begin();
  int out = step_of_product(*first);
  for (auto p = s.begin(); p != s.end(); ++p) {
    if (p == first) continue;
    const bool minus = p->constant < 0;
    const int term = step_of_product({minus ? -p->constant : p->constant, p->factors});
    out = operation(minus ? Opcode::sub_ : Opcode::add_, out, term);
  }
  return out;
}

}  // namespace gradc::grouping
