// Loaded steps: launches of a planned function, and what a timed run learns of them.
#include "runtime/step.h"

#include <doctest/doctest.h>

#include <vector>

#include "ir/text.h"
#include "ir/verify.h"

using namespace gradc;

TEST_CASE("a timed run counts the tiles that attention computes, over workers and planes") {
  Sources sources;
  const Result<Program> p = parse_ir(
      sources,
      sources.add(
          "step.ir",
          "kernel @k attention(%q: f32[t=256 h=3 e=4], %k: f32[s=256 h e], %u: f32[s h e]) -> "
          "f32[t h e] {\n"
          "  %score = contract %q, %k -> f32[t h s]\n"
          "  %i = position t -> i32[t]\n"
          "  %j = position s -> i32[s]\n"
          "  %see = le %j, %i -> bool[s t]\n"
          "  %x = select %see, %score, -inf -> f32[t h s]\n"
          "  %max = amax %x over s -> f32[t h]\n"
          "  %shift = stop %max -> f32[t h]\n"
          "  %centred = sub %x, %shift -> f32[t h s]\n"
          "  %exp = exp %centred -> f32[t h s]\n"
          "  %sum = sum %exp over s -> f32[t h]\n"
          "  %weight = div %exp, %sum -> f32[t h s]\n"
          "  %out = contract %weight, %u -> f32[t h e]\n"
          "  return %out\n"
          "}\n"
          "func @f(%q: f32[t=256 h=3 e=4] at in+0 [12 4 1], %k: f32[s=256 h e] at in+0 [12 4 1])"
          " -> f32[t h e] {\n"
          "  %out = launch @k %q, %k, %k -> f32[t h e] at out+0 [12 4 1]\n"
          "  return %out\n"
          "}\n"));
  REQUIRE(p.ok());
  for (const Fault& f : verify(*p)) FAIL(f.message);
  std::vector<float> in(256 * 12, 0.5f), out(256 * 12);
  Bases bases{};
  bases[index(Arena::input)] = reinterpret_cast<std::byte*>(in.data());
  bases[index(Arena::output)] = reinterpret_cast<std::byte*>(out.data());
  for (const int threads : {1, 2}) {
    KernelStore store(host_target());
    Pool pool(threads);
    LoadReport report;
    Result<Step> step = Step::load(*p, p->find("f"), store, pool, bases, report);
    REQUIRE(step.ok());
    for (int turn = 0; turn < 2; ++turn) {
      step->run_timed();
      const Step::Launch& l = step->launches()[0];
      CHECK(l.kernel.tile_planes == 3);
      CHECK(l.tiles_computed == 3 * 10);
      CHECK(l.tiles == 3 * 16);
    }
    CHECK(out[5] == 0.5f);  // a mean of equal values
  }
}
