// sin and cos: the reduction of an angle, then one of two polynomials.
#include "codegen/math.h"
#include "codegen/math_lanes.h"

namespace gradc {
namespace {

using namespace math;

// x = quadrant·π/2 + r modulo 2π, |r| ≤ π/4·(1 + 2^−20), r rounded to f32 once.
struct Angle {
  llvm::Value *quadrant, *r;  // i32, f32
};

// 2/π in words of 32 bits, behind a word of zeros.
constexpr std::array<std::uint32_t, 8> two_over_pi = {
    0, 0xa2f9836e, 0x4e441529, 0xfc2757d1, 0xf534ddc0, 0xdb629599, 0x3c439041, 0xfe5163ab};

// |x| < 2¹⁹·π/2. The first part of π/2 has 33 bits: its product with a number of 19 bits is exact.
Angle reduce_near(const Lanes& v, llvm::Value* x) {
  auto& ir = v.ir;
  llvm::Value* wide = ir.CreateFPExt(x, v.type(DType::f64));
  llvm::Value* shifted = v.fma(wide, v.d(0x1.45f306dc9c883p-1), v.d(0x1.8p52));
  llvm::Value* n = v.sub(shifted, v.d(0x1.8p52));
  llvm::Value* r = v.fma(n, v.d(-0x1.921fb544p+0), wide);
  r = v.fma(n, v.d(-0x1.0b4611a626331p-34), r);
  llvm::Value* low =
      ir.CreateTrunc(ir.CreateBitCast(shifted, v.type(DType::i64)), v.type(DType::i32));
  return {low, ir.CreateFPTrunc(r, v.type(DType::f32))};
}

// Any x ≥ 2⁻⁷ in magnitude. With x = m·2^(e−23), the bits of 2/π above weight 2^(25−e) give
// multiples of 4 quadrants; the 96 bits from there times m are x·2/π modulo 4 to 2^−62.
Angle reduce_far(const Lanes& v, llvm::Value* x) {
  auto& ir = v.ir;
  llvm::Type* word = v.type(DType::i32);
  llvm::Value* bits = ir.CreateAnd(v.bits(x), v.i(0x7fffffff));
  llvm::Value* at =
      ir.CreateSub(ir.CreateLShr(bits, v.i(23)), v.i(120));  // first bit of the window
  at = ir.CreateSelect(ir.CreateICmpSLT(at, v.i(0)), v.i(0), at);
  llvm::Value* index = ir.CreateLShr(at, v.i(5));
  llvm::Value* shift = ir.CreateAnd(at, v.i(31));
  std::array<llvm::Value*, 4> words;
  for (std::size_t k = 0; k < 4; ++k) {
    words[k] = v.i(two_over_pi[k]);
    for (std::size_t j = 1; j <= 4; ++j)
      words[k] = ir.CreateSelect(ir.CreateICmpEQ(index, v.i(static_cast<std::int64_t>(j))),
                                 v.i(two_over_pi[k + j]), words[k]);
  }
  const auto widen = [&](llvm::Value* w) { return ir.CreateZExt(w, v.type(DType::i64)); };
  llvm::Value* m = widen(ir.CreateOr(ir.CreateAnd(bits, v.i(0x7fffff)), v.i(0x800000)));
  std::array<llvm::Value*, 3> window;  // words shifted left: the upper half of a 64-bit pair
  for (std::size_t k = 0; k < 3; ++k) {
    llvm::Value* pair = ir.CreateOr(ir.CreateShl(widen(words[k]), v.l(32)), widen(words[k + 1]));
    window[k] =
        widen(ir.CreateTrunc(ir.CreateLShr(ir.CreateShl(pair, widen(shift)), v.l(32)), word));
  }
  llvm::Value* product = ir.CreateShl(ir.CreateMul(m, window[0]), v.l(32));
  product = ir.CreateAdd(product, ir.CreateMul(m, window[1]));
  product = ir.CreateAdd(product, ir.CreateLShr(ir.CreateMul(m, window[2]), v.l(32)));
  llvm::Value* n = ir.CreateLShr(ir.CreateAdd(product, v.l(std::int64_t{1} << 61)), v.l(62));
  llvm::Value* part = ir.CreateSub(product, ir.CreateShl(n, v.l(62)));
  llvm::Value* r =
      v.mul(ir.CreateSIToFP(part, v.type(DType::f64)), v.d(0x1.921fb54442d18p+0 * 0x1p-62));
  llvm::Value* negative = ir.CreateICmpSLT(v.bits(x), v.i(0));
  llvm::Value* quadrant = ir.CreateTrunc(n, word);
  r = ir.CreateFPTrunc(r, v.type(DType::f32));
  return {ir.CreateSelect(negative, ir.CreateNeg(quadrant), quadrant),
          ir.CreateSelect(negative, ir.CreateFNeg(r), r)};
}

// The far way only where some lane needs it; there, lanes below its range keep the near result.
Angle reduce(const Lanes& v, llvm::Value* x) {
  auto& ir = v.ir;
  llvm::Value* beyond = ir.CreateNot(ir.CreateFCmpOLE(v.magnitude(x), v.f(0x1p19)));  // NaN too
  llvm::Value* any = v.lanes == 1 ? beyond : ir.CreateOrReduce(beyond);
  const Angle near = reduce_near(v, x);
  llvm::BasicBlock* here = ir.GetInsertBlock();
  auto* far_block = llvm::BasicBlock::Create(*v.e.context, "far", here->getParent());
  auto* join = llvm::BasicBlock::Create(*v.e.context, "angle", here->getParent());
  ir.CreateCondBr(any, far_block, join);
  ir.SetInsertPoint(far_block);
  Angle far = reduce_far(v, x);
  far.quadrant = ir.CreateSelect(beyond, far.quadrant, near.quadrant);
  far.r = ir.CreateSelect(beyond, far.r, near.r);
  llvm::Value* finite = ir.CreateFCmpOLT(v.magnitude(x), v.f(infinity));
  far.r = ir.CreateSelect(finite, far.r, v.f(quiet_nan));
  ir.CreateBr(join);
  ir.SetInsertPoint(join);
  const auto merge = [&](llvm::Value* a, llvm::Value* b) {
    llvm::PHINode* phi = ir.CreatePHI(a->getType(), 2);
    phi->addIncoming(a, here);
    phi->addIncoming(b, far_block);
    return phi;
  };
  return {merge(near.quadrant, far.quadrant), merge(near.r, far.r)};
}

// sin(r + quadrant·π/2).
llvm::Value* wave(const Lanes& v, llvm::Value* quadrant, llvm::Value* r) {
  static constexpr std::array<double, 4> sine = {-0x1.555556p-3, 0x1.111108p-7, -0x1.a00f9ep-13,
                                                 0x1.6cd85ap-19};  // (sin r − r)/r³, 2^−37
  static constexpr std::array<double, 5> cosine = {-0.5, 0x1.555556p-5, -0x1.6c16b8p-10,
                                                   0x1.a01122p-16,
                                                   -0x1.242b2cp-22};  // (cos r − 1)/r², 2^−43
  auto& ir = v.ir;
  llvm::Value* square = v.mul(r, r);
  llvm::Value* s = v.fma(v.mul(square, r), v.polynomial(square, sine), r);
  llvm::Value* c = v.fma(square, v.polynomial(square, cosine), v.f(1));
  llvm::Value* odd = ir.CreateICmpNE(ir.CreateAnd(quadrant, v.i(1)), v.i(0));
  llvm::Value* sign = ir.CreateShl(ir.CreateAnd(quadrant, v.i(2)), v.i(30));
  return v.real(ir.CreateXor(v.bits(ir.CreateSelect(odd, c, s)), sign));
}

}  // namespace

llvm::Value* emit_sin(Emitter& e, llvm::Value* x) {
  const Lanes v(e, x);
  const Angle a = reduce(v, x);
  return wave(v, a.quadrant, a.r);
}

llvm::Value* emit_cos(Emitter& e, llvm::Value* x) {
  const Lanes v(e, x);
  const Angle a = reduce(v, x);
  return wave(v, e.ir.CreateAdd(a.quadrant, v.i(1)), a.r);
}

}  // namespace gradc
