// Owns what makes two functions the same but for names and places: a key for merging kernels and
// for caches of code.
#pragma once

#include <string>

#include "ir/program.h"

namespace gradc {

// Equal keys, equal functions up to names, locations, groups and placements: family, dtypes, axes
// (by order of occurrence, with extents), attributes (reals by bits), operands and results. The
// order of axes in types counts, since buffers lie in it. A bundle counts by its members' sizes and
// the flags that are asked for. Callees count by index, so keys of functions with calls compare
// within one program only; those of kernels anywhere. Linear.
std::string structure_key(const Program& program, const Function& function);

}  // namespace gradc
