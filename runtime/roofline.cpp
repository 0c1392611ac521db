// Measuring of the machine's rates on a pool of workers.
#include "runtime/roofline.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>
#include <vector>

#include "codegen/rates.h"
#include "runtime/clock.h"
#include "runtime/jit.h"
#include "runtime/memory.h"
#include "runtime/pool.h"

namespace gradc {
namespace {

constexpr std::size_t stream_bytes = std::size_t{128} << 20;  // beyond the last cache

// The least seconds of `job` on all workers, over 50 ms and at least three calls.
template <class Job>
double fastest(Pool& pool, Job job) {
  const std::function<void(int)> work = job;
  double best = 1e9;
  const auto end = Clock::now() + std::chrono::milliseconds(50);
  for (int n = 0; n < 3 || Clock::now() < end; ++n) {
    const auto begin = Clock::now();
    pool.run(work);
    best = std::min(best, seconds_since(begin));
  }
  return best;
}

bool multiplies_bf16() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx512bf16");
#else
  return false;
#endif
}

// A loop that measures, linked.
struct Loop {
  KernelFn fn;
  double work;   // FLOP of a worker, or bytes of all
};
Result<Loop> link(Result<RateLoop> loop, Jit& jit) {
  if (!loop) return loop.failure();
  Result<KernelFn> fn = jit.add(loop->kernel);
  if (!fn) return fn.failure();
  return Loop{*fn, loop->work};
}

double multiply_add_rate(const Loop& loop, Pool& pool) {
  // All at once, each by its own clock: what keeps one of them from running for a while is not the
  // machine's rate.
  std::vector<double> best(static_cast<std::size_t>(pool.size()) * 8, 1e9);
  fastest(pool, [&](int worker) {
    alignas(64) std::array<std::byte, 64> local;
    std::byte* const buffer = nullptr;
    const auto begin = Clock::now();
    loop.fn(&buffer, worker, pool.size(), 0, nullptr, local.data(), nullptr);
    double& mine = best[static_cast<std::size_t>(worker) * 8];   // a cache line each
    mine = std::min(mine, seconds_since(begin));
  });
  double rate = 0;
  for (std::size_t w = 0; w < best.size(); w += 8) rate += loop.work / best[w];
  return rate;
}

// Bytes a second.
double stream_rate(const Loop& loop, Pool& pool, std::byte* memory) {
  std::byte* const buffers[] = {memory, memory + stream_bytes};
  return loop.work / fastest(pool, [&](int worker) {
           alignas(64) std::array<std::byte, 64> local;
           loop.fn(buffers, worker, pool.size(), 0, nullptr, local.data(), nullptr);
         });
}

}  // namespace

double Roofline::seconds(const Cost& cost, double pairs) const {
  const double computing = cost.flop * ((1 - pairs) / f32 + pairs / (bf16 > 0 ? bf16 : f32));
  const double reading = static_cast<double>(cost.bytes - cost.written) / read;
  const double moving = static_cast<double>(cost.bytes) / std::max({read, copy, update});
  return std::max({computing, reading, moving});
}

struct RooflineMeter::Loops {
  explicit Loops(int threads) : pool(threads) {}
  Pool pool;
  std::unique_ptr<Jit> jit;
  Mapping memory;
  std::vector<std::pair<double*, Loop>> products, streams;  // with what each loop's rate counts for
};

RooflineMeter::RooflineMeter() = default;
RooflineMeter::~RooflineMeter() = default;

Result<std::unique_ptr<RooflineMeter>> RooflineMeter::create(const Target& target, int threads) {
  std::unique_ptr<RooflineMeter> out(new RooflineMeter);
  out->loops_ = std::make_unique<Loops>(threads);
  Loops& l = *out->loops_;
  Roofline& rates = out->rates_;
  Result<std::unique_ptr<Jit>> jit = Jit::create(target);
  if (!jit) return jit.failure();
  l.jit = std::move(*jit);
  const auto add = [&](auto& to, double& rate, Result<RateLoop> loop) -> Result<Done> {
    Result<Loop> linked = link(std::move(loop), *l.jit);
    if (!linked) return linked.failure();
    to.emplace_back(&rate, *linked);
    return Done{};
  };
  Result<Done> added = add(l.products, rates.f32, multiply_add_loop(target, DType::f32));
  if (added && target.vector_bytes == 64 && multiplies_bf16())
    added = add(l.products, rates.bf16, multiply_add_loop(target, DType::bf16));
  for (Stream s : {Stream::read, Stream::update, Stream::copy, Stream::copy_past})
    if (added) {
      double& rate = s == Stream::read     ? rates.read
                     : s == Stream::update ? rates.update
                                           : rates.copy;
      added = add(l.streams, rate, stream_loop(target, s, stream_bytes / 4));
    }
  if (!added) return added.failure();
  Result<Mapping> memory = Mapping::allocate(2 * stream_bytes);
  if (!memory) return memory.failure();
  l.memory = std::move(*memory);
  const std::size_t part = 2 * stream_bytes / static_cast<std::size_t>(threads);
  l.pool.run([&](int w) { std::memset(l.memory.data() + static_cast<std::size_t>(w) * part, 0, part); });
  return out;
}

void RooflineMeter::round() {
  Loops& l = *loops_;
  for (auto& [rate, loop] : l.products) *rate = std::max(*rate, multiply_add_rate(loop, l.pool));
  for (auto& [rate, loop] : l.streams)
    *rate = std::max(*rate, stream_rate(loop, l.pool, l.memory.data()));
  ++done_;
}

}  // namespace gradc
