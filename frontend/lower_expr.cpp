// Expressions: names, chains of operators, and which operands may meet (rules 5, 6 and 7).
#include <algorithm>

#include "frontend/lower_functions.h"
#include "frontend/lowerer.h"

namespace gradc {

using ast::ExprKind;

namespace {

// Nodes within one another, through calls: what the stack bears with room to spare.
constexpr int deepest = 2000;

}  // namespace

void Meeting::add(const Term& t) {
  if (!t.ok()) fine_ = false;
  if (!t.ok() || t.positional) return;
  for (const Axes& w : widest_)
    if (covers(w, t.axes)) return;
  std::erase_if(widest_, [&](const Axes& w) { return covers(t.axes, w); });
  widest_.push_back(t.axes);
}

Axes Meeting::disputed() const {
  Axes all, out;
  for (const Axes& w : widest_) all = union_of(all, w);
  for (const NamedAxis* a : all)
    if (!std::all_of(widest_.begin(), widest_.end(), [&](const Axes& w) { return has(w, a); }))
      out.push_back(a);
  return out;
}

Term Lowerer::eval(ExprId id) {
  const ast::Expr& e = expr(id);
  if (stopped()) return {};
  if (depth_ >= deepest) {
    report_.error(e.at, "expressions and calls within one another are too deep here");
    return {};
  }
  ++depth_;
  Term t = eval_inner(e);
  --depth_;
  return t;
}

Term Lowerer::eval_inner(const ast::Expr& e) {
  switch (e.kind) {
    case ExprKind::number: return number_term(Number::literal(e.text, e.number, e.integer));
    case ExprKind::boolean: return terms_.boolean(e.number != 0, e.at);
    case ExprKind::training: return terms_.training(e.at);
    case ExprKind::name: return name(e);
    case ExprKind::paren: return eval(e.operands[0]);
    case ExprKind::sum:
    case ExprKind::product: return arithmetic_chain(e);
    case ExprKind::both:
    case ExprKind::either: return logic_chain(e);
    case ExprKind::negate: return terms_.negate(eval(e.operands[0]), e.at);
    case ExprKind::invert: return terms_.invert(eval(e.operands[0]), e.at);
    case ExprKind::compare: {
      const Term a = eval(e.operands[0]);
      return terms_.compare(e.text, a, eval(e.operands[1]), e.point);
    }
    case ExprKind::call: return call(e);
    case ExprKind::reduce: return reduction(e);
    case ExprKind::list: return list(e);
    case ExprKind::index: return index(e);
  }
  return {};
}

Term Lowerer::name(const ast::Expr& e) {
  Binding* b = lookup(e.text, e.at, "value, axis or number");
  if (b == nullptr) return {};
  b->used = true;
  switch (b->kind) {
    case Binding::number: return number_term(b->exact);
    case Binding::axis: return terms_.position(b->along, e.at);
    case Binding::wrong: return {};
    default: break;
  }
  // In a scan a value that is not bound yet would be that of another turn of the outside.
  return b->term;
}

void Lowerer::check_meeting(const Meeting& m, const ast::Expr& e) {
  if (!m.fine() || m.widest().size() < 2 || covers(frame_.listed, m.disputed())) return;
  const Axes& a = m.widest()[0];
  const Axes& b = m.widest()[1];
  report_.error(e.point.line != 0 ? e.point : e.at,
                fmt::format("an outer product in `{}`: {} lacks `{}`, and {} lacks `{}`; if it is "
                            "meant, list the axes on the left side of "
                            "the statement, or put the factors directly under `sum`",
                            report_.text(e.at), describe(a), without(b, a)[0]->name, describe(b),
                            without(a, b)[0]->name));
}

// Rule 5: `x / d` and `sqrt(d)` almost always mean the extent.
bool Lowerer::bare_position(ExprId id, const char* role) {
  const ast::Expr* e = &expr(id);
  while (e->kind == ExprKind::paren) e = &expr(e->operands[0]);
  if (e->kind != ExprKind::name) return false;
  const Binding* b = frame_.scope->find(e->text);
  if (b == nullptr || b->kind != Binding::axis) return false;
  report_.error(e->at, fmt::format("`{0}` is the position along the axis here, 0 .. {1}, and "
                                   "cannot be {2}; its extent is `size({0})`",
                                   e->text, b->along->extent - 1, role));
  return true;
}

Term Lowerer::arithmetic_chain(const ast::Expr& e) {
  Meeting meeting;
  Term acc = eval(e.operands[0]);
  meeting.add(acc);
  bool fine = acc.ok();
  for (std::size_t i = 1; i < e.operands.size(); ++i) {
    const std::string& sign = e.ops[i];
    if ((sign == "/" || sign == "//" || sign == "%") && bare_position(e.operands[i], "a divisor")) {
      fine = false;
      continue;
    }
    const Term x = eval(e.operands[i]);
    meeting.add(x);
    fine = fine && x.ok();
    if (!fine) continue;
    acc = terms_.arithmetic(opcode_of(sign), acc, x, e.op_at[i]);
    fine = acc.ok();
  }
  check_meeting(meeting, e);
  return fine ? acc : Term{};
}

Term Lowerer::logic_chain(const ast::Expr& e) {
  const Opcode code = e.kind == ExprKind::both ? Opcode::and_ : Opcode::or_;
  Term acc = eval(e.operands[0]);
  for (std::size_t i = 1; i < e.operands.size(); ++i) {
    const Term x = eval(e.operands[i]);
    acc = terms_.logic(code, acc, x, e.op_at[i]);
  }
  return acc;
}

// A product's factors, through parentheses; one factor if it is anything else (rule 7: directly
// under a sum). A divisor without axes is a factor of its own, which can wait behind the sum.
void Lowerer::factors(ExprId id, std::vector<Term>& out) {
  const ast::Expr& e = expr(id);
  if (e.kind == ExprKind::paren) return factors(e.operands[0], out);
  if (e.kind != ExprKind::product ||
      std::any_of(e.ops.begin() + 1, e.ops.end(),
                  [](const std::string& s) { return s == "//" || s == "%"; })) {
    out.push_back(eval(id));
    return;
  }
  factors(e.operands[0], out);
  for (std::size_t i = 1; i < e.operands.size(); ++i) {
    if (e.ops[i] == "*") {
      factors(e.operands[i], out);
      continue;
    }
    if (bare_position(e.operands[i], "a divisor")) {
      out.push_back({});
      continue;
    }
    const Term x = eval(e.operands[i]);
    if (x.is_number() && !x.exact.zero())
      out.push_back(number_term(Number::real(1 / x.exact.value())));
    else if (x.kind == Term::tensor && x.axes.empty())
      out.push_back(terms_.arithmetic(Opcode::div_, number_term(Number::real(1)), x, e.op_at[i]));
    else
      out.back() = terms_.arithmetic(Opcode::div_, out.back(), x, e.op_at[i]);
  }
}

}  // namespace gradc
