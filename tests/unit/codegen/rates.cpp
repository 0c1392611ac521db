// Protects the loops that measure the machine: they are made for every target, do what their bytes
// say, and touch no more than that.
#include "codegen/rates.h"

#include <doctest/doctest.h>

#include <vector>

#include "runtime/jit.h"

using namespace gradc;

TEST_CASE("rates: chains of multiply-adds for every target, pairs of bf16 where there are such") {
  for (const Target& t : {avx512_target(), avx2_target(), portable_target()}) {
    CAPTURE(t.name);
    Result<RateLoop> loop = multiply_add_loop(t, DType::f32);
    REQUIRE(loop.ok());
    CHECK(loop->work == 2.0 * 12 * t.lanes() * (1 << 16));
    Result<RateLoop> pairs = multiply_add_loop(t, DType::bf16);
    CHECK(pairs.ok() == (t.vector_bytes == 64));
    if (pairs.ok()) CHECK(pairs->work == 2 * loop->work);
    CHECK(!multiply_add_loop(t, DType::f64).ok());
  }
}

TEST_CASE("rates: a loop of multiply-adds ends at what it tends to") {
  const Target t = host_target();
  Result<std::unique_ptr<Jit>> jit = Jit::create(t);
  REQUIRE(jit.ok());
  Result<RateLoop> loop = multiply_add_loop(t, DType::f32);
  REQUIRE(loop.ok());
  Result<KernelFn> fn = (*jit)->add(loop->kernel);
  REQUIRE(fn.ok());
  alignas(64) float local[16] = {};
  (*fn)(nullptr, 0, 1, 0, nullptr, reinterpret_cast<std::byte*>(local), nullptr);
  CHECK(local[0] == doctest::Approx(12).epsilon(0.01));   // twelve chains, each at 1
}

TEST_CASE("rates: streams read, scale and copy all of their elements and no others, by any workers") {
  const Target t = host_target();
  Result<std::unique_ptr<Jit>> jit = Jit::create(t);
  REQUIRE(jit.ok());
  constexpr std::int64_t n = 8 * 16 * 5;
  for (const Stream s : {Stream::read, Stream::update, Stream::copy, Stream::copy_past}) {
    CAPTURE(static_cast<int>(s));
    Result<RateLoop> loop = stream_loop(t, s, n);
    REQUIRE(loop.ok());
    CHECK(loop->work == n * 4.0 * (s == Stream::read ? 1 : 2));
    Result<KernelFn> fn = (*jit)->add(loop->kernel);
    REQUIRE(fn.ok());
    for (const std::int64_t workers : {1, 2, 3}) {
      struct alignas(64) Line {
        float x[16];
      };
      std::vector<Line> memory(2 * n / 16 + 1);
      float* const from = memory[0].x;
      float* const to = from + n;
      for (std::int64_t i = 0; i < n; ++i) from[i] = 1;
      to[n] = 7;
      std::byte* const buffers[] = {reinterpret_cast<std::byte*>(from), reinterpret_cast<std::byte*>(to)};
      float sum = 0;
      for (std::int64_t w = 0; w < workers; ++w) {
        Line local{};
        (*fn)(buffers, w, workers, 0, nullptr, reinterpret_cast<std::byte*>(&local), nullptr);
        for (float x : local.x) sum += x;
      }
      if (s == Stream::read) CHECK(sum == n);
      for (std::int64_t i = 0; i < n; ++i) {
        CHECK(from[i] == (s == Stream::update ? 0.999f : 1.0f));
        CHECK(to[i] == (s == Stream::copy || s == Stream::copy_past ? 1.0f : 0.0f));
      }
      CHECK(to[n] == 7);
    }
  }
}
