// Texts that nobody would write: random changes of valid models. Whatever comes, there is a located
// message or a right program, never a crash (the sanitizers watch), and what parses prints and parses
// to the same tree.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "support/golden.h"
#include "unit/frontend/tree.h"

using namespace gradc;

namespace {

// splitmix64 (Steele, Lea and Flood 2014): the same texts in every run.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next() {
    std::uint64_t z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
  }
  std::size_t below(std::size_t n) { return n == 0 ? 0 : static_cast<std::size_t>(next() % n); }

 private:
  std::uint64_t state_;
};

std::vector<std::string> seeds() {
  std::vector<std::string> texts;
  for (const char* folder : {"frontend/models", "frontend/lib"})
    for (const auto& entry : std::filesystem::directory_iterator(golden::source_path(folder)))
      if (entry.path().extension() == ".grad")
        texts.push_back(golden::read_file(entry.path().string()));
  // The small programs of the rules have what models rarely do.
  for (const auto& entry :
       std::filesystem::directory_iterator(golden::source_path("tests/golden/rules"))) {
    const std::string text = golden::read_file(entry.path().string());
    constexpr std::string_view begin = "---- model m.grad\n", end = "\n----";
    for (std::size_t at = text.find(begin); at != std::string::npos; at = text.find(begin, at)) {
      at += begin.size();
      texts.push_back(text.substr(at, text.find(end, at) + 1 - at));
    }
  }
  std::sort(texts.begin(), texts.end());
  return texts;
}

// Words and signs with the blanks before them.
std::vector<std::string> pieces(const std::string& text) {
  std::vector<std::string> out;
  auto word = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; };
  for (std::size_t i = 0; i < text.size();) {
    std::size_t end = i;
    while (end < text.size() && text[end] == ' ') ++end;
    const std::size_t begin = end;
    while (end < text.size() && word(text[end])) ++end;
    if (end == begin && end < text.size()) ++end;
    out.push_back(text.substr(i, end - i));
    i = end;
  }
  return out;
}

// Changes of whole words: most of what comes out parses, so the checks behind the parser see it.
std::string change_words(Random& random, const std::string& text,
                         const std::vector<std::string>& all) {
  std::vector<std::string> ps = pieces(text);
  // 0 a blank or nothing, 1 a number, 2 a word, 3 a sign.
  const auto sort = [](const std::string& piece) {
    const char c = piece.empty() ? ' ' : piece.back();
    return std::isspace(static_cast<unsigned char>(c)) != 0   ? 0
           : std::isdigit(static_cast<unsigned char>(c)) != 0 ? 1
           : std::isalpha(static_cast<unsigned char>(c)) != 0 ? 2
                                                              : 3;
  };
  for (std::size_t n = 1 + random.below(2); n > 0 && !ps.empty(); --n) {
    const std::size_t at = random.below(ps.size());
    std::size_t from = random.below(ps.size());
    // Mostly like for like, which is what gets far.
    for (int tries = 0; tries < 20 && sort(ps[from]) != sort(ps[at]); ++tries)
      from = random.below(ps.size());
    switch (random.below(8)) {
      case 0: ps[at] = ps[from]; break;
      case 1: std::swap(ps[at], ps[from]); break;
      case 2: ps.erase(ps.begin() + static_cast<std::ptrdiff_t>(at)); break;
      case 3:
        ps.insert(ps.begin() + static_cast<std::ptrdiff_t>(at),
                  " " + all[random.below(all.size())]);
        break;
      case 4: ps[at] = " " + all[random.below(all.size())]; break;
      default: ps[at] = ps[from];
    }
  }
  std::string out;
  for (const std::string& p : ps) out += p;
  return out;
}

std::string change_bytes(Random& random, std::string text) {
  for (std::size_t n = 1 + random.below(4); n > 0 && !text.empty(); --n) {
    const std::size_t at = random.below(text.size()),
                      length = random.below(std::min<std::size_t>(40, text.size() - at));
    switch (random.below(4)) {
      case 0: text[at] = static_cast<char>(random.below(256)); break;
      case 1: text.erase(at, length); break;
      case 2: text.insert(at, text.substr(random.below(text.size()), length)); break;
      default: text[at] = "()[]{}=<>,.+-*/%~#\n\"@0e "[random.below(24)];
    }
  }
  return text;
}

// A message has a place that exists.
void check_places(const Sources& sources, const Failure& failure) {
  REQUIRE(!failure.diagnostics.empty());
  for (const Diagnostic& d : failure.diagnostics) {
    CHECK(d.at.line > 0);
    CHECK(d.at.source < sources.size());
    CHECK(d.at.column >= 1);
    CHECK(d.at.column <= sources.line(d.at.source, d.at.line).size() + 1);
    CHECK(!d.message.empty());
    CHECK(!render(sources, d).empty());
  }
}

// How far a text gets: refused by the parser, by the rules, or right.
enum class Outcome { unread, refused, right };

Outcome try_text(const std::string& text) {
  Sources sources;
  const std::uint32_t source = sources.add("m.grad", text);
  Result<FilePtr> file = parse_model(sources, source, {});
  if (!file) {
    check_places(sources, file.failure());
    return Outcome::unread;
  }
  const std::string printed = print_model(**file);
  const test::Parsed again = test::parse(printed);
  REQUIRE_MESSAGE(again.file != nullptr, text << again.messages);
  CHECK(test::tree(**file) == test::tree(*again.file));
  // A model that lowers was verified.
  Result<Model> model = lower(sources, **file, {.need_loss = false});
  if (!model) check_places(sources, model.failure());
  return model ? Outcome::right : Outcome::refused;
}

}  // namespace

TEST_CASE("changed words and bytes of valid models never crash") {
  const std::vector<std::string> texts = seeds();
  std::vector<std::string> all;
  for (const std::string& t : texts)
    for (std::string& p : pieces(t)) all.push_back(std::move(p));
  for (const char* extra : {"size", "uniform", "argmax", "expect fused(softmax)", "1e308", "0",
                            "-1", "9007199254740992", "not", "//", "%", "0.5"})
    all.push_back(extra);
  const char* more =
      std::getenv("GRADC_FUZZ");  // how many texts; the default takes a second or two
  const int count = more != nullptr ? std::atoi(more) : 1500;
  Random random(more != nullptr ? static_cast<std::uint64_t>(count) : 7);
  std::array<int, 3> outcomes{};
  for (int i = 0; i < count; ++i) {
    const std::string& seed = texts[random.below(texts.size())];
    // Some stay as they are: few changed texts are still right.
    const std::string text = i % 8 == 7   ? seed
                             : i % 4 == 0 ? change_bytes(random, seed)
                                          : change_words(random, seed, all);
    if (const char* keep = std::getenv("GRADC_FUZZ_KEEP")) {  // a crash leaves its text behind
      if (std::FILE* f = std::fopen(keep, "wb")) {
        std::fwrite(text.data(), 1, text.size(), f);
        std::fclose(f);
      }
    }
    ++outcomes[static_cast<std::size_t>(try_text(text))];
  }
  // The test would be worth little if nearly all texts ended alike.
  for (int n : outcomes) CHECK(n > count / 40);
}

TEST_CASE("what is long or deep is answered within the stack") {
  const std::string head = "model m(d = 3)\nparam w[d] ~ 0\n", end = "loss = sum[d](x)\n";
  using test::repeated;
  std::string calls = "block f0(x[]) { return x }\n";
  for (int i = 1; i <= 300; ++i)
    calls += fmt::format("block f{}(x[]) {{ return f{}(x) }}\n", i, i - 1);
  // Long chains are right, and so is what is as deep as the grammar allows; beyond is refused.
  const std::pair<std::string, Outcome> texts[] = {
      {head + "x = w" + repeated(" + w", 99999) + "\n" + end, Outcome::right},
      {head + "x = w" + repeated(" * w", 9999) + "\n" + end, Outcome::right},
      {head + "x = w\n" + repeated("x = x + w\n", 20000) + end, Outcome::right},
      {head + "x = " + repeated("abs(", 255) + "w" + repeated(")", 255) + "\n" + end,
       Outcome::right},
      {head + "x = " + repeated("(1 + 2 * ", 255) + "w" + repeated(")", 255) + "\n" + end,
       Outcome::right},
      {head + "x = " + repeated("select(true and not d + 1 < 0 or false, 1, 1 + 2 * -", 120) + "w" +
           repeated(")", 120) + "\n" + end,
       Outcome::right},
      {head + "x = " + repeated("(false or true and 1 < 1 + 2 * ", 255) + "w" + repeated(")", 255) +
           "\n" + end,
       Outcome::refused},
      {head + "x = w\n" + repeated("repeat 1 {\n", 50) + "x = x * x\n" + repeated("}\n", 50) + end,
       Outcome::right},
      {head + "x = w\n" + repeated("repeat 1 {\n", 200) + "x = x * x\n" + repeated("}\n", 200) +
           end,
       Outcome::refused},
      {head + calls + "x = f200(w)\n" + end, Outcome::right},
      {head + calls + "x = f300(w)\n" + end, Outcome::refused},
  };
  for (const auto& [text, outcome] : texts) {
    CHECK_MESSAGE(try_text(text) == outcome, text.substr(0, 200));
  }
}
