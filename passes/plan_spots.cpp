// Arithmetic of places: views as strides, forward and backward, and which argument a kernel may
// overwrite.
#include <algorithm>

#include "ir/diagnostic.h"
#include "passes/plan.h"

namespace gradc::planning {

bool same_place(const Function& f, const Type& type, const Spot& a, const Spot& b) {
  if (a.buffer != b.buffer || a.offset != b.offset) return false;
  for (int i = 0; i < type.axes.size(); ++i)
    if (f.extent(type.axes[i]) > 1 &&
        a.strides[static_cast<std::size_t>(i)] != b.strides[static_cast<std::size_t>(i)])
      return false;
  return true;
}

Spot dense(const Function& f, const Type& type, std::uint32_t buffer, std::int64_t offset) {
  Spot s{buffer, offset, {}};
  std::int64_t step = 1;
  for (int i = type.axes.size(); i-- > 0;) {
    s.strides[static_cast<std::size_t>(i)] = step;
    step *= f.extent(type.axes[i]);
  }
  return s;
}

bool is_static_view(const Op& op) {
  switch (op.code) {
    case Opcode::relabel_:
    case Opcode::split_:
    case Opcode::merge_: return true;
    case Opcode::pick_:
    case Opcode::slice_: return op.operands.size() == 1;
    default: return false;
  }
}

ValueId below_views(const Function& f, ValueId v) {
  for (OpId d = f.value(v).def; d.valid() && is_static_view(f.op(d)); d = f.value(v).def)
    v = f.op(d).operands[0];
  return v;
}

namespace {

std::int64_t& stride(Spot& s, const Type& t, AxisId a) {
  return s.strides[static_cast<std::size_t>(t.axes.index_of(a))];
}
std::int64_t stride(const Spot& s, const Type& t, AxisId a) {
  return s.strides[static_cast<std::size_t>(t.axes.index_of(a))];
}
// Strides of the axes that both types have.
void carry_over(const Spot& from, const Type& ft, Spot& to, const Type& tt) {
  for (AxisId a : tt.axes)
    if (ft.axes.contains(a)) stride(to, tt, a) = stride(from, ft, a);
}

}  // namespace

bool view_spot(const Function& f, const Op& op, const Spot& operand, Spot& result) {
  const Type& x = f.type(op.operands[0]);
  const Type& y = f.type(op.results[0]);
  const Attr& a = op.attr;
  const std::int64_t size = bytes(x.dtype);
  result = {operand.buffer, operand.offset, {}};
  carry_over(operand, x, result, y);
  switch (op.code) {
    case Opcode::relabel_: stride(result, y, a.to) = stride(operand, x, a.from); return true;
    case Opcode::pick_: result.offset += a.integer * stride(operand, x, a.from) * size; return true;
    case Opcode::slice_:
      result.offset += a.integer * stride(operand, x, a.from) * size;
      stride(result, y, a.to) = stride(operand, x, a.from) * a.stride;
      return true;
    case Opcode::split_: {
      const std::int64_t step = stride(operand, x, a.from);
      stride(result, y, a.axes[0]) = step * f.extent(a.axes[1]);
      stride(result, y, a.axes[1]) = step;
      return true;
    }
    case Opcode::merge_: {
      const std::int64_t outer = stride(operand, x, a.axes[0]),
                         inner = stride(operand, x, a.axes[1]);
      const std::int64_t n = f.extent(a.axes[0]), m = f.extent(a.axes[1]);
      stride(result, y, a.to) = m > 1 ? inner : outer;
      return n <= 1 || m <= 1 || outer == inner * m;
    }
    default: internal_error("not a view");
  }
}

bool invert_view(const Function& f, const Op& op, const Spot& result, Spot& operand) {
  const Type& x = f.type(op.operands[0]);
  const Type& y = f.type(op.results[0]);
  const Attr& a = op.attr;
  operand = {result.buffer, result.offset, {}};
  carry_over(result, y, operand, x);
  switch (op.code) {
    case Opcode::relabel_: stride(operand, x, a.from) = stride(result, y, a.to); return true;
    case Opcode::merge_:
      stride(operand, x, a.axes[1]) = stride(result, y, a.to);
      stride(operand, x, a.axes[0]) = stride(result, y, a.to) * f.extent(a.axes[1]);
      return true;
    case Opcode::split_: {
      const std::int64_t outer = stride(result, y, a.axes[0]), inner = stride(result, y, a.axes[1]);
      const std::int64_t n = f.extent(a.axes[0]), m = f.extent(a.axes[1]);
      stride(operand, x, a.from) = m > 1 ? inner : outer;
      return n <= 1 || m <= 1 || outer == inner * m;
    }
    case Opcode::pick_: stride(operand, x, a.from) = 1; return f.extent(a.from) == 1;
    case Opcode::slice_:
      stride(operand, x, a.from) = stride(result, y, a.to);
      return f.extent(a.from) == f.extent(a.to);
    default: return false;
  }
}

std::vector<Spot> parts_of(const Program& p, const Function& f, const Op& op, const Spot& whole) {
  const Type& y = f.type(op.results[0]);
  const std::int64_t size = bytes(y.dtype);
  std::vector<Spot> out;
  if (op.code == Opcode::flat_) {
    for (const Leaf& leaf : leaves(p, op.attr.bundle))
      out.push_back(dense(f, f.type(op.operands[out.size()]), whole.buffer,
                          whole.offset + leaf.offset * size));
    return out;
  }
  std::int64_t before = 0;
  for (std::size_t i = 0; i < op.operands.size(); ++i) {
    const Type& x = f.type(op.operands[i]);
    const AxisId along = op.attr.axes[i];
    Spot part{whole.buffer, whole.offset + before * stride(whole, y, op.attr.to) * size, {}};
    carry_over(whole, y, part, x);
    if (along.valid()) stride(part, x, along) = stride(whole, y, op.attr.to);
    before += along.valid() ? f.extent(along) : 1;
    out.push_back(part);
  }
  return out;
}

bool may_overwrite(const Function& kernel, std::size_t a, std::size_t r) {
  const ValueId from = kernel.body().arguments[a], to = kernel.body().results[r];
  const Type& x = kernel.type(from);
  const Type& y = kernel.type(to);
  if (bytes(x.dtype) != bytes(y.dtype) || !same_set(x.axes, y.axes)) return false;
  if (kernel.family == Family::none || kernel.family == Family::attention ||
      kernel.family == Family::attention_grad)
    return false;
  const std::vector<ValueId>& results = kernel.body().results;
  if (std::find(results.begin(), results.end(), from) != results.end()) return false;
  // What a rows kernel keeps of each row goes with other elements of an operand than its own.
  for (const Op& op : kernel.ops)
    if (facts(op.code).kind == Kind::reduce && !same_set(kernel.type(op.operands[0]).axes, y.axes))
      return false;
  for (const Op& op : kernel.ops)
    for (std::size_t i = 0; i < op.operands.size(); ++i) {
      if (op.operands[i] != from) continue;
      const Kind kind = facts(op.code).kind;
      if (op.code == Opcode::scatter_ || op.code == Opcode::update_) {
        if (i != (op.code == Opcode::scatter_ ? 2u : 0u)) return false;
      } else if (op.code == Opcode::cast_ && kernel.family == Family::contract) {
        return false;  // could be on its way into the contraction
      } else if (!is_elementwise(kind) && kind != Kind::reduce && op.code != Opcode::expand_ &&
                 !(op.code == Opcode::gather_ && i == 1)) {
        return false;
      }
    }
  return true;
}

}  // namespace gradc::planning
