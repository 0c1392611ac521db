// Owns what the ways of running a rows kernel share: its loops, a pass at one position, and scratch
// for values kept between passes. The ways: rows.cpp (a row at a time, or blocks of few long rows)
// and columns.cpp (rows beside each other along the lanes). Each fixes the tree of its sums by
// extents and operations alone.
#pragma once

#include <memory>

#include "codegen/rows_plan.h"

namespace gradc {

struct RowsKernel {
  Emitter& e;
  RowsPlan plan;
  std::vector<Dimension> kept, reduced;  // loops over P and R
  std::int64_t rows = 1, length = 1;     // positions along P and R
  int cost = 1;                          // work of one element
  // NaNs that real maxima and minima meet are noted once for all tracks, beside the states: worth
  // it where comparisons leave their results in registers of their own.
  bool notes_nans = false;
  Point base;                            // one lane; axes of one place are set

  int reductions_in(const Pass& pass) const { return static_cast<int>(pass.reductions.size()); }
  const Reduction& reduction(const Pass& pass, std::size_t i) const {
    return plan.reductions[static_cast<std::size_t>(pass.reductions[i])];
  }
};

struct At;

// The states of a pass's reductions, `tracks` vectors each: [reduction][track].
class Accumulators {
 public:
  Accumulators(const RowsKernel& k, const Pass& pass, int tracks, int lanes);  // identities
  Accumulators(const Accumulators& like,
               std::span<llvm::Value* const> flat);  // as loops carry them
  std::vector<llvm::Value*> flat() const;
  bool empty() const { return states_.empty(); }
  void take(int reduction, std::span<At> at);  // its operand at at[t] into track t
  void merge(const Accumulators& other);  // track by track
  Reducer::State& state(int reduction, int track) {
    return states_[static_cast<std::size_t>(reduction * tracks_ + track)];
  }
  // All tracks of a reduction merged, neighbours first, and NaN where one was noted; still in lanes.
  Reducer::State merged(int reduction) const;
  Reducer reducer(int reduction) const {
    return Reducer(k_->e, k_->reduction(*pass_, static_cast<std::size_t>(reduction)), lanes_);
  }

 private:
  const RowsKernel* k_;
  const Pass* pass_;
  int tracks_, lanes_;
  std::vector<Reducer::State> states_;
  std::vector<llvm::Value*> nans_;  // by reduction: i1 of lanes, whether there was one; null: states say
};

// Values that do not change along a loop, computed before it.
struct Bound {
  std::vector<std::pair<ValueId, llvm::Value*>> uniform, each;  // the same in all lanes; one a lane
  void bind(Values& values) const;
};

// Local scratch for the saved values of `elements` positions (padded to whole vectors by the
// caller).
class Saved {
 public:
  Saved(const RowsKernel& k, std::int64_t elements);
  void load(const Pass& pass, Values& values, llvm::Value* index) const;
  void store(const Pass& pass, Values& values, llvm::Value* index) const;

 private:
  const RowsKernel& k_;
  std::vector<llvm::Value*> at_;
};
inline constexpr std::int64_t most_saved_bytes = 256 << 10;  // longer rows compute again
std::int64_t saved_bytes(const RowsKernel& k, std::int64_t elements);

// One vector at one position along R.
struct At {
  std::unique_ptr<Values> values;
  llvm::Value* saved = nullptr;     // index of its saved values; null: they are in registers
  llvm::Value* position = nullptr;  // i32 along R, for argmax
};
// A pass there: all values of all vectors first, then what is kept and stored, then track t of `to`
// takes in vector t.
void run_pass(const RowsKernel& k, const Pass& pass, std::span<At> at, const Saved& saved,
              Accumulators& to);

// loop(lo, hi) of `body` from identities, in blocks of `block` steps, blocks merged in order.
Accumulators in_blocks(
    const RowsKernel& k, const Pass& pass, int tracks, int lanes, std::int64_t extent,
    std::int64_t block,
    llvm::function_ref<Accumulators(llvm::Value* lo, llvm::Value* hi, const Accumulators& from)>
        body);
// The state of a loop as accumulators.
Accumulators loop(const RowsKernel& k, llvm::Value* lo, llvm::Value* hi, std::int64_t step,
                  const Accumulators& from,
                  llvm::function_ref<void(llvm::Value* i, Accumulators& state)> body);

// Before pass p: what row results read and can be read by then.
void read_for_row(const RowsKernel& k, std::size_t p, Values& row);
void store_row_results(const RowsKernel& k, Values& row);

inline constexpr std::int64_t row_block = 64;  // rows of columns summed on their own

void emit_row_by_row(RowsKernel& k, const Dimension& lane);  // lanes along the reduced axis `lane`
void emit_long_rows(RowsKernel& k,
                    const Dimension& lane);  // the same for few rows, cut into blocks
void emit_columns(RowsKernel& k,
                  const Dimension* lane);  // lanes along the kept axis `lane`, or none
void emit_streamed_columns(RowsKernel& k,
                           const Dimension& lane);  // one pass: blocks of rows, then their sums

}  // namespace gradc
