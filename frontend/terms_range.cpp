// Ranges of integers by interval arithmetic, and positions as formulas (term.h). An integer's range
// is part of its type: it decides whether an index can be outside, and must stay within 32 bits.
#include <algorithm>

#include "frontend/terms.h"

namespace gradc {
namespace {

constexpr std::int64_t farthest = std::int64_t{1}
                                  << 40;  // along an axis of one place a coefficient may grow

struct Interval {
  std::int64_t low, high;
};

Interval interval(const Term& x) {
  if (!x.is_number()) return {x.low, x.high};
  // A number of more than 32 bits keeps its size, so that it is found out of range below.
  const std::int64_t n = std::clamp<std::int64_t>(x.exact.as_integer().value_or(0),
                                                  -(std::int64_t{1} << 40), std::int64_t{1} << 40);
  return {n, n};
}

Interval hull(std::initializer_list<__int128> corners) {
  const __int128 low = *std::min_element(corners.begin(), corners.end()),
                 high = *std::max_element(corners.begin(), corners.end());
  constexpr __int128 far = __int128{1} << 62;
  return {static_cast<std::int64_t>(std::max(low, -far)),
          static_cast<std::int64_t>(std::min(high, far))};
}

Interval combine(Opcode code, Interval a, Interval b) {
  using Wide = __int128;
  const std::int64_t widest = std::max(std::abs(a.low), std::abs(a.high));
  switch (code) {
    case Opcode::add_: return {a.low + b.low, a.high + b.high};
    case Opcode::sub_: return {a.low - b.high, a.high - b.low};
    case Opcode::mul_:
      return hull(
          {Wide{a.low} * b.low, Wide{a.low} * b.high, Wide{a.high} * b.low, Wide{a.high} * b.high});
    case Opcode::max_: return {std::max(a.low, b.low), std::max(a.high, b.high)};
    case Opcode::min_: return {std::min(a.low, b.low), std::min(a.high, b.high)};
    case Opcode::floordiv_:
      if (b.low <= 0) return {-widest, widest};
      return hull({floor_divide(a.low, b.low), floor_divide(a.low, b.high),
                   floor_divide(a.high, b.low), floor_divide(a.high, b.high)});
    default: {  // mod
      if (b.low > 0 && a.low >= 0 && a.high < b.low) return a;
      if (b.low > 0) return {0, a.low >= 0 ? std::min(a.high, b.high - 1) : b.high - 1};
      const std::int64_t most = std::max(std::abs(b.low), std::abs(b.high));
      return {-most, most};
    }
  }
}

}  // namespace

bool Terms::bounded(Opcode code, const Term& a, const Term& b, Term& result, Span at) {
  const Interval r = combine(code, interval(a), interval(b));
  if (r.low < INT32_MIN || r.high > INT32_MAX) {
    report_.error(at, fmt::format("the result is an integer of up to {}, and integers have 32 "
                                  "bits; a real has room: write `1.0 *` before one side",
                                  std::abs(r.low) > std::abs(r.high) ? r.low : r.high));
    return false;
  }
  result.low = r.low;
  result.high = r.high;
  return true;
}

// a < b, a <= b or a == b of positions: their difference d = b − a is linear, so at one place along
// one axis its least and greatest value are sums of the other axes' ends.
void Terms::find_witnesses(Opcode code, const Term& a, const Term& b, Term& result) {
  if (!result.ok() || code == Opcode::ne_) return;
  Term d = result;
  d.position = nullptr;
  follow_position(Opcode::sub_, b, a, d);
  if (!d.position || d.position->divisor != 0) return;
  const Position& p = *d.position;
  for (const auto& [axis, own] : p.terms)
    for (const std::int64_t place : {std::int64_t{0}, axis->extent - 1}) {
      std::int64_t low = p.constant + own * place, high = low;
      for (const auto& [other, m] : p.terms) {
        if (other == axis) continue;
        low += std::min<std::int64_t>(0, m * (other->extent - 1));
        high += std::max<std::int64_t>(0, m * (other->extent - 1));
      }
      const bool holds =
          code == Opcode::eq_ ? low == 0 && high == 0 : low >= (code == Opcode::lt_ ? 1 : 0);
      if (holds) result.witnesses.emplace_back(axis, place);
    }
}

void Terms::follow_position(Opcode code, const Term& a, const Term& b, Term& result) {
  if (!result.ok() || !a.position || !b.position || a.position->divisor != 0 ||
      b.position->divisor != 0)
    return;
  const Position& x = *a.position;
  const Position& y = *b.position;
  Position p = x;
  const auto scale = [](Position& q, std::int64_t m) {
    q.constant *= m;
    for (auto& term : q.terms) term.second *= m;
    if (m == 0) q.terms.clear();
  };
  switch (code) {
    case Opcode::neg_: scale(p, -1); break;
    case Opcode::mul_:
      if (!x.terms.empty() && !y.terms.empty()) return;
      if (x.terms.empty()) p = y;
      scale(p, x.terms.empty() ? x.constant : y.constant);
      break;
    case Opcode::add_:
    case Opcode::sub_: {
      const std::int64_t sign = code == Opcode::add_ ? 1 : -1;
      p.constant += sign * y.constant;
      for (const auto& [axis, m] : y.terms) {
        const auto it = std::find_if(p.terms.begin(), p.terms.end(),
                                     [axis = axis](const auto& t) { return t.first == axis; });
        if (it == p.terms.end())
          p.terms.emplace_back(axis, sign * m);
        else if ((it->second += sign * m) == 0)
          p.terms.erase(it);
      }
      break;
    }
    case Opcode::floordiv_:
    case Opcode::mod_:
      if (!x.bare() || !y.terms.empty() || y.constant < 1) return;
      p.divisor = y.constant;
      p.remainder = code == Opcode::mod_;
      break;
    default: return;
  }
  if (std::any_of(p.terms.begin(), p.terms.end(),
                  [](const auto& t) { return std::abs(t.second) > farthest; }))
    return;
  result.position = std::make_shared<Position>(std::move(p));
}

}  // namespace gradc
