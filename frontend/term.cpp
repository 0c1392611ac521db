// Lists of axes, and values in words.
#include "frontend/term.h"

#include <fmt/format.h>

#include <algorithm>

namespace gradc {

bool has(const Axes& axes, const NamedAxis* a) {
  return std::find(axes.begin(), axes.end(), a) != axes.end();
}

void add_axis(Axes& axes, const NamedAxis* a) {
  if (!has(axes, a)) axes.push_back(a);
}

Axes union_of(const Axes& a, const Axes& b) {
  Axes out = a;
  for (const NamedAxis* x : b) add_axis(out, x);
  return out;
}

Axes without(const Axes& axes, const Axes& gone) {
  Axes out;
  for (const NamedAxis* x : axes)
    if (!has(gone, x)) out.push_back(x);
  return out;
}

bool covers(const Axes& a, const Axes& b) {
  return std::all_of(b.begin(), b.end(), [&](const NamedAxis* x) { return has(a, x); });
}

std::string describe(const Axes& axes) {
  std::string out = "[";
  for (const NamedAxis* a : axes)
    out += fmt::format("{}{}={}", out.size() > 1 ? " " : "", a->name, a->extent);
  return out + "]";
}

std::string describe(const Term& v) {
  if (v.is_number()) return fmt::format("the number {}", v.exact.text());
  if (v.kind == Term::wrong) return "unknown";
  if (v.integer()) return fmt::format("integer {}", describe(v.axes));
  return fmt::format("{} {}", v.boolean() ? "boolean" : "real", describe(v.axes));
}

}  // namespace gradc
