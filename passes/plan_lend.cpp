// The gradients' arena lends its room: a gradient's slot is nobody's until it is first written, and
// by then most of what forward saved is gone. What a layer saved may lie where the gradients of the
// layers before it will be.
//
// Each buffer in its turn takes the tightest gap that is free for all its life. Two orders are
// tried (long lives first, large ones first), and the one that leaves less to the arena of
// activations is kept. Quadratic, so bounded: beyond `most_steps` buffers stay where they are.
#include <algorithm>
#include <numeric>
#include <tuple>

#include "passes/plan.h"

namespace gradc::planning {
namespace {

constexpr std::int64_t most_steps = std::int64_t{1} << 25;

class Room {
 public:
  explicit Room(std::span<const Taken> taken) : taken_(taken.begin(), taken.end()) {
    std::sort(taken_.begin(), taken_.end(),
              [](const Taken& a, const Taken& b) { return a.begin < b.begin; });
    for (const Taken& t : taken_) end_ = std::max(end_, t.end);
  }

  // A place for the interval, taken from now on; −1: there is none.
  std::int64_t take(const Interval& x) {
    const std::int64_t need = aligned(x.bytes);
    std::int64_t at = 0, best = -1, best_gap = 0;
    const auto gap_to = [&](std::int64_t begin) {
      if (const std::int64_t gap = begin - at; gap >= need && (best < 0 || gap < best_gap)) {
        best = at;
        best_gap = gap;
      }
    };
    steps_ += static_cast<std::int64_t>(taken_.size());
    for (const Taken& t : taken_) {
      if (t.last < x.first || x.last < t.first) continue;
      gap_to(t.begin);
      at = std::max(at, aligned(t.end));
    }
    gap_to(end_);
    if (best < 0) return -1;
    const auto where =
        std::upper_bound(taken_.begin(), taken_.end(), best,
                         [](std::int64_t begin, const Taken& t) { return begin < t.begin; });
    taken_.insert(where, {best, best + x.bytes, x.first, x.last});
    return best;
  }
  bool worn_out() const { return steps_ > most_steps; }

 private:
  std::vector<Taken> taken_;  // by place
  std::int64_t end_ = 0, steps_ = 0;
};

}  // namespace

std::vector<std::int64_t> lend(std::span<const Interval> items, std::span<const Taken> taken) {
  std::vector<std::int64_t> best(items.size(), -1);
  if (taken.empty()) return best;
  std::int64_t left = pack(items).bytes;
  std::vector<std::size_t> order(items.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  const auto length = [&](std::size_t i) { return items[i].last - items[i].first; };
  for (const bool long_first : {true, false}) {
    std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
      const std::int64_t x = long_first ? length(a) : items[a].bytes,
                         y = long_first ? length(b) : items[b].bytes;
      return std::tuple(-x, -items[a].bytes, a) < std::tuple(-y, -items[b].bytes, b);
    });
    Room room(taken);
    std::vector<std::int64_t> places(items.size(), -1);
    std::vector<Interval> rest;
    for (std::size_t i : order)
      if (room.worn_out() || items[i].bytes == 0 || (places[i] = room.take(items[i])) < 0)
        rest.push_back(items[i]);
    if (const std::int64_t bytes = pack(rest).bytes; bytes < left) {
      left = bytes;
      best = std::move(places);
    }
  }
  return best;
}

}  // namespace gradc::planning
