// Accumulating, per operation and dtype.
#include "codegen/reduce.h"

#include <limits>

#include "codegen/index.h"

namespace gradc {

Reducer::State Reducer::identity() const {
  constexpr double inf = std::numeric_limits<double>::infinity();
  const bool wide = r_.dtype == DType::i64;
  switch (r_.code) {
    case Opcode::sum_:
      return {e_.constant(r_.dtype, 0, lanes_)};
    case Opcode::amin_:
      if (is_real(r_.dtype)) return {e_.constant(r_.dtype, inf, lanes_)};
      return {e_.integer(r_.dtype, wide ? INT64_MAX : INT32_MAX, lanes_)};
    default: {
      llvm::Value* least = is_real(r_.dtype)
                               ? e_.constant(r_.dtype, -inf, lanes_)
                               : e_.integer(r_.dtype, wide ? INT64_MIN : INT32_MIN, lanes_);
      if (r_.code == Opcode::amax_) return {least};
      return {least, e_.integer(DType::i32, 0, lanes_)};
    }
  }
}

llvm::Value* Reducer::beyond(llvm::Value* x, llvm::Value* than) const {
  auto& ir = e_.ir;
  const bool least = r_.code == Opcode::amin_;
  if (!is_real(r_.dtype)) return least ? ir.CreateICmpSLT(x, than) : ir.CreateICmpSGT(x, than);
  return least ? ir.CreateFCmpOLT(x, than) : ir.CreateFCmpOGT(x, than);
}

// A NaN takes its place and then keeps it, no comparison with it being true; argmax passes it over.
llvm::Value* Reducer::better(llvm::Value* x, llvm::Value* than) const {
  llvm::Value* further = beyond(x, than);
  return is_extreme(r_) ? e_.ir.CreateOr(further, e_.ir.CreateFCmpUNO(x, x)) : further;
}

Reducer::State Reducer::take(const State& state, llvm::Value* x, llvm::Value* position,
                             llvm::Value* mask) const {
  auto& ir = e_.ir;
  if (r_.code == Opcode::sum_) {
    if (mask != nullptr) x = ir.CreateSelect(mask, x, identity()[0]);
    return {is_real(r_.dtype) ? ir.CreateFAdd(state[0], x) : ir.CreateAdd(state[0], x)};
  }
  llvm::Value* chosen = better(x, state[0]);
  if (mask != nullptr) chosen = ir.CreateAnd(chosen, mask);
  State next{ir.CreateSelect(chosen, x, state[0])};
  if (r_.code == Opcode::argmax_) next.push_back(ir.CreateSelect(chosen, position, state[1]));
  return next;
}

Reducer::State Reducer::take_number(const State& state, llvm::Value* x, llvm::Value* mask) const {
  return {e_.ir.CreateSelect(both(e_, beyond(x, state[0]), mask), x, state[0])};
}

Reducer::State Reducer::merge(const State& a, const State& b) const {
  if (r_.code != Opcode::argmax_) return take(a, b[0], nullptr);
  auto& ir = e_.ir;
  llvm::Value* equal =
      is_real(r_.dtype) ? ir.CreateFCmpOEQ(b[0], a[0]) : ir.CreateICmpEQ(b[0], a[0]);
  llvm::Value* earlier = ir.CreateAnd(equal, ir.CreateICmpSLT(b[1], a[1]));
  llvm::Value* chosen = ir.CreateOr(better(b[0], a[0]), earlier);
  return {ir.CreateSelect(chosen, b[0], a[0]), ir.CreateSelect(chosen, b[1], a[1])};
}

Reducer::State Reducer::across_lanes(State state) const {
  for (int half = lanes_ / 2; half >= 1; half /= 2) {
    std::vector<int> low, high;
    for (int k = 0; k < half; ++k) {
      low.push_back(k);
      high.push_back(half + k);
    }
    State a, b;
    for (llvm::Value* x : state) {
      a.push_back(half == 1 ? e_.ir.CreateExtractElement(x, std::uint64_t{0})
                            : e_.ir.CreateShuffleVector(x, low));
      b.push_back(half == 1 ? e_.ir.CreateExtractElement(x, std::uint64_t{1})
                            : e_.ir.CreateShuffleVector(x, high));
    }
    state = Reducer(e_, r_, half).merge(a, b);
  }
  return state;
}

}  // namespace gradc
