// Owns running of single kernels in tests: compiled, linked, and called as the runtime would,
// worker by worker in one thread, which must give the same.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "codegen/codegen.h"
#include "ir/evaluate.h"
#include "ir/program.h"
#include "runtime/jit.h"

namespace gradc::testing {

// Targets that this machine runs, best first.
std::vector<Target> runnable_targets();

// The same for what has bf16: the one that multiplies it by pairs ahead.
std::vector<Target> bf16_targets();

// Strides for a buffer of the type: row-major in the order `order` (indices into the type's axes,
// outer to inner), with `slack` elements behind every row of the innermost axis.
BufferLayout layout(const Function& f, const Type& type, const std::vector<int>& order,
                    std::int64_t slack = 0);
BufferLayout row_major(const Function& f, const Type& type);
std::int64_t elements_of(const Function& f, const Type& type,
                         const BufferLayout& layout);  // that it spans

// One launch's memory and code.
class Execution {
 public:
  // Fails the test if the kernel does not compile or link.
  Execution(const Program& program, KernelInstance instance, const Target& target);
  // Runs on arguments (row-major by their types) and gives the results likewise. Results that alias
  // an argument start with its elements. `workers` run one after the other, last first, in every
  // phase: of two each does its own share, of more the first to run takes those of all.
  std::vector<Array> run(const std::vector<Array>& arguments, int workers);
  const Compiled& compiled() const { return compiled_; }
  // Of the last run: tiles of scores that were computed, and all (Compiled::tiles_at).
  struct Tiles {
    std::int64_t computed = 0, all = 0;
  };
  Tiles tiles() const { return tiles_; }

 private:
  KernelInstance instance_;
  const Function& kernel_;
  Compiled compiled_;
  KernelFn fn_ = nullptr;
  Tiles tiles_;
};

// Elements in −1 … 1 (integers: −3 … 3, bools), a function of the seed.
Array random_array(const Function& f, const Type& type, std::uint64_t seed);
bool same_bits(const Array& a, const Array& b);

}  // namespace gradc::testing
