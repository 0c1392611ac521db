// Exact fractions of 64 bits that give way to reals when they no longer fit.
#include "frontend/number.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <limits>
#include <numeric>

namespace gradc {
namespace {

constexpr double exact_limit = 9007199254740992.0;  // 2^53: integers up to here are doubles

bool times(std::int64_t a, std::int64_t b, std::int64_t& out) {
  return !__builtin_mul_overflow(a, b, &out);
}

}  // namespace

Number Number::integer(std::int64_t n) { return fraction(n, 1); }

Number Number::real(double x) {
  Number out;
  out.exact_ = false;
  out.real_ = x;
  return out;
}

Number Number::fraction(std::int64_t n, std::int64_t d) {
  constexpr std::int64_t least = std::numeric_limits<std::int64_t>::min();
  if (d == 0 || n == least || d == least)
    return real(static_cast<double>(n) / static_cast<double>(d));
  if (d < 0) n = -n, d = -d;
  const std::int64_t g = std::gcd(n, d);
  Number out;
  out.top_ = n / g;
  out.bottom_ = d / g;
  return out;
}

Number Number::literal(std::string_view text, double value, bool integer) {
  std::int64_t n = 0;
  const auto [end, fault] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (integer && fault == std::errc() && end == text.data() + text.size())
    return Number::integer(n);
  return real(value);
}

std::optional<std::int64_t> Number::as_integer() const {
  if (exact_) return bottom_ == 1 ? std::optional(top_) : std::nullopt;
  if (!std::isfinite(real_) || std::fabs(real_) > exact_limit || real_ != std::floor(real_))
    return std::nullopt;
  return static_cast<std::int64_t>(real_);
}

std::string Number::text() const {
  if (exact_ && bottom_ == 1) return fmt::format("{}", top_);
  return fmt::format("{}", value());
}

Number operator+(const Number& a, const Number& b) {
  std::int64_t x, y, top, bottom;
  if (a.exact_ && b.exact_ && times(a.top_, b.bottom_, x) && times(b.top_, a.bottom_, y) &&
      !__builtin_add_overflow(x, y, &top) && times(a.bottom_, b.bottom_, bottom))
    return Number::fraction(top, bottom);
  return Number::real(a.value() + b.value());
}

Number operator-(const Number& a, const Number& b) { return a + b.negated(); }

Number operator*(const Number& a, const Number& b) {
  std::int64_t top, bottom;
  if (a.exact_ && b.exact_ && times(a.top_, b.top_, top) && times(a.bottom_, b.bottom_, bottom))
    return Number::fraction(top, bottom);
  return Number::real(a.value() * b.value());
}

Number operator/(const Number& a, const Number& b) {
  std::int64_t top, bottom;
  if (a.exact_ && b.exact_ && b.top_ != 0 && times(a.top_, b.bottom_, top) &&
      times(a.bottom_, b.top_, bottom))
    return Number::fraction(top, bottom);
  return Number::real(a.value() / b.value());
}

Number Number::negated() const {
  if (!exact_) return real(-real_);
  return fraction(-top_, bottom_);  // top_ is never the least
}

int order(const Number& a, const Number& b) {
  if (a.exact_ && b.exact_) {
    const __int128 x = static_cast<__int128>(a.top_) * b.bottom_,
                   y = static_cast<__int128>(b.top_) * a.bottom_;
    return x < y ? -1 : x > y ? 1 : 0;
  }
  const double x = a.value(), y = b.value();
  return x < y ? -1 : x > y ? 1 : 0;
}

std::int64_t floor_divide(std::int64_t a, std::int64_t b) {
  if (b == 0) return 0;
  const std::int64_t q = a / b;
  return q - (a % b != 0 && (a < 0) != (b < 0) ? 1 : 0);
}

std::int64_t floor_remainder(std::int64_t a, std::int64_t b) {
  return b == 0 ? 0 : a - b * floor_divide(a, b);
}

std::optional<Number> parse_number(std::string_view text) {
  const bool negative = text.starts_with('-');
  const std::string_view digits = negative ? text.substr(1) : text;
  if (digits.empty() || !(digits[0] == '.' || (digits[0] >= '0' && digits[0] <= '9')))
    return std::nullopt;
  double value = 0;
  const auto [end, fault] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (fault != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  const Number n = Number::literal(
      digits, value, digits.find_first_not_of("0123456789") == std::string_view::npos);
  return negative ? n.negated() : n;
}

}  // namespace gradc
