// Owns a loaded step: a planned entry's launches with their machine code and addresses. Running it
// allocates nothing and compiles nothing.
#pragma once

#include <memory>
#include <optional>
#include <span>
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

  // In the order of the plan's launches.
  struct Launch {
    std::string name;                // of the kernel
    KernelStore::Kernel kernel;
    std::vector<std::byte*> buffers;
    Cost cost;
    std::size_t first_moment = 0;    // of its phases, by worker
    std::int64_t tiles_computed = 0, tiles = 0;   // of attention, in the last timed run
  };
  const std::vector<Launch>& launches() const { return launches_; }

  // When a worker was in a phase of a launch: it entered the kernel, left it, and went on, behind
  // the barrier. Between phases of a launch on the first worker alone there is none. Nanoseconds of the steady clock.
  struct Moment {
    std::int64_t begin = 0, end = 0, released = 0;
    std::int64_t tiles[2] = {0, 0};  // of attention, in the last phase: computed, all
  };
  void run_timed();                  // the same step, and each worker writes down its moments
  int workers() const { return pool_->size(); }
  // Of the last timed run, a moment a phase.
  std::span<const Moment> moments(int worker, const Launch& launch) const {
    return std::span(moments_[static_cast<std::size_t>(worker)])
        .subspan(launch.first_moment, static_cast<std::size_t>(launch.kernel.phases));
  }

 private:
  template <bool timed>
  void execute(int worker);
  void poison_behind(int worker, std::size_t launch);
  Pool* pool_ = nullptr;
  std::vector<Launch> launches_;
  Mapping scratch_;
  std::byte* shared_ = nullptr;
  std::vector<std::byte*> local_;
  std::vector<Taken> taken_[2];   // by worker; phases in turn
  std::optional<Poison> poison_;
  std::vector<std::vector<Moment>> moments_;   // by worker
};

}  // namespace gradc
