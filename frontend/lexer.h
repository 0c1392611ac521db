// Owns tokens: from the bytes of a `.grad` text to words, numbers, labels and signs, or a located error.
// What they mean together is the parser's business.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "ir/diagnostic.h"

namespace gradc {

enum class Tok : std::uint8_t {
  end,        // of the text; stands right behind the last token
  newline,    // outside ( ) and [ ]; stands right behind the line's last token; never two in a row
  name,
  keyword,
  number,
  string,     // text without its quotes
  path,       // the label behind `as`
  sign,
  bad,        // the last token when the text is faulty: see Lexed::fault
};

struct Token {
  Tok kind = Tok::end;
  bool integer = false;       // number: written without fraction or exponent
  Span at;
  std::string_view text;      // into the source's text
  double number = 0;
};

struct Lexed {
  std::vector<Token> tokens;          // ends with `end`, or with `bad` and `end`
  std::optional<Diagnostic> fault;    // of the `bad` token
};

// Reads up to the first fault. The tokens' texts live as long as the source's text stays where it is.
// Faults: bytes that are no UTF-8, NUL and other control characters, bidirectional controls and line
// separators, all also in comments; anything but printable ASCII, tabs and line ends outside of them; a
// character that no token begins with; malformed numbers and strings; names of more than 255 characters.
Lexed lex(const Sources& sources, std::uint32_t source);

// Words that cannot be names: those of the grammar, the reductions among them, …
bool is_keyword(std::string_view word);
bool is_reduction(std::string_view word);
// … and the functions of values: `exp` … `size`, with `max` and `min`.
bool is_function(std::string_view word);

}  // namespace gradc
