// Owns the walk through a function's operations in the order of the text, regions included, without
// recursion: depth of nesting is the user's.
#pragma once

#include <vector>

#include "ir/program.h"

namespace gradc {

// Calls enter(region, owner) and leave(region, owner) around each region (the body's owner is
// invalid) and visit(op) for each operation, before its regions. The regions must form a tree
// (ir/verify.h).
template <class Enter, class Visit, class Leave>
void walk(const Function& f, Enter&& enter, Visit&& visit, Leave&& leave) {
  struct Frame {
    RegionId region;
    OpId owner;
    std::size_t next = 0;   // operation of the region
    std::size_t inner = 0;  // region of the operation before `next`
  };
  std::vector<Frame> stack{{RegionId{0}, {}}};
  enter(RegionId{0}, OpId{});
  while (!stack.empty()) {
    Frame& top = stack.back();
    const Region& region = f.regions[top.region.index];
    if (top.next > 0) {
      const OpId before = region.ops[top.next - 1];
      if (const Op& op = f.op(before); top.inner < op.regions.size()) {
        const RegionId r = op.regions[top.inner++];
        enter(r, before);
        stack.push_back({r, before});
        continue;
      }
    }
    if (top.next == region.ops.size()) {
      const Frame done = top;
      stack.pop_back();
      leave(done.region, done.owner);
      continue;
    }
    top.inner = 0;
    visit(region.ops[top.next++]);
  }
}

}  // namespace gradc
