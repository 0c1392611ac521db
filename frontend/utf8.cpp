// Characters beyond ASCII.
#include "frontend/utf8.h"

namespace gradc {

std::size_t utf8_length(std::string_view text) {
  auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  if (text.empty()) return 0;
  const unsigned first = byte(0);
  if (first < 0x80) return 1;
  const std::size_t length = first >= 0xc2 && first <= 0xdf   ? 2
                             : (first & 0xf0) == 0xe0         ? 3
                             : first >= 0xf0 && first <= 0xf4 ? 4
                                                              : 0;
  if (length == 0 || text.size() < length) return 0;
  for (std::size_t i = 1; i < length; ++i)
    if ((byte(i) & 0xc0) != 0x80) return 0;
  if (first == 0xe0 && byte(1) < 0xa0) return 0;  // overlong
  if (first == 0xed && byte(1) > 0x9f) return 0;  // surrogates
  if (first == 0xf0 && byte(1) < 0x90) return 0;  // overlong
  if (first == 0xf4 && byte(1) > 0x8f) return 0;  // beyond U+10FFFF
  return length;
}

std::uint32_t utf8_decode(std::string_view character) {
  const auto first = static_cast<unsigned char>(character[0]);
  if (character.size() == 1) return first;
  std::uint32_t code = first & (0x7fu >> character.size());
  for (std::size_t i = 1; i < character.size(); ++i)
    code = code << 6 | (static_cast<unsigned char>(character[i]) & 0x3fu);
  return code;
}

std::string_view deceptive_character(std::uint32_t code) {
  if (code == 0x061c || code == 0x200e || code == 0x200f || (code >= 0x202a && code <= 0x202e) ||
      (code >= 0x2066 && code <= 0x2069))
    return "a bidirectional control character";
  if (code == 0x2028 || code == 0x2029 || code == 0x0085) return "a separator of lines";
  if (code >= 0x80 && code < 0xa0) return "a control character";
  return {};
}

std::string_view invisible_character(std::uint32_t code) {
  if (code == 0xfeff) return "a byte-order mark";
  if (code == 0x00a0 || code == 0x202f || code == 0x3000 || (code >= 0x2000 && code <= 0x200a))
    return "a special space";
  if (code == 0x00ad || code == 0x180e || code == 0x200b || code == 0x200c || code == 0x200d ||
      (code >= 0x2060 && code <= 0x2064))
    return "a character without width";
  return {};
}

std::string_view ascii_spelling(std::uint32_t code) {
  switch (code) {
    case 0x00d7:
    case 0x00b7:
    case 0x2217:
    case 0x22c5: return "*";
    case 0x00f7:
    case 0x2215: return "/";
    case 0x2010:
    case 0x2011:
    case 0x2012:
    case 0x2013:
    case 0x2014:
    case 0x2212: return "-";
    case 0x2018:
    case 0x2019:
    case 0x201c:
    case 0x201d: return "\"";
    case 0x2026: return "..";
    case 0x2208: return "in";
    case 0x221a: return "sqrt";
    case 0x2211: return "sum";
    case 0x2227: return "and";
    case 0x2228: return "or";
    case 0x00ac: return "not";
    case 0x2260: return "!=";
    case 0x2264: return "<=";
    case 0x2265: return ">=";
    case 0x223c: return "~";
    default: return {};
  }
}

}  // namespace gradc
