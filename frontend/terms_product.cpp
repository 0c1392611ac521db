// Sums of products. Factors are joined two at a time, the pair first whose result is smallest, and
// an axis is summed as soon as no other factor has it; a pair that is a matrix product becomes one
// `contract`. Numbers and values without axes wait behind the sum.
#include <algorithm>

#include "frontend/terms.h"

namespace gradc {
namespace {

double elements(const Axes& axes) {
  double n = 1;
  for (const NamedAxis* a : axes) n *= static_cast<double>(a->extent);
  return n;
}

Axes intersection(const Axes& a, const Axes& b) {
  Axes out;
  for (const NamedAxis* x : a)
    if (has(b, x)) out.push_back(x);
  return out;
}

}  // namespace

// Σ over of a·b: over are axes of a or b.
Term Terms::multiply_pair(const Term& a, const Term& b, const Axes& over, Span at) {
  const Axes common = intersection(over, intersection(a.axes, b.axes));
  // Axes that only one of the two has are summed before.
  const auto alone = [&](const Term& x) {
    const Axes own = intersection(without(over, common), x.axes);
    return own.empty() ? x : fold(Opcode::sum_, x, own, real_, at);
  };
  const Term x = alone(a), y = alone(b);
  if (!x.ok() || !y.ok()) return {};
  const Axes left = without(x.axes, common), right = without(y.axes, common);
  const bool matrices = !common.empty() && !covers(left, right) && !covers(right, left);
  if (matrices) return add(Opcode::contract_, {&x, &y}, {}, real_, union_of(left, right), at);
  const Term product = arithmetic(Opcode::mul_, x, y, at);
  return common.empty() || !product.ok() ? product : fold(Opcode::sum_, product, common, real_, at);
}

Term Terms::product_sum(std::vector<Term> factors, const Axes& over, Span at) {
  Term scale = number_term(Number::integer(1));
  bool scaled = false;
  std::vector<Term> parts;
  for (const Term& f : factors)
    if (f.axes.empty()) {
      scale = scaled ? arithmetic(Opcode::mul_, scale, f, at) : f;
      scaled = true;
    } else {
      parts.push_back(to_real(f, at));
    }
  if (!scale.ok() || std::any_of(parts.begin(), parts.end(), [](const Term& t) { return !t.ok(); }))
    return {};
  // Of very many factors the first are multiplied as they come.
  constexpr std::size_t searched = 12;
  if (parts.size() > searched) {
    const std::size_t spare = parts.size() - searched;
    for (std::size_t i = 1; i <= spare && parts[0].ok(); ++i)
      parts[0] = arithmetic(Opcode::mul_, parts[0], parts[i], at);
    if (!parts[0].ok()) return {};
    parts.erase(parts.begin() + 1, parts.begin() + 1 + static_cast<std::ptrdiff_t>(spare));
  }
  while (parts.size() > 1) {
    const auto needed = [&](std::size_t i, std::size_t j) {  // axes that the pair must keep
      Axes rest;
      for (std::size_t k = 0; k < parts.size(); ++k)
        if (k != i && k != j)
          for (const NamedAxis* a : parts[k].axes) add_axis(rest, a);
      return rest;
    };
    std::size_t best_i = 0, best_j = 1;
    if (parts.size() > 2) {
      double best = -1;
      for (std::size_t i = 0; i < parts.size(); ++i)
        for (std::size_t j = i + 1; j < parts.size(); ++j) {
          const double n = elements(
              without(union_of(parts[i].axes, parts[j].axes), without(over, needed(i, j))));
          if (best >= 0 && n >= best) continue;
          best = n;
          best_i = i;
          best_j = j;
        }
    }
    const Axes now = intersection(without(over, needed(best_i, best_j)),
                                  union_of(parts[best_i].axes, parts[best_j].axes));
    parts[best_i] = multiply_pair(parts[best_i], parts[best_j], now, at);
    parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(best_j));
    if (!parts[best_i].ok()) return {};
  }
  Term t = parts[0];
  if (const Axes rest = intersection(over, t.axes); !rest.empty())
    t = fold(Opcode::sum_, t, rest, real_, at);
  return scaled ? arithmetic(Opcode::mul_, t, scale, at) : t;
}

}  // namespace gradc
