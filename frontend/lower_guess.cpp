// What kind of value a scan's state will be (rule 17), before it is bound.
#include <algorithm>

#include "frontend/lowerer.h"

namespace gradc {

using ast::ExprKind;

// What kind of value a state is must be known when it is read, before it is bound. So its right
// side is looked at ahead: a comparison is a boolean; integers and positions alone are an integer,
// whose range must settle (0 is where it starts); all else is a real.
Lowerer::Guess Lowerer::guess_state(const std::string& name, const StateTable& table) {
  Guess now{DType::i32, 0, 0};
  for (int round = 0; round < 4; ++round) {
    const auto next = guess(table.states.at(name).let->value, name, now);
    if (!next || is_real(next->dtype)) return {terms_.real(), 0, 0};
    if (next->dtype == DType::boolean) return *next;
    if (next->low >= now.low && next->high <= now.high) return now;
    now.low = std::min(now.low, next->low);
    now.high = std::max(now.high, next->high);
  }
  return now;
}

std::optional<Lowerer::Guess> Lowerer::guess(ExprId id, const std::string& name,
                                             const Guess& assumed) {
  const ast::Expr& e = expr(id);
  const auto of = [&](std::size_t i) { return guess(e.operands[i], name, assumed); };
  const auto widest = [](const Guess& a, const Guess& b) {
    return Guess{a.dtype, std::min(a.low, b.low), std::max(a.high, b.high)};
  };
  switch (e.kind) {
    case ExprKind::boolean:
    case ExprKind::training:
    case ExprKind::both:
    case ExprKind::either:
    case ExprKind::invert:
    case ExprKind::compare: return Guess{DType::boolean};
    case ExprKind::paren:
    case ExprKind::list: return of(0);
    case ExprKind::index: return of(0);
    case ExprKind::number: {
      const auto n = Number::literal(e.text, e.number, e.integer).as_integer();
      if (!e.integer || !n || std::abs(*n) > INT32_MAX) return std::nullopt;
      return Guess{DType::i32, *n, *n};
    }
    case ExprKind::name: {
      if (e.text == name) return assumed;
      const Binding* b = frame_.scope->find(e.text);
      if (b == nullptr || b->kind == Binding::wrong) return std::nullopt;
      if (b->kind == Binding::axis) return Guess{DType::i32, 0, b->along->extent - 1};
      if (b->kind == Binding::number) {
        const auto n = b->exact.whole() ? b->exact.as_integer() : std::nullopt;
        return n ? std::optional(Guess{DType::i32, *n, *n}) : std::nullopt;
      }
      return b->term.kind == Term::tensor
                 ? std::optional(Guess{b->term.dtype, b->term.low, b->term.high})
                 : std::nullopt;
    }
    case ExprKind::sum: {
      Guess acc{DType::i32};
      for (std::size_t i = 0; i < e.operands.size(); ++i) {
        const auto x = of(i);
        if (!x || x->dtype != DType::i32) return std::nullopt;
        const bool minus = e.ops[i] == "-";
        acc.low += minus ? -x->high : x->low;
        acc.high += minus ? -x->low : x->high;
      }
      return acc;
    }
    case ExprKind::product: {
      // `x % n` has a range whatever x is.
      if (e.ops.size() < 2 || e.ops.back() != "%") return std::nullopt;
      const auto x = of(0), n = of(e.operands.size() - 1);
      if (!x || x->dtype != DType::i32 || !n || n->dtype != DType::i32 || n->low < 1)
        return std::nullopt;
      return Guess{DType::i32, 0, n->high - 1};
    }
    case ExprKind::call: {
      if ((e.text != "select" || e.operands.size() != 3) &&
          ((e.text != "max" && e.text != "min") || e.operands.size() != 2))
        return std::nullopt;
      const auto a = of(e.operands.size() - 2), b = of(e.operands.size() - 1);
      if (!a || !b || a->dtype != b->dtype) return std::nullopt;
      if (e.text == "max")
        return Guess{a->dtype, std::max(a->low, b->low), std::max(a->high, b->high)};
      if (e.text == "min")
        return Guess{a->dtype, std::min(a->low, b->low), std::min(a->high, b->high)};
      return widest(*a, *b);
    }
    case ExprKind::negate: {
      const auto x = of(0);
      return x && x->dtype == DType::i32 ? std::optional(Guess{DType::i32, -x->high, -x->low})
                                         : std::nullopt;
    }
    case ExprKind::reduce: return std::nullopt;
  }
  return std::nullopt;
}

}  // namespace gradc
