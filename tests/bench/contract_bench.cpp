// Owns the measurement of contraction kernels: GFLOP/s with one and two workers beside what the
// machine's multiply-add units give in the same run. With --own-time workers are timed by what they
// compute themselves, which a busy machine disturbs less. Built on demand: ninja contract_bench.
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "codegen/codegen.h"
#include "ir/builder.h"
#include "runtime/jit.h"

namespace {

using namespace gradc;
using Clock = std::chrono::steady_clock;

double seconds_of(clockid_t clock) {
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
__attribute__((target("avx512f"))) void chains_512() {
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
__attribute__((target("avx2,fma"))) void chains_256() {
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
double peak(Pair& pair, int workers) {
  const bool wide = host_target().name == "avx512";
  const double flops = 2.0 * 12 * (wide ? 16 : 8) * (1 << 20) * workers;
  const auto chains = [&](int) { wide ? chains_512() : chains_256(); };
  return flops / fastest([&] { return pair.run(workers, chains); }) * 1e-9;
}
#else
double peak(Pair&, int) { return 0; }
#endif

struct Shape {
  std::string name, x, y, out;  // axes by letters, in the order of memory
  std::vector<std::pair<char, std::int64_t>> extent;
  // + bias, then gelu, both kept; or + bias + what there was.
  enum Behind { nothing, gelu, residual } behind = nothing;
};

struct Built {
  Program program;
  KernelInstance instance;
  std::vector<std::int64_t> elements;
  double flops = 2;
};

Built build(const Shape& s) {
  Built out;
  for (const auto& [letter, extent] : s.extent) out.flops *= static_cast<double>(extent);
  Function f;
  f.name = out.program.intern("k");
  f.family = Family::contract;
  Builder b(out.program, f);
  const auto type = [&](const std::string& axes) {
    Type t;
    for (char l : axes)
      for (const auto& [letter, extent] : s.extent)
        if (letter == l) t.axes.push_back(b.axis(std::string(1, l), extent));
    return t;
  };
  const ValueId x = b.argument(type(s.x)), y = b.argument(type(s.y));
  const AxisList axes = type(s.out).axes;
  std::vector<ValueId> results;
  if (s.behind == Shape::residual) {
    const ValueId bias = b.argument(Type{DType::f32, AxisList{axes[axes.size() - 1]}});
    const ValueId before = b.argument(Type{DType::f32, axes});
    results = {
        b.binary(Opcode::add_, b.binary(Opcode::add_, b.contract(x, y, axes), bias), before)};
  } else if (s.behind == Shape::gelu) {
    const ValueId bias = b.argument(Type{DType::f32, AxisList{axes[axes.size() - 1]}});
    const ValueId z = b.binary(Opcode::add_, b.contract(x, y, axes), bias);
    const ValueId cube = b.binary(Opcode::mul_, b.binary(Opcode::mul_, z, z),
                                  b.binary(Opcode::mul_, z, b.constant(0.044715)));
    const ValueId t = b.unary(Opcode::tanh_, b.binary(Opcode::mul_, b.binary(Opcode::add_, z, cube),
                                                      b.constant(0.79788456)));
    results = {z, b.binary(Opcode::mul_, b.binary(Opcode::mul_, z, b.constant(0.5)),
                           b.binary(Opcode::add_, t, b.constant(1)))};
  } else {
    results = {b.contract(x, y, axes)};
  }
  b.finish(results);
  std::vector<ValueId> buffers = f.body().arguments;
  buffers.insert(buffers.end(), results.begin(), results.end());
  for (ValueId v : buffers) {
    BufferLayout layout;
    layout.strides.resize(static_cast<std::size_t>(f.type(v).axes.size()));
    std::int64_t stride = 1;
    for (std::size_t i = layout.strides.size(); i-- > 0;) {
      layout.strides[i] = stride;
      stride *= f.extent(f.type(v).axes[static_cast<int>(i)]);
    }
    out.instance.buffers.push_back(layout);
    out.elements.push_back(stride);
  }
  out.program.functions.push_back(std::move(f));
  out.instance.kernel = FunctionId{0};
  return out;
}

struct Free {
  void operator()(std::byte* p) const { std::free(p); }
};
using Memory = std::unique_ptr<std::byte, Free>;
Memory memory(std::int64_t bytes) {
  const auto size = (static_cast<std::size_t>(bytes) + (2u << 20)) / (2u << 20) * (2u << 20);
  Memory out(static_cast<std::byte*>(std::aligned_alloc(2u << 20, size)));
  std::memset(out.get(), 0, size);
  return out;
}

int measure(const std::string& only, const Target& target, bool own_time) {
  std::vector<Shape> shapes;
  const auto add = [&](std::string name, std::string x, std::string y, std::string out,
                       std::vector<std::pair<char, std::int64_t>> extent,
                       Shape::Behind behind = Shape::nothing) {
    shapes.push_back(
        {std::move(name), std::move(x), std::move(y), std::move(out), std::move(extent), behind});
  };
  add("x·w 4096 384 384", "mk", "kn", "mn", {{'m', 4096}, {'k', 384}, {'n', 384}});
  add("x·w 4096 384 1152", "mk", "kn", "mn", {{'m', 4096}, {'k', 384}, {'n', 1152}});
  add("x·w 4096 384 1536", "mk", "kn", "mn", {{'m', 4096}, {'k', 384}, {'n', 1536}});
  add("x·w 4096 1536 384", "mk", "kn", "mn", {{'m', 4096}, {'k', 1536}, {'n', 384}});
  add("gelu(x·w + b) 4096 384 1536", "mk", "kn", "mn", {{'m', 4096}, {'k', 384}, {'n', 1536}},
      Shape::gelu);
  add("x·w + b + r 4096 384 384", "mk", "kn", "mn", {{'m', 4096}, {'k', 384}, {'n', 384}},
      Shape::residual);
  add("x·w + b + r 4096 1536 384", "mk", "kn", "mn", {{'m', 4096}, {'k', 1536}, {'n', 384}},
      Shape::residual);
  add("x·wᵀ 4096 384 1536", "mk", "nk", "mn", {{'m', 4096}, {'k', 384}, {'n', 1536}});
  add("g·wᵀ 4096 1536 384", "mk", "nk", "mn", {{'m', 4096}, {'k', 1536}, {'n', 384}});
  add("xᵀ·g 384 4096 384", "km", "kn", "mn", {{'m', 384}, {'k', 4096}, {'n', 384}});
  add("xᵀ·g 384 4096 1152", "km", "kn", "mn", {{'m', 384}, {'k', 4096}, {'n', 1152}});
  add("xᵀ·g 384 4096 1536", "km", "kn", "mn", {{'m', 384}, {'k', 4096}, {'n', 1536}});
  add("xᵀ·g 1536 4096 384", "km", "kn", "mn", {{'m', 1536}, {'k', 4096}, {'n', 384}});
  add("logits 4096 384 256", "mk", "nk", "mn", {{'m', 4096}, {'k', 384}, {'n', 256}});
  const std::vector<std::pair<char, std::int64_t>> heads{
      {'b', 16}, {'h', 6}, {'t', 256}, {'s', 256}, {'e', 64}};
  add("q·kᵀ  96 × 256 64 256", "bthe", "bshe", "bhts", heads);
  add("p·v   96 × 256 256 64", "bhts", "bshe", "bthe", heads);
  add("pᵀ·do 96 × 256 256 64", "bhts", "bthe", "bshe", heads);
  add("do·vᵀ 96 × 256 64 256", "bthe", "bshe", "bhts", heads);
  add("project heads 4096 384 384", "bthe", "hed", "btd",
      {{'b', 16}, {'t', 256}, {'h', 6}, {'e', 64}, {'d', 384}});
  add("dot of rows 4096 × 384", "bd", "bd", "b", {{'b', 4096}, {'d', 384}});
  add("x·v 4096 384 1", "mk", "k", "m", {{'m', 4096}, {'k', 384}});
  add("v·w 1 384 1536", "k", "kn", "n", {{'k', 384}, {'n', 1536}});
  add("v·wᵀ 1 384 1536", "k", "nk", "n", {{'k', 384}, {'n', 1536}});
  add("gpt2 fc 1024 768 3072", "mk", "kn", "mn", {{'m', 1024}, {'k', 768}, {'n', 3072}});
  add("gpt2 logits 256 768 50257", "mk", "nk", "mn", {{'m', 256}, {'k', 768}, {'n', 50257}});
  // Strides of a power of two, which meet in few sets of a cache.
  add("pow2 x·w 4096 512 512", "mk", "kn", "mn", {{'m', 4096}, {'k', 512}, {'n', 512}});
  add("pow2 x·w 4096 1024 1024", "mk", "kn", "mn", {{'m', 4096}, {'k', 1024}, {'n', 1024}});
  add("pow2 xᵀ·g 512 4096 512", "km", "kn", "mn", {{'m', 512}, {'k', 4096}, {'n', 512}});
  add("pow2 xᵀ·g 1024 4096 1024", "km", "kn", "mn", {{'m', 1024}, {'k', 4096}, {'n', 1024}});
  add("pow2 xᵀ·g 256 4096 1024", "km", "kn", "mn", {{'m', 256}, {'k', 4096}, {'n', 1024}});
  add("square 1000", "mk", "kn", "mn", {{'m', 1000}, {'k', 1000}, {'n', 1000}});
  add("square 65", "mk", "kn", "mn", {{'m', 65}, {'k', 65}, {'n', 65}});
  add("square 16", "mk", "kn", "mn", {{'m', 16}, {'k', 16}, {'n', 16}});

  Pair pair(own_time);
  Result<std::unique_ptr<Jit>> jit = Jit::create(target);
  if (!jit.ok()) return 70;
  const double top[2] = {peak(pair, 1), peak(pair, 2)};
  fmt::print("{:30} {:>9} {:>16} {:>16}\n", target.name, "compile", "1 worker", "2 workers");
  fmt::print("{:30} {:>9} {:>9.1f} GF/s   {:>9.1f} GF/s\n", "multiply-adds in registers", "",
             top[0], top[1]);
  for (const Shape& s : shapes) {
    if (s.name.find(only) == std::string::npos) continue;
    const Built built = build(s);
    const auto start = Clock::now();
    Result<Compiled> compiled = compile(built.program, built.instance, target);
    const double compile_ms = std::chrono::duration<double>(Clock::now() - start).count() * 1e3;
    if (!compiled.ok()) {
      fmt::print(stderr, "{}\n", compiled.failure().diagnostics[0].message);
      return 70;
    }
    Result<KernelFn> fn = (*jit)->add(*compiled);
    if (!fn.ok()) return 70;
    std::vector<Memory> buffers;
    std::vector<std::byte*> bases;
    for (std::int64_t n : built.elements) {
      buffers.push_back(memory(n * 4));
      bases.push_back(buffers.back().get());
    }
    const Memory shared = memory(compiled->shared_bytes);
    const Memory local[2] = {memory(compiled->local_bytes), memory(compiled->local_bytes)};
    fmt::print("{:30} {:>6.0f} ms", s.name, compile_ms);
    for (int workers : {1, 2}) {
      if (workers == 2 && !compiled->parallel) continue;
      const double seconds = fastest([&] {
        double sum = 0;
        for (int phase = 0; phase < compiled->phases; ++phase)
          sum += pair.run(workers, [&](int w) {
            (*fn)(bases.data(), w, workers, phase, shared.get(), local[w].get());
          });
        return sum;
      });
      const double rate = built.flops / seconds * 1e-9;
      fmt::print(" {:>9.1f} {:>4.0f} %", rate,
                 top[workers - 1] > 0 ? rate / top[workers - 1] * 100 : 0);
    }
    fmt::print("   scratch {} KiB\n", compiled->local_bytes / 1024);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  std::string only;
  bool own_time = false;
  Target target = host_target();
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--help") {
      fmt::print("contract_bench [--target=NAME] [--own-time] [PART OF A SHAPE'S NAME]\n");
      return 0;
    }
    if (argument.rfind("--target=", 0) == 0) {
      if (!target_by_name(argument.substr(9), target)) return 2;
    } else if (argument == "--own-time") {
      own_time = true;
    } else {
      only = argument;
    }
  }
  return measure(only, target, own_time);
}
