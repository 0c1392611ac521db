// From bytes to tokens. One pass; characters are checked as they are met.
#include "frontend/lexer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>

#include "frontend/utf8.h"

namespace gradc {
namespace {

using namespace std::string_view_literals;

constexpr std::array keywords = {
    "and"sv,   "argmax"sv,   "as"sv,     "axis"sv,      "block"sv, "cross_entropy"sv, "expect"sv,
    "false"sv, "in"sv,       "input"sv,  "logsumexp"sv, "mean"sv,  "model"sv,         "not"sv,
    "or"sv,    "param"sv,    "repeat"sv, "return"sv,    "scan"sv,  "softmax"sv,       "sum"sv,
    "train"sv, "training"sv, "true"sv,   "use"sv,       "where"sv};
constexpr std::array reductions = {"argmax"sv, "cross_entropy"sv, "logsumexp"sv, "max"sv,
                                   "mean"sv,   "min"sv,           "softmax"sv,   "sum"sv};
constexpr std::array functions = {"abs"sv,  "cos"sv,  "erf"sv,  "exp"sv,   "floor"sv,  "log"sv,
                                  "max"sv,  "min"sv,  "pow"sv,  "rsqrt"sv, "select"sv, "sin"sv,
                                  "size"sv, "sqrt"sv, "stop"sv, "tanh"sv,  "uniform"sv};
static_assert(std::ranges::is_sorted(keywords) && std::ranges::is_sorted(reductions) &&
              std::ranges::is_sorted(functions));

constexpr std::size_t longest_name = 255;

constexpr bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
constexpr bool is_digit(char c) { return c >= '0' && c <= '9'; }
constexpr bool is_word(char c) { return is_letter(c) || is_digit(c) || c == '_'; }
constexpr bool is_label(char c) { return is_word(c) || c == '.' || c == '@'; }

// What to write instead of a character that begins no token.
std::string_view advice(char c) {
  switch (c) {
    case '^': return "; a power is `pow(x, y)`";
    case '&': return "; logic is spelt `and`";
    case '|': return "; logic is spelt `or`";
    case '!': return "; logic is spelt `not`";
    case '@': return "; a product of matrices is `sum[d](x * w)`";
    case ':':
      return "; a stretch of x is read as `x[t = u + 3]`, where u is an axis of the stretch's "
             "length";
    case ';': return "; a newline ends a statement";
    case '.': return "; a number begins with a digit, and a value has no fields";
    case '\'': return "; strings stand in \"…\"";
    case '_': return "; a name begins with a letter";
    default: return "";
  }
}

class Lexer {
 public:
  Lexer(const Sources& sources, std::uint32_t source)
      : text_(sources.text(source)), source_(source) {}

  Lexed run() {
    while (!out_.fault && at_ < text_.size()) step();
    if (!tokens().empty() && tokens().back().kind == Tok::newline) tokens().pop_back();
    if (out_.fault) tokens().push_back({.kind = Tok::bad, .at = out_.fault->at});
    tokens().push_back({.kind = Tok::end, .at = behind_last()});
    return std::move(out_);
  }

 private:
  std::vector<Token>& tokens() { return out_.tokens; }
  char peek(std::size_t ahead = 0) const {
    return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0';
  }
  Span span(std::size_t begin, std::size_t end) const {
    return {source_, line_, static_cast<std::uint32_t>(begin - line_begin_ + 1),
            static_cast<std::uint32_t>(end - begin)};
  }
  // Where something is missing: right behind the last token, on its line.
  Span behind_last() const {
    for (auto t = out_.tokens.rbegin(); t != out_.tokens.rend(); ++t)
      if (t->kind != Tok::bad && t->kind != Tok::newline)
        return {source_, t->at.line, t->at.column + t->at.length, 1};
    return {source_, 1, 1, 1};
  }
  void fault(std::size_t begin, std::size_t end, std::string message) {
    out_.fault = Diagnostic{span(begin, end), std::move(message), {}, Severity::error};
  }
  void push(Tok kind, std::size_t end) {
    tokens().push_back({.kind = kind, .at = span(at_, end), .text = text_.substr(at_, end - at_)});
    at_ = end;
  }

  void step();
  void newline();
  void comment();
  void word();
  void label();
  void number();
  void string();
  void sign();
  bool character(bool in_comment);

  std::string_view text_;
  std::uint32_t source_;
  std::size_t at_ = 0, line_begin_ = 0;
  std::uint32_t line_ = 1;
  std::size_t open_ = 0;  // ( and [ not closed yet
  Lexed out_;
};

void Lexer::step() {
  const char c = peek();
  if (c == ' ' || c == '\t') {
    ++at_;
  } else if (c == '\n' || (c == '\r' && peek(1) == '\n')) {
    newline();
  } else if (c == '#') {
    comment();
  } else if (!character(false)) {
    return;
  } else if (is_label(c) && !tokens().empty() && tokens().back().kind == Tok::keyword &&
             tokens().back().text == "as") {
    label();
  } else if (is_letter(c)) {
    word();
  } else if (is_digit(c)) {
    number();
  } else if (c == '"') {
    string();
  } else {
    sign();
  }
}

void Lexer::newline() {
  at_ += peek() == '\r' ? 2 : 1;
  if (open_ == 0 && !tokens().empty() && tokens().back().kind != Tok::newline)
    tokens().push_back({.kind = Tok::newline, .at = behind_last()});
  ++line_;
  line_begin_ = at_;
}

void Lexer::comment() {
  while (at_ < text_.size() && peek() != '\n' && !(peek() == '\r' && peek(1) == '\n')) {
    if (!character(true)) return;
    at_ += utf8_length(text_.substr(at_));
  }
}

// Checks the character at at_; false: it is faulty.
bool Lexer::character(bool in_comment) {
  const auto c = static_cast<unsigned char>(peek());
  if ((c >= 0x20 && c < 0x7f) || c == '\t') return true;
  if (c < 0x20 || c == 0x7f) {
    fault(
        at_, at_ + 1,
        c == 0 ? "a NUL byte: this is not text" : fmt::format("the control character 0x{:02x}", c));
    return false;
  }
  const std::size_t length = utf8_length(text_.substr(at_));
  if (length == 0) {
    fault(at_, at_ + 1, fmt::format("the byte 0x{:02x} is not valid UTF-8", c));
    return false;
  }
  const std::string_view shown = text_.substr(at_, length);
  const std::uint32_t code = utf8_decode(shown);
  if (const std::string_view what = deceptive_character(code); !what.empty()) {
    fault(
        at_, at_ + length,
        fmt::format("U+{:04X} is {}, which makes text look different from what it is", code, what));
    return false;
  }
  if (in_comment) return true;
  const std::string_view ascii = ascii_spelling(code), invisible = invisible_character(code);
  const std::string what = invisible.empty() ? fmt::format("`{}`", shown) : std::string(invisible);
  fault(at_, at_ + length,
        fmt::format("{} (U+{:04X}) outside a comment, where text is printable ASCII{}", what, code,
                    ascii.empty() ? "" : fmt::format("; write `{}`", ascii)));
  return false;
}

void Lexer::word() {
  std::size_t end = at_;
  while (end < text_.size() && is_word(text_[end])) ++end;
  if (end - at_ > longest_name)
    return fault(at_, end,
                 fmt::format("a name of {} characters; {} are allowed", end - at_, longest_name));
  push(is_keyword(text_.substr(at_, end - at_)) ? Tok::keyword : Tok::name, end);
}

void Lexer::label() {
  std::size_t end = at_;
  while (end < text_.size() && is_label(text_[end])) ++end;
  if (end - at_ > longest_name)
    return fault(at_, end,
                 fmt::format("a label of {} characters; {} are allowed", end - at_, longest_name));
  push(Tok::path, end);
}

// digits [ . digits ] [ e [ + | - ] digits ]; `0..n` is a number and a range.
void Lexer::number() {
  std::size_t end = at_;
  auto digits = [&] {
    const std::size_t begin = end;
    while (end < text_.size() && is_digit(text_[end])) ++end;
    return end > begin;
  };
  auto is_at = [&](char c) { return end < text_.size() && text_[end] == c; };
  bool integer = true, good = digits();
  if (is_at('.') && !(end + 1 < text_.size() && text_[end + 1] == '.')) {
    integer = false;
    ++end;
    good = digits();
  }
  if (good && (is_at('e') || is_at('E'))) {
    integer = false;
    ++end;
    if (is_at('+') || is_at('-')) ++end;
    good = digits();
  }
  const std::size_t number_end = end;
  while (end < text_.size() &&
         (is_word(text_[end]) || (text_[end] == '.' && text_.substr(end, 2) != "..")))
    ++end;
  const std::string_view shown = text_.substr(at_, end - at_);
  if (end - at_ > longest_name)
    return fault(at_, end, fmt::format("a number of {} characters", end - at_));
  if (end > number_end && good && is_letter(text_[number_end]) && integer)
    return fault(at_, end,
                 fmt::format("`{}` is neither a number nor a name; a product is `{} * {}`", shown,
                             text_.substr(at_, number_end - at_),
                             text_.substr(number_end, end - number_end)));
  if (!good || end > number_end)
    return fault(at_, end,
                 fmt::format("`{}` is not a number; numbers are written 3, 0.5, 1e-5", shown));
  double value = 0;
  // Out of range is too large, or too small and then 0; only an exponent leads there.
  const auto error = std::from_chars(text_.data() + at_, text_.data() + end, value).ec;
  if (error == std::errc::result_out_of_range && shown.find('-') == std::string_view::npos)
    return fault(at_, end, fmt::format("`{}` is beyond the largest number, 1.8e308", shown));
  std::uint64_t whole = 0;
  if (integer &&
      (std::from_chars(text_.data() + at_, text_.data() + end, whole).ec != std::errc() ||
       whole > std::uint64_t{1} << 53))
    return fault(at_, end,
                 fmt::format("the integer `{}` is beyond 2^53 = 9007199254740992", shown));
  push(Tok::number, end);
  tokens().back().number = value;
  tokens().back().integer = integer;
}

void Lexer::string() {
  const std::size_t begin = at_++;
  while (at_ < text_.size() && peek() != '"' && peek() != '\n' && peek() != '\r') {
    if (!character(false)) return;
    ++at_;
  }
  if (peek() != '"') return fault(begin, begin + 1, "this string does not end on its line");
  tokens().push_back({.kind = Tok::string,
                      .at = span(begin, at_ + 1),
                      .text = text_.substr(begin + 1, at_ - begin - 1)});
  ++at_;
}

void Lexer::sign() {
  for (std::string_view two : {"==", "!=", "<=", ">=", "//", ".."})
    if (text_.substr(at_, 2) == two) return push(Tok::sign, at_ + 2);
  const char c = peek();
  if (std::strchr("()[]{},=<>+-*/%~", c) == nullptr)
    return fault(at_, at_ + 1, fmt::format("`{}` has no meaning here{}", c, advice(c)));
  if (c == '(' || c == '[') ++open_;
  if ((c == ')' || c == ']') && open_ > 0) --open_;
  push(Tok::sign, at_ + 1);
}

}  // namespace

Lexed lex(const Sources& sources, std::uint32_t source) { return Lexer(sources, source).run(); }

bool is_keyword(std::string_view word) { return std::ranges::binary_search(keywords, word); }
bool is_reduction(std::string_view word) { return std::ranges::binary_search(reductions, word); }
bool is_function(std::string_view word) { return std::ranges::binary_search(functions, word); }

}  // namespace gradc
