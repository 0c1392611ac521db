// Protects recomputation: forward runs again where it is asked for and nowhere else (golden), every
// number of turns gives the same bits, the least that meets a budget is taken, and one that cannot
// be met is refused by how much.
#include "passes/recompute.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>

#include "ir/text.h"
#include "passes/passes.h"
#include "support/golden.h"
#include "unit/passes/group_support.h"

namespace gradc {
namespace {

using namespace plan_test;

Program gradient_of(const Program& p) {
  const Result<Program> grad = differentiate(simplify(p));
  REQUIRE(grad.ok());
  return simplify(*grad);
}

// Turns of @h that save several values each, behind one of another function, @k.
Program model(int turns) {
  std::string text = fmt::format(R"(bundle @params.h {{
  w: f32[d=16 e=64] as "h.@.w" ~ normal(0.02)
  o: f32[e=64 d=16] as "h.@.o" ~ normal(0.02)
}}
bundle @params {{
  h: {} x @params.h
  first: f32[d=16] as "first" = 1.0
  last: f32[d=16] as "last" = 1.0
}}
input %x: f32[b=256 d=16]
func @h(%x: f32[b=256 d=16], %p: @params.h) -> f32[b d] {{
  %a = contract %x, %p.w -> f32[b e=64]
  %c = tanh %a -> f32[b e]
  %g = mul %a, %c -> f32[b e]
  %y = contract %g, %p.o -> f32[b d]
  %z = add %x, %y -> f32[b d]
  return %z
}}
func @k(%x: f32[b=256 d=16], %g: f32[d]) -> f32[b d] {{
  %s = sum %x over d -> f32[b]
  %c = sub %x, %s -> f32[b d]
  %m = mul %c, %g -> f32[b d]
  %e = tanh %m -> f32[b d]
  return %e
}}
func @loss(%p: @params, %x: f32[b=256 d=16], %step: i64[], %seed: i64[]) -> (loss: f32[]) {{
  %x.0 = call @k %x, %p.first -> f32[b d]
)",
                                 turns);
  for (int i = 0; i < turns; ++i)
    text += fmt::format("  %x.{} = call @h %x.{}, %p.h.{} -> f32[b d]\n", i + 1, i, i);
  return parsed(text + fmt::format(R"(  %q = mul %x.{}, %p.last -> f32[b d]
  %r = mul %q, %q -> f32[b d]
  %loss = sum %r over b d -> f32[]
  return %loss
}}
)",
                                   turns));
}

std::int64_t activations(const Program& p) {
  const Program planned = plan(group(p, avx512_target()), avx512_target(), "grad");
  for (const std::string& fault : check_plan(planned, planned.find("grad"))) FAIL_CHECK(fault);
  return summarize_plan(planned, planned.find("grad"))
      .bytes[static_cast<std::size_t>(Arena::activations)];
}

}  // namespace

TEST_CASE("recompute: goldens") {
  golden::run("recompute", [](const golden::Case& c) {
    const Program before = gradient_of(parsed(c.text("ir")));
    const Program after = recompute_turns(before, std::stoi(c.sections[0].args));
    check_round_trip(after);
    return print(after, {.locations = false, .functions = {"grad"}});
  });
}

TEST_CASE("recompute: any number of turns gives the same bits, in memory too") {
  const Program before = gradient_of(model(4));
  const std::vector<Array> arguments = draw(before.function(before.find("grad")), 7);
  const std::vector<Array> right = interpret(before, "grad", arguments);
  REQUIRE(recomputable_turns(before) >= 4);
  for (int count = 0; count <= recomputable_turns(before) + 1; ++count) {
    CAPTURE(count);
    const Program after = recompute_turns(before, count);
    check_round_trip(after);
    const std::vector<Array> made = interpret(after, "grad", arguments);
    for (std::size_t i = 0; i < right.size(); ++i) CHECK(made[i].real == right[i].real);
    const Program planned = plan(group(after, avx512_target()), avx512_target(), "grad");
    CHECK(difference(right, run_in_memory(planned, "grad", arguments)) == "");
  }
}

TEST_CASE("recompute: the least number of turns that meets the budget") {
  const Program before = gradient_of(model(8));
  const Measure measure = [](const Program& p) -> Result<std::int64_t> { return activations(p); };
  std::vector<std::int64_t> bytes;
  for (int n = 0; n <= recomputable_turns(before); ++n)
    bytes.push_back(activations(recompute_turns(before, n)));
  const std::int64_t least = *std::min_element(bytes.begin(), bytes.end());
  CHECK(2 * least < bytes[0]);
  for (std::size_t n = 0; n < bytes.size(); ++n) {
    CAPTURE(n);
    std::vector<Remark> remarks;
    const Result<Program> made = recompute(before, bytes[n], measure, &remarks);
    REQUIRE(made.ok());
    CHECK(activations(*made) <= bytes[n]);
    const auto first =
        std::find_if(bytes.begin(), bytes.end(), [&](std::int64_t b) { return b <= bytes[n]; });
    CHECK(print(*made) == print(recompute_turns(before, static_cast<int>(first - bytes.begin()))));
    CHECK(remarks.empty() == (first == bytes.begin()));
  }
  const Result<Program> none = recompute(before, least - 100, measure);
  REQUIRE_FALSE(none.ok());
  CHECK(none.failure().exit == Exit::usage);
  CHECK(none.failure().diagnostics[0].message.find("is 100 B too small") != std::string::npos);
}

TEST_CASE("recompute: what it says") {
  const Program before = gradient_of(model(3));
  std::vector<Remark> remarks;
  const Result<Program> made = recompute(
      before, 1,
      [&](const Program& p) -> Result<std::int64_t> {
        return print(p) == print(recompute_turns(before, 3)) ? 1 : 1001;
      },
      &remarks);
  REQUIRE(made.ok());
  REQUIRE(remarks.size() == 2);
  CHECK(remarks[0].text == "recomputed: turn 0 of @k: 0 B less");
  CHECK(remarks[1].text == "recomputed: turns 0-1 of @h: 1.0 kB less");
}

}  // namespace gradc
