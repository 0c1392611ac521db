// Number contexts (rule 4): extents, counts, bounds, initialisers, number arguments, `train`. The
// name of an axis is its extent there.
#include "frontend/lower_functions.h"
#include "frontend/lowerer.h"

namespace gradc {

using ast::ExprKind;

std::optional<Number> Lowerer::number(ExprId id, std::string_view what) {
  const ast::Expr& e = expr(id);
  switch (e.kind) {
    case ExprKind::number: return Number::literal(e.text, e.number, e.integer);
    case ExprKind::paren: return number(e.operands[0], what);
    case ExprKind::negate: {
      const auto x = number(e.operands[0], what);
      return x ? std::optional(x->negated()) : std::nullopt;
    }
    case ExprKind::name: {
      Binding* b = lookup(e.text, e.at, "number");
      if (b == nullptr || b->kind == Binding::wrong) return std::nullopt;
      b->used = true;
      if (b->kind == Binding::number) return b->exact;
      if (b->kind == Binding::axis) return Number::integer(b->along->extent);
      report_.error(
          e.at,
          fmt::format("{} is a number known at compile time, and `{}` is a value", what, e.text),
          {{b->at, fmt::format("`{}` is bound here", e.text)}});
      return std::nullopt;
    }
    case ExprKind::sum:
    case ExprKind::product: {
      auto acc = number(e.operands[0], what);
      for (std::size_t i = 1; i < e.operands.size(); ++i) {
        const auto x = number(e.operands[i], what);
        if (!acc || !x) return std::nullopt;
        const Term t =
            terms_.arithmetic(opcode_of(e.ops[i]), number_term(*acc), number_term(*x), e.op_at[i]);
        if (!t.ok()) return std::nullopt;
        acc = t.exact;
      }
      return acc;
    }
    case ExprKind::call: return number_call(e, what);
    default:
      report_.error(e.at,
                    fmt::format("{} is a number known at compile time, which this is not", what));
      return std::nullopt;
  }
}

std::optional<Number> Lowerer::number_call(const ast::Expr& e, std::string_view what) {
  if (e.text == "size") {
    const NamedAxis* a = size_of(e);
    return a != nullptr ? std::optional(Number::integer(a->extent)) : std::nullopt;
  }
  const FunctionRow* row = find_function(e.text);
  if (row == nullptr || !row->of_numbers || e.operands.size() != row->arguments) {
    report_.error(e.at,
                  fmt::format("{} is a number known at compile time, which this is not", what));
    return std::nullopt;
  }
  std::vector<Term> x;
  for (ExprId o : e.operands) {
    const auto n = number(o, what);
    if (!n) return std::nullopt;
    x.push_back(number_term(*n));
  }
  const Term t = x.size() == 1 ? terms_.function(row->code, x[0], e.at)
                               : terms_.arithmetic(row->code, x[0], x[1], e.at);
  return t.ok() ? std::optional(t.exact) : std::nullopt;
}

std::optional<std::int64_t> Lowerer::integer(ExprId id, const std::string& what, std::int64_t low,
                                             std::int64_t high) {
  const auto n = number(id, what);
  if (!n) return std::nullopt;
  const auto i = n->as_integer();
  if (!i) {
    const std::string text = report_.text(expr(id).at);
    report_.error(expr(id).at,
                  text == n->text() ? fmt::format("{} must be a whole number, not {}", what, text)
                                    : fmt::format("{} must be a whole number, and `{}` is {}", what,
                                                  text, n->text()),
                  known_numbers(id));
    return std::nullopt;
  }
  if (*i < low || *i > high) {
    report_.error(expr(id).at, fmt::format("{} is {}; it must be {} .. {}", what, *i, low, high),
                  known_numbers(id));
    return std::nullopt;
  }
  return i;
}

std::optional<std::int64_t> Lowerer::extent(ExprId id, const std::string& axis) {
  return integer(id, fmt::format("the extent of `{}`", axis), 1, max_extent);
}

// `size(a)`: the axis.
const NamedAxis* Lowerer::size_of(const ast::Expr& e) {
  if (e.operands.size() != 1 || expr(e.operands[0]).kind != ExprKind::name) {
    report_.error(e.at, "`size` takes the name of an axis: `size(t)`");
    return nullptr;
  }
  const ast::Expr& a = expr(e.operands[0]);
  return axis_named({a.text, a.at});
}

}  // namespace gradc
