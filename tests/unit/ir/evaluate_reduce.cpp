// The interpreter's reductions and contractions, against answers worked out by hand.
#include "unit/ir/evaluate_fixture.h"

using namespace gradc;
using namespace gradc::evaluate_test;

TEST_CASE("sum, amax, amin over one axis, several and all") {
  Fixture f;
  const AxisId i = f.axis("i", 2), j = f.axis("j", 3), k = f.axis("k", 2);
  const ValueId x = f.reals({i, j, k}, iota(12));
  auto r = f.run({f.b.sum(x, {j}), f.b.sum(x, {k, i}), f.b.sum(x, {i, j, k}),
                  f.b.reduce(Opcode::amax_, x, {i}), f.b.reduce(Opcode::amin_, x, {j, k}),
                  f.b.add(Opcode::sum_, {x}, {.axes = {j}}, Type{DType::f32, {k, i}})});
  REQUIRE(r.ok());
  CHECK((*r)[0].real == Reals{6, 9, 24, 27});
  CHECK((*r)[1].real == Reals{14, 22, 30});
  CHECK((*r)[2].real == Reals{66});
  CHECK((*r)[3].real == Reals{6, 7, 8, 9, 10, 11});
  CHECK((*r)[4].real == Reals{0, 6});
  CHECK((*r)[5].real == Reals{6, 24, 9, 27});
}

TEST_CASE("reductions of nothing, of one, of NaN, ties and signed zeros") {
  Fixture f;
  const AxisId z = f.axis("z", 0), d = f.axis("d", 2), one = f.axis("one", 1), j = f.axis("j", 3);
  const ValueId e = f.reals({d, z}, {}), n = f.ints({z}, {}), w = f.ints({z}, {}, DType::i64),
                x = f.reals({one}, {5});
  const ValueId y = f.reals({d, j}, {1, NaN, 2, -0.0, 0.0, -0.0});
  const ValueId nothing = f.reals({z, d}, {});
  auto r =
      f.run({f.b.sum(e, {z}), f.b.reduce(Opcode::amax_, e, {z}), f.b.reduce(Opcode::amin_, e, {z}),
             f.b.sum(n, {z}), f.b.reduce(Opcode::amax_, n, {z}), f.b.reduce(Opcode::amin_, n, {z}),
             f.b.reduce(Opcode::amax_, w, {z}), f.b.reduce(Opcode::argmax_, e, {z}),
             f.b.sum(x, {one}), f.b.reduce(Opcode::argmax_, x, {one}),
             f.b.reduce(Opcode::amax_, y, {j}), f.b.reduce(Opcode::amin_, y, {j}),
             f.b.reduce(Opcode::argmax_, y, {j}), f.b.sum(nothing, {d}), f.b.sum(nothing, {z})});
  REQUIRE(r.ok());
  CHECK((*r)[0].real == Reals{0, 0});
  CHECK((*r)[1].real == Reals{-inf, -inf});
  CHECK((*r)[2].real == Reals{inf, inf});
  CHECK((*r)[3].integer == Ints{0});
  CHECK((*r)[4].integer == Ints{INT32_MIN});
  CHECK((*r)[5].integer == Ints{INT32_MAX});
  CHECK((*r)[6].integer == Ints{INT64_MIN});
  CHECK((*r)[7].integer == Ints{0, 0});
  CHECK((*r)[8].real == Reals{5});
  CHECK((*r)[9].integer == Ints{0});
  CHECK(same((*r)[10].real, {NaN, 0.0}));
  CHECK(same((*r)[11].real, {NaN, -0.0}));
  CHECK((*r)[12].integer == Ints{2, 0});
  CHECK((*r)[13].real.empty());
  CHECK((*r)[14].real == Reals{0, 0});
}

TEST_CASE("argmax takes the first among equals; integers too, and their sums wrap") {
  Fixture f;
  const AxisId i = f.axis("i", 2), j = f.axis("j", 4);
  const ValueId x = f.reals({i, j}, {1, 3, 3, 2, -inf, -inf, -inf, -inf});
  const ValueId y = f.ints({j, i}, {INT32_MAX, -4, 1, -2, 0, -2, 0, -9});
  auto r = f.run({f.b.reduce(Opcode::argmax_, x, {j}), f.b.reduce(Opcode::argmax_, x, {i}),
                  f.b.reduce(Opcode::argmax_, y, {j}), f.b.sum(y, {j}),
                  f.b.reduce(Opcode::amax_, y, {j}), f.b.reduce(Opcode::amin_, y, {j})});
  REQUIRE(r.ok());
  CHECK((*r)[0].integer == Ints{1, 0});
  CHECK((*r)[0].dtype == DType::i32);
  CHECK((*r)[1].integer == Ints{0, 0, 0, 0});
  CHECK((*r)[2].integer == Ints{0, 1});
  CHECK((*r)[3].integer == Ints{INT32_MIN, -17});
  CHECK((*r)[4].integer == Ints{INT32_MAX, -2});
  CHECK((*r)[5].integer == Ints{0, -9});
}

TEST_CASE("contract: matrices, batches, outer and inner products, any order of axes") {
  Fixture f;
  const AxisId m = f.axis("m", 2), k = f.axis("k", 3), n = f.axis("n", 2), b = f.axis("b", 2);
  const ValueId a = f.reals({m, k}, iota(6)), w = f.reals({k, n}, iota(6, 1)),
                v = f.reals({n}, {1, 10});
  const ValueId x = f.reals({b, m, k}, iota(12)), y = f.reals({k, b, n}, iota(12));
  auto r = f.run({f.b.contract(a, w, {m, n}), f.b.contract(a, w, {n, m}), f.b.contract(a, a, {}),
                  f.b.contract(a, v, {m, k, n}), f.b.contract(x, y, {b, m, n}),
                  f.b.contract(a, a, {m})});
  REQUIRE(r.ok());
  CHECK((*r)[0].real == Reals{13, 16, 40, 52});
  CHECK((*r)[1].real == Reals{13, 40, 16, 52});
  CHECK((*r)[2].real == Reals{55});
  CHECK((*r)[3].real == Reals{0, 0, 1, 10, 2, 20, 3, 30, 4, 40, 5, 50});
  // b = 0: rows (0 1 2) (3 4 5) by columns (0 4 8) (1 5 9); b = 1: rows from 6, columns (2 6 10) (3
  // 7 11)
  CHECK((*r)[4].real == Reals{20, 23, 56, 68, 134, 155, 188, 218});
  CHECK((*r)[5].real == Reals{5, 50});
}

TEST_CASE("contract over axes of one place and of none, and rows longer than it takes at a time") {
  Fixture f;
  const AxisId m = f.axis("m", 19), one = f.axis("one", 1), z = f.axis("z", 0), k = f.axis("k", 2);
  const ValueId a = f.reals({m, one}, iota(19)), b = f.reals({one}, {3}), e = f.reals({m, z}, {}),
                g = f.reals({z}, {});
  const ValueId p = f.reals({k, m}, iota(38)), q = f.reals({k}, {1, 2});
  auto r = f.run({f.b.contract(a, b, {m}), f.b.contract(e, g, {m}), f.b.contract(e, g, {m, z}),
                  f.b.contract(p, q, {m})});
  REQUIRE(r.ok());
  Reals by3, sum;
  for (int i = 0; i < 19; ++i) by3.push_back(3 * i), sum.push_back(i + 2 * (19 + i));
  CHECK((*r)[0].real == by3);
  CHECK((*r)[1].real == Reals(19, 0));
  CHECK((*r)[2].real.empty());
  CHECK((*r)[3].real == sum);
}

TEST_CASE("contract of bf16 gives f32") {
  Fixture f;
  const AxisId k = f.axis("k", 2);
  const ValueId a = f.reals({k}, {1, 0x1p-8}, DType::bf16);
  const Array r = f.one(f.b.contract(a, f.reals({k}, {1, 1}, DType::bf16), {}));
  CHECK(r.dtype == DType::f32);
  CHECK(r.real == Reals{1 + 0x1p-8});
}
