// Owns what the parts of a read share.
#pragma once

#include <algorithm>

#include "frontend/terms.h"

namespace gradc::reading {

inline bool exactly(const Axes& axes, const Position& p) {
  return axes.size() == p.terms.size() &&
         std::all_of(p.terms.begin(), p.terms.end(),
                     [&](const auto& t) { return has(axes, t.first); });
}

inline Axes put(const Axes& axes, const NamedAxis* at, const Axes& instead) {
  Axes out;
  for (const NamedAxis* a : axes) {
    if (a != at) {
      add_axis(out, a);
      continue;
    }
    for (const NamedAxis* b : instead)
      if (!has(axes, b) || b == at) add_axis(out, b);
  }
  return out;
}

// What is read may be a 0 from outside.
inline void may_be_zero(Term& t) {
  t.low = std::min<std::int64_t>(t.low, 0);
  t.high = std::max<std::int64_t>(t.high, 0);
}

inline Term with_range(Term t, const Term& x) {
  t.low = x.low;
  t.high = x.high;
  return t;
}

}  // namespace gradc::reading
