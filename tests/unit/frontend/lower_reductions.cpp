// Protects rules 7, 11 and 12: sums of products whatever form they take, and what `where` excludes.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "unit/frontend/lowered.h"

namespace gradc::test {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
double near(double x) { return std::fabs(x) * 1e-12 + 1e-14; }

// Element (i, j, k, …) of a parameter with these extents.
struct Param {
  std::string name;
  std::vector<std::int64_t> extents;
  double operator()(std::initializer_list<std::int64_t> at) const {
    std::int64_t flat = 0;
    std::size_t n = 0;
    for (std::int64_t i : at) flat = flat * extents[n++] + i;
    return filling(name, flat);
  }
};

}  // namespace

TEST_CASE("sums of products mean the sum of the product, and matrix products are contractions") {
  const Lowered m(R"(model m(b = 2, t = 3, d = 4, e = 5, s = 3)
param x[b t d], w[d e], y[b e], m[s d], g[d], c[t] ~ 0
param scale[] ~ 0
matrix = sum[d](x * w)                       # a contraction
vector = sum[d](x * g)                       # none: nothing of g is kept
outer = sum[t d](x * m)                      # t is x's alone and is summed before
three = sum[d e](x * w * y)
bilinear = sum[e](y * w * (x * c))
scaled = sum[d](0.5 * x * scale * w / 4 * 2)
ratio = sum[d](x * w / g)
average = mean[t d](x * m)
)", {"matrix", "vector", "outer", "three", "bilinear", "scaled", "ratio", "average"});
  const Param x{"x", {2, 3, 4}}, w{"w", {4, 5}}, y{"y", {2, 5}}, s{"m", {3, 4}}, g{"g", {4}}, c{"c", {3}};
  const double scale = filling("scale", 0);
  const Array matrix = m["matrix"], vector = m["vector"], outer = m["outer"], three = m["three"], bilinear = m["bilinear"],
              scaled = m["scaled"], ratio = m["ratio"], average = m["average"];
  const auto at = [](const Array& a, std::int64_t i) { return a.real[static_cast<std::size_t>(i)]; };
  for (std::int64_t b = 0; b < 2; ++b) {
    for (std::int64_t t = 0; t < 3; ++t) {
      double v = 0, u = 0;
      for (std::int64_t d = 0; d < 4; ++d) v += x({b, t, d}) * g({d});
      CHECK(std::fabs(at(vector, b * 3 + t) - v) <= near(v));
      for (std::int64_t e = 0; e < 5; ++e) {
        double p = 0, q = 0;
        for (std::int64_t d = 0; d < 4; ++d) p += x({b, t, d}) * w({d, e}), q += x({b, t, d}) * w({d, e}) / g({d});
        CHECK(std::fabs(at(matrix, (b * 3 + t) * 5 + e) - p) <= near(p));
        CHECK(std::fabs(at(scaled, (b * 3 + t) * 5 + e) - p * 0.25 * scale) <= near(p));
        CHECK(std::fabs(at(ratio, (b * 3 + t) * 5 + e) - q) <= 1e-9);
        u += p * y({b, e});
      }
      CHECK(std::fabs(at(three, b * 3 + t) - u) <= near(u));
      for (std::int64_t d = 0; d < 4; ++d) {
        double p = 0;
        for (std::int64_t e = 0; e < 5; ++e) p += y({b, e}) * w({d, e});
        p *= x({b, t, d}) * c({t});
        // Axes in the order in which the factors bring them: find the element by its strides.
        const std::vector<std::int64_t>& n = bilinear.extents;
        REQUIRE(n.size() == 3);
        REQUIRE(n[0] == 2);
        const std::int64_t flat = n[1] == 3 ? (b * 3 + t) * 4 + d : (b * 4 + d) * 3 + t;
        CHECK(std::fabs(at(bilinear, flat) - p) <= near(p));
      }
    }
    for (std::int64_t k = 0; k < 3; ++k) {
      double p = 0;
      for (std::int64_t t = 0; t < 3; ++t)
        for (std::int64_t d = 0; d < 4; ++d) p += x({b, t, d}) * s({k, d});
      CHECK(std::fabs(at(outer, b * 3 + k) - p) <= near(p));
      CHECK(std::fabs(at(average, b * 3 + k) - p / 12) <= near(p));
    }
  }
  // All but `vector` hold one matrix product.
  CHECK(m.count("eval", Opcode::contract_) == 7);
}

TEST_CASE("what `where` excludes counts for nothing, whatever it is") {
  const double nan = std::nan("");
  Lowered m(R"(model m(b = 3, s = 4)
param x[b s], keep[b s] ~ 0
c = keep > 0
total = sum[s](x where c)
average = mean[s](x where c)
overall = mean[b s](x where c)
highest = max[s](x where c)
best = argmax[s](x where c)
weight = softmax[s](x where c)
log_sum = logsumexp[s](x where c)
)", {"total", "average", "overall", "highest", "best", "weight", "log_sum"});
  // Row 0 keeps all, row 1 some beside NaN and infinities, row 2 nothing.
  m.set("x", {1, 2, -3, 0.5, nan, 2, 1, infinity, nan, -infinity, 1, 2});
  m.set("keep", {1, 1, 1, 1, 0, 1, 1, 0, 0, 0, 0, 0});
  const Array total = m["total"], average = m["average"], overall = m["overall"], highest = m["highest"], best = m["best"],
              weight = m["weight"], log_sum = m["log_sum"];
  CHECK(total.real == std::vector<double>{0.5, 3, 0});
  CHECK(average.real == std::vector<double>{0.125, 1.5, 0});
  CHECK(overall.real[0] == doctest::Approx(3.5 / 6));
  CHECK(highest.real == std::vector<double>{2, 2, -infinity});
  CHECK(best.integer == std::vector<std::int64_t>{1, 1, 0});
  const double z = std::exp(1) + std::exp(2) + std::exp(-3) + std::exp(0.5);
  CHECK(weight.real[1] == doctest::Approx(std::exp(2) / z));
  CHECK(weight.real[4] == 0);
  CHECK(weight.real[5] == doctest::Approx(1 / (1 + std::exp(-1))));
  CHECK(weight.real[7] == 0);
  for (std::size_t i = 8; i < 12; ++i) CHECK(weight.real[i] == 0);
  CHECK(log_sum.real[0] == doctest::Approx(std::log(z)));
  CHECK(log_sum.real[1] == doctest::Approx(2 + std::log1p(std::exp(-1))));
  CHECK(log_sum.real[2] == -infinity);
}

TEST_CASE("conditions of positions bring their own axes") {
  const Lowered m(R"(model m(b = 2, s = 4, t = 4)
param x[b s] ~ 0
prefix[b t] = sum[s](x where s <= t)
average[b t] = mean[s](x where s <= t)
weight[b t s] = softmax[s](x where s <= t)
)", {"prefix", "average", "weight"});
  const Array prefix = m["prefix"], average = m["average"], weight = m["weight"];
  for (std::int64_t b = 0; b < 2; ++b)
    for (std::int64_t t = 0; t < 4; ++t) {
      double sum = 0, z = 0;
      for (std::int64_t s = 0; s <= t; ++s) sum += filling("x", 4 * b + s), z += std::exp(filling("x", 4 * b + s));
      const std::size_t row = static_cast<std::size_t>(4 * b + t);
      CHECK(prefix.real[row] == doctest::Approx(sum));
      CHECK(average.real[row] == doctest::Approx(sum / static_cast<double>(t + 1)));
      for (std::int64_t s = 0; s < 4; ++s) {
        const double want = s <= t ? std::exp(filling("x", 4 * b + s)) / z : 0;
        CHECK(weight.real[4 * row + static_cast<std::size_t>(s)] == doctest::Approx(want));
      }
    }
}

TEST_CASE("cross entropy is logsumexp less the chosen one; large logits do not overflow") {
  Lowered m(R"(model m(b = 2, v = 3)
input target[b] < v
param x[b v] ~ 0
loss = mean[b](cross_entropy[v](x, target))
)");
  m.set("x", {1000, 1001, 999, -1000, 0, 1});
  m.set("target", {1, 0});
  const double first = std::log(1 + std::exp(-1) + std::exp(-2)), second = std::log(1 + std::exp(1)) + 1000;
  CHECK(m["loss"].real[0] == doctest::Approx((first + second) / 2));
}

TEST_CASE("integers keep their ranges and become real beside reals") {
  const Lowered m(R"(model m(t = 5)
i = (t * 3 - 4) // 2
r = (t * 3 - 4) % 4
q = t / 2
sum_of = sum[t](t)
where_of = sum[t](t where t % 2 == 1)
low = min[t](i)
)", {"i", "r", "q", "sum_of", "where_of", "low"});
  CHECK(m["i"].integer == std::vector<std::int64_t>{-2, -1, 1, 2, 4});
  CHECK(m["r"].integer == std::vector<std::int64_t>{0, 3, 2, 1, 0});
  CHECK(m["q"].real == std::vector<double>{0, 0.5, 1, 1.5, 2});
  CHECK(m["sum_of"].integer == std::vector<std::int64_t>{10});
  CHECK(m["where_of"].integer == std::vector<std::int64_t>{4});
  CHECK(m["low"].integer == std::vector<std::int64_t>{-2});
}

}  // namespace gradc::test
