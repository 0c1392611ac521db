// Tokens of IR text.
#include "ir/text_reader.h"

#include <fmt/format.h>

#include <charconv>

namespace gradc::text {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool is_word(char c) { return is_letter(c) || is_digit(c); }

int hex(char c) {
  if (is_digit(c)) return c - '0';
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

}  // namespace

// Segments of letters, digits and `_`, joined by single dots.
std::size_t Reader::name_end(std::size_t from) const {
  std::size_t i = from;
  while (i < text_.size() &&
         (is_word(text_[i]) || (text_[i] == '.' && i > from && text_[i - 1] != '.' &&
                                i + 1 < text_.size() && is_word(text_[i + 1]))))
    ++i;
  return i;
}

Token Reader::make(Tok kind, std::size_t begin, std::size_t skipped) {
  const Span at{source_, line_, static_cast<std::uint32_t>(begin - line_start_ + 1),
                static_cast<std::uint32_t>(at_ - begin)};
  return {kind, text_.substr(begin + skipped, at_ - begin - skipped), at};
}

Token Reader::number(std::size_t begin) {
  const auto digits = [&] {
    while (is_digit(peek())) ++at_;
  };
  digits();
  if (peek() == '.' && is_digit(peek(1))) {
    ++at_;
    digits();
  }
  if (peek() == 'e' || peek() == 'E') {
    const std::size_t sign = peek(1) == '+' || peek(1) == '-' ? 1 : 0;
    if (is_digit(peek(1 + sign))) {
      at_ += 1 + sign;
      digits();
    }
  }
  Token t = make(Tok::number, begin, 0);
  if (is_letter(peek())) {
    t.kind = Tok::bad;
    t.text = "a name may not begin with a digit";
  }
  return t;
}

Token Reader::string(std::size_t begin) {
  ++at_;
  while (at_ < text_.size() && text_[at_] != '"' && text_[at_] != '\n')
    at_ += text_[at_] == '\\' && peek(1) != '\n' ? 2 : 1;
  if (at_ >= text_.size() || text_[at_] != '"') {
    at_ = std::min(at_, text_.size());
    Token t = make(Tok::bad, begin, 0);
    t.text = "the string does not end on its line";
    return t;
  }
  ++at_;
  Token t = make(Tok::string, begin, 1);
  t.text.remove_suffix(1);
  return t;
}

Token Reader::next() {
  bool newline = false;
  Token line_end;
  while (at_ < text_.size()) {
    if (text_[at_] == ' ') {
      ++at_;
    } else if (text_[at_] == '#') {
      while (at_ < text_.size() && text_[at_] != '\n') ++at_;
    } else if (text_[at_] == '\n') {
      if (!newline) line_end = make(Tok::newline, at_, 0);
      newline = true;
      ++line_;
      line_start_ = ++at_;
    } else {
      break;
    }
  }
  if (newline) return line_end;
  const std::size_t begin = at_;
  if (at_ >= text_.size()) return make(Tok::end, begin, 0);
  const char c = text_[at_];
  if (c == '%' || c == '@') {
    const std::size_t end = name_end(at_ + 1);
    if (end > at_ + 1) {
      at_ = end;
      return make(c == '%' ? Tok::value : Tok::symbol, begin, 1);
    }
  }
  if (is_letter(c)) {
    at_ = name_end(at_);
    return make(Tok::word, begin, 0);
  }
  if (is_digit(c)) return number(begin);
  if (c == '"') return string(begin);
  if (c == '-' && is_digit(peek(1))) {
    ++at_;
    return number(begin);
  }
  if (text_.substr(at_, 4) == "-inf" && !is_word(peek(4))) {
    at_ += 4;
    return make(Tok::number, begin, 0);
  }
  const std::string_view two = text_.substr(at_, 2);
  if (two == "->" || two == "..") {
    at_ += 2;
    return make(Tok::punct, begin, 0);
  }
  at_ += text_.substr(at_, 3) == "…" ? 3 : 1;
  Token t = make(Tok::punct, begin, 0);
  if (t.text.size() == 3) {
    t.kind = Tok::bad;
    t.text = "a body was left out here when this was printed";
  } else if (std::string_view("%@(){}[],:=~+-*").find(c) == std::string_view::npos) {
    t.kind = Tok::bad;
    t.text = "no such character in IR text";
  }
  return t;
}

void Reader::advance() { token_ = next(); }

bool Reader::fail(const Span& at, std::string message) {
  if (!error_) error_ = Diagnostic{at, std::move(message), {}, Severity::error};
  return false;
}

bool Reader::fail(const Span& at, std::string message, const Span& other, std::string note) {
  if (!error_)
    error_ = Diagnostic{at, std::move(message), {{other, std::move(note)}}, Severity::error};
  return false;
}

bool Reader::unexpected(std::string_view wanted) {
  switch (token_.kind) {
    case Tok::bad: return fail(token_.at, std::string(token_.text));
    case Tok::end:
      return fail(token_.at, fmt::format("expected {}, but the text ends here", wanted));
    case Tok::newline:
      return fail(token_.at, fmt::format("expected {}, but the line ends here", wanted));
    default: return fail(token_.at, fmt::format("expected {}", wanted));
  }
}

bool Reader::skip(std::string_view punct) {
  const bool there = at_punct(punct);
  if (there) advance();
  return there;
}

bool Reader::skip_word(std::string_view text) {
  const bool there = at_word(text);
  if (there) advance();
  return there;
}

void Reader::skip_newlines() {
  while (at(Tok::newline)) advance();
}

bool Reader::take(std::string_view punct) {
  return skip(punct) || unexpected(fmt::format("`{}`", punct));
}
bool Reader::take_word(std::string_view text) {
  return skip_word(text) || unexpected(fmt::format("`{}`", text));
}

bool Reader::take(Tok kind, std::string_view wanted, Token& out) {
  if (!at(kind)) return unexpected(wanted);
  out = token_;
  advance();
  return true;
}

bool Reader::take_newline() {
  if (at(Tok::end)) return true;
  if (!at(Tok::newline)) return unexpected("the end of the line");
  advance();
  return true;
}

bool Reader::take_integer(std::int64_t& out) {
  if (!at(Tok::number)) return unexpected("an integer");
  const char* end = token_.text.data() + token_.text.size();
  const auto [stop, error] = std::from_chars(token_.text.data(), end, out);
  if (error == std::errc::result_out_of_range)
    return fail(token_.at, "the integer does not fit 64 bits");
  if (error != std::errc() || stop != end) return unexpected("an integer");
  advance();
  return true;
}

bool Reader::take_real(double& out) {
  if (!at(Tok::number) && !at_word("inf") && !at_word("nan")) return unexpected("a number");
  const char* end = token_.text.data() + token_.text.size();
  const auto [stop, error] = std::from_chars(token_.text.data(), end, out);
  if (error == std::errc::result_out_of_range) return fail(token_.at, "the number is out of range");
  if (error != std::errc() || stop != end) return unexpected("a number");
  advance();
  return true;
}

bool Reader::take_string(std::string& out) {
  Token t;
  if (!take(Tok::string, "a string", t)) return false;
  out.clear();
  for (std::size_t i = 0; i < t.text.size(); ++i) {
    if (t.text[i] != '\\') {
      out += t.text[i];
    } else if (i + 1 < t.text.size() && (t.text[i + 1] == '"' || t.text[i + 1] == '\\')) {
      out += t.text[++i];
    } else if (i + 3 < t.text.size() && t.text[i + 1] == 'x' && hex(t.text[i + 2]) >= 0 &&
               hex(t.text[i + 3]) >= 0) {
      out += static_cast<char>(16 * hex(t.text[i + 2]) + hex(t.text[i + 3]));
      i += 3;
    } else {
      return fail(t.at, "the string has an unknown escape: there are `\\\"`, `\\\\` and `\\xNN`");
    }
  }
  return true;
}

}  // namespace gradc::text
