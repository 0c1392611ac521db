// Owns the collecting of messages about one text: the same one is kept once (a block is checked
// anew by each call), and after enough of them a reader has enough.
#pragma once

#include <fmt/format.h>

#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "ir/diagnostic.h"

namespace gradc {

class Reporter {
 public:
  explicit Reporter(const Sources& sources) : sources_(sources) {}

  void error(Span at, std::string message, std::vector<Note> notes = {});
  void warning(Span at, std::string message, std::vector<Note> notes = {});
  bool failed() const { return errors_ > 0; }
  bool full() const { return errors_ >= most_errors; }
  std::size_t errors() const { return errors_; }
  // While calls are open each error gets a note for the innermost ones.
  void enter_call(Span at, std::string block) { calls_.push_back({at, std::move(block)}); }
  void leave_call() { calls_.pop_back(); }

  std::vector<Diagnostic> take() { return std::move(messages_); }
  std::vector<Diagnostic>& messages() { return messages_; }
  // The text that the span covers, shortened if it is long.
  std::string text(Span at) const;

 private:
  static constexpr std::size_t most_errors = 20, most_warnings = 50;
  bool fresh(const Span& at, const std::string& message);
  const Sources& sources_;
  std::vector<Diagnostic> messages_;
  std::unordered_set<std::string> seen_;
  std::size_t errors_ = 0, warnings_ = 0;
  struct Call {
    Span at;
    std::string block;
  };
  std::vector<Call> calls_;
};

}  // namespace gradc
