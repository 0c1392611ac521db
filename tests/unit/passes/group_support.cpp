// Drawn arguments, comparison, and the machine that runs plans.
#include "unit/passes/group_support.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "frontend/frontend.h"
#include "ir/philox.h"
#include "ir/text.h"
#include "ir/verify.h"
#include "support/golden.h"
#include "support/machine.h"

namespace gradc::plan_test {

Program parsed(const std::string& text) {
  Sources sources;
  Result<Program> p = parse_ir(sources, sources.add("test", text));
  if (!p) FAIL(render(sources, p.failure().diagnostics[0]));
  for (const Fault& f : verify(*p)) FAIL(f.message);
  return std::move(*p);
}

Program shipped(const std::string& model, const Settings& set) {
  Sources sources;
  const std::string path = "frontend/models/" + model + ".grad";
  const std::uint32_t source = sources.add(path, golden::read_file(golden::source_path(path)));
  const auto file =
      parse_model(sources, source, [](const std::string&, std::string&) { return false; });
  if (!file) FAIL(render(sources, file.failure().diagnostics[0]));
  LowerOptions options;
  options.set = set;
  Result<Model> lowered = lower(sources, **file, options);
  if (!lowered) FAIL(render(sources, lowered.failure().diagnostics[0]));
  return lowered->program;
}

int copies(const Program& p) {
  int n = 0;
  for (const Function& f : p.functions)
    for (const Op& op : f.ops)
      n +=
          op.code == Opcode::launch_ && p.text(p.function(op.attr.callee).name).starts_with("copy");
  return n;
}

void check_round_trip(const Program& program) {
  const std::string text = print(program);
  for (const Fault& f : verify(program)) FAIL(f.message << "\n" << text);
  Sources sources;
  const Result<Program> again = parse_ir(sources, sources.add("again", text));
  if (!again) FAIL(render(sources, again.failure().diagnostics[0]) << "\n" << text);
  CHECK(print(*again) == text);
}

std::vector<Array> draw(const Function& f, std::uint64_t seed) {
  std::vector<Array> out;
  std::uint64_t n = 0;
  for (ValueId v : f.body().arguments) {
    const Type& t = f.type(v);
    std::vector<std::int64_t> extents;
    for (AxisId a : t.axes) extents.push_back(f.extent(a));
    Array a = Array::zeros(t.dtype, extents);
    for (double& x : a.real) x = 3 * philox_uniform(seed, 0, 0, n++) - 1.5;
    for (std::int64_t& x : a.integer)
      x = static_cast<std::int64_t>(philox_uniform(seed, 0, 0, n++) *
                                    (t.dtype == DType::boolean ? 2 : 4));
    out.push_back(std::move(a));
  }
  return out;
}

std::vector<Array> interpret(const Program& p, std::string_view function,
                             const std::vector<Array>& arguments) {
  Result<std::vector<Array>> r = evaluate(p, p.find(function), arguments);
  if (!r) FAIL(r.failure().diagnostics[0].message);
  return std::move(*r);
}

std::vector<Array> run_in_memory(const Program& p, std::string_view function,
                                 const std::vector<Array>& arguments) {
  Result<std::vector<Array>> r = run_placed(p, p.find(function), arguments);
  if (!r) FAIL(r.failure().diagnostics[0].message);
  return std::move(*r);
}

std::string difference(const std::vector<Array>& a, const std::vector<Array>& b) {
  if (a.size() != b.size()) return "another number of results";
  for (std::size_t r = 0; r < a.size(); ++r) {
    if (a[r].dtype != b[r].dtype || a[r].extents != b[r].extents)
      return fmt::format("result {}: another type", r);
    if (a[r].integer != b[r].integer) return fmt::format("result {}: other integers", r);
    double largest = 0;
    for (double x : a[r].real)
      if (std::isfinite(x)) largest = std::fmax(largest, std::fabs(x));
    for (std::size_t i = 0; i < a[r].real.size(); ++i) {
      const double x = a[r].real[i], y = b[r].real[i];
      if (x == y || (std::isnan(x) && std::isnan(y)) || std::fabs(x - y) <= 1e-12 * largest)
        continue;
      return fmt::format("result {} element {}: {} and {}", r, i, x, y);
    }
  }
  return "";
}

}  // namespace gradc::plan_test
