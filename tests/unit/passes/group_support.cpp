// Drawn arguments, comparison, and the machine that runs plans.
#include "unit/passes/group_support.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "ir/philox.h"
#include "ir/text.h"
#include "ir/verify.h"

namespace gradc::plan_test {

Program parsed(const std::string& text) {
  Sources sources;
  Result<Program> p = parse_ir(sources, sources.add("test", text));
  if (!p) FAIL(render(sources, p.failure().diagnostics[0]));
  for (const Fault& f : verify(*p)) FAIL(f.message);
  return std::move(*p);
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

namespace {

constexpr double poison = std::numeric_limits<double>::signaling_NaN();

// A cell a byte; an element lives in the cell of its first byte, and writing it spoils the others.
class Memory {
 public:
  explicit Memory(const Function& f) : f_(f) {}

  void store(ValueId v, const Array& a) {
    const int size = bytes(f_.type(v).dtype);
    each(v, [&](std::size_t i, Arena arena, std::int64_t at) {
      for (int b = 1; b < size; ++b) cell(arena, at + b) = {poison, -12345};
      cell(arena, at) = is_real(a.dtype) ? Cell{a.real[i], -12345} : Cell{poison, a.integer[i]};
    });
  }
  Array load(ValueId v) {
    std::vector<std::int64_t> extents;
    for (AxisId x : f_.type(v).axes) extents.push_back(f_.extent(x));
    Array a = Array::zeros(f_.type(v).dtype, extents);
    each(v, [&](std::size_t i, Arena arena, std::int64_t at) {
      if (is_real(a.dtype))
        a.real[i] = cell(arena, at).real;
      else
        a.integer[i] = cell(arena, at).integer;
    });
    return a;
  }

 private:
  struct Cell {
    double real = poison;
    std::int64_t integer = -12345;
  };
  Cell& cell(Arena arena, std::int64_t at) {
    std::vector<Cell>& cells = arenas_[arena];
    if (static_cast<std::size_t>(at) >= cells.size())
      cells.resize(static_cast<std::size_t>(at) + 64);
    return cells[static_cast<std::size_t>(at)];
  }
  template <class F>
  void each(ValueId v, F&& visit) {
    const Type& t = f_.type(v);
    const Placement& p = f_.placed[v.index];
    const std::int64_t n = f_.elements(t);
    for (std::int64_t i = 0; i < n; ++i) {
      std::int64_t rest = i, at = 0;
      for (int a = t.axes.size(); a-- > 0;) {
        at += rest % f_.extent(t.axes[a]) * p.strides[static_cast<std::size_t>(a)];
        rest /= f_.extent(t.axes[a]);
      }
      visit(static_cast<std::size_t>(i), p.arena, p.offset + at * bytes(t.dtype));
    }
  }
  const Function& f_;
  std::map<Arena, std::vector<Cell>> arenas_;
};

}  // namespace

std::vector<Array> run_in_memory(const Program& p, std::string_view function,
                                 const std::vector<Array>& arguments) {
  const Function& f = p.function(p.find(function));
  REQUIRE(f.placed.size() == f.values.size());
  Memory memory(f);
  for (std::size_t i = 0; i < arguments.size(); ++i)
    memory.store(f.body().arguments[i], arguments[i]);
  for (OpId o : f.body().ops) {
    const Op& op = f.op(o);
    if (op.code != Opcode::launch_) continue;  // views, concat and flat move nothing
    std::vector<Array> in;
    for (ValueId v : op.operands) in.push_back(memory.load(v));
    Result<std::vector<Array>> out = evaluate(p, op.attr.callee, in);
    if (!out) FAIL(out.failure().diagnostics[0].message);
    for (std::size_t i = 0; i < op.results.size(); ++i) memory.store(op.results[i], (*out)[i]);
  }
  std::vector<Array> results;
  for (ValueId v : f.body().results) results.push_back(memory.load(v));
  return results;
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
