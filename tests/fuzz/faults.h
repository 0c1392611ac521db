// Owns deliberate faults: what a wrong pass might do, one at a time, so that it is known what the
// fuzz finds.
#pragma once

#include <optional>
#include <string_view>

#include "fuzz/random.h"
#include "ir/program.h"

namespace gradc::fuzz {

inline constexpr int fault_count = 10;
std::string_view fault_name(int fault);  // from 1

// The program with the fault in a random place that @step, @grad or @loss reaches; nothing where it
// has no such place.
std::optional<Program> with_fault(const Program& program, int fault, Random& random);

}  // namespace gradc::fuzz
