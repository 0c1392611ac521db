// Expressions: chains of operators are one node each; what nests is counted.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "frontend/parser.h"

namespace gradc {

using ast::Expr;
using ast::ExprId;
using ast::ExprKind;

namespace {

// The levels of operators that chain, loosest first; an operand of one is of the next.
enum Level { either, both, sum, product };

bool is_operator(int level, std::string_view text) {
  switch (level) {
    case either: return text == "or";
    case both: return text == "and";
    case sum: return text == "+" || text == "-";
    default: return text == "*" || text == "/" || text == "//" || text == "%";
  }
}
constexpr std::array chain_kinds = {ExprKind::either, ExprKind::both, ExprKind::sum,
                                    ExprKind::product};

bool nests(ExprKind kind) {
  switch (kind) {
    case ExprKind::number:
    case ExprKind::boolean:
    case ExprKind::training:
    case ExprKind::name:
    case ExprKind::sum:
    case ExprKind::product:
    case ExprKind::both:
    case ExprKind::either:
    case ExprKind::compare: return false;
    case ExprKind::paren:
    case ExprKind::negate:
    case ExprKind::invert:
    case ExprKind::call:
    case ExprKind::reduce:
    case ExprKind::list:
    case ExprKind::index: return true;
  }
  return true;
}

bool is_comparison(const Token& t) {
  return t.kind == Tok::sign && (t.text == "<" || t.text == "<=" || t.text == ">" ||
                                 t.text == ">=" || t.text == "==" || t.text == "!=");
}

}  // namespace

Span Parser::since(std::size_t begin) const {
  const Token& first = tokens_[begin];
  std::size_t last = begin;
  while (last + 1 < at_ && tokens_[last + 1].at.line == first.at.line) ++last;
  Span s = first.at;
  s.length = tokens_[last].at.column + tokens_[last].at.length - first.at.column;
  return s;
}

ExprId Parser::finish(Expr&& e, std::size_t begin) {
  if (failed()) return standard_;
  int inside = e.where.valid() ? nested_[e.where.index] : 0;
  for (ExprId o : e.operands) inside = std::max(inside, nested_[o.index]);
  inside += nests(e.kind) ? 1 : 0;
  if (inside > deepest_nesting)
    fail(tokens_[begin].at,
         fmt::format("an expression that nests more than {} deep", deepest_nesting));
  if (failed()) return standard_;
  e.at = since(begin);
  if (e.point.line == 0) e.point = e.at;
  nested_.push_back(inside);
  file_->exprs.push_back(std::move(e));
  return ExprId{static_cast<std::uint32_t>(file_->exprs.size() - 1)};
}

ExprId Parser::wrap(ExprKind kind, ExprId inside, std::size_t begin) {
  Expr e{.kind = kind, .point = tokens_[begin].at};
  e.operands = {inside};
  return finish(std::move(e), begin);
}

ExprId Parser::expression() {
  const Nest nest(*this);
  return failed() ? standard_ : chain(either);
}

ExprId Parser::number() {
  const Nest nest(*this);
  return failed() ? standard_ : chain(sum);
}

ExprId Parser::operand(int level) {
  switch (level) {
    case either: return chain(both);
    case both: return inversion();
    case sum: return chain(product);
    default: return negation();
  }
}

ExprId Parser::chain(int level) {
  const std::size_t begin = at_;
  const ExprId first = operand(level);
  auto at_operator = [&] {
    return (is(Tok::sign) || is(Tok::keyword)) && is_operator(level, peek().text);
  };
  if (failed() || !at_operator()) return first;
  Expr e{.kind = chain_kinds[static_cast<std::size_t>(level)], .point = peek().at};
  e.operands = {first};
  e.ops = {""};
  e.op_at = {{}};
  while (at_operator()) {
    const Token& t = next();
    e.ops.emplace_back(t.text);
    e.op_at.push_back(t.at);
    e.operands.push_back(operand(level));
  }
  return finish(std::move(e), begin);
}

// Signs nest without brackets, so they are read by a loop. Gives the token behind the last one.
std::size_t Parser::signs(std::string_view sign) {
  for (int count = 0; is(sign); ++count) {
    if (count == deepest_nesting)
      fail(peek().at, fmt::format("more than {} signs `{}` in a row", deepest_nesting, sign));
    next();
  }
  return at_;
}

ExprId Parser::inversion() {
  const std::size_t begin = at_;
  const std::size_t end = signs("not");
  ExprId e = comparison();
  for (std::size_t i = end; i > begin && !failed(); --i) e = wrap(ExprKind::invert, e, i - 1);
  return e;
}

ExprId Parser::comparison() {
  const std::size_t begin = at_;
  const ExprId left = chain(sum);
  if (failed() || !is_comparison(peek())) return left;
  const Token& sign = next();
  Expr e{.kind = ExprKind::compare, .point = sign.at, .text = std::string(sign.text)};
  e.operands = {left, chain(sum)};
  const ExprId result = finish(std::move(e), begin);
  if (!failed() && is_comparison(peek()))
    fail(peek().at,
         fmt::format("comparisons do not chain; write `a {} b and b {} c`", sign.text, peek().text),
         {{sign.at, "the first comparison"}});
  return result;
}

ExprId Parser::negation() {
  const std::size_t begin = at_;
  const std::size_t end = signs("-");
  ExprId e = postfix();
  for (std::size_t i = end; i > begin && !failed(); --i) e = wrap(ExprKind::negate, e, i - 1);
  return e;
}

ExprId Parser::postfix() {
  const std::size_t begin = at_;
  ExprId e = atom();
  while (!failed() && is("[")) e = bracket(e, begin);
  return e;
}

// x[a b c], or x[a = e, b = f].
ExprId Parser::bracket(ExprId of, std::size_t begin) {
  const Span opened = peek().at;
  Expr e{.kind = ExprKind::list, .point = opened};
  e.operands = {of};
  if (!(is(Tok::name, 1) && is("=", 2))) {
    const Token& first = peek(1);
    if (first.kind == Tok::number ||
        (first.kind == Tok::sign && first.text != "]" && first.text != ",")) {
      next();
      expected("a name of an axis", "; an index names the axis that it reads along: `x[a = 0]`");
      return standard_;
    }
    e.axes = list(false, "all axes of the value");
    return finish(std::move(e), begin);
  }
  e.kind = ExprKind::index;
  next();
  do {
    e.names.push_back(name("an axis"));
    if (!expect("=", "; each part of an index is `axis = position`")) return standard_;
    e.operands.push_back(expression());
  } while (accept(","));
  close("]", opened, "`,` or ");
  return finish(std::move(e), begin);
}

ExprId Parser::atom() {
  const Token& t = peek();
  const std::size_t begin = at_;
  switch (t.kind) {
    case Tok::number: return literal();
    case Tok::name: {
      if (is_reduction(t.text)) return reduction();  // max, min
      if (is("(", 1)) return call();
      if (is_function(t.text)) {
        fail(t.at, fmt::format("`{}` is a function, not a value; write `{}(…)`", t.text, t.text));
        return standard_;
      }
      next();
      return finish({.kind = ExprKind::name, .text = std::string(t.text)}, begin);
    }
    case Tok::keyword:
      if (t.text == "true" || t.text == "false" || t.text == "training") return literal();
      if (is_reduction(t.text)) return reduction();
      break;
    case Tok::sign:
      if (t.text == "(") {
        next();
        const ExprId inside = expression();
        close(")", t.at);
        return failed() ? standard_ : wrap(ExprKind::paren, inside, begin);
      }
      if (t.text == "+") {
        expected("an expression", "; there is no sign `+` before a value");
        return standard_;
      }
      if (t.text == "*" && begin > 0 && tokens_[begin - 1].text == "*") {
        expected("an expression", "; a power is `pow(x, y)`");
        return standard_;
      }
      if (t.text == "=") {
        expected("an expression", "; equality is `==`");
        return standard_;
      }
      break;
    default: break;
  }
  expected("an expression");
  return standard_;
}

ExprId Parser::literal() {
  const std::size_t begin = at_;
  const Token& t = next();
  Expr e{.text = std::string(t.text)};
  if (t.kind == Tok::number) {
    e.kind = ExprKind::number;
    e.number = t.number;
    e.integer = t.integer;
  } else if (t.text == "training") {
    e.kind = ExprKind::training;
  } else {
    e.kind = ExprKind::boolean;
    e.number = t.text == "true" ? 1 : 0;
    e.integer = true;
  }
  return finish(std::move(e), begin);
}

// NAME(…), a block's or a function's; `max` and `min` of two values come here too.
ExprId Parser::call() {
  const std::size_t begin = at_;
  const Token& callee = next();
  const bool function = is_function(callee.text);
  const Span opened = next().at;
  Expr e{.kind = ExprKind::call, .point = callee.at, .text = std::string(callee.text)};
  if (!is(")")) {
    do {
      ast::Word argument;
      if (is(Tok::name) && is("=", 1)) {
        argument = name("an argument");
        if (function)
          fail(argument.at,
               fmt::format("`{}` is a function: its arguments have no names", callee.text));
        next();
      }
      e.names.push_back(std::move(argument));
      e.operands.push_back(expression());
    } while (accept(","));
  }
  if (!failed() && is("where"))
    fail(peek().at,
         fmt::format("`where` belongs to a reduction, as in `sum[t](x where c)`; `{}` has none",
                     callee.text));
  if (!close(")", opened, "`,` or ")) return standard_;
  // `repeat size(t) as path`: the label is the statement's.
  if (!function) e.path = label();
  return finish(std::move(e), begin);
}

ExprId Parser::reduction() {
  const std::size_t begin = at_;
  const Token& word = next();
  if ((word.text == "max" || word.text == "min") && is("(")) {
    --at_;
    return call();
  }
  Expr e{.kind = ExprKind::reduce, .point = word.at, .text = std::string(word.text)};
  if (!is("[")) {
    expected(fmt::format("`[` behind `{}`", word.text),
             fmt::format("; a reduction names its axes: `{}[t](…)`", word.text));
    return standard_;
  }
  e.axes = list(false, "the axes of a reduction");
  const Span opened = peek().at;
  if (!expect("(")) return standard_;
  do {
    e.operands.push_back(expression());
  } while (accept(","));
  if (accept("where")) e.where = expression();
  close(")", opened, e.where.valid() ? "" : "`,` or `where` or ");
  return finish(std::move(e), begin);
}

}  // namespace gradc
