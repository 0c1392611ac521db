// Protects the way of whole models from text to a plan: each model that the binary brings is
// differentiated, gets its optimizer, is grouped and planned, and its step run in memory gives what
// the interpreter gives ungrouped.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <cmath>

#include "ir/verify.h"
#include "passes/passes.h"
#include "passes/plan.h"
#include "unit/passes/group_support.h"

namespace gradc {
namespace {

using namespace plan_test;

Program step_of(const std::string& model, const Settings& set) {
  Result<Program> grad = differentiate(simplify(shipped(model, set)));
  if (!grad) FAIL(grad.failure().diagnostics[0].message);
  return simplify(add_update(simplify(*grad)));
}

// Weights and moments of a size that keeps every number finite.
std::vector<Array> arguments_of(const Program& p, std::string_view entry) {
  const Function& f = p.function(p.find(entry));
  std::vector<Array> out = draw(f, 5);
  for (std::size_t i = 0; i < out.size(); ++i)
    for (double& x : out[i].real)
      x = p.text(f.value(f.body().arguments[i]).name) == "v" ? std::fabs(x) : 0.3 * x;
  return out;
}

Program check_planned(const Program& before, const Program& grouped, std::string_view entry) {
  CAPTURE(entry);
  Program planned = plan(grouped, avx512_target(), entry);
  check_round_trip(planned);
  for (const std::string& fault : check_plan(planned, planned.find(entry))) FAIL_CHECK(fault);
  if (!unsupported(grouped, entry).empty()) return planned;
  const std::vector<Array> arguments = arguments_of(before, entry);
  CHECK(difference(interpret(before, entry, arguments), run_in_memory(planned, entry, arguments)) ==
        "");
  return planned;
}

}  // namespace

TEST_CASE("models: the planned step is the step") {
  const std::pair<const char*, Settings> models[] = {
      {"gpt", {{"layers", "2"}, {"d", "8"}, {"h", "2"}, {"v", "11"}, {"t", "4"}, {"b", "2"}}},
      {"llama",
       {{"layers", "2"},
        {"d", "16"},
        {"g", "2"},
        {"r", "2"},
        {"f", "12"},
        {"v", "11"},
        {"t", "4"},
        {"b", "2"}}},
      {"transformer",
       {{"layers", "1"}, {"d", "8"}, {"h", "2"}, {"v", "11"}, {"s", "3"}, {"t", "4"}, {"b", "2"}}},
      {"cnn", {{"layers", "2"}, {"d", "6"}, {"v", "11"}, {"t", "5"}, {"b", "2"}}},
      {"lstm", {{"layers", "1"}, {"d", "4"}, {"v", "11"}, {"t", "3"}, {"b", "2"}}},
      {"rnn", {{"layers", "1"}, {"d", "4"}, {"v", "11"}, {"t", "3"}, {"b", "2"}}}};
  for (const auto& [model, set] : models) {
    CAPTURE(model);
    const Program plain = step_of(model, set);
    const Program before = spread_norm(plain);
    check_round_trip(before);
    // The norm from sums of squares by gradient is the norm, and all that follows from it.
    const std::vector<Array> arguments = arguments_of(plain, "step");
    CHECK(difference(interpret(plain, "step", arguments), interpret(before, "step", arguments)) ==
          "");
    const Program grouped = group(before, avx512_target());
    check_round_trip(grouped);
    for (std::string_view entry : {"step", "grad", "update", "loss", "eval"})
      check_planned(before, grouped, entry);
  }
}

TEST_CASE("models: a GPT's step needs no copy, and no more memory than is alive at once") {
  const Program grouped =
      group(spread_norm(step_of("gpt", {{"layers", "12"}})), avx512_target());
  const Program planned = plan(grouped, avx512_target(), "step");
  const PlanSummary s = summarize_plan(planned, planned.find("step"));
  CHECK(copies(planned) == 0);
  CHECK(s.bytes[static_cast<std::size_t>(Arena::activations)] <= s.peak_live + s.peak_live / 50);
  CHECK(s.kernels <= 50);  // twelve layers share theirs
  CHECK(s.launches <= 12 * 33 + 20);
}

}  // namespace gradc
