// Owns machine code in this process: LLVM's ORC links the kernels' object files and gives their
// addresses. The only file of this room, with jit.cpp, that knows LLVM.
#pragma once

#include <memory>

#include "codegen/codegen.h"

namespace gradc {

class Jit {
 public:
  static Result<std::unique_ptr<Jit>> create(const Target& target);
  ~Jit();
  // Links one object and gives its entry. Each object has a name space of its own, so equal symbols of
  // two objects do not clash. Thread-safe.
  Result<KernelFn> add(const Compiled& compiled);

 private:
  Jit();
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace gradc
