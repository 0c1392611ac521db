// x[a = e], canonicalised (rule 10): positions that are a plain stretch of an axis become relabel,
// pick, slice, shift, split and merge, which are free or nearly so; windows become shifts side by
// side; all else is a gather. Several entries are read at once in meaning, one after the other
// here.
#include <algorithm>

#include "frontend/terms.h"

namespace gradc {
namespace {

// A window of at most so many places becomes reads side by side rather than a gather, whose
// gradient is a scatter.
constexpr std::int64_t widest_window = 16;

bool exactly(const Axes& axes, const Position& p) {
  return axes.size() == p.terms.size() &&
         std::all_of(p.terms.begin(), p.terms.end(),
                     [&](const auto& t) { return has(axes, t.first); });
}

Axes put(const Axes& axes, const NamedAxis* at, const Axes& instead) {
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
void may_be_zero(Term& t) {
  t.low = std::min<std::int64_t>(t.low, 0);
  t.high = std::max<std::int64_t>(t.high, 0);
}

Term with_range(Term t, const Term& x) {
  t.low = x.low;
  t.high = x.high;
  return t;
}

}  // namespace

bool Terms::check_entry(const Term& x, const Entry& e) {
  if (!has(x.axes, e.axis)) {
    report_.error(e.span, fmt::format("there is no axis `{}` to read along; the value has {}",
                                      e.axis->name, describe(x.axes)));
    return false;
  }
  if (e.fresh == nullptr && !e.at.ok()) return false;
  if (e.fresh != nullptr || e.at.position) {
    const NamedAxis* q = e.fresh != nullptr ? e.fresh : e.at.position->bare();
    if (q == e.axis) return true;
    if (q != nullptr && q->extent > e.axis->extent) {
      report_.error(
          e.span,
          fmt::format("`{}` has {} places and `{}` only {}, so positions along it would be outside",
                      q->name, q->extent, e.axis->name, e.axis->extent),
          {{q->at, fmt::format("`{}` is {} here", q->name, q->extent)},
           {e.axis->at, fmt::format("`{}` is {} here", e.axis->name, e.axis->extent)}});
      return false;
    }
    return movable(x, e.axis, e.span);
  }
  if (e.at.is_number() ? !e.at.exact.as_integer() : !e.at.integer()) {
    report_.error(e.span, fmt::format("a position is an integer, and this is {}", describe(e.at)));
    return false;
  }
  const std::int64_t low = e.at.is_number() ? *e.at.exact.as_integer() : e.at.low;
  const std::int64_t high = e.at.is_number() ? low : e.at.high;
  if (low < 0 || high >= e.axis->extent) {
    const std::vector<Note> note = {
        {e.axis->at, fmt::format("`{}` is {} here", e.axis->name, e.axis->extent)}};
    if (e.at.is_number()) {
      report_.error(e.span,
                    fmt::format("position {} is outside `{}`, which has 0 .. {}", low, e.axis->name,
                                e.axis->extent - 1),
                    note);
      return false;
    }
    if (!e.at.positional) {
      report_.error(e.span,
                    fmt::format("this data may be {} .. {}, and `{}` has the positions 0 .. {}; a "
                                "bound of its input, `max(x, 0)` or "
                                "`min(x, size({}) - 1)` would keep it inside",
                                low, high, e.axis->name, e.axis->extent - 1, e.axis->name),
                    note);
      return false;
    }
  }
  return movable(x, e.axis, e.span);
}

Term Terms::read(Term x, std::vector<Entry> entries, Span at) {
  if (!x.ok()) return {};
  if (x.is_number()) {
    report_.error(at,
                  fmt::format("`{}` is a number and has no axes to read along", report_.text(at)));
    return {};
  }
  bool fine = true;
  for (std::size_t i = 0; i < entries.size(); ++i) {
    fine = check_entry(x, entries[i]) && fine;
    for (std::size_t j = 0; j < i; ++j)
      if (entries[j].axis == entries[i].axis) {
        report_.error(entries[i].span,
                      fmt::format("`{}` is read along twice", entries[i].axis->name),
                      {{entries[j].span, "the first time"}});
        fine = false;
      }
  }
  if (!fine) return {};
  // `w[k = j, j = k]`: the j that comes in is not the j that goes.
  const std::size_t before = temporaries_.size();
  for (std::size_t i = 0; i < entries.size(); ++i) {
    const NamedAxis* a = entries[i].axis;
    const bool clash = std::any_of(entries.begin(), entries.end(), [&](const Entry& e) {
      return &e != &entries[i] && (e.fresh == a || (e.fresh == nullptr && has(e.at.axes, a)));
    });
    if (!clash) continue;
    const NamedAxis* aside = temporary(a->name, a->extent);
    x = rename(x, a, aside, at);
    entries[i].axis = aside;
  }
  while (x.ok() && read_merged(x, entries, at)) {
  }
  for (const Entry& e : entries) {
    if (!x.ok()) break;
    const Term before_it = x;
    x = read_one(before_it, e, e.span);
    // Data that lay along the axis lies along those that replace it.
    if (has(before_it.data, e.axis))
      for (const NamedAxis* a : x.axes)
        if (a == e.axis || !has(before_it.axes, a)) add_axis(x.data, a);
  }
  for (std::size_t i = temporaries_.size(); i > before; --i)
    graph_.give_axis(temporaries_[i - 1]->storage);
  return x;
}

Term Terms::read_one(const Term& x, const Entry& e, Span at) {
  if (e.fresh != nullptr) return rename(x, e.axis, e.fresh, at);
  if (e.at.is_number()) return read_pick(x, e.axis, *e.at.exact.as_integer(), at);
  if (!e.at.position || !exactly(e.at.axes, *e.at.position))
    return read_gather(x, e.axis, e.at, at);
  const Position& p = *e.at.position;
  if (std::any_of(p.terms.begin(), p.terms.end(),
                  [&](const auto& t) { return t.first != e.axis && has(x.axes, t.first); }))
    return read_gather(x, e.axis, e.at, at);
  if (p.divisor == 0) return read_affine(x, e.axis, p, e.at, at);
  const Term t = read_divided(x, e.axis, p, at);
  return t.ok() ? t : read_gather(x, e.axis, e.at, at);
}

Term Terms::read_pick(const Term& x, const NamedAxis* a, std::int64_t k, Span at) {
  return with_range(add(Opcode::pick_, {&x}, {.integer = k, .from = a->storage}, x.dtype,
                        without(x.axes, {a}), at),
                    x);
}

Term Terms::read_affine(const Term& x, const NamedAxis* a, const Position& p, const Term& e,
                        Span at) {
  if (p.terms.empty()) {
    if (p.constant >= 0 && p.constant < a->extent) return read_pick(x, a, p.constant, at);
    return read_gather(x, a, e, at);
  }
  if (p.terms.size() == 1 && p.terms[0].second >= 1)
    return read_line(x, a, p.terms[0].first, p.constant, p.terms[0].second, at);
  if (p.terms.size() != 2) return read_gather(x, a, e, at);
  auto [q, m] = p.terms[0];
  auto [r, n] = p.terms[1];
  if (m < n) std::swap(q, r), std::swap(m, n);
  // a = constant + size(r)·q + r: a stretch in two axes.
  const std::int64_t total = q->extent * r->extent;
  if (n == 1 && m == r->extent && q != a && r != a && p.constant >= 0 &&
      p.constant + total <= a->extent) {
    const NamedAxis* u = total == a->extent ? a : temporary(a->name, total);
    const Term s = u == a ? x : read_line(x, a, u, p.constant, 1, at);
    if (!s.ok()) return {};
    return with_range(
        add(Opcode::split_, {&s}, {.from = u->storage, .axes = {q->storage, r->storage}}, x.dtype,
            put(s.axes, u, {q, r}), at),
        x);
  }
  if (r->extent > q->extent || r == a) std::swap(q, r), std::swap(m, n);
  if (r->extent <= widest_window && r != a && m >= 1) return read_windows(x, a, q, r, p, at);
  return read_gather(x, a, e, at);
}

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

Term Terms::read_gather(const Term& x, const NamedAxis* a, const Term& e, Span at) {
  Term from = x;
  // A scan goes along `a`, and the position depends on its states: all of x must be at hand.
  for (std::uint32_t s = graph_.node(e.node).level; s != no_index; s = graph_.scans[s].outer)
    if (graph_.scans[s].axis == a->storage) {
      const NamedAxis* whole = temporary(a->name, a->extent);
      from = rename(x, a, whole, at);
      a = whole;
      break;
    }
  if (!from.ok()) return {};
  Axes axes;
  for (const NamedAxis* b : from.axes) {
    if (b != a) {
      add_axis(axes, b);
      continue;
    }
    for (const NamedAxis* c : e.axes)
      if (c == a || !has(from.axes, c)) add_axis(axes, c);
  }
  Term t =
      with_range(add(Opcode::gather_, {&from, &e}, {.from = a->storage}, x.dtype, axes, at), x);
  t.trained = x.trained;
  if (e.low < 0 || e.high >= a->extent) may_be_zero(t);
  return t;
}

}  // namespace gradc
