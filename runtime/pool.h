// Owns the threads: a fixed number of workers that run one function together and meet at barriers.
// Workers spin for a short while (50 µs) before they sleep, so that a step's many small launches do not
// pay for waking, and an idle process takes no processor time.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

namespace gradc {

class Pool {
 public:
  explicit Pool(int threads);                     // ≥ 1; the caller of run() is worker 0
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  int size() const { return size_; }
  // Calls job(worker) for every worker at once and returns when all are done. Not reentrant.
  void run(const std::function<void(int)>& job);
  // Inside a job: returns when every worker has arrived.
  void barrier();

 private:
  void work(int worker);
  // Waits until `word` differs from `old`: spins, then sleeps.
  void await(std::atomic<std::uint32_t>& word, std::uint32_t old);
  void wake(std::atomic<std::uint32_t>& word);

  int size_;
  const std::function<void(int)>* job_ = nullptr;
  bool stop_ = false;
  alignas(64) std::atomic<std::uint32_t> start_{0};
  alignas(64) std::atomic<std::uint32_t> arrived_{0};
  alignas(64) std::atomic<std::uint32_t> generation_{0};
  alignas(64) std::atomic<std::uint32_t> sleepers_{0};
  std::vector<std::thread> threads_;
};

// Calls job(0) … job(count − 1), each once, on `threads` threads of their own as they come free; for
// what is done once, before a pool works.
void share_out(std::size_t count, int threads, const std::function<void(std::size_t)>& job);

// How many processors this process may use (its affinity mask), at least 1.
int available_processors();

}  // namespace gradc
