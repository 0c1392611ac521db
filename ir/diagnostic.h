// Owns errors that reach a user: located messages with notes, the exit code that they lead to, and
// Result, the way a function hands one back. No exception crosses a room.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace gradc {

// The command line's exit codes (runtime/README.md).
enum class Exit : int { ok = 0, text = 1, usage = 2, file = 3, numbers = 4, check = 5, internal = 70 };

// A stretch of one source text. line and column count from 1; a column is a byte; length ≥ 0 bytes
// (0 and 1 both draw a single caret). line 0: no place.
struct Span {
  std::uint32_t source = UINT32_MAX;  // index into Sources
  std::uint32_t line = 0, column = 0, length = 0;
};

// The texts that spans point into, kept for showing the line of an error.
class Sources {
 public:
  std::uint32_t add(std::string name, std::string text);
  const std::string& name(std::uint32_t source) const { return files_[source].name; }
  const std::string& text(std::uint32_t source) const { return files_[source].text; }
  std::size_t size() const { return files_.size(); }
  std::string_view line(std::uint32_t source, std::uint32_t line) const;  // without its newline

 private:
  struct File {
    std::string name, text;
    std::vector<std::size_t> lines;  // where each begins
  };
  std::vector<File> files_;
};

enum class Severity : std::uint8_t { error, warning };

struct Note {
  Span at;
  std::string message;
};
struct Diagnostic {
  Span at;                 // line 0: prints without a place
  std::string message;
  std::vector<Note> notes;
  Severity severity = Severity::error;
};

// `file:line:col: error: …`, the line, a caret under the span, then the notes likewise. A line that is
// too long to show is cut around the caret; bytes that a terminal must not see are shown as `\xNN`.
std::string render(const Sources& sources, const Diagnostic& diagnostic);

struct Failure {
  Exit exit = Exit::text;
  std::vector<Diagnostic> diagnostics;  // at least one
};

Failure failure(Exit exit, std::string message);  // one diagnostic without a place

// A value or a failure.
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  Result(Failure f) : state_(std::in_place_index<1>, std::move(f)) {}
  bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }
  T& value() { return std::get<0>(state_); }
  const T& value() const { return std::get<0>(state_); }
  T& operator*() { return value(); }
  const T& operator*() const { return value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }
  Failure& failure() { return std::get<1>(state_); }
  const Failure& failure() const { return std::get<1>(state_); }

 private:
  std::variant<T, Failure> state_;
};
struct Done {};  // Result<Done>: success without a value

// A fault of gradc itself: prints to stderr and exits with 70.
[[noreturn]] void internal_error(std::string_view what);

}  // namespace gradc
