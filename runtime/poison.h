// Owns the poison of memory that nobody should read: with GRADC_POISON=1 in the environment every
// byte of a value is set to 0xFF, a NaN or −1, before a step runs and again once its last reader
// has run, so that a stale read shows in the results. For tests; it costs as much as it writes.
#pragma once

#include <vector>

#include "runtime/memory.h"

namespace gradc {

// The elements of one value: stretches of `run` bytes, repeated along axes.
struct Fill {
  struct Along {
    std::int64_t extent, stride;  // bytes
  };
  std::byte* at = nullptr;
  std::int64_t run = 0;
  std::vector<Along> axes;
};
void poison(const std::vector<Fill>& fills);

bool poison_wanted();  // by the environment

// What to poison before the first launch, and behind each launch in order.
struct Poison {
  std::vector<Fill> before;
  std::vector<std::vector<Fill>> behind;
  static Poison of(const Function& planned, const Bases& bases);
};

}  // namespace gradc
