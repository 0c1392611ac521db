// Protects mixed precision: which values are rounded and where (goldens), that kernels and plans
// mean what the casts say, to the bit of the oracle, and that a shared cast is computed once.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "ir/text.h"
#include "passes/passes.h"
#include "support/golden.h"
#include "unit/passes/group_support.h"

namespace gradc {
namespace {

using namespace plan_test;

// Of two results of one function, relative to the largest element.
double distance(const std::vector<Array>& a, const std::vector<Array>& b) {
  double out = 0;
  for (std::size_t r = 0; r < a.size(); ++r) {
    double largest = 0;
    for (double x : a[r].real) largest = std::max(largest, std::abs(x));
    for (std::size_t i = 0; i < a[r].real.size(); ++i)
      out = std::max(out, std::abs(a[r].real[i] - b[r].real[i]) / largest);
  }
  return out;
}

int casts_in(const Function& f) {
  return static_cast<int>(std::count_if(f.ops.begin(), f.ops.end(), [](const Op& op) {
    return op.code == Opcode::cast_;
  }));
}

}  // namespace

TEST_CASE("precision: goldens; each differs by rounding alone, and not behind it") {
  golden::run("precision", [&](const golden::Case& c) {
    const Program before = parsed(c.text("ir"));
    const Program after = simplify(lower_precision(before));
    check_round_trip(after);
    const std::string entry = c.sections[0].args.substr(0, c.sections[0].args.find(' '));
    const std::vector<Array> arguments = draw(before.function(before.find(entry)), 1),
                             exact = interpret(before, entry, arguments),
                             rounded = interpret(after, entry, arguments);
    CHECK(distance(exact, rounded) < 0x1p-5);
    const Program grouped = group(after, avx512_target());
    check_round_trip(grouped);
    CHECK(difference(rounded, interpret(grouped, entry, arguments)) == "");
    const Program planned = plan(grouped, avx512_target(), entry);
    CHECK(check_plan(planned, planned.find(entry)).empty());
    CHECK(difference(rounded, run_in_memory(planned, entry, arguments)) == "");
    CHECK(print(lower_precision(after)) == print(after));
    return print(after, {.locations = false});
  });
}

TEST_CASE("precision: a cast joins the kernel that makes the value, or reads the argument") {
  const Program p = group(lower_precision(parsed(R"(
func @f(%x: f32[t=16 d=16], %w: f32[d e=16], %o: f32[e d]) -> f32[t d] {
  %a = contract %x, %w -> f32[t e]
  %r = tanh %a -> f32[t e]
  %y = contract %r, %o -> f32[t d]
  return %y
}
)")),
                          avx512_target());
  const Function& f = p.function(p.find("f"));
  REQUIRE(f.ops.size() == 2);
  CHECK(f.type(f.ops[0].results[0]).dtype == DType::bf16);
  CHECK(casts_in(p.function(f.ops[0].attr.callee)) == 3);
  CHECK(casts_in(p.function(f.ops[1].attr.callee)) == 1);
}

TEST_CASE("precision: an argument that several contractions read is rounded once") {
  const Program p = group(lower_precision(parsed(R"(
func @f(%g: f32[t=16 d=16], %w: f32[d e=16], %x: f32[t e]) -> f32[t e], f32[d e] {
  %a = contract %g, %w -> f32[t e]
  %b = contract %g, %x -> f32[d e]
  return %a, %b
}
)")),
                          avx512_target());
  const Function& f = p.function(p.find("f"));
  REQUIRE(f.ops.size() == 3);
  CHECK(p.function(f.ops[0].attr.callee).family == Family::map);
  CHECK(casts_in(p.function(f.ops[0].attr.callee)) == 1);
}

}  // namespace gradc
