// Showing of located messages.
#include "ir/diagnostic.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

namespace gradc {
namespace {

constexpr std::size_t shown_columns = 160;

// Bytes outside printable ASCII would move the caret or the terminal's cursor.
std::string printable(std::string_view text) {
  std::string out;
  for (unsigned char c : text)
    if (c == '\t')
      out += ' ';
    else if (c >= 0x20 && c < 0x7f)
      out += static_cast<char>(c);
    else
      out += fmt::format("\\x{:02x}", c);
  return out;
}

void show(std::string& out, const Sources& sources, const Span& at, std::string_view kind, std::string_view message) {
  if (at.line == 0 || at.source >= sources.size()) {
    out += fmt::format("{}: {}\n", kind, message);
    return;
  }
  out += fmt::format("{}:{}:{}: {}: {}\n", sources.name(at.source), at.line, at.column, kind, message);
  std::string_view line = sources.line(at.source, at.line);
  const std::size_t column = at.column > 0 ? at.column - 1 : 0;
  if (column > line.size()) return;
  std::size_t begin = 0;
  if (line.size() > shown_columns && column > shown_columns / 2) begin = column - shown_columns / 2;
  std::string_view part = line.substr(begin, shown_columns);
  const std::string before = printable(part.substr(0, column - begin));
  const std::size_t length = std::max<std::size_t>(
      1, printable(part.substr(std::min(column - begin, part.size()),
                               std::min<std::size_t>(at.length, part.size() - std::min(column - begin, part.size()))))
             .size());
  out += fmt::format("  {}{}{}\n", begin > 0 ? "…" : "", printable(part), begin + part.size() < line.size() ? "…" : "");
  out += fmt::format("  {}{}^{}\n", begin > 0 ? " " : "", std::string(before.size(), ' '), std::string(length - 1, '~'));
}

}  // namespace

std::uint32_t Sources::add(std::string name, std::string text) {
  File file{std::move(name), std::move(text), {0}};
  for (std::size_t i = 0; i < file.text.size(); ++i)
    if (file.text[i] == '\n') file.lines.push_back(i + 1);
  files_.push_back(std::move(file));
  return static_cast<std::uint32_t>(files_.size() - 1);
}

std::string_view Sources::line(std::uint32_t source, std::uint32_t line) const {
  const File& file = files_[source];
  if (line == 0 || line > file.lines.size()) return {};
  const std::string_view rest = std::string_view(file.text).substr(file.lines[line - 1]);
  return rest.substr(0, rest.find('\n'));
}

std::string render(const Sources& sources, const Diagnostic& d) {
  std::string out;
  show(out, sources, d.at, d.severity == Severity::error ? "error" : "warning", d.message);
  for (const Note& n : d.notes) show(out, sources, n.at, "note", n.message);
  return out;
}

Failure failure(Exit exit, std::string message) {
  Failure f{exit, {}};
  f.diagnostics.push_back({{}, std::move(message), {}, Severity::error});
  return f;
}

void internal_error(std::string_view what) {
  std::fprintf(stderr, "gradc: internal error: %.*s\nThis is a fault of gradc, not of the input.\n",
               static_cast<int>(what.size()), what.data());
  std::exit(static_cast<int>(Exit::internal));
}

}  // namespace gradc
