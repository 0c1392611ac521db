// Protects the README: everything that it shows as output is what the binary prints today, with times
// masked. A block that follows a line `<!-- $ COMMAND -->` is that command's standard output.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <regex>

#include "support/golden.h"

namespace gradc {
namespace {

// Milliseconds, rates and what follows from them differ from run to run and from machine to machine.
std::string masked(std::string text) {
  static const std::regex times(R"([0-9][0-9.,]*( ms| tok/s| GFLOP/s| GB/s| MiB))");
  return std::regex_replace(text, times, "#$1");
}

std::string output_of(const std::string& command) {
  const std::string whole = fmt::format("cd '{}' && PATH='{}':\"$PATH\" {} 2>/dev/null", GRADC_SOURCE, GRADC_BUILD, command);
  std::FILE* pipe = popen(whole.c_str(), "r");
  REQUIRE(pipe != nullptr);
  std::string text;
  char buffer[4096];
  for (std::size_t n; (n = std::fread(buffer, 1, sizeof buffer, pipe)) > 0;) text.append(buffer, n);
  CHECK_MESSAGE(pclose(pipe) == 0, command);
  return text;
}

}  // namespace

TEST_CASE("README shows what the binary prints") {
  const std::string path = golden::source_path("README.md");
  const std::string text = golden::read_file(path);
  const std::string open = "<!-- $ ", close = " -->\n";
  std::string fresh;
  std::size_t at = 0;
  int blocks = 0;
  for (std::size_t found; (found = text.find(open, at)) != std::string::npos;) {
    const std::size_t end = text.find(close, found);
    REQUIRE(end != std::string::npos);
    const std::string command = text.substr(found + open.size(), end - found - open.size());
    const std::size_t fence = text.find("```", end), begin = text.find('\n', fence) + 1, stop = text.find("```", begin);
    REQUIRE(stop != std::string::npos);
    const std::string shown = text.substr(begin, stop - begin), actual = output_of(command);
    const bool bless = std::getenv("BLESS") != nullptr;
    if (!bless) CHECK_MESSAGE(masked(shown) == masked(actual), command, "\n", golden::difference(masked(shown), masked(actual)));
    fresh += text.substr(at, begin - at) + (masked(shown) == masked(actual) ? shown : actual);
    at = stop;
    ++blocks;
  }
  fresh += text.substr(at);
  CHECK(blocks >= 3);
  if (std::getenv("BLESS") != nullptr && fresh != text) std::ofstream(path) << fresh;
}

}  // namespace gradc
