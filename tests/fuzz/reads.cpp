// Statements that read elsewhere, and constructs with bodies: recurrences, turns, blocks.
#include <fmt/format.h>

#include <algorithm>

#include "fuzz/writer.h"

namespace gradc::fuzz {
namespace {

Axes put(Axes axes, int at, const Axes& instead) {
  Axes out;
  for (const int a : axes) {
    if (a != at) out.push_back(a);
    if (a == at) out.insert(out.end(), instead.begin(), instead.end());
  }
  return out;
}

}  // namespace

bool Writer::pick() {
  Expr x;
  if (!any_real(x)) return false;
  const int a = random_.of(x.axes);
  Expr e = x;
  e.text = fmt::format("{}[{} = {}]", x.text, name(a), random_.below(extent(a)));
  e.axes = without(x.axes, {a});
  ++operations_;
  if (random_.chance(0.5)) {
    bind(brought_within(binary(random_.chance(0.5) ? "-" : "*", x, e), 8));
    return true;
  }
  bind(e);
  return true;
}

bool Writer::slice() {
  Expr x;
  if (!any_real(x)) return false;
  const int a = random_.of(x.axes), n = extent(a);
  if (n < 2) return false;
  const int stride = random_.between(1, 2), first = random_.below(n - 1);
  const int most = (n - 1 - first) / stride + 1, m = random_.between(1, most);
  if (random_.chance(0.4) && n % 2 == 0) {  // halves and partitions: cotangents that are one concat
    const int k = other_axis(n / 2, x.axes);
    const bool odd = random_.chance(0.5);
    const auto half = [&](int which) {
      Expr e = x;
      e.axes = put(x.axes, a, {k});
      e.text = odd ? fmt::format("{}[{} = 2 * {} + {}]", x.text, name(a), name(k), which)
                   : fmt::format("{}[{} = {} + {}]", x.text, name(a), name(k), which * n / 2);
      ++operations_;
      return e;
    };
    const Expr low = half(0), high = half(1);
    bind(brought_within(binary("*", activated(brought_within(low, 3)), high), 8));
    return true;
  }
  const int k = other_axis(m, x.axes);
  Expr e = x;
  e.axes = put(x.axes, a, {k});
  e.text = fmt::format("{}[{} = {}{}{}]", x.text, name(a),
                       stride > 1 ? fmt::format("{} * ", stride) : "", name(k),
                       first > 0 ? fmt::format(" + {}", first) : "");
  ++operations_;
  bind(e);
  return true;
}

bool Writer::shift() {
  Expr x;
  if (!any_real(x)) return false;
  const int a = random_.of(x.axes), k = random_.between(1, 2);
  Expr e = x;
  e.text = fmt::format("{}[{} = {} {} {}]", x.text, name(a), name(a),
                       random_.chance(0.7) ? "-" : "+", k);
  e.low = std::min(0.0, x.low);
  e.high = std::max(0.0, x.high);
  ++operations_;
  if (random_.chance(0.6))
    bind(brought_within(binary(random_.chance(0.5) ? "-" : "*", x, e), 8));
  else
    bind(e);
  return true;
}

bool Writer::relabel() {
  Expr x;
  if (!any_real(x)) return false;
  const int a = random_.of(x.axes), to = other_axis(extent(a), x.axes);
  Expr e = x;
  e.axes = put(x.axes, a, {to});
  e.text = random_.chance(0.5) ? fmt::format("{}[{} = {}]", x.text, name(a), name(to))
                               : x.text + list(e.axes);
  ++operations_;
  bind(e);
  return true;
}

bool Writer::flip() {
  Expr x;
  if (!any_real(x)) return false;
  const int a = random_.of(x.axes);
  Expr e = x;
  e.text = fmt::format("{}[{} = {} - {}]", x.text, name(a), extent(a) - 1, name(a));
  operations_ += 2;
  bind(brought_within(binary("+", e, binary("*", x, number(0.5))), 8));
  return true;
}

bool Writer::window() {
  Expr x;
  if (!any_real(x, 1, 80)) return false;
  const int a = random_.of(x.axes), n = extent(a);
  const int r = other_axis(random_.between(1, 3), x.axes), width = extent(r);
  Expr e = x;
  if (random_.chance(0.5)) {  // causal: 0 before the first
    e.axes = both(x.axes, {r});
    e.text = fmt::format("{}[{} = {} + {} - {}]", x.text, name(a), name(a), name(r), width - 1);
    if (width == 1) e.text = fmt::format("{}[{} = {} + {}]", x.text, name(a), name(a), name(r));
  } else {  // patches
    if (n / width < 1) return false;
    const int p = other_axis(n / width, both(x.axes, {r}));
    e.axes = put(x.axes, a, {p, r});
    e.text = fmt::format("{}[{} = {} * {} + {}]", x.text, name(a), width, name(p), name(r));
    if (width == 1) e.text = fmt::format("{}[{} = {} + {}]", x.text, name(a), name(p), name(r));
  }
  e.low = std::min(0.0, x.low);
  e.high = std::max(0.0, x.high);
  operations_ += 2;
  const Expr all = bind(e, true);
  if (random_.chance(0.7)) {
    const Axes over = some(all.axes);
    bind(brought_within(product_sum(over, {use(values_.size() - 1), parameter(over)}), 8));
  }
  return true;
}

bool Writer::fold() {
  Expr x;
  if (!any_real(x, 1, 80)) return false;
  const Axes axes = shuffled(x.axes);
  Expr e = x;
  ++operations_;
  if (axes.size() > 1 && extent(axes[0]) * extent(axes[1]) <= 12 && random_.chance(0.6)) {
    const int n = other_axis(extent(axes[0]) * extent(axes[1]), x.axes);
    e.axes = put(without(x.axes, {axes[1]}), axes[0], {n});
    e.text = fmt::format("{0}[{1} = {2} // size({3}), {3} = {2} % size({3})]", x.text,
                         name(axes[0]), name(n), name(axes[1]));
    bind(e);
    return true;
  }
  const int a = axes[0], n = extent(a);
  for (const int m : {2, 3})
    if (n % m == 0 && n > m) {
      const int i = other_axis(n / m, x.axes), j = other_axis(m, both(x.axes, {i}));
      e.axes = put(x.axes, a, {i, j});
      e.text = fmt::format("{}[{} = {} * {} + {}]", x.text, name(a), m, name(i), name(j));
      bind(e, true);
      return true;
    }
  return false;
}

bool Writer::look_up() {
  Expr x, y;
  if (!any_real(y, 1, 80)) return false;
  if (random_.chance(0.5)) {
    // A table, by data: repeated places add up.
    const int a = other_axis(random_.between(1, 6), y.axes);
    Axes axes{a};
    if (random_.chance(0.6)) axes.push_back(random_.of(y.axes));
    x = parameter(axes);
    const Expr i = index(y.axes, extent(a));
    Expr e = of_text(fmt::format("{}[{} = {}]", x.text, name(a), i.text),
                     both(i.axes, without(x.axes, {a})), x.low, x.high, true);
    ++operations_;
    if (covers(y.axes, e.axes)) {
      bind(brought_within(binary(random_.chance(0.5) ? "+" : "*", y, e), 8));
      return true;
    }
    return false;
  }
  const int a = random_.of(y.axes);
  const Expr i = index(y.axes, extent(a));
  Expr e = y;
  e.text = fmt::format("{}[{} = {}]", y.text, name(a), i.text);
  e.axes = both(without(y.axes, {a}), i.axes);
  if (elements(e.axes) > 200 || e.axes.empty()) return false;
  ++operations_;
  bind(e);
  return true;
}

bool Writer::outer() {
  Expr x, y;
  if (!any_real(x, 1, 20) || !any_real(y, 1, 20)) return false;
  const Axes axes = both(x.axes, y.axes);
  if (axes.size() > 5 || elements(axes) > 250) return false;
  Expr e = binary(random_.chance(0.5) ? "*" : "+", brought_within(x, 3), brought_within(y, 3));
  if (random_.chance(0.3)) {
    const int a = random_.of(axes), b = random_.of(axes);
    if (a != b)
      e = choose({fmt::format("{} <= {}", name(a), name(b)),
                  false,
                  Sort::boolean,
                  {a, b},
                  0,
                  1,
                  false,
                  true},
                 e, number(0));
  }
  bind(brought_within(e, 8), true);
  return true;
}

bool Writer::scan() {
  Expr x;
  if (scopes_.size() > 1 || !any_real(x, 1, 100)) return false;
  const int t = random_.of(x.axes);
  const Axes others = without(x.axes, {t});
  const std::string h = fresh("x"),
                    at = fmt::format("{} {} 1", name(t), random_.chance(0.7) ? "-" : "+");
  const std::string before = fmt::format("{}[{} = {}]", h, name(t), at);
  const Axes order = shuffled(x.axes);
  operations_ += 4;
  std::string update;
  std::string second;
  double grows = 1;
  bool trained = x.trained;
  switch (random_.below(6)) {
    case 0:
      update = fmt::format("tanh({} + {})", before, x.text);
      break;
    case 1:  // a running sum
      grows = extent(t);
      update = fmt::format("{} + {}", before, x.text);
      break;
    case 2: {  // a product of what no turn makes
      if (others.empty()) return false;
      const int k = random_.of(others), j = other_axis(extent(k), x.axes);
      const Expr w = parameter({k, j});
      trained = true;
      update = fmt::format("tanh({} * 0.5 + sum[{}]({}[{} = {}] * {}))", before, name(j), x.text,
                           name(k), name(j), w.text);
      break;
    }
    case 3: {
      const Expr w = others.empty() ? small_number() : parameter({random_.of(others)});
      trained |= !others.empty();
      update = fmt::format("{} * 0.5 * tanh({}) + {} * 0.25", before, w.text, x.text);
      break;
    }
    case 4: {
      if (others.empty()) return false;
      const int k = random_.of(others), j = other_axis(extent(k), x.axes);
      const Expr w = parameter({k, j});
      trained = true;
      update = fmt::format("tanh({} + sum[{}]({}[{} = {}, {} = {}] * {}))", x.text, name(j), h,
                           name(t), at, name(k), name(j), w.text);
      break;
    }
    default:
      second = fresh("x");
      update = fmt::format("sin({}) * {}[{} = {}] + {} * 0.1", before, second, name(t), at, x.text);
  }
  line(fmt::format("scan {} {{", name(t)));
  enter();
  line(fmt::format("{}{} = {}", h, list(order), update));
  if (!second.empty()) line(fmt::format("{}{} = cos({} * {})", second, list(x.axes), h, x.text));
  leave();
  line("}");
  const double most = grows * (second.empty() ? 1 + x.most() : 1 + 0.1 * x.most());
  Expr e = of_text(h, order, -most, most, trained);
  values_.push_back({h, e, true, 0});
  if (e.most() > 8) bind(brought_within(e, 8));
  return true;
}

bool Writer::repeat() {
  if (scopes_.size() > 1) return false;
  std::vector<std::size_t> all;
  for (std::size_t i = 0; i < values_.size(); ++i)
    if (const Value& v = values_[i]; v.bound && v.expr.sort == Sort::real && !v.expr.axes.empty() &&
                                     v.expr.trained && elements(v.expr.axes) <= 120)
      all.push_back(i);
  if (all.empty()) return false;
  const std::size_t k = random_.of(all);
  Value& v = values_[k];
  v.expr.low = std::min(v.expr.low, -2.0);
  v.expr.high = std::max(v.expr.high, 2.0);
  const Expr x = use(k);
  line(fmt::format("repeat {} as {}.@ {{", random_.between(1, 3), fresh("h")));
  enter();
  values_.push_back({x.text, x, false, 0});  // what the turn begins with, the likeliest operand
  for (int i = random_.between(1, 3), tries = 0; i > 0 && tries < 20; ++tries)
    i -= statement() ? 1 : 0;
  Expr y, out;
  if (!real_within(x.axes, y) || random_.chance(0.3)) y = parameter(some(x.axes));
  for (std::size_t i = values_.size(); i-- > scopes_.back().values;)
    if (values_[i].expr.sort == Sort::real && covers(x.axes, values_[i].expr.axes) &&
        values_[i].expr.text != x.text)
      y = use(i);
  out = call(random_.chance(0.7) ? "tanh" : "sin", binary(random_.chance(0.5) ? "+" : "*", x, y));
  line(fmt::format("{}{} = {}", x.text, random_.chance(0.3) ? list(x.axes) : "", out.text));
  leave();
  line("}");
  return true;
}

bool Writer::block() {
  Expr x, y;
  if (!any_real(x)) return false;
  const std::string f = fresh("f");
  const int a = random_.of(x.axes);
  std::vector<std::string> bodies{
      "  y = x * w\n  return y / sqrt(mean[a](y * y) + 0.1)",
      "  return tanh(x - mean[a](x)) * w + k",
      "  axis c = 2 * a\n  param p[a c] ~ normal(0.3)\n  param o[c] ~ normal(0.3)\n"
      "  return x + tanh(sum[a](x * p * w)[c = c]) [c = 0] * o[c = 0]",
      "  y = softmax[a](x * w)\n  return k * y - y * y",
      "  param p[a] as gain ~ normal(0.3)\n  return select(x > 0.31372, x * p, w * 0.5)",
  };
  bodies[2] =
      "  axis c = 2 * a\n  param p[a c] ~ normal(0.3)\n  return x * 0.5 + sum[c](tanh(sum[a](x * p "
      "* w)) * p)";
  operations_ += 6;
  blocks_ += fmt::format("block {}(x[a], w[a], k = {}) {{\n{}\n}}\n", f, small_number().text,
                         random_.of(bodies));
  const Expr w = random_.chance(0.5) && real_within({a}, y) ? y : parameter({a});
  std::string more = random_.chance(0.3) ? ", k = 0.5" : "";
  if (name(a) != "a") more += fmt::format(", a = {}", name(a));
  Expr e = of_text(
      fmt::format("{}({}, {}{})", f, brought_within(x, 3).text, brought_within(w, 2).text, more),
      x.axes, -20, 20, true);
  bind(brought_within(e, 8));
  return true;
}

}  // namespace gradc::fuzz
