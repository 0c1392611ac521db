// A kernel's values at a point: elementwise operations by codegen/elementwise.h, address operations
// walked from the value that is asked for back to an argument, turning positions into positions of
// the operand.
#include "codegen/values.h"

#include <algorithm>

#include "codegen/elementwise.h"
#include "codegen/math.h"

namespace gradc {

Index buffer_offset(Emitter& e, int buffer, const std::vector<Index>& index, int lanes) {
  Index out = constant_index(e, 0);
  for (AxisId a : e.buffer_type(buffer).axes) {
    const std::int64_t stride = e.stride(buffer, a);
    // An axis of one place has the position 0 whatever its stride.
    if (stride == 0 || e.kernel.extent(a) == 1) continue;
    out = sum(e, out, affine(e, index[a.index], stride, 0, lanes), lanes);
  }
  return out;
}

Index draw_index(Emitter& e, const Point& point, ValueId v) {
  Index at = constant_index(e, 0);
  for (AxisId a : e.kernel.type(v).axes)
    at = sum(e, affine(e, at, e.kernel.extent(a), 0, point.lanes), point.index[a.index],
             point.lanes);
  return at;
}

void prefetch_run(Emitter& e, int buffer, const Point& first, std::int64_t count, bool near) {
  const DType dtype = e.buffer_type(buffer).dtype;
  llvm::Value* offset = every_lane(e, buffer_offset(e, buffer, first.index, 1), 1);
  e.prefetch_run(e.at(e.buffer(buffer), offset, dtype), count * bytes(dtype),
                 buffer >= e.argument_count(), near);
}

Point make_point(const Emitter& e, int lanes) {
  return {.index = std::vector<Index>(e.kernel.axes.size()), .lanes = lanes};
}

void set_axis(Point& point, AxisId axis, llvm::Value* first, std::int64_t step,
              std::int64_t multiple) {
  point.index[axis.index] = {.first = first, .step = step, .multiple = multiple};
}

Values::Values(Emitter& e, const Point& point)
    : e_(e), point_(point), known_(e.kernel.values.size()), uniform_(e.kernel.values.size()) {
  const std::vector<ValueId>& arguments = e.kernel.body().arguments;
  argument_.assign(e.kernel.values.size(), -1);
  for (std::size_t i = 0; i < arguments.size(); ++i)
    argument_[arguments[i].index] = static_cast<int>(i);
}

Values::~Values() = default;

// What must be known at this same point before `v` can be emitted: elementwise operands. Address
// operations evaluate theirs elsewhere.
llvm::Value* Values::get(ValueId v) {
  std::vector<ValueId> stack{v};
  while (!stack.empty()) {
    const ValueId top = stack.back();
    if (known_[top.index] != nullptr) {
      stack.pop_back();
      continue;
    }
    if (uniform_[top.index] != nullptr) {
      known_[top.index] = e_.splat(uniform_[top.index], point_.lanes);
      continue;
    }
    const std::size_t before = stack.size();
    const auto need = [&](const Op& op, int but) {
      for (std::size_t i = 0; i < op.operands.size(); ++i)
        if (const ValueId x = op.operands[i];
            static_cast<int>(i) != but && known_[x.index] == nullptr)
          stack.push_back(x);
    };
    if (const OpId def = e_.kernel.value(top).def; def.valid()) {
      const Op& op = e_.kernel.op(def);
      if (is_elementwise(op.code) || op.code == Opcode::expand_) {
        const int joined = joined_operand(op);
        need(op, joined);
        if (joined >= 0)
          need(*e_.kernel.definition(op.operands[static_cast<std::size_t>(joined)]), -1);
      }
    }
    if (stack.size() == before) known_[top.index] = emit(top);
  }
  return known_[v.index];
}

int Values::joined_operand(const Op& op) const {
  const bool sums = op.code == Opcode::add_ || op.code == Opcode::sub_;
  if (!sums && op.code != Opcode::mul_) return -1;
  const Type& type = e_.kernel.type(op.results[0]);
  if (type.dtype != DType::f32 && (type.dtype != DType::f64 || !sums)) return -1;
  for (int i : {0, 1}) {
    const ValueId x = op.operands[static_cast<std::size_t>(i)];
    const Op* const inner = e_.kernel.definition(x);
    if (inner == nullptr || e_.readers(x) != 1 || known_[x.index] != nullptr ||
        uniform_[x.index] != nullptr)
      continue;
    // One of fewer axes is computed less often by itself.
    if (e_.kernel.type(x).axes.size() != type.axes.size()) continue;
    if (inner->code == (sums ? Opcode::mul_ : Opcode::sigmoid_)) return i;
  }
  return -1;
}

llvm::Value* Values::joined(const Op& op, int operand) {
  const Op& inner = *e_.kernel.definition(op.operands[static_cast<std::size_t>(operand)]);
  llvm::Value *other = known_[op.operands[static_cast<std::size_t>(1 - operand)].index],
              *a = known_[inner.operands[0].index];
  if (op.code == Opcode::mul_) return emit_sigmoid(e_, a, other);
  if (op.code == Opcode::sub_ && operand == 0) other = e_.ir.CreateFNeg(other);
  if (op.code == Opcode::sub_ && operand == 1) a = e_.ir.CreateFNeg(a);
  return e_.fma(a, known_[inner.operands[1].index], other);
}

// Whether v is x − amax(x), as in a softmax.
bool Values::is_below_its_maximum(ValueId v) const {
  const Op* const difference = e_.kernel.definition(v);
  if (difference == nullptr || difference->code != Opcode::sub_) return false;
  const Op* const most = e_.kernel.definition(difference->operands[1]);
  return most != nullptr && most->code == Opcode::amax_ &&
         most->operands[0] == difference->operands[0];
}

llvm::Value* Values::scalar(ValueId v) {
  if (uniform_[v.index] != nullptr) return uniform_[v.index];
  if (point_.lanes == 1) return get(v);
  if (scalars_ == nullptr) scalars_ = std::make_unique<Values>(e_, make_point(e_, 1));
  return scalars_->get(v);
}

llvm::Value* Values::emit(ValueId v) {
  const OpId def = e_.kernel.value(v).def;
  const int lanes = point_.lanes;
  if (!def.valid()) return read(v, {.index = point_.index});
  const Op& op = e_.kernel.op(def);
  const DType dtype = e_.kernel.type(v).dtype;
  if (is_elementwise(op.code)) {
    if (op.code == Opcode::exp_ && dtype == DType::f32 && is_below_its_maximum(op.operands[0]))
      return emit_exp_below(e_, known_[op.operands[0].index]);
    if (const int operand = joined_operand(op); operand >= 0) return joined(op, operand);
    std::vector<llvm::Value*> operands;
    for (ValueId x : op.operands) operands.push_back(known_[x.index]);
    return emit_elementwise(e_, op.code, operands, e_.kernel.type(op.operands.back()).dtype, dtype,
                            lanes);
  }
  switch (op.code) {
    case Opcode::constant_:
      return is_real(dtype) ? e_.constant(dtype, op.attr.real, lanes)
                            : e_.integer(dtype, op.attr.integer, lanes);
    case Opcode::position_: {
      Index at = point_.index[op.attr.to.index];
      if (!op.operands.empty()) at = sum(e_, at, {.first = scalar(op.operands[0])}, lanes);
      return e_.ir.CreateTrunc(every_lane(e_, at, lanes), e_.type(DType::i32, lanes));
    }
    case Opcode::uniform_: {
      const Index at = draw_index(e_, point_, v);
      if (linear(at) && at.step == 1 && lanes % 4 == 0 && at.multiple % 4 == 0)
        return emit_uniform_run(e_, scalar(op.operands[0]), scalar(op.operands[1]),
                                scalar(op.operands[2]), at.first, dtype, lanes);
      return emit_uniform(e_, scalar(op.operands[0]), scalar(op.operands[1]),
                          scalar(op.operands[2]), every_lane(e_, at, lanes), dtype, lanes);
    }
    case Opcode::flags_:
      return emit_flags(e_, op.attr, point_.index[e_.kernel.type(v).axes[0].index], lanes);
    case Opcode::expand_:
      return known_[op.operands[0].index];
    default:
      return read(v, {.index = point_.index});
  }
}

// Walks address operations back to an argument. Only `concat`, which has several operands,
// recurses.
llvm::Value* Values::read(ValueId v, Place place) {
  const int lanes = point_.lanes;
  std::vector<Index>& index = place.index;
  for (;;) {
    const OpId def = e_.kernel.value(v).def;
    if (!def.valid()) return read_argument(v, place);
    const Op& op = e_.kernel.op(def);
    const Attr& a = op.attr;
    const auto at = [&](AxisId x) -> Index& { return index[x.index]; };
    const auto extent = [&](AxisId x) { return e_.kernel.extent(x); };
    const auto only = [&](llvm::Value* condition) { place.on = both(e_, place.on, condition); };
    // Position of a view with a run-time base, which may lie outside; a read outside is 0.
    const auto based = [&](Index x) {
      if (op.operands.size() < 2) return x;
      x = sum(e_, x, {.first = scalar(op.operands[1])}, lanes);
      only(within(e_, x, 0, extent(a.from), lanes));
      return x;
    };
    switch (op.code) {
      case Opcode::relabel_: {
        const Index x = at(a.to);
        at(a.from) = x;
        break;
      }
      case Opcode::pick_:
        at(a.from) = based(constant_index(e_, a.integer));
        break;
      case Opcode::slice_: {
        const Index x = affine(e_, at(a.to), a.stride, a.integer, lanes);
        at(a.from) = based(x);
        break;
      }
      case Opcode::split_: {
        const Index x =
            sum(e_, affine(e_, at(a.axes[0]), extent(a.axes[1]), 0, lanes), at(a.axes[1]), lanes);
        at(a.from) = x;
        break;
      }
      case Opcode::merge_: {
        const auto [i, j] = divide(e_, at(a.to), extent(a.axes[1]), extent(a.to), lanes);
        at(a.axes[0]) = i;
        at(a.axes[1]) = j;
        break;
      }
      case Opcode::shift_:
        at(a.from) = affine(e_, at(a.from), 1, a.integer, lanes);
        if (a.integer != 0) only(within(e_, at(a.from), 0, extent(a.from), lanes));
        break;
      case Opcode::pad_: {
        const Index x = affine(e_, at(a.from), 1, -a.integer, lanes);
        only(within(e_, x, 0, (extent(a.to) - 1) * a.stride + 1, lanes));
        if (a.stride == 1) {
          at(a.to) = x;
          break;
        }
        const auto [i, rest] = divide(e_, x, a.stride, extent(a.from), lanes);
        only(within(e_, rest, 0, 1, lanes));
        at(a.to) = i;
        break;
      }
      case Opcode::place_:
        only(within(e_, at(a.to), a.integer, a.integer + 1, lanes));
        break;
      case Opcode::bound_:
        only(within(e_, at(a.from), e_.i64(0), scalar(op.operands[1]), lanes));
        break;
      case Opcode::gather_: {
        const Index x = integer_at(op.operands[1], place);
        only(within(e_, x, 0, extent(a.from), lanes));
        at(a.from) = x;
        break;
      }
      case Opcode::concat_:
        return read_concat(op, place);
      default:
        internal_error("an operation that is no address operation reads an argument in a kernel");
    }
    v = op.operands[0];
  }
}

llvm::Value* Values::read_concat(const Op& op, const Place& place) {
  llvm::Value* out = nullptr;
  std::int64_t begin = 0;
  for (std::size_t i = 0; i < op.operands.size(); ++i) {
    const AxisId stretch = op.attr.axes[i];
    const std::int64_t size = stretch.valid() ? e_.kernel.extent(stretch) : 1;
    const Index along = place.index[op.attr.to.index];
    llvm::Value* here = within(e_, along, begin, begin + size, point_.lanes);
    Place inner = place;
    inner.on = both(e_, place.on, here);
    if (stretch.valid()) inner.index[stretch.index] = affine(e_, along, 1, -begin, point_.lanes);
    llvm::Value* x = read(op.operands[i], std::move(inner));
    out = out == nullptr ? x : e_.ir.CreateSelect(here, x, out);
    begin += size;
  }
  return out;
}

// An index value, as i64, at the positions of a place, which need not be this point's.
Index Values::integer_at(ValueId v, const Place& place) {
  bool same = true;
  for (AxisId a : e_.kernel.type(v).axes) {
    const Index &x = place.index[a.index], &y = point_.index[a.index];
    same = same && x.first == y.first && x.step == y.step && x.each == y.each;
  }
  llvm::Value* x = nullptr;
  if (same && uniform_[v.index] != nullptr)
    return {.first = e_.ir.CreateSExtOrTrunc(uniform_[v.index], e_.type(DType::i64))};
  if (same) {
    x = get(v);
  } else {
    Point point = point_;
    point.index = place.index;
    point.mask = both(e_, point_.mask, place.on);
    x = Values(e_, point).get(v);
  }
  return {.each = e_.ir.CreateSExtOrTrunc(x, e_.type(DType::i64, point_.lanes))};
}

llvm::Value* Values::read_argument(ValueId v, const Place& place) {
  const int buffer = argument_[v.index], lanes = point_.lanes;
  if (buffer < 0) internal_error("a kernel reads a value that is no argument at other positions");
  const DType dtype = e_.kernel.type(v).dtype;
  const Index offset = buffer_offset(e_, buffer, place.index, lanes);
  llvm::Value* base = e_.buffer(buffer);
  llvm::Value* mask = both(e_, point_.mask, place.on);
  if (lanes == 1) {
    llvm::Value* x = e_.gather(base, every_lane(e_, offset, 1), dtype, 1, mask);
    return mask == nullptr ? x : e_.ir.CreateSelect(mask, x, e_.integer(dtype, 0));
  }
  if (linear(offset) && offset.step == 1)
    return e_.load(e_.at(base, offset.first, dtype), dtype, lanes, mask);
  if (linear(offset) && offset.step == 0) {
    if (mask == nullptr)
      return e_.splat(e_.load(e_.at(base, offset.first, dtype), dtype, 1), lanes);
    llvm::Value* any = e_.ir.CreateOrReduce(mask);
    llvm::Value* x = e_.splat(e_.gather(base, offset.first, dtype, 1, any), lanes);
    return e_.ir.CreateSelect(mask, x, e_.integer(dtype, 0, lanes));
  }
  if (mask == nullptr) mask = e_.integer(DType::boolean, 1, lanes);
  if (!linear(offset)) return e_.gather(base, offset.each, dtype, lanes, mask);
  // Constant distances from one address: a gather with narrow indices.
  return e_.gather(e_.at(base, offset.first, dtype),
                   every_lane(e_, {.first = e_.i64(0), .step = offset.step}, lanes), dtype, lanes,
                   mask);
}

void Values::store_result(int r, llvm::Value* x) {
  const int buffer = e_.argument_count() + r, lanes = point_.lanes;
  const DType dtype = e_.buffer_type(buffer).dtype;
  const Index offset = buffer_offset(e_, buffer, point_.index, lanes);
  llvm::Value* base = e_.buffer(buffer);
  if (linear(offset) && (offset.step == 1 || lanes == 1))
    return e_.store(x, e_.at(base, offset.first, dtype), dtype, lanes, point_.mask);
  llvm::Value* mask = point_.mask;
  if (mask == nullptr && lanes > 1) mask = e_.integer(DType::boolean, 1, lanes);
  if (!linear(offset)) return e_.scatter(x, base, offset.each, dtype, lanes, mask);
  e_.scatter(x, e_.at(base, offset.first, dtype),
             every_lane(e_, {.first = e_.i64(0), .step = offset.step}, lanes), dtype, lanes, mask);
}

llvm::Value* Values::load_result(int r) {
  const int buffer = e_.argument_count() + r;
  const DType dtype = e_.buffer_type(buffer).dtype;
  const Index offset = buffer_offset(e_, buffer, point_.index, point_.lanes);
  return e_.load(e_.at(e_.buffer(buffer), offset.first, dtype), dtype, point_.lanes, point_.mask);
}

void Values::store_result(int r) {
  store_result(r, get(e_.kernel.body().results[static_cast<std::size_t>(r)]));
}

}  // namespace gradc
