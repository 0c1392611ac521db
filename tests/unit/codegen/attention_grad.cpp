// Kernels of attention's gradient against the interpreter: sums over keys and rows, gradients of
// biases and tables, axes that results lack, and how many tiles are computed.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <string>

#include "unit/codegen/against.h"

using namespace gradc;
using namespace gradc::testing;

namespace {

using Extents = std::vector<std::pair<std::string, int>>;

struct Text {
  std::string q = "b t h e", k = "b s h e", u = "b s h f", scores = "b t h s", out = "b t h f",
              row = "b t h";
  std::string arguments = "";
  std::string map = "  %x = mul %score, 0.3 -> f32[b t h s]\n";       // of %score, gives %x
  std::string weights = "";                                           // of %weight, gives %kept
  std::string gradient = "  %d_s = mul %d_x, 0.3 -> f32[b t h s]\n";  // of %d_x, gives %d_s
  std::string results = "";  // more of them, as `name: type`, each defined in `gradient`
};

std::string text_of(const Text& a, const Extents& extents) {
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
  const auto type = [](const std::string& list) { return "f32[" + list + "]"; };
  std::string t = "kernel @k attention_grad(%q: " + axes(a.q);
  t += ", %k: " + axes(a.k);
  t += ", %u: " + axes(a.u) + a.arguments;
  t += ", %lse: " + type(a.row) + ", %delta: " + type(a.row) + ", %d_out: " + type(a.out) +
       ") -> (dq: " + type(a.q) + ", dk: " + type(a.k) + ", du: " + type(a.u);
  std::string names;
  for (std::size_t i = 0; i < a.results.size();) {
    const std::size_t end = std::min(a.results.find(';', i), a.results.size());
    const std::string one = a.results.substr(i, end - i);
    t += ", " + one;
    names += ", %" + one.substr(0, one.find(':'));
    i = end + 1;
  }
  const std::string full = type(a.scores);
  t += ") {\n  %score = contract %q, %k -> " + full + "\n" + a.map +
       "  %shifted = sub %x, %lse -> " + full + "\n  %weight = exp %shifted -> " + full + "\n";
  if (a.weights.empty()) {
    t += "  %d_w = contract %d_out, %u -> " + full + "\n";
  } else {
    t += a.weights;
  }
  t += "  %centred = sub %d_w, %delta -> " + full + "\n  %d_x = mul %weight, %centred -> " + full +
       "\n" + a.gradient + "  %dq = contract %d_s, %k -> " + type(a.q) +
       "\n  %dk = contract %d_s, %q -> " + type(a.k) + "\n  %du = contract " +
       (a.weights.empty() ? "%weight" : "%kept") + ", %d_out -> " + type(a.u) + "\n";
  return t + "  return %dq, %dk, %du" + names + "\n}\n";
}

const std::string causal =
    "  %i = position t -> i32[t]\n  %j = position s -> i32[s]\n"
    "  %see = le %j, %i -> bool[s t]\n  %scaled = mul %score, 0.3 -> f32[b t h s]\n"
    "  %x = select %see, %scaled, -inf -> f32[b t h s]\n";
const std::string causal_gradient =
    "  %d_scaled = select %see, %d_x, 0.0 -> f32[b t h s]\n"
    "  %d_s = mul %d_scaled, 0.3 -> f32[b t h s]\n";

Trial trial(std::vector<int> layouts = {0, 1, 2, 3}) {
  return {.tolerance = {.ulps = 16, .absolute = 4e-6}, .layouts = std::move(layouts)};
}

}  // namespace

TEST_CASE("attention's gradient at lengths that no tile divides") {
  int turn = 0;
  for (int n : {1, 2, 7, 63, 65, 100}) {
    const int layout = turn++ % 4;
    INFO("extent ", n);
    check_kernel_against_interpreter(
        kernel_program(text_of({}, {{"b", 2}, {"t", n}, {"h", 2}, {"e", 8}, {"s", 9}, {"f", 3}})),
        trial({layout}));
    check_kernel_against_interpreter(
        kernel_program(text_of({}, {{"b", 1}, {"t", 5}, {"h", 2}, {"e", 3}, {"s", n}, {"f", 20}})),
        trial({(layout + 1) % 4}));
    check_kernel_against_interpreter(
        kernel_program(text_of({.map = causal, .gradient = causal_gradient},
                               {{"b", 2}, {"t", n}, {"h", 1}, {"e", 80}, {"s", n}, {"f", 64}})),
        trial({(layout + 2) % 4}));
  }
}

TEST_CASE("attention's gradient with grouped queries, shared values, without batch or rows") {
  const Text grouped{.q = "b t g n e",
                     .k = "b s g e",
                     .u = "b s g f",
                     .scores = "b t g n s",
                     .out = "b t g n f",
                     .row = "b t g n",
                     .map =
                         "  %i = position t -> i32[t]\n  %j = position s -> i32[s]\n"
                         "  %see = le %j, %i -> bool[s t]\n"
                         "  %x = select %see, %score, -inf -> f32[b t g n s]\n",
                     .gradient = "  %d_s = select %see, %d_x, 0.0 -> f32[b t g n s]\n"};
  check_kernel_against_interpreter(
      kernel_program(text_of(
          grouped, {{"b", 2}, {"t", 70}, {"g", 2}, {"n", 3}, {"e", 5}, {"s", 70}, {"f", 7}})),
      trial({0, 2}));
  check_kernel_against_interpreter(
      kernel_program(text_of(
          grouped, {{"b", 2}, {"t", 1}, {"g", 2}, {"n", 6}, {"e", 5}, {"s", 90}, {"f", 7}})),
      trial({0, 3}));
  // du lacks the heads: it is a sum over them.
  check_kernel_against_interpreter(
      kernel_program(
          text_of({.u = "b s f"}, {{"b", 2}, {"t", 66}, {"h", 3}, {"e", 5}, {"s", 70}, {"f", 7}})),
      trial({0, 2}));
  check_kernel_against_interpreter(
      kernel_program(text_of({.q = "t e",
                              .k = "s e",
                              .u = "s f",
                              .scores = "t s",
                              .out = "t f",
                              .row = "t",
                              .map = "  %x = mul %score, 0.3 -> f32[t s]\n",
                              .gradient = "  %d_s = mul %d_x, 0.3 -> f32[t s]\n"},
                             {{"t", 67}, {"e", 4}, {"s", 600}, {"f", 16}})),
      trial({0, 2}));
  check_kernel_against_interpreter(
      kernel_program(text_of({.q = "h e",
                              .k = "s h e",
                              .u = "s h f",
                              .scores = "h s",
                              .out = "h f",
                              .row = "h",
                              .map = "  %x = mul %score, 0.3 -> f32[h s]\n",
                              .gradient = "  %d_s = mul %d_x, 0.3 -> f32[h s]\n"},
                             {{"h", 3}, {"e", 4}, {"s", 70}, {"f", 5}})),
      trial({0, 2}));
}

TEST_CASE("gradients of biases, columns, slopes, scalars, tables and masked tiles") {
  Text a;
  a.arguments =
      ", %bias: f32[h t s], %column: f32[h s], %slope: f32[h], %table: f32[v=11 h], %cap: f32[], "
      "%pad: bool[b s], %seed: i64[]";
  a.map =
      "  %i = position t -> i32[t]\n  %j = position s -> i32[s]\n"
      "  %ahead = sub %i, %j -> i32[t s]\n  %low = max %ahead, -5 -> i32[t s]\n"
      "  %near = min %low, 5 -> i32[t s]\n  %index = add %near, 5 -> i32[t s]\n"
      "  %learned = gather %table, %index [v] -> f32[t s h]\n"
      "  %real = cast %ahead -> f32[t s]\n  %line = mul %real, %slope -> f32[t s h]\n"
      "  %a = mul %score, %cap -> f32[b t h s]\n  %c = add %a, %bias -> f32[b t h s]\n"
      "  %d = add %c, %column -> f32[b t h s]\n  %g = add %d, %learned -> f32[b t h s]\n"
      "  %small = mul %line, 0.01 -> f32[t s h]\n  %y = add %g, %small -> f32[b t h s]\n"
      "  %past = le %j, %i -> bool[s t]\n  %see = and %past, %pad -> bool[s t b]\n"
      "  %x = select %see, %y, -inf -> f32[b t h s]\n";
  a.weights =
      "  %draw = uniform %seed, %seed, %seed -> f32[b t h s]\n"
      "  %drop = lt %draw, 0.25 -> bool[b t h s]\n  %more = mul %weight, 1.25 -> f32[b t h s]\n"
      "  %kept = select %drop, 0.0, %more -> f32[b t h s]\n"
      "  %d_kept = contract %d_out, %u -> f32[b t h s]\n"
      "  %d_more = select %drop, 0.0, %d_kept -> f32[b t h s]\n"
      "  %d_w = mul %d_more, 1.25 -> f32[b t h s]\n";
  a.gradient =
      "  %d_y = select %see, %d_x, 0.0 -> f32[b t h s]\n"
      "  %dbias = sum %d_y over b -> f32[h t s]\n  %dcolumn = sum %d_y over b t -> f32[h s]\n"
      "  %d_line = mul %d_y, %real -> f32[b t h s]\n"
      "  %dslope = sum %d_line over b t s -> f32[h]\n"
      "  %d_cap = mul %d_y, %score -> f32[b t h s]\n"
      "  %dcap = sum %d_cap over b t h s -> f32[]\n"
      "  %drow = sum %d_y over s h -> f32[b t]\n"
      "  %every = expand %index -> i32[b t s]\n"
      "  %dtable = scatter %d_y, %every [v] -> f32[v h]\n"
      "  %d_s = mul %d_y, %cap -> f32[b t h s]\n";
  a.results =
      "dbias: f32[h t s];dcolumn: f32[h s];dslope: f32[h];dcap: f32[];drow: f32[b t];"
      "dtable: f32[v h]";
  check_kernel_against_interpreter(
      kernel_program(text_of(a, {{"b", 2}, {"t", 70}, {"h", 2}, {"e", 4}, {"s", 100}, {"f", 4}})),
      trial({0, 1, 2, 3}));
  // A table by distance: its index runs along the keys. Places outside get nothing.
  Text far;
  far.arguments = ", %table: f32[v=100 h]";
  far.map =
      "  %i = position t -> i32[t]\n  %j = position s -> i32[s]\n"
      "  %ahead = sub %j, %i -> i32[t s]\n  %index = add %ahead, 60 -> i32[t s]\n"
      "  %learned = gather %table, %index [v] -> f32[t s h]\n"
      "  %back = sub 150, %index -> i32[t s]\n"
      "  %x = add %score, %learned -> f32[b t h s]\n";
  far.gradient =
      "  %every = expand %index -> i32[b t s]\n  %down = expand %back -> i32[b t s]\n"
      "  %dtable = scatter %d_x, %every [v] -> f32[v h]\n"
      "  %dturned = scatter %d_x, %down [v] -> f32[h v]\n"
      "  %dlast = scatter %d_x, %down [s] -> f32[h s]\n"
      "  %d_s = stop %d_x -> f32[b t h s]\n";
  far.results = "dtable: f32[v h];dturned: f32[h v];dlast: f32[h s]";
  check_kernel_against_interpreter(
      kernel_program(text_of(far, {{"b", 3}, {"t", 70}, {"h", 2}, {"e", 4}, {"s", 130}, {"f", 4}})),
      trial({0, 2}));
}

TEST_CASE("sums of what is not 0 where a mask excludes take every tile; others skip them") {
  const Extents extents{{"b", 1}, {"t", 256}, {"h", 2}, {"e", 2}, {"s", 256}, {"f", 2}};
  const auto computed = [&](const Text& a) {
    const Program p = kernel_program(text_of(a, extents));
    check_kernel_against_interpreter(p, trial({0}));
    const Function& f = p.functions[0];
    KernelInstance instance{FunctionId{0}, {}};
    std::vector<Array> arguments;
    for (ValueId v : f.body().arguments) {
      arguments.push_back(random_array(f, f.type(v), 3));
      instance.buffers.push_back(row_major(f, f.type(v)));
    }
    for (ValueId v : f.body().results) instance.buffers.push_back(row_major(f, f.type(v)));
    Execution execution(p, instance, runnable_targets()[0]);
    execution.run(arguments, 2);
    CHECK(execution.tiles().all == 2 * 16);
    return execution.tiles().computed;
  };
  CHECK(computed({.map = causal, .gradient = causal_gradient}) == 2 * 10);
  // The sum of the scores themselves, of a value without the keys, and of one of few axes.
  CHECK(computed({.map = causal,
                  .gradient = causal_gradient +
                              "  %all = sum %score over b t h s -> f32[]\n"
                              "  %some = sum %lse over b t -> f32[h]\n"
                              "  %real = cast %j -> f32[s]\n  %few = sum %real over s -> f32[]\n",
                  .results = "all: f32[];some: f32[h];few: f32[]"}) == 2 * 16);
}
