// Statements that a compiler may recognise: norms, softmax, cross entropy, activations, in the
// spellings that people use, and now and then a little off.
#include <fmt/format.h>

#include <algorithm>

#include "fuzz/writer.h"

namespace gradc::fuzz {

bool Writer::norm() {
  Expr x;
  if (!any_real(x)) return false;
  Axes over{random_.of(x.axes)};
  if (x.axes.size() > 1 && random_.chance(0.1)) over = some(x.axes);
  const std::vector<std::string> all_eps{"0.00001", "0.001", "0.1"};
  const std::string eps = random_.of(all_eps);
  x = piece(x);
  const Expr m = piece(mean(over, x));
  Expr c = binary("-", x, m);
  c.text = fmt::format("{} - {}", x.text, m.atom ? m.text : "(" + m.text + ")");
  c = random_.chance(0.8) ? bind(c) : c;
  const auto squared = [&] {
    if (random_.chance(0.15)) return call("pow", of_text(c.text + ", 2", c.axes, 0, 1, c.trained));
    return binary("*", c, c);
  };
  Expr var = piece(mean(over, squared()));
  if (random_.chance(0.1)) var = piece(mean(over, binary("*", x, x)));  // not the variance
  var.low = 0;
  Expr root = binary("+", var, number(0.1));
  root.text = random_.chance(0.5) ? fmt::format("{} + {}", inner(var), eps)
                                  : fmt::format("{} + {}", eps, inner(var));
  Expr y = of_text("", x.axes, -3, 3, x.trained);
  const std::string centred = inner(c);
  switch (random_.below(5)) {
    case 0:
      y.text = fmt::format("{} / sqrt({})", centred, root.text);
      break;
    case 1:
      y.text = fmt::format("{} * rsqrt({})", centred, root.text);
      break;
    case 2:
      y.text = fmt::format("{} * (1 / sqrt({}))", centred, root.text);
      break;
    case 3:
      y.text = fmt::format("rsqrt({}) * {}", root.text, centred);
      break;
    default:
      y.text = fmt::format("{} / pow({}, 0.5)", centred, root.text);
  }
  y.atom = false;
  operations_ += 3;
  if (random_.chance(0.3)) y = bind(y);
  if (random_.chance(0.7)) y = binary("*", y, parameter(over, -1, 1));
  if (random_.chance(0.6)) y = binary("+", y, parameter(over, -1, 1));
  bind(brought_within(y, 8));
  return true;
}

bool Writer::root_mean_square() {
  Expr x;
  if (!any_real(x)) return false;
  const int a = random_.of(x.axes);
  const std::string eps = random_.chance(0.5) ? "0.00001" : "0.01";
  x = piece(x);
  const Expr square = random_.chance(0.2)
                          ? call("pow", of_text(x.text + ", 2", x.axes, 0, 1, x.trained))
                          : binary("*", x, x);
  Expr s = mean({a}, square);
  if (random_.chance(0.1)) s = reduced("sum", {a}, square);
  s = piece(s);
  Expr y = of_text("", x.axes, -3, 3, x.trained);
  const std::string inside = random_.chance(0.5) ? fmt::format("{} + {}", inner(s), eps)
                                                 : fmt::format("{} + {}", eps, inner(s));
  switch (random_.below(4)) {
    case 0:
      y.text = fmt::format("{} / sqrt({})", inner(x), inside);
      break;
    case 1:
      y.text = fmt::format("{} * rsqrt({})", inner(x), inside);
      break;
    case 2:
      y.text = fmt::format("rsqrt({}) * {}", inside, inner(x));
      break;
    default:
      y.text = fmt::format("{} * (1 / sqrt({}))", inner(x), inside);
  }
  y.atom = false;
  operations_ += 3;
  if (random_.chance(0.7)) y = binary("*", y, parameter({a}, -1, 1));
  bind(brought_within(y, 8));
  return true;
}

// Weights along `axis` in one of the spellings.
Expr Writer::softmax_of(const Expr& scores, int axis, const Expr* mask) {
  operations_ += 4;
  const std::string over = list({axis});
  if (mask != nullptr && random_.chance(0.6))
    return of_text(fmt::format("softmax{}({} where {})", over, scores.text, mask->text),
                   both(scores.axes, mask->axes), 0, 1, scores.trained);
  Expr x = scores;
  if (mask != nullptr) x = choose(*mask, scores, number(-30));
  const int way = random_.below(7);
  if (way < 3) return of_text(fmt::format("softmax{}({})", over, x.text), x.axes, 0, 1, x.trained);
  if (way == 3) {
    x = piece(x);
    Expr out = call("exp", x);
    out.text = fmt::format("exp({} - logsumexp{}({}))", inner(x), over, x.text);
    out.low = 0;
    out.high = 1;
    return out;
  }
  x = random_.chance(0.7) ? bind(x) : x;
  Expr e = call("exp", x);
  if (way != 4 || mask != nullptr) {
    const bool stopped = random_.chance(0.3);
    e.text = stopped ? fmt::format("exp({} - stop(max{}({})))", inner(x), over, x.text)
                     : fmt::format("exp({} - max{}({}))", inner(x), over, x.text);
  }
  e.low = 0;
  e.high = std::max(1.0, e.high);
  e = bind(e);
  ++values_.back().uses;
  Expr out =
      of_text(random_.chance(0.7) ? fmt::format("{} / sum{}({})", e.text, over, e.text)
                                  : fmt::format("{} * (1 / sum{}({}))", e.text, over, e.text),
              x.axes, 0, 1, x.trained);
  out.atom = false;
  return out;
}

bool Writer::softmax() {
  Expr x;
  if (!any_real(x)) return false;
  const int a = random_.of(x.axes);
  x = brought_within(x, 6);
  Expr y;
  if (random_.chance(0.4)) {
    Expr c = condition(x.axes);
    if (has(c.axes, a)) {
      if (random_.chance(0.5)) c = bind(c);
      y = softmax_of(x, a, &c);
    }
  }
  if (y.text.empty()) y = softmax_of(x, a, nullptr);
  if (random_.chance(0.2)) y = binary("*", y, x);
  bind(brought_within(y, 8));
  return true;
}

bool Writer::cross_entropy() {
  Expr x;
  if (!any_real(x, 1, 100)) return false;
  int v;
  if (random_.chance(0.5)) {
    const Axes over{random_.of(x.axes)};
    v = other_axis(random_.between(2, 6), x.axes);
    Axes with = over;
    with.push_back(v);
    x = bind(brought_within(product_sum(over, {x, parameter(with)}), 6));
    ++values_.back().uses;
  } else {
    v = random_.of(x.axes);
    x = brought_within(x, 6);
  }
  Axes rest = without(x.axes, {v});
  Expr i = index(rest, extent(v));
  const std::string over = list({v}), at = fmt::format("[{} = {}]", name(v), i.text);
  Expr y = of_text("", both(rest, i.axes), 0, 8, x.trained);
  operations_ += 6;
  const std::string z = inner(x);
  switch (random_.below(6)) {
    case 0:
      y.text = fmt::format("logsumexp{}({}) - {}{}", over, x.text, z, at);
      break;
    case 1:
      y.text = fmt::format("-({} - logsumexp{}({})){}", z, over, x.text, at);
      break;
    case 2:
      y.text = fmt::format("-(log(softmax{}({}))){}", over, x.text, at);
      break;
    case 3: {
      const Expr e = bind(
          of_text(fmt::format("exp({} - max{}({}))", z, over, x.text), x.axes, 0, 1, x.trained));
      y.text = fmt::format("log(sum{}({})) + max{}({}) - {}{}", over, e.text, over, x.text, z, at);
      break;
    }
    default:
      y.text = fmt::format("cross_entropy{}({}, {})", over, x.text, i.text);
  }
  y.atom = false;
  if (y.axes != rest && !covers(rest, y.axes)) return false;
  bind(y);
  return true;
}

bool Writer::activation() {
  Expr x;
  if (!any_real(x, 0)) return false;
  x = piece(x);
  const std::string z = inner(x);
  static const std::vector<std::string> spellings{
      "gelu({0})",
      "0.5 * {1} * (1 + tanh(0.7978845608028654 * ({1} + 0.044715 * {1} * {1} * {1})))",
      "{1} * 0.5 * (tanh(0.7978845608028654 * ({1} + {1} * {1} * {1} * 0.044715)) + 1)",
      "{1} / 2 * (1 + tanh(0.7978845608028654 * ({1} + 0.044715 * pow({0}, 3))))",
      "0.5 * {1} * (1 + tanh(0.8 * ({1} + 0.044715 * {1} * {1} * {1})))",
      "gelu_erf({0})",
      "0.5 * {1} * (1 + erf({1} / sqrt(2)))",
      "{1} * (erf(0.7071067811865476 * {1}) + 1) * 0.5",
      "{1} * (erf(0.7071067811865476 * {1}) + 1) / 2",
      "silu({0})",
      "{1} * sigmoid({0})",
      "{1} / (1 + exp(-{1}))",
      "{1} * (1 / (1 + exp(-{1})))",
      "0.5 * {1} * (1 + tanh(0.5 * {1}))",
      "sigmoid({0}) * {1} * {1}",
      "relu({0})",
      "{1} * sigmoid(1.702 * {1})",
  };
  const std::string& way = random_.of(spellings);
  std::string text;
  for (std::size_t i = 0; i < way.size(); ++i)
    if (way[i] == '{') {
      text += way[i + 1] == '0' ? x.text : z;
      i += 2;
    } else {
      text += way[i];
    }
  operations_ += 6;
  Expr y = of_text(text, x.axes, std::min(-1.0, x.low), std::max(1.0, x.high), x.trained);
  y.atom = false;
  if (way.find("* {1} * {1}") == way.size() - 11)
    y = of_text("(" + text + ")", x.axes, -1, x.high * x.high + 1, x.trained);
  if (random_.chance(0.2)) y = binary("*", y, x);
  bind(brought_within(y, 8));
  return true;
}

bool Writer::library() {
  Expr x;
  if (!any_real(x, 1, 80)) return false;
  const int a = random_.of(x.axes);
  const auto as = [&](std::string_view formal, int axis) {
    return name(axis) == formal ? "" : fmt::format(", {} = {}", formal, name(axis));
  };
  Expr y = of_text("", x.axes, -5, 5, true);
  operations_ += 8;
  const std::string eps = random_.chance(0.5) ? ", eps = 0.01" : "";
  switch (random_.below(6)) {
    case 0:
    case 1:
      y.text = fmt::format("layernorm({}{}{})", x.text, eps, as("d", a));
      break;
    case 2:
      y.text = fmt::format("rmsnorm({}{}{})", x.text, eps, as("d", a));
      break;
    case 3:
      y.text = fmt::format("mlp({}, width = 2{})", x.text, as("d", a));
      break;
    case 4:
      y.text = fmt::format("swiglu({}, f = {}{})", x.text, random_.between(1, 5), as("d", a));
      break;
    default: {
      if (x.axes.size() < 3) return false;
      const Axes order = shuffled(x.axes);
      const int heads = extent(order[2]) % 2 == 0 ? 2 : 1;
      y.text = fmt::format("attention({}, heads = {}{}{}{})", x.text, heads, as("b", order[0]),
                           as("t", order[1]), as("d", order[2]));
    }
  }
  if (random_.chance(0.5)) y = binary("+", y, x);
  bind(brought_within(y, 8));
  return true;
}

}  // namespace gradc::fuzz
