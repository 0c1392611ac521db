// Owns the spelling of vector arithmetic in codegen/math*.cpp.
#pragma once

#include <array>
#include <limits>
#include <span>

#include "codegen/module.h"

namespace gradc::math {

inline constexpr double infinity = std::numeric_limits<double>::infinity();
inline constexpr double quiet_nan = std::numeric_limits<double>::quiet_NaN();

// Arithmetic on vectors of one shape. Constants: f f32, d f64, i i32, l i64.
struct Lanes {
  Emitter& e;
  int lanes;
  llvm::IRBuilder<>& ir;

  Lanes(Emitter& emitter, llvm::Value* x) : e(emitter), lanes(count(x)), ir(emitter.ir) {}
  static int count(llvm::Value* x) {
    const auto* v = llvm::dyn_cast<llvm::FixedVectorType>(x->getType());
    return v ? static_cast<int>(v->getNumElements()) : 1;
  }
  llvm::Value* f(double x) const { return e.constant(DType::f32, x, lanes); }
  llvm::Value* d(double x) const { return e.constant(DType::f64, x, lanes); }
  llvm::Value* i(std::int64_t x) const { return e.integer(DType::i32, x, lanes); }
  llvm::Value* l(std::int64_t x) const { return e.integer(DType::i64, x, lanes); }
  llvm::Type* type(DType t) const { return e.type(t, lanes); }

  llvm::Value* add(llvm::Value* a, llvm::Value* b) const { return ir.CreateFAdd(a, b); }
  llvm::Value* sub(llvm::Value* a, llvm::Value* b) const { return ir.CreateFSub(a, b); }
  llvm::Value* mul(llvm::Value* a, llvm::Value* b) const { return ir.CreateFMul(a, b); }
  llvm::Value* fma(llvm::Value* a, llvm::Value* b, llvm::Value* c) const { return e.fma(a, b, c); }
  llvm::Value* bits(llvm::Value* x) const { return ir.CreateBitCast(x, type(DType::i32)); }
  llvm::Value* real(llvm::Value* x) const { return ir.CreateBitCast(x, type(DType::f32)); }
  llvm::Value* magnitude(llvm::Value* x) const {
    return real(ir.CreateAnd(bits(x), i(0x7fffffff)));
  }
  // |x| with the sign of `sign`.
  llvm::Value* with_sign(llvm::Value* x, llvm::Value* sign) const {
    return real(ir.CreateOr(bits(x), ir.CreateAnd(bits(sign), i(-0x7fffffff - 1))));
  }
  // The smaller (larger) of the two; NaN stays NaN, which llvm.minnum would lose.
  llvm::Value* at_most(llvm::Value* x, llvm::Value* high) const {
    return ir.CreateSelect(ir.CreateFCmpOLT(high, x), high, x);
  }
  llvm::Value* at_least(llvm::Value* x, llvm::Value* low) const {
    return ir.CreateSelect(ir.CreateFCmpOGT(low, x), low, x);
  }
  // Coefficients from the lowest; Horner's rule.
  llvm::Value* polynomial(llvm::Value* x, std::span<const double> c, DType t = DType::f32) const {
    llvm::Value* y = e.constant(t, c.back(), lanes);
    for (std::size_t k = c.size() - 1; k-- > 0;) y = fma(y, x, e.constant(t, c[k], lanes));
    return y;
  }
  // 2ⁿ for −126 ≤ n ≤ 127.
  llvm::Value* power_of_two(llvm::Value* n) const {
    return real(ir.CreateShl(ir.CreateAdd(n, i(127)), i(23)));
  }
};

}  // namespace gradc::math
