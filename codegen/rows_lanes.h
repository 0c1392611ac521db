// Owns rows with the lanes along a reduced axis, the run; other reduced axes are walked outside it.
// A row's sum: vectors of the run in turn to four tracks (fewer for short rows or heavy elements),
// in blocks of 4096 elements where the run is longer than that, blocks in order, tracks and then
// lanes merged in pairs.
#pragma once

#include "codegen/rows.h"

namespace gradc {

class ByLanes {
 public:
  ByLanes(RowsKernel& k, const Dimension& lane);

  bool straight() const {
    return straight_;
  }  // a row is emitted without loops, its values in registers
  std::int64_t saved_elements() const { return outer_count_ * padded_; }
  std::int64_t outer_count() const { return outer_count_; }

  // The kept axes at the row; one lane.
  Point row_point(llvm::Value* row) const;
  // One whole row.
  void row(llvm::Value* index) const;
  // Of a pass: what all elements of the row share.
  Bound invariants(const Pass& pass, Values& row) const;

  struct Range {
    llvm::Value *lo, *hi;
  };
  // A pass over a row.
  struct Sweep {
    const Pass& pass;
    const Point& row;
    const Bound& bound;
    const Saved& saved;
    const Point* next = nullptr;  // a row whose elements are fetched into the L2 meanwhile
  };
  // A pass over a range of the outer reduced positions and the whole run, or (there being no outer
  // ones) over a range of the run, which starts at a multiple of a turn.
  Accumulators sweep(const Sweep& s, Range outer, const Range* part) const;
  // Binds the row's results of a pass, from all its vectors.
  void finish(const Pass& pass, const Accumulators& state, Values& row) const;

 private:
  At at(const Point& row, llvm::Value* first, llvm::Value* left, const Bound& bound) const;
  Accumulators in_blocks(const Sweep& s, Range range, llvm::Value* saved_at,
                         const Accumulators& from) const;
  Accumulators run(const Sweep& s, Range range, llvm::Value* saved_at,
                   const Accumulators& from) const;
  bool around_one_position(const Sweep& s) const;
  void read_terms(const Pass& pass, Values& row) const;
  void fetch(const std::vector<int>& buffers, const Point& row, llvm::Value* i, bool near) const;

  RowsKernel& k_;
  Emitter& e_;
  const Dimension lane_;
  std::vector<Dimension> outer_;
  std::int64_t outer_count_, padded_;
  int lanes_, tracks_;
  bool straight_;
  // Buffers whose next row the second pass, which computes, fetches for the first, which waits for
  // memory; and those whose row the first pass asks for before the last stores it.
  std::vector<int> fetched_, stored_;
};

}  // namespace gradc
