// Loading and running of planned entries.
#include "runtime/step.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <unordered_map>

namespace gradc {
namespace {

std::int64_t nanoseconds() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}
std::vector<std::int64_t> strides_of(const Function& f, ValueId v) {
  const Placement& at = f.placed[v.index];
  return {at.strides.begin(), at.strides.begin() + f.type(v).axes.size()};
}

}  // namespace

KernelInstance instance_of(const Program&, const Function& f, const Op& launch) {
  KernelInstance out{launch.attr.callee, {}};
  for (ValueId v : launch.operands) out.buffers.push_back({strides_of(f, v), -1});
  for (ValueId v : launch.results) {
    BufferLayout layout{strides_of(f, v), -1};
    const Placement& at = f.placed[v.index];
    for (std::size_t i = 0; i < launch.operands.size(); ++i) {
      const Placement& o = f.placed[launch.operands[i].index];
      if (o.arena == at.arena && o.offset == at.offset) layout.alias = static_cast<int>(i);
    }
    out.buffers.push_back(std::move(layout));
  }
  return out;
}

Result<Step> Step::load(const Program& program, FunctionId planned, KernelStore& store, Pool& pool, const Bases& bases,
                        LoadReport& report) {
  const Function& f = program.function(planned);
  Step step;
  step.pool_ = &pool;
  std::vector<KernelInstance> instances;
  for (OpId id : f.body().ops) {
    const Op& op = f.op(id);
    if (op.code != Opcode::launch_) continue;
    instances.push_back(instance_of(program, f, op));
    const Function& kernel = program.function(op.attr.callee);
    Launch launch{.name = std::string(program.text(kernel.name)), .cost = launch_cost(program, f, op)};
    for (const auto* values : {&op.operands, &op.results})
      for (ValueId v : *values) {
        const Placement& at = f.placed[v.index];
        launch.buffers.push_back(bases[index(at.arena)] + at.offset);
      }
    step.launches_.push_back(std::move(launch));
  }
  Result<std::vector<KernelStore::Kernel>> kernels = store.get(program, instances, pool.size(), report);
  if (!kernels) return kernels.failure();
  std::int64_t shared = 0, local = 0;
  std::unordered_map<const void*, int> distinct;
  for (std::size_t i = 0; i < kernels->size(); ++i) {
    const KernelStore::Kernel& k = (*kernels)[i];
    step.launches_[i].kernel = k;
    shared = std::max(shared, k.shared_bytes);
    local = std::max(local, k.local_bytes);
    distinct[reinterpret_cast<const void*>(k.fn)]++;
  }
  report.launches += static_cast<int>(kernels->size());
  report.kernels += static_cast<int>(distinct.size());
  // One page between scratches keeps workers off each other's cache lines.
  const auto rounded = [](std::int64_t n) { return static_cast<std::size_t>((n + 4095) / 4096 * 4096 + 4096); };
  Result<Mapping> scratch = Mapping::allocate(rounded(shared) + rounded(local) * static_cast<std::size_t>(pool.size()));
  if (!scratch) return scratch.failure();
  step.scratch_ = std::move(*scratch);
  step.shared_ = step.scratch_.data();
  if (poison_wanted()) step.poison_ = Poison::of(f, bases);
  std::size_t moments = 0;
  for (Launch& l : step.launches_) {
    l.first_moment = moments;
    moments += static_cast<std::size_t>(l.kernel.phases);
  }
  for (std::vector<Taken>& taken : step.taken_) taken.resize(static_cast<std::size_t>(pool.size()));
  step.moments_.assign(static_cast<std::size_t>(pool.size()), std::vector<Moment>(moments));
  for (int w = 0; w < pool.size(); ++w)
    step.local_.push_back(step.shared_ + rounded(shared) + rounded(local) * static_cast<std::size_t>(w));
  return step;
}

void Step::poison_behind(int worker, std::size_t launch) {
  if (worker == 0) poison(poison_->behind[launch]);
  pool_->barrier();
}

template <bool timed>
void Step::execute(int worker) {
  const int workers = pool_->size();
  std::byte* const local = local_[static_cast<std::size_t>(worker)];
  Moment* moment = timed ? moments_[static_cast<std::size_t>(worker)].data() : nullptr;
  const auto mine = static_cast<std::size_t>(worker);
  std::size_t turn = 0;
  for (std::size_t n = 0; n < launches_.size(); ++n) {
    const Launch& l = launches_[n];
    for (int phase = 0; phase < l.kernel.phases; ++phase, turn ^= 1) {
      const bool last = phase + 1 == l.kernel.phases;
      // The phase before is behind a barrier, or was this worker's alone: its counters are free for the next.
      taken_[turn ^ 1][mine].count = 0;
      Taken* const taken = taken_[turn].data();
      if (timed) moment->begin = nanoseconds();
      if (l.kernel.parallel)
        l.kernel.fn(l.buffers.data(), worker, workers, phase, shared_, local, taken);
      else if (worker == 0)
        l.kernel.fn(l.buffers.data(), 0, 1, phase, shared_, local, taken);
      if (timed) {
        if (last && l.kernel.tiles_at >= 0 && (l.kernel.parallel || worker == 0))
          std::memcpy(moment->tiles, local + l.kernel.tiles_at, sizeof moment->tiles);
        moment->end = moment->released = nanoseconds();
      }
      if (last || l.kernel.parallel) {
        pool_->barrier();
        if (timed) moment->released = nanoseconds();
      }
      if (timed) ++moment;
    }
    if (poison_) poison_behind(worker, n);
  }
  for (std::vector<Taken>& taken : taken_) taken[mine].count = 0;
}

void Step::run() {
  if (poison_) poison(poison_->before);
  pool_->run([this](int worker) { execute<false>(worker); });
}
void Step::run_timed() {
  if (poison_) poison(poison_->before);
  pool_->run([this](int worker) { execute<true>(worker); });
  for (Launch& l : launches_) {
    l.tiles_computed = l.tiles = 0;
    for (int w = 0; w < workers() && l.kernel.tiles_at >= 0; ++w) {
      l.tiles_computed += moments(w, l).back().tiles[0];
      l.tiles += moments(w, l).back().tiles[1];
    }
  }
}

}  // namespace gradc
