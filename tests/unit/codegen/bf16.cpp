// bf16 in kernels against the interpreter: casts that round to nearest even, loads and stores of
// every kind, contractions with casts before and behind them.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "unit/codegen/against.h"

using namespace gradc;
using namespace gradc::testing;

TEST_CASE("bf16: a cast rounds to nearest even, to the bit") {
  const double inf = std::numeric_limits<double>::infinity();
  // Ties to both sides, what rounds up to the next power of two and to infinity, zeros, what is not
  // a number.
  const std::vector<double> x{
      0,           -0.0,        1,                   1 + 0x1p-8,    1 + 0x3p-8,  1 + 0x1p-8 + 0x1p-23,
      -1 - 0x1p-8, 2 - 0x1p-23, 0x1.fffffep127,      -0x1.ffp127,   0x1.fe8p127, 0x1p-126,
      3.14159274,  -inf,        inf,                 std::nan("")};
  Array a = Array::zeros(DType::f32, {static_cast<std::int64_t>(x.size())});
  a.real = x;
  check_kernel_against_interpreter(
      kernel_program("kernel @k map(%x: f32[n=16]) -> f32[n], bf16[n] {\n"
                     "  %h = cast %x -> bf16[n]\n  %y = cast %h -> f32[n]\n  return %y, %h\n}\n"),
      {.tolerance = {.ulps = 0}, .arguments = {a}});
}

TEST_CASE("bf16: elementwise kernels read and write it in every layout") {
  const char* const texts[] = {
      "kernel @k map(%x: bf16[a=5 b=37], %y: f32[b]) -> bf16[a b], f32[a b] {\n"
      "  %w = cast %x -> f32[a b]\n  %s = add %w, %y -> f32[a b]\n  %h = cast %s -> bf16[a b]\n"
      "  return %h, %s\n}\n",
      // Views and reads of it: a shift, a choice by index, a pick.
      "kernel @k map(%x: bf16[a=9 b=20 n=2], %i: i32[b]) -> f32[a b] {\n"
      "  %p = pick %x [n = 1] -> bf16[a b]\n  %z = shift %p [a + 1] -> bf16[a b]\n"
      "  %g = gather %p, %i [a] -> bf16[b]\n  %u = cast %z -> f32[a b]\n  %v = cast %g -> f32[b]\n"
      "  %r = mul %u, %v -> f32[a b]\n  return %r\n}\n",
      "kernel @k map(%x: bf16[]) -> f32[] {\n  %y = cast %x -> f32[]\n  return %y\n}\n",
      // A softmax that hands out what the next contraction reads.
      "kernel @k rows(%x: bf16[a=7 b=100]) -> bf16[a b], f32[a] {\n"
      "  %w = cast %x -> f32[a b]\n  %m = amax %w over b -> f32[a]\n  %d = sub %w, %m -> f32[a b]\n"
      "  %e = exp %d -> f32[a b]\n  %s = sum %e over b -> f32[a]\n  %q = div %e, %s -> f32[a b]\n"
      "  %h = cast %q -> bf16[a b]\n  return %h, %s\n}\n",
      ("kernel @k rows(%x: bf16[a=130 b=33]) -> f32[b] {\n"
       "  %w = cast %x -> f32[a b]\n  %s = sum %w over a -> f32[b]\n  return %s\n}\n"),
  };
  for (const char* text : texts)
    check_kernel_against_interpreter(kernel_program(text),
                                     {.tolerance = {.ulps = 4, .absolute = 1e-6}});
}

TEST_CASE("bf16: what stands behind a contraction is rounded once") {
  check_kernel_against_interpreter(
      kernel_program("kernel @k contract(%x: bf16[m=37 k=50], %w: f32[k n=70], %b: f32[n]) "
                     "-> bf16[m n], f32[] {\n"
                     "  %h = cast %w -> bf16[k n]\n  %p = contract %x, %h -> f32[m n]\n"
                     "  %s = add %p, %b -> f32[m n]\n  %r = cast %s -> bf16[m n]\n"
                     "  %q = mul %s, %s -> f32[m n]\n  %t = sum %q over m n -> f32[]\n"
                     "  return %r, %t\n}\n"),
      {.tolerance = {.ulps = 32, .absolute = 1e-6}});
}

TEST_CASE("bf16: arithmetic of its own is refused by name") {
  for (const char* operation : {"add %x, %x", "exp %x"}) {
    const Program p =
        kernel_program(std::string("kernel @k map(%x: bf16[n=4]) -> bf16[n] {\n  %y = ") +
                       operation + " -> bf16[n]\n  return %y\n}\n");
    const Function& f = p.functions[0];
    const BufferLayout row = row_major(f, f.type(f.body().results[0]));
    const Result<Compiled> compiled = compile(p, {FunctionId{0}, {row, row}}, portable_target());
    REQUIRE(!compiled.ok());
    CHECK(compiled.failure().exit == Exit::usage);
  }
}
