// Protects the copy of the parameters in bf16: a step that reads it gives what one that rounds for
// itself gives, through turns and calls, and in memory; what cannot have it goes on rounding.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "ir/text.h"
#include "passes/passes.h"
#include "passes/plan.h"
#include "unit/passes/group_support.h"

namespace gradc {
namespace {

using namespace plan_test;

// Two turns of a layer that reads `w` as it is and turned around, a matrix of its own behind a view,
// and a gain that no product reads. `second` is what the second turn takes.
std::string model(const std::string& turns, const std::string& second = "%p.h.1") {
  return R"(bundle @params.h {
  w: f32[d=4 e=4] as "h.@.w" ~ normal(0.02)
  gain: f32[d] as "h.@.gain" = 1.0
}
bundle @params {
  h: 2 x @params.h
  pair: f32[n=2 d=4 c=3] as "pair" ~ normal(0.02)
}
input %x: f32[b=5 d=4]
train adamw lr=constant(0.1, 0.0) betas=(0.9, 0.99) eps=1e-08 weight_decay=0.01 clip=1.0 except="" steps=10

func @h(%x: f32[b=5 d=4], %p: @params.h) -> f32[b d] {
  %a = contract %x, %p.w -> f32[b e=4]
  %b = tanh %a -> f32[b e]
  %c = contract %b, %p.w -> f32[b d]
  %y = mul %c, %p.gain -> f32[b d]
  return %y
}
func @loss(%p: @params, %x: f32[b=5 d=4], %step: i64[], %seed: i64[]) -> (loss: f32[]) {
  %b = call @h %x, %p.h.0 -> f32[b d]
)" + turns +
         "  %c = call @h %b, " + second + R"( -> f32[b d]
  %m = pick %p.pair [n = 1] -> f32[d c=3]
  %e = contract %c, %m -> f32[b c]
  %f = mul %e, %e -> f32[b c]
  %loss = sum %f over b c -> f32[]
  return %loss
}
)";
}

Program rounding(const std::string& text) {
  Result<Program> grad = differentiate(simplify(parsed(text)));
  REQUIRE(grad.ok());
  Program step = simplify(lower_precision(simplify(add_update(*grad)), 1));
  drop_unreachable(step, {"step"});
  return step;
}

// Casts to bf16 of arguments, at once or behind views.
int rounded_arguments(const Program& p) {
  int n = 0;
  for (const Function& f : p.functions)
    for (const Op& op : f.ops) {
      if (op.code != Opcode::cast_ || f.type(op.results[0]).dtype != DType::bf16) continue;
      const ValueId v = planning::below_views(f, op.operands[0]);
      n += !f.value(v).def.valid() && f.type(v).axes.size() > 1 && p.text(f.value(v).name) != "x";
    }
  return n;
}

// Arguments of `before`, and of `after`, which takes %rounded.… behind them: what `before` would
// round the parameters to.
std::pair<std::vector<Array>, std::vector<Array>> arguments(const Program& before,
                                                            const Program& after) {
  const Function& f = before.function(before.find("step"));
  std::vector<Array> plain = draw(f, 7);
  for (std::size_t i = 0; i < plain.size(); ++i)
    if (before.text(f.value(f.body().arguments[i]).name) == "v")
      for (double& x : plain[i].real) x = std::fabs(x);
  std::vector<Array> more = plain;
  const std::size_t twins = after.function(after.find("step")).body().arguments.size() - plain.size();
  for (std::size_t i = 0; i < twins; ++i) {
    more.push_back(plain[i]);
    more.back().dtype = DType::bf16;
    for (double& x : more.back().real) x = round_to(x, DType::bf16);
  }
  return {plain, more};
}

}  // namespace

TEST_CASE("rounded: a step that reads the copy gives what one that rounds gives, and the next copy") {
  const Program before = rounding(model("")), after = keep_rounded(before);
  check_round_trip(after);
  CHECK(rounded_arguments(before) > 0);
  CHECK(rounded_arguments(after) == 0);
  CHECK(print(keep_rounded(after)) == print(after));
  const auto [plain, more] = arguments(before, after);
  REQUIRE(more.size() == plain.size() + 5);
  const std::vector<Array> was = interpret(before, "step", plain),
                           is = interpret(after, "step", more);
  REQUIRE(is.size() == was.size() + 1);
  const std::vector<std::size_t> same{0, 1, 2, 4, 5};   // p, m, v, loss, norm; 3 is the copy
  for (std::size_t i = 0; i < same.size(); ++i) CHECK(is[same[i]].real == was[i].real);
  for (std::size_t i = 0; i < is[0].real.size(); ++i)
    CHECK(is[3].real[i] == round_to(is[0].real[i], DType::bf16));

  const Program planned = plan(group(spread_norm(after), avx512_target()), avx512_target(), "step");
  check_round_trip(planned);
  for (const std::string& fault : check_plan(planned, planned.find("step"))) FAIL_CHECK(fault);
  CHECK(difference(is, run_in_memory(planned, "step", more)) == "");
  // In place: the copy that comes lies where the one lay that was read.
  const Function& f = planned.function(planned.find("step"));
  const Placement &given = f.placed[f.body().arguments[plain.size()].index],
                  &made = f.placed[f.body().results[3].index];
  CHECK(given.arena == Arena::rounded);
  CHECK(made.arena == Arena::rounded);
  CHECK(made.offset == 0);
}

TEST_CASE("rounded: a function that some call gives other than parameters rounds for itself") {
  const Program before = rounding(model(R"(  %w = mul %p.h.1.w, 0.5 -> f32[d e=4]
)",
                                        "%w, %p.h.1.gain")),
                after = keep_rounded(before);
  check_round_trip(after);
  CHECK(rounded_arguments(after) > 0);                       // in @h
  CHECK(rounded_arguments(after) < rounded_arguments(before));   // `pair` has its copy
  const auto [plain, more] = arguments(before, after);
  const std::vector<Array> was = interpret(before, "step", plain),
                           is = interpret(after, "step", more);
  CHECK(is[0].real == was[0].real);
  CHECK(is.back().real == was.back().real);
}

TEST_CASE("rounded: without a step, or anything that rounds a parameter: the same program") {
  Result<Program> grad = differentiate(simplify(parsed(model(""))));
  REQUIRE(grad.ok());
  const Program rounds = simplify(lower_precision(*grad, 1)), plain = add_update(*grad);
  CHECK(print(keep_rounded(rounds)) == print(rounds));
  CHECK(print(keep_rounded(plain)) == print(plain));
}

}  // namespace gradc
