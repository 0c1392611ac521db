// Read kernels against the interpreter: scatter with repeated, missing and foreign indices in every
// shape that a look-up's gradient has, and update at run-time positions; bits do not depend on
// workers.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include "unit/codegen/against.h"

using namespace gradc;
using namespace gradc::testing;

namespace {

struct Shape {
  const char *g, *i, *result;
};

// Random arguments, indices from −2 to 8.
std::vector<Array> with_indices(const Program& p, std::uint64_t seed) {
  const Function& f = p.function(p.find("k"));
  std::vector<Array> out;
  for (ValueId v : f.body().arguments) out.push_back(random_array(f, f.type(v), seed + out.size()));
  for (std::size_t k = 0; k < out[1].integer.size(); ++k)
    out[1].integer[k] = static_cast<std::int64_t>((k * 7 + seed) % 11) - 2;
  return out;
}

}  // namespace

TEST_CASE(
    "scatter adds in the order of the index, into nothing or onto a base, in its place or not") {
  const Shape shapes[] = {
      {"f32[b=3 t=5 d=20]", "i32[b t]", "f32[v=7 d]"},
      {"f32[t=40 d=64]", "i64[t]", "f32[v=7 d]"},
      {"f32[b=3 t=5 d=20]", "i32[t]", "f32[b v=7 d]"},
      {"f32[b=3 t=5 d=20]", "i32[b t]", "f32[b v=7 d]"},
      {"f32[t=50]", "i32[t]", "f32[v=7]"},
      {"f32[d=3 t=50]", "i32[t]", "f32[v=7 d]"},
      {"f32[t=6 v=7 d=5]", "i32[v t]", "f32[v d]"},
      {"i32[t=50 d=17]", "i32[t]", "i32[v=7 d]"},
      {"f64[t=9 d=300]", "i32[t]", "f64[v=7 d]"},
      {"f32[]", "i32[]", "f32[v=7]"},
      {"f32[t=0 d=4]", "i32[t]", "f32[v=7 d]"},
      {"f32[t=5 a=3 b=4 c=33]", "i32[t]", "f32[a v=7 b c]"},
  };
  int turn = 0;
  for (const Shape& s : shapes) {
    CAPTURE(s.g);
    const Tolerance exact{.ulps = 4, .absolute = 1e-6};
    const Program plain = kernel_program(fmt::format(R"(
kernel @k read(%g: {}, %i: {}) -> {} {{
  %r = scatter %g, %i [v] -> {}
  return %r
}}
)",
                                                     s.g, s.i, s.result, s.result));
    check_kernel_against_interpreter(
        plain, {.tolerance = exact, .arguments = with_indices(plain, 3), .layouts = {turn % 4}});
    const Program based = kernel_program(fmt::format(R"(
kernel @k read(%g: {}, %i: {}, %base: {}) -> {} {{
  %r = scatter %g, %i, %base [v] -> {}
  return %r
}}
)",
                                                     s.g, s.i, s.result, s.result, s.result));
    check_kernel_against_interpreter(
        based,
        {.tolerance = exact, .arguments = with_indices(based, 4), .layouts = {(turn + 1) % 4}});
    check_kernel_against_interpreter(based, {.tolerance = exact,
                                             .arguments = with_indices(based, 5),
                                             .layouts = {turn % 4},
                                             .aliases = {{0, 2}}});
    ++turn;
  }
}

TEST_CASE("update writes over what is inside, in place or on a copy") {
  const Shape shapes[] = {{"f32[b=3 t=9 d=20]", "f32[b u=4 d]", ""},
                          {"f32[t=9]", "f32[u=4]", ""},
                          {"i32[t=40 b=33]", "i32[b u=40]", ""},
                          {"bool[t=9 d=5]", "bool[u=1 d]", ""}};
  for (const Shape& s : shapes) {
    const Program p = kernel_program(fmt::format(R"(
kernel @k read(%x: {0}, %y: {1}, %p: i64[]) -> {0} {{
  %r = update %x, %y, %p [u -> t] -> {0}
  return %r
}}
)",
                                                 s.g, s.i));
    const Function& f = p.function(p.find("k"));
    int turn = 0;
    for (std::int64_t at : {std::int64_t{0}, std::int64_t{3}, std::int64_t{7}, std::int64_t{-2},
                            std::int64_t{100}, INT64_MIN, INT64_MAX}) {
      CAPTURE(s.g);
      CAPTURE(at);
      const std::vector<Array> arguments{random_array(f, f.type(f.body().arguments[0]), 1),
                                         random_array(f, f.type(f.body().arguments[1]), 2),
                                         Array::scalar(at, DType::i64)};
      if (turn++ % 2 == 0)
        check_kernel_against_interpreter(p, {.arguments = arguments, .layouts = {turn % 4}});
      else
        check_kernel_against_interpreter(
            p, {.arguments = arguments, .layouts = {turn % 4}, .aliases = {{0, 0}}});
    }
  }
}
