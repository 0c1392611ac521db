// Owns golden tests: files of tests/golden/<topic>/*.golden, run through a function and compared.
//
//     # Why this test exists: the first lines, at least one.
//     ---- pass fuse
//     func @f(…) …
//     ---- expect
//     func @f(…) …
//
// A case is one or more sections, `---- NAME args` and the lines below it, closed by `---- expect`
// with the lines that must come out. A file may hold several cases, one after the other. Comparison
// is exact, but for blank lines at the end of a section. With BLESS=1 in the environment the
// expectations are rewritten with what came out, and the test says so.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace gradc::golden {

struct Section {
  std::string name, args;  // `---- pass fuse`: "pass", "fuse"
  std::string text;        // with its newlines; blank lines at the end are dropped
};
struct Case {
  std::string path;               // of the file
  std::string stem;               // its name without folder and extension
  int number = 0;                 // in the file, from 0
  std::vector<Section> sections;  // without the expectation
  // The text of the first section of that name, "" if there is none.
  const std::string& text(std::string_view name) const;
  bool has(std::string_view name) const;
};

// One doctest CHECK a case of every file of the topic, in the order of their names; a failure shows
// the differing lines. A topic without files, a file without a case or without a first `#` line
// fails.
void run(std::string_view topic, const std::function<std::string(const Case&)>& actual);

// Where two texts differ: lines of the expectation with `-`, of what came out with `+`, some around
// them.
std::string difference(std::string_view expected, std::string_view actual);

std::string read_file(const std::string& path);      // fails the test if it cannot
std::string source_path(std::string_view relative);  // below the repository's root

}  // namespace gradc::golden
