// Owns what the measurements of kernels share: two workers, timing, memory, and the machine's
// multiply-add rate.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <functional>
#include <memory>
#include <thread>

#include <sys/mman.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "ir/target.h"

namespace gradc::bench {

using Clock = std::chrono::steady_clock;

inline double seconds_of(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

// One spinning helper thread, as the runtime's pool has.
class Pair {
 public:
  explicit Pair(bool own_time)
      : clock_(own_time ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC), other_([this] { serve(); }) {}
  ~Pair() {
    stop_ = true;
    ++turn_;
    other_.join();
  }
  // Seconds until all workers are done; or, by their own time, of the one that took longest.
  template <class Work>
  double run(int workers, Work work) {
    const auto timed = [&](int w) {
      const double start = seconds_of(clock_);
      work(w);
      took_[w] = seconds_of(clock_) - start;
    };
    if (workers == 1) {
      timed(0);
      return took_[0];
    }
    const double start = seconds_of(clock_);
    task_ = [&] { timed(1); };
    ++turn_;
    timed(0);
    while (done_.load(std::memory_order_acquire) != turn_.load()) pause();
    return clock_ == CLOCK_MONOTONIC ? seconds_of(clock_) - start : std::max(took_[0], took_[1]);
  }

 private:
  static void pause() {
#if defined(__x86_64__)
    _mm_pause();
#endif
  }
  void serve() {
    for (int seen = 0;;) {
      while (turn_.load(std::memory_order_acquire) == seen) pause();
      seen = turn_.load();
      if (stop_) return;
      task_();
      done_.store(seen, std::memory_order_release);
    }
  }
  clockid_t clock_;
  double took_[2] = {0, 0};
  std::atomic<int> turn_{0}, done_{0};
  std::atomic<bool> stop_{false};
  std::function<void()> task_;
  std::thread other_;
};

// The least seconds that a call says it took, over some tenths of a second.
template <class Call>
double fastest(Call call) {
  call();
  double best = 1e9;
  for (const auto end = Clock::now() + std::chrono::milliseconds(400); Clock::now() < end;)
    best = std::min(best, call());
  return best;
}

#if defined(__x86_64__)
// Twelve independent chains of multiply-adds in registers; 2²⁰ turns of each.
__attribute__((target("avx512f"))) inline void chains_512() {
  const __m512 one = _mm512_set1_ps(1.0f), a = _mm512_set1_ps(0.999f), b = _mm512_set1_ps(1e-3f);
  __m512 x0 = one, x1 = one, x2 = one, x3 = one, x4 = one, x5 = one, x6 = one, x7 = one, x8 = one,
         x9 = one, x10 = one, x11 = one;
  for (int i = 0; i < 1 << 20; ++i) {
    x0 = _mm512_fmadd_ps(x0, a, b);
    x1 = _mm512_fmadd_ps(x1, a, b);
    x2 = _mm512_fmadd_ps(x2, a, b);
    x3 = _mm512_fmadd_ps(x3, a, b);
    x4 = _mm512_fmadd_ps(x4, a, b);
    x5 = _mm512_fmadd_ps(x5, a, b);
    x6 = _mm512_fmadd_ps(x6, a, b);
    x7 = _mm512_fmadd_ps(x7, a, b);
    x8 = _mm512_fmadd_ps(x8, a, b);
    x9 = _mm512_fmadd_ps(x9, a, b);
    x10 = _mm512_fmadd_ps(x10, a, b);
    x11 = _mm512_fmadd_ps(x11, a, b);
    asm volatile(""
                 : "+v"(x0), "+v"(x1), "+v"(x2), "+v"(x3), "+v"(x4), "+v"(x5), "+v"(x6), "+v"(x7),
                   "+v"(x8), "+v"(x9), "+v"(x10), "+v"(x11));
  }
}
__attribute__((target("avx2,fma"))) inline void chains_256() {
  const __m256 one = _mm256_set1_ps(1.0f), a = _mm256_set1_ps(0.999f), b = _mm256_set1_ps(1e-3f);
  __m256 x0 = one, x1 = one, x2 = one, x3 = one, x4 = one, x5 = one, x6 = one, x7 = one, x8 = one,
         x9 = one, x10 = one, x11 = one;
  for (int i = 0; i < 1 << 20; ++i) {
    x0 = _mm256_fmadd_ps(x0, a, b);
    x1 = _mm256_fmadd_ps(x1, a, b);
    x2 = _mm256_fmadd_ps(x2, a, b);
    x3 = _mm256_fmadd_ps(x3, a, b);
    x4 = _mm256_fmadd_ps(x4, a, b);
    x5 = _mm256_fmadd_ps(x5, a, b);
    x6 = _mm256_fmadd_ps(x6, a, b);
    x7 = _mm256_fmadd_ps(x7, a, b);
    x8 = _mm256_fmadd_ps(x8, a, b);
    x9 = _mm256_fmadd_ps(x9, a, b);
    x10 = _mm256_fmadd_ps(x10, a, b);
    x11 = _mm256_fmadd_ps(x11, a, b);
    asm volatile(""
                 : "+x"(x0), "+x"(x1), "+x"(x2), "+x"(x3), "+x"(x4), "+x"(x5), "+x"(x6), "+x"(x7),
                   "+x"(x8), "+x"(x9), "+x"(x10), "+x"(x11));
  }
}
inline double peak(Pair& pair, int workers) {
  const bool wide = host_target().vector_bytes == 64;
  const double flops = 2.0 * 12 * (wide ? 16 : 8) * (1 << 20) * workers;
  const auto chains = [&](int) { wide ? chains_512() : chains_256(); };
  return flops / fastest([&] { return pair.run(workers, chains); }) * 1e-9;
}
#else
inline double peak(Pair&, int) { return 0; }
#endif

struct Free {
  void operator()(std::byte* p) const { std::free(p); }
};
using Memory = std::unique_ptr<std::byte, Free>;
inline Memory memory(std::int64_t bytes) {
  const auto size = (static_cast<std::size_t>(bytes) + (2u << 20)) / (2u << 20) * (2u << 20);
  Memory out(static_cast<std::byte*>(std::aligned_alloc(2u << 20, size)));
  madvise(out.get(), size, MADV_HUGEPAGE);
  std::memset(out.get(), 0, size);
  return out;
}

}  // namespace gradc::bench
