// Arithmetic on positions: linear along the lanes as long as possible, one value a lane else.
#include "codegen/index.h"

#include <algorithm>
#include <cstdlib>

namespace gradc {

bool linear(const Index& x) { return x.each == nullptr; }

Index constant_index(Emitter& e, std::int64_t k) {
  return {.first = e.i64(k), .multiple = k == 0 ? std::int64_t{1} << 30 : std::abs(k)};
}

bool is_zero(const Index& x) {
  const auto* first = x.first == nullptr ? nullptr : llvm::dyn_cast<llvm::ConstantInt>(x.first);
  return linear(x) && x.step == 0 && first != nullptr && first->isZero();
}

Index affine(Emitter& e, const Index& x, std::int64_t m, std::int64_t k, int lanes) {
  if (is_zero(x) || m == 0) return constant_index(e, k);
  if (!linear(x)) {
    llvm::Value* scaled = m == 1 ? x.each : e.ir.CreateMul(x.each, e.integer(DType::i64, m, lanes));
    return {.each = k == 0 ? scaled : e.ir.CreateAdd(scaled, e.integer(DType::i64, k, lanes))};
  }
  const bool kept = k == 0 && m > 0 && x.multiple <= (std::int64_t{1} << 31) / m;
  return {.first = e.add(e.mul(x.first, m), k),
          .step = x.step * m,
          .multiple = kept ? x.multiple * m : 1};
}

Index sum(Emitter& e, const Index& a, const Index& b, int lanes) {
  if (is_zero(a)) return b;
  if (is_zero(b)) return a;
  if (linear(a) && linear(b)) {
    Index out{.first = e.add(a.first, b.first), .step = a.step + b.step, .multiple = 1};
    // The larger multiple survives where the smaller divides it.
    const std::int64_t least = std::min(a.multiple, b.multiple),
                       most = std::max(a.multiple, b.multiple);
    if (most % least == 0) out.multiple = least;
    return out;
  }
  return {.each = e.ir.CreateAdd(every_lane(e, a, lanes), every_lane(e, b, lanes))};
}

llvm::Value* within(Emitter& e, const Index& x, llvm::Value* lo, llvm::Value* hi, int lanes) {
  if (linear(x) && x.step == 0)
    return e.splat(e.ir.CreateAnd(e.ir.CreateICmpSGE(x.first, lo), e.ir.CreateICmpSLT(x.first, hi)),
                   lanes);
  llvm::Value* v = every_lane(e, x, lanes);
  return e.ir.CreateAnd(e.ir.CreateICmpSGE(v, e.splat(lo, lanes)),
                        e.ir.CreateICmpSLT(v, e.splat(hi, lanes)));
}
llvm::Value* within(Emitter& e, const Index& x, std::int64_t lo, std::int64_t hi, int lanes) {
  return within(e, x, e.i64(lo), e.i64(hi), lanes);
}

llvm::Value* both(Emitter& e, llvm::Value* a, llvm::Value* b) {
  if (a == nullptr) return b;
  return b == nullptr ? a : e.ir.CreateAnd(a, b);
}

llvm::Value* every_lane(Emitter& e, const Index& index, int lanes) {
  if (index.each != nullptr) return index.each;
  if (lanes == 1) return index.first;
  llvm::Value* first = e.splat(index.first, lanes);
  if (index.step == 0) return first;
  llvm::Value* along = e.ir.CreateMul(e.iota(lanes), e.integer(DType::i64, index.step, lanes));
  return e.ir.CreateAdd(first, along);
}

std::pair<Index, Index> divide(Emitter& e, const Index& x, std::int64_t by, std::int64_t extent,
                               int lanes) {
  by = std::max<std::int64_t>(by, 1);
  if (linear(x)) {
    if (x.step == 0 || (x.step == 1 && by % lanes == 0 && x.multiple % lanes == 0)) {
      // All lanes lie within one quotient.
      const std::int64_t kept = x.multiple % by == 0 ? x.multiple / by : 1;
      return {{.first = e.ir.CreateUDiv(x.first, e.i64(by)), .multiple = kept},
              {.first = e.ir.CreateURem(x.first, e.i64(by)),
               .step = x.step,
               .multiple = by % x.multiple == 0 ? x.multiple : (x.step == 1 ? lanes : 1)}};
    }
    if (x.step > 0 && x.step % by == 0 && x.multiple % by == 0)
      return {{.first = e.ir.CreateUDiv(x.first, e.i64(by)), .step = x.step / by},
              constant_index(e, 0)};
  }
  llvm::Value* v = every_lane(e, x, lanes);
  if (lanes == 1)
    return {{.each = e.ir.CreateUDiv(v, e.i64(by))}, {.each = e.ir.CreateURem(v, e.i64(by))}};
  // 32-bit division by a constant is a multiplication on any vector unit; 64-bit is not.
  const bool narrow = extent < (std::int64_t{1} << 31);
  llvm::Type* wide = v->getType();
  if (narrow) v = e.ir.CreateTrunc(v, e.type(DType::i32, lanes));
  llvm::Constant* d = e.integer(narrow ? DType::i32 : DType::i64, by, lanes);
  llvm::Value* q = e.ir.CreateUDiv(v, d);
  llvm::Value* r = e.ir.CreateSub(v, e.ir.CreateMul(q, d));
  if (narrow) {
    q = e.ir.CreateZExt(q, wide);
    r = e.ir.CreateZExt(r, wide);
  }
  return {{.each = q}, {.each = r}};
}

}  // namespace gradc
