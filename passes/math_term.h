// Owns mathematics as text in the language of the models: terms that know how tightly they bind,
// put together with as few brackets as the grammar allows (frontend/README.md). Products and sums
// stay lists until they are shown, so that signs, divisors and powers find their places.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace gradc::math {

// Loosest first, as in the grammar.
enum class Level : int { either, both, inverse, compare, sum, product, atom };

struct Term {
  enum Kind : std::uint8_t { text, product, sum } kind = text;
  std::string word;                                 // text
  Level level = Level::atom;                        // of text
  double number = 1;                                // product: a factor, with the sign
  std::vector<std::string> over, under;             // product: factors, atoms as text
  std::vector<std::pair<bool, std::string>> parts;  // sum: (subtracted, product as text)

  bool light = false;  // a name, a position or little more: written wherever it is read
  // A sum over `axes` (as listed) of `inside`; `count` positions. 0: it is no such sum; without
  // `inside`: the name of one.
  std::string axes, inside;
  double count = 0;
  // select(condition, chosen, otherwise) where `otherwise` is a number.
  std::string condition, chosen;
  double otherwise = 0;
  std::string base, places;  // of a read by positions alone: `x` and `n = 1, t = s`
};

std::string show(const Term& t, Level least = Level::either);

Term word(std::string text, Level level = Level::atom);
Term light(std::string text);
Term number(double value);
Term call(std::string_view function, const std::vector<std::string>& arguments);
// `x[a = e]`; `positions`: e is made of positions and numbers, so that two such reads can be one.
Term read(const Term& x, std::string_view axis, std::string_view at, bool positions = true);
// The name as a word of its own in the text.
bool mentions(std::string_view text, std::string_view name);
// `sum[axes](inside where condition)`; an empty condition: none.
Term reduce(std::string_view function, const std::string& axes, const std::string& inside,
            const std::string& condition = {});
// An operator whose operands need at least the levels `left` and `right`.
Term infix(const Term& a, std::string_view sign, const Term& b, Level own, Level left, Level right);

Term multiply(const Term& a, const Term& b);
Term divide(const Term& a, const Term& b);
Term add(const Term& a, const Term& b, bool subtract = false);
Term negate(const Term& a);

}  // namespace gradc::math
