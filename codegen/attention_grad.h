// Owns what the parts of attention's gradient share: the plan of its sums and their accumulators.
// Loops, outer to inner: units (`outer` batch axes that every large result has, and chunks of keys
// where these are few), which workers share; the other batch axes (`inner`); row axes that are not
// tiled; blocks of keys; blocks of rows. Every sum takes its terms in this order.
#pragma once

#include <vector>

#include "codegen/attention.h"

namespace gradc {

// A result: a sum of tiles, and where it grows.
struct GradSum {
  enum Kind : char {
    over_keys,  // contraction of a tile with an argument that has the keys; keeps all rows
    over_rows,  // the same over all rows; keeps the keys
    summed,     // `sum` of a tile
    scattered,  // `scatter` of a tile
  } kind;
  OpId op;
  int result;               // of the kernel
  ValueId tile;             // what is summed; with `pairs` before it is rounded
  ValueId argument, index;  // the contraction's other operand; the scatter's index
  AxisRole features;        // its axes that are none of the scores': the argument's, the scatter's

  bool pairs = false;  // a contraction of bf16 with bf16
  bool rows = false, keys = false;  // keeps the tiled axis, the keys
  AxisRole outer, missing;          // outer axes that it has and lacks
  AxisRole inner;                   // inner axes that it has, if it grows through a whole unit
  AxisRole others;                  // row axes that are not tiled, as it has them
  bool whole = false;        // grows through a whole unit, not through one turn of the inner axes
  bool direct = false;       // in the result itself: it keeps rows and keys
  bool partial = false;      // units have a slot each in shared scratch, added up in a second phase
  std::int64_t columns = 1;  // consecutive elements of a row or key; lanes where neither is left
  llvm::Value* base = nullptr;  // of the accumulator, of the first slot

  // Rows and keys of the accumulator: products write whole blocks, other sums vectors of keys.
  std::int64_t row_extent(const Scores& s) const {
    return !rows ? 1 : kind == over_keys ? s.row_blocks() * tile_rows : s.row_extent;
  }
  std::int64_t key_extent(const Scores& s) const { return keys ? s.key_blocks() * s.tile_keys : 1; }
  std::int64_t elements(const Scores& s) const {  // of a slot
    return inner.extent * others.extent * row_extent(s) * key_extent(s) * columns;
  }
};

struct GradPlan {
  AttentionGradForm form;
  Scores scores;
  std::vector<Condition> conditions;  // none if some result needs tiles that they exclude
  AxisRole outer, inner;
  std::int64_t chunks = 1;  // blocks c, c + chunks, … of keys are chunk c
  std::vector<GradSum> sums;
};
// Fails with exit 2 on an argument of a contraction that has both rows and keys, and on sums of
// another dtype than the scores'.
Result<GradPlan> plan_grad(const Emitter& e);

// The position in a role of a point's, one number.
llvm::Value* position_in(Emitter& e, const AxisRole& role, const Point& point);

// Accumulators: cleared, added to and stored. `point`: a plane of the scores.
class GradSums {
 public:
  GradSums(Emitter& e, GradPlan& plan, const Products& products, Scratch& scratch);
  // At the head of a unit or, of those that do not grow through a whole unit, of a turn of the
  // inner axes; and at its end.
  void clear(const Point& point, llvm::Value* unit, llvm::Value* chunk, bool whole);
  void store(const Point& point, llvm::Value* chunk, bool whole);
  // The second phase, if there is one.
  bool has_second_phase() const;
  void add_slots();
  // The accumulator of a sum at a plane, in a unit, from a row and key on.
  llvm::Value* at(const GradSum& sum, const Point& point, llvm::Value* unit, llvm::Value* row,
                  llvm::Value* key);
  // Adds a vector of keys, at a point of it; lanes that are off count for nothing. Unless the sum
  // keeps the keys, x must be 0 there.
  void add_vector(const GradSum& sum, const Point& point, llvm::Value* unit, llvm::Value* row,
                  llvm::Value* key, llvm::Value* x);
  void add_scattered(const GradSum& sum, const Point& point, llvm::Value* unit, llvm::Value* row,
                     llvm::Value* key, llvm::Value* x, llvm::Value* index);

 private:
  using Read = llvm::function_ref<llvm::Value*(llvm::Value* offset, int lanes)>;
  void put_lines(const GradSum& sum, const Point& point, llvm::Value* lo, llvm::Value* hi,
                 llvm::Value* chunk, std::int64_t chunks, Read read);
  void fill_zero(llvm::Value* base, std::int64_t elements);
  llvm::Value* slot(const GradSum& sum, llvm::Value* unit);
  void for_own_keys(llvm::Value* chunk, std::int64_t chunks, std::int64_t step, Emitter::Body body);
  Emitter& e_;
  GradPlan& plan_;
  const Scores& s_;
  llvm::Value *lane_values_ = nullptr, *lane_indices_ = nullptr;  // of a vector that is scattered
};

}  // namespace gradc
