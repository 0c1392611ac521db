// Owns the meaning of elementwise operations and of random draws on vectors: what one operation is
// in LLVM IR. Polynomials for exp, log, tanh, erf, sin and cos, each with its stated error; no call
// leaves the kernel. The register form of values is that of codegen/module.h.
#pragma once

#include <span>

#include "codegen/module.h"

namespace gradc {

// One operation of kind unary, binary or ternary. Operands have `lanes` elements each; `from` is
// the dtype of the last operand (of the only one; of both; of select's branches, its first operand
// being a bool), `to` the result's. Supported: f32, f64, i32, i64, bool as the type rules allow;
// NaN as ir/ops.def says; bf16 as
// operand or result of a cast from or to f32 (to nearest even).
llvm::Value* emit_elementwise(Emitter& e, Opcode code, std::span<llvm::Value* const> operands,
                              DType from, DType to, int lanes);

// A float (`lanes` of them) to the nearest bf16, ties to even, in its register form.
llvm::Value* round_to_bf16(Emitter& e, llvm::Value* x, int lanes);

// Draws in [0, 1) (ir/philox.h): seed, step, site are i64 scalars, index has `lanes` i64 elements.
llvm::Value* emit_uniform(Emitter& e, llvm::Value* seed, llvm::Value* step, llvm::Value* site,
                          llvm::Value* index, DType to, int lanes);
// The same for `lanes` consecutive indices from `first` (i64) on. lanes and first are multiples of
// 4: each block of four words is computed once.
llvm::Value* emit_uniform_run(Emitter& e, llvm::Value* seed, llvm::Value* step, llvm::Value* site,
                              llvm::Value* first, DType to, int lanes);

}  // namespace gradc
