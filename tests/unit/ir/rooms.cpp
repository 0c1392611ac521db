// Protects the direction of the rooms: a file includes its own room and those to its left; LLVM is
// seen by codegen and the JIT alone.
#include <doctest/doctest.h>

#include <filesystem>
#include <map>
#include <set>

#include "support/golden.h"

using namespace gradc;

namespace {

const std::map<std::string, std::set<std::string>, std::less<>>& allowed() {
  static const std::map<std::string, std::set<std::string>, std::less<>> rooms{
      {"ir", {"ir"}},
      {"frontend", {"ir", "frontend"}},
      {"passes", {"ir", "passes"}},
      {"codegen", {"ir", "passes", "codegen"}},
      {"runtime", {"ir", "frontend", "passes", "codegen", "runtime"}},
  };
  return rooms;
}

// "" or what is wrong with a line of a file of the room.
std::string breach(std::string_view room, std::string_view line) {
  while (!line.empty() && (line[0] == ' ' || line[0] == '\t')) line.remove_prefix(1);
  if (!line.starts_with("#")) return "";
  line.remove_prefix(1);
  while (!line.empty() && line[0] == ' ') line.remove_prefix(1);
  if (!line.starts_with("include")) return "";
  const std::size_t open = line.find_first_of("\"<");
  if (open == std::string_view::npos) return "an include of a macro";
  std::string_view path = line.substr(open + 1);
  path = path.substr(0, path.find_first_of("\">"));
  const bool llvm = path.starts_with("llvm/") || path.starts_with("llvm-c/");
  if (llvm) return room == "codegen" || room == "runtime" ? "" : "LLVM is not for this room";
  if (line[open] == '<') return path == "iostream" ? "no iostreams" : "";
  const std::size_t slash = path.find('/');
  if (slash == std::string_view::npos)
    return path.ends_with(".inc") ? "" : "an include without its room";  // generated
  const std::string_view other = path.substr(0, slash);
  return allowed().at(std::string(room)).contains(std::string(other))
             ? ""
             : "a room that is not to its left";
}

}  // namespace

TEST_CASE("files include only rooms to their left") {
  for (const auto& [room, others] : allowed()) {
    int files = 0;
    for (const auto& entry :
         std::filesystem::recursive_directory_iterator(golden::source_path(room))) {
      const std::string extension = entry.path().extension().string();
      if (extension != ".cpp" && extension != ".h" && extension != ".def") continue;
      ++files;
      const std::string text = golden::read_file(entry.path().string());
      for (std::size_t at = 0; at < text.size();) {
        const std::size_t end = std::min(text.find('\n', at), text.size());
        const std::string line = text.substr(at, end - at);
        const std::string why = breach(room, line);
        CHECK_MESSAGE(why.empty(), entry.path().string() << ": " << line << ": " << why);
        at = end + 1;
      }
    }
    CHECK_MESSAGE(files > 0, "no files in " << room);
  }
}

TEST_CASE("the search for wrong includes finds them") {
  CHECK(!breach("ir", "#include \"passes/passes.h\"").empty());
  CHECK(!breach("passes", "#include \"frontend/ast.h\"").empty());
  CHECK(!breach("frontend", "  # include \"passes/passes.h\"").empty());
  CHECK(!breach("codegen", "#include \"runtime/pool.h\"").empty());
  CHECK(!breach("passes", "#include <llvm/IR/Module.h>").empty());
  CHECK(!breach("ir", "#include \"op.h\"").empty());
  CHECK(!breach("runtime", "#include <iostream>").empty());
  CHECK(breach("runtime", "#include \"ir/op.h\"").empty());
  CHECK(breach("codegen", "#include <llvm/IR/Module.h>").empty());
  CHECK(breach("ir", "// #include \"passes/passes.h\"").empty());
}
