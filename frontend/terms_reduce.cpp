// Reductions (rules 11 and 12). What `where` excludes is replaced before anything is computed of
// it, and replaced by select: an excluded element sends back exactly 0, whatever it is.
#include <algorithm>
#include <limits>

#include "frontend/terms.h"

namespace gradc {

namespace {
constexpr double infinity = std::numeric_limits<double>::infinity();
}

Term Terms::fold(Opcode code, const Term& x, const Axes& over, DType dtype, Span at) {
  Attr attr;
  for (const NamedAxis* a : over) attr.axes.push_back(a->storage);
  return add(code, {&x}, attr, dtype, without(x.axes, over), at);
}

bool Terms::check_reduction(const Reduction& r, const Axes& argument, Span at) {
  bool fine = true;
  const Axes all = r.has_where ? union_of(argument, r.where.axes) : argument;
  for (std::size_t i = 0; i < r.over.size(); ++i)
    if (!has(all, r.over[i])) {
      report_.error(r.places[i],
                    fmt::format("`{}` reduces over `{}`, which its argument does not have: {}",
                                r.name, r.over[i]->name, describe(all)));
      fine = false;
    }
  if (!r.has_where) return fine;
  if (!r.where.boolean()) {
    report_.error(r.where_at,
                  fmt::format("`where` takes a boolean, and this is {}", describe(r.where)));
    return false;
  }
  const Axes strange = without(r.where.data, argument);
  if (!strange.empty()) {
    report_.error(
        r.where_at,
        fmt::format(
            "this condition depends on data along `{}`, which the argument {} does not have",
            strange[0]->name, describe(argument)),
        {{at, "its argument"}});
    fine = false;
  }
  return fine;
}

Term Terms::reduce(const Reduction& r, std::vector<Term> factors, Span at) {
  if (r.has_where && !r.where.ok()) return {};
  Axes argument;
  for (const Term& t : factors) {
    if (!t.ok() || !numeric(t, at)) return {};
    for (const NamedAxis* a : t.axes) add_axis(argument, a);
  }
  if (!check_reduction(r, argument, at)) return {};
  for (std::size_t i = 0; i < r.over.size(); ++i) {
    for (const Term& t : factors)
      if (!movable(t, r.over[i], r.places[i])) return {};
    if (r.has_where && !movable(r.where, r.over[i], r.places[i])) return {};
  }
  if (r.name == "sum") return sum(r, std::move(factors), at);
  if (r.name == "mean") return mean(r, std::move(factors), at);
  const Term x = materialise(factors[0], false, at);
  if (!x.ok()) return {};
  if (r.name == "max" || r.name == "min") return extreme(r, x, at);
  if (r.name == "argmax") return argmax(r, x, at);
  return r.name == "softmax" ? softmax(r, x, at) : logsumexp(r, x, at);
}

// x where the condition holds, else the number; x itself without a condition.
Term Terms::excluded(const Reduction& r, const Term& x, double instead, Span at) {
  if (!r.has_where) return x;
  const Term other = number_term(x.integer() ? Number::integer(static_cast<std::int64_t>(instead))
                                             : Number::real(instead));
  Term t = select(r.where, x, other, at);
  if (!t.ok()) return t;
  // Axes as the argument has them, then those of the condition (rule 8).
  t.axes = union_of(x.axes, r.where.axes);
  graph_.node(t.node).type = type_of(t.dtype, t.axes);
  return t;
}

Term Terms::sum(const Reduction& r, std::vector<Term> factors, Span at) {
  const bool real = std::any_of(factors.begin(), factors.end(), [](const Term& t) {
    return t.real() || (t.is_number() && !t.exact.whole());
  });
  if (!r.has_where && real) return product_sum(std::move(factors), r.over, at);
  Term x = factors[0];
  for (std::size_t i = 1; i < factors.size(); ++i) x = arithmetic(Opcode::mul_, x, factors[i], at);
  if (!x.ok()) return {};
  x = excluded(r, materialise(x, false, at), 0, at);
  if (!x.ok()) return {};
  if (x.real()) return fold(Opcode::sum_, x, r.over, real_, at);
  Term count;
  count = number_term(Number::integer(1));
  for (const NamedAxis* a : r.over) count.exact = count.exact * Number::integer(a->extent);
  Term range;
  if (!bounded(Opcode::mul_, x, count, range, at)) return {};
  Term t = fold(Opcode::sum_, x, r.over, DType::i32, at);
  t.low = range.low;
  t.high = range.high;
  return t;
}

Term Terms::mean(const Reduction& r, std::vector<Term> factors, Span at) {
  if (std::none_of(factors.begin(), factors.end(), [](const Term& t) { return t.real(); }))
    factors[0] = to_real(factors[0], at);
  const Term total = sum(r, std::move(factors), at);
  if (!total.ok()) return {};
  Number places = Number::integer(1);
  for (const NamedAxis* a : r.over)
    if (!r.has_where || !has(r.where.axes, a)) places = places * Number::integer(a->extent);
  if (!r.has_where) return arithmetic(Opcode::div_, total, number_term(places), at);
  Axes counted;
  for (const NamedAxis* a : r.over)
    if (has(r.where.axes, a)) counted.push_back(a);
  const Term ones = select(r.where, to_real(number_term(Number::integer(1)), at),
                           to_real(number_term(Number{}), at), at);
  if (!ones.ok()) return {};
  Term count = counted.empty() ? ones : fold(Opcode::sum_, ones, counted, real_, at);
  if (order(places, Number::integer(1)) != 0)
    count = arithmetic(Opcode::mul_, count, number_term(places), at);
  // Of nothing the mean is 0: the sum is 0 and is divided by 1.
  count = arithmetic(Opcode::max_, count, number_term(Number::integer(1)), at);
  return arithmetic(Opcode::div_, total, count, at);
}

Term Terms::extreme(const Reduction& r, const Term& x, Span at) {
  const bool highest = r.name == "max";
  // An integer has no infinity for a maximum of nothing.
  const Term y = r.has_where ? excluded(r, to_real(x, at), highest ? -infinity : infinity, at) : x;
  if (!y.ok()) return {};
  Term t = fold(highest ? Opcode::amax_ : Opcode::amin_, y, r.over, y.dtype, at);
  t.low = y.low;
  t.high = y.high;
  return t;
}

Term Terms::argmax(const Reduction& r, const Term& x, Span at) {
  if (r.over.size() != 1) {
    report_.error(at, "`argmax` takes one axis, since its result is a position along it");
    return {};
  }
  const Term y = r.has_where ? excluded(r, to_real(x, at), -infinity, at) : x;
  if (!y.ok()) return {};
  Term t = fold(Opcode::argmax_, y, r.over, DType::i32, at);
  t.low = 0;
  t.high = r.over[0]->extent - 1;
  return t;
}

// x − m with the row's maximum m, −inf where excluded. The maximum keeps exp from overflowing and
// cancels, so no gradient flows through it.
Terms::Shifted Terms::shifted(const Reduction& r, const Term& argument, Span at) {
  const Term x = to_real(argument, at);
  const Term y = excluded(r, x, -infinity, at);
  if (!y.ok()) return {};
  const Term m = function(Opcode::stop_, fold(Opcode::amax_, y, r.over, real_, at), at);
  const Term s = excluded(r, arithmetic(Opcode::sub_, x, m, at), -infinity, at);
  return {s, m};
}

Term Terms::softmax(const Reduction& r, const Term& x, Span at) {
  const Shifted s = shifted(r, x, at);
  const Term e = function(Opcode::exp_, s.shifted, at);
  if (!e.ok()) return {};
  Term total = fold(Opcode::sum_, e, r.over, real_, at);
  // A row of which all is excluded sums to 0; any other to at least 1.
  const auto along = [&](const auto& witness) {
    return r.over.size() == 1 && witness.first == r.over[0];
  };
  const bool never_empty = std::any_of(r.where.witnesses.begin(), r.where.witnesses.end(), along);
  if (r.has_where && !never_empty)
    total = select(compare("==", total, number_term(Number{}), at), number_term(Number::real(1)),
                   total, at);
  return arithmetic(Opcode::div_, e, total, at);
}

Term Terms::logsumexp(const Reduction& r, const Term& x, Span at) {
  const Shifted s = shifted(r, x, at);
  const Term e = function(Opcode::exp_, s.shifted, at);
  if (!e.ok()) return {};
  return arithmetic(Opcode::add_,
                    function(Opcode::log_, fold(Opcode::sum_, e, r.over, real_, at), at), s.highest,
                    at);
}

}  // namespace gradc
