// Memory by arenas, in which every element knows whether it is whole.
#include "support/machine.h"

#include <limits>
#include <map>

namespace gradc::plan_test {
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

Result<std::vector<Array>> run_placed(const Program& p, FunctionId function,
                                      std::span<const Array> arguments) {
  const Function& f = p.function(function);
  if (f.placed.size() != f.values.size()) return failure(Exit::text, "the function is not planned");
  Memory memory(f);
  for (std::size_t i = 0; i < arguments.size(); ++i)
    memory.store(f.body().arguments[i], arguments[i]);
  for (OpId o : f.body().ops) {
    const Op& op = f.op(o);
    if (op.code != Opcode::launch_) continue;  // views, concat and flat move nothing
    std::vector<Array> in;
    for (ValueId v : op.operands) in.push_back(memory.load(v));
    Result<std::vector<Array>> out = evaluate(p, op.attr.callee, in);
    if (!out) return out;
    for (std::size_t i = 0; i < op.results.size(); ++i) memory.store(op.results[i], (*out)[i]);
  }
  std::vector<Array> results;
  for (ValueId v : f.body().results) results.push_back(memory.load(v));
  return results;
}

}  // namespace gradc::plan_test
