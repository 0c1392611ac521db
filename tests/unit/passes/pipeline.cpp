// Protects the order of the passes, the stages that it can stop at, and passes by name on text.
#include "passes/pipeline.h"

#include "gradient_check.h"

namespace gradc {
namespace {

using namespace gradient_test;

const std::string text = R"(bundle @params {
  w: f32[d=3 e=2] as "w" ~ normal(0.02)
  b: f32[e=2] as "b" = 0.0
}
input %x: f32[n=4 d=3]
train adamw lr=constant(0.001, 0.0) betas=(0.9, 0.95) eps=1e-08 weight_decay=0.1 clip=1.0 except="b" steps=10
func @loss(%p: @params, %x: f32[n=4 d=3], %step: i64[], %seed: i64[]) -> (loss: f32[]) {
  %a = contract %x, %p.w -> f32[n e=2]
  %b = add %a, %p.b -> f32[n e]
  %c = tanh %b -> f32[n e]
  %loss = sum %c over n e -> f32[]
  return %loss
}
func @eval(%p: @params, %x: f32[n=4 d=3], %step: i64[], %seed: i64[]) -> (y: f32[n e=2]) {
  %a = contract %x, %p.w -> f32[n e]
  return %a
}
)";

std::vector<std::string> passes_until(Stage until, std::string_view entry) {
  std::vector<std::string> seen;
  Pipeline options{.target = portable_target(), .until = until, .entry = entry};
  options.after = [&](std::string_view pass, const Program& p) {
    seen.emplace_back(pass);
    check_well_formed(p);
  };
  const Result<Program> p = run_pipeline(parsed(text), options);
  if (!p) FAIL(p.failure().diagnostics[0].message);
  return seen;
}
using Names = std::vector<std::string>;

}  // namespace

TEST_CASE("the passes in order, up to each stage") {
  CHECK(passes_until(Stage::ir, "step") == Names{});
  CHECK(passes_until(Stage::fused, "step") == Names{"simplify", "fuse"});
  CHECK(passes_until(Stage::grad, "step") ==
        Names{"simplify", "fuse", "differentiate", "update", "simplify"});
  CHECK(passes_until(Stage::plan, "step") == Names{"simplify", "fuse", "differentiate", "update",
                                                   "simplify", "unfuse", "simplify", "chunk",
                                                   "norm", "spread", "group", "plan"});
  CHECK(passes_until(Stage::plan, "grad") == Names{"simplify", "fuse", "differentiate", "simplify",
                                                   "unfuse", "simplify", "chunk", "group", "plan"});
  CHECK(passes_until(Stage::plan, "eval") ==
        Names{"simplify", "fuse", "unfuse", "simplify", "chunk", "group", "plan"});
}

TEST_CASE("every stage computes the same step") {
  const Program before = parsed(text);
  std::vector<std::vector<Array>> results;
  for (Stage stage : {Stage::grad, Stage::grouped, Stage::plan}) {
    const Result<Program> p = run_pipeline(before, {.target = portable_target(), .until = stage});
    REQUIRE(p.ok());
    const FunctionId step = p->find("step");
    Random random(3);
    results.push_back(run(*p, step, draw_all(p->function(step), random, false)));
  }
  for (const std::vector<Array>& other : results) {
    REQUIRE(other.size() == 5);
    for (std::size_t i = 0; i < other.size(); ++i) CHECK(other[i].real == results[0][i].real);
  }
}

TEST_CASE("passes by name, and what they refuse") {
  Program p = parsed(text);
  for (const PassInfo& pass : pass_list()) {
    CAPTURE(pass.name);
    CHECK(!pass.help.empty());
    Result<Program> next = run_pass(p, pass.name, portable_target());
    if (!next) FAIL(next.failure().diagnostics[0].message);
    check_well_formed(*next);
    p = std::move(*next);
  }
  const auto refused = [](const Program& program, std::string_view pass) {
    const Result<Program> r = run_pass(program, pass, portable_target());
    return r ? Exit::ok : r.failure().exit;
  };
  CHECK(refused(parsed(text), "optimise") == Exit::usage);
  CHECK(refused(parsed(text), "update") == Exit::text);
  CHECK(refused(p, "differentiate") == Exit::text);
  CHECK(refused(p, "update") == Exit::text);
  const Program plain = parsed("func @f(%x: f32[]) -> f32[] {\n  return %x\n}\n");
  CHECK(refused(plain, "differentiate") == Exit::text);
  CHECK(refused(plain, "plan") == Exit::text);
  CHECK(refused(parsed("func @grad(%x: f32[]) -> f32[] {\n  return %x\n}\n"), "update") ==
        Exit::text);
}

}  // namespace gradc
