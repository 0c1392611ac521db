// Protects the derivatives of fused operations: what a claim keeps, and the two halves of
// attention's backward, against finite differences (and the gradient of the gradient), and the form
// of the backward region against what codegen will ask for.
#include <array>

#include "gradient_check.h"
#include "ir/attention.h"
#include "passes/passes.h"

namespace gradc {
namespace {

using namespace gradient_test;

struct Map {
  std::string_view what, arguments, formal, actual;  // further arguments of @f and of the region
  std::string_view score, last, weight, kept;        // lines, and the value that each ends in
  int handed;                                        // sums that the backward region yields
};

constexpr std::string_view causal =
    "    %i = position t -> i32[t]\n    %j = position s -> i32[s]\n"
    "    %see = le %j, %i -> bool[s t]\n"
    "    %x = select %see, %score, -inf -> f32[b t h s]\n";

const std::array<Map, 7> maps{{
    {"plain", "", "", "", "", "score", "", "weight", 3},
    {"causal", "", "", "", causal, "x", "", "weight", 3},
    {"a bias of all scores", ", %bias: f32[h s]", ", %c: f32[h s]", ", %bias",
     "    %twice = mul %c, 2.0 -> f32[h s]\n    %x = add %score, %twice -> f32[b t h s]\n", "x", "",
     "weight", 4},
    {"slopes times distance", ", %slope: f32[h]", ", %c: f32[h]", ", %slope",
     "    %i = position t -> i32[t]\n    %j = position s -> i32[s]\n"
     "    %far = sub %i, %j -> i32[t s]\n    %far.1 = cast %far -> f32[t s]\n"
     "    %sloped = mul %far.1, %c -> f32[t s h]\n    %x = add %score, %sloped -> f32[b t h s]\n",
     "x", "", "weight", 4},
    {"a table by distance", ", %table: f32[h r=9]", ", %c: f32[h r=9]", ", %table",
     "    %i = position t -> i32[t]\n    %j = position s -> i32[s]\n"
     "    %far = sub %j, %i -> i32[s t]\n    %row = add %far, 2 -> i32[s t]\n"
     "    %here = gather %c, %row [r] -> f32[h s t]\n    %x = add %score, %here -> f32[b t h s]\n",
     "x", "", "weight", 4},
    {"a cap", "", "", "",
     "    %small = mul %score, 0.5 -> f32[b t h s]\n    %flat = tanh %small -> f32[b t h s]\n"
     "    %x = mul %flat, 2.0 -> f32[b t h s]\n",
     "x", "", "weight", 3},
    {"weights scaled by key", ", %scale: f32[b s]", ", %c: f32[b s]", ", %scale", "", "score",
     "    %kept = mul %weight, %c -> f32[b t h s]\n", "kept", 4},
}};

std::string attention(const Map& m, std::string_view claim) {
  return fmt::format(
      "func @f(%q: f32[b=2 t=3 h=2 e=2], %k: f32[b s=3 h e], %u: f32[b s h e]{}) -> f32[b t h e] "
      "{{\n"
      "  %y = fused {} %q, %k, %u{} -> f32[b t h e] {{ (%q.1: f32[b t h e], %k.1: f32[b s h e], "
      "%u.1: f32[b s h e]{})\n"
      "    %score = contract %q.1, %k.1 -> f32[b t h s]\n{}"
      "    %max = amax %{} over s -> f32[b t h]\n"
      "    %none = eq %max, -inf -> bool[b t h]\n"
      "    %finite = select %none, 0.0, %max -> f32[b t h]\n"
      "    %shift = stop %finite -> f32[b t h]\n"
      "    %centred = sub %{}, %shift -> f32[b t h s]\n"
      "    %exp = exp %centred -> f32[b t h s]\n"
      "    %sum = sum %exp over s -> f32[b t h]\n"
      "    %zero = eq %sum, 0.0 -> bool[b t h]\n"
      "    %norm = select %zero, 1.0, %sum -> f32[b t h]\n"
      "    %weight = div %exp, %norm -> f32[b t h s]\n{}"
      "    %out = contract %{}, %u.1 -> f32[b t h e]\n"
      "    yield %out\n  }}\n"
      "  return %y\n}}\n",
      m.arguments, claim, m.actual, m.formal, m.score, m.last, m.last, m.weight, m.kept);
}

// The backward operation of @f.grad.
const Op* backward(const Program& p) {
  for (const Function& f : p.functions)
    if (p.text(f.name) == "f.grad")
      for (const Op& op : f.ops)
        if (op.code == Opcode::fused_ && op.attr.claim == Claim::attention_grad) return &op;
  return nullptr;
}

}  // namespace

TEST_CASE("attention: gradients, of both orders, whatever stands around the softmax") {
  for (const Map& m : maps) {
    INFO(m.what);
    Program p = parsed(attention(m, "attention"));
    Random random(3);
    const std::vector<Array> arguments = draw_all(p.functions[0], random, true);
    check_gradient(p, FunctionId{0}, arguments, {.orders = m.what == "causal" ? 2 : 1});
    const Op* op = backward(p);
    REQUIRE(op != nullptr);
    CHECK(op->results.size() == static_cast<std::size_t>(m.handed));
    // No value in the axes of the scores leaves the region.
    const Function& f = p.function(p.find("f.grad"));
    for (ValueId v : op->results) {
      int long_axes = 0;
      for (AxisId a : f.type(v).axes)
        long_axes += p.text(f.axis(a).name) == "t" || p.text(f.axis(a).name) == "s";
      CHECK(long_axes <= 1);
    }
  }
}

TEST_CASE(
    "attention: the backward kernel has its form behind grouping, with results of the plain one") {
  for (const Map& m : maps) {
    INFO(m.what);
    Program fused = parsed(attention(m, "attention")), plain = parsed(attention(m, "group"));
    Random random(5);
    std::vector<Array> arguments = draw_all(fused.functions[0], random, true);
    arguments.push_back(arguments[0]);  // the cotangent has the type of %q
    std::vector<std::uint32_t> wrt{0, 1, 2};
    if (!m.arguments.empty()) wrt.push_back(3);
    const Result<FunctionId> a = add_gradient(fused, FunctionId{0}, wrt, "g");
    const Result<FunctionId> b = add_gradient(plain, FunctionId{0}, wrt, "g");
    REQUIRE(a.ok());
    REQUIRE(b.ok());
    const Program kernels = group(simplify(fused), avx512_target());
    check_well_formed(kernels);
    int families = 0;
    for (const Function& f : kernels.functions)
      families += f.family == Family::attention || f.family == Family::attention_grad;
    CHECK(families == 3);  // @f's forward, and both of @g
    const std::vector<Array> x = run(kernels, kernels.find("g"), arguments);
    const std::vector<Array> y = run(plain, *b, arguments);
    REQUIRE(x.size() == y.size());
    for (std::size_t n = 0; n < x.size(); ++n)
      for (std::size_t i = 0; i < x[n].real.size(); ++i)
        CHECK(x[n].real[i] == doctest::Approx(y[n].real[i]).epsilon(1e-12));
  }
}

TEST_CASE("rows that see nothing: weights, result and gradients are 0") {
  Map m = maps[1];
  std::string text = attention(m, "attention");
  text.replace(text.find("le %j, %i"), 9, "lt %j, %i");  // the first row sees no key
  Program p = parsed(text);
  Random random(4);
  std::vector<Array> arguments = draw_all(p.functions[0], random, true);
  const Result<FunctionId> g = add_gradient(p, FunctionId{0}, {0, 1, 2}, "g");
  REQUIRE(g.ok());
  arguments.push_back(arguments[0]);
  const std::vector<Array> r = run(p, *g, arguments);
  for (std::size_t i = 0; i < r[0].real.size(); ++i) {
    const bool first = i / 4 % 3 == 0;  // [b t h e], of extents 2 3 2 2
    CHECK(std::isfinite(r[0].real[i]));
    if (first) CHECK(r[0].real[i] == 0);
    if (first) CHECK(r[3].real[i] == 0);
  }
}

TEST_CASE("softmax, norms and cross entropy keep their statistics, not their insides") {
  const std::pair<std::string_view, std::string_view> cases[] = {
      {"softmax",
       "func @f(%x: f32[t=3 s=4]) -> f32[t s] {\n"
       "  %y = fused softmax %x -> f32[t s] { (%a: f32[t s])\n"
       "    %max = amax %a over s -> f32[t]\n    %shift = stop %max -> f32[t]\n"
       "    %c = sub %a, %shift -> f32[t s]\n    %e = exp %c -> f32[t s]\n"
       "    %sum = sum %e over s -> f32[t]\n    %w = div %e, %sum -> f32[t s]\n"
       "    yield %w\n  }\n  return %y\n}\n"},
      {"layernorm",
       "func @f(%x: f32[t=3 d=4]) -> f32[t d] {\n"
       "  %y = fused layernorm %x -> f32[t d] { (%a: f32[t d])\n"
       "    %s = sum %a over d -> f32[t]\n    %mean = div %s, 4.0 -> f32[t]\n"
       "    %c = sub %a, %mean -> f32[t d]\n    %cc = mul %c, %c -> f32[t d]\n"
       "    %s2 = sum %cc over d -> f32[t]\n    %var = div %s2, 4.0 -> f32[t]\n"
       "    %v = add %var, 1e-05 -> f32[t]\n    %rstd = rsqrt %v -> f32[t]\n"
       "    %n = mul %c, %rstd -> f32[t d]\n    yield %n\n  }\n  return %y\n}\n"},
      {"cross_entropy",
       "func @f(%x: f32[t=3 v=4], %i: i32[t]) -> f32[t] {\n"
       "  %y = fused cross_entropy %x, %i -> f32[t] { (%a: f32[t v], %j: i32[t])\n"
       "    %max = amax %a over v -> f32[t]\n    %shift = stop %max -> f32[t]\n"
       "    %c = sub %a, %shift -> f32[t v]\n    %e = exp %c -> f32[t v]\n"
       "    %sum = sum %e over v -> f32[t]\n    %log = log %sum -> f32[t]\n"
       "    %lse = add %log, %shift -> f32[t]\n    %right = gather %a, %j [v] -> f32[t]\n"
       "    %loss = sub %lse, %right -> f32[t]\n    yield %loss\n  }\n  return %y\n}\n"},
  };
  for (const auto& [name, text] : cases) {
    INFO(name);
    Program p = parsed(std::string(text));
    Random random(6);
    const std::vector<Array> arguments = draw_all(p.functions[0], random, true);
    check_gradient(p, FunctionId{0}, arguments, {.tolerance = 1e-6});
    const Function& f = p.function(p.find("f.grad"));
    int forward = 0;
    for (const Op& op : f.ops) {
      if (op.code != Opcode::fused_) continue;
      if (op.attr.claim == Claim::none) {
        for (OpId o : f.regions[op.regions[0].index].ops)
          CHECK(facts(f.op(o).code).name != "amax");  // nothing is searched again
        continue;
      }
      ++forward;
      for (std::size_t i = 1; i < op.results.size(); ++i)
        CHECK(f.type(op.results[i]).axes.size() == 1);  // by row
      CHECK(op.results.size() == (name == "softmax" ? 1 : 3));
    }
    CHECK(forward == 1);
  }
}

}  // namespace gradc
