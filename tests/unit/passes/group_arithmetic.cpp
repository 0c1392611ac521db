// Protects the arithmetic of kernels in fewer operations: that random trees of sums, products and tanh
// mean the same as before, hold no more operations where no tanh became a sigmoid, and that what is no
// number keeps its place. The forms that it finds are goldens (tests/golden/group/arithmetic.golden).
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <random>

#include "ir/builder.h"
#include "ir/verify.h"
#include "passes/group.h"
#include "passes/passes.h"
#include "unit/passes/group_support.h"

namespace gradc {
namespace {

using namespace plan_test;

// Operations of the largest results that do arithmetic.
int full_operations(const Function& k) {
  int rank = 0, out = 0;
  for (OpId o : k.body().ops)
    rank = std::max(rank, static_cast<int>(k.type(k.op(o).results[0]).axes.size()));
  for (OpId o : k.body().ops) {
    const Op& op = k.op(o);
    const bool counts = op.code == Opcode::add_ || op.code == Opcode::sub_ ||
                        op.code == Opcode::mul_ || op.code == Opcode::neg_;
    if (counts && k.type(op.results[0]).axes.size() == rank) ++out;
  }
  return out;
}
bool has(const Function& k, Opcode code) {
  return std::any_of(k.body().ops.begin(), k.body().ops.end(),
                     [&](OpId o) { return k.op(o).code == code; });
}

// A map of values that are read often, some of them of one axis or none.
Function random_kernel(Program& p, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  const auto pick = [&](std::size_t n) { return static_cast<std::size_t>(random() % n); };
  Function k;
  k.name = p.intern("k");
  k.family = Family::map;
  Builder b(p, k);
  const AxisId row = b.axis("a", 3), column = b.axis("b", 4);
  const std::vector<AxisList> axes{{row, column}, {row, column}, {row, column}, {row}, {}};
  std::vector<ValueId> values;
  for (const AxisList& x : axes) values.push_back(b.argument({DType::f32, x}, "x"));
  for (double c : {1.0, 0.5, -1.0, 3.0}) values.push_back(b.constant(c));
  const std::size_t steps = 6 + pick(26);
  for (std::size_t i = 0; i < steps; ++i) {
    static constexpr Opcode codes[] = {Opcode::add_, Opcode::sub_, Opcode::mul_, Opcode::mul_};
    // Mostly of what came last, so that trees are deep.
    const auto any = [&] {
      const std::size_t back = pick(3) != 0 ? std::min<std::size_t>(values.size(), 5) : values.size();
      return values[values.size() - 1 - pick(back)];
    };
    const ValueId x = any(), y = any();
    switch (pick(8)) {
      case 0: values.push_back(b.unary(Opcode::neg_, x)); break;
      case 1: {
        const ValueId t = b.unary(Opcode::tanh_, x);
        if (pick(3) != 0) values.push_back(b.binary(Opcode::add_, b.constant(1), t));
        if (pick(3) != 0)
          values.push_back(
              b.binary(Opcode::sub_, b.constant(1), b.binary(Opcode::mul_, t, t)));
        if (pick(4) == 0) values.push_back(t);
        break;
      }
      case 2: values.push_back(b.unary(Opcode::sin_, x)); break;
      default: values.push_back(b.binary(codes[pick(4)], x, y));
    }
  }
  std::vector<ValueId> results;
  for (std::size_t i = values.size() - 4; i < values.size(); ++i)
    if (k.definition(values[i]) != nullptr && k.type(values[i]).axes.size() == 2)
      results.push_back(values[i]);
  if (results.empty()) results.push_back(b.binary(Opcode::add_, values[0], values.back()));
  b.finish(results);
  return k;
}

}  // namespace

TEST_CASE("arithmetic in fewer operations: random trees mean the same") {
  int shorter = 0, sigmoids = 0;
  for (std::uint64_t seed = 0; seed < 3000; ++seed) {
    Program p;
    Function before = random_kernel(p, seed);
    Function after = grouping::in_fewer_operations(p, before);
    after.name = p.intern("short");
    p.functions = {before, after};
    INFO("seed ", seed);
    REQUIRE(verify(p).empty());
    const bool sigmoid = has(after, Opcode::sigmoid_);
    sigmoids += sigmoid;
    if (!sigmoid) CHECK(full_operations(after) <= full_operations(before));
    shorter += full_operations(after) < full_operations(before);
    std::vector<Array> arguments = draw(before, seed);
    // Small, so that no tree of products grows beyond what doubles can compare.
    for (Array& a : arguments)
      for (double& x : a.real) x *= 0.6;
    const std::vector<Array> one = interpret(p, "k", arguments), two = interpret(p, "short", arguments);
    for (std::size_t r = 0; r < one.size(); ++r)
      for (std::size_t i = 0; i < one[r].real.size(); ++i) {
        const double x = one[r].real[i], y = two[r].real[i];
        CHECK(std::abs(x - y) <= 1e-7 * std::max(1.0, std::abs(x)));  // terms cancel
      }
  }
  CHECK(shorter > 400);
  CHECK(sigmoids > 300);
}

TEST_CASE("arithmetic in fewer operations: infinity, NaN and 0 keep their places") {
  const Program p = parsed(R"(
func @f(%x: f32[a=2]) -> (y: f32[a], z: f32[a], w: f32[a], v: f32[a]) {
  %nan = constant nan -> f32[]
  %inf = constant inf -> f32[]
  %two = constant 2.0 -> f32[]
  %three = constant 3.0 -> f32[]
  %0 = mul %x, %two -> f32[a]
  %1 = add %0, %nan -> f32[a]
  %y = mul %1, %three -> f32[a]
  %2 = mul %x, %inf -> f32[a]
  %3 = mul %2, %two -> f32[a]
  %z = sub %three, %3 -> f32[a]
  %4 = add %x, %two -> f32[a]
  %w = mul %4, %three -> f32[a]
  %zero = constant 0.0 -> f32[]
  %5 = mul %x, %zero -> f32[a]
  %6 = mul %4, %zero -> f32[a]
  %7 = add %5, %6 -> f32[a]
  %8 = mul %7, %x -> f32[a]
  %9 = mul %8, %two -> f32[a]
  %v = mul %9, %three -> f32[a]
  return %y, %z, %w, %v
}
)");
  const Program grouped = group(p, avx512_target());
  const std::vector<Array> x{Array{DType::f32, {2}, {1, -1}, {}}};
  const std::vector<Array> out = interpret(grouped, "f", x);
  for (std::size_t i = 0; i < 2; ++i) {
    const double sign = i == 0 ? 1 : -1;
    CHECK(std::isnan(out[0].real[i]));
    CHECK(out[1].real[i] == -sign * std::numeric_limits<double>::infinity());
    CHECK(out[2].real[i] == 3 * (sign + 2));
    CHECK(out[3].real[i] == 0);  // of terms that are all times 0 no constant is taken out
  }
}

}  // namespace gradc
