// The check of derivatives: right gradients pass, wrong ones are found and named; the search of
// sizes.
#include "runtime/gradcheck.h"

#include <doctest/doctest.h>

#include <chrono>
#include <map>

#include "ir/builder.h"
#include "passes/passes.h"
#include "support/golden.h"

using namespace gradc;

namespace {

// L = Σ w² x + Σ |u| · tanh(w₀), with @grad's formula for u scaled by `wrong`.
Program hand_written(double wrong) {
  Program p;
  Bundle bundle{p.intern("p"), {{p.intern("i"), 4}}, {}};
  for (const char* name : {"w", "u"})
    bundle.members.push_back({.name = p.intern(name),
                              .type = {DType::f32, {AxisId{0}}},
                              .stored = name,
                              .initial = {Initial::normal, 1}});
  p.bundles.push_back(bundle);
  p.inputs.push_back({.name = p.intern("x"), .dtype = DType::f32, .axes = {{p.intern("i"), 4}}});
  for (const bool gradient : {false, true}) {
    Function f;
    f.name = p.intern(gradient ? "grad" : "loss");
    Builder b(p, f);
    const Group g = b.arguments(BundleId{0}, "p");
    const ValueId w = g.first, u{g.first.index + 1};
    const AxisId i = b.type(w).axes[0];
    const ValueId x = b.argument(b.type(w), "x");
    b.argument({DType::i64, {}}, "step");
    b.argument({DType::i64, {}}, "seed");
    const ValueId t = b.unary(Opcode::tanh_, b.add(Opcode::pick_, {w}, {.integer = 0, .from = i}));
    const ValueId size = b.unary(Opcode::abs_, u);
    const ValueId loss =
        b.binary(Opcode::add_, b.sum(b.binary(Opcode::mul_, b.binary(Opcode::mul_, w, w), x), {i}),
                 b.binary(Opcode::mul_, b.sum(size, {i}), t));
    if (!gradient) {
      b.finish(std::vector<ValueId>{loss});
    } else {
      const ValueId slope =
          b.binary(Opcode::mul_, b.sum(size, {i}),
                   b.binary(Opcode::sub_, b.constant(1), b.binary(Opcode::mul_, t, t)));
      const ValueId gw = b.binary(
          Opcode::add_, b.binary(Opcode::mul_, b.constant(2), b.binary(Opcode::mul_, w, x)),
          b.add(Opcode::place_, {slope}, {.integer = 0, .to = i}));
      const ValueId sign = b.binary(Opcode::div_, u, size);
      const ValueId gu = b.binary(Opcode::mul_, b.binary(Opcode::mul_, sign, t), b.constant(wrong));
      b.finish(std::vector<ValueId>{gw, gu, loss});
    }
    p.functions.push_back(std::move(f));
  }
  return p;
}

struct Small {
  Sources sources;
  FilePtr file;
  Result<SmallModel> small = failure(Exit::internal, "not searched");
  explicit Small(const std::string& text,
                 std::vector<std::pair<std::string, std::string>> set = {}) {
    Result<FilePtr> parsed = parse_model(sources, sources.add("m.grad", text),
                                         [](const std::string&, std::string&) { return false; });
    REQUIRE(parsed.ok());
    file = *parsed;
    small = smallest_model(sources, *file, {.set = std::move(set)});
  }
  std::map<std::string, std::string> chosen() {
    if (!small.ok()) FAIL(render(sources, small.failure().diagnostics[0]));
    return {small->set.begin(), small->set.end()};
  }
};

void passes(const Program& program, std::size_t tensors) {
  Result<Program> g = differentiate(program);
  REQUIRE(g.ok());
  std::size_t seen = 0;
  Result<GradcheckReport> r = check_gradients(*g, {}, [&](const GradcheckLine& line) {
    CHECK_MESSAGE(line.ok, text_of(line));
    ++seen;
  });
  REQUIRE(r.ok());
  CHECK(r->ok);
  CHECK(r->largest > 1e-3);
  CHECK(seen == r->lines.size());
  CHECK(r->lines.size() == tensors);
  for (const GradcheckLine& line : r->lines) {
    std::int64_t n = 1;
    for (const std::int64_t e : line.extents) n *= e;
    CHECK(line.elements == std::min<std::int64_t>(n, 6));
  }
}

}  // namespace

TEST_CASE("a right gradient passes, with a margin; one off by 3e-6 is found and named") {
  Result<GradcheckReport> right = check_gradients(hand_written(1), {});
  REQUIRE(right.ok());
  CHECK(right->ok);
  REQUIRE(right->lines.size() == 2);
  for (const GradcheckLine& l : right->lines) {
    CHECK(l.elements == 4);
    CHECK(l.direction_error < 1e-8);
    CHECK(l.element_error < 1e-8);
  }
  Result<GradcheckReport> wrong = check_gradients(hand_written(1 + 3e-6), {});
  REQUIRE(wrong.ok());
  CHECK(!wrong->ok);
  CHECK(wrong->lines[0].ok);
  CHECK(!wrong->lines[1].ok);
  CHECK(wrong->lines[1].element_error == doctest::Approx(3e-6).epsilon(0.01));
  CHECK(text_of(wrong->lines[1]).starts_with("FAIL  u [4]"));
  CHECK(text_of(wrong->lines[1]).find("numerically") != std::string::npos);
}

TEST_CASE("a loss that is not finite is exit 4") {
  Result<GradcheckReport> r =
      check_gradients(hand_written(std::numeric_limits<double>::quiet_NaN()), {});
  CHECK((r.ok() && !r->ok));  // a NaN gradient fails its line
  Program p = hand_written(1);
  p.bundles[0].members[0].initial = {Initial::number, std::numeric_limits<double>::infinity()};
  Result<GradcheckReport> bad = check_gradients(p, {});
  REQUIRE(!bad.ok());
  CHECK(bad.failure().exit == Exit::numbers);
}

TEST_CASE("gpt.grad: sizes are small and distinct, and every gradient holds within seconds") {
  const auto begin = std::chrono::steady_clock::now();
  Small s(golden::read_file(golden::source_path("frontend/models/gpt.grad")));
  CHECK(
      s.chosen() ==
      std::map<std::string, std::string>{
          {"layers", "2"}, {"d", "4"}, {"h", "2"}, {"v", "3"}, {"t", "5"}, {"b", "6"}, {"p", "7"}});
  CHECK(s.small->set.front().first == "layers");
  CHECK(s.small->set.back().first == "p");
  passes(s.small->model.program, 28);
  CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(10));
}

TEST_CASE("every shipped model passes at its smallest sizes") {
  for (const auto& [name, tensors] : std::map<std::string, std::size_t>{
           {"llama", 21}, {"rnn", 11}, {"lstm", 11}, {"cnn", 7}, {"transformer", 61}}) {
    INFO(name);
    Small s(golden::read_file(golden::source_path("frontend/models/" + name + ".grad")));
    s.chosen();
    REQUIRE(s.small.ok());
    passes(s.small->model.program, tensors);
  }
}

TEST_CASE("what `stop` holds is held still, kinks and dropout are no trouble") {
  Small s(
      "model m(d = 5, b = 4, t = 3)\n"
      "input token[b t] < d\n"
      "param w[d e = 3], u[e] ~ normal(0.5)\n"
      "h = w[d = token] * stop(w[d = token])\n"
      "loss = mean[b t](sum[e](dropout(relu(h - 0.1), 0.5) * u + abs(u)))\n");
  passes(
      [&] {
        s.chosen();
        return s.small->model.program;
      }(),
      2);
}

TEST_CASE("sizes: fractions, 0, 1 and what is set stay; equal where distinct ones do not check") {
  Small s(
      "model m(n = 6, d = 12, e = d, v = 10, b = 8, t = 9, rate = 0.5, flag = 1)\n"
      "input token[b t] < v\n"
      "param w[v d], z[e] ~ normal(0.5)\n"
      "x = w[v = token]\n"
      "repeat n { param g[d] ~ normal(0.5)\n x = x * g * rate * flag }\n"
      "loss = mean[b t](sum[d](x * z[e = d]))\n",
      {{"v", "10"}});
  // e must be d: the shorter axis would be read outside
  const auto c = s.chosen();
  CHECK(c.at("n") == "2");
  CHECK(c.at("d") == "2");
  CHECK(!c.contains("v"));
  CHECK(!c.contains("rate"));
  CHECK(!c.contains("flag"));
  CHECK(c.at("b") != c.at("t"));
}
