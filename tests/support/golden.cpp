// Reading, comparing and rewriting of golden files.
#include "support/golden.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>

namespace gradc::golden {
namespace {

constexpr std::string_view mark = "---- ";

std::vector<std::string_view> split_lines(std::string_view text) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    lines.push_back(text.substr(0, end));
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  }
  return lines;
}

// Without blank lines at the end, and with one newline unless it is empty.
std::string trimmed(std::string_view text) {
  const std::size_t last = text.find_last_not_of(" \n");
  if (last == std::string_view::npos) return {};
  std::string out(text.substr(0, text.find('\n', last)));
  return out + "\n";
}

struct Parsed {
  std::string head;  // the lines before the first section
  struct Whole {
    Case sections;
    std::string expected;
  };
  std::vector<Whole> cases;
  std::string fault;  // "" if well-formed
};

Parsed parse(const std::string& path, const std::string& text) {
  Parsed out;
  std::vector<Section> all;
  for (std::string_view line : split_lines(text)) {
    if (line.starts_with(mark)) {
      const std::string_view header = line.substr(mark.size());
      const std::size_t space = header.find(' ');
      all.push_back({std::string(header.substr(0, space)),
                     space == std::string_view::npos ? "" : std::string(header.substr(space + 1)),
                     ""});
    } else {
      (all.empty() ? out.head : all.back().text).append(line).append("\n");
    }
  }
  Case open;
  for (Section& s : all) {
    s.text = trimmed(s.text);
    if (s.name != "expect") {
      open.sections.push_back(std::move(s));
      continue;
    }
    if (open.sections.empty()) out.fault = "an expectation has no section before it";
    open.path = path;
    open.stem = std::filesystem::path(path).stem().string();
    open.number = static_cast<int>(out.cases.size());
    out.cases.push_back({std::move(open), std::move(s.text)});
    open = {};
  }
  if (!open.sections.empty()) out.fault = "the last section has no `---- expect` behind it";
  if (out.cases.empty()) out.fault = "there is no case";
  if (!out.head.starts_with("# ")) out.fault = "the first line does not say why (`# …`)";
  return out;
}

std::string write(const Parsed& file, const std::vector<std::string>& actual) {
  std::string out = file.head;
  for (std::size_t i = 0; i < file.cases.size(); ++i) {
    for (const Section& s : file.cases[i].sections.sections)
      out += std::string(mark) + s.name + (s.args.empty() ? "" : " " + s.args) + "\n" + s.text;
    out += std::string(mark) + "expect\n" + actual[i];
  }
  return out;
}

void write_file(const std::string& path, const std::string& text) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> f(std::fopen(path.c_str(), "wb"),
                                                          &std::fclose);
  REQUIRE_MESSAGE(f, "cannot write " << path);
  REQUIRE(std::fwrite(text.data(), 1, text.size(), f.get()) == text.size());
}

bool blessing() {
  const char* bless = std::getenv("BLESS");
  return bless != nullptr && std::string_view(bless) == "1";
}

void run_file(const std::string& path, const std::function<std::string(const Case&)>& actual) {
  const std::string text = read_file(path);
  const Parsed file = parse(path, text);
  REQUIRE_MESSAGE(file.fault.empty(), path << ": " << file.fault);
  std::vector<std::string> results;
  for (const auto& [sections, expected] : file.cases) {
    results.push_back(trimmed(actual(sections)));
    const bool same = results.back() == expected;
    if (!blessing())
      CHECK_MESSAGE(same, path << " (case " << sections.number << "):\n"
                               << difference(expected, results.back()));
  }
  if (!blessing()) return;
  if (const std::string blessed = write(file, results); blessed != text) {
    write_file(path, blessed);
    MESSAGE("blessed " << path);
  }
}

// Lines of the longest common subsequence, by dynamic programming; the caller bounds the sizes.
std::vector<std::pair<std::size_t, std::size_t>> common_lines(
    const std::vector<std::string_view>& a, const std::vector<std::string_view>& b) {
  std::vector<std::vector<std::uint32_t>> best(a.size() + 1,
                                               std::vector<std::uint32_t>(b.size() + 1, 0));
  for (std::size_t i = a.size(); i-- > 0;)
    for (std::size_t j = b.size(); j-- > 0;)
      best[i][j] = a[i] == b[j] ? best[i + 1][j + 1] + 1 : std::max(best[i + 1][j], best[i][j + 1]);
  std::vector<std::pair<std::size_t, std::size_t>> pairs;
  for (std::size_t i = 0, j = 0; i < a.size() && j < b.size();) {
    if (a[i] == b[j])
      pairs.emplace_back(i++, j++);
    else
      (best[i + 1][j] >= best[i][j + 1] ? i : j)++;
  }
  return pairs;
}

}  // namespace

const std::string& Case::text(std::string_view name) const {
  static const std::string none;
  for (const Section& s : sections)
    if (s.name == name) return s.text;
  return none;
}

bool Case::has(std::string_view name) const {
  return std::any_of(sections.begin(), sections.end(),
                     [&](const Section& s) { return s.name == name; });
}

std::string difference(std::string_view expected, std::string_view actual) {
  std::vector<std::string_view> a = split_lines(expected), b = split_lines(actual);
  constexpr std::size_t around = 2, most = 1000;
  std::size_t front = 0;
  while (front < a.size() && front < b.size() && a[front] == b[front]) ++front;
  while (a.size() > front && b.size() > front && a.back() == b.back()) a.pop_back(), b.pop_back();
  std::string out;
  const auto line = [&](char sign, std::string_view text) {
    out.append({sign, ' '}).append(text).append("\n");
  };
  for (std::size_t i = front > around ? front - around : 0; i < front; ++i) line(' ', a[i]);
  a.erase(a.begin(), a.begin() + static_cast<std::ptrdiff_t>(front));
  b.erase(b.begin(), b.begin() + static_cast<std::ptrdiff_t>(front));
  std::vector<std::pair<std::size_t, std::size_t>> pairs;
  if (a.size() <= most && b.size() <= most) pairs = common_lines(a, b);
  pairs.emplace_back(a.size(), b.size());
  std::size_t i = 0, j = 0;
  for (const auto& [x, y] : pairs) {
    while (i < x) line('-', a[i++]);
    while (j < y) line('+', b[j++]);
    if (x < a.size()) line(' ', a[x]);
    i = x + 1, j = y + 1;
  }
  return out;
}

std::string read_file(const std::string& path) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> f(std::fopen(path.c_str(), "rb"),
                                                          &std::fclose);
  REQUIRE_MESSAGE(f, "cannot read " << path);
  std::string text;
  char block[4096];
  for (std::size_t n; (n = std::fread(block, 1, sizeof block, f.get())) > 0;) text.append(block, n);
  return text;
}

std::string source_path(std::string_view relative) {
  return std::string(GRADC_SOURCE "/").append(relative);
}

void run(std::string_view topic, const std::function<std::string(const Case&)>& actual) {
  std::vector<std::string> paths;
  const std::string folder = source_path("tests/golden/") + std::string(topic);
  REQUIRE_MESSAGE(std::filesystem::is_directory(folder), "no folder " << folder);
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    if (entry.path().extension() == ".golden") paths.push_back(entry.path().string());
  REQUIRE_MESSAGE(!paths.empty(), "no golden files in " << folder);
  std::sort(paths.begin(), paths.end());
  for (const std::string& path : paths) run_file(path, actual);
}

}  // namespace gradc::golden
