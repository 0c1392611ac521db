// Owns the measure of what rounding may do to a program: the same program with a small relative
// noise in every operation. Where its results move, a difference says nothing.
#pragma once

#include "ir/program.h"

namespace gradc::fuzz {

// Every real that an operation outside regions gives times 1 + size · u, u uniform in [−1, 1) and
// different for each element. `program` has no launches.
Program with_noise(const Program& program, double size, std::uint64_t seed);

}  // namespace gradc::fuzz
