// Owns the order of work of a rows kernel: how many passes over the reduced axes it takes, what
// each computes, and which values are kept between passes rather than computed again. It emits
// nothing.
#pragma once

#include <vector>

#include "codegen/reduce.h"
#include "codegen/space.h"

namespace gradc {

// A sum of one term: over select(position = at, x, 0), `at` the same along the row.
struct SingleTerm {
  int reduction;  // by index
  ValueId x, at;
};

// A condition `position = place` of a row.
struct OnePosition {
  ValueId condition, place;
};

// Kept between passes: in local scratch, or in the place of a result.
struct SavedValue {
  ValueId value;
  int result = -1;  // by index; −1: scratch
};

struct Pass {
  std::vector<int> reductions;    // that it completes, by index
  std::vector<SingleTerm> terms;  // that are read ahead of it, by pick_single_terms()
  std::vector<int> stores;        // results with the reduced axes, by index
  std::vector<int> saves, loads;  // values kept for later, taken from earlier passes, by index
  std::vector<ValueId> roots;     // what must be computed at each position: operands, stores, saves
};

struct RowsPlan {
  AxisList kept, reduced;  // P and R
  std::vector<Reduction> reductions;
  std::vector<Pass> passes;
  std::vector<int> row_results;  // results without the reduced axes
  // Reads that row results ask for, with the passes that they wait for. They come before stores,
  // which may lie where they read.
  std::vector<std::pair<ValueId, int>> row_reads;
  bool guarded = false;  // a result may lie where one of these reads
  std::vector<SavedValue> saved;
};

// `keep`: whether space for values between passes is to be had.
RowsPlan plan_rows(const Emitter& e, bool keep);

// For rows with their lanes along `lane`, the only reduced axis. Sums of one term (the right answer's
// logit beside the sum of all) become `terms` of their pass.
void pick_single_terms(const Emitter& e, RowsPlan& plan, AxisId lane);
// Chooses results in whose place saved values can wait: that spares the row a second place in the cache.
void save_in_results(const Emitter& e, RowsPlan& plan, AxisId lane);
// A condition that a pass asks for, true at one position of a row at most; invalid: none.
OnePosition one_position(const Emitter& e, const Pass& pass, const RowsPlan& plan, AxisId lane);

}  // namespace gradc
