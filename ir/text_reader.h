// Owns the reading of IR text token by token, for the parser: what a token is, where it stands, and
// the first thing that is wrong. A statement ends with its line; `#` starts a comment.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "ir/diagnostic.h"

namespace gradc::text {

enum class Tok : std::uint8_t {
  end,
  newline,  // one for any number of them
  word,     // `sum`, `d.1`
  value,    // `%p.h.3`, `%12`; text without the `%`
  symbol,   // `@h.fwd`; text without the `@`
  number,   // `3`, `-0.5`, `1e-05`, `-inf`
  string,   // text without the quotes, escapes as they are
  punct,    // `->`, `..`, or one character
  bad,      // text says what is wrong
};
struct Token {
  Tok kind = Tok::end;
  std::string_view text;
  Span at;
};

class Reader {
 public:
  Reader(std::string_view text, std::uint32_t source) : text_(text), source_(source) { advance(); }

  const Token& token() const { return token_; }
  bool at(Tok kind) const { return token_.kind == kind; }
  bool at_punct(std::string_view text) const {
    return token_.kind == Tok::punct && token_.text == text;
  }
  bool at_word(std::string_view text) const {
    return token_.kind == Tok::word && token_.text == text;
  }
  void advance();

  // Each takes the token if it is the one, else fails with what was wanted and what is there.
  bool take(std::string_view punct);
  bool take_word(std::string_view text);
  bool take(Tok kind, std::string_view wanted, Token& out);
  bool take_newline();
  bool take_integer(std::int64_t& out);
  bool take_real(double& out);  // an integer will do
  bool take_string(std::string& out);
  // Those that may be there or not.
  bool skip(std::string_view punct);
  bool skip_word(std::string_view text);
  void skip_newlines();

  bool fail(const Span& at, std::string message);  // false; the first one counts
  bool fail(const Span& at, std::string message, const Span& other, std::string note);
  bool unexpected(std::string_view wanted);  // at the token
  Failure failure() const { return {Exit::text, {*error_}}; }

 private:
  Token next();
  Token make(Tok kind, std::size_t begin, std::size_t skipped);
  std::size_t name_end(std::size_t from) const;
  Token number(std::size_t begin);
  Token string(std::size_t begin);
  char peek(std::size_t ahead = 0) const {
    return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0';
  }

  std::string_view text_;
  std::uint32_t source_;
  std::size_t at_ = 0, line_start_ = 0;
  std::uint32_t line_ = 1;
  Token token_;
  std::optional<Diagnostic> error_;
};

}  // namespace gradc::text
