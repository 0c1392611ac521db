// Attention kernels against the interpreter: masks, maps, layouts, lengths that no tile divides,
// and how many tiles are computed.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "unit/codegen/against.h"
#include "unit/codegen/attention_text.h"

using namespace gradc;
using namespace gradc::testing;

namespace {

Trial trial(std::vector<int> layouts = {0, 1, 2, 3}) {
  return {.tolerance = {.ulps = 16, .absolute = 2e-6}, .layouts = std::move(layouts)};
}

}  // namespace

TEST_CASE("attention at lengths that no tile divides") {
  int turn = 0;
  for (const Sizes& n : {Sizes{1, 1, 1, 1},
                         {2, 7, 3, 8},
                         {7, 100, 8, 3},
                         {63, 65, 64, 80},
                         {65, 63, 80, 64},
                         {100, 2, 16, 1},
                         {257, 257, 8, 20}}) {
    INFO("rows ", n.t, ", keys ", n.s, ", features ", n.e, " and ", n.f);
    const Extents extents = extents_of(n, 1, 2);
    AttentionText a;
    if (turn % 2 == 0) a.map = causal_map;
    a.guarded = turn % 3 != 1;
    a.with_lse = turn % 4 != 2;
    check_kernel_against_interpreter(kernel_program(attention_text(a, extents)),
                                     trial({turn++ % 4}));
  }
}

TEST_CASE("attention of bf16: scores by pairs of features, and where there are none") {
  int turn = 0;
  for (const Sizes& n : {Sizes{1, 1, 1, 1},
                         {70, 100, 7, 3},
                         {65, 63, 30, 64},
                         {130, 130, 64, 16}}) {
    INFO("rows ", n.t, ", keys ", n.s, ", features ", n.e, " and ", n.f);
    const Extents extents = extents_of(n, 2, 3);
    AttentionText a{.halves = true};
    if (turn % 2 == 0) a.map = causal_map;
    check_kernel_against_interpreter(kernel_program(attention_text(a, extents)),
                                     trial({turn++ % 4}));
  }
}

TEST_CASE("attention with grouped queries, without batch, without rows") {
  int turn = 0;
  const AttentionText grouped{.q = "b t g n e",
                              .k = "b s g e",
                              .u = "b s g f",
                              .scores = "b t g n s",
                              .out = "b t g n f",
                              .row = "b t g n",
                              .map =
                                  "  %i = position t -> i32[t]\n  %j = position s -> i32[s]\n"
                                  "  %see = le %j, %i -> bool[s t]\n"
                                  "  %x = select %see, %score, -inf -> f32[b t g n s]\n"};
  check_kernel_against_interpreter(
      kernel_program(attention_text(
          grouped, {{"b", 2}, {"t", 70}, {"g", 2}, {"n", 3}, {"e", 5}, {"s", 70}, {"f", 7}})),
      trial({turn++ % 4}));
  // One position, many queries a key head: the tiles' rows are those.
  check_kernel_against_interpreter(
      kernel_program(attention_text(
          grouped, {{"b", 2}, {"t", 1}, {"g", 2}, {"n", 6}, {"e", 5}, {"s", 90}, {"f", 7}})),
      trial({3}));
  check_kernel_against_interpreter(
      kernel_program(attention_text({.q = "t e",
                                     .k = "s e",
                                     .u = "s f",
                                     .scores = "t s",
                                     .out = "t f",
                                     .row = "t",
                                     .map = "  %x = mul %score, 0.3 -> f32[t s]\n",
                                     .with_lse = false},
                                    {{"t", 67}, {"e", 4}, {"s", 130}, {"f", 16}})),
      trial({turn++ % 4}));
  check_kernel_against_interpreter(
      kernel_program(attention_text({.q = "h e",
                                     .k = "s h e",
                                     .u = "s f",
                                     .scores = "h s",
                                     .out = "h f",
                                     .row = "h",
                                     .map = "  %x = mul %score, 0.3 -> f32[h s]\n"},
                                    {{"h", 3}, {"e", 4}, {"s", 70}, {"f", 5}})),
      trial({turn++ % 4}));
}

TEST_CASE("score and weight maps read biases, tables, draws, masks and run-time scalars") {
  AttentionText a;
  a.arguments =
      ", %bias: f32[h t s], %column: f32[h s], %slope: f32[h], %table: f32[v=11 h], "
      "%pad: bool[b s], %docq: i32[b t], %dock: i32[b s], %seed: i64[], %step: i64[], %cap: f32[]";
  a.map =
      "  %capped = div %score, %cap -> f32[b t h s]\n  %tanh = tanh %capped -> f32[b t h s]\n"
      "  %soft = mul %tanh, %cap -> f32[b t h s]\n  %i = position t -> i32[t]\n"
      "  %j = position s -> i32[s]\n  %ahead = sub %i, %j -> i32[t s]\n"
      "  %low = max %ahead, -5 -> i32[t s]\n  %near = min %low, 5 -> i32[t s]\n"
      "  %index = add %near, 5 -> i32[t s]\n  %learned = gather %table, %index [v] -> f32[t s h]\n"
      "  %real = cast %ahead -> f32[t s]\n  %line = mul %real, %slope -> f32[t s h]\n"
      "  %a = add %soft, %bias -> f32[b t h s]\n  %b = add %a, %column -> f32[b t h s]\n"
      "  %c = add %b, %learned -> f32[b t h s]\n  %d = add %c, %line -> f32[b t h s]\n"
      "  %same = eq %docq, %dock -> bool[b t s]\n  %both = and %pad, %same -> bool[b t s]\n"
      "  %x = select %both, %d, -inf -> f32[b t h s]\n";
  a.weights =
      "  %draw = uniform %seed, %step, %step -> f32[b t h s]\n"
      "  %drop = lt %draw, 0.25 -> bool[b t h s]\n  %more = mul %weight, 1.25 -> f32[b t h s]\n"
      "  %kept = select %drop, 0.0, %more -> f32[b t h s]\n";
  check_kernel_against_interpreter(
      kernel_program(
          attention_text(a, {{"b", 2}, {"t", 70}, {"h", 2}, {"e", 4}, {"s", 100}, {"f", 4}})),
      trial({1, 3}));
}

TEST_CASE("tiles that a mask excludes are not computed") {
  struct Mask {
    std::string name, text;
    bool (*sees)(int t, int s);
  };
  static const auto doc = [](int t) { return t < 100 ? 0 : t < 470 ? 1 : t < 480 ? 2 : 3; };
  const std::string positions = "  %i = position t -> i32[t]\n  %j = position s -> i32[s]\n",
                    before = "  %past = le %j, %i -> bool[s t]\n";
  const Mask masks[] = {
      {"causal",
       before + "  %see = not %past -> bool[s t]\n  %hidden = not %see -> bool[s t]\n"
                "  %m = and %hidden, true -> bool[s t]\n",
       [](int t, int s) { return s <= t; }},
      {"window",
       before + "  %d = sub %i, %j -> i32[t s]\n  %w = lt %d, 256 -> bool[t s]\n"
                "  %m = and %past, %w -> bool[s t]\n",
       [](int t, int s) { return s <= t && t - s < 256; }},
      {"band",
       "  %d = sub %j, %i -> i32[t s]\n  %a = abs %d -> i32[t s]\n"
       "  %m = le %a, 64 -> bool[t s]\n",
       [](int t, int s) { return std::abs(t - s) <= 64; }},
      {"prefix", before + "  %p = lt %j, 100 -> bool[s]\n  %m = or %past, %p -> bool[s t]\n",
       [](int t, int s) { return s <= t || s < 100; }},
      {"blocks",
       "  %a = floordiv %i, 100 -> i32[t]\n  %c = floordiv %j, 100 -> i32[s]\n"
       "  %m = eq %a, %c -> bool[t s]\n",
       [](int t, int s) { return t / 100 == s / 100; }},
      {"length", "  %m = lt %j, %length -> bool[s b]\n", [](int, int s) { return s < 300; }},
      {"padding",
       "  %p = lt %j, %length -> bool[s b]\n  %r = ne %dock, 3 -> bool[b s]\n"
       "  %m = and %p, %r -> bool[s b]\n",
       [](int, int s) { return s < 300 && doc(s) != 3; }},
      {"documents",
       before + "  %same = eq %docq, %dock -> bool[b t s]\n"
                "  %m = and %past, %same -> bool[s t b]\n",
       [](int t, int s) { return s <= t && doc(t) == doc(s); }},
  };
  const int n = 1024;
  for (const Mask& mask : masks) {
    INFO(mask.name);
    AttentionText a;
    a.arguments = ", %docq: i32[b t], %dock: i32[b s], %length: i32[b]";
    a.map = positions + mask.text + "  %x = select %m, %score, -inf -> f32[b t h s]\n";
    const Program p = kernel_program(
        attention_text(a, {{"b", 1}, {"t", n}, {"h", 2}, {"e", 1}, {"s", n}, {"f", 1}}));
    const Function& f = p.functions[0];
    std::vector<Array> arguments;
    KernelInstance instance{FunctionId{0}, {}};
    for (ValueId v : f.body().arguments) arguments.push_back(random_array(f, f.type(v), 3));
    for (int t = 0; t < n; ++t)
      for (std::size_t k : {3, 4}) arguments[k].integer[static_cast<std::size_t>(t)] = doc(t);
    arguments[5].integer[0] = 300;
    for (ValueId v : f.body().arguments) instance.buffers.push_back(row_major(f, f.type(v)));
    for (ValueId v : f.body().results) instance.buffers.push_back(row_major(f, f.type(v)));
    std::int64_t tiles = 0;
    for (int i = 0; i < n; i += 64)
      for (int j = 0; j < n; j += 64) {
        bool any = false;
        for (int t = i; t < i + 64; ++t)
          for (int s = j; s < j + 64; ++s) any = any || mask.sees(t, s);
        tiles += any;
      }
    if (mask.name == "causal") CHECK(tiles == 136);
    Execution execution(p, instance, runnable_targets()[0]);
    const Array out = execution.run(arguments, 2)[0];
    CHECK(execution.compiled().tile_planes == 2);
    CHECK(execution.tiles().computed == 2 * tiles);
    CHECK(execution.tiles().all == 2 * 256);
    // One feature is cheap to check here: the weighted mean of u at some rows.
    for (int t : {0, 63, 64, 99, 475, 1023}) {
      double norm = 0, sum = 0;
      for (int s = 0; s < n; ++s) {
        if (!mask.sees(t, s)) continue;
        const auto at = [&](std::size_t k, int i) {
          return arguments[k].real[static_cast<std::size_t>(2 * i)];
        };
        const double w = std::exp(at(0, t) * at(1, s));
        norm += w;
        sum += w * at(2, s);
      }
      CHECK(out.real[static_cast<std::size_t>(2 * t)] ==
            doctest::Approx(norm == 0 ? 0 : sum / norm).epsilon(1e-5));
    }
  }
}

TEST_CASE("rows without keys give 0 and lse 0; scores of an infinity and NaN stay in their rows") {
  AttentionText a;
  a.arguments = ", %keep: bool[t s]";
  a.map = "  %x = select %keep, %score, -inf -> f32[b t h s]\n";
  const Program p = kernel_program(
      attention_text(a, {{"b", 1}, {"t", 70}, {"h", 1}, {"e", 1}, {"s", 70}, {"f", 1}}));
  const Function& f = p.functions[0];
  std::vector<Array> arguments;
  for (ValueId v : f.body().arguments) arguments.push_back(random_array(f, f.type(v), 3));
  for (int s = 0; s < 70; ++s) {
    arguments[3].integer[static_cast<std::size_t>(5 * 70 + s)] = 0;  // nothing is seen
    arguments[3].integer[static_cast<std::size_t>(66 * 70 + s)] = 0;
  }
  arguments[0].real[7] = std::numeric_limits<double>::quiet_NaN();
  arguments[0].real[9] = std::numeric_limits<double>::infinity();
  Trial t = trial({0, 2});
  t.arguments = arguments;
  check_kernel_against_interpreter(p, t);
  KernelInstance instance{FunctionId{0}, {}};
  for (ValueId v : f.body().arguments) instance.buffers.push_back(row_major(f, f.type(v)));
  for (ValueId v : f.body().results) instance.buffers.push_back(row_major(f, f.type(v)));
  const std::vector<Array> out = Execution(p, instance, runnable_targets()[0]).run(arguments, 1);
  for (std::size_t row : {5, 66}) {
    CHECK(out[0].real[row] == 0);
    CHECK(out[1].real[row] == 0);
  }
  CHECK(std::isnan(out[0].real[7]));
  CHECK(std::isfinite(out[0].real[8]));
}

// Scores 0 and y ≤ 0, whose values are 0 and 1: the result is e^y/(1 + e^y), and errs as e^y does.
TEST_CASE("weights of attention err by no more than codegen/math.h states, at small weights, too") {
  constexpr int n = 1 << 14;
  AttentionText a;
  a.map = "  %x = mul %score, 1.0 -> f32[b t h s]\n";
  const Program p = kernel_program(
      attention_text(a, {{"b", 1}, {"t", n}, {"h", 1}, {"e", 1}, {"s", 2}, {"f", 1}}));
  const Function& f = p.functions[0];
  Array q = Array::zeros(DType::f32, {1, n, 1, 1}), k = Array::zeros(DType::f32, {1, 2, 1, 1});
  for (int i = 0; i < n; ++i)
    q.real[static_cast<std::size_t>(i)] = static_cast<float>(-87.0 / n * i);
  k.real[1] = 1;
  KernelInstance instance{FunctionId{0}, {}};
  for (ValueId v : f.body().arguments) instance.buffers.push_back(row_major(f, f.type(v)));
  for (ValueId v : f.body().results) instance.buffers.push_back(row_major(f, f.type(v)));
  for (const Target& target : runnable_targets()) {
    const std::vector<Array> out = Execution(p, instance, target).run({q, k, k}, 1);
    double near = 0, far = 0;
    for (std::size_t i = 0; i < n; ++i) {
      const double weight = std::exp(q.real[i]),
                   wrong = std::abs(out[0].real[i] * (1 + weight) / weight - 1);
      (q.real[i] >= -5 ? near : far) = std::max(q.real[i] >= -5 ? near : far, wrong);
    }
    INFO(target.name);
    CHECK(near <= 1.1 * 0x1p-23 + 2 * 0x1p-24);  // the weight's, its sum's and the quotient's roundings
    CHECK(far <= 3.2e-7 + 2 * 0x1p-24);
    CHECK(near >= 0x1p-25);  // the statement is no empty one
  }
}

TEST_CASE("sequences too long to be packed at once are packed for each tile") {
  const Extents keys{{"b", 1}, {"t", 2}, {"h", 1}, {"e", 1}, {"s", 4200}, {"f", 1030}},
      rows{{"b", 1}, {"t", 4200}, {"h", 1}, {"e", 1}, {"s", 2}, {"f", 1030}};
  Trial t = trial({0});
  t.tolerance.absolute = 2e-5;
  check_kernel_against_interpreter(kernel_program(attention_text({}, keys)), t);
  check_kernel_against_interpreter(kernel_program(attention_grad_text({}, rows)), t);
}

TEST_CASE("in the products of tiles, accumulators stay in registers") {
  for (const Target& target : {avx512_target(), avx2_target(), portable_target()})
    for (const int features : {24, 80}) {
      const Program p = kernel_program(attention_grad_text(
          {}, {{"b", 1}, {"t", 64}, {"h", 1}, {"e", features}, {"s", 64}, {"f", 32}}));
      const Function& f = p.functions[0];
      KernelInstance instance{FunctionId{0}, {}};
      for (ValueId v : f.body().arguments) instance.buffers.push_back(row_major(f, f.type(v)));
      for (ValueId v : f.body().results) instance.buffers.push_back(row_major(f, f.type(v)));
      const Result<std::string> text = asm_text(p, instance, target);
      REQUIRE(text.ok());
      int products = 0;
      for (std::size_t at = 0; (at = text->find("\nmicro", at)) != std::string::npos; ++products) {
        const std::size_t end = text->find(".Lfunc_end", at);
        const std::string micro = text->substr(at, end - at);
        INFO(target.name, ", ", features, " features: ", micro);
        CHECK(micro.find(target.name == "portable" ? "mulps" : "vfmadd") != std::string::npos);
        for (std::size_t line = 0; line < micro.size();) {
          const std::size_t next = std::min(micro.find('\n', line), micro.size());
          const std::string one = micro.substr(line, next - line);
          CHECK_FALSE(
              (one.find("mm") != std::string::npos && one.find("(%rsp") != std::string::npos));
          line = next + 1;
        }
        at = end;
      }
      CHECK(products >= 2);
    }
}

TEST_CASE("attention in f64") {
  AttentionText a;
  a.dtype = "f64";
  a.map = "  %x = mul %score, 0.3 -> f64[b t h s]\n";
  a.gradient = "  %d_s = mul %d_x, 0.3 -> f64[b t h s]\n";
  const Extents extents{{"b", 1}, {"t", 9}, {"h", 2}, {"e", 3}, {"s", 70}, {"f", 2}};
  const Trial exact{.tolerance = {.ulps = 64, .absolute = 1e-14}, .layouts = {0}};
  check_kernel_against_interpreter(kernel_program(attention_text(a, extents)), exact);
  check_kernel_against_interpreter(kernel_program(attention_grad_text(a, extents)), exact);
}
