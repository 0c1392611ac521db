// pow, through logarithm and exponential in f64.
#include <llvm/IR/Intrinsics.h>

#include "codegen/math.h"
#include "codegen/math_lanes.h"

namespace gradc {
namespace {

using namespace math;

// log₂ a for a ≥ 0 (f64 vectors that hold f32 values, so none is subnormal); 2^−45 relative. 0
// gives −inf.
llvm::Value* wide_log2(const Lanes& v, llvm::Value* a) {
  // log₂((1 + s)/(1 − s))/s in s², |s| ≤ 0.1716; 2^−50.
  static constexpr std::array<double, 7> p = {
      0x1.71547652b82ffp+1, 0x1.ec709dc39c955p-1, 0x1.2776c516b898dp-1, 0x1.a617566459dafp-2,
      0x1.484fb14aa2457p-2, 0x1.0bb71710e7adcp-2, 0x1.f1947d6d35aadp-3};
  auto& ir = v.ir;
  constexpr std::int64_t root_half = 0x3fe6a09e667f3bcd;
  llvm::Value* bits = ir.CreateBitCast(a, v.type(DType::i64));
  llvm::Value* from_root = ir.CreateSub(bits, v.l(root_half));
  // The exponent, small, as a double: by its low bits under those of 1.5·2⁵².
  llvm::Value* n = ir.CreateAdd(ir.CreateAShr(from_root, v.l(52)), v.l(0x4338000000000000));
  n = v.sub(ir.CreateBitCast(n, v.type(DType::f64)), v.d(0x1.8p52));
  llvm::Value* m = ir.CreateAdd(ir.CreateAnd(from_root, v.l(0xfffffffffffff)), v.l(root_half));
  m = ir.CreateBitCast(m, v.type(DType::f64));
  llvm::Value* s = ir.CreateFDiv(v.sub(m, v.d(1)), v.add(m, v.d(1)));
  llvm::Value* y = v.fma(s, v.polynomial(v.mul(s, s), p, DType::f64), n);
  y = ir.CreateSelect(ir.CreateFCmpOLT(a, v.d(infinity)), y, a);
  return ir.CreateSelect(ir.CreateFCmpOEQ(a, v.d(0)), v.d(-infinity), y);
}

// 2ᵗ in f32, −inf ≤ t ≤ inf.
llvm::Value* wide_exp2(const Lanes& v, llvm::Value* t) {
  static constexpr std::array<double, 9> p = {
      0x1.ffffffffff7a0p-1,  0x1.62e42fef860a3p-1,  0x1.ebfbdff931f44p-3,
      0x1.c6b08dd48b17ep-5,  0x1.3b2ab5c4e6a49p-7,  0x1.5d874813f0bc2p-10,
      0x1.430accc95dc07p-13, 0x1.00daeadf88ff0p-16, 0x1.61afebdb07e5cp-20};
  auto& ir = v.ir;
  t = v.at_least(v.at_most(t, v.d(200)), v.d(-200));
  llvm::Value* shifted = v.add(t, v.d(0x1.8p52));
  llvm::Value* r = v.sub(t, v.sub(shifted, v.d(0x1.8p52)));
  llvm::Value* bits = ir.CreateShl(ir.CreateBitCast(shifted, v.type(DType::i64)), v.l(52));
  bits = ir.CreateAdd(bits, v.l(0x3ff0000000000000));
  llvm::Value* y =
      v.mul(v.polynomial(r, p, DType::f64), ir.CreateBitCast(bits, v.type(DType::f64)));
  return ir.CreateFPTrunc(y, v.type(DType::f32));
}

}  // namespace

llvm::Value* emit_pow(Emitter& e, llvm::Value* x, llvm::Value* y) {
  const Lanes v(e, x);
  auto& ir = e.ir;
  llvm::Value* a = v.magnitude(x);
  llvm::Value* t = v.mul(ir.CreateFPExt(y, v.type(DType::f64)),
                         wide_log2(v, ir.CreateFPExt(a, v.type(DType::f64))));
  llvm::Value* power = wide_exp2(v, t);
  // |y| ≥ 2²⁴ (and infinity) is an even integer. Below, y is an integer if its floor is itself, and
  // odd if half of it is none.
  const auto floor = [&](llvm::Value* z) {
    return ir.CreateUnaryIntrinsic(llvm::Intrinsic::floor, z);
  };
  llvm::Value* half = v.mul(y, v.f(0.5));
  llvm::Value* integer = ir.CreateFCmpOEQ(floor(y), y);
  llvm::Value* odd = ir.CreateAnd(integer, ir.CreateFCmpONE(floor(half), half));
  llvm::Value* negative = ir.CreateICmpSLT(v.bits(x), v.i(0));
  power = ir.CreateSelect(ir.CreateAnd(odd, negative), ir.CreateFNeg(power), power);
  // A negative finite base has no other powers.
  llvm::Value* below = ir.CreateAnd(ir.CreateFCmpOLT(x, v.f(0)), ir.CreateFCmpOGT(x, v.f(-infinity)));
  power = ir.CreateSelect(ir.CreateAnd(below, ir.CreateNot(integer)), v.f(quiet_nan), power);
  // 1 to any power and anything to the power 0 is 1; |x| = 1 to an infinite one, too.
  llvm::Value* infinite = ir.CreateFCmpOEQ(v.magnitude(y), v.f(infinity));
  llvm::Value* one = ir.CreateOr(ir.CreateFCmpOEQ(x, v.f(1)), ir.CreateFCmpOEQ(y, v.f(0)));
  one = ir.CreateOr(one, ir.CreateAnd(infinite, ir.CreateFCmpOEQ(a, v.f(1))));
  return ir.CreateSelect(one, v.f(1), power);
}

}  // namespace gradc
