// Owns the forms that kernels promise, by family (ir/README.md has the table): what codegen relies
// on and the verifier proves again.
#pragma once

#include <string>

#include "ir/program.h"

namespace gradc {

struct KernelFault {
  OpId op;          // may be invalid: the kernel as a whole
  std::string why;  // "": the kernel has the form of its family
};
// Everything else about the function must hold already.
KernelFault check_kernel(const Program& program, const Function& kernel);

// Whether the operation is an address operation where it stands: a view or read whose tensors are
// arguments of the kernel or results of address operations.
bool is_address(const Function& kernel, const Op& op);

// A sum over all axes. In a contract kernel one of a value behind the contraction may be a result:
// the squared norm of a gradient, added up where the gradient is made.
bool is_total(const Function& kernel, const Op& op);

}  // namespace gradc
