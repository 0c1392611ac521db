// What stands behind a contraction, and before it: against the interpreter.
#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <string>

#include "ir/builder.h"
#include "passes/group.h"
#include "unit/codegen/execute.h"

using namespace gradc;
using namespace gradc::testing;

namespace {

struct Kernel {
  Program program;
  KernelInstance instance;
  std::vector<Array> arguments;
};

// A kernel made by `body` (which gives the results) as grouping writes it, row-major buffers, random
// arguments.
template <class Body>
Kernel make(Body body) {
  Kernel out;
  Function made;
  made.name = out.program.intern("k");
  made.family = Family::contract;
  Builder b(out.program, made);
  b.finish(body(b));
  Function f = grouping::in_fewer_operations(out.program, made);
  for (ValueId a : f.body().arguments) {
    out.arguments.push_back(random_array(f, f.type(a), out.arguments.size() + 7));
    out.instance.buffers.push_back(row_major(f, f.type(a)));
  }
  for (ValueId r : f.body().results) out.instance.buffers.push_back(row_major(f, f.type(r)));
  out.program.functions.push_back(std::move(f));
  out.instance.kernel = FunctionId{0};
  return out;
}

// Compiled for every target and run by 1, 2 and 3 workers: near the interpreter, the same bits for
// all.
void check(const Kernel& k) {
  const Result<std::vector<Array>> expected = evaluate(k.program, k.instance.kernel, k.arguments);
  REQUIRE(expected.ok());
  for (const Target& target : runnable_targets()) {
    INFO(target.name);
    Execution execution(k.program, k.instance, target);
    const std::vector<Array> one = execution.run(k.arguments, 1);
    for (std::size_t r = 0; r < one.size(); ++r) {
      INFO("result ", r);
      CHECK(one[r].integer == (*expected)[r].integer);
      double worst = 0, size = 0;
      for (std::size_t i = 0; i < one[r].real.size(); ++i) {
        const double want = (*expected)[r].real[i];
        size = std::max(size, std::abs(want));
        worst = std::max(worst,
                         std::isnan(one[r].real[i]) ? INFINITY : std::abs(one[r].real[i] - want));
      }
      CHECK(worst <= 3e-6 * std::max(size, 1.0));
    }
    for (int workers : {2, 3}) {
      const std::vector<Array> more = execution.run(k.arguments, workers);
      for (std::size_t r = 0; r < one.size(); ++r) CHECK(same_bits(more[r], one[r]));
    }
  }
}

Type f32(std::initializer_list<AxisId> axes) { return {DType::f32, AxisList(axes)}; }

ValueId gelu(Builder& b, ValueId z) {
  const ValueId cube = b.binary(Opcode::mul_, b.binary(Opcode::mul_, z, z),
                                b.binary(Opcode::mul_, z, b.constant(0.044715)));
  const ValueId t = b.unary(Opcode::tanh_, b.binary(Opcode::mul_, b.binary(Opcode::add_, z, cube),
                                                    b.constant(0.79788456)));
  return b.binary(Opcode::mul_, b.binary(Opcode::mul_, z, b.constant(0.5)),
                  b.binary(Opcode::add_, t, b.constant(1)));
}

}  // namespace

TEST_CASE("bias and gelu, both values kept, in tiles that are not whole") {
  for (const auto& [m, k, n] : {std::array{33, 20, 50}, std::array{16, 64, 96}, std::array{3, 5, 7},
                                std::array{20, 1300, 40}})
    check(make([&, m = m, k = k, n = n](Builder& b) {
      const AxisId t = b.axis("t", m), d = b.axis("d", k), e = b.axis("e", n);
      const ValueId x = b.argument(f32({t, d})), w = b.argument(f32({d, e})),
                    bias = b.argument(f32({e}));
      const ValueId z = b.binary(Opcode::add_, b.contract(x, w, {t, e}), bias);
      return std::vector<ValueId>{z, gelu(b, z)};
    }));
}

TEST_CASE("totals: sums over all elements, in tiles that are not whole, in products, k in blocks") {
  for (const auto& [s, m, k, n] :
       {std::array{1, 33, 20, 50}, std::array{1, 16, 64, 96}, std::array{1, 20, 1300, 40},
        std::array{3, 9, 5, 7}, std::array{40, 3, 2, 5}, std::array{2, 70, 300, 100},
        std::array{1, 1, 1, 1}, std::array{1, 4, 0, 5}, std::array{1, 0, 3, 5}})
    check(make([&, s = s, m = m, k = k, n = n](Builder& b) {
      const AxisId a = b.axis("a", s), t = b.axis("t", m), d = b.axis("d", k), e = b.axis("e", n);
      const ValueId x = b.argument(f32({a, t, d})), w = b.argument(f32({a, d, e})),
                    r = b.argument(f32({a, t, e}));
      const ValueId y = b.contract(x, w, {a, t, e});
      const ValueId z = b.binary(Opcode::add_, y, r);
      const ValueId squares = b.sum(b.binary(Opcode::mul_, z, z), {a, t, e});
      return std::vector<ValueId>{squares, z, b.sum(b.unary(Opcode::abs_, y), {a, t, e})};
    }));
}

TEST_CASE("a residual in place, with k in one block and in several") {
  for (std::int64_t k : {40, 1500}) {
    Kernel kernel = make([&](Builder& b) {
      const AxisId t = b.axis("t", 30), d = b.axis("d", k), e = b.axis("e", 37);
      const ValueId x = b.argument(f32({t, d})), w = b.argument(f32({e, d})),
                    r = b.argument(f32({t, e}));
      return std::vector<ValueId>{b.binary(Opcode::add_, b.contract(x, w, {t, e}), r)};
    });
    kernel.instance.buffers[3].alias = 2;
    check(kernel);
  }
}

TEST_CASE("a table in the epilogue, of the result's axes and one more that an index chooses along") {
  check(make([&](Builder& b) {
    const AxisId t = b.axis("t", 20), d = b.axis("d", 9), e = b.axis("e", 33), v = b.axis("v", 4);
    const ValueId x = b.argument(f32({t, d})), w = b.argument(f32({d, e})),
                  table = b.argument(f32({v, t, e})), token = b.argument({DType::i32, {t}});
    const ValueId y = b.contract(x, w, {t, e});
    const ValueId row = b.add(Opcode::gather_, {table, token}, {.from = v});
    return std::vector<ValueId>{b.binary(Opcode::add_, y, row)};
  }));
}

TEST_CASE("results in several layouts") {
  for (int order : {0, 1, 2}) {
    Kernel kernel = make([&](Builder& b) {
      const AxisId s = b.axis("b", 3), t = b.axis("t", 18), d = b.axis("d", 24), h = b.axis("h", 3),
                   e = b.axis("e", 8);
      const ValueId x = b.argument(f32({s, t, d})), w = b.argument(f32({d, h, e})),
                    bias = b.argument(f32({h, e}));
      const ValueId y = b.binary(Opcode::add_, b.contract(x, w, {s, t, h, e}), bias);
      return std::vector<ValueId>{y, b.unary(Opcode::neg_, y),
                                  b.binary(Opcode::lt_, y, b.constant(0))};
    });
    const Function& f = kernel.program.functions[0];
    const Type& type = f.type(f.body().results[0]);
    const std::vector<int> orders[] = {{0, 2, 1, 3}, {3, 2, 1, 0}, {2, 0, 3, 1}};
    kernel.instance.buffers[3] = layout(f, type, orders[order]);
    kernel.instance.buffers[4] = layout(f, type, orders[(order + 1) % 3], 2);
    check(kernel);
  }
}

TEST_CASE("sources, masks and addressed arguments behind a contraction") {
  // A causal mask, dropout, a shifted residual, a look-up along n and one along m, a run-time pick.
  check(make([&](Builder& b) {
    const AxisId s = b.axis("b", 2), t = b.axis("t", 21), u = b.axis("s", 21), e = b.axis("e", 16),
                 v = b.axis("v", 5);
    const ValueId q = b.argument(f32({s, t, e})), k = b.argument(f32({s, u, e})),
                  r = b.argument(f32({s, t, u}));
    const ValueId table = b.argument(f32({v, u})), token = b.argument({DType::i32, {s, t}}),
                  seed = b.argument({DType::i64, {}});
    const ValueId y = b.contract(q, k, {s, t, u});
    const ValueId causal = b.binary(Opcode::le_, b.add(Opcode::position_, {}, {.to = u}),
                                    b.add(Opcode::position_, {}, {.to = t}));
    const ValueId masked = b.add(Opcode::select_, {causal, y, b.constant(-1)});
    const ValueId shifted =
        b.binary(Opcode::add_, masked, b.add(Opcode::shift_, {r}, {.integer = -2, .from = u}));
    const ValueId looked =
        b.binary(Opcode::add_, shifted, b.add(Opcode::gather_, {table, token}, {.from = v}));
    const ValueId draw = b.add(Opcode::uniform_, {seed, seed, seed}, {}, f32({s, t, u}));
    const ValueId keep = b.binary(Opcode::lt_, draw, b.constant(0.7));
    return std::vector<ValueId>{looked, b.add(Opcode::select_, {keep, looked, b.constant(0)})};
  }));
  check(make([&](Builder& b) {
    const AxisId t = b.axis("t", 40), d = b.axis("d", 12), n = b.axis("n", 48), i = b.axis("i", 3),
                 j = b.axis("j", 16), l = b.axis("l", 4);
    const ValueId x = b.argument(f32({t, d})), w = b.argument(f32({d, n})),
                  pieces = b.argument(f32({i, j, l})), at = b.argument({DType::i64, {}});
    const ValueId merged =
        b.add(Opcode::merge_, {b.add(Opcode::pick_, {pieces, at}, {.integer = 1, .from = l})},
              {.to = n, .axes = {i, j}});
    const ValueId y = b.binary(Opcode::mul_, b.contract(x, w, {t, n}), merged);
    return std::vector<ValueId>{y};
  }));
}

TEST_CASE("behind products along the batch") {
  for (std::int64_t n : {40, 64})
    check(make([&](Builder& b) {
      const AxisId t = b.axis("t", n), d = b.axis("d", 30);
      const ValueId x = b.argument(f32({t, d})), y = b.argument(f32({t, d})),
                    r = b.argument(f32({t}));
      const ValueId dot = b.contract(x, y, {t});
      return std::vector<ValueId>{b.binary(Opcode::mul_, dot, r), b.unary(Opcode::abs_, dot)};
    }));
}

TEST_CASE("operands are cast where they are read") {
  for (std::int64_t m : {2, 30})
    check(make([&](Builder& b) {
      const AxisId t = b.axis("t", m), d = b.axis("d", 35), e = b.axis("e", 20);
      const ValueId x = b.argument({DType::i32, {t, d}}), w = b.argument({DType::boolean, {e, d}});
      return std::vector<ValueId>{b.contract(b.cast(x, DType::f32), b.cast(w, DType::f32), {t, e})};
    }));
  check(make([&](Builder& b) {
    const AxisId t = b.axis("t", 30), d = b.axis("d", 35);
    const ValueId x = b.argument({DType::i32, {t, d}}), w = b.argument({DType::f64, {d, t}});
    return std::vector<ValueId>{b.contract(b.cast(x, DType::f32), b.cast(w, DType::f32), {t})};
  }));
}

TEST_CASE("one argument as both operands") {
  check(make([&](Builder& b) {
    const AxisId t = b.axis("t", 30), d = b.axis("d", 20);
    const ValueId x = b.argument(f32({t, d}));
    return std::vector<ValueId>{b.contract(x, x, {t})};
  }));
}

TEST_CASE("what no target compiles yet is refused by name") {
  Kernel kernel = make([&](Builder& b) {
    const AxisId t = b.axis("t", 4), d = b.axis("d", 5);
    const ValueId x = b.argument(f32({t, d})), half = b.cast(x, DType::f16);
    return std::vector<ValueId>{b.contract(half, half, {t})};
  });
  const Result<Compiled> compiled = compile(kernel.program, kernel.instance, portable_target());
  REQUIRE(!compiled.ok());
  CHECK(compiled.failure().exit == Exit::usage);
  CHECK(compiled.failure().diagnostics[0].message.find("f16") != std::string::npos);
  CHECK(compiled.failure().diagnostics[0].message.find("cast") != std::string::npos);
}
