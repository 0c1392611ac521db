// Messages, each once, with the calls that led to them.
#include "frontend/report.h"

#include <algorithm>

namespace gradc {

bool Reporter::fresh(const Span& at, const std::string& message) {
  return seen_.insert(fmt::format("{}:{}:{}:{}", at.source, at.line, at.column, message)).second;
}

void Reporter::error(Span at, std::string message, std::vector<Note> notes) {
  if (full() || !fresh(at, message)) return;
  ++errors_;
  // The calls that led here, innermost first; the reader of a block wants to know with which axes.
  constexpr std::size_t shown = 3;
  for (std::size_t i = 0; i < calls_.size() && i < shown; ++i) {
    const Call& c = calls_[calls_.size() - 1 - i];
    if (at.line != 0 && c.at.source == at.source && c.at.line == at.line &&
        c.at.column == at.column)
      continue;
    notes.push_back({c.at, fmt::format("in this call of `{}`", c.block)});
  }
  messages_.push_back({at, std::move(message), std::move(notes), Severity::error});
}

void Reporter::warning(Span at, std::string message, std::vector<Note> notes) {
  if (warnings_ >= most_warnings || !fresh(at, message)) return;
  ++warnings_;
  messages_.push_back({at, std::move(message), std::move(notes), Severity::warning});
}

std::string Reporter::text(Span at) const {
  constexpr std::size_t longest = 40;
  if (at.line == 0 || at.source >= sources_.size()) return "it";
  std::string_view line = sources_.line(at.source, at.line);
  line = line.substr(std::min<std::size_t>(at.column - 1, line.size()), at.length);
  return line.size() <= longest ? std::string(line)
                                : fmt::format("{}...", line.substr(0, longest - 3));
}

}  // namespace gradc
