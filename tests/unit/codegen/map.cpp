// Map kernels against the interpreter: every elementwise operation on special values, generated
// from ir/ops.def; every address operation; broadcasts, orders of axes, tails; in place; random
// draws.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <limits>

#include "ir/builder.h"
#include "ir/typing.h"
#include "unit/codegen/against.h"

using namespace gradc;
using namespace gradc::testing;

namespace {

constexpr double inf = std::numeric_limits<double>::infinity(),
                 not_a_number = std::numeric_limits<double>::quiet_NaN();

// Values of a dtype where operations have edges.
std::vector<double> special_reals(DType d) {
  std::vector<double> out{0,    -0.0, 1,     -1,     0.5, -2.5, 3,    7.25, -8,   100.5,
                          1e-3, 88.5, -87.5, -103.5, 1e6, -3e7, 1e10, inf,  -inf, not_a_number};
  if (d == DType::f32)
    out.insert(out.end(),
               {0x1p-149, -0x1p-130, 0x1p-126, 0x1.fffffep127, -0x1.fffffep127, 0x1p24 + 2});
  if (d == DType::f32)
    for (double& x : out) x = static_cast<float>(x);
  return out;
}
std::vector<std::int64_t> special_integers(DType d) {
  if (d == DType::boolean) return {0, 1};
  std::vector<std::int64_t> out{0, 1, -1, 2, -2, 3, 5, -7, 64, -100, 1000003, INT32_MAX, INT32_MIN};
  if (d == DType::i64) out.insert(out.end(), {INT64_MAX, INT64_MIN, std::int64_t{1} << 40});
  return out;
}

// `count` arrays whose elements together take all combinations of special values, and random ones
// behind.
std::vector<Array> combinations(DType d, int count, std::int64_t& n) {
  const std::vector<double> reals = special_reals(d);
  const std::vector<std::int64_t> integers = special_integers(d);
  const std::int64_t kinds = static_cast<std::int64_t>(is_real(d) ? reals.size() : integers.size());
  std::int64_t all = 1;
  for (int i = 0; i < count; ++i) all *= kinds;
  n = all + 201;
  std::vector<Array> out;
  std::uint64_t state = 12345;
  std::int64_t period = 1;
  for (int i = 0; i < count; ++i, period *= kinds) {
    Array a = Array::zeros(d, {n});
    for (std::int64_t k = 0; k < n; ++k) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      const auto at = static_cast<std::size_t>(k),
                 which = static_cast<std::size_t>(k / period % kinds);
      const double unit = static_cast<double>(state >> 11) * 0x1p-53;
      if (is_real(d))
        a.real[at] =
            k < all ? reals[which] : static_cast<float>((unit - 0.5) * (k % 2 == 0 ? 8 : 200));
      else
        a.integer[at] =
            k < all ? integers[which]
                    : static_cast<std::int64_t>(state >> 40) % (d == DType::boolean ? 2 : 50) -
                          (d == DType::boolean ? 0 : 20);
    }
    out.push_back(std::move(a));
  }
  return out;
}

constexpr DType dtypes[] = {DType::f32, DType::f64, DType::i32, DType::i64, DType::boolean};

}  // namespace

TEST_CASE("every elementwise operation of every dtype, on special values") {
  int tried = 0;
  for (DType d : dtypes)
    for (Kind kind : {Kind::unary, Kind::binary}) {
      std::int64_t n = 0;
      const std::vector<Array> arguments = combinations(d, kind == Kind::unary ? 1 : 2, n);
      // One kernel with a result for every operation that the type rules allow.
      Program p;
      Function f;
      f.name = p.intern("k");
      f.family = Family::map;
      {
        Builder b(p, f);
        const AxisId axis = b.axis("n", n);
        std::vector<ValueId> operands, results;
        for (const Array& a : arguments) operands.push_back(b.argument({a.dtype, {axis}}, "x"));
        for (int code = 0; code < opcode_count; ++code) {
          const Opcode op = static_cast<Opcode>(code);
          if (facts(op).kind != kind || op == Opcode::cast_) continue;
          if (op == Opcode::sigmoid_ && d == DType::f32) continue;  // below, less exactly
          std::string fault;
          if (!infer(p, f, op, operands, {}, fault)) continue;
          results.push_back(b.add(op, operands));
          ++tried;
        }
        if (kind == Kind::unary)
          for (DType to : dtypes) {
            results.push_back(b.add(Opcode::cast_, operands, {}, Type{to, {axis}}));
            ++tried;
          }
        b.finish(results);
      }
      p.functions.push_back(std::move(f));
      CAPTURE(static_cast<int>(d));
      CAPTURE(static_cast<int>(kind));
      check_kernel_against_interpreter(p, {.tolerance = {.ulps = d == DType::f64 ? 4.0 : 2.0},
                                           .arguments = arguments,
                                           .layouts = {0},
                                           .every_target = true});
    }
  CHECK(tried > 90);
  std::int64_t n = 0;
  const std::vector<Array> arguments = combinations(DType::f32, 1, n);
  check_kernel_against_interpreter(
      kernel_program(fmt::format("kernel @k map(%x: f32[n={}]) -> f32[n] {{\n"
                                 "  %s = sigmoid %x -> f32[n]\n  return %s\n}}\n",
                                 n)),
      {.tolerance = {.ulps = 6.1, .absolute = 0x1p-126},
       .arguments = arguments,
       .layouts = {0},
       .every_target = true});
}

TEST_CASE("a product that only a sum reads is rounded once, with the sum") {
  const Program p = kernel_program(R"(
kernel @k map(%a: f32[n=3], %b: f32[n], %c: f32[n]) -> f32[n], f32[n], f32[n], f32[n] {
  %0 = mul %a, %b -> f32[n]
  %sum = add %0, %c -> f32[n]
  %1 = mul %a, %b -> f32[n]
  %less = sub %1, %c -> f32[n]
  %2 = mul %a, %b -> f32[n]
  %from = sub %c, %2 -> f32[n]
  %twice = mul %a, %b -> f32[n]
  %3 = add %twice, %c -> f32[n]
  %read = add %3, %twice -> f32[n]
  return %sum, %less, %from, %read
}
)");
  // a · b = 1 − 2⁻⁴⁶ rounds to 1.
  const float a = 1 + 0x1p-23f, b = 1 - 0x1p-23f, c = 0.75f;
  const Function& f = p.function(p.find("k"));
  const BufferLayout flat = row_major(f, f.type(f.body().arguments[0]));
  std::vector<Array> in(3, Array::zeros(DType::f32, {3}));
  for (std::size_t i = 0; i < 3; ++i) {
    in[0].real[i] = a;
    in[1].real[i] = b;
    in[2].real[i] = i == 0 ? -1.0 : i == 1 ? 1.0 : c;
  }
  for (const Target& target : runnable_targets()) {
    const bool once = target.name != "portable";
    const std::vector<Array> out =
        Execution(p, {p.find("k"), std::vector<BufferLayout>(7, flat)}, target).run(in, 1);
    INFO(target.name);
    CHECK(out[0].real[0] == (once ? -0x1p-46 : 0));
    CHECK(out[1].real[1] == (once ? -0x1p-46 : 0));
    CHECK(out[2].real[1] == (once ? 0x1p-46 : 0));
    CHECK(out[0].real[2] == 1.75);
    CHECK(out[3].real[0] == 1);  // read twice: the product itself, rounded
  }
}

TEST_CASE("select takes one branch whatever the other holds") {
  for (DType d : dtypes) {
    const Program p = kernel_program(fmt::format(R"(
kernel @k map(%c: bool[n=100], %a: {0}[n], %b: {0}[m=3 n]) -> {0}[m n] {{
  %r = select %c, %a, %b -> {0}[m n]
  return %r
}}
)",
                                                 name(d)));
    const Function& f = p.function(p.find("k"));
    std::vector<Array> arguments;
    for (ValueId v : f.body().arguments)
      arguments.push_back(random_array(f, f.type(v), 5 + arguments.size()));
    for (std::size_t i = 0; i < arguments[1].real.size(); i += 3)
      arguments[1].real[i] = i % 2 == 0 ? not_a_number : inf;
    check_kernel_against_interpreter(p, {.arguments = arguments, .layouts = {0, 2}});
  }
}

TEST_CASE("division by constants, which takes other ways than division by values") {
  for (std::int64_t b : {1, 2, 7, 64, -3, -1, 0})
    for (const char* dtype : {"i32", "i64"}) {
      CAPTURE(b);
      const Program p = kernel_program(fmt::format(R"(
kernel @k map(%a: {0}[n=300]) -> {0}[n], {0}[n] {{
  %c = constant {1} -> {0}[]
  %q = floordiv %a, %c -> {0}[n]
  %m = mod %a, %c -> {0}[n]
  return %q, %m
}}
)",
                                                   dtype, b));
      Array a = Array::zeros(dtype[1] == '3' ? DType::i32 : DType::i64, {300});
      for (int i = 0; i < 300; ++i)
        a.integer[static_cast<std::size_t>(i)] = i < 290      ? i - 145
                                                 : i % 2 == 0 ? INT32_MIN + i - 290
                                                              : INT32_MAX - i + 290;
      check_kernel_against_interpreter(p, {.arguments = {a}, .layouts = {0}});
    }
}

TEST_CASE("broadcasts, orders of axes and tails of every length") {
  int turn = 0;
  for (int n : {1, 2, 7, 15, 16, 17, 63, 65, 100, 257}) {
    CAPTURE(n);
    const Program p = kernel_program(fmt::format(R"(
kernel @k map(%x: f32[a=3 b=5 c={0}], %y: f32[c], %z: f32[b a], %s: f32[], %i: i32[c a]) -> f32[c a b], bool[b a c] {{
  %u = mul %x, %y -> f32[a b c]
  %v = add %u, %z -> f32[a b c]
  %w = exp %z -> f32[b a]
  %o = mul %v, %w -> f32[a b c]
  %q = cast %i -> f32[c a]
  %r = sub %o, %q -> f32[c a b]
  %t = mul %r, %s -> f32[c a b]
  %l = lt %u, %s -> bool[b a c]
  return %t, %l
}}
)",
                                                 n));
    check_kernel_against_interpreter(
        p, {.tolerance = {.ulps = 4, .absolute = 1e-6}, .layouts = {turn % 4, (turn + 1) % 4}});
    ++turn;
  }
  // Extents 0 and 1, no axes at all.
  for (const char* axes : {"a=0 b=3", "a=3 b=0", "a=1 b=1", "a=1 b=40", "a=40 b=1"}) {
    CAPTURE(axes);
    const Program p = kernel_program(fmt::format(R"(
kernel @k map(%x: f32[{}], %y: f32[a]) -> f32[b a] {{
  %r = add %x, %y -> f32[b a]
  return %r
}}
)",
                                                 axes));
    check_kernel_against_interpreter(p, {});
  }
}

TEST_CASE("scalars of 64 bits, as the optimizer's corrections are") {
  const Program p = kernel_program(
      R"(
kernel @k map(%step: i64[], %lr: f32[]) -> f64[], f32[], i64[] {
  %one = constant 1 -> i64[]
  %t = add %step, %one -> i64[]
  %f = cast %t -> f64[]
  %b = constant 0.95 -> f64[]
  %p = pow %b, %f -> f64[]
  %u = constant 1.0 -> f64[]
  %c = sub %u, %p -> f64[]
  %q = sqrt %c -> f64[]
  %s = cast %q -> f32[]
  %r = mul %s, %lr -> f32[]
  return %c, %r, %t
}
)");
  check_kernel_against_interpreter(p, {.layouts = {0}});
}

TEST_CASE("a large flat map, shared among workers in pieces, in place") {
  const Program p = kernel_program(
      R"(
kernel @k map(%x: f32[a=7 b=33 c=129], %y: f32[a b c]) -> f32[a b c], f32[a b c] {
  %r = add %x, %y -> f32[a b c]
  %q = mul %x, %y -> f32[a b c]
  return %r, %q
}
)");
  check_kernel_against_interpreter(p, {});
  check_kernel_against_interpreter(p, {.layouts = {0, 1, 2}, .aliases = {{0, 1}, {1, 0}}});
}

TEST_CASE("each address operation, alone and in chains, reads where it says and 0 outside") {
  struct Read {
    const char *arguments, *body, *result;
  };
  const Read reads[] = {
      {"%x: f32[t=9 d=20]", "%r = relabel %x [t -> s] -> f32[s=9 d]", "f32[s=9 d]"},
      {"%x: f32[t=9 d=20]", "%r = pick %x [t = 4] -> f32[d]", "f32[d]"},
      {"%x: f32[t=9 d=20], %n: i64[]", "%r = pick %x, %n [t = 1] -> f32[d]", "f32[d]"},
      {"%x: f32[t=9 d=20]", "%r = slice %x [d = 3 + 2*u] -> f32[u=8 t]", "f32[u=8 t]"},
      {"%x: f32[t=9 d=20]", "%r = slice %x [d = 3 + u] -> f32[t u=17]", "f32[t u=17]"},
      {"%x: f32[t=9 d=20], %n: i64[]", "%r = slice %x, %n [d = u] -> f32[t u=17]", "f32[t u=17]"},
      {"%x: f32[t=9 d=40]", "%r = split %x [d -> i j] -> f32[j=20 t i=2]", "f32[j=20 t i=2]"},
      {"%x: f32[t=9 i=2 j=20]", "%r = merge %x [i j -> d] -> f32[t d=40]", "f32[t d=40]"},
      {"%x: f32[t=9 i=3 j=64]", "%r = merge %x [i j -> d] -> f32[t d=192]", "f32[t d=192]"},
      {"%x: f32[t=6 i=9 j=5]", "%r = merge %x [i t -> d] -> f32[j d=54]", "f32[j d=54]"},
      {"%x: f32[t=9 d=20]", "%r = shift %x [t - 2] -> f32[t d]", "f32[t d]"},
      {"%x: f32[t=9 d=20]", "%r = shift %x [d + 3] -> f32[t d]", "f32[t d]"},
      {"%x: f32[t=9 d=20]", "%r = pad %x [e = 5 + 3*d] -> f32[t e=70]", "f32[t e=70]"},
      {"%x: f32[t=9 d=20]", "%r = pad %x [e = 5 + d] -> f32[t e=31]", "f32[t e=31]"},
      {"%x: f32[t=9 d=20]", "%r = pad %x [u = 1 + 2*t] -> f32[u=19 d]", "f32[u=19 d]"},
      {"%x: f32[t=9 d=20]", "%r = place %x [n = 2] -> f32[n=3 t d]", "f32[n=3 t d]"},
      {"%x: f32[t=9 d=20], %y: f32[t d], %z: f32[d]",
       "%r = concat %x, %y, %z [n = t t _] -> f32[n=19 d]", "f32[n=19 d]"},
      {"%x: f32[t=9 d=20], %y: f32[t e=7]", "%r = concat %x, %y [n = d e] -> f32[t n=27]",
       "f32[t n=27]"},
      {"%w: f32[v=11 d=20], %i: i32[b=3 t=9]", "%r = gather %w, %i [v] -> f32[b t d]",
       "f32[b=3 t=9 d=20]"},
      {"%w: f32[b=3 v=11 d=20], %i: i64[b t=9]", "%r = gather %w, %i [v] -> f32[b t d]",
       "f32[b t=9 d]"},
      {"%w: f32[d=20 v=11], %i: i32[t=50]", "%r = gather %w, %i [v] -> f32[d t]", "f32[d t]"},
      {"%w: f32[v=11 d=20], %i: i32[t=9], %n: i64[]",
       "%a = shift %w [d + 1] -> f32[v d]\n  %g = gather %a, %i [v] -> f32[t d]\n  %r = bound %g, "
       "%n [t] -> f32[t d]",
       "f32[t d]"},
      {"%x: f32[t=9 d=20], %n: i64[]", "%r = bound %x, %n [d] -> f32[t d]", "f32[t d]"},
      {"%x: f32[t=9 i=2 j=30]",
       "%a = merge %x [i j -> d] -> f32[t d=60]\n  %b = shift %a [d - 1] -> f32[t d]\n  %r = split "
       "%b [d -> k l] -> f32[t k=3 l=20]",
       "f32[t k=3 l=20]"},
      {"%x: bool[t=9 d=20]", "%a = shift %x [d + 1] -> bool[t d]\n  %r = not %a -> bool[t d]",
       "bool[t d]"},
      // An index that is computed; its own reads may lie outside as well.
      {"%w: f32[v=11 d=20], %i: i32[t=9]",
       "%j = shift %i [t - 1] -> i32[t]\n  %c = constant 2 -> i32[]\n  %k = mul %j, %c -> i32[t]\n "
       " %g = gather %w, %k [v] -> f32[t d]\n  %r = exp %g -> f32[t d]",
       "f32[t d]"},
      {"%w: f32[v=11 u=9], %i: i32[u]", "%g = gather %w, %i [v] -> f32[u]\n  %r = neg %g -> f32[u]",
       "f32[u]"},
  };
  int turn = 0;
  for (const Read& read : reads) {
    CAPTURE(read.body);
    const std::string text = fmt::format(R"(
kernel @k map({}) -> {} {{
  {}
  return %r
}}
)",
                                         read.arguments, read.result, read.body);
    const Program p = kernel_program(text);
    check_kernel_against_interpreter(p,
                                     {.layouts = {turn % 2 == 0 ? 0 : 1, turn % 2 == 0 ? 3 : 2}});
    ++turn;
  }
}

TEST_CASE("run-time positions outside read 0 and touch nothing") {
  const Program p = kernel_program(
      R"(
kernel @k map(%x: f32[t=9 d=20], %n: i64[]) -> f32[u=5 d] {
  %a = slice %x, %n [t = u] -> f32[u=5 d]
  %b = bound %a, %n [d] -> f32[u d]
  %q = position %n [u] -> i32[u]
  %c = cast %q -> f32[u]
  %r = add %b, %c -> f32[u d]
  return %r
}
)");
  for (std::int64_t n : {-1000000, -3, 0, 2, 6, 8, 9, 1000000}) {
    CAPTURE(n);
    const Function& f = p.function(p.find("k"));
    check_kernel_against_interpreter(
        p, {.arguments = {random_array(f, f.type(f.body().arguments[0]), 3),
                          Array::scalar(n, DType::i64)},
            .layouts = {0}});
  }
}

TEST_CASE("random draws are the interpreter's, bit for bit, in any order of elements") {
  for (int d : {3, 20, 64}) {
    CAPTURE(d);
    const Program p = kernel_program(fmt::format(R"(
kernel @k map(%x: f32[t=9 d={}], %seed: i64[], %step: i64[], %site: i64[]) -> f32[t d] {{
  %u = uniform %seed, %step, %site -> f32[t d]
  %h = constant 0.25 -> f32[]
  %c = le %h, %u -> bool[t d]
  %z = constant 0.0 -> f32[]
  %y = select %c, %u, %z -> f32[t d]
  return %y
}}
)",
                                                 d));
    const Function& f = p.function(p.find("k"));
    for (std::int64_t seed : {std::int64_t{1}, std::int64_t{-1} << 33})
      check_kernel_against_interpreter(
          p, {.tolerance = {.ulps = 0},
              .arguments = {random_array(f, f.type(f.body().arguments[0]), 1),
                            Array::scalar(seed, DType::i64),
                            Array::scalar(std::int64_t{77}, DType::i64),
                            Array::scalar((std::int64_t{5} << 40) + 3, DType::i64)},
              .layouts = {0, 2}});
  }
}

TEST_CASE("flags of a bundle are those of its members, element by element") {
  const Program p = kernel_program(
      R"(
bundle @params {
  a: f32[d=5] as "a" ~ normal(0.02) no_decay
  w: f32[d e=9] as "w" ~ normal(0.02)
  b: f32[e] as "b" = 0.0 no_decay
}

kernel @k map(%x: f32[n=59]) -> f32[n], bool[n] {
  %f = flags @params.decay -> bool[n]
  %z = constant 0.0 -> f32[]
  %r = select %f, %x, %z -> f32[n]
  %g = flags @params.clip -> bool[n]
  return %r, %g
}
)");
  check_kernel_against_interpreter(p, {});
}
