// Owns the machine code of kernels: made by LLVM or found on disk, linked, and given by key.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "codegen/codegen.h"
#include "runtime/jit.h"

namespace gradc {

// What loading cost and gave, for the log and for bench.
struct LoadReport {
  int launches = 0, kernels = 0;     // kernels: distinct machine code
  int compiled = 0, cached = 0;      // by LLVM; found on disk
  double llvm_s = 0;                 // wall time of making all kernels, or of finding them
  double link_s = 0;
};

// Machine code by key, shared by all entries of a process, and with other runs through the cache on
// disk: nothing is compiled twice.
class KernelStore {
 public:
  struct Kernel {
    KernelFn fn = nullptr;
    int phases = 1;
    std::int64_t shared_bytes = 0, local_bytes = 0;
    bool parallel = true;
    std::int64_t tiles_at = -1, tile_planes = 0;   // as in Compiled
  };
  // cache: the directory of runtime/cache.h; empty: none. A warning about it goes to stderr once.
  explicit KernelStore(Target target, const std::string& cache = "");
  ~KernelStore();
  const Target& target() const;
  // Compiles what is missing, several at once; afterwards every instance is there. Kernels in the order
  // of the instances.
  Result<std::vector<Kernel>> get(const Program& program,
                                  const std::vector<KernelInstance>& instances, int threads,
                                  LoadReport& report);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace gradc
