// Protects differentiation beyond single rows: calls, bundles, regions, conventions at edges, what
// is saved, names and locations.
#include "passes/differentiate.h"

#include "gradient_check.h"
#include "ir/builder.h"
#include "passes/passes.h"
#include "support/golden.h"

namespace gradc {
namespace {

using namespace gradient_test;

// Gradients of @loss by its parameters, on given arguments.
std::vector<Array> gradients(const Program& p, const std::vector<Array>& arguments) {
  Result<Program> d = differentiate(p);
  REQUIRE(d.ok());
  check_well_formed(*d);
  return run(*d, d->find("grad"), arguments);
}

// @grad as text; its values are compared with finite differences of @loss.
std::string gradient_case(const golden::Case& c) {
  const Program p = parsed(c.sections[0].text);
  Result<Program> d = differentiate(p);
  if (!d) return d.failure().diagnostics[0].message + "\n";
  check_well_formed(*d);
  const FunctionId loss = p.find("loss");
  Random random(2);
  std::vector<Array> arguments = draw_all(p.function(loss), random, c.stem != "where");
  const std::vector<Array> got = run(*d, d->find("grad"), arguments);
  for (std::size_t n = 0; n + 1 < got.size(); ++n)
    for (std::size_t i = 0; i < got[n].real.size(); ++i) {
      const double step = 1e-5, x = arguments[n].real[i];
      arguments[n].real[i] = x + step;
      const double above = run(p, loss, arguments)[0].real[0];
      arguments[n].real[i] = x - step;
      const double below = run(p, loss, arguments)[0].real[0];
      arguments[n].real[i] = x;
      const double expected = (above - below) / (2 * step);
      CHECK(std::fabs(got[n].real[i] - expected) <= 1e-6 * std::fmax(1.0, std::fabs(expected)));
    }
  PrintOptions options;
  options.functions = {"grad"};
  const std::string text = print(*d, options);
  // What the turn of a repeat saves, and the functions.
  const std::size_t saved = text.find("bundle @h.saved"), functions = text.find("func @");
  const std::string bundle =
      saved == std::string::npos ? "" : text.substr(saved, text.find("}\n", saved) + 2 - saved);
  return bundle + text.substr(functions);
}

// The gradient of @f : (…) -> one real scalar by its first argument, at `x`.
std::vector<double> gradient_at(const std::string& text, std::vector<double> x,
                                std::vector<Array> more = {}) {
  Program p = parsed(text);
  const FunctionId f = p.find("f");
  REQUIRE(f.valid());
  const Result<FunctionId> g = add_gradient(p, f, {0}, "g");
  REQUIRE(g.ok());
  check_well_formed(p);
  Random random(1);
  std::vector<Array> arguments{
      draw(p.function(f), p.function(f).type(p.function(f).body().arguments[0]), random, false)};
  REQUIRE(arguments[0].real.size() == x.size());
  arguments[0].real = std::move(x);
  for (Array& a : more) arguments.push_back(std::move(a));
  return run(p, *g, arguments)[0].real;
}
using Reals = std::vector<double>;

}  // namespace

TEST_CASE("gradients as text, and by finite differences") {
  golden::run("gradient", gradient_case);
}

TEST_CASE("gradient conventions: ties share, corners are 0") {
  const auto unary = [](std::string_view op) {
    return fmt::format(
        "func @f(%x: f32[t=3]) -> f32[] {{\n  %y = {} %x -> f32[t]\n  %s = sum %y over t -> "
        "f32[]\n  return %s\n}}\n",
        op);
  };
  CHECK(gradient_at(unary("abs"), {-2, 0, 3}) == Reals{-1, 0, 1});
  CHECK(gradient_at(unary("floor"), {-2.5, 0.5, 3.5}) == Reals{0, 0, 0});
  CHECK(gradient_at(unary("stop"), {-2.5, 0.5, 3.5}) == Reals{0, 0, 0});
  const auto reduce = [](std::string_view op) {
    return fmt::format(
        "func @f(%x: f32[t=4]) -> f32[] {{\n  %y = {} %x over t -> f32[]\n  return %y\n}}\n", op);
  };
  CHECK(gradient_at(reduce("amax"), {1, 5, 5, 2}) == Reals{0, 0.5, 0.5, 0});
  CHECK(gradient_at(reduce("amin"), {1, 1, 1, 1}) == Reals{0.25, 0.25, 0.25, 0.25});
  const double inf = std::numeric_limits<double>::infinity();
  CHECK(gradient_at(reduce("amax"), {-inf, -inf, 3, -inf}) == Reals{0, 0, 1, 0});
  for (std::string_view op : {"max", "min"})
    CHECK(gradient_at(fmt::format(R"(func @f(%x: f32[t=2]) -> f32[] {{
  %c = constant 1.0 -> f32[]
  %y = {} %x, %c -> f32[t]
  %z = {} %x, %x -> f32[t]
  %w = add %y, %z -> f32[t]
  %s = sum %w over t -> f32[]
  return %s
}})", op, op), {1, 1}) == Reals{1.5, 1.5});
  // relu(x) = select(x > 0, x, 0) is 0 at 0; 0^0 and 0^2 have finite derivatives.
  CHECK(gradient_at(R"(func @f(%x: f32[t=3]) -> f32[] {
  %0 = constant 0.0 -> f32[]
  %c = lt %0, %x -> bool[t]
  %y = select %c, %x, %0 -> f32[t]
  %s = sum %y over t -> f32[]
  return %s
})", {-1, 0, 2}) == Reals{0, 0, 1});
  for (const auto& [exponent, expected] : {std::pair{"0.0", 0.0}, {"1.0", 1.0}, {"2.0", 0.0}})
    CHECK(gradient_at(fmt::format("func @f(%x: f32[]) -> f32[] {{\n  %e = constant {} -> f32[]\n  "
                                  "%y = pow %x, %e -> f32[]\n  return %y\n}}",
                                  exponent),
                      {0}) == Reals{expected});
}

TEST_CASE("what a select excludes sends back exactly 0, whatever it holds") {
  // In the branch not taken: logarithms, roots and quotients of 0 and of negative numbers, NaN,
  // overflow.
  for (std::string_view inner :
       {"log %x", "sqrt %x", "rsqrt %x", "div %one, %x", "pow %x, %half", "exp %big"}) {
    CAPTURE(inner);
    const std::string text = fmt::format(R"(func @f(%x: f32[t=5]) -> f32[] {{
  %zero = constant 0.0 -> f32[]
  %one = constant 1.0 -> f32[]
  %half = constant 0.5 -> f32[]
  %thousand = constant -1000.0 -> f32[]
  %big = mul %x, %thousand -> f32[t]
  %c = lt %half, %x -> bool[t]
  %a = {} -> f32[t]
  %b = mul %a, %x -> f32[t]
  %d = add %b, %a -> f32[t]
  %y = select %c, %d, %zero -> f32[t]
  %z = select %c, %y, %zero -> f32[t]
  %n = not %c -> bool[t]
  %w = select %n, %zero, %z -> f32[t]
  %s = sum %w over t -> f32[]
  return %s
}})", inner);
    const Reals g = gradient_at(text, {0, -1, -2, 1.5, std::numeric_limits<double>::quiet_NaN()});
    CHECK(Reals(g.begin(), g.begin() + 3) == Reals{0, 0, 0});
    CHECK(std::isfinite(g[3]));
    CHECK(g[4] == 0);
  }
  // Broadcast, on the other side, and by two conditions.
  const std::string text = R"(func @f(%x: f32[t=2]) -> f32[] {
  %zero = constant 0.0 -> f32[]
  %l = log %x -> f32[t]
  %i = position s -> i32[s=3]
  %one = constant 1 -> i32[]
  %c = le %one, %i -> bool[s]
  %p = le %x, %zero -> bool[t]
  %a = select %c, %l, %zero -> f32[t s]
  %b = select %p, %zero, %a -> f32[t s]
  %s = sum %b over t s -> f32[]
  return %s
})";
  CHECK(gradient_at(text, {0, 4}) == Reals{0, 0.5});
  // Past a relabelling, an expansion and a sum.
  CHECK(gradient_at(R"(func @f(%x: f32[t=2]) -> f32[] {
  %zero = constant 0.0 -> f32[]
  %l = log %x -> f32[t]
  %r = relabel %l [t -> s] -> f32[s=2]
  %e = expand %r -> f32[u=3 s]
  %m = sum %e over u -> f32[s]
  %y = relabel %x [t -> s] -> f32[s]
  %c = lt %zero, %y -> bool[s]
  %k = select %c, %m, %zero -> f32[s]
  %s = sum %k over s -> f32[]
  return %s
})", {0, 4}) == Reals{0, 0.75});
}

TEST_CASE("gradients of reads: repeated ids, places outside, overlapping windows") {
  // Ids 1 1 −1 7 1: the three reads of row 1 add up, those outside read 0 and send nothing.
  Array ids = Array::zeros(DType::i32, {5});
  ids.integer = {1, 1, -1, 7, 1};
  CHECK(gradient_at(R"(func @f(%w: f32[v=3], %i: i32[t=5]) -> f32[] {
  %a = gather %w, %i [v] -> f32[t]
  %k = position t -> i32[t]
  %c = cast %k -> f32[t]
  %y = mul %a, %c -> f32[t]
  %s = sum %y over t -> f32[]
  return %s
})", {1, 2, 3}, {ids}) == Reals{0, 5, 0});
  // Windows of width 3 at stride 2, written out: y[u, r] = x[2u + r].
  CHECK(gradient_at(R"(func @f(%x: f32[t=7]) -> f32[] {
  %a = slice %x [t = 0 + 2*u] -> f32[u=3]
  %b = slice %x [t = 1 + 2*u] -> f32[u]
  %c = slice %x [t = 2 + 2*u] -> f32[u]
  %d = concat %a, %b, %c [r = _ _ _] -> f32[u r=3]
  %s = sum %d over u r -> f32[]
  return %s
})", {1, 2, 3, 4, 5, 6, 7}) == Reals{1, 1, 2, 1, 2, 1, 1});
  // A slice and a pick at run-time offsets partly or wholly outside.
  for (const auto& [at, expected] : {std::pair{-1, Reals{2, 1, 0}},
                                     {1, Reals{0, 1, 1}},
                                     {3, Reals{0, 0, 0}},
                                     {-9, Reals{0, 0, 0}}})
    CHECK(gradient_at(R"(func @f(%x: f32[t=3], %p: i64[]) -> f32[] {
  %a = slice %x, %p [t = 0 + 1*u] -> f32[u=3]
  %b = pick %x, %p [t = 1] -> f32[]
  %c = sum %a over u -> f32[]
  %k = constant 0 -> i64[]
  %neg = lt %p, %k -> bool[]
  %z = constant 0.0 -> f32[]
  %d = select %neg, %b, %z -> f32[]
  %s = add %c, %d -> f32[]
  return %s
})", {1, 2, 3}, {Array::scalar(std::int64_t{at}, DType::i64)}) == expected);
}

TEST_CASE("gradients along axes of length 0 and 1") {
  for (int n : {0, 1}) {
    CAPTURE(n);
    check_text(fmt::format(R"(func @f(%x: f32[t={0} d=2], %w: f32[d e=2], %h: f32[d]) -> f32[], f32[t e], f32[d], f32[d], f32[t d] {{
  %y = contract %x, %w -> f32[t e]
  %q = mul %y, %y -> f32[t e]
  %s = sum %q over t e -> f32[]
  %l, %ls = scan t carry 1 slice 1 %h, %x, %w -> f32[d], f32[t d] {{ (%h1: f32[d], %x1: f32[d], %w1: f32[d e])
    %a = contract %h1, %w1 -> f32[e]
    %b = relabel %a [e -> d] -> f32[d]
    %c = mul %b, %x1 -> f32[d]
    yield %c, %b
  }}
  %k = concat %x, %h [u = t _] -> f32[u={1} d]
  %m = sum %k over u -> f32[d]
  return %s, %y, %l, %m, %ls
}})", n, n + 1));
  }
}

TEST_CASE("calls: shared parameters, unused results, inactive arguments, nesting") {
  const std::string turn = R"(func @inner(%x: f32[d=2], %w: f32[d k=2], %n: i32[]) -> f32[d] {
  %a = contract %x, %w -> f32[k]
  %b = tanh %a -> f32[k]
  %c = relabel %b [k -> d] -> f32[d]
  %r = mul %c, %x -> f32[d]
  return %r
}
func @turn(%x: f32[d=2], %y: f32[d], %w: f32[d k=2], %idle: f32[d], %n: i32[]) -> f32[d], i32[], f32[d] {
  %a = call @inner %x, %w, %n -> f32[d]
  %b = call @inner %a, %w, %n -> f32[d]
  %z = mul %b, %y -> f32[d]
  return %z, %n, %a
}
)";
  // The second result of the last turn and the third of the first are unused; %c is a constant at
  // first.
  check_text(turn + R"(func @f(%x: f32[d=2], %w: f32[d k=2], %n: i32[]) -> f32[d], i32[] {
  %one = constant 1.0 -> f32[]
  %c = expand %one -> f32[d]
  %p.1, %n.1, %q.1 = call @turn %c, %x, %w, %x, %n -> f32[d], i32[], f32[d]
  %p.2, %n.2, %q.2 = call @turn %x, %p.1, %w, %x, %n.1 -> f32[d], i32[], f32[d]
  %p.3, %n.3, %q.3 = call @turn %p.2, %q.2, %w, %p.1, %n.2 -> f32[d], i32[], f32[d]
  return %p.3, %n.3
})");
  // A function both differentiated and called where no gradient flows.
  check_text(turn + R"(func @f(%x: f32[d=2], %w: f32[d k=2], %n: i32[]) -> f32[d] {
  %s = stop %x -> f32[d]
  %v = stop %w -> f32[d k]
  %a = call @inner %s, %v, %n -> f32[d]
  %b = call @inner %x, %w, %n -> f32[d]
  %c = mul %a, %b -> f32[d]
  return %b
})");
}

TEST_CASE("regions inside regions, calls inside regions, scans inside functions") {
  check_text(R"(func @cell(%h: f32[d=2], %x: f32[d], %w: f32[d k=2]) -> f32[d], f32[] {
  %a = contract %h, %w -> f32[k]
  %b = relabel %a [k -> d] -> f32[d]
  %c = tanh %b -> f32[d]
  %r = add %c, %x -> f32[d]
  %n = sum %r over d -> f32[]
  return %r, %n
}
func @layer(%z: f32[t=2 d=2], %w: f32[d k=2]) -> f32[t d] {
  %zero = constant 0.5 -> f32[]
  %h0 = expand %zero -> f32[d]
  %m0 = constant 1.0 -> f32[]
  %i0 = constant 0 -> i32[]
  %h, %m, %i, %hs = scan t reverse carry 3 slice 1 %h0, %m0, %i0, %z, %w -> f32[d], f32[], i32[], f32[t d] { (%h1: f32[d], %m1: f32[], %i1: i32[], %z1: f32[d], %w1: f32[d k])
    %r, %n = call @cell %h1, %z1, %w1 -> f32[d], f32[]
    %m2 = mul %m1, %n -> f32[]
    %one = constant 1 -> i32[]
    %i2 = add %i1, %one -> i32[]
    %f = cast %i2 -> f32[]
    %y = mul %r, %f -> f32[d]
    %e = fused group %y, %m2 -> f32[d] { (%y1: f32[d], %m3: f32[])
      %e1 = sin %y1 -> f32[d]
      %e2 = mul %e1, %m3 -> f32[d]
      yield %e2
    }
    yield %r, %m2, %i2, %e
  }
  %out = mul %hs, %m -> f32[t d]
  return %out
}
func @f(%z: f32[t=2 d=2], %w: f32[d k=2], %u: f32[s=2]) -> f32[t d], f32[t d] {
  %a = call @layer %z, %w -> f32[t d]
  %b = call @layer %a, %w -> f32[t d]
  %c = scan s carry 1 slice 1 %b, %u, %w -> f32[t d] { (%b1: f32[t d], %u1: f32[], %w2: f32[d k])
    %g0 = sum %b1 over t -> f32[d]
    %g, %gs = scan t carry 1 slice 1 %g0, %b1, %w2, %u1 -> f32[d], f32[t d] { (%g1: f32[d], %b2: f32[d], %w3: f32[d k], %u2: f32[])
      %p = contract %g1, %w3 -> f32[k]
      %q = relabel %p [k -> d] -> f32[d]
      %r = mul %q, %b2 -> f32[d]
      %v = mul %r, %u2 -> f32[d]
      %x = tanh %v -> f32[d]
      yield %x, %x
    }
    %n = add %gs, %g -> f32[t d]
    yield %n
  }
  return %b, %c
})", 4, {.orders = 2, .step = 1e-5, .tolerance = 2e-6});
}

TEST_CASE("scan states that only start or only end something") {
  check_text(R"(func @f(%a: f32[d=2], %b: f32[d], %z: f32[t=3 d]) -> f32[d], f32[d], f32[t d] {
  %p, %q, %r, %s = scan t carry 3 slice 1 %a, %b, %a, %z -> f32[d], f32[d], f32[d], f32[t d] { (%x: f32[d], %y: f32[d], %v: f32[d], %w: f32[d])
    %xw = mul %x, %w -> f32[d]
    %one = constant 1.0 -> f32[]
    %ones = expand %one -> f32[d]
    yield %y, %xw, %ones, %v
  }
  return %p, %r, %s
})");
}

TEST_CASE("a launched kernel is refused; an idle one is not") {
  const std::string kernel =
      "kernel @k map(%x: f32[t=2]) -> f32[t] {\n  %y = exp %x -> f32[t]\n  return %y\n}\n";
  Program p =
      parsed(kernel +
             "func @f(%x: f32[t=2]) -> f32[t] {\n  %y = launch @k %x -> f32[t]\n  return %y\n}\n");
  const Result<FunctionId> g = add_gradient(p, p.find("f"), {0}, "g");
  REQUIRE(!g.ok());
  CHECK(g.failure().exit == Exit::text);
  CHECK(!add_gradient(p, p.find("k"), {0}, "g").ok());
  check_text(kernel +
             "func @f(%x: f32[t=2]) -> f32[t] {\n  %s = stop %x -> f32[t]\n  %y = launch @k %s -> "
             "f32[t]\n  return %x\n}\n");
}

TEST_CASE("differentiate refuses what it cannot do") {
  CHECK(!differentiate(parsed("func @f(%x: f32[]) -> f32[] {\n  return %x\n}\n")).ok());
  Program p = parsed("func @f(%x: i32[]) -> i32[] {\n  return %x\n}\n");
  CHECK(!add_gradient(p, p.find("f"), {0}, "g").ok());
  CHECK(!add_gradient(p, p.find("f"), {1}, "g").ok());
}

TEST_CASE("parameters that no gradient reaches, turn by turn") {
  const Program p = parsed(R"(bundle @params.h {
  a: f32[] as "h.@.a" ~ normal(0.02)
  b: f32[] as "h.@.b" ~ normal(0.02)
  c: f32[] as "h.@.c" ~ normal(0.02)
}
bundle @params {
  h: 2 x @params.h
  idle: f32[d=3] as "idle" ~ normal(0.02)
  stopped: f32[] as "stopped" ~ normal(0.02)
}
func @h(%x: f32[], %y: f32[], %p: @params.h) -> f32[], f32[] {
  %u = mul %y, %p.a -> f32[]
  %v = mul %x, %p.b -> f32[]
  return %u, %v
}
func @loss(%p: @params, %step: i64[], %seed: i64[]) -> (loss: f32[]) {
  %x = constant 2.0 -> f32[]
  %s = stop %p.stopped -> f32[]
  %a, %b = call @h %x, %x, %p.h.0 -> f32[], f32[]
  %c, %d = call @h %a, %b, %p.h.1 -> f32[], f32[]
  %loss = mul %c, %s -> f32[]
  return %loss
})");
  // The last turn's second result is unused, so its b; and with it the first turn's a.
  CHECK(unreached_parameters(p) == std::vector<std::string>{"h.0.a", "h.0.c", "h.1.b", "h.1.c", "idle", "stopped"});
  std::vector<Array> arguments;
  for (double x : {2.0, 3.0, 0.0, 5.0, 7.0, 0.0}) arguments.push_back(Array::scalar(x));
  arguments.push_back(Array::zeros(DType::f32, {3}));
  arguments.push_back(Array::scalar(11.0));
  for (int i : {0, 1}) arguments.push_back(Array::scalar(std::int64_t{i}, DType::i64));
  // loss = x · b0 · a1 · s
  const std::vector<Array> g = gradients(p, arguments);
  REQUIRE(g.size() == 9);
  const double expected[] = {0, 2 * 5 * 11, 0, 2 * 3 * 11, 0, 0};
  for (std::size_t i = 0; i < 6; ++i) CHECK(g[i].real == Reals{expected[i]});
  CHECK(g[6].real == Reals{0, 0, 0});
  CHECK(g[7].real == Reals{0});
  // Its turns come back as bundles all the same, with zeros for what no turn reaches.
  const Result<Program> d = differentiate(p);
  REQUIRE(d.ok());
  const std::string text = print(*d);
  CHECK(text.find("%g.h.1 = call @h.bwd") != std::string::npos);
  CHECK(text.find("return %g.h.0, %g.h.1, %g.idle") != std::string::npos);
}

TEST_CASE("every operation of a gradient knows its line and its part") {
  Program p = parsed(R"(func @f(%x: f32[t=2]) -> f32[] {
  %y = exp %x -> f32[t]                                                 loc("m.grad":3:7)
  %z = mul %y, %x -> f32[t]                                             loc("m.grad":4:7 "n.grad":1:1)
  %s = sum %z over t -> f32[]                                           loc("m.grad":5:3)
  return %s
})");
  const Function before = p.function(p.find("f"));
  const Result<FunctionId> g = add_gradient(p, p.find("f"), {0}, "g");
  REQUIRE(g.ok());
  std::size_t forward = 0;
  for (const Op& op : p.function(*g).ops) {
    const Location& at = p.location(op.loc);
    CHECK(!at.lines.empty());
    forward += at.role == Role::forward;
    if (op.code == Opcode::expand_) CHECK(at.lines[0].line == 5);
  }
  CHECK(forward == before.ops.size());
}

TEST_CASE("a long chain is differentiated without recursion, in linear time") {
  for (const bool nested : {false, true}) {
    Program p;
    Function f{.name = p.intern("f")};
    Builder b(p, f);
    ValueId x = b.argument({DType::f32, {}}, "x");
    for (int i = 0; i < 50000; ++i) x = b.unary(Opcode::sin_, x);
    b.finish(std::vector{x});
    p.functions.push_back(std::move(f));
    FunctionId root{0};
    if (nested) {   // then forward saves nothing and backward computes the chain again
      Function caller{.name = p.intern("caller")};
      Builder c(p, caller);
      const ValueId y = c.argument({DType::f32, {}}, "x");
      c.finish(c.add_multi(Opcode::call_, std::vector{y}, {.callee = root},
                           std::vector{Type{DType::f32, {}}}));
      p.functions.push_back(std::move(caller));
      root = FunctionId{1};
    }
    const Result<FunctionId> g = add_gradient(p, root, {0}, "g");
    REQUIRE(g.ok());
    CHECK(verify(p).empty());
  }
}

}  // namespace gradc
