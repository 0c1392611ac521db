// Expressions with their intervals, and values.
#include "fuzz/writer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace gradc::fuzz {
namespace {

const std::vector<std::string> axis_names{"b", "t", "d", "v", "s", "h", "e", "f", "k",
                                          "n", "i", "j", "c", "g", "r", "q", "y", "z"};

std::string number_text(double x) {
  std::string text = fmt::format("{}", std::abs(x));
  if (text.find('e') != std::string::npos) text = fmt::format("{:.6f}", std::abs(x));
  return x < 0 ? "-" + text : text;
}

}  // namespace

int Writer::make_axis(int extent, bool in_header) {
  std::vector<std::string> free;
  for (const std::string& n : axis_names)
    if (std::find(taken_.begin(), taken_.end(), n) == taken_.end()) free.push_back(n);
  const std::string name = free.empty()          ? fmt::format("a{}", counter_++)
                           : random_.chance(0.5) ? free[0]
                                                 : random_.of(free);
  taken_.push_back(name);
  axes_.push_back({name, extent});
  if (in_header)
    header_ += fmt::format("{}{} = {}", header_.empty() ? "" : ", ", name, extent);
  else
    line(fmt::format("axis {} = {}", name, extent));
  return static_cast<int>(axes_.size()) - 1;
}

int Writer::other_axis(int extent, const Axes& avoid) {
  for (int a = 0; a < static_cast<int>(axes_.size()); ++a)
    if (this->extent(a) == extent && !axes_[static_cast<std::size_t>(a)].gone && !has(avoid, a) &&
        random_.chance(0.6))
      return a;
  return make_axis(extent);
}

std::string Writer::list(const Axes& axes) const {
  std::string out = "[";
  for (const int a : axes) out += (out.size() > 1 ? " " : "") + name(a);
  return out + "]";
}

int Writer::elements(const Axes& axes) const {
  int n = 1;
  for (const int a : axes) n *= extent(a);
  return n;
}
bool Writer::has(const Axes& axes, int axis) {
  return std::find(axes.begin(), axes.end(), axis) != axes.end();
}
bool Writer::covers(const Axes& a, const Axes& b) {
  return std::all_of(b.begin(), b.end(), [&](int x) { return has(a, x); });
}
Axes Writer::both(const Axes& a, const Axes& b) {
  Axes out = a;
  for (const int x : b)
    if (!has(out, x)) out.push_back(x);
  return out;
}
Axes Writer::without(const Axes& a, const Axes& b) {
  Axes out;
  for (const int x : a)
    if (!has(b, x)) out.push_back(x);
  return out;
}
Axes Writer::shuffled(Axes axes) {
  random_.shuffle(axes);
  return axes;
}
Axes Writer::some(const Axes& axes) {
  Axes out;
  for (const int a : shuffled(axes))
    if (out.empty() || random_.chance(0.3)) out.push_back(a);
  return out;
}

Expr Writer::number(double x) const {
  return {number_text(x), x >= 0, Sort::real, {}, x, x, false, true};
}
Expr Writer::small_number() {
  static const std::vector<double> numbers{0.5, 0.25, 1.5, 2, 0.3, 0.7, 1.1, 3, 0.125, 0.9};
  return number(random_.of(numbers));
}
Expr Writer::position(int axis) const {
  return {name(axis), true, Sort::integer, {axis}, 0, static_cast<double>(extent(axis) - 1),
          false,      true};
}

std::string Writer::inner(const Expr& e) {
  return e.atom && !random_.chance(0.03) ? e.text : "(" + e.text + ")";
}

Expr Writer::of_text(std::string text, const Axes& axes, double low, double high, bool trained) {
  return {std::move(text), true, Sort::real, axes, low, high, trained, false};
}

Expr Writer::binary(std::string_view sign, const Expr& x, const Expr& y) {
  ++operations_;
  const bool commutes = sign == "+" || sign == "*" || sign == "max" || sign == "min";
  const bool turned = commutes && random_.chance(0.4);
  const Expr &a = turned ? y : x, &b = turned ? x : y;
  Expr out{"",
           false,
           Sort::real,
           both(a.axes, b.axes),
           0,
           0,
           a.trained || b.trained,
           a.positional && b.positional};
  // A number without a fraction counts as an integer beside integers.
  const auto whole = [](const Expr& e) {
    return e.sort == Sort::integer ||
           (e.positional && e.axes.empty() && e.low == std::floor(e.low));
  };
  if (whole(a) && whole(b) && sign != "/" && sign != "pow") out.sort = Sort::integer;
  if (sign == "max" || sign == "min" || sign == "pow") {
    out.text = fmt::format("{}({}, {})", sign, a.text, b.text);
    out.atom = true;
  } else {
    out.text = fmt::format("{} {} {}", inner(a), sign, inner(b));
  }
  std::array<double, 4> corners{};
  const std::array<double, 2> as{a.low, a.high}, bs{b.low, b.high};
  for (std::size_t i = 0; i < 4; ++i) {
    const double p = as[i / 2], q = bs[i % 2];
    corners[i] = sign == "+"     ? p + q
                 : sign == "-"   ? p - q
                 : sign == "*"   ? p * q
                 : sign == "/"   ? p / q
                 : sign == "//"  ? std::floor(p / q)
                 : sign == "max" ? std::max(p, q)
                 : sign == "min" ? std::min(p, q)
                 : sign == "pow" ? std::pow(p, q)
                                 : q - 1;
  }
  out.low = *std::min_element(corners.begin(), corners.end());
  out.high = *std::max_element(corners.begin(), corners.end());
  if (sign == "%") out.low = 0;
  return out;
}

Expr Writer::call(std::string_view function, const Expr& a) {
  ++operations_;
  Expr out{fmt::format("{}({})", function, a.text),
           true,
           Sort::real,
           a.axes,
           -1,
           1,
           a.trained,
           a.positional};
  const auto range = [&](double low, double high) {
    out.low = low;
    out.high = high;
  };
  if (function == "exp") range(std::exp(a.low), std::exp(a.high));
  if (function == "log") range(std::log(a.low), std::log(a.high));
  if (function == "sqrt") range(std::sqrt(a.low), std::sqrt(a.high));
  if (function == "rsqrt") range(1 / std::sqrt(a.high), 1 / std::sqrt(a.low));
  if (function == "abs") range(a.low > 0 ? a.low : 0, a.most());
  if (function == "floor") range(std::floor(a.low), a.high);
  if (function == "stop") range(a.low, a.high);
  if (function == "stop" || function == "floor") out.trained = false;
  return out;
}

Expr Writer::choose(const Expr& c, const Expr& a, const Expr& b) {
  ++operations_;
  Expr out{fmt::format("select({}, {}, {})", c.text, a.text, b.text),
           true,
           Sort::real,
           both(both(c.axes, a.axes), b.axes),
           std::min(a.low, b.low),
           std::max(a.high, b.high),
           a.trained || b.trained,
           c.positional && a.positional && b.positional};
  if (a.sort == Sort::integer && b.sort == Sort::integer) out.sort = Sort::integer;
  return out;
}

Expr Writer::brought_within(Expr e, double most) {
  if (e.most() <= most) return e;
  switch (random_.below(5)) {
    case 0:
      return binary("*", e, number(std::floor(most / e.most() * 1000 + 1) / 1000));
    case 1:
      return most < 1 ? binary("*", call("tanh", e), number(most)) : call("tanh", e);
    case 2:
      return most < 1 ? binary("*", call("sin", e), number(most)) : call("sin", e);
    case 3: {
      const Expr size = binary("+", number(1), call("abs", e));
      Expr out = binary("/", e, size);
      out.low = -1;
      out.high = 1;
      return most < 1 ? binary("*", out, number(most)) : out;
    }
    default:
      return binary("max", binary("min", e, number(most)), number(-most));
  }
}

Expr Writer::positive(const Expr& e) {
  switch (random_.below(5)) {
    case 0: {
      Expr square = binary("*", e, e);
      square.low = 0;
      return binary("+", square, number(0.5));
    }
    case 1:
      return call("exp", brought_within(e, 1.5));
    case 2:
      return binary("+", call("abs", e), number(0.3));
    case 3:
      return binary("+", call("tanh", e), number(1.5));
    default:
      return binary("+", binary("max", e, number(0)), number(0.7));
  }
}

Expr Writer::reduced(std::string_view name, const Axes& over, const Expr& e,
                     std::string_view where) {
  ++operations_;
  Expr out = of_text(
      fmt::format("{}{}({}{}{})", name, list(over), e.text, where.empty() ? "" : " where ", where),
      without(e.axes, over), e.low, e.high, e.trained);
  const double n = elements(over);
  if (name == "sum") {
    out.low = std::min(0.0, e.low * n);
    out.high = std::max(0.0, e.high * n);
  } else if (name == "logsumexp") {
    out.high = e.high + std::log(n);
  } else if (name == "argmax") {
    out.low = 0;
    out.high = n - 1;
    out.trained = false;
  }
  if (name == "argmax" || (e.sort == Sort::integer && name != "mean" && name != "logsumexp"))
    out.sort = Sort::integer;
  if (!where.empty()) {  // of nothing a sum is 0
    out.low = std::min(0.0, out.low);
    out.high = std::max(0.0, out.high);
  }
  return out;
}

Expr Writer::product_sum(const Axes& over, std::vector<Expr> factors) {
  random_.shuffle(factors);
  std::string text;
  Axes axes;
  double most = elements(over);
  bool trained = false;
  for (const Expr& f : factors) {
    text += (text.empty() ? "" : " * ") + inner(f);
    axes = both(axes, f.axes);
    most *= f.most();
    trained = trained || f.trained;
    ++operations_;
  }
  most /= std::max(1.0, std::sqrt(elements(over)));  // terms of both signs
  return of_text(fmt::format("sum{}({})", list(over), text), without(axes, over), -most, most,
                 trained);
}

Expr Writer::use(std::size_t value) {
  ++values_[value].uses;
  return values_[value].expr;
}

void Writer::line(std::string text) { body_ += std::string(2 * scopes_.size(), ' ') + text + "\n"; }
std::string Writer::fresh(std::string_view stem) { return fmt::format("{}{}", stem, counter_++); }

Expr Writer::bind(const Expr& e, bool with_list) {
  Expr out = e;
  out.text = fresh("x");
  out.atom = true;
  if (with_list) out.axes = shuffled(e.axes);
  line(fmt::format("{}{} = {}", out.text, with_list ? list(out.axes) : "", e.text));
  values_.push_back({out.text, out, true, 0});
  return out;
}
Expr Writer::piece(const Expr& e) {
  if (random_.chance(0.5)) return e;
  const Expr out = bind(e);
  ++values_.back().uses;
  return out;
}

bool Writer::any_real(Expr& out, int least_axes, int most_elements) {
  for (int tries = 0; tries < 12; ++tries) {
    // Late values more often: chains rather than stars.
    const int n = static_cast<int>(values_.size());
    const int k = random_.chance(0.6) ? n - 1 - random_.below(std::min(n, 5)) : random_.below(n);
    const Value& v = values_[static_cast<std::size_t>(k)];
    if (v.expr.sort != Sort::real || static_cast<int>(v.expr.axes.size()) < least_axes ||
        elements(v.expr.axes) > most_elements || (!v.expr.trained && random_.chance(0.5)))
      continue;
    out = use(static_cast<std::size_t>(k));
    return true;
  }
  return false;
}

bool Writer::real_within(const Axes& axes, Expr& out) {
  std::vector<std::size_t> all;
  for (std::size_t i = 0; i < values_.size(); ++i)
    if (const Expr& e = values_[i].expr;
        e.sort == Sort::real && !e.axes.empty() && covers(axes, e.axes))
      all.push_back(i);
  if (all.empty()) return false;
  out = use(random_.of(all));
  return true;
}

bool Writer::real_covering(const Axes& axes, Expr& out) {
  std::vector<std::size_t> all;
  for (std::size_t i = 0; i < values_.size(); ++i)
    if (const Expr& e = values_[i].expr;
        e.sort == Sort::real && covers(e.axes, axes) && elements(e.axes) <= 200)
      all.push_back(i);
  if (all.empty()) return false;
  out = use(random_.of(all));
  return true;
}

Expr Writer::parameter(const Axes& axes, double low, double high) {
  const std::string w = fresh("w");
  const Axes order = shuffled(axes);
  line(
      fmt::format("param {}{} ~ normal({})", w, list(order), random_.chance(0.5) ? "0.3" : "0.02"));
  Expr e = of_text(w, order, low, high, true);
  if (scopes_.empty()) values_.push_back({w, e, false, 1});
  return e;
}

void Writer::enter() { scopes_.push_back({values_.size(), axes_.size()}); }
void Writer::leave() {
  values_.resize(scopes_.back().values);
  for (std::size_t a = scopes_.back().axes; a < axes_.size(); ++a) axes_[a].gone = true;
  scopes_.pop_back();
}

}  // namespace gradc::fuzz
