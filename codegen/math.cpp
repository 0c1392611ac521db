// exp and what is made of it, and log. Coefficients are minimax fits (Remez exchange, weighted for
// relative error of the result), computed for these files in 40 digits and then rounded.
#include "codegen/math.h"

#include <llvm/Analysis/VectorUtils.h>
#include <llvm/IR/IntrinsicsX86.h>

#include <cmath>

#include "codegen/math_lanes.h"

namespace gradc {
namespace {

using namespace math;

// x = n·ln 2 + r with |r| ≤ 0.3467 and e^r − 1 = p. |x| < 2¹⁵.
struct Exponent {
  llvm::Value *n, *whole, *p;  // n as i32 and as f32
};
// (e^r − 1 − r)/r², relative to e^r − 1: 2^−32.
constexpr std::array<double, 6> exp_q = {0x1p-1,       0x1.555556p-3,  0x1.5554aep-5,
                                         0x1.11109p-7, 0x1.6d7472p-10, 0x1.a1a152p-13};
// ln 2 in two parts; the first has 15 bits, so that its product with n is exact.
constexpr double ln2_high = 0x1.62e4p-1, ln2_low = 0x1.7f7d1cp-20;

// e^r for |r| ≤ 0.3467 to 2^−28. With ln 2 in one part, n · ln 2 is off by n · 1.9e-9.
constexpr std::array<double, 7> exp_near = {1,
                                            1,
                                            0x1.fffffcp-2,
                                            0x1.555492p-3,
                                            0x1.5558f2p-5,
                                            0x1.123a0ap-7,
                                            0x1.6a23f2p-10};

// The integer nearest to x · factor, below 2²² in size: adding 1.5·2²³ rounds to it, and then it stands
// in the low bits.
struct Nearest {
  llvm::Value *shifted, *whole;  // whole as f32
  llvm::Value* integer(const Lanes& v) const {
    return v.ir.CreateSub(v.bits(shifted), v.i(0x4b400000));
  }
};
Nearest nearest(const Lanes& v, llvm::Value* x, double factor) {
  llvm::Value* shifted = v.fma(x, v.f(factor), v.f(0x1.8p23));
  return {shifted, v.sub(shifted, v.f(0x1.8p23))};
}
constexpr double log2_e = 0x1.715476p+0;

Exponent split_exponent(const Lanes& v, llvm::Value* x) {
  const Nearest n = nearest(v, x, log2_e);
  llvm::Value* r = v.fma(n.whole, v.f(-ln2_high), x);
  r = v.fma(n.whole, v.f(-ln2_low), r);
  llvm::Value* p = v.fma(v.mul(r, r), v.polynomial(r, exp_q), r);
  return {n.integer(v), n.whole, p};
}

// AVX-512's instructions take a register of 16 lanes at a time.
constexpr int register_lanes = 16;
bool has_registers_of_16(const Emitter& e, const Lanes& v) {
  return e.target.vector_bytes == 64 && v.lanes % register_lanes == 0;
}
// instruction(part) for each register; part(x): that register of x.
template <class Instruction>
llvm::Value* by_registers(Emitter& e, const Lanes& v, Instruction instruction) {
  std::vector<llvm::Value*> results;
  for (int first = 0; first < v.lanes; first += register_lanes) {
    const auto mask = llvm::createSequentialMask(static_cast<unsigned>(first), register_lanes, 0);
    results.push_back(instruction([&](llvm::Value* x) {
      return v.lanes == register_lanes ? x : e.ir.CreateShuffleVector(x, mask);
    }));
  }
  return llvm::concatenateVectors(e.ir, results);
}
// m · 2^⌊n⌋, which rounds once, at the end.
llvm::Value* scaled(Emitter& e, const Lanes& v, llvm::Value* m, llvm::Value* n) {
  return by_registers(e, v, [&](auto part) {
    llvm::Value* x = part(m);
    return e.ir.CreateIntrinsic(llvm::Intrinsic::x86_avx512_mask_scalef_ps_512, {},
                                {x, part(n), x, e.ir.getInt16(0xffff), e.ir.getInt32(4)});
  });
}

// (e^r − 1 − r)/r² for |r| ≤ ln 2/32; 2^−29 of e^r.
constexpr std::array<double, 2> exp_nearer = {0x1.00021ep-1, 0x1.55559ap-3};

// e^x where has_registers_of_16(), for |x| < 105: x = n·ln 2 + r with n a multiple of 1/16, whose
// fraction's power of two one permutation of a register looks up (Tang's method: "Table-Driven
// Implementation of the Exponential Function", ACM TOMS 15, 1989). Two multiply-adds fewer than
// exp_near takes, and a shorter chain. `sign` −1: e^−x.
llvm::Value* exp_by_table(Emitter& e, llvm::Value* x, double sign = 1) {
  const Lanes v(e, x);
  constexpr double shift = 0x1.8p19;  // what is added to this rounds to 1/16, and the low bits count them
  llvm::Value* shifted = v.fma(x, v.f(sign * log2_e), v.f(shift));
  llvm::Value* n = v.sub(shifted, v.f(shift));
  llvm::Value* r = v.fma(n, v.f(-sign * 0x1.62e43p-1), x);  // of sign · r
  llvm::Value* quotient = v.fma(r, v.f(sign * exp_nearer[1]), v.f(exp_nearer[0]));
  llvm::Value* p = v.fma(v.mul(r, r), quotient, sign < 0 ? e.ir.CreateFNeg(r) : r);
  std::vector<llvm::Constant*> powers;
  for (int k = 0; k < 16; ++k)
    powers.push_back(llvm::ConstantFP::get(e.type(DType::f32), std::exp2(k / 16.0)));
  llvm::Value* power = by_registers(e, v, [&](auto part) {
    return e.ir.CreateIntrinsic(llvm::Intrinsic::x86_avx512_permvar_sf_512, {},
                                {llvm::ConstantVector::get(powers), part(v.bits(shifted))});
  });
  return scaled(e, v, v.fma(power, p, power), n);
}

}  // namespace

llvm::Value* emit_exp(Emitter& e, llvm::Value* x) {
  const Lanes v(e, x);
  // Beyond these the result is 0 or inf. Two factors keep 2ⁿ in range and round once, at the end;
  // AVX-512 has an instruction that does.
  const Exponent t = split_exponent(v, v.at_least(v.at_most(x, v.f(90)), v.f(-105)));
  llvm::Value* m = v.add(t.p, v.f(1));
  if (has_registers_of_16(e, v)) return scaled(e, v, m, t.whole);
  llvm::Value* half = e.ir.CreateAShr(t.n, v.i(1));
  llvm::Value* y = v.mul(m, v.power_of_two(half));
  return v.mul(y, v.power_of_two(e.ir.CreateSub(t.n, half)));
}

llvm::Value* emit_exp_below(Emitter& e, llvm::Value* x) {
  const Lanes v(e, x);
  if (!has_registers_of_16(e, v)) return emit_exp(e, x);
  return exp_by_table(e, v.at_least(x, v.f(-105)));
}

llvm::Value* emit_tanh(Emitter& e, llvm::Value* x) {
  // (tanh(x)/x − 1)/x² in x² on [0, 0.36]; 2^−28.5.
  static constexpr std::array<double, 5> small = {-0x1.55553ep-2, 0x1.1109dep-3, -0x1.b89f28p-5,
                                                  0x1.54e1f6p-6, -0x1.8314p-8};
  const Lanes v(e, x);
  llvm::Value* a = v.magnitude(x);
  llvm::Value* square = v.mul(a, a);
  llvm::Value* near = v.fma(v.mul(square, a), v.polynomial(square, small), a);
  llvm::Value* far_at = v.at_most(a, v.f(10));  // tanh rounds to 1 from 9.02 on
  const auto exp_plus_1 = [&](llvm::Value* y) {
    if (has_registers_of_16(e, v)) return v.add(exp_by_table(e, y), v.f(1));
    const Exponent t = split_exponent(v, y);
    llvm::Value* scale = v.power_of_two(t.n);
    return v.fma(t.p, scale, v.add(scale, v.f(1)));
  };
  llvm::Value* below = e.ir.CreateFDiv(v.f(2), exp_plus_1(v.add(far_at, far_at)));
  llvm::Value* far = v.sub(v.f(1), below);
  return v.with_sign(e.ir.CreateSelect(e.ir.CreateFCmpOLT(a, v.f(0.6)), near, far), x);
}

llvm::Value* emit_sigmoid(Emitter& e, llvm::Value* x, llvm::Value* factor) {
  const Lanes v(e, x);
  // exp(88.75) is 2¹²⁸ or more, and 1/inf 0; beyond 40 nothing is left of the exponential.
  llvm::Value* y = v.at_most(v.at_least(x, v.f(-88.75)), v.f(40));
  const auto above = [&](llvm::Value* below) {
    return e.ir.CreateFDiv(factor != nullptr ? factor : v.f(1), below);
  };
  if (has_registers_of_16(e, v)) return above(v.add(exp_by_table(e, y, -1), v.f(1)));
  if (!e.has_fma()) {
    const Exponent t = split_exponent(v, e.ir.CreateFNeg(y));
    return above(v.fma(v.add(t.p, v.f(1)), v.power_of_two(t.n), v.f(1)));
  }
  // exp(−x) = 2ⁿ · p(x + n · ln 2): exp_near's coefficients, those of odd powers negated.
  std::array<double, exp_near.size()> p = exp_near;
  for (std::size_t k = 1; k < p.size(); k += 2) p[k] = -p[k];
  const Nearest n = nearest(v, y, -log2_e);
  llvm::Value* m = v.polynomial(v.fma(n.whole, v.f(0x1.62e43p-1), y), p);
  return above(v.fma(m, v.power_of_two(n.integer(v)), v.f(1)));
}

llvm::Value* emit_erf(Emitter& e, llvm::Value* x) {
  // erf(x)/x − 1 in x² on [0, 0.81] (2^−31.7), and −log erfc(x) on [0.9, 4] (2^−29 of erf).
  static constexpr std::array<double, 7> small = {0x1.06eba8p-3,  -0x1.812744p-2, 0x1.ce2e6p-4,
                                                  -0x1.b8162ap-6, 0x1.5513eep-8,  -0x1.acf7d6p-11,
                                                  0x1.6624aap-14};
  static constexpr std::array<double, 7> large = {0x1.5a8218p-13, 0x1.20b7a8p+0,  0x1.462096p-1,
                                                  0x1.aa7b36p-4,  -0x1.6dac94p-6, 0x1.91eccap-9,
                                                  -0x1.9fe708p-13};
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
  llvm::Value* f =
      v.sub(v.real(ir.CreateAdd(ir.CreateAnd(from_root, v.i(0x7fffff)), v.i(root_half))), v.f(1));
  llvm::Value* square = v.mul(f, f);
  llvm::Value* y = v.fma(v.mul(square, f), v.polynomial(f, p), v.mul(n, v.f(ln2_low)));
  y = v.fma(square, v.f(-0.5), y);
  y = v.fma(n, v.f(ln2_high), v.add(f, y));
  y = ir.CreateSelect(ir.CreateFCmpOLT(x, v.f(infinity)), y, x);  // inf and NaN
  y = ir.CreateSelect(ir.CreateFCmpOLT(x, v.f(0)), v.f(quiet_nan), y);
  return ir.CreateSelect(ir.CreateFCmpOEQ(x, v.f(0)), v.f(-infinity), y);
}

}  // namespace gradc
