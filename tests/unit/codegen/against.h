// Owns the comparison of compiled kernels with the interpreter: one kernel as text, over targets,
// orders of axes in memory, numbers of workers and places of results.
#pragma once

#include <string>

#include "unit/codegen/execute.h"

namespace gradc::testing {

struct Tolerance {
  double ulps = 2;      // of a float of the expected size
  double absolute = 0;  // times the largest expected magnitude of the result
};

// The kernel @k of the text, verified.
Program kernel_program(const std::string& text);

struct Trial {
  Tolerance tolerance;
  std::vector<Array> arguments = {};  // none: random ones
  // Orders of axes in memory: 0 as written, 1 so with padded rows, 2 reversed, 3 each buffer
  // another.
  std::vector<int> layouts = {0, 1, 2, 3};
  std::vector<std::pair<int, int>> aliases = {};  // result, argument in whose place it lies
  std::uint64_t seed = 1;
  bool every_target = false;  // otherwise the best, and the others by turns
};
// Compiles @k for targets that this machine runs, in several layouts, and compares all results with
// the interpreter; and that 1, 2 and 3 workers give the same bits.
void check_kernel_against_interpreter(const Program& program, const Trial& trial);

// "" or how `got` differs from the oracle's result of the same type.
std::string difference(const Array& got, const Array& expected, const Tolerance& tolerance);

}  // namespace gradc::testing
