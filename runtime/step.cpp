// Loading and running of planned entries.
#include "runtime/step.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <mutex>
#include <thread>
#include <unordered_map>

namespace gradc {
namespace {

std::int64_t nanoseconds() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}
double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

std::vector<std::int64_t> strides_of(const Function& f, ValueId v) {
  const Placement& at = f.placed[v.index];
  return {at.strides.begin(), at.strides.begin() + f.type(v).axes.size()};
}

}  // namespace

struct KernelStore::State {
  Target target;
  std::unique_ptr<Jit> jit;
  std::unordered_map<std::string, Kernel> kernels;
};

KernelStore::KernelStore(Target target) : state_(std::make_unique<State>()) { state_->target = std::move(target); }
KernelStore::~KernelStore() = default;
const Target& KernelStore::target() const { return state_->target; }

Result<std::vector<KernelStore::Kernel>> KernelStore::get(const Program& program,
                                                          const std::vector<KernelInstance>& instances, int threads,
                                                          LoadReport& report) {
  if (!state_->jit) {
    Result<std::unique_ptr<Jit>> jit = Jit::create(state_->target);
    if (!jit) return jit.failure();
    state_->jit = std::move(*jit);
  }
  struct Job {
    const KernelInstance* instance;
    std::string key;
    std::optional<Result<Compiled>> out;
  };
  std::vector<std::string> keys;
  std::vector<Job> jobs;
  std::unordered_map<std::string, std::size_t> queued;
  for (const KernelInstance& i : instances) {
    keys.push_back(key_of(program, i, state_->target));
    if (!state_->kernels.contains(keys.back()) && queued.try_emplace(keys.back(), jobs.size()).second)
      jobs.push_back({&i, keys.back(), {}});
  }
  auto begin = std::chrono::steady_clock::now();
  std::atomic<std::size_t> next{0};
  const auto work = [&] {
    for (std::size_t j; (j = next.fetch_add(1)) < jobs.size();)
      jobs[j].out.emplace(compile(program, *jobs[j].instance, state_->target));
  };
  std::vector<std::thread> helpers;
  for (int t = 1; t < std::min<int>(threads, static_cast<int>(jobs.size())); ++t) helpers.emplace_back(work);
  work();
  for (std::thread& t : helpers) t.join();
  report.compile_s += seconds_since(begin);
  begin = std::chrono::steady_clock::now();
  for (Job& j : jobs) {
    if (!j.out->ok()) return j.out->failure();
    Compiled& c = **j.out;
    Result<KernelFn> fn = state_->jit->add(c);
    if (!fn) return fn.failure();
    state_->kernels[j.key] = {*fn, c.phases, c.shared_bytes, c.local_bytes, c.parallel, c.tiles_at, c.tile_planes};
  }
  report.link_s += seconds_since(begin);
  report.compiled += static_cast<int>(jobs.size());
  std::vector<Kernel> out;
  for (const std::string& k : keys) out.push_back(state_->kernels.at(k));
  return out;
}

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
  for (std::size_t n = 0; n < launches_.size(); ++n) {
    const Launch& l = launches_[n];
    for (int phase = 0; phase < l.kernel.phases; ++phase) {
      const bool last = phase + 1 == l.kernel.phases;
      if (timed) moment->begin = nanoseconds();
      if (l.kernel.parallel)
        l.kernel.fn(l.buffers.data(), worker, workers, phase, shared_, local);
      else if (worker == 0)
        l.kernel.fn(l.buffers.data(), 0, 1, phase, shared_, local);
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
