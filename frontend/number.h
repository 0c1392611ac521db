// Owns numbers known at compile time: exact fractions as long as they fit, reals beyond and
// wherever a fraction point was written. `/` of fractions is exact, so `4 * d / 3` needs no care
// about order.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace gradc {

class Number {
 public:
  Number() = default;
  static Number integer(std::int64_t n);
  static Number real(double x);
  // n / d; a real if d is 0 or the fraction does not fit.
  static Number fraction(std::int64_t n, std::int64_t d);
  // A literal without sign: digits alone are exact, anything else is a real.
  static Number literal(std::string_view text, double value, bool integer);

  double value() const {
    return exact_ ? static_cast<double>(top_) / static_cast<double>(bottom_) : real_;
  }
  // May stand for an integer value: written without a fraction point, and whole.
  bool whole() const { return exact_ && bottom_ == 1; }
  // The integer that it is, however it is written; else nothing.
  std::optional<std::int64_t> as_integer() const;
  std::string text() const;

  friend Number operator+(const Number& a, const Number& b);
  friend Number operator-(const Number& a, const Number& b);
  friend Number operator*(const Number& a, const Number& b);
  friend Number operator/(const Number& a, const Number& b);  // by 0: a real, not finite
  Number negated() const;
  bool zero() const { return exact_ ? top_ == 0 : real_ == 0; }
  // −1, 0, 1; fractions are compared exactly.
  friend int order(const Number& a, const Number& b);

 private:
  bool exact_ = true;
  std::int64_t top_ = 0, bottom_ = 1;  // in lowest terms, bottom_ > 0
  double real_ = 0;
};

// Floor division and its remainder, as the IR's floordiv and mod: by 0 both are 0.
std::int64_t floor_divide(std::int64_t a, std::int64_t b);
std::int64_t floor_remainder(std::int64_t a, std::int64_t b);

// A whole text that is a number with an optional sign, as `--set` takes it.
std::optional<Number> parse_number(std::string_view text);

}  // namespace gradc
