// Owns what the plan's checker knows of memory: the bytes of a value, whether two values share
// some, and which of many lie across a stretch. It shares no code with the planner.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <unordered_map>
#include <utility>
#include <vector>

#include "ir/program.h"

namespace gradc::plan_check {

// The bytes of a value: `dims` are (stride in bytes, extent) of axes longer than 1, the largest
// stride first.
struct Extent {
  Arena arena = Arena::none;
  std::int64_t lo = 0, hi = 0;  // bounds, hi behind the last byte; lo = hi: no elements
  std::int64_t element = 1;
  std::vector<std::pair<std::int64_t, std::int64_t>> dims;
};
Extent extent_of(const Function& f, ValueId v);
// No two elements share a byte.
bool injective(const Extent& e);
// No byte is in both: by their bounds or, for the parts of a concat, modulo a stride that both
// share. False also where neither shows it.
bool apart(const Extent& a, const Extent& b);

// Which of the values that are needed now lie across a stretch of an arena. Built once over all
// values by their lower bound; a tree of the greatest upper bound among those switched on.
class Needed {
 public:
  Needed(const std::vector<Extent>& extents, const std::vector<std::uint32_t>& values);
  void set(std::uint32_t v, bool on);
  // Calls visit(value) for each that is switched on and whose bounds meet those of `e`. O((found +
  // 1) log n).
  template <class F>
  void each_across(const Extent& e, F&& visit) const {
    const auto key = [&](std::int64_t lo) {
      return static_cast<std::size_t>(
          std::lower_bound(keys_.begin(), keys_.end(), std::pair(e.arena, lo)) - keys_.begin());
    };
    const std::size_t first = key(INT64_MIN), last = key(e.hi);
    std::vector<std::array<std::size_t, 3>> stack{{1, 0, size_}};  // node, its range
    while (!stack.empty()) {
      const auto [node, l, r] = stack.back();
      stack.pop_back();
      if (r <= first || last <= l || top_[node] <= e.lo) continue;
      if (node >= size_) {
        visit(order_[l]);
        continue;
      }
      stack.push_back({2 * node, l, (l + r) / 2});
      stack.push_back({2 * node + 1, (l + r) / 2, r});
    }
  }

 private:
  std::vector<std::uint32_t> order_;
  std::vector<std::pair<Arena, std::int64_t>> keys_;
  std::vector<std::int64_t> his_, top_;
  std::unordered_map<std::uint32_t, std::size_t> at_;
  std::size_t size_ = 1;
};

}  // namespace gradc::plan_check
