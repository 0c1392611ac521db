// The interpreter's calls, launches, fused regions and scans; arguments refused; the limit on
// elements.
#include <fmt/format.h>

#include <fstream>
#include <iterator>
#include <string>

#include "unit/ir/evaluate_fixture.h"

using namespace gradc;
using namespace gradc::evaluate_test;

namespace {

// @twice(%x: f32[d]) -> (2x, Σx) with axes named as the caller never does.
FunctionId add_twice(Program& p, std::int64_t extent, Family family = Family::none) {
  Function f;
  f.name = p.intern("twice");
  f.family = family;
  Builder b(p, f);
  const AxisId d = b.axis("inner", extent);
  const ValueId x = b.argument({DType::f32, {d}}, "x");
  const ValueId y = b.binary(Opcode::add_, x, x), s = b.sum(x, {d});
  b.finish(std::vector<ValueId>{y, s});
  p.functions.push_back(std::move(f));
  return FunctionId{static_cast<std::uint32_t>(p.functions.size() - 1)};
}

}  // namespace

TEST_CASE("call and launch run the callee's body, again and again, results in order") {
  for (Opcode code : {Opcode::call_, Opcode::launch_}) {
    Fixture f;
    const FunctionId twice =
        add_twice(f.program, 2, code == Opcode::launch_ ? Family::rows : Family::none);
    const AxisId d = f.axis("d", 2);
    const ValueId x = f.reals({d}, {1, 2});
    const std::vector<Type> types{{DType::f32, {d}}, {DType::f32, {}}};
    const auto first = f.b.add_multi(code, std::vector<ValueId>{x}, {.callee = twice}, types);
    const auto second =
        f.b.add_multi(code, std::vector<ValueId>{first[0]}, {.callee = twice}, types);
    auto r = f.run({second[0], first[1], second[1], x});
    REQUIRE(r.ok());
    CHECK((*r)[0].real == Reals{4, 8});
    CHECK((*r)[1].real == Reals{3});
    CHECK((*r)[2].real == Reals{6});
    CHECK((*r)[3].real == Reals{1, 2});
  }
}

TEST_CASE("fused runs its region; regions nest; a value may be yielded twice") {
  Fixture f;
  const AxisId d = f.axis("d", 2);
  const Type t{DType::f32, {d}};
  const ValueId x = f.reals({d}, {1, 2});
  const RegionId outer = f.b.open();
  const ValueId a = f.b.argument(t);
  const RegionId inner = f.b.open();
  const ValueId c = f.b.argument(t);
  const ValueId squared = f.b.binary(Opcode::mul_, c, c);
  f.b.close(std::vector<ValueId>{squared});
  const ValueId y = f.b.add_multi(Opcode::fused_, std::vector<ValueId>{a}, {}, std::vector<Type>{t},
                                  std::vector<RegionId>{inner})[0];
  const ValueId z = f.b.binary(Opcode::add_, y, a);
  f.b.close(std::vector<ValueId>{z, z, a});
  const auto r3 = f.b.add_multi(Opcode::fused_, std::vector<ValueId>{x}, {},
                                std::vector<Type>{t, t, t}, std::vector<RegionId>{outer});
  auto r = f.run({r3[0], r3[1], r3[2], x});
  REQUIRE(r.ok());
  CHECK((*r)[0].real == Reals{2, 6});
  CHECK((*r)[1].real == Reals{2, 6});
  CHECK((*r)[2].real == Reals{1, 2});
  CHECK((*r)[3].real == Reals{1, 2});
}

namespace {

// state ← w · state + x[t]; collects (state, 2·state); x is [d t], collected as [t d] and [d t].
struct Recurrence {
  Fixture f;
  std::vector<ValueId> results;
  Recurrence(std::int64_t length, const Reals& xs, bool reverse) {
    const AxisId t = f.axis("t", length), d = f.axis("d", 2);
    const Type state{DType::f32, {d}};
    const ValueId zero = f.reals({d}, {1, 1}), x = f.reals({d, t}, xs), w = f.reals({}, {10});
    const RegionId r = f.b.open();
    const ValueId h = f.b.argument(state), xt = f.b.argument(state),
                  k = f.b.argument({DType::f32, {}});
    const ValueId next = f.b.binary(Opcode::add_, f.b.binary(Opcode::mul_, k, h), xt);
    const ValueId two = f.b.binary(Opcode::add_, next, next);
    f.b.close(std::vector<ValueId>{next, next, two});
    results = f.b.add_multi(Opcode::scan_, std::vector<ValueId>{zero, x, w},
                            {.from = t, .carried = 1, .sliced = 1, .reverse = reverse},
                            std::vector<Type>{state, {DType::f32, {t, d}}, {DType::f32, {d, t}}},
                            std::vector<RegionId>{r});
  }
  std::vector<Array> run() {
    auto r = f.run({results[0], results[1], results[2]});
    REQUIRE(r.ok());
    return *r;
  }
};

}  // namespace

TEST_CASE("scan carries states, slices sequences, collects along the axis wherever it stands") {
  const auto r = Recurrence(3, {1, 2, 3, 4, 5, 6}, false).run();
  CHECK(r[0].real == Reals{1123, 1456});
  CHECK(r[1].real == Reals{11, 14, 112, 145, 1123, 1456});
  CHECK(r[2].real == Reals{22, 224, 2246, 28, 290, 2912});
}

TEST_CASE("scan in reverse runs from the last position to the first") {
  const auto r = Recurrence(3, {1, 2, 3, 4, 5, 6}, true).run();
  CHECK(r[0].real == Reals{1321, 1654});
  CHECK(r[1].real == Reals{1321, 1654, 132, 165, 13, 16});
}

TEST_CASE("scan over no position gives the first states") {
  const auto r = Recurrence(0, {}, false).run();
  CHECK(r[0].real == Reals{1, 1});
  CHECK(r[1].extents == std::vector<std::int64_t>{0, 2});
  CHECK(r[2].real.empty());
}

TEST_CASE("a scan's states keep the region's order of axes") {
  Fixture f;
  const AxisId t = f.axis("t", 2), i = f.axis("i", 2), j = f.axis("j", 3);
  const ValueId x = f.reals({i, j}, iota(6));
  const RegionId r = f.b.open();
  const ValueId h = f.b.argument({DType::f32, {i, j}});
  const ValueId flipped = f.b.expand(f.b.binary(Opcode::add_, h, h), {j, i});
  f.b.close(std::vector<ValueId>{flipped});
  const ValueId last =
      f.b.add_multi(Opcode::scan_, std::vector<ValueId>{x}, {.from = t, .carried = 1},
                    std::vector<Type>{{DType::f32, {i, j}}}, std::vector<RegionId>{r})[0];
  CHECK(f.one(last).real == Reals{0, 4, 8, 12, 16, 20});
}

TEST_CASE("arguments that do not match are refused by name, with exit 2") {
  const auto refuse = [](std::vector<Array> arguments) {
    Fixture f;
    const AxisId d = f.axis("d", 2);
    const ValueId x = f.b.argument({DType::f32, {d}}, "x");
    f.arguments = std::move(arguments);
    auto r = f.run({x});
    REQUIRE(!r.ok());
    CHECK(r.failure().exit == Exit::usage);
    return r.failure().diagnostics[0].message;
  };
  CHECK(refuse({}) == "@f takes 1 arguments, not 0");
  CHECK(refuse({Array::zeros(DType::i32, {2})}) == "argument %x of @f has dtype i32, not f32");
  CHECK(refuse({Array::zeros(DType::f32, {2, 1})}) == "argument %x of @f has 2 axes, not 1");
  CHECK(refuse({Array::zeros(DType::f32, {3})}) ==
        "argument %x of @f has extent 3, not 2, along its axis 1");
  CHECK(refuse({Array{DType::f32, {2}, {1}, {}}}) ==
        "argument %x of @f holds another number of elements than its extents say");
  Program p;
  CHECK(!evaluate(p, FunctionId{}, {}).ok());
}

TEST_CASE("values are freed after their last use, and more than the limit is refused with exit 3") {
  const auto chain = [](std::int64_t limit) {
    Fixture f;
    const AxisId d = f.axis("d", 100);
    ValueId x = f.reals({d}, Reals(100, 1));
    for (int i = 0; i < 50; ++i) x = f.b.unary(Opcode::neg_, x);
    return f.run({x}, limit);
  };
  CHECK(chain(300).ok());  // the argument and two of the chain
  auto r = chain(299);
  REQUIRE(!r.ok());
  CHECK(r.failure().exit == Exit::file);

  Fixture g;  // extents whose product does not fit
  const AxisId a = g.axis("a", std::int64_t{1} << 40), b = g.axis("b", std::int64_t{1} << 40),
               z = g.axis("z", 0);
  const ValueId one = g.b.constant(1);
  CHECK(!g.run({g.b.expand(one, {a, b})}).ok());
  Fixture h;
  const ValueId empty = h.b.expand(
      h.b.constant(1),
      {h.axis("a", std::int64_t{1} << 40), h.axis("b", std::int64_t{1} << 40), h.axis("z", 0)});
  (void)z;
  CHECK(h.one(empty).real.empty());
}

TEST_CASE("memory of a callee and of a scan is free again") {
  Fixture f;
  const FunctionId twice = add_twice(f.program, 100);
  const AxisId d = f.axis("d", 100);
  ValueId x = f.reals({d}, Reals(100, 1));
  for (int i = 0; i < 20; ++i)
    x = f.b.add_multi(Opcode::call_, std::vector<ValueId>{x}, {.callee = twice},
                      std::vector<Type>{{DType::f32, {d}}, {DType::f32, {}}})[0];
  CHECK(f.run({x}, 302).ok());
}

TEST_CASE("a hundred thousand operations and a thousand nested regions need no stack") {
  Fixture f;
  ValueId x = f.reals({}, {1});
  for (int i = 0; i < 100000; ++i) x = f.b.unary(Opcode::neg_, x);
  CHECK(f.one(x).real == Reals{1});

  Fixture g;
  const Type t{DType::f32, {}};
  const ValueId y = g.reals({}, {2});
  std::vector<RegionId> open;
  std::vector<ValueId> arguments;
  for (int i = 0; i < 1000; ++i) {
    open.push_back(g.b.open());
    arguments.push_back(g.b.argument(t));
  }
  ValueId inner = g.b.unary(Opcode::neg_, arguments.back());
  for (int i = 1000; i-- > 0;) {
    g.b.close(std::vector<ValueId>{inner});
    const ValueId operand = i > 0 ? arguments[static_cast<std::size_t>(i - 1)] : y;
    inner = g.b.add_multi(Opcode::fused_, std::vector<ValueId>{operand}, {}, std::vector<Type>{t},
                          std::vector<RegionId>{open[static_cast<std::size_t>(i)]})[0];
  }
  CHECK(g.one(inner).real == Reals{-2});
}

TEST_CASE("a tape of stops holds still what no gradient flows through") {
  Fixture f;
  const AxisId t = f.axis("t", 2);
  const ValueId x = f.reals({}, {3});
  const RegionId r = f.b.open();
  const ValueId h = f.b.argument({DType::f32, {}});
  const ValueId next = f.b.binary(Opcode::mul_, h, f.b.unary(Opcode::stop_, h));
  f.b.close(std::vector<ValueId>{next});
  const ValueId y = f.b.add_multi(Opcode::scan_, std::vector<ValueId>{x}, {.from = t, .carried = 1},
                                  std::vector<Type>{{DType::f32, {}}}, std::vector<RegionId>{r})[0];
  CHECK(f.one(y).real == Reals{81});
  StopTape stops;
  const FunctionId id{0};
  REQUIRE(evaluate(f.program, id, f.arguments, 100, &stops).ok());
  REQUIRE(stops.values.size() == 2);
  stops.replay = true;
  f.arguments[0].real[0] = 5;
  auto again = evaluate(f.program, id, f.arguments, 100, &stops);
  REQUIRE(again.ok());
  CHECK((*again)[0].real == Reals{5 * 3 * 9});
}

TEST_CASE("every operation is named in a test of the interpreter") {
  // expand, sum, contract and constant are built through the builder's shorthands.
  std::string all;
  for (const char* file : {"control", "elementwise", "move", "reduce"}) {
    std::ifstream in(std::string(GRADC_SOURCE "/tests/unit/ir/evaluate_") + file + ".cpp");
    REQUIRE(in.good());
    all += std::string(std::istreambuf_iterator<char>(in), {});
  }
  for (int i = 0; i < opcode_count; ++i) {
    const std::string_view name = facts(static_cast<Opcode>(i)).name;
    INFO(name);
    const bool shorthand = name == "expand" || name == "sum" || name == "contract" ||
                           name == "constant" || name == "cast";
    CHECK(all.find(shorthand ? fmt::format("b.{}(", name) : fmt::format("Opcode::{}_", name)) !=
          std::string::npos);
  }
}
