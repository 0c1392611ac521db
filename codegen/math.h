// Owns the elementary functions of vectors: polynomials with their reductions, emitted inline,
// since LLVM turns a vector `llvm.exp` into one call to libm a lane. Every function takes f32
// values of any number of lanes (a plain float too) and is right on ±0, ±inf, NaN and subnormals.
// The errors were measured over all (or, of two arguments, millions of) floats against libm's
// double results; tests/unit/codegen/math.cpp asserts them. 1 ULP is the distance of neighbouring
// floats at the exact result.
//
// fma is used where the target has it. Where it has not, a·b + c is rounded twice; every reduction
// is written so that its products are exact then, too, and the errors hold for both.
#pragma once

#include "codegen/module.h"

namespace gradc {

// ≤ 1 ULP. Overflows to inf above 88.7228, rounds to subnormals and 0 as IEEE would.
llvm::Value* emit_exp(Emitter& e, llvm::Value* x);

// exp of x ≤ 0, or a little above, with fewer steps where the target has an instruction for the exponent:
// ≤ 1.1 ULP in −5 … 5, 3.2e-7 of the result at −87. exp(−inf) = 0.
llvm::Value* emit_exp_below(Emitter& e, llvm::Value* x);

// ≤ 1 ULP. log(±0) = −inf, of a negative number NaN.
llvm::Value* emit_log(Emitter& e, llvm::Value* x);

// ≤ 1.5 ULP. An odd polynomial below 0.6, 1 − 2/(exp(2|x|) + 1) above; odd, bit for bit.
llvm::Value* emit_tanh(Emitter& e, llvm::Value* x);

// 1/(1 + exp(−x)): ≤ 2.9 ULP down to 2⁻²¹, 6.1 down to 2⁻¹²⁶, below that any number from 0 to
// 2⁻¹²⁵. With `factor`: its product with that, rounded no second time.
llvm::Value* emit_sigmoid(Emitter& e, llvm::Value* x, llvm::Value* factor = nullptr);

// ≤ 1.5 ULP. An odd polynomial below 0.9, 1 − exp(−Q(|x|)) above; odd, bit for bit.
llvm::Value* emit_erf(Emitter& e, llvm::Value* x);

// ≤ 1.5 ULP for every finite x; of ±inf NaN. Up to |x| = 2¹⁹ the multiple of π/2 is taken off in
// f64 (Cody and Waite); if any lane lies beyond, all lanes go another way, by the bits of 2/π
// (Payne and Hanek), which is exact and several times slower.
llvm::Value* emit_sin(Emitter& e, llvm::Value* x);
llvm::Value* emit_cos(Emitter& e, llvm::Value* x);

// ≤ 1 ULP. 2^(y·log₂|x|) in f64; special cases as C's pow: pow(x, 0) = pow(1, y) = 1, also for NaN;
// a negative x has a power at integers only.
llvm::Value* emit_pow(Emitter& e, llvm::Value* x, llvm::Value* y);

}  // namespace gradc
