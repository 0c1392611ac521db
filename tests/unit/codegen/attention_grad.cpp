// Kernels of attention's gradient against the interpreter: sums over keys and rows, gradients of
// biases and tables, axes that results lack, and how many tiles are computed.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <string>

#include "unit/codegen/against.h"
#include "unit/codegen/attention_text.h"

using namespace gradc;
using namespace gradc::testing;

namespace {

Trial trial(std::vector<int> layouts = {0, 1, 2, 3}) {
  return {.tolerance = {.ulps = 16, .absolute = 4e-6}, .layouts = std::move(layouts)};
}

}  // namespace

TEST_CASE("attention's gradient at lengths that no tile divides") {
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
    if (turn % 2 == 0) a.map = causal_map, a.gradient = causal_gradient;
    check_kernel_against_interpreter(kernel_program(attention_grad_text(a, extents)),
                                     trial({turn++ % 4}));
  }
}

// A weight that lies between two bf16 may go either way, 2^-8 of it: that is the tolerance. Pairs of
// the wrong positions are off by the size of the results.
TEST_CASE("attention's gradient of bf16: products by pairs of features, of keys and of rows") {
  int turn = 0;
  for (const Sizes& n : {Sizes{1, 1, 1, 2},
                         {71, 100, 7, 3},
                         {65, 63, 30, 64},
                         {129, 130, 64, 16}}) {
    INFO("rows ", n.t, ", keys ", n.s, ", features ", n.e, " and ", n.f);
    const Extents extents = extents_of(n, 2, 3);
    AttentionText a{.halves = true};
    if (turn % 2 == 0) a.map = causal_map, a.gradient = causal_gradient;
    Trial of_bf16 = trial({turn++ % 4});
    of_bf16.tolerance.absolute = 1e-3;
    check_kernel_against_interpreter(kernel_program(attention_grad_text(a, extents)), of_bf16);
  }
}

TEST_CASE("attention's gradient with grouped queries, shared values, without batch or rows") {
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
                                  "  %x = select %see, %score, -inf -> f32[b t g n s]\n",
                              .gradient = "  %d_s = select %see, %d_x, 0.0 -> f32[b t g n s]\n"};
  check_kernel_against_interpreter(
      kernel_program(attention_grad_text(
          grouped, {{"b", 2}, {"t", 70}, {"g", 2}, {"n", 3}, {"e", 5}, {"s", 70}, {"f", 7}})),
      trial({turn++ % 4}));
  check_kernel_against_interpreter(
      kernel_program(attention_grad_text(
          grouped, {{"b", 2}, {"t", 1}, {"g", 2}, {"n", 6}, {"e", 5}, {"s", 90}, {"f", 7}})),
      trial({3}));
  // du lacks the heads: it is a sum over them.
  check_kernel_against_interpreter(
      kernel_program(attention_grad_text(
          {.u = "b s f"}, {{"b", 2}, {"t", 66}, {"h", 3}, {"e", 5}, {"s", 70}, {"f", 7}})),
      trial({turn++ % 4}));
  check_kernel_against_interpreter(
      kernel_program(attention_grad_text({.q = "t e",
                                          .k = "s e",
                                          .u = "s f",
                                          .scores = "t s",
                                          .out = "t f",
                                          .row = "t",
                                          .map = "  %x = mul %score, 0.3 -> f32[t s]\n",
                                          .gradient = "  %d_s = mul %d_x, 0.3 -> f32[t s]\n"},
                                         {{"t", 67}, {"e", 4}, {"s", 600}, {"f", 16}})),
      trial({turn++ % 4}));
  check_kernel_against_interpreter(
      kernel_program(attention_grad_text({.q = "h e",
                                          .k = "s h e",
                                          .u = "s h f",
                                          .scores = "h s",
                                          .out = "h f",
                                          .row = "h",
                                          .map = "  %x = mul %score, 0.3 -> f32[h s]\n",
                                          .gradient = "  %d_s = mul %d_x, 0.3 -> f32[h s]\n"},
                                         {{"h", 3}, {"e", 4}, {"s", 70}, {"f", 5}})),
      trial({turn++ % 4}));
}

TEST_CASE("gradients of biases, columns, slopes, scalars, tables and masked tiles") {
  AttentionText a;
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
      kernel_program(
          attention_grad_text(a, {{"b", 2}, {"t", 70}, {"h", 2}, {"e", 4}, {"s", 100}, {"f", 4}})),
      trial({1, 3}));
  int turn = 0;
  // A table by distance: its index runs along the keys. Places outside get nothing.
  AttentionText far;
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
      kernel_program(attention_grad_text(
          far, {{"b", 3}, {"t", 70}, {"h", 2}, {"e", 4}, {"s", 130}, {"f", 4}})),
      trial({turn++ % 4}));
}

TEST_CASE("sums of what is not 0 where a mask excludes take every tile; others skip them") {
  const Extents extents{{"b", 1}, {"t", 256}, {"h", 2}, {"e", 2}, {"s", 256}, {"f", 2}};
  const auto computed = [&](const AttentionText& a) {
    const Program p = kernel_program(attention_grad_text(a, extents));
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
  CHECK(computed({.map = causal_map, .gradient = causal_gradient}) == 2 * 10);
  // The sum of the scores themselves, of a value without the keys, and of one of few axes.
  CHECK(computed({.map = causal_map,
                  .gradient = causal_gradient +
                              "  %all = sum %score over b t h s -> f32[]\n"
                              "  %some = sum %lse over b t -> f32[h]\n"
                              "  %real = cast %j -> f32[s]\n  %few = sum %real over s -> f32[]\n",
                  .results = "all: f32[];some: f32[h];few: f32[]"}) == 2 * 16);
}

TEST_CASE("large results that lack batch axes grow through them") {
  // 520² places times the four that the bias lacks are more than slots are made for: the batch and
  // the heads run within a unit. du has one of them, the bias none.
  AttentionText a;
  a.u = "b s f";
  a.arguments = ", %bias: f32[t s]";
  a.map = "  %x = add %score, %bias -> f32[b t h s]\n";
  a.gradient =
      "  %dbias = sum %d_x over b h -> f32[t s]\n  %dcolumn = sum %d_x over b t -> f32[h s]\n"
      "  %drow = sum %d_x over h s -> f32[t b]\n  %dall = sum %d_x over b t h s -> f32[]\n"
      "  %d_s = stop %d_x -> f32[b t h s]\n";
  a.results = "dbias: f32[t s];dcolumn: f32[h s];drow: f32[t b];dall: f32[]";
  Trial t = trial({0});
  t.tolerance.absolute = 2e-5;
  check_kernel_against_interpreter(
      kernel_program(
          attention_grad_text(a, {{"b", 2}, {"t", 520}, {"h", 2}, {"e", 1}, {"s", 520}, {"f", 1}})),
      t);
}
