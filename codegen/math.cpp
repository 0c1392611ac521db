// The polynomials and reductions behind codegen/math.h. Coefficients are minimax fits (Remez exchange,
// weighted for relative error of the result), computed for this file in 40 digits and then rounded.
#include "codegen/math.h"

#include <llvm/IR/Intrinsics.h>

#include <array>
#include <limits>
#include <span>

namespace gradc {
namespace {

constexpr double inf = std::numeric_limits<double>::infinity();
constexpr double nan = std::numeric_limits<double>::quiet_NaN();

// The operations below on vectors of one shape, spelled briefly. `f` constants are f32, `d` f64.
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
  llvm::Value* magnitude(llvm::Value* x) const { return real(ir.CreateAnd(bits(x), i(0x7fffffff))); }
  // |x| with the sign of `sign`.
  llvm::Value* with_sign(llvm::Value* x, llvm::Value* sign) const {
    return real(ir.CreateOr(bits(x), ir.CreateAnd(bits(sign), i(-0x7fffffff - 1))));
  }
  // The smaller (larger) of the two; NaN stays NaN, which llvm.minnum would lose.
  llvm::Value* at_most(llvm::Value* x, llvm::Value* high) const { return ir.CreateSelect(ir.CreateFCmpOLT(high, x), high, x); }
  llvm::Value* at_least(llvm::Value* x, llvm::Value* low) const { return ir.CreateSelect(ir.CreateFCmpOGT(low, x), low, x); }
  // Coefficients from the lowest; Horner's rule.
  llvm::Value* polynomial(llvm::Value* x, std::span<const double> c, DType t = DType::f32) const {
    llvm::Value* y = e.constant(t, c.back(), lanes);
    for (std::size_t k = c.size() - 1; k-- > 0;) y = fma(y, x, e.constant(t, c[k], lanes));
    return y;
  }
  // 2ⁿ for −126 ≤ n ≤ 127.
  llvm::Value* power_of_two(llvm::Value* n) const { return real(ir.CreateShl(ir.CreateAdd(n, i(127)), i(23))); }
};

// ---- exp and what is made of it

// x = n·ln 2 + r with |r| ≤ 0.3467 and e^r − 1 = p. |x| < 2¹⁵.
struct Exponent {
  llvm::Value *n, *p;
};
// (e^r − 1 − r)/r², relative to e^r − 1: 2^−32.
constexpr std::array<double, 6> exp_q = {0x1p-1,        0x1.555556p-3, 0x1.5554aep-5,
                                         0x1.11109p-7, 0x1.6d7472p-10, 0x1.a1a152p-13};
// ln 2 in two parts; the first has 15 bits, so that its product with n is exact.
constexpr double ln2_high = 0x1.62e4p-1, ln2_low = 0x1.7f7d1cp-20;

Exponent split_exponent(const Lanes& v, llvm::Value* x) {
  // Adding 1.5·2²³ rounds to an integer, which then stands in the low bits.
  llvm::Value* shifted = v.fma(x, v.f(0x1.715476p+0), v.f(0x1.8p23));
  llvm::Value* rounded = v.sub(shifted, v.f(0x1.8p23));
  llvm::Value* r = v.fma(rounded, v.f(-ln2_high), x);
  r = v.fma(rounded, v.f(-ln2_low), r);
  llvm::Value* p = v.fma(v.mul(r, r), v.polynomial(r, exp_q), r);
  return {v.ir.CreateSub(v.bits(shifted), v.i(0x4b400000)), p};
}

}  // namespace

llvm::Value* emit_exp(Emitter& e, llvm::Value* x) {
  const Lanes v(e, x);
  // Beyond these the result is 0 or inf. Two factors keep 2ⁿ in range and round once, at the end.
  const Exponent t = split_exponent(v, v.at_least(v.at_most(x, v.f(90)), v.f(-105)));
  llvm::Value* half = e.ir.CreateAShr(t.n, v.i(1));
  llvm::Value* y = v.mul(v.add(t.p, v.f(1)), v.power_of_two(half));
  return v.mul(y, v.power_of_two(e.ir.CreateSub(t.n, half)));
}

llvm::Value* emit_tanh(Emitter& e, llvm::Value* x) {
  // (tanh(x)/x − 1)/x² in x² on [0, 0.36]; 2^−28.5.
  static constexpr std::array<double, 5> small = {-0x1.55553ep-2, 0x1.1109dep-3, -0x1.b89f28p-5, 0x1.54e1f6p-6,
                                                  -0x1.8314p-8};
  const Lanes v(e, x);
  llvm::Value* a = v.magnitude(x);
  llvm::Value* square = v.mul(a, a);
  llvm::Value* near = v.fma(v.mul(square, a), v.polynomial(square, small), a);
  llvm::Value* far_at = v.at_most(a, v.f(10));  // tanh rounds to 1 from 9.02 on
  const Exponent t = split_exponent(v, v.add(far_at, far_at));
  llvm::Value* scale = v.power_of_two(t.n);
  llvm::Value* below = e.ir.CreateFDiv(v.f(2), v.fma(t.p, scale, v.add(scale, v.f(1))));
  llvm::Value* far = v.sub(v.f(1), below);
  return v.with_sign(e.ir.CreateSelect(e.ir.CreateFCmpOLT(a, v.f(0.6)), near, far), x);
}

llvm::Value* emit_erf(Emitter& e, llvm::Value* x) {
  // erf(x)/x − 1 in x² on [0, 0.81] (2^−31.7), and −log erfc(x) on [0.9, 4] (2^−29 of erf).
  static constexpr std::array<double, 7> small = {0x1.06eba8p-3,  -0x1.812744p-2, 0x1.ce2e6p-4, -0x1.b8162ap-6,
                                                  0x1.5513eep-8, -0x1.acf7d6p-11, 0x1.6624aap-14};
  static constexpr std::array<double, 7> large = {0x1.5a8218p-13,  0x1.20b7a8p+0,  0x1.462096p-1, 0x1.aa7b36p-4,
                                                  -0x1.6dac94p-6, 0x1.91eccap-9, -0x1.9fe708p-13};
  const Lanes v(e, x);
  llvm::Value* a = v.magnitude(x);
  llvm::Value* near = v.fma(a, v.polynomial(v.mul(a, a), small), a);
  llvm::Value* far_at = v.at_most(a, v.f(4));  // erf rounds to 1 from 3.92 on
  const Exponent t = split_exponent(v, e.ir.CreateFNeg(v.polynomial(far_at, large)));
  llvm::Value* scale = v.power_of_two(t.n);
  llvm::Value* far = v.sub(v.f(1), v.fma(t.p, scale, scale));
  return v.with_sign(e.ir.CreateSelect(e.ir.CreateFCmpOLT(a, v.f(0.9)), near, far), x);
}

llvm::Value* emit_log(Emitter& e, llvm::Value* x) {
  // (log(1 + f) − f + f²/2)/f³ for √½ ≤ 1 + f < √2; 2^−30.
  static constexpr std::array<double, 9> p = {0x1.555546p-2,  -0x1.ffffeep-3, 0x1.99a53ap-3,
                                              -0x1.5562dep-3, 0x1.23338p-3,   -0x1.fb4482p-4,
                                              0x1.e647f4p-4,  -0x1.e2df92p-4, 0x1.1b490ep-4};
  constexpr std::int64_t root_half = 0x3f3504f3;  // the bits of √½
  const Lanes v(e, x);
  auto& ir = e.ir;
  llvm::Value* tiny = ir.CreateFCmpOLT(x, v.f(0x1p-126));
  llvm::Value* normal = ir.CreateSelect(tiny, v.mul(x, v.f(0x1p23)), x);
  llvm::Value* from_root = ir.CreateSub(v.bits(normal), v.i(root_half));
  llvm::Value* exponent = ir.CreateAShr(from_root, v.i(23));
  exponent = ir.CreateAdd(exponent, ir.CreateSelect(tiny, v.i(-23), v.i(0)));
  llvm::Value* n = ir.CreateSIToFP(exponent, x->getType());
  llvm::Value* f = v.sub(v.real(ir.CreateAdd(ir.CreateAnd(from_root, v.i(0x7fffff)), v.i(root_half))), v.f(1));
  llvm::Value* square = v.mul(f, f);
  llvm::Value* y = v.fma(v.mul(square, f), v.polynomial(f, p), v.mul(n, v.f(ln2_low)));
  y = v.fma(square, v.f(-0.5), y);
  y = v.fma(n, v.f(ln2_high), v.add(f, y));
  y = ir.CreateSelect(ir.CreateFCmpOLT(x, v.f(inf)), y, x);  // inf and NaN
  y = ir.CreateSelect(ir.CreateFCmpOLT(x, v.f(0)), v.f(nan), y);
  return ir.CreateSelect(ir.CreateFCmpOEQ(x, v.f(0)), v.f(-inf), y);
}

// ---- sin and cos
namespace {

// x = quadrant·π/2 + r modulo 2π, |r| ≤ π/4·(1 + 2^−20), r rounded to f32 once.
struct Angle {
  llvm::Value *quadrant, *r;  // i32, f32
};

// 2/π in words of 32 bits, behind a word of zeros.
constexpr std::array<std::uint32_t, 8> two_over_pi = {0,          0xa2f9836e, 0x4e441529, 0xfc2757d1,
                                                      0xf534ddc0, 0xdb629599, 0x3c439041, 0xfe5163ab};

// |x| < 2¹⁹·π/2. The first part of π/2 has 33 bits: its product with a number of 19 bits is exact.
Angle reduce_near(const Lanes& v, llvm::Value* x) {
  auto& ir = v.ir;
  llvm::Value* wide = ir.CreateFPExt(x, v.type(DType::f64));
  llvm::Value* shifted = v.fma(wide, v.d(0x1.45f306dc9c883p-1), v.d(0x1.8p52));
  llvm::Value* n = v.sub(shifted, v.d(0x1.8p52));
  llvm::Value* r = v.fma(n, v.d(-0x1.921fb544p+0), wide);
  r = v.fma(n, v.d(-0x1.0b4611a626331p-34), r);
  llvm::Value* low = ir.CreateTrunc(ir.CreateBitCast(shifted, v.type(DType::i64)), v.type(DType::i32));
  return {low, ir.CreateFPTrunc(r, v.type(DType::f32))};
}

// Any x ≥ 2⁻⁷ in magnitude. With x = m·2^(e−23), the bits of 2/π above weight 2^(25−e) give multiples of
// 4 quadrants; the 96 bits from there times m are x·2/π modulo 4 to 2^−62.
Angle reduce_far(const Lanes& v, llvm::Value* x) {
  auto& ir = v.ir;
  llvm::Type* word = v.type(DType::i32);
  llvm::Value* bits = ir.CreateAnd(v.bits(x), v.i(0x7fffffff));
  llvm::Value* at = ir.CreateSub(ir.CreateLShr(bits, v.i(23)), v.i(120));  // first bit of the window
  at = ir.CreateSelect(ir.CreateICmpSLT(at, v.i(0)), v.i(0), at);
  llvm::Value* index = ir.CreateLShr(at, v.i(5));
  llvm::Value* shift = ir.CreateAnd(at, v.i(31));
  std::array<llvm::Value*, 4> words;
  for (std::size_t k = 0; k < 4; ++k) {
    words[k] = v.i(two_over_pi[k]);
    for (std::size_t j = 1; j <= 4; ++j)
      words[k] = ir.CreateSelect(ir.CreateICmpEQ(index, v.i(static_cast<std::int64_t>(j))), v.i(two_over_pi[k + j]), words[k]);
  }
  const auto widen = [&](llvm::Value* w) { return ir.CreateZExt(w, v.type(DType::i64)); };
  llvm::Value* m = widen(ir.CreateOr(ir.CreateAnd(bits, v.i(0x7fffff)), v.i(0x800000)));
  std::array<llvm::Value*, 3> window;  // words shifted left: the upper half of a 64-bit pair
  for (std::size_t k = 0; k < 3; ++k) {
    llvm::Value* pair = ir.CreateOr(ir.CreateShl(widen(words[k]), v.l(32)), widen(words[k + 1]));
    window[k] = widen(ir.CreateTrunc(ir.CreateLShr(ir.CreateShl(pair, widen(shift)), v.l(32)), word));
  }
  llvm::Value* product = ir.CreateShl(ir.CreateMul(m, window[0]), v.l(32));
  product = ir.CreateAdd(product, ir.CreateMul(m, window[1]));
  product = ir.CreateAdd(product, ir.CreateLShr(ir.CreateMul(m, window[2]), v.l(32)));
  llvm::Value* n = ir.CreateLShr(ir.CreateAdd(product, v.l(std::int64_t{1} << 61)), v.l(62));
  llvm::Value* part = ir.CreateSub(product, ir.CreateShl(n, v.l(62)));
  llvm::Value* r = v.mul(ir.CreateSIToFP(part, v.type(DType::f64)), v.d(0x1.921fb54442d18p+0 * 0x1p-62));
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
  llvm::Value* finite = ir.CreateFCmpOLT(v.magnitude(x), v.f(inf));
  far.r = ir.CreateSelect(finite, far.r, v.f(nan));
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
  static constexpr std::array<double, 5> cosine = {-0.5, 0x1.555556p-5, -0x1.6c16b8p-10, 0x1.a01122p-16,
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

// ---- pow
namespace {

// log₂ a for a ≥ 0 (f64 vectors that hold f32 values, so none is subnormal); 2^−45 relative. 0 gives −inf.
llvm::Value* wide_log2(const Lanes& v, llvm::Value* a) {
  // log₂((1 + s)/(1 − s))/s in s², |s| ≤ 0.1716; 2^−50.
  static constexpr std::array<double, 7> p = {0x1.71547652b82ffp+1, 0x1.ec709dc39c955p-1, 0x1.2776c516b898dp-1,
                                              0x1.a617566459dafp-2, 0x1.484fb14aa2457p-2, 0x1.0bb71710e7adcp-2,
                                              0x1.f1947d6d35aadp-3};
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
  y = ir.CreateSelect(ir.CreateFCmpOLT(a, v.d(inf)), y, a);
  return ir.CreateSelect(ir.CreateFCmpOEQ(a, v.d(0)), v.d(-inf), y);
}

// 2ᵗ in f32, −inf ≤ t ≤ inf.
llvm::Value* wide_exp2(const Lanes& v, llvm::Value* t) {
  static constexpr std::array<double, 9> p = {0x1.ffffffffff7a0p-1, 0x1.62e42fef860a3p-1,  0x1.ebfbdff931f44p-3,
                                              0x1.c6b08dd48b17ep-5, 0x1.3b2ab5c4e6a49p-7,  0x1.5d874813f0bc2p-10,
                                              0x1.430accc95dc07p-13, 0x1.00daeadf88ff0p-16, 0x1.61afebdb07e5cp-20};
  auto& ir = v.ir;
  t = v.at_least(v.at_most(t, v.d(200)), v.d(-200));
  llvm::Value* shifted = v.add(t, v.d(0x1.8p52));
  llvm::Value* r = v.sub(t, v.sub(shifted, v.d(0x1.8p52)));
  llvm::Value* bits = ir.CreateShl(ir.CreateBitCast(shifted, v.type(DType::i64)), v.l(52));
  bits = ir.CreateAdd(bits, v.l(0x3ff0000000000000));
  llvm::Value* y = v.mul(v.polynomial(r, p, DType::f64), ir.CreateBitCast(bits, v.type(DType::f64)));
  return ir.CreateFPTrunc(y, v.type(DType::f32));
}

}  // namespace

llvm::Value* emit_pow(Emitter& e, llvm::Value* x, llvm::Value* y) {
  const Lanes v(e, x);
  auto& ir = e.ir;
  llvm::Value* a = v.magnitude(x);
  llvm::Value* t = v.mul(ir.CreateFPExt(y, v.type(DType::f64)), wide_log2(v, ir.CreateFPExt(a, v.type(DType::f64))));
  llvm::Value* power = wide_exp2(v, t);
  // |y| ≥ 2²⁴ (and infinity) is an even integer. Below, y is an integer if its floor is itself, and odd if
  // half of it is none.
  const auto floor = [&](llvm::Value* z) { return ir.CreateUnaryIntrinsic(llvm::Intrinsic::floor, z); };
  llvm::Value* half = v.mul(y, v.f(0.5));
  llvm::Value* integer = ir.CreateFCmpOEQ(floor(y), y);
  llvm::Value* odd = ir.CreateAnd(integer, ir.CreateFCmpONE(floor(half), half));
  llvm::Value* negative = ir.CreateICmpSLT(v.bits(x), v.i(0));
  power = ir.CreateSelect(ir.CreateAnd(odd, negative), ir.CreateFNeg(power), power);
  // A negative finite base has no other powers.
  llvm::Value* below = ir.CreateAnd(ir.CreateFCmpOLT(x, v.f(0)), ir.CreateFCmpOGT(x, v.f(-inf)));
  power = ir.CreateSelect(ir.CreateAnd(below, ir.CreateNot(integer)), v.f(nan), power);
  // 1 to any power and anything to the power 0 is 1; |x| = 1 to an infinite one, too.
  llvm::Value* infinite = ir.CreateFCmpOEQ(v.magnitude(y), v.f(inf));
  llvm::Value* one = ir.CreateOr(ir.CreateFCmpOEQ(x, v.f(1)), ir.CreateFCmpOEQ(y, v.f(0)));
  one = ir.CreateOr(one, ir.CreateAnd(infinite, ir.CreateFCmpOEQ(a, v.f(1))));
  return ir.CreateSelect(one, v.f(1), power);
}

}  // namespace gradc
