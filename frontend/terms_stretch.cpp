// Reads along stretches of an axis: lines, windows, and what `//` and `%` say (terms_read.cpp
// chooses).
#include "frontend/terms_read.h"

namespace gradc {

using namespace reading;

// x at a = k + m·q, with 0 outside.
Term Terms::read_line(const Term& x, const NamedAxis* a, const NamedAxis* q, std::int64_t k,
                      std::int64_t m, Span at) {
  const std::int64_t size = a->extent, count = q->extent;
  if (q == a && k == 0 && (m == 1 || size == 1)) return x;
  if (m == 1 && count == size) {
    if (k == 0) return rename(x, a, q, at);
    Term t = with_range(
        add(Opcode::shift_, {&x}, {.integer = k, .from = a->storage}, x.dtype, x.axes, at), x);
    may_be_zero(t);
    return rename(t, a, q, at);
  }
  const std::int64_t first = k >= 0 ? 0 : (-k + m - 1) / m;
  const std::int64_t last = k >= size ? -1 : std::min(count - 1, floor_divide(size - 1 - k, m));
  const Axes axes = put(x.axes, a, {q});
  if (first > last) {
    const Attr zero;
    const Term nothing = add(Opcode::constant_, {}, zero, x.dtype, {}, at);
    Term t = expand(nothing, axes, at);
    return t;
  }
  const auto slice = [&](const NamedAxis* to, std::int64_t from) {
    const std::int64_t n = to->extent;
    if (from == 0 && (m == 1 || n == 1) && n == size) return rename(x, a, to, at);
    return with_range(
        add(Opcode::slice_, {&x},
            {.integer = from, .stride = n == 1 ? 1 : m, .from = a->storage, .to = to->storage},
            x.dtype, put(x.axes, a, {to}), at),
        x);
  };
  if (first == 0 && last == count - 1 && q != a) return slice(q, k);
  const NamedAxis* u = temporary(q->name, last - first + 1);
  const Term s = slice(u, k + m * first);
  if (!s.ok()) return {};
  Term t = with_range(
      add(Opcode::pad_, {&s}, {.integer = first, .stride = 1, .from = q->storage, .to = u->storage},
          x.dtype, axes, at),
      x);
  may_be_zero(t);
  return t;
}

// x at a = … + m·q + n·r for a short r: one read along q for each place of r, side by side.
Term Terms::read_windows(const Term& x, const NamedAxis* a, const NamedAxis* q, const NamedAxis* r,
                         const Position& p, Span at) {
  std::int64_t m = 0, n = 0;
  for (const auto& [axis, coefficient] : p.terms) (axis == q ? m : n) = coefficient;
  if (!room(put(x.axes, a, {q, r}), at)) return {};
  std::vector<NodeId> parts;
  Term whole;
  for (std::int64_t i = 0; i < r->extent; ++i) {
    Term part = read_line(x, a, q, p.constant + n * i, m, at);
    if (!part.ok()) return {};
    parts.push_back(part.node);
    may_be_zero(part);
    whole = part;
  }
  whole.axes.push_back(r);
  whole.position = nullptr;
  whole.truth = -1;
  Attr attr{.to = r->storage};
  attr.axes.assign(parts.size(), AxisId{});
  // As x stands, with q and r for a.
  const Axes order = put(x.axes, a, {q, r});
  whole.axes = order;
  whole.node = graph_.add(Opcode::concat_, std::move(parts), attr, type_of(x.dtype, order), at);
  return whole;
}

// x at a = q // c repeats each place c times, x at a = q % c repeats the whole, where the extents
// are just so.
Term Terms::read_divided(const Term& x, const NamedAxis* a, const Position& p, Span at) {
  const NamedAxis* q = p.terms[0].first;
  const std::int64_t c = p.divisor;
  if (q == a || x.axes.size() == static_cast<std::size_t>(max_rank)) return {};
  if (p.remainder ? a->extent != c || q->extent % c != 0 : q->extent != c * a->extent) return {};
  const NamedAxis* r = temporary(q->name, p.remainder ? q->extent / c : c);
  const Axes pair = p.remainder ? Axes{r, a} : Axes{a, r};
  const Term wide = expand(x, put(x.axes, a, pair), at);
  if (!wide.ok()) return {};
  return with_range(
      add(Opcode::merge_, {&wide}, {.to = q->storage, .axes = {pair[0]->storage, pair[1]->storage}},
          x.dtype, put(x.axes, a, {q}), at),
      x);
}

// z[i = n // size(J), j = n % size(J)]: i and j become n.
bool Terms::read_merged(Term& x, std::vector<Entry>& entries, Span at) {
  const auto divided = [&](const Entry& e) {
    return e.fresh == nullptr && e.at.position && e.at.position->divisor > 0 &&
           exactly(e.at.axes, *e.at.position);
  };
  for (std::size_t i = 0; i < entries.size(); ++i)
    for (std::size_t j = 0; j < entries.size(); ++j) {
      if (i == j || !divided(entries[i]) || !divided(entries[j])) continue;
      const Position& p = *entries[i].at.position;
      const Position& r = *entries[j].at.position;
      const NamedAxis* n = p.terms[0].first;
      const NamedAxis *a = entries[i].axis, *b = entries[j].axis;
      if (p.remainder || !r.remainder || r.terms[0].first != n || p.divisor != r.divisor) continue;
      if (b->extent != r.divisor || a->extent * b->extent != n->extent || has(x.axes, n)) continue;
      x = with_range(add(Opcode::merge_, {&x}, {.to = n->storage, .axes = {a->storage, b->storage}},
                         x.dtype, put(without(x.axes, {b}), a, {n}), at),
                     x);
      entries.erase(entries.begin() + static_cast<std::ptrdiff_t>(std::max(i, j)));
      entries.erase(entries.begin() + static_cast<std::ptrdiff_t>(std::min(i, j)));
      return true;
    }
  return false;
}

}  // namespace gradc
