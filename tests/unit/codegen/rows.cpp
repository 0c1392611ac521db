// Rows kernels against the interpreter: each reduction and what trainings make of them, in each way
// of running (lanes along the reduced or a kept axis, long rows in blocks, streamed columns), row
// lengths around every vector width, in place.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <limits>

#include "unit/codegen/against.h"

using namespace gradc;
using namespace gradc::testing;

namespace {

constexpr int lengths[] = {1, 2, 4, 7, 15, 16, 17, 63, 65, 100, 257};

// Sums of n numbers in −1 … 1 in any order.
Tolerance sums(double n) { return {.ulps = 4, .absolute = 1e-7 * (4 + n / 16)}; }

}  // namespace

TEST_CASE("every reduction, over every length, along either axis") {
  int turn = 0;
  for (int n : lengths)
    for (const char* over : {"s", "t"}) {
      CAPTURE(n);
      CAPTURE(over);
      const char* kept = over[0] == 's' ? "t" : "s";
      const Program p = kernel_program(fmt::format(
          R"(
kernel @k rows(%x: f32[t=5 s={0}], %i: i32[t s]) -> f32[{1}], f32[{1}], f32[{1}], i32[{1}], i32[{1}], i32[{1}], i32[{1}] {{
  %a = sum %x over {2} -> f32[{1}]
  %b = amax %x over {2} -> f32[{1}]
  %c = amin %x over {2} -> f32[{1}]
  %d = argmax %x over {2} -> i32[{1}]
  %e = sum %i over {2} -> i32[{1}]
  %f = amax %i over {2} -> i32[{1}]
  %g = argmax %i over {2} -> i32[{1}]
  return %a, %b, %c, %d, %e, %f, %g
}}
)",
          n, kept, over));
      check_kernel_against_interpreter(p, {.tolerance = sums(n), .layouts = {turn++ % 4}});
    }
}

TEST_CASE("wide reductions, of 64-bit elements") {
  for (int n : {3, 65, 200})
    for (const char* over : {"s", "t"}) {
      const char* kept = over[0] == 's' ? "t" : "s";
      const Program p = kernel_program(fmt::format(R"(
kernel @k rows(%x: f64[t=70 s={0}], %i: i64[t s]) -> f64[{1}], f64[{1}], i64[{1}], i32[{1}], i64[{1}] {{
  %a = sum %x over {2} -> f64[{1}]
  %b = amin %x over {2} -> f64[{1}]
  %c = sum %i over {2} -> i64[{1}]
  %d = argmax %x over {2} -> i32[{1}]
  %e = amin %i over {2} -> i64[{1}]
  return %a, %b, %c, %d, %e
}}
)",
                                                   n, kept, over));
      check_kernel_against_interpreter(p, {.tolerance = {.ulps = 64}, .layouts = {0}});
    }
}

TEST_CASE("softmax in three passes, also in its operand's place; a long row keeps its numerators") {
  int turn = 0;
  for (int n : {1, 4, 17, 64, 100, 257, 3000})
    for (const char* axes : {"t=9 s={}", "s={} t=9", "t=3 s={} h=6"}) {
      CAPTURE(n);
      CAPTURE(axes);
      const std::string type = fmt::format(fmt::runtime(axes), n);
      const std::string kept = type.find('h') != std::string::npos ? "t h" : "t";
      const std::string full = kept == "t h" ? "t s h" : axes[0] == 't' ? "t s" : "s t";
      const Program p = kernel_program(fmt::format(
          R"(
kernel @k rows(%x: f32[{0}]) -> f32[{1}], f32[{2}] {{
  %m = amax %x over s -> f32[{2}]
  %d = sub %x, %m -> f32[{1}]
  %e = exp %d -> f32[{1}]
  %z = sum %e over s -> f32[{2}]
  %y = div %e, %z -> f32[{1}]
  %l = log %z -> f32[{2}]
  %q = add %l, %m -> f32[{2}]
  return %y, %q
}}
)",
          type, full, kept));
      check_kernel_against_interpreter(
          p, {.tolerance = {.ulps = 16, .absolute = 2e-6}, .layouts = {turn % 4}});
      check_kernel_against_interpreter(p, {.tolerance = {.ulps = 16, .absolute = 2e-6},
                                           .layouts = {turn % 2},
                                           .aliases = {{0, 0}}});
      ++turn;
    }
}

TEST_CASE("a long row keeps its numerators: in the result's place, or, where that is narrower, beside") {
  for (const char* type : {"f32", "bf16"}) {
    const Program p = kernel_program(fmt::format(
        R"(
kernel @k rows(%x: f32[t=9 s=3000]) -> {0}[t s] {{
  %m = amax %x over s -> f32[t]
  %d = sub %x, %m -> f32[t s]
  %e = exp %d -> f32[t s]
  %z = sum %e over s -> f32[t]
  %y = div %e, %z -> f32[t s]
  {1}
}}
)",
        type, type[0] == 'f' ? "return %y" : "%r = cast %y -> bf16[t s]\n  return %r"));
    const Function& f = p.function(p.find("k"));
    KernelInstance instance{p.find("k"), {}};
    for (ValueId v : {f.body().arguments[0], f.body().results[0]})
      instance.buffers.push_back(row_major(f, f.type(v)));
    CHECK(Execution(p, instance, host_target()).compiled().local_bytes == (type[0] == 'f' ? 0 : 3008 * 4));
  }
}

TEST_CASE("layernorm with gain and shift, and the gradient of its operand") {
  int turn = 0;
  for (int n : {4, 17, 96, 768, 1000}) {
    CAPTURE(n);
    const Program forward = kernel_program(fmt::format(R"(
kernel @k rows(%x: f32[b=2 t=5 d={0}], %g: f32[d], %c: f32[d]) -> f32[b t d], f32[b t], f32[b t] {{
  %n = constant {0}.0 -> f32[]
  %eps = constant 1e-05 -> f32[]
  %s = sum %x over d -> f32[b t]
  %m = div %s, %n -> f32[b t]
  %y = sub %x, %m -> f32[b t d]
  %q = mul %y, %y -> f32[b t d]
  %v = sum %q over d -> f32[b t]
  %w = div %v, %n -> f32[b t]
  %u = add %w, %eps -> f32[b t]
  %r = rsqrt %u -> f32[b t]
  %h = mul %y, %r -> f32[b t d]
  %k1 = mul %h, %g -> f32[b t d]
  %o = add %k1, %c -> f32[b t d]
  return %o, %m, %r
}}
)",
                                                       n));
    check_kernel_against_interpreter(
        forward, {.tolerance = {.ulps = 64, .absolute = 1e-6}, .layouts = {turn % 4}});
    check_kernel_against_interpreter(
        forward,
        {.tolerance = {.ulps = 64, .absolute = 1e-6}, .layouts = {1}, .aliases = {{0, 0}}});
    // Two reductions in one pass; m and r are given by row.
    const Program backward = kernel_program(fmt::format(R"(
kernel @k rows(%dy: f32[b=2 t=5 d={0}], %x: f32[b t d], %g: f32[d], %m: f32[b t], %r: f32[b t]) -> f32[b t d] {{
  %n = constant {0}.0 -> f32[]
  %c = sub %x, %m -> f32[b t d]
  %h = mul %c, %r -> f32[b t d]
  %u = mul %dy, %g -> f32[b t d]
  %s = sum %u over d -> f32[b t]
  %uh = mul %u, %h -> f32[b t d]
  %v = sum %uh over d -> f32[b t]
  %s1 = div %s, %n -> f32[b t]
  %v1 = div %v, %n -> f32[b t]
  %a = mul %h, %v1 -> f32[b t d]
  %e = sub %u, %s1 -> f32[b t d]
  %f = sub %e, %a -> f32[b t d]
  %o = mul %f, %r -> f32[b t d]
  return %o
}}
)",
                                                        n));
    check_kernel_against_interpreter(
        backward, {.tolerance = {.ulps = 64, .absolute = 1e-6}, .layouts = {turn % 4}});
    ++turn;
  }
}

TEST_CASE(
    "cross entropy: a look-up beside the reduction, a target outside, its gradient by position") {
  for (int v : {5, 17, 257}) {
    CAPTURE(v);
    const Program p = kernel_program(fmt::format(
        R"(
kernel @k rows(%x: f32[b=3 t=4 v={0}], %i: i32[b t]) -> f32[b t], f32[b t v] {{
  %m = amax %x over v -> f32[b t]
  %d = sub %x, %m -> f32[b t v]
  %e = exp %d -> f32[b t v]
  %z = sum %e over v -> f32[b t]
  %l = log %z -> f32[b t]
  %a = add %l, %m -> f32[b t]
  %p = gather %x, %i [v] -> f32[b t]
  %n = sub %a, %p -> f32[b t]
  %w = position v -> i32[v]
  %h = eq %i, %w -> bool[b t v]
  %one = constant 1.0 -> f32[]
  %zero = constant 0.0 -> f32[]
  %o = select %h, %one, %zero -> f32[b t v]
  %q = div %e, %z -> f32[b t v]
  %g = sub %q, %o -> f32[b t v]
  return %n, %g
}}
)",
        v));
    const Function& f = p.function(p.find("k"));
    std::vector<Array> arguments{random_array(f, f.type(f.body().arguments[0]), 7),
                                 Array::zeros(DType::i32, {3, 4})};
    for (std::size_t i = 0; i < 12; ++i)
      arguments[1].integer[i] = static_cast<std::int64_t>(i) * 5 % (v + 2) - 1;
    check_kernel_against_interpreter(
        p,
        {.tolerance = {.ulps = 16, .absolute = 2e-6}, .arguments = arguments, .layouts = {0, 3}});
    check_kernel_against_interpreter(p, {.tolerance = {.ulps = 16, .absolute = 2e-6},
                                         .arguments = arguments,
                                         .layouts = {1},
                                         .aliases = {{1, 0}}});
  }
}

TEST_CASE(
    "cross entropy and its gradient in one kernel: the target's logit is read, its place marked, "
    "numerators wait in the result's place") {
  constexpr double nan = std::numeric_limits<double>::quiet_NaN();
  for (int v : {5, 17, 128, 257, 5000}) {
    CAPTURE(v);
    const Program p = kernel_program(fmt::format(
        R"(
kernel @k rows(%x: f32[b=3 t=8 v={0}], %i: i32[b t]) -> f32[b t], f32[b t], f32[b t], f32[b t v] {{
  %m = amax %x over v -> f32[b t]
  %d = sub %x, %m -> f32[b t v]
  %e = exp %d -> f32[b t v]
  %z = sum %e over v -> f32[b t]
  %w = position v -> i32[v]
  %h = eq %w, %i -> bool[v b t]
  %zero = constant 0.0 -> f32[]
  %o = select %h, %x, %zero -> f32[b t v]
  %p = sum %o over v -> f32[b t]
  %c = constant -0.25 -> f32[]
  %one = expand %c -> f32[b t]
  %g = select %h, %one, %zero -> f32[b t v]
  %q = div 0.25, %z -> f32[b t]
  %y = mul %q, %e -> f32[b t v]
  %r = add %g, %y -> f32[b t v]
  return %m, %z, %p, %r
}}
)",
        v));
    const Function& f = p.function(p.find("k"));
    std::vector<Array> arguments{random_array(f, f.type(f.body().arguments[0]), 7),
                                 Array::zeros(DType::i32, {3, 8})};
    // The ends of a row, of its turns and of its vectors, and beyond.
    const int places[] = {0,      v - 1,  v,       v + 1,   -1,      v / 2,   15,     16,
                          31,     32,     63,      64,      v - 2,   v - 16,  v - 17, v - 33,
                          v - 64, v - 65, 1 << 30, -1 << 31, 4999,    4992,    4991,   1};
    for (std::size_t i = 0; i < 24; ++i) arguments[1].integer[i] = places[i];
    // A NaN reaches maximum, sum and gradient of its row wherever it stands.
    for (int t = 0; t < 6; ++t)
      arguments[0].real[static_cast<std::size_t>((t + 10) * v + t * (v - 1) / 5)] = nan;
    for (const std::vector<std::pair<int, int>>& aliases :
         {std::vector<std::pair<int, int>>{}, {{3, 0}}})
      check_kernel_against_interpreter(p, {.tolerance = {.ulps = 16, .absolute = 2e-6},
                                           .arguments = arguments,
                                           .layouts = {aliases.empty() && v < 1000 ? 3 : 0},
                                           .aliases = aliases});
    if (v != 5000) continue;
    KernelInstance instance{p.find("k"), {}};
    for (ValueId x : f.body().arguments) instance.buffers.push_back(row_major(f, f.type(x)));
    for (ValueId x : f.body().results) instance.buffers.push_back(row_major(f, f.type(x)));
    CHECK(Execution(p, instance, host_target()).compiled().local_bytes == 0);
  }
}

TEST_CASE(
    "column sums: blocks of rows, pieces of columns, rows' own factors, several axes, in place") {
  const auto check = [](const std::string& text, double n, std::vector<int> layouts,
                        std::vector<std::pair<int, int>> aliases = {}) {
    check_kernel_against_interpreter(
        kernel_program(text),
        {.tolerance = sums(n), .layouts = std::move(layouts), .aliases = std::move(aliases)});
  };
  for (int rows : {17, 64, 66, 131})
    for (int columns : {3, 16, 100}) {
      CAPTURE(rows);
      CAPTURE(columns);
      // A gain's gradient, as layernorm leaves it: factors by row, and by column.
      check(fmt::format(R"(
kernel @k rows(%g: f32[b=3 t={0} d={1}], %x: f32[b t d], %m: f32[b t], %r: f32[b t], %c: f32[d]) -> f32[d], f32[d], i32[d] {{
  %y = sub %x, %m -> f32[b t d]
  %h = mul %y, %r -> f32[b t d]
  %a = mul %g, %h -> f32[b t d]
  %f = mul %a, %c -> f32[b t d]
  %s = sum %f over b t -> f32[d]
  %u = sum %g over b t -> f32[d]
  %z = constant 0.0 -> f32[]
  %p = lt %z, %g -> bool[b t d]
  %i = cast %p -> i32[b t d]
  %n = sum %i over b t -> i32[d]
  return %s, %u, %n
}}
)",
                        rows, columns),
            3 * rows,
            {rows == 66      ? 2
             : columns == 16 ? 0
                             : 1});
    }
  // Kept axes on both sides; a result with all axes in an operand's place; columns beyond one
  // piece.
  check(
      R"(
kernel @k rows(%x: f32[b=3 t=70 d=20], %y: f32[b t d]) -> f32[b d], f32[b t d] {
  %a = mul %x, %y -> f32[b t d]
  %s = sum %a over t -> f32[b d]
  %q = tanh %s -> f32[b d]
  return %q, %a
}
)",
      70, {0, 3});
  check(
      R"(
kernel @k rows(%x: f32[b=3 t=70 d=20], %y: f32[b t d]) -> f32[b d], f32[b t d] {
  %a = mul %x, %y -> f32[b t d]
  %s = sum %a over t -> f32[b d]
  %q = tanh %s -> f32[b d]
  return %q, %a
}
)",
      70, {0}, {{1, 1}});
  check(
      R"(
kernel @k rows(%x: f32[t=40 d=2100]) -> f32[d], i32[d] {
  %s = sum %x over t -> f32[d]
  %a = argmax %x over t -> i32[d]
  return %s, %a
}
)",
      40, {0, 1});
  check(
      R"(
kernel @k rows(%x: f32[t=5 d=2100]) -> f32[d] {
  %s = sum %x over t -> f32[d]
  return %s
}
)",
      5, {0, 1});
  // The same axes reduced across memory.
  check(
      R"(
kernel @k rows(%x: f32[a=20 b=6 c=10 d=9]) -> f32[b d] {
  %s = sum %x over a c -> f32[b d]
  return %s
}
)",
      200, {0, 1, 2});
  check(
      R"(
kernel @k rows(%x: f32[a=20 b=6 c=10 d=90]) -> f32[a c] {
  %s = sum %x over b d -> f32[a c]
  return %s
}
)",
      540, {0, 1, 2});
}

TEST_CASE("few long rows are cut into blocks, whose sums are added in order") {
  const Program norm = kernel_program(
      R"(
kernel @k rows(%x: f32[n=300001], %c: f32[]) -> f32[], f32[n] {
  %q = mul %x, %x -> f32[n]
  %s = sum %q over n -> f32[]
  %r = sqrt %s -> f32[]
  %f = div %c, %r -> f32[]
  %y = mul %x, %f -> f32[n]
  return %r, %y
}
)");
  check_kernel_against_interpreter(norm, {.tolerance = {.ulps = 16}, .layouts = {0}});
  check_kernel_against_interpreter(
      norm, {.tolerance = {.ulps = 16}, .layouts = {0}, .aliases = {{1, 0}}});
  const Program rows = kernel_program(
      R"(
kernel @k rows(%x: f32[a=600 b=3 n=513]) -> f32[b], i32[b], f32[b] {
  %q = mul %x, %x -> f32[a b n]
  %s = sum %q over a n -> f32[b]
  %i = cast %x -> i32[a b n]
  %t = sum %i over a n -> i32[b]
  %m = amax %x over a n -> f32[b]
  return %s, %t, %m
}
)");
  check_kernel_against_interpreter(rows, {.tolerance = {.ulps = 16}, .layouts = {0}});
  const Program best = kernel_program(
      R"(
kernel @k rows(%x: f32[b=2 n=262150]) -> i32[b] {
  %i = argmax %x over n -> i32[b]
  return %i
}
)");
  check_kernel_against_interpreter(best, {.layouts = {0}});
}

TEST_CASE("a sum of nothing is 0, a maximum −inf, and no rows are no results") {
  for (const char* axes : {"t=3 s=0", "t=0 s=3", "t=0 s=0", "t=20 s=0", "t=1 s=1"}) {
    CAPTURE(axes);
    const Program p = kernel_program(fmt::format(R"(
kernel @k rows(%x: f32[{}]) -> f32[t], f32[t], i32[t], f32[t s] {{
  %a = sum %x over s -> f32[t]
  %b = amax %x over s -> f32[t]
  %c = argmax %x over s -> i32[t]
  %d = add %x, %b -> f32[t s]
  return %a, %b, %c, %d
}}
)",
                                                 axes));
    check_kernel_against_interpreter(p, {.layouts = {0}});
  }
}

TEST_CASE("NaN decides a maximum, and never an argmax; the first among equals wins") {
  constexpr double inf = std::numeric_limits<double>::infinity(),
                   nan = std::numeric_limits<double>::quiet_NaN();
  for (int s : {3, 40, 300})
    for (const char* axes : {"t=6 s={}", "s={} t=6"}) {
      CAPTURE(s);
      const Program p = kernel_program(fmt::format(R"(
kernel @k rows(%x: f32[{}]) -> f32[t], f32[t], i32[t], f32[t] {{
  %a = amin %x over s -> f32[t]
  %b = amax %x over s -> f32[t]
  %c = argmax %x over s -> i32[t]
  %d = sum %x over s -> f32[t]
  return %a, %b, %c, %d
}}
)",
                                                   fmt::format(fmt::runtime(axes), s)));
      const bool inner = axes[0] == 't';
      Array x = Array::zeros(
          DType::f32, inner ? std::vector<std::int64_t>{6, s} : std::vector<std::int64_t>{s, 6});
      for (int t = 0; t < 6; ++t)
        for (int i = 0; i < s; ++i) {
          double v = 1;
          if (t == 0) v = i == s / 2 ? nan : i == s - 1 ? 2 : -1;
          if (t == 1) v = nan;
          if (t == 2) v = -inf;
          if (t == 3) v = i % 2 == 1 ? 5 : 4;
          if (t == 4) v = i == s - 1 ? inf : i == 0 ? -inf : 0;
          x.real[static_cast<std::size_t>(inner ? t * s + i : i * 6 + t)] = v;
        }
      check_kernel_against_interpreter(
          p, {.tolerance = {.absolute = 1e-7}, .arguments = {x}, .layouts = {0, 2}});
    }
}
