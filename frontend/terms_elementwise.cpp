// Arithmetic, comparisons and functions of typed values (rule 6). Which operands may meet (rule 7)
// is the business of the expression around them.
#include <algorithm>
#include <cmath>

#include "frontend/terms.h"

namespace gradc {
namespace {

// A number that may stand beside integers.
bool serves_as_integer(const Number& n) {
  const auto i = n.whole() ? n.as_integer() : std::nullopt;
  return i && *i >= INT32_MIN && *i <= INT32_MAX;
}
bool integral(const Term& x) { return x.is_number() ? serves_as_integer(x.exact) : x.integer(); }

}  // namespace

bool Terms::numeric(const Term& x, Span at) {
  if (!x.boolean()) return x.ok();
  report_.error(at, "a boolean is no number; `select(c, 1, 0)` makes one");
  return false;
}

Term Terms::elementwise(Opcode code, DType dtype, std::initializer_list<const Term*> operands,
                        Span at) {
  Axes axes;
  for (const Term* t : operands)
    for (const NamedAxis* a : t->axes) add_axis(axes, a);
  return add(code, operands, {}, dtype, axes, at);
}

Term Terms::number_arithmetic(Opcode code, const Number& a, const Number& b, Span at) {
  const auto whole = [&](const Number& n) {
    if (!n.as_integer())
      report_.error(at,
                    fmt::format("`{}` is not a whole number, which `//` and `%` need", n.text()));
    return n.as_integer();
  };
  switch (code) {
    case Opcode::add_: return number_term(a + b);
    case Opcode::sub_: return number_term(a - b);
    case Opcode::mul_: return number_term(a * b);
    case Opcode::max_: return number_term(order(a, b) >= 0 ? a : b);
    case Opcode::min_: return number_term(order(a, b) <= 0 ? a : b);
    case Opcode::pow_: {
      const std::optional<std::int64_t> n = b.as_integer();
      if (!n || *n < 0 || *n > 64 || !a.whole())
        return number_term(Number::real(std::pow(a.value(), b.value())));
      Number out = Number::integer(1);
      for (std::int64_t i = 0; i < *n; ++i) out = out * a;
      return number_term(out);
    }
    default: break;
  }
  if (b.zero()) {
    report_.error(at, "a division by zero");
    return {};
  }
  if (code == Opcode::div_) return number_term(a / b);
  const auto x = whole(a), y = whole(b);
  if (!x || !y) return {};
  return number_term(
      Number::integer(code == Opcode::mod_ ? floor_remainder(*x, *y) : floor_divide(*x, *y)));
}

Term Terms::arithmetic(Opcode code, const Term& a, const Term& b, Span at) {
  if (!a.ok() || !b.ok()) return {};
  if (!numeric(a, at) || !numeric(b, at)) return {};
  if (a.is_number() && b.is_number()) return number_arithmetic(code, a.exact, b.exact, at);
  const bool needs_integers = code == Opcode::floordiv_ || code == Opcode::mod_;
  const bool gives_real =
      code == Opcode::div_ || code == Opcode::pow_ || !integral(a) || !integral(b);
  if (needs_integers && gives_real) {
    const Term& wrong = integral(a) ? b : a;
    report_.error(
        at, fmt::format(
                "`//` and `%` take integers, and one side is {}; of reals, write `floor(x / y)`",
                describe(wrong)));
    return {};
  }
  if (gives_real) {
    const Term x = to_real(a, at), y = to_real(b, at);
    if (!x.ok() || !y.ok()) return {};
    return elementwise(code, real_, {&x, &y}, at);
  }
  Term range;
  if (!bounded(code, a, b, range, at)) return {};
  const Term x = materialise(a, false, at), y = materialise(b, false, at);
  if (!x.integer() || !y.integer()) return {};
  Term t = elementwise(code, DType::i32, {&x, &y}, at);
  t.low = range.low;
  t.high = range.high;
  follow_position(code, x, y, t);
  return t;
}

Term Terms::negate(const Term& x, Span at) {
  if (!x.ok() || !numeric(x, at)) return {};
  if (x.is_number()) return number_term(x.exact.negated());
  if (x.real()) return elementwise(Opcode::neg_, real_, {&x}, at);
  if (x.low <= INT32_MIN) {
    report_.error(at,
                  std::string("the negation of this integer may leave the 32 bits of integers"));
    return {};
  }
  Term t = elementwise(Opcode::neg_, DType::i32, {&x}, at);
  t.low = -x.high;
  t.high = -x.low;
  follow_position(Opcode::neg_, x, x, t);
  return t;
}

Term Terms::compare(std::string_view sign, const Term& a, const Term& b, Span at) {
  if (!a.ok() || !b.ok()) return {};
  const bool equality = sign == "==" || sign == "!=";
  if (a.is_number() && b.is_number()) {
    const int c = order(a.exact, b.exact);
    return boolean(sign == "<"    ? c < 0
                   : sign == "<=" ? c <= 0
                   : sign == ">"  ? c > 0
                   : sign == ">=" ? c >= 0
                                  : (c == 0) == (sign == "=="),
                   at);
  }
  const bool swap = sign == ">" || sign == ">=";
  const Term& left = swap ? b : a;
  const Term& right = swap ? a : b;
  const Opcode code = sign == "=="       ? Opcode::eq_
                      : sign == "!="     ? Opcode::ne_
                      : sign.size() == 1 ? Opcode::lt_
                                         : Opcode::le_;
  if (a.boolean() && b.boolean() && equality)
    return elementwise(code, DType::boolean, {&left, &right}, at);
  if (!numeric(a, at) || !numeric(b, at)) return {};
  const bool integers = integral(left) && integral(right);
  const Term x = integers ? materialise(left, false, at) : to_real(left, at);
  const Term y = integers ? materialise(right, false, at) : to_real(right, at);
  if (!x.ok() || !y.ok()) return {};
  Term t = elementwise(code, DType::boolean, {&x, &y}, at);
  if (integers) find_witnesses(code, x, y, t);
  return t;
}

Term Terms::logic(Opcode code, const Term& a, const Term& b, Span at) {
  if (!a.ok() || !b.ok()) return {};
  for (const Term* t : {&a, &b})
    if (!t->boolean()) {
      report_.error(at, fmt::format("`{}` takes booleans, and one side is {}",
                                    code == Opcode::and_ ? "and" : "or", describe(*t)));
      return {};
    }
  Term t = elementwise(code, DType::boolean, {&a, &b}, at);
  const signed char decisive = code == Opcode::and_ ? 0 : 1;
  if (a.truth == decisive || b.truth == decisive)
    t.truth = decisive;
  else if (a.truth >= 0 && b.truth >= 0)
    t.truth = static_cast<signed char>(1 - decisive);
  if (code == Opcode::or_) {
    t.witnesses = a.witnesses;
    t.witnesses.insert(t.witnesses.end(), b.witnesses.begin(), b.witnesses.end());
  } else {
    for (const auto& w : a.witnesses)
      if (b.truth == 1 || std::find(b.witnesses.begin(), b.witnesses.end(), w) != b.witnesses.end())
        t.witnesses.push_back(w);
    if (a.truth == 1) t.witnesses = b.witnesses;
  }
  return t;
}

Term Terms::invert(const Term& x, Span at) {
  if (!x.ok()) return {};
  if (!x.boolean()) {
    report_.error(at, fmt::format("`not` takes a boolean, and this is {}", describe(x)));
    return {};
  }
  Term t = elementwise(Opcode::not_, DType::boolean, {&x}, at);
  if (x.truth >= 0) t.truth = static_cast<signed char>(1 - x.truth);
  return t;
}

Term Terms::select(const Term& c, const Term& a, const Term& b, Span at) {
  if (!c.ok() || !a.ok() || !b.ok()) return {};
  if (!c.boolean()) {
    report_.error(at,
                  fmt::format("`select` takes a boolean condition, and this is {}", describe(c)));
    return {};
  }
  if (a.is_number() && b.is_number() && c.truth >= 0 && c.axes.empty()) return c.truth == 1 ? a : b;
  if (a.boolean() != b.boolean()) {
    report_.error(
        at,
        fmt::format(
            "the branches of `select` are {} and {}: either both are booleans, or both are numbers",
            describe(a), describe(b)));
    return {};
  }
  if (a.boolean()) return elementwise(Opcode::select_, DType::boolean, {&c, &a, &b}, at);
  if (integral(a) && integral(b)) {
    const Term x = materialise(a, false, at), y = materialise(b, false, at);
    Term t = elementwise(Opcode::select_, DType::i32, {&c, &x, &y}, at);
    t.low = std::min(x.low, y.low);
    t.high = std::max(x.high, y.high);
    return t;
  }
  const Term x = to_real(a, at), y = to_real(b, at);
  if (!x.ok() || !y.ok()) return {};
  return elementwise(Opcode::select_, real_, {&c, &x, &y}, at);
}

namespace {

double of_number(Opcode code, double x) {
  switch (code) {
    case Opcode::exp_: return std::exp(x);
    case Opcode::log_: return std::log(x);
    case Opcode::sqrt_: return std::sqrt(x);
    case Opcode::rsqrt_: return 1 / std::sqrt(x);
    case Opcode::sin_: return std::sin(x);
    case Opcode::cos_: return std::cos(x);
    case Opcode::tanh_: return std::tanh(x);
    case Opcode::erf_: return std::erf(x);
    default: return x;
  }
}

}  // namespace

Term Terms::function(Opcode code, const Term& x, Span at) {
  if (!x.ok() || !numeric(x, at)) return {};
  if (x.is_number()) {
    const Number& n = x.exact;
    switch (code) {
      case Opcode::stop_: return x;
      case Opcode::abs_: return number_term(order(n, Number{}) < 0 ? n.negated() : n);
      case Opcode::floor_: {
        const double down = std::floor(n.value());
        if (n.whole() || std::fabs(down) > 9e15)
          return number_term(n.whole() ? n : Number::real(down));
        return number_term(Number::integer(static_cast<std::int64_t>(down)));
      }
      default: return number_term(Number::real(of_number(code, n.value())));
    }
  }
  if (x.integer() && (code == Opcode::floor_ || code == Opcode::stop_)) return x;
  if (x.integer() && code == Opcode::abs_ && x.low > INT32_MIN) {
    Term t = elementwise(code, DType::i32, {&x}, at);
    t.low = x.low > 0 ? x.low : x.high < 0 ? -x.high : 0;
    t.high = std::max(std::abs(x.low), std::abs(x.high));
    return t;
  }
  const Term y = to_real(x, at);
  if (!y.ok()) return {};
  Term t = elementwise(code, real_, {&y}, at);
  if (code == Opcode::floor_ || code == Opcode::stop_) t.trained = false;
  return t;
}

}  // namespace gradc
