// Measuring of the machine's rates on a pool of workers.
#include "runtime/roofline.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "codegen/rates.h"
#include "runtime/clock.h"
#include "runtime/jit.h"
#include "runtime/memory.h"
#include "runtime/pool.h"

namespace gradc {
namespace {

constexpr std::size_t stream_bytes = std::size_t{128} << 20;  // beyond the last cache

// Whoever shares the machine may take it for a tenth of a second: each rate is the best of as many rounds, some
// tenths apart.
constexpr int rounds = 3;

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

Result<double> multiply_add_rate(const Target& target, DType dtype, Jit& jit, Pool& pool) {
  Result<RateLoop> loop = multiply_add_loop(target, dtype);
  if (!loop) return loop.failure();
  Result<KernelFn> fn = jit.add(loop->kernel);
  if (!fn) return fn.failure();
  // All at once, each by its own clock: what keeps one of them from running for a while is not the
  // machine's rate.
  std::vector<double> best(static_cast<std::size_t>(pool.size()) * 8, 1e9);
  fastest(pool, [&](int worker) {
    alignas(64) std::array<std::byte, 64> local;
    std::byte* const buffer = nullptr;
    const auto begin = Clock::now();
    (*fn)(&buffer, worker, pool.size(), 0, nullptr, local.data(), nullptr);
    double& mine = best[static_cast<std::size_t>(worker) * 8];   // a cache line each
    mine = std::min(mine, seconds_since(begin));
  });
  double rate = 0;
  for (std::size_t w = 0; w < best.size(); w += 8) rate += loop->work / best[w];
  return rate;
}

// Bytes a second of the fastest of these streams.
Result<double> stream_rate(const Target& target, std::initializer_list<Stream> streams, Jit& jit,
                           Pool& pool, std::byte* memory) {
  double best = 0;
  for (Stream stream : streams) {
    Result<RateLoop> loop = stream_loop(target, stream, stream_bytes / 4);
    if (!loop) return loop.failure();
    Result<KernelFn> fn = jit.add(loop->kernel);
    if (!fn) return fn.failure();
    std::byte* const buffers[] = {memory, memory + stream_bytes};
    const double seconds = fastest(pool, [&](int worker) {
      alignas(64) std::array<std::byte, 64> local;
      (*fn)(buffers, worker, pool.size(), 0, nullptr, local.data(), nullptr);
    });
    best = std::max(best, loop->work / seconds);
  }
  return best;
}

}  // namespace

double Roofline::seconds(const Cost& cost, bool bf16_products) const {
  const double peak = bf16_products && bf16 > 0 ? bf16 : f32;
  const double reading = static_cast<double>(cost.bytes - cost.written) / read;
  const double moving = static_cast<double>(cost.bytes) / std::max(read, copy);
  return std::max({cost.flop / peak, reading, moving});
}

Result<Roofline> measure_roofline(const Target& target, int threads) {
  Pool pool(threads);
  Result<std::unique_ptr<Jit>> jit = Jit::create(target);
  if (!jit) return jit.failure();
  Roofline out;
  Result<Mapping> memory = Mapping::allocate(2 * stream_bytes);
  if (!memory) return memory.failure();
  const std::size_t part = 2 * stream_bytes / static_cast<std::size_t>(threads);
  pool.run([&](int w) { std::memset(memory->data() + static_cast<std::size_t>(w) * part, 0, part); });
  const auto raise = [](double& best, const Result<double>& rate) {
    if (rate) best = std::max(best, *rate);
    return rate.ok();
  };
  for (int round = 0; round < rounds; ++round) {
    Result<double> rate = multiply_add_rate(target, DType::f32, **jit, pool);
    if (!raise(out.f32, rate)) return rate.failure();
    if (target.vector_bytes == 64 && multiplies_bf16()) {
      rate = multiply_add_rate(target, DType::bf16, **jit, pool);
      if (!raise(out.bf16, rate)) return rate.failure();
    }
    rate = stream_rate(target, {Stream::read}, **jit, pool, memory->data());
    if (!raise(out.read, rate)) return rate.failure();
    rate = stream_rate(target, {Stream::update, Stream::copy, Stream::copy_past}, **jit, pool,
                       memory->data());
    if (!raise(out.copy, rate)) return rate.failure();
  }
  return out;
}

}  // namespace gradc
