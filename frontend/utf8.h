// Owns what the lexer must know of characters beyond ASCII.
#pragma once

#include <cstdint>
#include <string_view>

namespace gradc {

// Bytes of the first character, 0 if it is not valid UTF-8 (overlong forms, surrogates and what lies
// beyond U+10FFFF are not; Unicode 15, table 3-7).
std::size_t utf8_length(std::string_view text);
// The code point of one valid character.
std::uint32_t utf8_decode(std::string_view character);

// What it is, if it can make text look different from what it is: bidirectional controls (Boucher and
// Anderson, "Trojan Source", 2021), separators of lines, C1 controls; else "".
std::string_view deceptive_character(std::uint32_t code);
// What it is, if nothing of it is to be seen, else "". In a comment it does no harm.
std::string_view invisible_character(std::uint32_t code);
// How a sign of mathematics or typography is spelt in the language; else "".
std::string_view ascii_spelling(std::uint32_t code);

}  // namespace gradc
