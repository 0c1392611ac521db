// The interpreter's views, reads and their adjoints, against answers worked out by hand.
#include "unit/ir/evaluate_fixture.h"

using namespace gradc;
using namespace gradc::evaluate_test;

TEST_CASE("expand broadcasts and reorders") {
  Fixture f;
  const AxisId i = f.axis("i", 2), j = f.axis("j", 3);
  const ValueId x = f.reals({i}, {1, 2});
  auto r = f.run({f.b.expand(x, {i, j}), f.b.expand(x, {j, i})});
  REQUIRE(r.ok());
  CHECK((*r)[0].real == Reals{1, 1, 1, 2, 2, 2});
  CHECK((*r)[1].real == Reals{1, 2, 1, 2, 1, 2});
}

TEST_CASE("relabel keeps the elements") {
  Fixture f;
  const AxisId i = f.axis("i", 2), j = f.axis("j", 3), k = f.axis("k", 3);
  const ValueId x = f.reals({i, j}, iota(6));
  auto r = f.run({f.b.add(Opcode::relabel_, {x}, {.from = j, .to = k}),
                  f.b.add(Opcode::relabel_, {x}, {.from = j, .to = k}, Type{DType::f32, {k, i}})});
  REQUIRE(r.ok());
  CHECK((*r)[0].real == iota(6));
  CHECK((*r)[1].real == Reals{0, 3, 1, 4, 2, 5});
}

TEST_CASE("pick at a fixed and at a run-time position; outside is 0") {
  Fixture f;
  const AxisId i = f.axis("i", 3), j = f.axis("j", 2);
  const ValueId x = f.reals({i, j}, iota(6, 1));
  std::vector<ValueId> at;
  for (std::int64_t p : {1, 2, 3, -1}) at.push_back(f.i64(p));
  const ValueId huge = f.i64(INT64_MAX);
  auto r = f.run({f.b.add(Opcode::pick_, {x}, {.integer = 1, .from = i}),
                  f.b.add(Opcode::pick_, {x}, {.integer = 1, .from = j}),
                  f.b.add(Opcode::pick_, {x, at[0]}, {.integer = 1, .from = i}),
                  f.b.add(Opcode::pick_, {x, at[1]}, {.integer = 1, .from = i}),
                  f.b.add(Opcode::pick_, {x, at[3]}, {.integer = 0, .from = i}),
                  f.b.add(Opcode::pick_, {x, huge}, {.integer = INT64_MAX, .from = i})});
  REQUIRE(r.ok());
  CHECK((*r)[0].real == Reals{3, 4});
  CHECK((*r)[1].real == Reals{2, 4, 6});
  CHECK((*r)[2].real == Reals{5, 6});
  CHECK((*r)[3].real == Reals{0, 0});
  CHECK((*r)[4].real == Reals{0, 0});
  CHECK((*r)[5].real == Reals{0, 0});
}

TEST_CASE("slice with stride and run-time offset; outside is 0") {
  Fixture f;
  const AxisId t = f.axis("t", 7), u = f.axis("u", 3), d = f.axis("d", 2), z = f.axis("z", 0);
  const ValueId x = f.reals({t}, iota(7)), y = f.reals({d, t}, iota(14));
  const ValueId m2 = f.i64(-2), p4 = f.i64(4), low = f.i64(INT64_MIN), high = f.i64(INT64_MAX);
  const auto slice = [&](ValueId v, std::int64_t k, std::int64_t m, AxisId to) {
    return f.b.add(Opcode::slice_, {v}, {.integer = k, .stride = m, .from = t, .to = to});
  };
  const auto moved = [&](ValueId p, std::int64_t m) {
    return f.b.add(Opcode::slice_, {x, p}, {.integer = 1, .stride = m, .from = t, .to = u});
  };
  auto r = f.run({slice(x, 2, 2, u), slice(y, 0, 3, u), slice(x, 0, 1, z), moved(m2, 1),
                  moved(p4, 1), moved(m2, 3), moved(low, 1), moved(high, 5),
                  f.b.add(Opcode::slice_, {x, p4}, {.from = t, .to = t})});
  REQUIRE(r.ok());
  CHECK((*r)[0].real == Reals{2, 4, 6});
  CHECK((*r)[1].real == Reals{0, 3, 6, 7, 10, 13});
  CHECK((*r)[2].real.empty());
  CHECK((*r)[3].real == Reals{0, 0, 1});      // −1, 0, 1
  CHECK((*r)[4].real == Reals{5, 6, 0});      // 5, 6, 7
  CHECK((*r)[5].real == Reals{0, 2, 5});      // −1, 2, 5
  CHECK((*r)[6].real == Reals{0, 0, 0});
  CHECK((*r)[7].real == Reals{0, 0, 0});
  CHECK((*r)[8].real == Reals{4, 5, 6, 0, 0, 0, 0});
}

TEST_CASE("split and merge, with axes in any order and reused names") {
  Fixture f;
  const AxisId n = f.axis("n", 6), i = f.axis("i", 2), j = f.axis("j", 3), d = f.axis("d", 2);
  const ValueId x = f.reals({n}, iota(6)), y = f.reals({n, d}, iota(12)),
                z = f.reals({j, i}, iota(6));
  const Attr split{.from = n, .axes = {i, j}}, merge{.to = n, .axes = {i, j}};
  auto r = f.run({f.b.add(Opcode::split_, {x}, split),
                  f.b.add(Opcode::split_, {y}, split, Type{DType::f32, {d, j, i}}),
                  f.b.add(Opcode::merge_, {z}, merge),
                  f.b.add(Opcode::merge_, {f.b.add(Opcode::split_, {y}, split)}, merge)});
  REQUIRE(r.ok());
  CHECK((*r)[0].extents == std::vector<std::int64_t>{2, 3});
  CHECK((*r)[0].real == iota(6));
  CHECK((*r)[1].real == Reals{0, 6, 2, 8, 4, 10, 1, 7, 3, 9, 5, 11});
  CHECK((*r)[2].real == Reals{0, 2, 4, 1, 3, 5});  // n = 3i + j of z[j i] = 2j + i
  CHECK((*r)[3].real == iota(12));

  Fixture g;
  const AxisId m = g.axis("m", 3), one = g.axis("one", 1);
  const ValueId v = g.reals({m, one}, {1, 2, 3});
  CHECK(g.one(g.b.add(Opcode::merge_, {v}, {.to = m, .axes = {one, m}})).real == Reals{1, 2, 3});
}

TEST_CASE("shift: 0 outside, however far") {
  Fixture f;
  const AxisId t = f.axis("t", 4), d = f.axis("d", 2);
  const ValueId x = f.reals({t, d}, iota(8, 1));
  const auto shift = [&](std::int64_t k) {
    return f.b.add(Opcode::shift_, {x}, {.integer = k, .from = t});
  };
  auto r = f.run({shift(-1), shift(2), shift(0), shift(-4), shift(INT64_MIN), shift(INT64_MAX)});
  REQUIRE(r.ok());
  CHECK((*r)[0].real == Reals{0, 0, 1, 2, 3, 4, 5, 6});
  CHECK((*r)[1].real == Reals{5, 6, 7, 8, 0, 0, 0, 0});
  CHECK((*r)[2].real == iota(8, 1));
  for (std::size_t i : {3, 4, 5}) CHECK((*r)[i].real == Reals(8, 0));
}

TEST_CASE("pad and place are the adjoints of slice and pick") {
  Fixture f;
  const AxisId t = f.axis("t", 7), u = f.axis("u", 3), d = f.axis("d", 2);
  const ValueId g = f.reals({d, u}, iota(6, 1)), h = f.reals({u}, {1, 2, 3});
  auto r = f.run({f.b.add(Opcode::pad_, {g}, {.integer = 1, .stride = 2, .from = t, .to = u}),
                  f.b.add(Opcode::place_, {h}, {.integer = 1, .to = d}),
                  f.b.add(Opcode::place_, {h}, {.integer = 1, .to = d}, Type{DType::f32, {d, u}})});
  REQUIRE(r.ok());
  CHECK((*r)[0].real == Reals{0, 1, 0, 2, 0, 3, 0, 0, 4, 0, 5, 0, 6, 0});
  CHECK((*r)[1].real == Reals{0, 1, 0, 2, 0, 3});
  CHECK((*r)[2].real == Reals{0, 0, 0, 1, 2, 3});
}

TEST_CASE("concat of stretches, of single places, and of nothing") {
  Fixture f;
  const AxisId n = f.axis("n", 4), u = f.axis("u", 3), w = f.axis("w", 0), d = f.axis("d", 2);
  const ValueId a = f.reals({d, u}, iota(6, 1)), b = f.reals({d}, {10, 20}),
                e = f.reals({w, d}, {});
  auto r = f.run({f.b.add(Opcode::concat_, {a, e, b}, {.to = n, .axes = {u, w, AxisId{}}}),
                  f.b.add(Opcode::concat_, {b, a}, {.to = n, .axes = {AxisId{}, u}},
                          Type{DType::f32, {n, d}})});
  REQUIRE(r.ok());
  CHECK((*r)[0].real == Reals{1, 2, 3, 10, 4, 5, 6, 20});
  CHECK((*r)[1].real == Reals{10, 20, 1, 4, 2, 5, 3, 6});

  Fixture g;
  const AxisId three = g.axis("three", 3), k = g.axis("k", 2);
  const ValueId x = g.ints({k}, {1, 2}), y = g.ints({k}, {3, 4}), z = g.ints({k}, {5, 6});
  CHECK(g.one(g.b.add(Opcode::concat_, {x, y, z},
                      {.to = three, .axes = {AxisId{}, AxisId{}, AxisId{}}},
                      Type{DType::i32, {three, k}}))
            .integer == Ints{1, 2, 3, 4, 5, 6});
}

TEST_CASE("gather: a table, shared axes, outside, an index along the axis itself") {
  Fixture f;
  const AxisId v = f.axis("v", 3), d = f.axis("d", 2), t = f.axis("t", 4);
  const ValueId w = f.reals({v, d}, iota(6, 1)), i = f.ints({t}, {2, 0, -1, 3});
  const ValueId x = f.reals({t, v}, iota(12)), p = f.ints({v}, {2, 1, 0}), one = f.ints({}, {1}),
                l = f.ints({t}, {0, 1, 2, 0});
  auto r = f.run({f.b.add(Opcode::gather_, {w, i}, {.from = v}),
                  f.b.add(Opcode::gather_, {x, l}, {.from = v}),
                  f.b.add(Opcode::gather_, {w, p}, {.from = v}),
                  f.b.add(Opcode::gather_, {w, one}, {.from = v}),
                  f.b.add(Opcode::gather_, {p, i}, {.from = v})});
  REQUIRE(r.ok());
  CHECK((*r)[0].real == Reals{5, 6, 1, 2, 0, 0, 0, 0});
  CHECK((*r)[1].real == Reals{0, 4, 8, 9});
  CHECK((*r)[2].real == Reals{5, 6, 3, 4, 1, 2});
  CHECK((*r)[3].real == Reals{3, 4});
  CHECK((*r)[4].integer == Ints{0, 2, 0, 0});
}

TEST_CASE("scatter adds repeated indices in their order, onto a base, and drops what is outside") {
  Fixture f;
  const AxisId v = f.axis("v", 3), d = f.axis("d", 2), t = f.axis("t", 4);
  const ValueId g = f.reals({t, d}, iota(8, 1)), i = f.ints({t}, {2, 0, 2, 5}),
                base = f.reals({v, d}, Reals(6, 100));
  const ValueId h = f.reals({t}, {1, 2, 3, 4}), l = f.ints({t}, {0, 1, 2, 0});
  auto r = f.run({f.b.add(Opcode::scatter_, {g, i}, {.to = v}, Type{DType::f32, {v, d}}),
                  f.b.add(Opcode::scatter_, {g, i, base}, {.to = v}, Type{DType::f32, {v, d}}),
                  f.b.add(Opcode::scatter_, {h, l}, {.to = v}, Type{DType::f32, {t, v}}),
                  f.b.add(Opcode::scatter_, {h, l}, {.to = v}, Type{DType::f32, {v}})});
  REQUIRE(r.ok());
  CHECK((*r)[0].real == Reals{3, 4, 0, 0, 6, 8});
  CHECK((*r)[1].real == Reals{103, 104, 100, 100, 106, 108});
  CHECK((*r)[2].real == Reals{1, 0, 0, 0, 2, 0, 0, 0, 3, 4, 0, 0});
  CHECK((*r)[3].real == Reals{5, 2, 3});

  // The order shows in rounding: ((1e16 + 1) + 1) stays, 1 + 1 + 1e16 does not. Row-major in the
  // index, whatever the order of axes in what is scattered.
  Fixture o;
  const AxisId a = o.axis("a", 2), b = o.axis("b", 2), one = o.axis("one", 1);
  const ValueId x = o.reals({b, a}, {1e16, -1e16, 1, 1}), zero = o.ints({a, b}, {0, 0, 0, 0});
  CHECK(o.one(o.b.add(Opcode::scatter_, {x, zero}, {.to = one}, Type{DType::f32, {one}})).real ==
        Reals{(1e16 + 1) - 1e16 + 1});
  CHECK((1e16 + 1) - 1e16 + 1 == 1);

  Fixture s;  // the index along the axis that it scatters into
  const ValueId y = s.reals({s.axis("v", 3)}, {1, 2, 3}), q = s.ints({s.axis("v", 3)}, {1, 2, 1});
  CHECK(s.one(s.b.add(Opcode::scatter_, {y, q}, {.to = s.axis("v", 3)},
                      Type{DType::f32, {s.axis("v", 3)}}))
            .real == Reals{0, 4, 2});
}

TEST_CASE("update writes where it is inside") {
  Fixture f;
  const AxisId t = f.axis("t", 4), u = f.axis("u", 2), d = f.axis("d", 2);
  const ValueId x = f.reals({d, t}, iota(8)), y = f.reals({u, d}, {-1, -2, -3, -4});
  std::vector<ValueId> at;
  for (std::int64_t p : {1, 3, -1, 4}) at.push_back(f.i64(p));
  const ValueId low = f.i64(INT64_MIN);
  const auto update = [&](ValueId p) {
    return f.b.add(Opcode::update_, {x, y, p}, {.from = u, .to = t});
  };
  auto r = f.run({update(at[0]), update(at[1]), update(at[2]), update(at[3]), update(low)});
  REQUIRE(r.ok());
  CHECK((*r)[0].real == Reals{0, -1, -3, 3, 4, -2, -4, 7});
  CHECK((*r)[1].real == Reals{0, 1, 2, -1, 4, 5, 6, -2});
  CHECK((*r)[2].real == Reals{-3, 1, 2, 3, -4, 5, 6, 7});
  CHECK((*r)[3].real == iota(8));
  CHECK((*r)[4].real == iota(8));
}

TEST_CASE("bound reads nothing beyond a run-time length") {
  Fixture f;
  const AxisId t = f.axis("t", 3), d = f.axis("d", 2);
  const ValueId x = f.reals({d, t}, {1, 2, NaN, 4, 5, NaN});
  std::vector<ValueId> n;
  for (std::int64_t p : {2, 0, -5}) n.push_back(f.i64(p));
  const ValueId all = f.i64(99);
  const auto bound = [&](ValueId k) { return f.b.add(Opcode::bound_, {x, k}, {.from = t}); };
  auto r = f.run({bound(n[0]), bound(n[1]), bound(n[2]), bound(all)});
  REQUIRE(r.ok());
  CHECK((*r)[0].real == Reals{1, 2, 0, 4, 5, 0});
  CHECK((*r)[1].real == Reals(6, 0));
  CHECK((*r)[2].real == Reals(6, 0));
  CHECK(same((*r)[3].real, {1, 2, NaN, 4, 5, NaN}));
}

TEST_CASE("flat lays a bundle's members end to end") {
  Fixture f;
  Program& p = f.program;
  Bundle b{p.intern("p"), {{p.intern("d"), 2}, {p.intern("e"), 3}}, {}};
  b.members.push_back(
      {.name = p.intern("w"), .type = {DType::f32, {AxisId{0}, AxisId{1}}}, .stored = "w"});
  b.members.push_back({.name = p.intern("s"), .type = {DType::f32, {}}, .stored = "s"});
  b.members.push_back({.name = p.intern("c"), .type = {DType::f32, {AxisId{0}}}, .stored = "c"});
  p.bundles.push_back(b);
  const Group g = f.b.arguments(BundleId{0}, "p");
  REQUIRE(g.count == 3);
  f.arguments = {Array{DType::f32, {2, 3}, iota(6), {}}, Array::scalar(9.0),
                 Array{DType::f32, {2}, {7, 8}, {}}};
  const AxisId n = f.axis("n", 9);
  std::vector<ValueId> members;
  for (std::uint32_t i = 0; i < g.count; ++i) members.push_back(ValueId{g.first.index + i});
  const ValueId flat =
      f.b.add(Opcode::flat_, members, {.to = n, .bundle = BundleId{0}}, Type{DType::f32, {n}});
  CHECK(f.one(flat).real == Reals{0, 1, 2, 3, 4, 5, 9, 7, 8});
}
