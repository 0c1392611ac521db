// Attention kernels against the interpreter: masks, maps, layouts, lengths that no tile divides,
// and how many tiles are computed.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "unit/codegen/against.h"

using namespace gradc;
using namespace gradc::testing;

namespace {

// An attention kernel as text: what stands between the scores %score and the softmax's %x, what
// makes %kept of %weight, and further arguments.
struct Text {
  std::string q = "b t h e", k = "b s h e", u = "b s h f", scores = "b t h s", out = "b t h f",
              lse = "b t h";
  std::string map = "  %x = mul %score, 0.3 -> f32[b t h s]\n";
  std::string weight_map = "";
  std::string arguments = "";
  bool with_lse = true, guarded = true;
};

std::string text_of(const Text& a, const std::vector<std::pair<std::string, int>>& extents) {
  std::vector<std::string> seen;
  const auto axes = [&](const std::string& list) {
    std::string out;
    for (std::size_t i = 0; i < list.size();) {
      const std::size_t end = std::min(list.find(' ', i), list.size());
      const std::string name = list.substr(i, end - i);
      out += (out.empty() ? "" : " ") + name;
      if (std::find(seen.begin(), seen.end(), name) == seen.end()) {
        seen.push_back(name);
        for (const auto& [n, extent] : extents)
          if (n == name) out += fmt::format("={}", extent);
      }
      i = end + 1;
    }
    return "f32[" + out + "]";
  };
  std::string t = "kernel @k attention(%q: " + axes(a.q);
  t += ", %k: " + axes(a.k);
  t += ", %u: " + axes(a.u) + a.arguments;
  t += ") -> (out: f32[" + a.out + "]";
  if (a.with_lse) t += ", lse: f32[" + a.lse + "]";
  t += ") {\n  %score = contract %q, %k -> f32[" + a.scores + "]\n" + a.map;
  const std::string row = "f32[" + a.lse + "]", full = "f32[" + a.scores + "]";
  t += "  %max = amax %x over s -> " + row + "\n";
  if (a.guarded)
    t += "  %none = eq %max, -inf -> bool[" + a.lse + "]\n  %finite = select %none, 0.0, %max -> " +
         row + "\n  %shift = stop %finite -> " + row + "\n";
  else
    t += "  %shift = stop %max -> " + row + "\n";
  t += "  %centred = sub %x, %shift -> " + full + "\n  %exp = exp %centred -> " + full + "\n";
  const std::string norm = a.guarded ? "%norm" : "%sum";
  t += "  %sum = sum %exp over s -> " + row + "\n";
  if (a.guarded)
    t += "  %zero = eq %sum, 0.0 -> bool[" + a.lse + "]\n  %norm = select %zero, 1.0, %sum -> " +
         row + "\n";
  t += "  %weight = div %exp, " + norm + " -> " + full + "\n" + a.weight_map;
  t += std::string("  %out = contract ") + (a.weight_map.empty() ? "%weight" : "%kept") +
       ", %u -> f32[" + a.out + "]\n";
  if (a.with_lse)
    t += "  %log = log " + norm + " -> " + row + "\n  %lse = add %shift, %log -> " + row + "\n";
  return t + (a.with_lse ? "  return %out, %lse\n}\n" : "  return %out\n}\n");
}

const std::string causal =
    "  %i = position t -> i32[t]\n  %j = position s -> i32[s]\n"
    "  %see = le %j, %i -> bool[s t]\n  %scaled = mul %score, 0.3 -> f32[b t h s]\n"
    "  %x = select %see, %scaled, -inf -> f32[b t h s]\n";

Trial trial(std::vector<int> layouts = {0, 1, 2, 3}) {
  return {.tolerance = {.ulps = 16, .absolute = 2e-6}, .layouts = std::move(layouts)};
}

}  // namespace

TEST_CASE("attention at lengths that no tile divides") {
  int turn = 0;
  for (int n : {1, 2, 7, 63, 65, 100}) {
    const int layout = turn++ % 4;
    INFO("extent ", n);
    Text plain{.guarded = false};
    check_kernel_against_interpreter(
        kernel_program(
            text_of(plain, {{"b", 2}, {"t", n}, {"h", 2}, {"e", 8}, {"s", 9}, {"f", 3}})),
        trial({layout}));
    check_kernel_against_interpreter(
        kernel_program(text_of({}, {{"b", 1}, {"t", 5}, {"h", 2}, {"e", 3}, {"s", n}, {"f", 20}})),
        trial({(layout + 1) % 4}));
    check_kernel_against_interpreter(
        kernel_program(text_of({.map = causal},
                               {{"b", 2}, {"t", n}, {"h", 1}, {"e", 80}, {"s", n}, {"f", 64}})),
        trial({(layout + 2) % 4}));
  }
}

TEST_CASE("attention with grouped queries, without batch, without rows") {
  const Text grouped{.q = "b t g n e",
                     .k = "b s g e",
                     .u = "b s g f",
                     .scores = "b t g n s",
                     .out = "b t g n f",
                     .lse = "b t g n",
                     .map =
                         "  %i = position t -> i32[t]\n  %j = position s -> i32[s]\n"
                         "  %see = le %j, %i -> bool[s t]\n"
                         "  %x = select %see, %score, -inf -> f32[b t g n s]\n"};
  check_kernel_against_interpreter(
      kernel_program(text_of(
          grouped, {{"b", 2}, {"t", 70}, {"g", 2}, {"n", 3}, {"e", 5}, {"s", 70}, {"f", 7}})),
      trial({0, 2}));
  // One position, many queries a key head: the tiles' rows are those.
  check_kernel_against_interpreter(
      kernel_program(text_of(
          grouped, {{"b", 2}, {"t", 1}, {"g", 2}, {"n", 6}, {"e", 5}, {"s", 90}, {"f", 7}})),
      trial({0, 3}));
  check_kernel_against_interpreter(
      kernel_program(text_of({.q = "t e",
                              .k = "s e",
                              .u = "s f",
                              .scores = "t s",
                              .out = "t f",
                              .lse = "t",
                              .map = "  %x = mul %score, 0.3 -> f32[t s]\n",
                              .with_lse = false},
                             {{"t", 67}, {"e", 4}, {"s", 130}, {"f", 16}})),
      trial({0, 2}));
  check_kernel_against_interpreter(
      kernel_program(text_of({.q = "h e",
                              .k = "s h e",
                              .u = "s f",
                              .scores = "h s",
                              .out = "h f",
                              .lse = "h",
                              .map = "  %x = mul %score, 0.3 -> f32[h s]\n"},
                             {{"h", 3}, {"e", 4}, {"s", 70}, {"f", 5}})),
      trial({0, 2}));
}

TEST_CASE("score and weight maps read biases, tables, draws, masks and run-time scalars") {
  Text a;
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
  a.weight_map =
      "  %draw = uniform %seed, %step, %step -> f32[b t h s]\n"
      "  %drop = lt %draw, 0.25 -> bool[b t h s]\n  %more = mul %weight, 1.25 -> f32[b t h s]\n"
      "  %kept = select %drop, 0.0, %more -> f32[b t h s]\n";
  check_kernel_against_interpreter(
      kernel_program(text_of(a, {{"b", 2}, {"t", 70}, {"h", 2}, {"e", 4}, {"s", 100}, {"f", 4}})),
      trial({0, 1, 2, 3}));
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
    Text a;
    a.arguments = ", %docq: i32[b t], %dock: i32[b s], %length: i32[b]";
    a.map = positions + mask.text + "  %x = select %m, %score, -inf -> f32[b t h s]\n";
    const Program p =
        kernel_program(text_of(a, {{"b", 1}, {"t", n}, {"h", 2}, {"e", 1}, {"s", n}, {"f", 1}}));
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
