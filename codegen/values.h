// Owns the evaluation of a kernel's body at a point of its index space: sources, elementwise
// operations, `expand` and address operations (ir/README.md), which become addresses and masks of
// loads. The anchors (contractions, reductions, scatter, update) are the families': they bind the
// anchor's value before.
#pragma once

#include <memory>
#include <vector>

#include "codegen/index.h"

namespace gradc {

// Where values are computed: a position for every axis that they have, and which lanes exist.
struct Point {
  std::vector<Index> index;  // by AxisId.index; first == each == nullptr: the axis is not in scope
  int lanes = 1;
  // i1 of `lanes`; null: all. Lanes that are off are neither read nor written.
  llvm::Value* mask = nullptr;
};

// All axes of the kernel out of scope.
Point make_point(const Emitter& e, int lanes);
// `axis` at `first`, the same in all lanes, or (step 1) consecutive along the lanes. `multiple`: as
// in Index.
void set_axis(Point& point, AxisId axis, llvm::Value* first, std::int64_t step = 0,
              std::int64_t multiple = 1);

// Values at one point, each emitted once where it is first asked for (in the block where the
// builder stands then: use one Values for straight-line code only).
class Values {
 public:
  Values(Emitter& e, const Point& point);
  ~Values();
  const Point& point() const { return point_; }
  void bind(ValueId v, llvm::Value* x) { known_[v.index] = x; }  // has `lanes` elements
  // A value that is the same in every lane, as one element: a gather by it reads consecutive
  // elements.
  void bind_uniform(ValueId v, llvm::Value* x) { uniform_[v.index] = x; }
  llvm::Value* get(ValueId v);     // `lanes` elements, dtype as in registers
  llvm::Value* scalar(ValueId v);  // of a value without axes: one element
  // Stores x, the result `r` (0 for the first), at the point.
  void store_result(int r, llvm::Value* x);
  void store_result(int r);  // its own value
  // What store_result put there. The result's elements lie one behind the other along the lanes.
  llvm::Value* load_result(int r);

 private:
  // The element of `v` at explicit positions (by axis of v's type), 0 where `on` (i1 of lanes;
  // null: all) is off.
  struct Place {
    std::vector<Index> index;  // by AxisId.index
    llvm::Value* on = nullptr;
  };
  // Which operand is emitted together with the operation, −1: none. What nothing else reads and is
  // not known yet: a product below a sum or difference, which become one fma and round once; a
  // sigmoid below a product, which is its quotient's numerator.
  int joined_operand(const Op& op) const;
  llvm::Value* joined(const Op& op, int operand);
  bool is_below_its_maximum(ValueId v) const;
  llvm::Value* emit(ValueId v);
  llvm::Value* read(ValueId v, Place place);
  llvm::Value* read_concat(const Op& op, const Place& place);
  llvm::Value* read_argument(ValueId v, const Place& place);
  Index integer_at(ValueId v, const Place& place);
  Emitter& e_;
  Point point_;
  std::vector<llvm::Value*> known_, uniform_;  // by ValueId.index
  std::vector<int> argument_;                  // by ValueId.index: which buffer, or −1
  std::unique_ptr<Values> scalars_;
};

// The index of a draw `v` (a `uniform`) in its own order of elements.
Index draw_index(Emitter& e, const Point& point, ValueId v);
// The offset in elements into a buffer at positions `index` (by AxisId.index) along its type's
// axes.
Index buffer_offset(Emitter& e, int buffer, const std::vector<Index>& index, int lanes);
// Asks for the cache lines of `count` consecutive elements of a buffer from `first` on, which need not
// exist: a result's to be stored to. near: into the L1, else the L2.
void prefetch_run(Emitter& e, int buffer, const Point& first, std::int64_t count, bool near);
// codegen/flags.cpp: whether element `index` of a bundle's flat order has the flag that `attr`
// names.
llvm::Value* emit_flags(Emitter& e, const Attr& attr, const Index& index, int lanes);

}  // namespace gradc
