// Rows kernels against the interpreter: each reduction, each way of running (lanes along the reduced or a
// kept axis, long rows in blocks, streamed columns), row lengths around every vector width, in place.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include "unit/codegen/against.h"

using namespace gradc;
using namespace gradc::testing;

namespace {

constexpr int lengths[] = {1, 2, 4, 7, 15, 16, 17, 63, 65, 100, 257};

// Sums of n numbers in −1 … 1 in any order.
Tolerance sums(double n) { return {.ulps = 4, .absolute = 1e-7 * (4 + n / 16)}; }

}  // namespace

TEST_CASE("every reduction, over every length, along either axis") {
  for (int n : lengths)
    for (const char* over : {"s", "t"}) {
      CAPTURE(n);
      CAPTURE(over);
      const char* kept = over[0] == 's' ? "t" : "s";
      const Program p = kernel_program(fmt::format(
          "kernel @k rows(%x: f32[t=5 s={0}], %i: i32[t s]) -> f32[{1}], f32[{1}], f32[{1}], i32[{1}], i32[{1}], i32[{1}], i32[{1}] {{\n"
          "  %a = sum %x over {2} -> f32[{1}]\n  %b = amax %x over {2} -> f32[{1}]\n  %c = amin %x over {2} -> f32[{1}]\n"
          "  %d = argmax %x over {2} -> i32[{1}]\n  %e = sum %i over {2} -> i32[{1}]\n  %f = amax %i over {2} -> i32[{1}]\n"
          "  %g = argmax %i over {2} -> i32[{1}]\n  return %a, %b, %c, %d, %e, %f, %g\n}}\n", n, kept, over));
      check_kernel_against_interpreter(p, {.tolerance = sums(n)});
    }
}
