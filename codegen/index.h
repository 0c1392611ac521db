// Owns positions as code: what is known of a position for all lanes, and arithmetic that keeps it
// known.
#pragma once

#include <utility>

#include "codegen/module.h"

namespace gradc {

// An element's position along one axis, for all lanes: first + k·step in lane k, or (where that is
// not so) one value a lane.
struct Index {
  llvm::Value* first = nullptr;  // i64
  std::int64_t step = 0;
  llvm::Value* each = nullptr;  // <lanes x i64>; when set, first and step do not count
  std::int64_t multiple = 1;  // `first` is known to be a multiple of it
};

bool linear(const Index& x);  // not one value a lane
Index constant_index(Emitter& e, std::int64_t k);
Index affine(Emitter& e, const Index& x, std::int64_t m, std::int64_t k, int lanes);  // k + m·x
Index sum(Emitter& e, const Index& a, const Index& b, int lanes);
// Quotient and remainder by a positive constant of x, which is in 0 … extent − 1 wherever it
// counts.
std::pair<Index, Index> divide(Emitter& e, const Index& x, std::int64_t by, std::int64_t extent,
                               int lanes);
// All lanes of an index as <lanes x i64> (i64 where lanes is 1).
llvm::Value* every_lane(Emitter& e, const Index& index, int lanes);

// i1 of lanes: lo ≤ x < hi.
llvm::Value* within(Emitter& e, const Index& x, llvm::Value* lo, llvm::Value* hi, int lanes);
llvm::Value* within(Emitter& e, const Index& x, std::int64_t lo, std::int64_t hi, int lanes);
// Of two masks, either of which may be null: all.
llvm::Value* both(Emitter& e, llvm::Value* a, llvm::Value* b);

}  // namespace gradc
