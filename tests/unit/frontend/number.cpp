// Protects rule 4's arithmetic: fractions are exact as long as they fit and never wrap around.
#include "frontend/number.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

namespace gradc {

TEST_CASE("fractions are exact and in lowest terms") {
  const Number d = Number::integer(768), third = Number::integer(1) / Number::integer(3);
  CHECK((d / Number::integer(12)).as_integer() == 64);
  CHECK(!(d / Number::integer(5)).as_integer());
  CHECK((Number::integer(4) * d * third).as_integer() == 1024);
  CHECK(((third + third + third) - Number::integer(1)).zero());
  CHECK(order(third, Number::fraction(333'333'333, 1'000'000'000)) == 1);
  CHECK(order(Number::fraction(2, -6), third.negated()) == 0);
}

TEST_CASE("what is written with a point is real, and an integer only where one is asked for") {
  CHECK(Number::literal("2", 2, true).whole());
  const Number two = Number::literal("2.0", 2, false);
  CHECK(!two.whole());
  CHECK(two.as_integer() == 2);
  CHECK(!(two / Number::integer(4)).as_integer());
  CHECK(!Number::real(std::nan("")).as_integer());
  CHECK(!Number::real(1e300).as_integer());
}

TEST_CASE("what no longer fits becomes real instead of wrapping around") {
  constexpr std::int64_t most = std::numeric_limits<std::int64_t>::max();
  const Number n = Number::integer(most);
  CHECK((n + n).value() == doctest::Approx(2 * static_cast<double>(most)));
  CHECK((n * n).value() == doctest::Approx(static_cast<double>(most) * static_cast<double>(most)));
  CHECK((n.negated() - n).value() == doctest::Approx(-2 * static_cast<double>(most)));
  CHECK(Number::integer(std::numeric_limits<std::int64_t>::min()).value() == -0x1p63);
  CHECK(std::isinf((Number::integer(1) / Number{}).value()));
}

TEST_CASE("floor division and remainder go towards minus infinity") {
  for (std::int64_t a = -7; a <= 7; ++a)
    for (std::int64_t b : {-3, -1, 1, 2, 5}) {
      const std::int64_t q = floor_divide(a, b);
      CHECK(static_cast<double>(q) == std::floor(static_cast<double>(a) / static_cast<double>(b)));
      CHECK(floor_remainder(a, b) == a - b * q);
    }
  CHECK(floor_divide(5, 0) == 0);
  CHECK(floor_remainder(5, 0) == 0);
}

TEST_CASE("--set takes a number with an optional sign and nothing else") {
  CHECK(parse_number("12")->whole());
  CHECK(parse_number("-3")->as_integer() == -3);
  CHECK(parse_number("1e-3")->value() == 1e-3);
  CHECK(parse_number(".5")->value() == 0.5);
  for (const char* text : {"", "-", "abc", "1x", "--1", "+1", "0x10", "inf", "nan", "1 ", " 1", "1e", "1e999"}) CHECK(!parse_number(text));
}

}  // namespace gradc
