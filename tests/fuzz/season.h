// Owns what no model can say yet and the IR can: positions and bounds that are known at run time
// only, put into a program that the frontend made.
#pragma once

#include "fuzz/random.h"
#include "ir/program.h"

namespace gradc::fuzz {

// @loss with a value or two passed through a `bound` or an `update` at a place that follows from
// %step. The value keeps its sign and does not grow, so whatever may be done with it still may.
Program with_positions(const Program& program, Random& random);

}  // namespace gradc::fuzz
