// The workers and their barrier: a counter and a generation, as in Mellor-Crummey and Scott,
// "Algorithms for scalable synchronization on shared-memory multiprocessors", ACM TOCS 1991, §3.1.
#include "runtime/pool.h"

#include <sched.h>

#include <algorithm>
#include <chrono>

namespace gradc {
namespace {

constexpr auto spin_time = std::chrono::microseconds(50);

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace

Pool::Pool(int threads) : size_(std::max(1, threads)) {
  for (int w = 1; w < size_; ++w) threads_.emplace_back([this, w] { work(w); });
}

Pool::~Pool() {
  stop_ = true;
  start_.fetch_add(1);
  wake(start_);
  for (std::thread& t : threads_) t.join();
}

void Pool::await(std::atomic<std::uint32_t>& word, std::uint32_t old) {
  const auto begin = std::chrono::steady_clock::now();
  do {
    for (int i = 0; i < 64; ++i) {
      if (word.load(std::memory_order_acquire) != old) return;
      relax();
    }
  } while (std::chrono::steady_clock::now() - begin < spin_time);
  sleepers_.fetch_add(1);
  word.wait(old, std::memory_order_acquire);
  sleepers_.fetch_sub(1);
}

void Pool::wake(std::atomic<std::uint32_t>& word) {
  // A sleeper announces itself before it compares the word, and the word changed before this reads the
  // count: sequential consistency makes one of the two see the other.
  if (sleepers_.load() > 0) word.notify_all();
}

void Pool::run(const std::function<void(int)>& job) {
  if (size_ == 1) {
    job(0);
    return;
  }
  job_ = &job;
  start_.fetch_add(1);
  wake(start_);
  job(0);
  barrier();  // nobody is inside the job any more
}

void Pool::work(int worker) {
  std::uint32_t seen = 0;
  for (;;) {
    await(start_, seen);
    ++seen;
    if (stop_) return;
    (*job_)(worker);
    barrier();
  }
}

void Pool::barrier() {
  if (size_ == 1) return;
  const std::uint32_t generation = generation_.load(std::memory_order_relaxed);
  if (arrived_.fetch_add(1) + 1 == static_cast<std::uint32_t>(size_)) {
    arrived_.store(0, std::memory_order_relaxed);
    generation_.fetch_add(1);
    wake(generation_);
    return;
  }
  await(generation_, generation);
}

void share_out(std::size_t count, int threads, const std::function<void(std::size_t)>& job) {
  std::atomic<std::size_t> next{0};
  const auto work = [&] {
    for (std::size_t n; (n = next.fetch_add(1)) < count;) job(n);
  };
  std::vector<std::thread> helpers;
  const int workers = std::min<int>(threads, static_cast<int>(std::min<std::size_t>(count, 1024)));
  for (int t = 1; t < workers; ++t) helpers.emplace_back(work);
  work();
  for (std::thread& t : helpers) t.join();
}

int available_processors() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

}  // namespace gradc
