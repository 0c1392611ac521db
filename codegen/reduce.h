// Owns how a reduction accumulates: what it starts from, takes in, and how partial ones are merged.
// A state is one value, of argmax two (the best so far and its position); each lane holds its own.
#pragma once

#include <span>
#include <vector>

#include "codegen/module.h"

namespace gradc {

struct Reduction {
  Opcode code;  // sum, amax, amin, argmax
  ValueId operand, result;
  DType dtype;  // of the operand
};

class Reducer {
 public:
  Reducer(Emitter& e, const Reduction& r, int lanes) : e_(e), r_(r), lanes_(lanes) {}

  static int parts(const Reduction& r) { return r.code == Opcode::argmax_ ? 2 : 1; }
  static DType part_type(const Reduction& r, int part) { return part == 0 ? r.dtype : DType::i32; }

  using State = std::vector<llvm::Value*>;
  // Of nothing: 0, −inf, +inf; argmax position 0.
  State identity() const;
  // `position` (i32) is asked for by argmax alone. Lanes that are off keep what they have.
  State take(const State& state, llvm::Value* x, llvm::Value* position,
             llvm::Value* mask = nullptr) const;
  // The same of a real maximum or minimum whose NaNs are noted elsewhere: one instruction where
  // take() needs four. A NaN changes nothing.
  State take_number(const State& state, llvm::Value* x, llvm::Value* mask) const;
  // Whether take_number() is for this reduction.
  static bool is_extreme(const Reduction& r) {
    return (r.code == Opcode::amax_ || r.code == Opcode::amin_) && is_real(r.dtype);
  }
  // Of positions in `a` and then `b`; argmax prefers the lower position among equals, whatever the
  // order.
  State merge(const State& a, const State& b) const;
  // Merges the lanes, neighbours at half the width first, in log₂ steps.
  State across_lanes(State state) const;
  // The result from a finished state.
  static llvm::Value* result(const Reduction& r, const State& state) {
    return state[r.code == Opcode::argmax_ ? 1 : 0];
  }

 private:
  llvm::Value* beyond(llvm::Value* x, llvm::Value* than) const;  // i1: x is the better number
  llvm::Value* better(llvm::Value* x, llvm::Value* than) const;  // i1: x takes the place of `than`
  Emitter& e_;
  const Reduction& r_;
  int lanes_;
};

}  // namespace gradc
