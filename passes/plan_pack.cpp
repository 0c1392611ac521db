// Packs buffers into one arena: dynamic storage allocation with known times. The optimum is
// NP-hard; the bytes alive at once are a lower bound. Three cheap heuristics meet it or come near
// on forward–backward programs, whose intervals are mostly nested: best fit in order of time, the
// same backward, and stacking by length of life (what lives longest lies lowest). Each is n log n.
#include <algorithm>
#include <map>
#include <numeric>
#include <set>
#include <tuple>

#include "passes/plan.h"

namespace gradc::planning {
namespace {

// Free stretches of an arena that can grow, found by size and merged by place.
class FreeList {
 public:
  std::int64_t take(std::int64_t n) {
    if (n == 0) return 0;
    const auto fit = by_size_.lower_bound({n, 0});
    if (fit == by_size_.end()) {
      // Grow; a free stretch at the end counts.
      std::int64_t at = end_;
      if (!by_place_.empty()) {
        const auto [place, size] = *by_place_.rbegin();
        if (place + size == end_) {
          at = place;
          drop(place, size);
        }
      }
      end_ = at + n;
      return at;
    }
    const auto [size, place] = *fit;
    drop(place, size);
    if (size > n) put(place + n, size - n);
    return place;
  }
  void give(std::int64_t place, std::int64_t n) {
    if (n == 0) return;
    auto next = by_place_.lower_bound(place);
    if (next != by_place_.end() && next->first == place + n) {
      const auto [p, s] = *next;
      n += s;
      drop(p, s);
    }
    auto before = by_place_.lower_bound(place);
    if (before != by_place_.begin()) {
      --before;
      if (before->first + before->second == place) {
        const auto [p, s] = *before;
        drop(p, s);
        place = p;
        n += s;
      }
    }
    put(place, n);
  }
  std::int64_t end() const { return end_; }

 private:
  void put(std::int64_t place, std::int64_t size) {
    by_place_.emplace(place, size);
    by_size_.emplace(size, place);
  }
  void drop(std::int64_t place, std::int64_t size) {
    by_place_.erase(place);
    by_size_.erase({size, place});
  }
  std::map<std::int64_t, std::int64_t> by_place_;
  std::set<std::pair<std::int64_t, std::int64_t>> by_size_;
  std::int64_t end_ = 0;
};

// Best fit as time goes on; `backward` runs it from the end.
Packing by_time(std::span<const Interval> items, bool backward) {
  const auto begin = [&](const Interval& x) { return backward ? -x.last : x.first; };
  const auto end = [&](const Interval& x) { return backward ? -x.first : x.last; };
  std::vector<std::size_t> starts(items.size()), ends;
  std::iota(starts.begin(), starts.end(), std::size_t{0});
  ends = starts;
  // At one time the larger first, and everything that ended before is free.
  std::sort(starts.begin(), starts.end(), [&](std::size_t a, std::size_t b) {
    return std::tuple(begin(items[a]), -items[a].bytes, a) <
           std::tuple(begin(items[b]), -items[b].bytes, b);
  });
  std::sort(ends.begin(), ends.end(), [&](std::size_t a, std::size_t b) {
    return std::pair(end(items[a]), a) < std::pair(end(items[b]), b);
  });
  Packing out{std::vector<std::int64_t>(items.size()), 0};
  FreeList free;
  std::size_t gone = 0;
  for (std::size_t s : starts) {
    for (; gone < ends.size() && end(items[ends[gone]]) < begin(items[s]); ++gone)
      free.give(out.offsets[ends[gone]], aligned(items[ends[gone]].bytes));
    out.offsets[s] = free.take(aligned(items[s].bytes));
  }
  out.bytes = free.end();
  return out;
}

// Height of what is stacked so far over each time: range maximum, range assignment.
class Skyline {
 public:
  explicit Skyline(std::size_t n) {
    while (size_ < n) size_ *= 2;
    top_.assign(2 * size_, 0);
    set_.assign(2 * size_, -1);
  }
  std::int64_t highest(std::size_t lo, std::size_t hi) { return visit(1, 0, size_, lo, hi, -1); }
  void raise(std::size_t lo, std::size_t hi, std::int64_t to) { visit(1, 0, size_, lo, hi, to); }

 private:
  // Over [lo, hi): the maximum, then `to` if it is not −1. Depth is the logarithm of the length.
  std::int64_t visit(std::size_t node, std::size_t l, std::size_t r, std::size_t lo, std::size_t hi,
                     std::int64_t to) {
    if (hi <= l || r <= lo) return 0;
    if (lo <= l && r <= hi) {
      const std::int64_t was = top_[node];
      if (to >= 0) top_[node] = set_[node] = to;
      return was;
    }
    if (set_[node] >= 0) {
      for (std::size_t child : {2 * node, 2 * node + 1}) top_[child] = set_[child] = set_[node];
      set_[node] = -1;
    }
    const std::size_t mid = (l + r) / 2;
    const std::int64_t out =
        std::max(visit(2 * node, l, mid, lo, hi, to), visit(2 * node + 1, mid, r, lo, hi, to));
    top_[node] = std::max(top_[2 * node], top_[2 * node + 1]);
    return out;
  }
  std::size_t size_ = 1;
  std::vector<std::int64_t> top_, set_;
};

Packing stacked(std::span<const Interval> items, const std::vector<std::size_t>& order) {
  std::vector<std::int64_t> times;
  for (const Interval& x : items) times.push_back(x.first), times.push_back(x.last + 1);
  std::sort(times.begin(), times.end());
  times.erase(std::unique(times.begin(), times.end()), times.end());
  const auto slot = [&](std::int64_t t) {
    return static_cast<std::size_t>(std::lower_bound(times.begin(), times.end(), t) -
                                    times.begin());
  };
  Packing out{std::vector<std::int64_t>(items.size()), 0};
  Skyline sky(times.size() + 1);
  for (std::size_t i : order) {
    const std::size_t lo = slot(items[i].first), hi = slot(items[i].last + 1);
    out.offsets[i] = sky.highest(lo, hi);
    const std::int64_t top = out.offsets[i] + aligned(items[i].bytes);
    sky.raise(lo, hi, top);
    out.bytes = std::max(out.bytes, top);
  }
  return out;
}

// Decreasing size, each in the lowest gap between those placed before that overlap it in time.
// Quadratic, so for short lists only.
Packing by_size(std::span<const Interval> items, const std::vector<std::size_t>& order) {
  Packing out{std::vector<std::int64_t>(items.size()), 0};
  std::vector<std::size_t> by_place;  // placed ones, by offset
  for (std::size_t i : order) {
    const std::int64_t need = aligned(items[i].bytes);
    std::int64_t at = 0, best = -1, best_gap = 0;
    for (std::size_t k : by_place) {
      if (items[k].last < items[i].first || items[i].last < items[k].first) continue;
      if (const std::int64_t gap = out.offsets[k] - at;
          gap >= need && (best < 0 || gap < best_gap)) {
        best = at;
        best_gap = gap;
      }
      at = std::max(at, out.offsets[k] + aligned(items[k].bytes));
    }
    out.offsets[i] = best >= 0 ? best : at;
    out.bytes = std::max(out.bytes, out.offsets[i] + need);
    const auto where =
        std::upper_bound(by_place.begin(), by_place.end(), out.offsets[i],
                         [&](std::int64_t o, std::size_t k) { return o < out.offsets[k]; });
    by_place.insert(where, i);
  }
  return out;
}

}  // namespace

Packing pack(std::span<const Interval> items) {
  Packing best = by_time(items, false);
  const auto consider = [&](Packing p) {
    if (p.bytes < best.bytes) best = std::move(p);
  };
  consider(by_time(items, true));
  std::vector<std::size_t> order(items.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return std::pair(items[b].last - items[b].first, a) <
           std::pair(items[a].last - items[a].first, b);
  });
  consider(stacked(items, order));
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return std::pair(items[b].bytes, a) < std::pair(items[a].bytes, b);
  });
  consider(stacked(items, order));
  if (items.size() <= 4096) consider(by_size(items, order));
  return best;
}

}  // namespace gradc::planning
