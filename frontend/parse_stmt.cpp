// Statements.
#include <fmt/format.h>

#include <array>

#include "frontend/near.h"
#include "frontend/parser.h"

namespace gradc {

using namespace std::string_view_literals;
using ast::ExprId;
using ast::Stmt;
using ast::StmtId;
using ast::StmtKind;

namespace {

constexpr std::array statement_words = {"axis"sv,   "block"sv,  "expect"sv, "input"sv, "param"sv,
                                        "repeat"sv, "return"sv, "scan"sv,   "train"sv};

}  // namespace

// Statements up to `}`, which is read, or in a block up to `return`, which is not.
std::vector<StmtId> Parser::body(bool is_block) {
  const Nest nest(*this);
  std::vector<StmtId> statements;
  const Span opened = tokens_[at_ > 0 ? at_ - 1 : 0].at;
  skip_newlines();
  while (!failed() && !is("}") && !(is_block && is("return"))) {
    if (is(Tok::end)) {
      expected(is_block ? "a statement or `return`" : "a statement or `}`", {},
               {{opened, "opened here"}});
      break;
    }
    if (is("return"))
      fail(peek().at, "`return` ends a block; it cannot stand inside `repeat` or `scan`");
    else if (is("block"))
      fail(peek().at, "a block stands outside of other blocks, `repeat` and `scan`");
    else if (is("train"))
      fail(peek().at, "`train` stands in the model, outside of blocks, `repeat` and `scan`");
    else
      statements.push_back(statement());
    if (!is("}")) end_of_statement();
  }
  if (!is_block) expect("}");
  return statements;
}

void Parser::end_of_statement() {
  if (failed() || is(Tok::end)) return;
  if (is(Tok::newline)) return skip_newlines();
  if (is("="))
    expected("the end of the line", "; a statement has one `=`, equality is `==`");
  else if (is("where"))
    expected("the end of the line", "; `where` belongs to a reduction, as in `sum[t](x where c)`");
  else if (is("as"))
    expected("the end of the line",
             "; `as` is the label of a parameter, of a call of a block, or of `repeat`");
  else if (is(Tok::number) || is(Tok::name) || is(Tok::keyword))
    expected("an operator or the end of the line");
  else
    expected("the end of the line");
}

StmtId Parser::finish(Stmt&& s) {
  if (failed()) return {};
  file_->stmts.push_back(std::move(s));
  return StmtId{static_cast<std::uint32_t>(file_->stmts.size() - 1)};
}

StmtId Parser::statement() {
  if (is("axis")) return axis();
  if (is("input")) return input();
  if (is("param")) return param();
  if (is("repeat")) return repeat();
  if (is("scan")) return scan();
  if (is("expect")) return claim();
  if (is(Tok::name)) return let();
  if (is("use")) {
    fail(peek().at, "`use` stands at the head of the file, before blocks and the model");
  } else if (is(Tok::keyword) && is("=", 1)) {
    name("a value");
  } else {
    misspelt("a statement", statement_words);
  }
  return {};
}

StmtId Parser::axis() {
  Stmt s{.kind = StmtKind::axis, .at = next().at};
  do {
    s.names.push_back(name("an axis"));
    if (!expect("=", "; an axis has an extent: `axis e = d / h`")) return {};
    s.exprs.push_back(number());
  } while (accept(","));
  return finish(std::move(s));
}

StmtId Parser::input() {
  Stmt s{.kind = StmtKind::input, .at = next().at};
  s.name = name("an input");
  s.axes = list(false, "the axes of the input");
  if (accept("<")) {
    s.high = number();
  } else if (accept("in")) {
    s.low = number();
    if (!expect("..", "; the range of an input is `in 0 .. v`")) return {};
    s.high = number();
  }
  return finish(std::move(s));
}

StmtId Parser::param() {
  Stmt s{.kind = StmtKind::param, .at = next().at};
  do {
    s.decls.push_back(declaration());
  } while (accept(","));
  if (is("~")) {
    next();
    s.init = initial();
  } else if (accept("=")) {
    s.init = {ast::Init::value, expression()};
  }
  return finish(std::move(s));
}

ast::ParamDecl Parser::declaration() {
  ast::ParamDecl d{.name = name("a parameter")};
  const Span opened = peek().at;
  if (!expect("[", "; a parameter lists its axes: `w[d f]`")) return d;
  while (is(Tok::name) || is(Tok::keyword)) {
    d.axes.push_back(name("an axis"));
    d.extents.push_back(accept("=") ? number() : ExprId{});
  }
  if (is(",")) {
    expected("an axis or `]`", "; axes are separated by spaces: `[b t d]`");
  } else {
    close("]", opened, "an axis or ");
  }
  d.path = label();
  return d;
}

ast::Init Parser::initial() {
  ast::Init init{.kind = ast::Init::number};
  const Token& t = peek();
  if (t.kind == Tok::name && (t.text == "normal" || t.text == "uniform") && is("(", 1)) {
    init.kind = t.text == "normal" ? ast::Init::normal : ast::Init::uniform;
    next();
    const Span opened = next().at;
    init.expr = number();
    close(")", opened);
  } else {
    init.expr = number();
  }
  return init;
}

// NAME [ list ] = expr
StmtId Parser::let() {
  Stmt s{.kind = StmtKind::let, .at = peek().at};
  if (!is("[", 1) && !is("=", 1)) {
    const Token& first = peek();
    const std::string_view near = nearest(first.text, statement_words);
    if (!near.empty()) {
      expected("a statement", fmt::format("; did you mean `{}`?", near));
    } else if (is("(", 1)) {
      fail(first.at, fmt::format("a statement gives a value a name: `y = {}(…)`", first.text));
    } else {
      next();
      expected(fmt::format("`=` or a list of axes behind `{}`", first.text));
    }
    return {};
  }
  s.name = name("a value");
  if (is("[")) {
    s.has_list = true;
    s.axes = list(false, "the axes of the left side");
  }
  if (!expect("=")) return {};
  s.value = expression();
  return finish(std::move(s));
}

StmtId Parser::repeat() {
  Stmt s{.kind = StmtKind::repeat, .at = next().at};
  s.value = number();
  s.path = label();
  if (!expect("{", is(Tok::newline) ? "; it stands on the line of `repeat`" : "")) return {};
  s.body = body(false);
  return finish(std::move(s));
}

StmtId Parser::scan() {
  Stmt s{.kind = StmtKind::scan, .at = next().at};
  s.name = name("an axis");
  if (!expect("{", is(Tok::newline) ? "; it stands on the line of `scan`" : "")) return {};
  s.body = body(false);
  return finish(std::move(s));
}

StmtId Parser::claim() {
  Stmt s{.kind = StmtKind::expect, .at = next().at};
  if (!(is(Tok::name) && peek().text == "fused")) {
    expected("`fused` behind `expect`", "; as in `expect fused(attention)`");
    return {};
  }
  next();
  const Span opened = peek().at;
  if (!expect("(")) return {};
  // What may be claimed are the names of fused forms, `softmax` among them.
  if (is(Tok::name) || (is(Tok::keyword) && is_reduction(peek().text))) {
    const Token& t = next();
    s.name = {std::string(t.text), t.at};
  } else {
    expected("the name of a fused form", "; as in `expect fused(attention)`");
  }
  close(")", opened);
  return finish(std::move(s));
}

}  // namespace gradc
