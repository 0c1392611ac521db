// The edit distance behind "did you mean".
#include "frontend/near.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace gradc {

int edit_distance(std::string_view a, std::string_view b, int limit) {
  if (a.size() > b.size()) std::swap(a, b);
  if (b.size() - a.size() > static_cast<std::size_t>(limit)) return limit + 1;
  // Rows of the table of distances between prefixes; a swap looks two rows back.
  std::vector<int> older, old(a.size() + 1), row(a.size() + 1);
  for (std::size_t i = 0; i <= a.size(); ++i) old[i] = static_cast<int>(i);
  for (std::size_t j = 1; j <= b.size(); ++j) {
    row[0] = static_cast<int>(j);
    int least = row[0];
    for (std::size_t i = 1; i <= a.size(); ++i) {
      row[i] = std::min({old[i] + 1, row[i - 1] + 1, old[i - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        row[i] = std::min(row[i], older[i - 2] + 1);
      least = std::min(least, row[i]);
    }
    if (least > limit) return limit + 1;
    older = std::exchange(old, row);
  }
  return std::min(old[a.size()], limit + 1);
}

std::string_view nearest(std::string_view word, std::span<const std::string_view> candidates) {
  if (word.size() > 64) return {};
  std::string_view best;
  // One change in a word of up to five letters, two in up to eight, three beyond.
  int allowed = word.size() < 2 ? 0 : word.size() <= 5 ? 1 : word.size() <= 8 ? 2 : 3;
  for (std::string_view candidate : candidates) {
    if (candidate == word) continue;
    const int distance = edit_distance(word, candidate, allowed);
    if (distance > allowed) continue;
    best = candidate;
    allowed = distance - 1;  // from here on only a nearer one wins
  }
  return best;
}

}  // namespace gradc
