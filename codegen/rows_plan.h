// Owns the order of work of a rows kernel: how many passes over the reduced axes it takes, what
// each computes, and which values are kept between passes rather than computed again. It emits
// nothing.
#pragma once

#include <vector>

#include "codegen/reduce.h"
#include "codegen/space.h"

namespace gradc {

struct Pass {
  std::vector<int> reductions;    // that it completes, by index
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
  std::vector<ValueId> saved;
};

// `keep`: whether space for values between passes is to be had.
RowsPlan plan_rows(const Emitter& e, bool keep);

}  // namespace gradc
