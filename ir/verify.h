// Owns what a well-formed program is. The numbered invariants stand at the head of ir/verify.cpp; each
// has a failing case in tests/unit/ir. Linear in the size of the program.
#pragma once

#include <string>
#include <vector>

#include "ir/program.h"

namespace gradc {

struct Fault {
  int invariant;          // its number in ir/verify.cpp
  FunctionId function;    // may be invalid: the program as a whole
  OpId op;                // may be invalid
  std::string message;    // with the operation's text
};
std::vector<Fault> verify(const Program& program);

}  // namespace gradc
