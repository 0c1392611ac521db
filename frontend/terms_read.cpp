// x[a = e], canonicalised (rule 10): positions that are a plain stretch of an axis become relabel,
// pick, slice, shift, split and merge, which are free or nearly so; windows become shifts side by
// side; all else is a gather. Several entries are read at once in meaning, one after the other
// here.
#include "frontend/terms_read.h"

namespace gradc {
namespace {

// A window of at most so many places becomes reads side by side rather than a gather, whose
// gradient is a scatter.
constexpr std::int64_t widest_window = 16;

}  // namespace

using namespace reading;

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
