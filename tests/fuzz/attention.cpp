// Attention as people write it: heads on no, one or two axes, self and cross, masks of positions
// and data, biases, soft caps, dropout of weights; and softmaxes that almost are attention.
#include <fmt/format.h>

#include <algorithm>

#include "fuzz/writer.h"

namespace gradc::fuzz {

// A mask over rows and keys, of positions or data. `axes`: of the scores.
Expr Writer::mask_of(int rows, int keys, const Axes& axes) {
  const std::string t = name(rows), s = name(keys);
  const auto made = [&](std::string text, Axes of, bool positional) {
    ++operations_;
    return Expr{std::move(text), false, Sort::boolean, std::move(of), 0, 1, false, positional};
  };
  const auto batch = [&] {
    const Axes rest = without(axes, {rows, keys});
    return rest.empty() ? Axes{} : Axes{random_.of(rest)};
  };
  switch (random_.below(7)) {
    case 0:
    case 1:
      return made(
          random_.chance(0.8) ? fmt::format("{} <= {}", s, t) : fmt::format("{} >= {}", t, s),
          {rows, keys}, true);
    case 2:
      return made(fmt::format("{0} <= {1} and {1} - {0} < {2}", s, t, random_.between(1, 3)),
                  {rows, keys}, true);
    case 3:
      return made(fmt::format("{} <= {} or {} < {}", s, t, s, random_.between(1, 3)), {rows, keys},
                  true);
    case 4: {  // lengths
      const Axes of = batch();
      const std::string n = fresh("n");
      if (of.empty() || !scopes_.empty()) return condition(axes);
      line(fmt::format("input {}{} in {} .. {}", n, list(of), random_.chance(0.2) ? 0 : 1,
                       extent(keys) + 1));
      return made(fmt::format("{} < {}", s, n), both(of, {keys}), false);
    }
    case 5: {  // documents: rows and keys with the same number
      if (extent(rows) != extent(keys) || !scopes_.empty()) return condition(axes);
      const std::string n = fresh("n");
      const Axes of = both(batch(), {rows});
      line(fmt::format("input {}{} < 3", n, list(of)));
      Expr m = made(fmt::format("{0} == {0}[{1} = {2}]", n, t, s), both(of, {keys}), false);
      if (random_.chance(0.4)) m.text = fmt::format("{} and {} <= {}", m.text, s, t);
      return m;
    }
    default:
      return condition(axes);
  }
}

// What may stand between scores and softmax.
Expr Writer::score_map(Expr x, int rows, int keys, const Axes& batch) {
  const std::string t = name(rows), s = name(keys);
  while (random_.chance(0.4)) {
    operations_ += 2;
    switch (random_.below(7)) {
      case 0: {  // soft cap
        const double c = random_.chance(0.5) ? 3 : 5;
        Expr capped = call("tanh", binary("/", x, number(c)));
        x = binary("*", capped, number(c));
        break;
      }
      case 1: {  // a learned bias
        Axes of{rows, keys};
        if (!batch.empty() && random_.chance(0.4)) of.push_back(random_.of(batch));
        x = binary("+", x, parameter(of, -1, 1));
        break;
      }
      case 2: {  // linear biases of the distance (Press, Smith and Lewis 2022)
        Expr far = of_text(fmt::format("0.25 * ({} - {})", t, s), {rows, keys}, -1.5, 1.5, false);
        far.atom = false;
        x = binary(random_.chance(0.5) ? "-" : "+", x, far);
        break;
      }
      case 3: {  // a learned bias of the distance
        const int n = extent(rows) + extent(keys) - 1;
        const int r = other_axis(n, both(both(x.axes, batch), {rows, keys}));
        Axes of{r};
        if (!batch.empty() && random_.chance(0.4)) of.push_back(random_.of(batch));
        const Expr table = parameter(of, -1, 1);
        Expr e = table;
        e.text = fmt::format("{}[{} = {} - {} + {}]", table.text, name(r), t, s, extent(keys) - 1);
        e.axes = both(without(of, {r}), {rows, keys});
        x = binary("+", x, e);
        break;
      }
      case 4: {
        Expr y;
        if (real_within(x.axes, y)) x = binary("+", x, brought_within(y, 1.5));
        break;
      }
      case 5:
        x = binary("*", x, small_number());
        break;
      default: {
        const Expr c = condition({rows, keys});
        if (!c.axes.empty()) x = choose(c, x, binary("*", x, number(0.5)));
      }
    }
    x = brought_within(x, 8);
  }
  return x;
}

Expr Writer::weight_map(Expr w) {
  operations_ += 2;
  switch (random_.below(12)) {
    case 0:
    case 1:
      return of_text(fmt::format("dropout({}, 0.25)", w.text), w.axes, 0, 2, w.trained);
    case 2:
      return binary("*", w, number(0.5));
    case 3: {  // not multiplicative
      const Expr x = piece(w);
      return binary("*", x, x);
    }
    case 4: {
      const Expr c = condition(w.axes);
      return c.axes.empty() ? w : choose(c, w, number(0));
    }
    default:
      return w;
  }
}

bool Writer::attention() {
  Expr x, m;
  if (!any_real(x, 2, 80) || x.axes.size() > 3) return false;
  const Axes order = shuffled(x.axes);
  const int rows = order[0], d = order[1];
  Axes batch = without(x.axes, {rows, d});
  int keys;
  std::vector<std::size_t> others;
  for (std::size_t i = 0; i < values_.size(); ++i)
    if (const Expr& e = values_[i].expr; e.sort == Sort::real && e.axes.size() > 1 &&
                                         has(e.axes, d) && !has(e.axes, rows) &&
                                         without(without(e.axes, {d}), batch).size() == 1)
      others.push_back(i);
  if (!others.empty() && random_.chance(0.5)) {  // cross
    m = use(random_.of(others));
    keys = without(without(m.axes, {d}), batch)[0];
  } else {
    keys = other_axis(extent(rows), x.axes);
    m = x;
    m.text = fmt::format("{}[{} = {}]", x.text, name(rows), name(keys));
    m.axes.clear();
    for (const int a : x.axes) m.axes.push_back(a == rows ? keys : a);
    m = random_.chance(0.8) ? bind(m) : m;
  }
  const int heads = random_.below(3);
  const Axes taken = both(both(x.axes, m.axes), batch);
  Axes of_heads;
  if (heads > 0) of_heads.push_back(other_axis(random_.between(1, 3), taken));
  Axes of_queries = of_heads;  // grouped: several query heads share a key head
  if (heads == 2) of_queries.push_back(other_axis(random_.between(1, 2), both(taken, of_heads)));
  const Axes all_heads = of_queries;
  const bool projected = random_.chance(0.8);
  int e = d, f = d;
  Expr q = x, k = m, u = m;
  if (projected || heads > 0) {
    e = other_axis(random_.between(1, 4), both(taken, all_heads));
    f = random_.chance(0.7) ? e
                            : other_axis(random_.between(1, 4), both(both(taken, all_heads), {e}));
    const auto map = [&](const Expr& from, Axes axes, int to) {
      Expr w = parameter(both(axes, {d, to}), -0.8, 0.8);
      Expr out = product_sum({d}, {from, w});
      if (random_.chance(0.3)) out = binary("+", out, parameter(both(axes, {to}), -0.3, 0.3));
      return bind(brought_within(out, 4));
    };
    q = map(x, of_queries, e);
    k = map(m, of_heads, e);
    u = map(m, of_heads, f);
    for (std::size_t i = values_.size() - 1, n = 0; n < 3; --i)
      if (values_[i].expr.text == q.text || values_[i].expr.text == k.text ||
          values_[i].expr.text == u.text)
        ++n, ++values_[i].uses;
  }
  if (random_.chance(0.25)) {  // the scale, or whatever, before the product
    Expr& side = random_.chance(0.6) ? q : k;
    side = random_.chance(0.7) ? binary("*", side, number(0.5)) : binary("/", side, number(2));
  }
  Expr scores = product_sum({e}, {q, k});
  if (elements(scores.axes) > 700 || scores.axes.size() > 6) return false;
  switch (random_.below(4)) {
    case 0:
      scores = binary("*", scores, number(0.5));
      break;
    case 1:
    case 2: {
      scores.text = fmt::format("{} / sqrt(size({}))", inner(scores), name(e));
      scores.atom = false;
      ++operations_;
      break;
    }
    default:
      break;
  }
  scores.low = std::max(scores.low, -6.0);  // sums of terms of both signs: rarely near the bound
  scores.high = std::min(scores.high, 6.0);
  scores = random_.chance(0.6) ? bind(scores) : scores;
  scores = score_map(scores, rows, keys, both(batch, all_heads));
  Expr weight;
  if (random_.chance(0.6)) {
    Expr c = mask_of(rows, keys, scores.axes);
    if (has(c.axes, keys)) {
      if (random_.chance(0.4)) c = bind(c);
      weight = softmax_of(scores, keys, &c);
    }
  }
  const int along = random_.chance(0.95) ? keys : rows;  // over the queries: no attention
  if (weight.text.empty()) weight = softmax_of(scores, along, nullptr);
  weight = random_.chance(0.6) ? bind(weight) : weight;
  weight = weight_map(weight);
  Expr out = product_sum({keys}, {weight, u});
  out.low = std::max(out.low, -6.0);
  out.high = std::min(out.high, 6.0);
  if (elements(out.axes) > 700) return false;
  if (projected && !all_heads.empty()) {
    out = random_.chance(0.6) ? bind(out) : out;
    out = product_sum(both(all_heads, {f}), {out, parameter(both(all_heads, {f, d}), -0.8, 0.8)});
  }
  out = bind(brought_within(out, 6));
  if (random_.chance(0.5) && covers(out.axes, x.axes) && covers(x.axes, out.axes))
    bind(binary("+", x, out));
  return true;
}

}  // namespace gradc::fuzz
