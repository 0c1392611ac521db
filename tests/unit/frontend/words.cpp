// Characters and words: UTF-8, near misses.
#include <doctest/doctest.h>

#include <array>

#include "frontend/lexer.h"
#include "frontend/near.h"
#include "frontend/utf8.h"

using namespace gradc;
using namespace std::string_view_literals;

TEST_CASE("only well-formed UTF-8 has a length") {
  for (const auto& [text, code] : {std::pair{"a"sv, 0x61u},
                                   {"\xc2\x80"sv, 0x80u},
                                   {"\xdf\xbf"sv, 0x7ffu},
                                   {"\xe0\xa0\x80"sv, 0x800u},
                                   {"\xed\x9f\xbf"sv, 0xd7ffu},
                                   {"\xef\xbf\xbf"sv, 0xffffu},
                                   {"\xf0\x90\x80\x80"sv, 0x10000u},
                                   {"\xf4\x8f\xbf\xbf"sv, 0x10ffffu}}) {
    CHECK(utf8_length(text) == text.size());
    CHECK(utf8_decode(text) == code);
  }
  for (std::string_view bad :
       {"\x80"sv, "\xc0\x80"sv, "\xc1\xbf"sv, "\xc3"sv, "\xc3\x28"sv, "\xe0\x9f\xbf"sv,
        "\xed\xa0\x80"sv, "\xe2\x82"sv, "\xf0\x8f\xbf\xbf"sv, "\xf4\x90\x80\x80"sv,
        "\xf5\x80\x80\x80"sv, "\xff"sv, ""sv})
    CHECK(utf8_length(bad) == 0);
}

TEST_CASE("the distance between words counts swaps of neighbours once") {
  CHECK(edit_distance("param", "parm", 3) == 1);
  CHECK(edit_distance("param", "praam", 3) == 1);
  CHECK(edit_distance("", "abc", 3) == 3);
  CHECK(edit_distance("abc", "abc", 0) == 0);
  CHECK(edit_distance("kitten", "sitting", 9) == 3);
  CHECK(edit_distance("kitten", "sitting", 2) == 3);  // beyond the limit: limit + 1
}

TEST_CASE("a near word is proposed, a far one is not") {
  constexpr std::array words = {"layernorm"sv, "rmsnorm"sv, "gelu"sv, "silu"sv, "relu"sv, "x"sv};
  CHECK(nearest("layer_norm", words) == "layernorm");
  CHECK(nearest("LayerNorm", words) == "layernorm");
  CHECK(nearest("rleu", words) == "relu");
  CHECK(nearest("softplus", words) == "");
  CHECK(nearest("y", words) == "");
  CHECK(nearest("gelu", std::array{"gelu"sv}) == "");
}

TEST_CASE("keywords, reductions and functions are told apart") {
  CHECK(is_keyword("softmax"));
  CHECK(is_reduction("softmax"));
  CHECK(is_reduction("max"));
  CHECK(!is_keyword("max"));
  CHECK(is_function("max"));
  CHECK(!is_function("normal"));  // means something behind `~` only
  CHECK(!is_keyword("fused"));
}
