// Statements of elementwise mathematics, reductions, sums of products, integers and conditions.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "fuzz/writer.h"

namespace gradc::fuzz {

Expr Writer::integer(const Axes& axes, int depth) {
  Expr e;
  std::vector<Expr> known;
  for (const Value& v : values_)
    if (v.expr.sort == Sort::integer && covers(axes, v.expr.axes)) known.push_back(v.expr);
  if (!known.empty() && random_.chance(0.5))
    e = random_.of(known);
  else if (!axes.empty())
    e = position(random_.of(axes));
  else
    e = number(random_.between(0, 4)), e.sort = Sort::integer;
  if (depth > 2 || random_.chance(0.3)) return e;
  Expr other = integer(axes, depth + 1);
  if (!covers(e.axes, other.axes) && !covers(other.axes, e.axes) && !e.positional &&
      !other.positional)
    other = e;  // an outer product is none
  switch (random_.below(8)) {
    case 0:
      return binary("+", e, number(random_.between(1, 3)));
    case 1:
      return binary("-", other, e);
    case 2:
      return binary("*", e, number(random_.between(2, 3)));
    case 3:
      return binary("//", e, number(random_.between(2, 3)));
    case 4:
      return binary("%", e, number(random_.between(2, 4)));
    case 5:
      return binary("max", e, other);
    case 6:
      return binary("min", e, other);
    default:
      return binary("+", e, other);
  }
}

Expr Writer::index(const Axes& axes, int n) {
  Expr e = integer(axes);
  if (e.low >= 0 && e.high < n) return e;
  if (random_.chance(0.7)) return binary("%", e, number(n));
  return binary("max", binary("min", e, number(n - 1)), number(0));
}

Expr Writer::condition(const Axes& axes, int depth) {
  const auto made = [&](std::string text, Axes of, bool positional) {
    ++operations_;
    return Expr{std::move(text), false, Sort::boolean, std::move(of), 0, 1, false, positional};
  };
  static const std::vector<std::string> signs{"<", "<=", ">", ">=", "==", "!="};
  switch (random_.below(depth > 1 ? 4 : 8)) {
    case 0:
    case 1: {
      const Expr a = integer(axes, 1);
      const double middle = std::floor((a.low + a.high + 1) / 2);
      return made(fmt::format("{} {} {}", inner(a), random_.of(signs), inner(number(middle))),
                  a.axes, a.positional);
    }
    case 2: {
      const Expr a = integer(axes, 1), b = integer(axes, 1);
      return made(fmt::format("{} {} {}", inner(a), random_.of(signs), inner(b)),
                  both(a.axes, b.axes), a.positional && b.positional);
    }
    case 3: {
      Expr x;
      if (!real_within(axes, x)) return made("training", {}, true);
      // No value is likely to be just this, so rounding does not decide.
      return made(fmt::format("{} {} {}", inner(x), random_.chance(0.5) ? "<" : ">",
                              random_.chance(0.5) ? "0.31372" : "-0.1177"),
                  x.axes, false);
    }
    case 4: {
      const Expr c = condition(axes, depth + 1);
      return made(fmt::format("not ({})", c.text), c.axes, c.positional);
    }
    case 5:
      if (random_.chance(0.2)) return made("training", {}, true);
      [[fallthrough]];
    default: {
      const Expr a = condition(axes, depth + 1), b = condition(axes, depth + 1);
      return made(fmt::format("({}) {} ({})", a.text, random_.chance(0.5) ? "and" : "or", b.text),
                  both(a.axes, b.axes), a.positional && b.positional);
    }
  }
}

Expr Writer::activated(const Expr& e) {
  static const std::vector<std::string> bounded{"tanh", "sin", "cos", "erf"};
  switch (random_.below(10)) {
    case 0:
      return call("exp", brought_within(e, 2));
    case 1:
      return call("log", positive(e));
    case 2:
      return call("sqrt", positive(e));
    case 3:
      return call("rsqrt", positive(e));
    case 4:
      return call("abs", e);
    case 5: {
      const Expr whole = call("floor", e);
      Expr rest = binary("-", e, whole);
      rest.low = 0;
      rest.high = 1;
      return random_.chance(0.5) ? rest : binary("+", binary("*", e, number(0.5)), whole);
    }
    case 6: {
      Expr minus{"-" + inner(e), false,  Sort::real, e.axes,
                 -e.high,        -e.low, e.trained,  e.positional};
      ++operations_;
      return minus;
    }
    default:
      return call(random_.of(bounded), e);
  }
}

bool Writer::unary() {
  Expr x;
  if (!any_real(x, 0)) return false;
  Expr e = activated(x);
  if (random_.chance(0.2)) e = binary("*", call("stop", activated(x)), brought_within(e, 2));
  if (random_.chance(0.4)) e = activated(brought_within(e, 6));
  bind(brought_within(e, 8), random_.chance(0.1) && !e.axes.empty());
  return true;
}

bool Writer::arithmetic() {
  Expr x, y;
  if (!any_real(x, 0)) return false;
  const int way = random_.below(10);
  if (way < 4 && real_within(x.axes, y)) {
  } else if (way < 6 && real_covering(x.axes, y)) {
  } else if (way < 8 && !x.axes.empty()) {
    y = parameter(some(x.axes));
  } else {
    y = small_number();
  }
  Expr e;
  switch (random_.below(9)) {
    case 0:
      e = binary("+", x, y);
      break;
    case 1:
      e = binary("-", x, y);
      break;
    case 2:
    case 3:
      e = binary("*", brought_within(x, 3), brought_within(y, 3));
      break;
    case 4: {
      const Expr below = positive(brought_within(y, 3));
      e = binary("/", x, below);
      break;
    }
    case 5: {
      const Expr base = positive(brought_within(x, 3));
      e = binary("pow", base, brought_within(y, 1.5));
      break;
    }
    case 6:
      e = binary("max", x, y);
      break;
    case 7:
      e = binary("min", x, y);
      break;
    default: {
      const Expr square = binary("*", x, x);
      e = random_.chance(0.3) ? binary("pow", x, number(random_.between(2, 3)))
                              : binary("-", square, y);
      e.low = std::min(e.low, -std::abs(e.high));
    }
  }
  if (e.sort != Sort::real) return false;
  bind(brought_within(e, 8));
  return true;
}

bool Writer::selection() {
  Expr x, y;
  if (!any_real(x)) return false;
  if (!real_within(x.axes, y) || random_.chance(0.3)) y = small_number();
  const Expr c = condition(x.axes);
  if (c.axes.empty() && c.text != "training") return false;
  const Expr e = random_.chance(0.5) ? choose(c, x, y) : choose(c, y, x);
  if (e.axes.empty()) return false;
  bind(brought_within(e, 8));
  return true;
}

Expr Writer::mean(const Axes& over, const Expr& e) {
  const Expr n = number(elements(over));
  std::string size;
  for (const int a : over) size += fmt::format("{}size({})", size.empty() ? "" : " * ", name(a));
  switch (random_.below(6)) {
    case 0:
      return binary("/", reduced("sum", over, e), n);
    case 1:
      if (over.size() == 1) {
        Expr out = reduced("sum", over, e);
        out.text = fmt::format("{} / {}", out.text, size);
        out.atom = false;
        out.low = e.low;
        out.high = e.high;
        return out;
      }
      [[fallthrough]];
    case 2: {
      Expr part = binary("*", reduced("sum", over, e), number(1));
      part.text = fmt::format("{} * (1 / ({}))", reduced("sum", over, e).text, size);
      part.low = e.low;
      part.high = e.high;
      return part;
    }
    default:
      return reduced("mean", over, e);
  }
}

bool Writer::reduction() {
  Expr x;
  if (!any_real(x)) return false;
  const Axes over = some(x.axes);
  std::string where;
  if (random_.chance(0.25)) {
    const Expr c = condition(x.axes);
    bool along = false;
    for (const int a : over) along = along || has(c.axes, a);
    if (along) where = c.text;
  }
  Expr e;
  switch (random_.below(10)) {
    case 0:
    case 1:
      e = where.empty() ? mean(over, x) : reduced("mean", over, x, where);
      break;
    case 2:
    case 3:
      e = reduced("sum", over, x, where);
      break;
    case 4:
      e = where.empty() ? reduced("max", over, x) : reduced("sum", over, x, where);
      break;
    case 5:
      e = where.empty() ? reduced("min", over, x) : reduced("mean", over, x, where);
      break;
    case 6:
    case 7:
    case 8: {
      Expr i = reduced("argmax", {over[0]}, x);
      bind(i);
      return true;
    }
    default:
      e = where.empty() ? reduced("logsumexp", over, x) : reduced("sum", over, x, where);
  }
  // What is left over is used against what it came from, as in a norm.
  if (random_.chance(0.5) && e.sort == Sort::real) {
    const Expr y = piece(brought_within(e, 4));
    bind(brought_within(binary(random_.chance(0.5) ? "-" : "*", x, y), 8));
    return true;
  }
  bind(brought_within(e, 8));
  return true;
}

bool Writer::contraction() {
  Expr x;
  if (!any_real(x, 1, 120)) return false;
  const Axes over = some(x.axes);
  Axes with = over;
  if (random_.chance(0.7)) with.push_back(other_axis(random_.between(1, 5), x.axes));
  for (const int a : x.axes)
    if (!has(with, a) && random_.chance(0.2)) with.push_back(a);
  std::vector<Expr> factors{x};
  Expr y;
  if (random_.chance(0.3) && real_within(both(x.axes, with), y) && covers(y.axes, over))
    factors.push_back(y);
  else
    factors.push_back(parameter(with));
  if (random_.chance(0.2) && real_within(x.axes, y)) factors.push_back(y);
  Axes all;
  for (const Expr& f : factors) all = both(all, f.axes);
  if (elements(all) > 1500 || without(all, over).size() > 5 || !covers(all, over)) return false;
  Expr e = product_sum(over, factors);
  if (random_.chance(0.4)) {
    Expr bias;
    if (!e.axes.empty()) {
      bias = parameter({random_.of(e.axes)}, -0.5, 0.5);
      e = binary("+", e, bias);
    }
  }
  if (random_.chance(0.5)) e = activated(brought_within(e, 6));
  bind(brought_within(e, 8), random_.chance(0.2) && !e.axes.empty());
  return true;
}

bool Writer::integer_value() {
  Expr x;
  if (!any_real(x)) return false;
  const Expr i = integer(x.axes);
  if (i.axes.empty()) return false;
  if (random_.chance(0.4)) {
    bind(i);
    return true;
  }
  if (random_.chance(0.3)) {
    const Expr c = condition(x.axes);
    if (c.axes.empty()) return false;
    Expr known = bind(c);
    bind(brought_within(choose(known, x, binary("*", x, number(0.5))), 8));
    return true;
  }
  const double most = std::max(1.0, i.most());
  const Expr scaled = binary("*", i, number(std::max(0.01, std::floor(200 / most) / 100)));
  if (scaled.sort != Sort::real) return false;
  bind(brought_within(binary(random_.chance(0.5) ? "+" : "*", x, scaled), 8));
  return true;
}

bool Writer::chance() {
  Expr x;
  if (!any_real(x)) return false;
  const std::vector<std::string> rates{"0.1", "0.5", "0.25"};
  const std::string rate = random_.of(rates);
  switch (random_.below(4)) {
    case 0: {
      Expr u = of_text(fmt::format("uniform({})", x.text), x.axes, 0, 1, false);
      ++operations_;
      bind(brought_within(binary(random_.chance(0.5) ? "+" : "*", x, u), 8));
      return true;
    }
    case 1: {
      Expr e = of_text(fmt::format("select(uniform({0}) >= {1}, {0} / (1 - {1}), 0)", x.text, rate),
                       x.axes, std::min(0.0, 2 * x.low), std::max(0.0, 2 * x.high), x.trained);
      operations_ += 4;
      bind(brought_within(e, 8));
      return true;
    }
    default: {
      Expr e = of_text(fmt::format("dropout({}, {})", x.text, rate), x.axes,
                       std::min(0.0, 2 * x.low), std::max(0.0, 2 * x.high), x.trained);
      operations_ += 6;
      bind(brought_within(e, 8));
      return true;
    }
  }
}

bool Writer::positions() {
  Expr x;
  if (!any_real(x)) return false;
  const int a = random_.of(x.axes);
  Expr p = position(a);
  Expr e;
  switch (random_.below(4)) {
    case 0:
      e = call(random_.chance(0.5) ? "sin" : "cos", binary("*", p, number(0.7)));
      break;
    case 1: {
      e = of_text(fmt::format("pow(10, -{} / size({}))", name(a), name(a)), {a}, 0.1, 1, false);
      operations_ += 3;
      break;
    }
    case 2: {
      e = of_text(fmt::format("1 / ({} + 1)", name(a)), {a}, 0.1, 1, false);
      e.atom = false;
      operations_ += 2;
      break;
    }
    default: {
      const std::string f = fresh("w");
      line(fmt::format("param {}[{}] = 1 / ({} + 1)", f, name(a), name(a)));
      e = of_text(f, {a}, 0.1, 1, false);
      operations_ += 2;
    }
  }
  bind(brought_within(binary(random_.chance(0.5) ? "+" : "*", x, e), 8));
  return true;
}

}  // namespace gradc::fuzz
