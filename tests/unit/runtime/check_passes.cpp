// The check of passes: right ones pass, and a fault is found behind the pass that made it, in a
// value that it changes.
#include "runtime/check_passes.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <limits>

#include "frontend/frontend.h"
#include "passes/pipeline.h"

using namespace gradc;

namespace {

Program model() {
  Sources sources;
  const std::uint32_t text = sources.add("m.grad", R"(
model m(b = 2, t = 3, v = 5, d = 4)
input token[b t] < v
input m[b t]
param e[v d], w[d] ~ normal(0.3)
param scale[d] = 1 / (d + 1)
x = e[v = token] * m
repeat 2 as h.@ {
  param u[d] ~ normal(0.3)
  x = tanh(x * u + scale)
}
logits = sum[d](x * e)
loss = mean[b t](sum[d](x * w) * 3.5) + mean[b t](cross_entropy[v](logits, token))
)");
  Result<FilePtr> file = parse_model(sources, text, {});
  REQUIRE(file.ok());
  Result<Model> m = lower(sources, **file, {});
  if (!m) FAIL(render(sources, m.failure().diagnostics[0]));
  return m->program;
}

// Every real constant of the functions that `touch` chooses, a little larger.
template <class Touch>
Program broken(Program p, const Touch& touch) {
  for (Function& f : p.functions)
    if (touch(p.text(f.name)))
      for (Op& op : f.ops)
        if (op.code == Opcode::constant_) op.attr.real *= 1.001;
  return p;
}

std::vector<PassLine> lines_with(std::string_view pass_to_break) {
  const Program program = model();
  Result<PassCheck> check = PassCheck::begin(program, 1);
  REQUIRE(check.ok());
  std::vector<PassLine> lines;
  const auto behind = [&](std::string_view pass, const Program& p) {
    const bool now = pass == pass_to_break && (lines.empty() || lines.back().ok);
    Result<PassLine> line =
        check->behind(pass, now ? broken(p, [](std::string_view f) { return f != "eval"; }) : p);
    REQUIRE(line.ok());
    lines.push_back(*line);
  };
  REQUIRE(run_pipeline(program, {.after = behind}).ok());
  return lines;
}

}  // namespace

TEST_CASE("right passes agree, each with a line, and the whole step is compared") {
  const std::vector<PassLine> lines = lines_with("");
  REQUIRE(lines.size() >= 6);
  CHECK(lines.front().pass == "simplify");
  CHECK(lines.back().pass == "plan");
  for (const PassLine& l : lines) {
    CAPTURE(l.pass);
    CHECK(l.ok);
    CHECK(l.difference < 1e-12);
    CHECK(!l.value.empty());
    CHECK(l.before > 0);
    CHECK(l.after > 0);
  }
  CHECK(text_of(lines.front()).starts_with("ok    simplify "));
}

TEST_CASE("a fault is found behind the pass that made it, and not before") {
  for (const char* pass : {"simplify", "differentiate", "update", "group", "plan"}) {
    CAPTURE(pass);
    const std::vector<PassLine> lines = lines_with(pass);
    const auto first =
        std::find_if(lines.begin(), lines.end(), [](const PassLine& l) { return !l.ok; });
    REQUIRE(first != lines.end());
    CHECK(first->pass == pass);
    CHECK(first->difference > 1e-6);
    CHECK(text_of(*first).starts_with("FAIL  "));
  }
}

TEST_CASE("the values: of the step, each gradient by its stored name, and of evaluation") {
  const Program program = model();
  Result<PassCheck> check = PassCheck::begin(program, 1);
  REQUIRE(check.ok());
  Result<Program> grad = run_pipeline(program, {.until = Stage::grad});
  REQUIRE(grad.ok());
  Result<std::vector<NamedArray>> values = check->values(*grad);
  REQUIRE(values.ok());
  std::vector<std::string> names;
  for (const NamedArray& n : *values) names.push_back(n.name);
  CHECK(names == std::vector<std::string>{"p", "m", "v", "loss", "norm", "grad.e", "grad.w",
                                          "grad.h.0.u", "grad.h.1.u", "eval.loss", "eval.logits"});
}

TEST_CASE("differences: NaN only where NaN was, small gradients against the largest") {
  const auto value = [](const char* name, double x) { return NamedArray{name, Array::scalar(x)}; };
  const auto line = [&](std::vector<NamedArray> a, std::vector<NamedArray> b) {
    PassLine l;
    compare_values(a, b, 1e-9, l);
    return l;
  };
  const double nan = std::numeric_limits<double>::quiet_NaN();
  CHECK(line({value("loss", nan)}, {value("loss", nan)}).ok);
  CHECK(!line({value("loss", 1)}, {value("loss", nan)}).ok);
  CHECK(!line({value("loss", 0)}, {value("loss", 1e-30)}).ok);
  CHECK(!line({value("loss", 1)}, {value("loss", 1 + 1e-8)}).ok);
  CHECK(line({value("grad.a", 1), value("grad.b", 0)}, {value("grad.a", 1), value("grad.b", 1e-16)})
            .ok);
  CHECK(
      !line({value("grad.a", 1), value("grad.b", 0)}, {value("grad.a", 1), value("grad.b", 1e-12)})
           .ok);
  CHECK(line({value("loss", 1)}, {value("loss", 1), value("norm", 3)}).ok);  // new ones are taken
  CHECK(line({value("loss", 1)}, {value("loss", 2)}).value == "loss");
}
