// What stands around statements: the file, the model's header, blocks, `train`.
#include <fmt/format.h>

#include <array>

#include "frontend/parser.h"

namespace gradc {

using namespace std::string_view_literals;

namespace {

constexpr std::array head_words = {"use"sv, "block"sv, "model"sv};

}  // namespace

bool Parser::run(ast::File& out) {
  file_ = &out;
  out.source = source_;
  skip_newlines();
  if (is(Tok::end))
    fail({source_, 1, 1, 1}, "the file is empty; a model begins with `model NAME(…)`");
  while (is("use")) use();
  while (!failed() && !is(Tok::end) && !is("model")) {
    if (is("use")) {
      fail(peek().at, "`use` stands at the head of the file, before blocks and the model");
    } else if (is("block")) {
      block();
    } else {
      misspelt("`use`, `block` or `model`", head_words);
    }
    skip_newlines();
  }
  if (is("model")) model();
  out.end = peek().at;
  if (is(Tok::bad)) expected("nothing");
  return !failed();
}

void Parser::use() {
  next();
  const Token& t = peek();
  if (t.kind != Tok::string)
    return expected("a file name in quotes behind `use`", "; as in `use \"blocks.grad\"`");
  next();
  file_->uses.push_back({{std::string(t.text), t.at}, nullptr});
  end_of_statement();
}

void Parser::model() {
  file_->has_model = true;
  next();
  file_->model = name("a model");
  const Span opened = peek().at;
  if (!expect("(", "; a model has a header with its numbers: `model gpt(layers = 4, d = 128)`"))
    return;
  if (!is(")")) {
    do {
      ast::HeaderNumber n{.name = name("a number")};
      if (!expect("=", "; a number of the header has a value: `d = 128`")) return;
      n.value = number();
      file_->numbers.push_back(std::move(n));
    } while (accept(","));
  }
  if (!close(")", opened, "`,` or ")) return;
  end_of_statement();
  while (!failed() && !is(Tok::end)) {
    if (is("block")) {
      block();
      skip_newlines();
    } else if (is("train")) {
      train();
    } else if (is("model")) {
      fail(peek().at, "a second `model`; a file has one", {{file_->model.at, "the first is here"}});
    } else if (is("return")) {
      fail(peek().at,
           "a model has no `return`; it is the set of its final values, `loss` and `logits` among "
           "them");
    } else if (is("}")) {
      fail(peek().at, "`}` without `{`; a model's statements stand without braces");
    } else {
      file_->body.push_back(statement());
      end_of_statement();
    }
  }
}

void Parser::block() {
  ast::Block b{.at = next().at};
  b.in_model = file_->has_model;
  b.place = file_->body.size();
  b.name = name("a block");
  const Span opened = peek().at;
  if (!expect("(")) return;
  if (!is(")")) {
    do {
      ast::Formal f{.name = name("an argument")};
      if (is("[")) {
        f.tensor = true;
        f.axes = list(true, "");
      }
      if (accept("=")) f.standard = number();
      b.formals.push_back(std::move(f));
    } while (accept(","));
  }
  if (!close(")", opened, "`,` or ")) return;
  if (!expect("{", is(Tok::newline) ? "; it stands on the line of the header" : "")) return;
  b.body = body(true);
  if (!expect("return", "; a block ends with `return` and its value")) return;
  b.result = expression();
  skip_newlines();
  if (!failed() && !is("}")) expected("`}`", "; `return` ends a block");
  accept("}");
  file_->blocks.push_back(std::move(b));
  if (!failed() && !is(Tok::newline) && !is(Tok::end))
    expected("the end of the line behind a block");
}

// ---- train { NAME = setting … }

void Parser::train() {
  const Span at = peek().at;
  if (file_->has_train)
    return fail(at, "a second `train`; a model has one", {{file_->train_at, "the first is here"}});
  file_->has_train = true;
  file_->train_at = at;
  file_->train_place = file_->body.size();
  next();
  const Span opened = peek().at;
  if (!expect("{", is(Tok::newline) ? "; it stands on the line of `train`" : "")) return;
  skip_newlines();
  while (!failed() && !is("}")) {
    if (is(Tok::end)) return expected("a setting or `}`", {}, {{opened, "opened here"}});
    const ast::Word word = name("a setting");
    if (!expect("=", "; a setting is `name = value`")) return;
    ast::Setting s = setting();
    s.name = word;
    file_->train.push_back(std::move(s));
    skip_newlines();
  }
  expect("}");
  end_of_statement();
}

// Whether the `(` that comes next holds a comma of its own.
bool Parser::is_tuple() const {
  int open = 0;
  for (std::size_t i = 0;; ++i) {
    if (is(Tok::end, i) || is(Tok::bad, i)) return false;
    if (is("(", i) || is("[", i)) ++open;
    if (is(")", i) || is("]", i)) --open;
    if (open == 0) return false;
    if (open == 1 && is(",", i)) return true;
  }
}

ast::Setting Parser::setting() {
  const Nest nest(*this);
  const Token& t = peek();
  ast::Setting s{.at = t.at};
  if (t.kind == Tok::string) {
    s.kind = ast::Setting::string;
    s.text = std::string(t.text);
    next();
  } else if (t.kind == Tok::name && is("(", 1) && !is_function(t.text)) {
    s.kind = ast::Setting::call;
    s.text = std::string(t.text);
    next();
    s.items = settings(s.text);
  } else if (!failed() && is("(") && is_tuple()) {
    s.kind = ast::Setting::tuple;
    s.items = settings("a tuple");
  } else {
    s.expr = number();
  }
  return s;
}

// ( [ [NAME =] setting { , … } ] )
std::vector<ast::Setting> Parser::settings(std::string_view whose) {
  std::vector<ast::Setting> items;
  const Span opened = next().at;
  if (!is(")")) {
    do {
      ast::Word word;
      if (is(Tok::name) && is("=", 1)) {
        word = name(fmt::format("a setting of {}", whose));
        next();
      }
      ast::Setting s = setting();
      s.name = std::move(word);
      items.push_back(std::move(s));
    } while (accept(","));
  }
  close(")", opened, "`,` or ");
  return items;
}

}  // namespace gradc
