// Owns the machine's rates, measured in this process: multiply-adds in registers (codegen/rates.h)
// and streams through memory; and what a launch would take if it ran at them (Williams, Waterman
// and Patterson, "Roofline", CACM 2009).
#pragma once

#include <memory>

#include "ir/diagnostic.h"
#include "ir/target.h"
#include "passes/cost.h"

namespace gradc {

struct Roofline {
  double f32 = 0, bf16 = 0;  // FLOP a second of all workers; bf16 0: the machine has no products of it
  // Bytes a second. In the last two all that is read and written counts: of a copy from one array to
  // another, past the caches or through them, whichever is faster here; of an update in place.
  double read = 0, copy = 0, update = 0;

  // The least seconds for the work, if none of its data lies in a cache: of the FLOP, the share
  // `pairs` runs at the rate of bf16; nothing is read faster than at `read`, and all bytes together move
  // no faster than at the best of the three.
  double seconds(const Cost& cost, double pairs) const;
};

// Measures by rounds of a third of a second, each rate the best of all: whoever shares the machine may take
// it for a while, so rounds stand apart, between the steps whose kernels are held against the rates.
class RooflineMeter {
 public:
  static constexpr int rounds = 3;
  // Takes 256 MiB.
  static Result<std::unique_ptr<RooflineMeter>> create(const Target& target, int threads);
  ~RooflineMeter();
  void round();
  int done() const { return done_; }
  const Roofline& rates() const { return rates_; }

 private:
  struct Loops;
  RooflineMeter();
  std::unique_ptr<Loops> loops_;
  Roofline rates_;
  int done_ = 0;
};

}  // namespace gradc
