// Strided places as sets of bytes.
#include "passes/check_extent.h"

#include <tuple>

namespace gradc::plan_check {

Extent extent_of(const Function& f, ValueId v) {
  const Type& t = f.type(v);
  const Placement& p = f.placed[v.index];
  Extent e{p.arena, p.offset, p.offset, bytes(t.dtype), {}};
  if (f.elements(t) == 0) return e;
  e.hi += e.element;
  for (int i = 0; i < t.axes.size(); ++i) {
    const std::int64_t n = f.extent(t.axes[i]),
                       step = p.strides[static_cast<std::size_t>(i)] * e.element;
    if (n <= 1) continue;
    e.dims.emplace_back(step, n);
    e.hi += step * (n - 1);
  }
  std::sort(e.dims.rbegin(), e.dims.rend());
  return e;
}

bool injective(const Extent& e) {
  std::int64_t span = e.element;
  for (auto d = e.dims.rbegin(); d != e.dims.rend(); ++d) {
    if (d->first < span) return false;
    span += d->first * (d->second - 1);
  }
  return true;
}

namespace {

// Modulo `step`, relative to `origin`, all elements lie in [from, to).
bool residue(const Extent& e, std::int64_t step, std::int64_t origin, std::int64_t& from,
             std::int64_t& to) {
  from = (e.lo - origin) % step;
  to = from + e.element;
  for (const auto& [stride, n] : e.dims) {
    if (stride % step == 0) continue;
    if (stride > step) return false;
    to += stride * (n - 1);
  }
  return to <= step;
}

}  // namespace

bool apart(const Extent& a, const Extent& b) {
  if (a.arena != b.arena || a.lo == a.hi || b.lo == b.hi || a.hi <= b.lo || b.hi <= a.lo)
    return true;
  const std::int64_t origin = std::min(a.lo, b.lo);
  for (const Extent* e : {&a, &b})
    for (const auto& [step, n] : e->dims) {
      std::int64_t a0, a1, b0, b1;
      if (step > 0 && residue(a, step, origin, a0, a1) && residue(b, step, origin, b0, b1) &&
          (a1 <= b0 || b1 <= a0))
        return true;
    }
  return false;
}

Needed::Needed(const std::vector<Extent>& extents, const std::vector<std::uint32_t>& values) {
  for (std::uint32_t v : values)
    if (extents[v].lo < extents[v].hi) order_.push_back(v);
  std::sort(order_.begin(), order_.end(), [&](std::uint32_t a, std::uint32_t b) {
    return std::tuple(extents[a].arena, extents[a].lo, a) <
           std::tuple(extents[b].arena, extents[b].lo, b);
  });
  for (std::size_t i = 0; i < order_.size(); ++i) {
    keys_.emplace_back(extents[order_[i]].arena, extents[order_[i]].lo);
    his_.push_back(extents[order_[i]].hi);
    at_[order_[i]] = i;
  }
  while (size_ < order_.size()) size_ *= 2;
  top_.assign(2 * size_, INT64_MIN);
}

void Needed::set(std::uint32_t v, bool on) {
  const auto it = at_.find(v);
  if (it == at_.end()) return;
  std::size_t n = size_ + it->second;
  top_[n] = on ? his_[it->second] : INT64_MIN;
  for (n /= 2; n > 0; n /= 2) top_[n] = std::max(top_[2 * n], top_[2 * n + 1]);
}

}  // namespace gradc::plan_check
