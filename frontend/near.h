// Owns the guess at what a misspelt word was meant to be.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace gradc {

// The candidate with the fewest insertions, deletions, replacements and swaps of neighbours from `word`
// (the first among equals), if they are few for a word of its length; else "". Linear in the candidates.
std::string_view nearest(std::string_view word, std::span<const std::string_view> candidates);

// The number of such changes, or `limit` + 1 if there are more (optimal string alignment distance).
int edit_distance(std::string_view a, std::string_view b, int limit);

}  // namespace gradc
