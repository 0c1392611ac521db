// Making, finding and linking of kernels.
#include "runtime/kernels.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <unordered_map>
#include <unordered_set>

#include "ir/structure.h"
#include "runtime/cache.h"
#include "runtime/clock.h"
#include "runtime/pool.h"

namespace gradc {

struct KernelStore::State {
  Target target;
  std::unique_ptr<Jit> jit;
  std::unique_ptr<KernelCache> cache;
  bool warned = false;
  std::unordered_map<std::string, Kernel> kernels;
};

KernelStore::KernelStore(Target target, const std::string& cache)
    : state_(std::make_unique<State>()) {
  state_->target = std::move(target);
  if (!cache.empty()) state_->cache = std::make_unique<KernelCache>(cache);
}
KernelStore::~KernelStore() = default;
const Target& KernelStore::target() const { return state_->target; }

namespace {

// One kernel that this process has no code for yet.
struct Job {
  const KernelInstance* instance;
  const std::string* key;
  std::optional<Result<Compiled>> out;
  bool cached = false;
};

// All of them, from the cache or by LLVM, several at once.
void make(std::vector<Job>& jobs, const Program& program, const Target& target, KernelCache* cache,
          int threads) {
  // What takes longest comes first, so that no worker is left alone with it at the end.
  const auto effort = [&](const Job& j) {
    const Function& k = program.function(j.instance->kernel);
    return std::pair(static_cast<int>(k.family), k.ops.size());
  };
  std::stable_sort(jobs.begin(), jobs.end(),
                   [&](const Job& a, const Job& b) { return effort(a) > effort(b); });
  share_out(jobs.size(), threads, [&](std::size_t n) {
    Job& j = jobs[n];
    if (cache != nullptr)
      if (std::optional<Compiled> found = cache->find(*j.key)) {
        j.out.emplace(std::move(*found));
        j.cached = true;
        return;
      }
    j.out.emplace(compile(program, *j.instance, target));
    if (cache != nullptr && j.out->ok()) cache->store(*j.key, **j.out);
  });
  if (cache != nullptr) cache->trim();
}

// The instances' distinct ones by number: launches of one kernel with the same layouts. Whole keys are
// long, and a deep model has many launches of few kernels.
struct Distinct {
  std::vector<std::size_t> which;                   // by instance
  std::vector<const KernelInstance*> instances;

  explicit Distinct(const std::vector<KernelInstance>& all) {
    std::unordered_map<std::string, std::size_t> seen;
    std::string words;
    for (const KernelInstance& i : all) {
      words.clear();
      const auto add = [&](std::int64_t n) {
        words.append(reinterpret_cast<const char*>(&n), sizeof n);
      };
      add(i.kernel.index);
      for (const BufferLayout& b : i.buffers) {
        add(b.alias);
        for (std::int64_t s : b.strides) add(s);
      }
      const auto [it, fresh] = seen.try_emplace(words, instances.size());
      if (fresh) instances.push_back(&i);
      which.push_back(it->second);
    }
  }
};

}  // namespace

Result<std::vector<KernelStore::Kernel>> KernelStore::get(
    const Program& program, const std::vector<KernelInstance>& instances, int threads,
    LoadReport& report) {
  auto begin = Clock::now();
  const Distinct distinct(instances);
  std::unordered_map<std::uint32_t, std::string> structures;   // by kernel
  std::vector<std::string> keys;
  for (const KernelInstance* i : distinct.instances) {
    std::string& structure = structures[i->kernel.index];
    if (structure.empty()) structure = structure_key(program, program.function(i->kernel));
    keys.push_back(key_of(structure, *i, state_->target));
  }
  std::vector<Job> jobs;
  std::unordered_set<std::string_view> queued;
  for (std::size_t d = 0; d < keys.size(); ++d)
    if (!state_->kernels.contains(keys[d]) && queued.insert(keys[d]).second)
      jobs.push_back({distinct.instances[d], &keys[d], {}});
  make(jobs, program, state_->target, state_->cache.get(), threads);
  if (state_->cache && !state_->warned && !state_->cache->warning().empty()) {
    fmt::print(stderr, "warning: {}\n", state_->cache->warning());
    state_->warned = true;
  }
  report.llvm_s += seconds_since(begin);
  begin = Clock::now();
  if (!state_->jit) {
    Result<std::unique_ptr<Jit>> jit = Jit::create(state_->target);
    if (!jit) return jit.failure();
    state_->jit = std::move(*jit);
  }
  for (Job& j : jobs) {
    if (!j.out->ok()) return j.out->failure();
    Compiled& c = **j.out;
    Result<KernelFn> fn = state_->jit->add(c);
    if (!fn) return fn.failure();
    state_->kernels[*j.key] = {*fn,        c.phases,   c.shared_bytes, c.local_bytes,
                               c.parallel, c.tiles_at, c.tile_planes};
    ++(j.cached ? report.cached : report.compiled);
  }
  report.link_s += seconds_since(begin);
  std::vector<Kernel> made, out;
  for (const std::string& k : keys) made.push_back(state_->kernels.at(k));
  for (std::size_t d : distinct.which) out.push_back(made[d]);
  return out;
}

}  // namespace gradc
