// Owns a loaded step: a planned entry's launches with their machine code and addresses. Running it
// allocates nothing and compiles nothing.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "passes/cost.h"
#include "runtime/kernels.h"
#include "runtime/memory.h"
#include "runtime/poison.h"
#include "runtime/pool.h"

namespace gradc {

// How each launch's buffers lie, from the placements of a planned function.
KernelInstance instance_of(const Program& program, const Function& planned, const Op& launch);

class Step {
 public:
  // `bases` has the addresses of all arenas that the plan uses, large enough (summarize_plan). The
  // program is not needed afterwards.
  static Result<Step> load(const Program& program, FunctionId planned, KernelStore& store, Pool& pool, const Bases& bases,
                           LoadReport& report);
  void run();                        // with GRADC_POISON=1 dead values are overwritten (runtime/poison.h)

  // Per launch, for profiles: name of the kernel, and after run_timed() its seconds.
  struct Launch {
    std::string name;
    KernelStore::Kernel kernel;
    std::vector<std::byte*> buffers;
    double seconds = 0;
    Cost cost;
    std::int64_t tiles_computed = 0, tiles = 0;   // of attention, in the last timed run
  };
  void run_timed();                  // adds each launch's wall time to its seconds; counts tiles
  std::vector<Launch>& launches() { return launches_; }

 private:
  void execute(int worker, bool timed);
  void poison_behind(int worker, std::size_t launch);
  void count_tiles(Launch& launch) const;
  Pool* pool_ = nullptr;
  std::vector<Launch> launches_;
  Mapping scratch_;
  std::byte* shared_ = nullptr;
  std::vector<std::byte*> local_;
  std::optional<Poison> poison_;
};

}  // namespace gradc
