// The elementary functions of f32 vectors against libm in double: their stated errors
// (codegen/math.h) over a million floats of all exponents and signs, and the special cases of pow.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <bit>
#include <cmath>
#include <limits>

#include "passes/group.h"
#include "unit/codegen/against.h"

using namespace gradc;
using namespace gradc::testing;

namespace {

struct Stated {
  const char* name;
  double (*exact)(double);
  double ulps;
  double least = 0;            // exact results down to which the statement goes
  double small = 0, small_ulps = 0;  // what is stated of results below `small`
};
constexpr Stated functions[] = {
    {"exp", [](double x) { return std::exp(x); }, 1},
    {"log", [](double x) { return std::log(x); }, 1},
    {"tanh", [](double x) { return std::tanh(x); }, 1.5},
    {"sigmoid", [](double x) { return 1 / (1 + std::exp(-x)); }, 2.9, 0x1p-126, 0x1p-21, 6.1},
    {"erf", [](double x) { return std::erf(x); }, 1.5},
    {"sin", [](double x) { return std::sin(x); }, 1.5},
    {"cos", [](double x) { return std::cos(x); }, 1.5},
    {"sqrt", [](double x) { return std::sqrt(x); }, 0.5},
    {"rsqrt", [](double x) { return 1 / std::sqrt(x); }, 1.5},
};

// In units of the last place of a float at the exact result; 0 where both are the same infinity,
// NaN or 0.
double error(double got, double exact) {
  const auto rounded = static_cast<float>(exact);
  if (std::isnan(rounded)) return std::isnan(got) ? 0 : INFINITY;
  if (std::isinf(exact)) return got == exact ? 0 : INFINITY;
  if (exact == 0) return got == 0 && std::signbit(got) == std::signbit(exact) ? 0 : INFINITY;
  if (std::isinf(rounded) && std::isinf(got)) return 0;
  const int exponent = std::max(std::min(std::ilogb(exact), 127), -126);
  return std::abs(got - exact) / std::ldexp(1.0, exponent - 23);
}

}  // namespace

TEST_CASE("functions of one argument err by no more than is stated, over all exponents") {
  constexpr std::int64_t n = 1 << 20;
  std::string results, body, names;
  for (const Stated& s : functions) {
    results += results.empty() ? "f32[n]" : ", f32[n]";
    body += fmt::format("  %{0} = {0} %x -> f32[n]\n", s.name);
    names += fmt::format("{}%{}", names.empty() ? "" : ", ", s.name);
  }
  const Program p = kernel_program(fmt::format(
      "kernel @k map(%x: f32[n={}]) -> {} {{\n{}  return {}\n}}\n", n, results, body, names));
  Array x = Array::zeros(DType::f32, {n});
  // A step without pattern in the low bits; then the integers and their neighbours.
  for (std::int64_t i = 0; i < n; ++i) {
    const std::int64_t k = i - (n - 3000);
    const auto bits = static_cast<std::uint32_t>(i * 4099);
    x.real[static_cast<std::size_t>(i)] =
        k < 0 ? std::bit_cast<float>(bits)
              : static_cast<float>(k / 3 - 500) * (1 + static_cast<float>(k % 3) * 0x1p-23f);
  }
  const Function& f = p.function(p.find("k"));
  for (const Target& target : runnable_targets()) {
    KernelInstance instance{p.find("k"), {row_major(f, f.type(f.body().arguments[0]))}};
    for (ValueId r : f.body().results) instance.buffers.push_back(row_major(f, f.type(r)));
    Execution execution(p, instance, target);
    const std::vector<Array> out = execution.run({x}, 1);
    for (std::size_t k = 0; k < std::size(functions); ++k) {
      double worst = 0, at = 0;
      for (std::size_t i = 0; i < x.real.size(); ++i) {
        const double exact = functions[k].exact(x.real[i]);
        const bool stated = !(std::abs(exact) < functions[k].least);
        const double weight =
            std::abs(exact) < functions[k].small ? functions[k].ulps / functions[k].small_ulps : 1;
        const double wrong = stated ? weight * error(out[k].real[i], exact)
                             : std::abs(out[k].real[i]) <= 2 * functions[k].least ? 0 : INFINITY;
        if (wrong > worst) {
          worst = wrong;
          at = x.real[i];
        }
      }
      INFO(target.name, ": ", functions[k].name, " at ", fmt::format("{} = {:a}", at, at));
      CHECK(worst <= functions[k].ulps);
      CHECK(worst >= functions[k].ulps * 0.4);  // the statement is no empty one
    }
  }
}

// As grouping writes it, 4s(1 − s) with s = (1 + t)/2: where s nears 1 its 2.9 ULP of 2⁻²⁴ count up to
// four times.
TEST_CASE("1 - tanh² beside 1 + tanh errs by a few floats near 1, and by nothing at the ends") {
  constexpr std::int64_t n = 1 << 14;
  Program p = kernel_program(fmt::format(
      "kernel @k map(%x: f32[n={}]) -> f32[n], f32[n] {{\n  %t = tanh %x -> f32[n]\n"
      "  %plus = add %t, 1.0 -> f32[n]\n  %square = mul %t, %t -> f32[n]\n"
      "  %slope = sub 1.0, %square -> f32[n]\n  return %plus, %slope\n}}\n",
      n));
  p.functions[0] = grouping::in_fewer_operations(p, Function(p.functions[0]));
  Array x = Array::zeros(DType::f32, {n});
  for (std::int64_t i = 0; i < n; ++i)
    x.real[static_cast<std::size_t>(i)] = static_cast<float>(i - n / 2) * 0x1.8p-7f;
  x.real[0] = -std::numeric_limits<double>::infinity();
  x.real[1] = std::numeric_limits<double>::infinity();
  x.real[2] = std::numeric_limits<double>::quiet_NaN();
  const Function& f = p.function(p.find("k"));
  const BufferLayout flat = row_major(f, f.type(f.body().arguments[0]));
  for (const Target& target : runnable_targets()) {
    Execution execution(p, {p.find("k"), {flat, flat, flat}}, target);
    const std::vector<Array> out = execution.run({x}, 1);
    double worst = 0;
    for (std::size_t i = 3; i < x.real.size(); ++i)
      worst = std::max(worst, std::abs(out[1].real[i] - 1 / std::pow(std::cosh(x.real[i]), 2)));
    INFO(target.name);
    CHECK(worst <= 0x1p-21);
    CHECK(worst > 0x1p-24);  // the statement is no empty one
    CHECK(out[1].real[0] <= 0x1p-124);
    CHECK(out[1].real[1] == 0);
    CHECK(std::isnan(out[1].real[2]));
  }
}

// A softmax's, of what is not above its maximum.
TEST_CASE("exp below a row's maximum errs by a float near 0 and by 3.2e-7 down to the subnormals") {
  constexpr std::int64_t n = 1 << 18;
  const Program p = kernel_program(fmt::format(
      "kernel @k rows(%x: f32[n={}]) -> f32[n] {{\n  %m = amax %x over n -> f32[]\n"
      "  %d = sub %x, %m -> f32[n]\n  %e = exp %d -> f32[n]\n  return %e\n}}\n",
      n));
  Array x = Array::zeros(DType::f32, {n});
  for (std::int64_t i = 0; i < n; ++i)
    x.real[static_cast<std::size_t>(i)] = static_cast<float>(-i) * 0x1.c0003p-12f;
  x.real[n - 1] = -std::numeric_limits<double>::infinity();
  const Function& f = p.function(p.find("k"));
  const BufferLayout flat = row_major(f, f.type(f.body().arguments[0]));
  for (const Target& target : runnable_targets()) {
    Execution execution(p, {p.find("k"), {flat, flat}}, target);
    const Array out = execution.run({x}, 1)[0];
    double near = 0, relative = 0, subnormal = 0;
    for (std::size_t i = 0; i < x.real.size(); ++i) {
      const double exact = std::exp(x.real[i]);
      if (x.real[i] >= -5) near = std::max(near, error(out.real[i], exact));
      if (x.real[i] >= -87)
        relative = std::max(relative, std::abs(out.real[i] - exact) / exact);
      else
        subnormal = std::max(subnormal, std::abs(out.real[i] - exact) - 3.2e-7 * exact);
    }
    INFO(target.name);
    CHECK(near <= 1.1);
    CHECK(near > 0.4);  // the statement is no empty one
    CHECK(relative <= 3.2e-7);
    CHECK(subnormal <= 0x1p-150);
    CHECK(out.real[n - 1] == 0);
  }
}

TEST_CASE("pow errs by no more than is stated and has C's special cases") {
  constexpr double inf = std::numeric_limits<double>::infinity(),
                   none = std::numeric_limits<double>::quiet_NaN();
  const double edges[] = {0,      -0.0,    1,        -1,        2,
                          -2,     0.5,     -0.5,     3,         -3,
                          1.5,    -1.5,    0x1p-149, -0x1p-149, 0x1.fffffep127,
                          0x1p24, -0x1p24, 16777215, -16777215, inf,
                          -inf,   none};
  constexpr std::int64_t n = 1 << 18;
  Array x = Array::zeros(DType::f32, {n}), y = x;
  std::uint64_t state = 99;
  for (std::size_t i = 0; i < static_cast<std::size_t>(n); ++i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    if (i < std::size(edges) * std::size(edges)) {
      x.real[i] = edges[i / std::size(edges)];
      y.real[i] = edges[i % std::size(edges)];
    } else {
      x.real[i] = std::bit_cast<float>(static_cast<std::uint32_t>(state >> 33) % 0x7f800000u);
      y.real[i] = static_cast<float>((static_cast<double>(state & 0xffffff) * 0x1p-24 - 0.5) *
                                     (i % 3 == 0   ? 2
                                      : i % 3 == 1 ? 40
                                                   : 400));
    }
  }
  const Program p =
      kernel_program(fmt::format("kernel @k map(%x: f32[n={}], %y: f32[n]) -> f32[n] {{\n  %r = "
                                 "pow %x, %y -> f32[n]\n  return %r\n}}\n",
                                 n));
  const Function& f = p.function(p.find("k"));
  const BufferLayout flat = row_major(f, f.type(f.body().arguments[0]));
  for (const Target& target : runnable_targets()) {
    Execution execution(p, {p.find("k"), {flat, flat, flat}}, target);
    const std::vector<Array> out = execution.run({x, y}, 1);
    double worst = 0;
    std::size_t at = 0;
    for (std::size_t i = 0; i < x.real.size(); ++i) {
      const double wrong = error(out[0].real[i], std::pow(x.real[i], y.real[i]));
      if (!(wrong <= worst)) {
        worst = wrong;
        at = i;
      }
    }
    INFO(target.name, ": pow of ", x.real[at], " and ", y.real[at], " is ", out[0].real[at]);
    CHECK(worst <= 1);
  }
}
