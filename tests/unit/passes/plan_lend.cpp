// Protects the lending of the gradients' arena: what is lent is free for all the life of what takes
// it, within the arena and aligned, and what could lie there does.
#include <doctest/doctest.h>

#include <algorithm>

#include "ir/philox.h"
#include "passes/plan.h"

namespace gradc {
namespace {

using planning::Interval;
using planning::Taken;

bool meet(std::int64_t a, std::int64_t a_end, std::int64_t b, std::int64_t b_end) {
  return a < b_end && b < a_end;
}

}  // namespace

TEST_CASE("lending: no two share a byte at one time, and none leaves the arena") {
  int lent = 0;
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    CAPTURE(seed);
    std::uint64_t draws = 0;
    const auto random = [&](std::int64_t n) {
      return static_cast<std::int64_t>(philox_uniform(seed, 1, 0, ++draws) *
                                       static_cast<double>(n));
    };
    std::vector<Taken> taken;
    std::int64_t end = 0;
    for (std::int64_t k = 0, n = random(12); k < n; ++k) {
      const std::int64_t first = random(60);
      taken.push_back({end, end + 4 * (1 + random(200)), first, first + random(100 - first)});
      end = taken.back().end;
    }
    std::vector<Interval> items;
    for (std::int64_t k = 0, n = random(30); k < n; ++k) {
      const std::int64_t first = random(100);
      items.push_back({random(500), first, first + random(100 - first)});
    }
    const std::vector<std::int64_t> places = planning::lend(items, taken);
    REQUIRE(places.size() == items.size());
    for (std::size_t i = 0; i < items.size(); ++i) {
      if (places[i] < 0) continue;
      ++lent;
      const std::int64_t begin = places[i], behind = begin + items[i].bytes;
      CHECK(begin % 64 == 0);
      CHECK(behind <= end);
      for (const Taken& t : taken)
        CHECK(!(meet(begin, behind, t.begin, t.end) &&
                meet(items[i].first, items[i].last + 1, t.first, t.last + 1)));
      for (std::size_t j = 0; j < i; ++j)
        CHECK(!(places[j] >= 0 && meet(begin, behind, places[j], places[j] + items[j].bytes) &&
                meet(items[i].first, items[i].last + 1, items[j].first, items[j].last + 1)));
    }
  }
  CHECK(lent > 200);
}

TEST_CASE("lending: what a layer saved lies where the gradients of the one before it will be") {
  // Layers 0 … 7 save 1024 bytes at time l, which are read at 15 − l, when their gradient is
  // written, of as many bytes.
  std::vector<Interval> saved;
  std::vector<Taken> gradients;
  for (std::int64_t l = 0; l < 8; ++l) {
    saved.push_back({1024, l, 15 - l});
    gradients.push_back({1024 * l, 1024 * (l + 1), 15 - l, 16});
  }
  const std::vector<std::int64_t> places = planning::lend(saved, gradients);
  CHECK(places[0] == -1);
  CHECK(std::count(places.begin(), places.end(), -1) == 1);
}

}  // namespace gradc
