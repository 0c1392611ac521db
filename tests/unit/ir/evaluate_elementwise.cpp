// The interpreter's sources and elementwise operations, against answers worked out by hand.
#include "ir/philox.h"
#include "unit/ir/evaluate_fixture.h"

using namespace gradc;
using namespace gradc::evaluate_test;

namespace {

Reals unary(Opcode code, const Reals& x) {
  Fixture f;
  const AxisId i = f.axis("i", static_cast<std::int64_t>(x.size()));
  const ValueId v = f.reals({i}, x);
  return f.one(f.b.unary(code, v)).real;
}
Array binary(Opcode code, const Reals& x, const Reals& y) {
  Fixture f;
  const AxisId i = f.axis("i", static_cast<std::int64_t>(x.size()));
  const ValueId a = f.reals({i}, x), b = f.reals({i}, y);
  return f.one(f.b.binary(code, a, b));
}
Ints integers(Opcode code, const Ints& x, const Ints& y, DType d = DType::i32) {
  Fixture f;
  const AxisId i = f.axis("i", static_cast<std::int64_t>(x.size()));
  const ValueId a = f.ints({i}, x, d), b = f.ints({i}, y, d);
  return f.one(f.b.binary(code, a, b)).integer;
}
Array cast(DType from, DType to, const Reals& x, const Ints& y) {
  Fixture f;
  const AxisId i = f.axis("i", static_cast<std::int64_t>(is_real(from) ? x.size() : y.size()));
  const ValueId v = is_real(from) ? f.reals({i}, x, from) : f.ints({i}, y, from);
  return f.one(f.b.cast(v, to));
}

}  // namespace

TEST_CASE("sources: constants, positions with a run-time base") {
  Fixture f;
  CHECK(f.one(f.b.constant(0.1)).real == Reals{0.1});
  Fixture g;
  CHECK(g.one(g.b.integer(-7, DType::i64)).integer == Ints{-7});
  Fixture t;
  CHECK(t.one(t.b.integer(1, DType::boolean)).integer == Ints{1});

  Fixture p;
  const AxisId n = p.axis("t", 4);
  CHECK(p.one(p.b.add(Opcode::position_, {}, {.to = n})).integer == Ints{0, 1, 2, 3});
  Fixture q;
  const AxisId m = q.axis("t", 3);
  const ValueId base = q.i64(std::int64_t{INT32_MAX} - 1);
  CHECK(q.one(q.b.add(Opcode::position_, {base}, {.to = m})).integer ==
        Ints{INT32_MAX - 1, INT32_MAX, INT32_MIN});
}

TEST_CASE("philox gives the known answers of the Random123 distribution") {
  using W = std::array<std::uint32_t, 4>;
  CHECK(philox({0, 0, 0, 0}, 0, 0) == W{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  constexpr std::uint32_t f = 0xffffffff;
  CHECK(philox({f, f, f, f}, f, f) == W{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  CHECK(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, 0xa4093822, 0x299f31d0) ==
        W{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("uniform is indexed row-major in its type's order of axes") {
  Fixture f;
  const AxisId t = f.axis("t", 2), d = f.axis("d", 3);
  const ValueId seed = f.i64(0), step = f.i64(0), site = f.i64(0);
  const Array u =
      f.one(f.b.add(Opcode::uniform_, {seed, step, site}, {}, Type{DType::f32, {t, d}}));
  CHECK(u.extents == std::vector<std::int64_t>{2, 3});
  CHECK(u.real[0] == (0x6627e8d5 >> 8) * 0x1p-24);
  CHECK(u.real[3] == (0x9b00dbd8 >> 8) * 0x1p-24);
  CHECK(u.real[4] == (philox({1, 0, 0, 0}, 0, 0)[0] >> 8) * 0x1p-24);
  for (double x : u.real) CHECK((x >= 0 && x < 1));

  Fixture g;  // seed, step and site reach key and counter
  const AxisId i = g.axis("i", 1);
  const ValueId s = g.i64(0x100000002), k = g.i64(3), w = g.i64(5);
  CHECK(g.one(g.b.add(Opcode::uniform_, {s, k, w}, {}, Type{DType::f32, {i}})).real[0] ==
        (philox({0, 0, 5, 3}, 2, 1)[0] >> 8) * 0x1p-24);
}

TEST_CASE("flags spread a bundle's members over its elements, turns unrolled") {
  Fixture f;
  Program& p = f.program;
  Bundle turn{p.intern("p.h"), {{p.intern("d"), 2}}, {}};
  turn.members.push_back({.name = p.intern("w"),
                          .type = {DType::f32, {AxisId{0}}},
                          .stored = "h.@.w",
                          .decay = false});
  p.bundles.push_back(turn);
  Bundle all{p.intern("p"), {{p.intern("v"), 3}}, {}};
  all.members.push_back(
      {.name = p.intern("e"), .type = {DType::f32, {AxisId{0}}}, .stored = "e", .clip = false});
  all.members.push_back(
      {.name = p.intern("h"), .type = {}, .stored = "", .nested = BundleId{0}, .turns = 2});
  p.bundles.push_back(all);
  const AxisId n = f.axis("n", 7);
  const ValueId decay =
      f.b.add(Opcode::flags_, {}, {.bundle = BundleId{1}, .flag = p.intern("decay")},
              Type{DType::boolean, {n}});
  const ValueId clip =
      f.b.add(Opcode::flags_, {}, {.bundle = BundleId{1}, .flag = p.intern("clip")},
              Type{DType::boolean, {n}});
  auto r = f.run({decay, clip});
  REQUIRE(r.ok());
  CHECK((*r)[0].integer == Ints{1, 1, 1, 0, 0, 0, 0});
  CHECK((*r)[1].integer == Ints{0, 0, 0, 1, 1, 1, 1});
}

TEST_CASE("unary operations of reals") {
  CHECK(same(unary(Opcode::neg_, {1, -0.0, inf, NaN}), {-1, 0.0, -inf, NaN}));
  CHECK(same(unary(Opcode::abs_, {-1.5, -0.0, -inf, NaN}), {1.5, 0.0, inf, NaN}));
  CHECK(same(unary(Opcode::floor_, {1.5, -1.5, -0.0, 2, inf}), {1, -2, -0.0, 2, inf}));
  CHECK(same(unary(Opcode::exp_, {0, -inf, inf, 1}), {1, 0, inf, std::exp(1.0)}));
  CHECK(same(unary(Opcode::log_, {1, 0, -1, inf}), {0, -inf, NaN, inf}));
  CHECK(same(unary(Opcode::sqrt_, {4, 0, -0.0, -1}), {2, 0, -0.0, NaN}));
  CHECK(same(unary(Opcode::rsqrt_, {4, 0, inf, -1}), {0.5, inf, 0, NaN}));
  CHECK(same(unary(Opcode::sin_, {0, 1, inf}), {0, std::sin(1.0), NaN}));
  CHECK(same(unary(Opcode::cos_, {0, 1, inf}), {1, std::cos(1.0), NaN}));
  CHECK(same(unary(Opcode::tanh_, {0, inf, -inf, 0.5}), {0, 1, -1, std::tanh(0.5)}));
  CHECK(same(unary(Opcode::sigmoid_, {0, inf, -inf, 1}), {0.5, 1, 0, 1 / (1 + std::exp(-1.0))}));
  CHECK(same(unary(Opcode::erf_, {0, inf, -inf, 0.5}), {0, 1, -1, std::erf(0.5)}));
  CHECK(same(unary(Opcode::stop_, {3, -0.0, NaN}), {3, -0.0, NaN}));
  CHECK(unary(Opcode::exp_, {}).empty());
}

TEST_CASE("unary operations of integers and bools wrap at their width") {
  Fixture f;
  const AxisId i = f.axis("i", 3);
  const ValueId x = f.ints({i}, {5, -5, INT32_MIN});
  const ValueId c = f.ints({i}, {0, 1, 1}, DType::boolean);
  const ValueId w = f.ints({i}, {INT64_MIN, 1, -1}, DType::i64);
  auto r =
      f.run({f.b.unary(Opcode::neg_, x), f.b.unary(Opcode::abs_, x), f.b.unary(Opcode::not_, c),
             f.b.unary(Opcode::neg_, w), f.b.unary(Opcode::abs_, w), f.b.unary(Opcode::stop_, c)});
  REQUIRE(r.ok());
  CHECK((*r)[0].integer == Ints{-5, 5, INT32_MIN});
  CHECK((*r)[1].integer == Ints{5, 5, INT32_MIN});
  CHECK((*r)[2].integer == Ints{1, 0, 0});
  CHECK((*r)[3].integer == Ints{INT64_MIN, -1, 1});
  CHECK((*r)[4].integer == Ints{INT64_MIN, 1, 1});
  CHECK((*r)[5].integer == Ints{0, 1, 1});
}

TEST_CASE("binary operations of reals, with NaN, infinities and signed zeros") {
  CHECK(binary(Opcode::add_, {1, inf}, {2, 1}).real == Reals{3, inf});
  CHECK(same(binary(Opcode::sub_, {1, inf}, {2, inf}).real, {-1, NaN}));
  CHECK(same(binary(Opcode::mul_, {3, 0, -1}, {2, inf, 0}).real, {6, NaN, -0.0}));
  CHECK(same(binary(Opcode::div_, {1, 1, 0, -1}, {4, 0, 0, inf}).real, {0.25, inf, NaN, -0.0}));
  CHECK(same(binary(Opcode::pow_, {2, -8, 0, 5, NaN}, {10, 1.0 / 3, 0, 0, 0}).real,
             {1024, NaN, 1, 1, 1}));
  CHECK(same(binary(Opcode::max_, {1, NaN, 2, -0.0, 0.0}, {2, 1, NaN, 0.0, -0.0}).real,
             {2, NaN, NaN, 0.0, 0.0}));
  CHECK(same(binary(Opcode::min_, {1, NaN, 2, -0.0, 0.0}, {2, 1, NaN, 0.0, -0.0}).real,
             {1, NaN, NaN, -0.0, -0.0}));
  CHECK(binary(Opcode::lt_, {1, 2, 2, NaN}, {2, 2, 1, 1}).integer == Ints{1, 0, 0, 0});
  CHECK(binary(Opcode::le_, {1, 2, 2, NaN}, {2, 2, 1, NaN}).integer == Ints{1, 1, 0, 0});
  CHECK(binary(Opcode::eq_, {1, 2, 0.0, NaN}, {2, 2, -0.0, NaN}).integer == Ints{0, 1, 1, 0});
  CHECK(binary(Opcode::ne_, {1, 2, 0.0, NaN}, {2, 2, -0.0, NaN}).integer == Ints{1, 0, 0, 1});
  CHECK(binary(Opcode::eq_, {1}, {1}).dtype == DType::boolean);
}

TEST_CASE("binary operations of integers: floor division, remainder, wrapping") {
  CHECK(integers(Opcode::add_, {INT32_MAX, 1}, {1, 2}) == Ints{INT32_MIN, 3});
  CHECK(integers(Opcode::sub_, {INT32_MIN, 1}, {1, 2}) == Ints{INT32_MAX, -1});
  CHECK(integers(Opcode::mul_, {1 << 20, -3}, {1 << 12, 5}) == Ints{0, -15});
  CHECK(integers(Opcode::mul_, {INT64_MAX}, {2}, DType::i64) == Ints{-2});
  CHECK(integers(Opcode::max_, {-3, 4}, {2, 1}) == Ints{2, 4});
  CHECK(integers(Opcode::min_, {-3, 4}, {2, 1}) == Ints{-3, 1});
  CHECK(integers(Opcode::floordiv_, {7, -7, 7, -7, 6, 5, 0}, {2, 2, -2, -2, -3, 0, 5}) ==
        Ints{3, -4, -4, 3, -2, 0, 0});
  CHECK(integers(Opcode::mod_, {7, -7, 7, -7, 6, 5, 0}, {2, 2, -2, -2, -3, 0, 5}) ==
        Ints{1, 1, -1, -1, 0, 0, 0});
  CHECK(integers(Opcode::floordiv_, {INT32_MIN}, {-1}) == Ints{INT32_MIN});
  CHECK(integers(Opcode::floordiv_, {INT64_MIN}, {-1}, DType::i64) == Ints{INT64_MIN});
  CHECK(integers(Opcode::mod_, {INT64_MIN}, {-1}, DType::i64) == Ints{0});
  CHECK(integers(Opcode::lt_, {1, 2}, {2, 2}) == Ints{1, 0});
  CHECK(integers(Opcode::le_, {3, 2}, {2, 2}) == Ints{0, 1});
  CHECK(integers(Opcode::eq_, {1, 2}, {2, 2}) == Ints{0, 1});
  CHECK(integers(Opcode::ne_, {1, 2}, {2, 2}) == Ints{1, 0});
  CHECK(integers(Opcode::and_, {0, 0, 1, 1}, {0, 1, 0, 1}, DType::boolean) == Ints{0, 0, 0, 1});
  CHECK(integers(Opcode::or_, {0, 0, 1, 1}, {0, 1, 0, 1}, DType::boolean) == Ints{0, 1, 1, 1});
}

TEST_CASE("elementwise operations align axes by name, in any order of the result") {
  Fixture f;
  const AxisId i = f.axis("i", 2), j = f.axis("j", 3);
  const ValueId x = f.reals({i, j}, iota(6)), y = f.reals({j}, {10, 20, 30}),
                z = f.reals({j, i}, iota(6));
  const ValueId s = f.reals({}, {100});
  auto r = f.run({f.b.binary(Opcode::add_, x, y), f.b.binary(Opcode::add_, y, x),
                  f.b.binary(Opcode::sub_, x, z),
                  f.b.add(Opcode::add_, {x, s}, {}, Type{DType::f32, {j, i}})});
  REQUIRE(r.ok());
  CHECK((*r)[0].real == Reals{10, 21, 32, 13, 24, 35});
  CHECK((*r)[1].extents == std::vector<std::int64_t>{3, 2});
  CHECK((*r)[1].real == Reals{10, 13, 21, 24, 32, 35});
  CHECK((*r)[2].real == Reals{0, -1, -2, 2, 1, 0});
  CHECK((*r)[3].real == Reals{100, 103, 101, 104, 102, 105});
}

TEST_CASE("axes of one place and of none") {
  Fixture f;
  const AxisId i = f.axis("i", 1), j = f.axis("j", 0), k = f.axis("k", 2);
  const ValueId x = f.reals({i, k}, {1, 2}), y = f.reals({j, k}, {});
  auto r = f.run(
      {f.b.binary(Opcode::mul_, x, x), f.b.binary(Opcode::mul_, x, y), f.b.unary(Opcode::exp_, y)});
  REQUIRE(r.ok());
  CHECK((*r)[0].real == Reals{1, 4});
  CHECK((*r)[1].extents == std::vector<std::int64_t>{1, 2, 0});
  CHECK((*r)[1].real.empty());
  CHECK((*r)[2].real.empty());
}

TEST_CASE("select takes one branch and never the other's NaN") {
  Fixture f;
  const AxisId i = f.axis("i", 2), j = f.axis("j", 2);
  const ValueId c = f.ints({i}, {1, 0}, DType::boolean), x = f.reals({i, j}, {1, 2, NaN, NaN}),
                y = f.reals({}, {-1});
  const ValueId m = f.ints({j}, {3, 4}), n = f.ints({}, {7});
  auto r = f.run({f.b.add(Opcode::select_, {c, x, y}), f.b.add(Opcode::select_, {c, m, n})});
  REQUIRE(r.ok());
  CHECK((*r)[0].real == Reals{1, 2, -1, -1});
  CHECK((*r)[1].integer == Ints{3, 4, 7, 7});
}

TEST_CASE("casts: bf16 and f16 round to nearest even, f32 is held as it comes") {
  CHECK(same(
      cast(DType::f32, DType::bf16,
           {1, 1 + 0x1p-8, 1 + 3 * 0x1p-8, 1 + 0x1p-8 + 0x1p-40, -0.0, NaN, inf, 3.4e38, 3.395e38},
           {})
          .real,
      {1, 1, 1 + 0x1p-6, 1 + 0x1p-7, -0.0, NaN, inf, inf, 0x1.fep127}));
  CHECK(same(
      cast(DType::f32, DType::f16,
           {1 + 0x1p-11, 1 + 3 * 0x1p-11, 65519, 65520, -65520, 0x1p-24, 0x1p-25, 3 * 0x1p-25}, {})
          .real,
      {1, 1 + 0x1p-9, 65504, inf, -inf, 0x1p-24, 0, 0x1p-23}));
  CHECK(cast(DType::f64, DType::f32, {0.1}, {}).real == Reals{0.1});
  CHECK(round_to(0.1, DType::f32) == static_cast<double>(0.1f));
  CHECK(round_to(0x1p-149 * 1.5, DType::f32) == 0x1p-148);
  CHECK(round_to(0x1p-150, DType::f32) == 0);
  CHECK(round_to(3.5e38, DType::f32) == inf);
  CHECK(round_to(0.1, DType::f64) == 0.1);
}

TEST_CASE("casts between kinds: truncation, the nearest end beyond the range, wrapping, truth") {
  CHECK(cast(DType::f32, DType::i32, {1.9, -1.9, 3e9, -3e9, NaN, inf}, {}).integer ==
        Ints{1, -1, INT32_MAX, INT32_MIN, 0, INT32_MAX});
  CHECK(cast(DType::f32, DType::i64, {1.9, 3e9, 1e19, -1e19}, {}).integer ==
        Ints{1, 3000000000, INT64_MAX, INT64_MIN});
  CHECK(cast(DType::i64, DType::i32, {}, {3000000000, -1}).integer ==
        Ints{3000000000 - (std::int64_t{1} << 32), -1});
  CHECK(cast(DType::i32, DType::i64, {}, {-5}).integer == Ints{-5});
  CHECK(cast(DType::i32, DType::f32, {}, {-5, 16777217}).real == Reals{-5, 16777217});
  CHECK(cast(DType::i32, DType::bf16, {}, {257}).real == Reals{256});
  CHECK(cast(DType::boolean, DType::f32, {}, {0, 1}).real == Reals{0, 1});
  CHECK(cast(DType::boolean, DType::i32, {}, {0, 1}).integer == Ints{0, 1});
  CHECK(cast(DType::i32, DType::boolean, {}, {0, 7, -1}).integer == Ints{0, 1, 1});
  CHECK(cast(DType::f32, DType::boolean, {0.0, -0.0, 0.5}, {}).integer == Ints{0, 0, 1});
}
