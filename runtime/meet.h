// Owns which launches of a step need a barrier behind them. Neighbours that touch no byte in a way
// that would show their order run without one: a worker that is done with the first begins the
// second, and what one launch leaves unbalanced the next may even out.
#pragma once

#include <vector>

#include "runtime/memory.h"

namespace gradc {

// What a launch touches: addresses in all arenas, and how it runs.
struct Extent {
  struct Stretch {
    const std::byte *begin, *end;
  };
  std::vector<Stretch> read, written;
  bool serial = false;   // on the first worker alone
  bool shared = false;   // uses the scratch of all workers
};
// Of the launches of a planned function, in order; strided values are taken with what lies between.
std::vector<Extent> extents_of(const Function& planned, const Bases& bases);

// By launch: whether all workers meet behind it. Between two meetings no launch writes what another
// one touches, unless both run on the first worker, and at most one uses the shared scratch.
std::vector<bool> meetings(const std::vector<Extent>& launches);

}  // namespace gradc
