// Parameters: initial values that depend on seed and stored name alone; loading by name, with every
// misfit listed; saving that loads again.
#include "runtime/weights.h"

#include <doctest/doctest.h>

#include <array>
#include <cmath>

#include "ir/builder.h"
#include "runtime/initial.h"
#include "runtime/safetensors.h"
#include "unit/runtime/scratch.h"

using namespace gradc;
using namespace gradc::runtime_test;

namespace {

// @p: e [3 4] normal, h: 2 × {w [2 3 4] uniform, b [4] 0.5}; @f: c [4] = positions
struct Bundles {
  Program p;
  BundleId trained, fixed;
  std::vector<double> values, constants;

  Bundles() {
    Function f;
    f.name = p.intern("init");
    Builder b(p, f);
    const AxisId d = b.axis("d", 4);
    b.finish(std::vector<ValueId>{b.cast(b.add(Opcode::position_, {}, {.to = d}), DType::f32)});
    p.functions.push_back(std::move(f));
    Bundle turn{p.intern("p.h"), {{p.intern("n"), 2}, {p.intern("h"), 3}, {p.intern("d"), 4}}, {}};
    const AxisId n{0}, h{1}, k{2};
    turn.members.push_back({.name = p.intern("w"),
                            .type = {DType::f32, {n, h, k}},
                            .stored = "h.@.w",
                            .initial = {Initial::uniform, 2}});
    turn.members.push_back({.name = p.intern("b"),
                            .type = {DType::f32, {k}},
                            .stored = "h.@.b",
                            .initial = {Initial::number, 0.5}});
    p.bundles.push_back(turn);
    Bundle all{p.intern("p"), {{p.intern("v"), 3}, {p.intern("d"), 4}}, {}};
    all.members.push_back({.name = p.intern("e"),
                           .type = {DType::f32, {AxisId{0}, AxisId{1}}},
                           .stored = "e",
                           .initial = {Initial::normal, 0.02}});
    all.members.push_back({.name = p.intern("h"), .nested = BundleId{0}, .turns = 2});
    p.bundles.push_back(all);
    Bundle constant{p.intern("f"), {{p.intern("d"), 4}}, {}};
    constant.members.push_back({.name = p.intern("c"),
                                .type = {DType::f32, {AxisId{0}}},
                                .stored = "c",
                                .initial = {Initial::computed, 0, FunctionId{0}}});
    p.bundles.push_back(constant);
    trained = BundleId{1};
    fixed = BundleId{2};
    values.assign(static_cast<std::size_t>(element_count(p, trained)), -9);
    constants.assign(4, -9);
  }
  std::vector<BundleValues<double>> both() { return {{trained, values}, {fixed, constants}}; }
  Result<Done> load(const std::string& path, const std::vector<std::string>& ignore = {}) {
    const auto into = both();
    return load_weights(p, std::span<const BundleValues<double>>(into), path, ignore);
  }
};

std::vector<std::string> notes(const Result<Done>& r) {
  std::vector<std::string> out;
  REQUIRE(!r.ok());
  CHECK(r.failure().exit == Exit::file);
  for (const Note& n : r.failure().diagnostics[0].notes) out.push_back(n.message);
  return out;
}

const std::array<float, 64> numbers = [] {
  std::array<float, 64> out{};
  for (std::size_t i = 0; i < 64; ++i) out[i] = static_cast<float>(i) + 0.5f;
  return out;
}();
StoredTensor tensor(const std::string& name, std::vector<std::int64_t> shape,
                    StoredDType d = StoredDType::f32) {
  std::int64_t n = 1;
  for (const std::int64_t e : shape) n *= e;
  return {name, d, std::move(shape), reinterpret_cast<const unsigned char*>(numbers.data()), n};
}

}  // namespace

TEST_CASE(
    "initial values: by kind, rounded to the parameter's dtype, of (seed, stored name) alone") {
  Bundles b;
  REQUIRE(initialize(b.p, {b.trained, std::span(b.values)}, 7).ok());
  REQUIRE(initialize(b.p, {b.fixed, std::span(b.constants)}, 7).ok());
  for (std::size_t i = 0; i < 12; ++i)
    CHECK(b.values[i] ==
          static_cast<double>(static_cast<float>(0.02 * initial_normal(7, fnv1a("e"), i))));
  for (std::size_t i = 0; i < 24; ++i)
    CHECK(b.values[12 + i] == 2 * initial_uniform(7, fnv1a("h.0.w"), i));
  for (std::size_t i = 0; i < 4; ++i) CHECK(b.values[36 + i] == 0.5);
  for (std::size_t i = 0; i < 24; ++i)
    CHECK(b.values[40 + i] == 2 * initial_uniform(7, fnv1a("h.1.w"), i));
  CHECK(b.constants == std::vector<double>{0, 1, 2, 3});
  CHECK(b.values[12] != b.values[40]);

  std::vector<float> floats(b.values.size());
  REQUIRE(initialize(b.p, {b.trained, std::span(floats)}, 7).ok());
  for (std::size_t i = 0; i < floats.size(); ++i)
    CHECK(static_cast<double>(floats[i]) == b.values[i]);
  REQUIRE(initialize(b.p, {b.trained, std::span(floats)}, 8).ok());
  CHECK(static_cast<double>(floats[0]) != b.values[0]);
}

TEST_CASE("draws: known values, moments, range") {
  CHECK(fnv1a("") == 0xcbf29ce484222325);
  CHECK(fnv1a("foobar") == 0x85944171f73967e8);
  // From Philox's known answer for counter 0, key 0: 6627e8d5 e169c58d bc57ac4c 9b00dbd8.
  CHECK(initial_uniform(0, 0, 0) == (0x6627e8d5 >> 8) * 0x1p-23 - 1);
  CHECK(initial_uniform(0, 0, 3) == (0x9b00dbd8 >> 8) * 0x1p-23 - 1);
  const double normal[] = {0.9911376790966604, -0.9246625882436951, -0.6176089596525953,
                           -0.4820685869111552};
  for (std::uint64_t i = 0; i < 4; ++i)
    CHECK(initial_normal(0, 0, i) == doctest::Approx(normal[i]).epsilon(1e-14));
  constexpr int n = 100000;
  double sum = 0, squares = 0, fourth = 0, low = 1, high = -1, mean = 0;
  for (std::uint64_t i = 0; i < n; ++i) {
    const double z = initial_normal(1, 2, i), u = initial_uniform(1, 3, i);
    sum += z, squares += z * z, fourth += z * z * z * z;
    low = std::min(low, u), high = std::max(high, u), mean += u;
    REQUIRE(std::isfinite(z));
  }
  CHECK(std::abs(sum / n) < 0.02);
  CHECK(std::abs(squares / n - 1) < 0.02);
  CHECK(std::abs(fourth / n - 3) < 0.15);
  CHECK((low >= -1 && low < -0.999 && high < 1 && high > 0.999));
  CHECK(std::abs(mean / n) < 0.01);
}

TEST_CASE("a stored tensor fits if its shape groups adjacent declared extents") {
  const Scratch scratch;
  const std::string path = scratch.path("w");
  const auto fits = [&](std::vector<std::int64_t> shape) {  // for w [2 3 4]
    Bundles b;
    REQUIRE(write_safetensors(path,
                              std::vector<StoredTensor>{
                                  tensor("e", {12}), tensor("h.0.w", shape), tensor("h.0.b", {4}),
                                  tensor("h.1.w", {2, 3, 4}), tensor("h.1.b", {4})},
                              {})
                .ok());
    const Result<Done> r = b.load(path);
    if (r.ok()) CHECK(b.values[13] == 1.5);
    return r.ok();
  };
  CHECK(fits({2, 3, 4}));
  CHECK(fits({6, 4}));
  CHECK(fits({2, 12}));
  CHECK(fits({24}));
  CHECK(!fits({3, 8}));
  CHECK(!fits({4, 6}));
  CHECK(!fits({4, 3, 2}));
  CHECK(!fits({1, 24}));
  CHECK(!fits({2, 3}));
  CHECK(!fits({2, 3, 4, 2}));
}

TEST_CASE("extents of 1 group on either side, and a scalar fits a scalar only") {
  const Scratch scratch;
  const auto fits = [&](std::vector<std::int64_t> declared, std::vector<std::int64_t> stored) {
    Program p;
    Bundle b{p.intern("p"), {}, {}};
    Type t{DType::f32, {}};
    for (std::size_t i = 0; i < declared.size(); ++i) {
      b.axes.push_back({p.intern("a" + std::to_string(i)), declared[i]});
      t.axes.push_back(AxisId{static_cast<std::uint32_t>(i)});
    }
    b.members.push_back({.name = p.intern("x"), .type = t, .stored = "x"});
    p.bundles.push_back(b);
    REQUIRE(write_safetensors(scratch.path("w"), std::vector<StoredTensor>{tensor("x", stored)}, {})
                .ok());
    std::vector<double> values(static_cast<std::size_t>(element_count(p, BundleId{0})));
    const std::vector<BundleValues<double>> into{{BundleId{0}, values}};
    return load_weights(p, std::span<const BundleValues<double>>(into), scratch.path("w"), {}).ok();
  };
  CHECK(fits({}, {}));
  CHECK(!fits({}, {1}));
  CHECK(fits({1}, {1}));
  CHECK(!fits({1}, {}));
  CHECK(fits({1, 5}, {5}));
  CHECK(fits({5, 1, 1}, {5}));
  CHECK(fits({5, 1, 1}, {5, 1}));
  CHECK(!fits({5}, {5, 1}));
  CHECK(fits({0, 5}, {0}));
}

TEST_CASE("missing, misshapen and unexpected tensors are all listed, and nothing is loaded") {
  const Scratch scratch;
  const std::string path = scratch.path("w");
  Bundles b;
  REQUIRE(write_safetensors(path,
                            std::vector<StoredTensor>{tensor("e", {4, 3}), tensor("h.0.b", {4}),
                                                      tensor("h.0.w", {24}, StoredDType::i32),
                                                      tensor("h.1.w", {6, 4}), tensor("head", {2})},
                            {})
              .ok());
  const Result<Done> r = b.load(path);
  CHECK(notes(r) ==
        std::vector<std::string>{"misshapen: e is [4 3], which does not group the declared [3 4]",
                                 "misshapen: h.0.w holds I32, not reals", "missing: h.1.b [4]",
                                 "unexpected: head [2]"});
  CHECK(r.failure().diagnostics[0].message == path +
                                                  ": 4 of its tensors and the model's parameters "
                                                  "do not fit (--ignore NAME leaves one out)");
  for (const double x : b.values) CHECK(x == -9);
  CHECK(notes(b.load(path, {"e", "h.*.w"})) ==
        std::vector<std::string>{"missing: h.1.b [4]", "unexpected: head [2]"});

  REQUIRE(b.load(path, {"e", "h.0.*", "*b", "he*d"}).ok());
  CHECK(b.values[0] == -9);  // ignored
  CHECK(b.values[12] == -9);
  CHECK(b.values[41] == 1.5);  // h.1.w
  CHECK(b.constants[0] == -9);  // a computed parameter that is missing keeps its value
}

TEST_CASE("a computed parameter is loaded where the file has it") {
  const Scratch scratch;
  Bundles b;
  REQUIRE(write_safetensors(scratch.path("w"), std::vector<StoredTensor>{tensor("c", {2, 2})}, {})
              .ok());
  CHECK(!b.load(scratch.path("w"), {"e", "h.*"}).ok());
  REQUIRE(
      write_safetensors(scratch.path("w"), std::vector<StoredTensor>{tensor("c", {4})}, {}).ok());
  REQUIRE(b.load(scratch.path("w"), {"e", "h.*"}).ok());
  CHECK(b.constants == std::vector<double>{0.5, 1.5, 2.5, 3.5});
}

TEST_CASE("what is saved loads again, bit for bit") {
  const Scratch scratch;
  Bundles b;
  std::vector<float> p(b.values.size()), f(4, 3.25f), p2(p.size()), f2(4);
  REQUIRE(initialize(b.p, {b.trained, std::span(p)}, 3).ok());
  const std::vector<BundleValues<float>> from{{b.trained, p}, {b.fixed, f}},
      into{{b.trained, p2}, {b.fixed, f2}};
  REQUIRE(save_weights(b.p, from, scratch.path("w"), {{"format", "gradc"}}).ok());
  REQUIRE(
      load_weights(b.p, std::span<const BundleValues<float>>(into), scratch.path("w"), {}).ok());
  CHECK(p == p2);
  CHECK(f == f2);
  Result<Safetensors> file = Safetensors::open(scratch.path("w"));
  REQUIRE(file.ok());
  CHECK(file->find("h.1.w")->shape == std::vector<std::int64_t>{2, 3, 4});
  CHECK(file->metadata() == Metadata{{"format", "gradc"}});
  CHECK(!load_weights(b.p, std::span<const BundleValues<float>>(into), scratch.path("absent"), {})
             .ok());
}
