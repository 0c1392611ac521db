// Owns what the tests of grouping and planning share: drawn arguments, comparison, random programs,
// and a machine that runs a plan in memory, byte for byte where the plan says.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "ir/evaluate.h"
#include "ir/program.h"

namespace gradc::plan_test {

Program parsed(const std::string& text);        // verified; fails the test otherwise
using Settings = std::vector<std::pair<std::string, std::string>>;
// A model that the binary brings, with numbers of its header set, as the frontend gives it.
Program shipped(const std::string& model, const Settings& set);
int copies(const Program& planned);             // launches of kernels that the planner made to copy
void check_round_trip(const Program& program);  // verifies, prints, parses, prints the same

// Reals in (−1.5, 1.5), integers 0 … 3, fair bools; the same for the same seed.
std::vector<Array> draw(const Function& f, std::uint64_t seed);
std::vector<Array> interpret(const Program& p, std::string_view function,
                             const std::vector<Array>& arguments);
// Runs a planned function on arenas: operands are read from their places, results written to
// theirs, and an element that something else overwrote reads as NaN. `arguments` lie in their
// places before, results after.
std::vector<Array> run_in_memory(const Program& p, std::string_view function,
                                 const std::vector<Array>& arguments);
// "" or the first difference; reals to 1e-12 relative to the largest of the array.
std::string difference(const std::vector<Array>& a, const std::vector<Array>& b);

// A function @f of random operations of every kind that stands outside `control`, some values
// returned.
Program random_program(std::uint64_t seed);

}  // namespace gradc::plan_test
