// Owns samples of every operation as text, generated from ir/ops.def where the row's kind says how
// it is written, so that a new row without a sample fails.
#pragma once

#include <string>
#include <vector>

#include "ir/diagnostic.h"
#include "ir/program.h"

namespace gradc::samples {

// Lines (with regions: several) that give `%r`, in the function of `program_around`; of
// an elementwise operation one for each dtype that it takes. Empty: no sample is known.
std::vector<std::string> of(Opcode code);

// A program with `lines` in a function @f that returns its first argument; a bundle, a callee, a
// kernel.
std::string program_around(const std::string& lines);

// All samples, each in its program.
std::vector<std::string> all_programs();

// Parses, and fails the test with the message if it cannot.
Program parse(const std::string& text);

}  // namespace gradc::samples
