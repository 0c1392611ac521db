// Compiled kernels against the interpreter.
#include "unit/codegen/against.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "ir/text.h"
#include "ir/verify.h"

namespace gradc::testing {

Program kernel_program(const std::string& text) {
  Sources sources;
  Result<Program> parsed = parse_ir(sources, sources.add("kernel.ir", text));
  if (!parsed.ok()) FAIL(render(sources, parsed.failure().diagnostics[0]));
  for (const Fault& f : verify(*parsed)) FAIL(f.message);
  return std::move(*parsed);
}

std::string difference(const Array& got, const Array& expected, const Tolerance& tolerance) {
  if (got.extents != expected.extents) return "extents differ";
  for (std::size_t i = 0; i < expected.integer.size(); ++i)
    if (got.integer[i] != expected.integer[i])
      return fmt::format("element {} is {}, not {}", i, got.integer[i], expected.integer[i]);
  const bool single = expected.dtype == DType::f32, half = expected.dtype == DType::bf16;
  double largest = 0;
  for (double x : expected.real)
    if (std::isfinite(x)) largest = std::max(largest, std::abs(x));
  for (std::size_t i = 0; i < expected.real.size(); ++i) {
    const double g = got.real[i],
                 e = single ? static_cast<double>(static_cast<float>(expected.real[i]))
                            : expected.real[i];
    if (std::isnan(e) ? std::isnan(g) : g == e) continue;
    const int digits = half ? 7 : single ? 23 : 52, least = single || half ? -126 : -1022;
    // A result beyond the largest float may round either way within the tolerance.
    const double size = std::isfinite(e) ? e : (single || half ? 0x1p127 : 0x1p1023);
    const int exponent = size == 0 ? least : std::max(std::ilogb(size), least);
    const double allowed =
        tolerance.ulps * std::ldexp(1.0, exponent - digits) + tolerance.absolute * largest;
    if (std::abs(g - expected.real[i]) <= allowed) continue;
    return fmt::format("element {} is {} ({:a}), not {} ({:a})", i, g, g, expected.real[i],
                       expected.real[i]);
  }
  return "";
}

namespace {

// Orders of a type's axes in memory: as written, reversed, rotated.
std::vector<int> order_of(int rank, int which) {
  std::vector<int> order(static_cast<std::size_t>(rank));
  std::iota(order.begin(), order.end(), 0);
  if (which == 1) std::reverse(order.begin(), order.end());
  if (which == 2 && rank > 1) std::rotate(order.begin(), order.begin() + 1, order.end());
  return order;
}

}  // namespace

void check_kernel_against_interpreter(const Program& program, const Trial& trial) {
  const FunctionId id = program.find("k");
  REQUIRE(id.valid());
  const Function& f = program.function(id);
  const Region& body = f.body();
  std::vector<Array> arguments = trial.arguments;
  if (arguments.empty())
    for (std::size_t i = 0; i < body.arguments.size(); ++i)
      arguments.push_back(random_array(f, f.type(body.arguments[i]), trial.seed + i));
  const Result<std::vector<Array>> expected = evaluate(program, id, arguments);
  if (!expected.ok()) FAIL(expected.failure().diagnostics[0].message);
  static std::size_t turn = 0;
  const bool halves = std::any_of(f.values.begin(), f.values.end(), [](const Value& v) {
    return v.type.dtype == DType::bf16;
  });
  std::vector<Target> targets = halves ? bf16_targets() : runnable_targets();
  if (!halves && targets.size() > 2 && !trial.every_target)
    targets.erase(targets.begin() + 1 + static_cast<std::ptrdiff_t>(turn++ % 2));
  for (const Target& target : targets)
    for (int way : trial.layouts) {
      KernelInstance instance{id, {}};
      for (std::size_t b = 0; b < body.arguments.size() + body.results.size(); ++b) {
        const ValueId v =
            b < body.arguments.size() ? body.arguments[b] : body.results[b - body.arguments.size()];
        const int which = way == 2 ? 1 : way == 3 ? static_cast<int>(b) % 3 : 0;
        instance.buffers.push_back(
            layout(f, f.type(v), order_of(f.type(v).axes.size(), which), way == 0 ? 0 : 3));
      }
      for (const auto& [result, argument] : trial.aliases) {
        BufferLayout& lies =
            instance.buffers[body.arguments.size() + static_cast<std::size_t>(result)];
        lies = instance.buffers[static_cast<std::size_t>(argument)];
        lies.alias = argument;
      }
      Execution execution(program, instance, target);
      const std::vector<Array> one = execution.run(arguments, 1);
      for (std::size_t r = 0; r < one.size(); ++r) {
        const std::string why = difference(one[r], (*expected)[r], trial.tolerance);
        CHECK_MESSAGE(why.empty(), "target ", target.name, ", layout ", way, ", result ", r, ": ",
                      why);
      }
      for (int workers : {2, 3}) {
        const std::vector<Array> more = execution.run(arguments, workers);
        for (std::size_t r = 0; r < one.size(); ++r)
          CHECK_MESSAGE(same_bits(one[r], more[r]), "target ", target.name, ", layout ", way,
                        ", result ", r, ", ", workers, " workers");
      }
    }
}

}  // namespace gradc::testing
