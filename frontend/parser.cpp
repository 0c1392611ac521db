// The parser's ground: tokens, errors, words.
#include "frontend/parser.h"

#include <fmt/format.h>

#include "frontend/near.h"

namespace gradc {

Parser::Parser(const Sources& sources, std::uint32_t source) : source_(source) {
  Lexed lexed = lex(sources, source);
  tokens_ = std::move(lexed.tokens);
  lexical_ = std::move(lexed.fault);
}

const Token& Parser::peek(std::size_t ahead) const {
  if (failed() || at_ + ahead >= tokens_.size()) return tokens_.back();
  return tokens_[at_ + ahead];
}

bool Parser::is(std::string_view text, std::size_t ahead) const {
  const Token& t = peek(ahead);
  return (t.kind == Tok::sign || t.kind == Tok::keyword) && t.text == text;
}

const Token& Parser::next() {
  const Token& t = peek();
  if (t.kind != Tok::end && t.kind != Tok::bad) ++at_;
  return t;
}

bool Parser::accept(std::string_view text) {
  if (!is(text)) return false;
  next();
  return true;
}

bool Parser::expect(std::string_view text, std::string_view why) {
  if (accept(text)) return true;
  expected(fmt::format("`{}`", text), why);
  return false;
}

bool Parser::close(std::string_view text, Span opened, std::string_view others) {
  if (accept(text)) return true;
  std::vector<Note> notes;
  if (peek().at.line != opened.line)
    notes.push_back({opened, "opened here; a newline inside ( ) and [ ] does not end a statement"});
  expected(fmt::format("{}`{}`", others, text), is("=") ? "; equality is `==`" : "",
           std::move(notes));
  return false;
}

void Parser::skip_newlines() {
  while (is(Tok::newline)) next();
}

void Parser::fail(Span at, std::string message, std::vector<Note> notes) {
  if (failed()) return;
  fault_ = Diagnostic{at, std::move(message), std::move(notes), Severity::error};
}

void Parser::expected(std::string_view what, std::string_view advice, std::vector<Note> notes) {
  if (failed()) return;
  if (is(Tok::bad)) {
    fault_ = lexical_;
    return;
  }
  fail(peek().at, fmt::format("expected {}, found {}{}", what, found(), advice), std::move(notes));
}

std::string Parser::found() const {
  const Token& t = peek();
  switch (t.kind) {
    case Tok::end: return "the end of the text";
    case Tok::newline: return "the end of the line";
    case Tok::string: return "a string";
    case Tok::path: return fmt::format("the label `{}`", t.text);
    case Tok::number: return fmt::format("the number `{}`", t.text);
    case Tok::keyword: return fmt::format("the keyword `{}`", t.text);
    case Tok::name:
    case Tok::sign: return fmt::format("`{}`", t.text);
    case Tok::bad: break;
  }
  return "what is no token";
}

// As expected(), with the word that the one found could have been.
void Parser::misspelt(std::string_view what, std::span<const std::string_view> words) {
  const std::string_view near =
      is(Tok::name) || is(Tok::keyword) ? nearest(peek().text, words) : std::string_view();
  expected(what, near.empty() ? "" : fmt::format("; did you mean `{}`?", near));
}

ast::Word Parser::name(std::string_view what) {
  const Token& t = peek();
  if (t.kind == Tok::name && !is_function(t.text)) {
    next();
    return {std::string(t.text), t.at};
  }
  if (t.kind == Tok::name) {
    fail(t.at, fmt::format("`{}` is the name of a function and cannot name {}", t.text, what));
  } else if (t.kind == Tok::keyword) {
    fail(t.at, fmt::format("`{}` is a keyword and cannot name {}", t.text, what));
  } else {
    expected(fmt::format("a name of {}", what));
  }
  return {};
}

// [a b c]
std::vector<ast::Word> Parser::list(bool may_be_empty, std::string_view whose) {
  std::vector<ast::Word> words;
  const Span opened = peek().at;
  if (!expect("[")) return words;
  while (is(Tok::name) || is(Tok::keyword)) words.push_back(name("an axis"));
  if (is(",")) {
    expected("an axis or `]`", "; axes are separated by spaces: `[b t d]`");
  } else if (words.empty() && !may_be_empty && is("]")) {
    expected("a name of an axis", fmt::format("; {} stand in these brackets", whose));
  } else {
    close("]", opened, "an axis or ");
  }
  return words;
}

std::optional<ast::Word> Parser::label() {
  if (!accept("as")) return std::nullopt;
  const Token& t = peek();
  if (t.kind != Tok::path) {
    expected("a label behind `as`", "; a label is made of letters, digits, `_`, `.` and `@`");
    return std::nullopt;
  }
  next();
  return ast::Word{std::string(t.text), t.at};
}

Parser::Nest::Nest(Parser& p) : parser_(p) {
  if (++p.depth_ > deepest_nesting)
    p.fail(p.peek().at, fmt::format("nested more than {} deep", deepest_nesting));
}

}  // namespace gradc
