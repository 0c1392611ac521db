// Protects the workers: each runs each job once, and one that waits costs next to nothing.
#include "runtime/pool.h"

#include <doctest/doctest.h>
#include <time.h>

#include <algorithm>
#include <chrono>
#include <numeric>

using namespace gradc;

namespace {

// What this thread has cost so far, µs on a processor.
double spent() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return 1e6 * static_cast<double>(t.tv_sec) + 1e-3 * static_cast<double>(t.tv_nsec);
}

}  // namespace

TEST_CASE("pool: every worker runs every job once, and meets the others at barriers") {
  for (const int size : {1, 2, 5}) {
    Pool pool(size);
    std::vector<int> calls(static_cast<std::size_t>(size)), seen(static_cast<std::size_t>(size));
    for (int n = 0; n < 50; ++n)
      pool.run([&](int w) {
        ++calls[static_cast<std::size_t>(w)];
        pool.barrier();
        seen[static_cast<std::size_t>(w)] = std::accumulate(calls.begin(), calls.end(), 0);
        pool.barrier();
      });
    CHECK(std::count(calls.begin(), calls.end(), 50) == size);
    CHECK(std::count(seen.begin(), seen.end(), 50 * size) == size);
  }
}

TEST_CASE("pool: a worker that waits spins for 50 µs at most, and then sleeps") {
  Pool pool(2);
  double least = 1e9, idle = 1e9, behind = 0;   // behind: worker 1's when it left a barrier
  for (int n = 0; n < 10; ++n) {
    pool.run([&](int w) {
      if (w == 0) {
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
        pool.barrier();
        return;
      }
      const double before = spent();
      if (n > 0) idle = std::min(idle, before - behind);
      pool.barrier();
      behind = spent();
      least = std::min(least, behind - before);
    });
    std::this_thread::sleep_for(std::chrono::milliseconds(20));   // between jobs it waits, too
  }
  // Of the processor's time the spin, going to sleep and waking; a busy machine stretches it little.
  CHECK(least <= 120);
  CHECK(idle <= 240);   // the barrier behind a job, and the wait for the next
  MESSAGE("of 20 ms in a barrier ", least, " µs on the processor, between jobs ", idle);
}
