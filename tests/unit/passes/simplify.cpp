// Protects simplification: what each rule does (goldens), that every rule fires somewhere, that a second
// run finds nothing, and that the program means the same.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <cmath>
#include <set>

#include "ir/evaluate.h"
#include "ir/philox.h"
#include "ir/text.h"
#include "ir/verify.h"
#include "passes/rules.h"
#include "passes/simplify.h"
#include "support/golden.h"

namespace gradc {
namespace {

Program parsed(const std::string& text) {
  Sources sources;
  Result<Program> p = parse_ir(sources, sources.add("golden", text));
  if (!p) FAIL(render(sources, p.failure().diagnostics[0]));
  return *p;
}

// Arguments drawn in (0, 1), so that roots and logarithms are defined; bools are fair.
std::vector<Array> draw(const Function& f) {
  std::vector<Array> out;
  std::uint64_t n = 0;
  for (ValueId v : f.body().arguments) {
    const Type& t = f.type(v);
    std::vector<std::int64_t> extents;
    for (AxisId a : t.axes) extents.push_back(f.extent(a));
    Array a = Array::zeros(t.dtype, extents);
    for (double& x : a.real) x = philox_uniform(7, 0, 0, n++) + 0.01;
    for (std::int64_t& x : a.integer) x = philox_uniform(7, 0, 0, n++) < 0.5 ? 0 : 1;
    out.push_back(std::move(a));
  }
  return out;
}

void check_same_meaning(const Program& before, const Program& after) {
  const std::vector<Array> arguments = draw(before.functions[0]);
  const auto a = evaluate(before, FunctionId{0}, arguments), b = evaluate(after, FunctionId{0}, arguments);
  REQUIRE(a.ok());
  REQUIRE(b.ok());
  for (std::size_t r = 0; r < a->size(); ++r) {
    CHECK((*a)[r].integer == (*b)[r].integer);
    REQUIRE((*a)[r].real.size() == (*b)[r].real.size());
    for (std::size_t i = 0; i < (*a)[r].real.size(); ++i) {
      const double x = (*a)[r].real[i], y = (*b)[r].real[i];
      CHECK((x == y || std::fabs(x - y) <= 1e-12 * std::fmax(std::fabs(x), 1.0) || (std::isnan(x) && std::isnan(y))));
    }
  }
}

}  // namespace

TEST_CASE("simplification: goldens, idempotence, meaning, every rule") {
  std::set<std::string> seen;
  golden::run("simplify", [&](const golden::Case& c) {
    const Program before = parsed(c.text("ir"));
    RuleCounts counts, again;
    const Program after = simplify(before, &counts);
    CHECK(verify(after).empty());
    std::string out = print(after, {.locations = false});
    CHECK(print(simplify(after, &again), {.locations = false}) == out);
    for (const auto& [name, n] : again) FAIL_CHECK(fmt::format("{} fires again in {} #{}", name, c.stem, c.number));
    check_same_meaning(before, after);
    for (const auto& [name, n] : counts) {
      out += fmt::format("# {} {}\n", name, n);
      seen.insert(name);
    }
    return out;
  });
  for (const RewriteRule& r : rewrite_rules()) CHECK_MESSAGE(seen.contains(std::string(r.name)), r.name);
  for (const StructureRule& r : structure_rules()) CHECK_MESSAGE(seen.contains(std::string(r.name)), r.name);
}

}  // namespace gradc
