// Owns the choice of loops over an index space: axes of one place are dropped, axes that every
// buffer walks alike become one, and one of them runs along the lanes. It emits nothing but loop
// counters.
#pragma once

#include <span>
#include <vector>

#include "codegen/values.h"

namespace gradc {

// One loop: `axis` carries the position, the axes merged into it stand at 0.
struct Dimension {
  AxisId axis;
  std::vector<AxisId> members;  // with `axis`
  std::int64_t extent = 1;      // of all members together
};

// How a load, a store or a draw moves when the position along an axis does.
struct Walk {
  int buffer = -1;  // −1: a draw, which walks its own order of elements
  bool store = false;
  ValueId value;                     // what is read, stored or drawn
  AxisList axes;                     // of the value that is read (or stored)
  std::vector<std::int64_t> stride;  // by AxisId.index, in elements; what is regular of it
  std::vector<bool> irregular;       // by AxisId.index
};

class Space {
 public:
  // Of what `roots` read; roots that are results of the kernel are stored, too.
  Space(const Emitter& e, std::span<const ValueId> roots);

  const std::vector<Walk>& walks() const { return walks_; }
  // Loops over `axes`, those with the larger strides outside. Extent 0 stays a loop of its own.
  std::vector<Dimension> dimensions(const AxisList& axes) const;
  // What one pass over the space `all` costs, in vector loads, when `lane` runs along the lanes.
  double cost(const std::vector<Dimension>& all, const Dimension& lane, int lanes) const;

 private:
  struct Form;
  void trace(ValueId v, ValueId read, std::vector<Form> forms, std::vector<ValueId>& pending);
  bool composes(AxisId outer, const Dimension& inner) const;
  std::int64_t order(AxisId a) const;
  const Emitter& e_;
  std::vector<Walk> walks_;
  std::vector<bool> pinned_;  // by AxisId.index: its position is used for itself
};

std::int64_t product(std::span<const Dimension> dimensions);
bool has_axis(const Dimension& d, const AxisList& axes);

// Sets all axes of `d`: at `first`, the same in all lanes, or along them.
void set_dimension(Emitter& e, Point& point, const Dimension& d, llvm::Value* first,
                   std::int64_t step = 0, std::int64_t multiple = 1);
// Axes of one place stand at 0.
void set_single_axes(Emitter& e, Point& point, const AxisList& axes);
// Sets `dims` from their joint row-major index.
void set_decoded(Emitter& e, Point& point, std::span<const Dimension> dims, llvm::Value* index);

// Values without any axis of `lane` that an evaluation of `roots` along these axes asks for first:
// what is worth computing once, outside. Constants are left out.
std::vector<ValueId> invariant_values(const Emitter& e, std::span<const ValueId> roots,
                                      std::span<const Dimension> inner);

// Whether the operation turns into addressing when its operand does (ir/README.md).
bool is_address_op(Opcode code);
// Relative work of one element of `v`, everything that it needs included once; reads count 1.
int work(const Emitter& e, std::span<const ValueId> roots);

}  // namespace gradc
