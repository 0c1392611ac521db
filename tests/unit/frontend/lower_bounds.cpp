// Protects rule 22: what is large is checked quickly or refused, and nothing that a text says exhausts the stack.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <chrono>

#include "unit/frontend/lowered.h"
#include "unit/frontend/tree.h"

namespace gradc::test {

TEST_CASE("a sum of 100,000 terms is right, and checked in about a second") {
  std::string text = "model m(d = 2)\nparam w[d] ~ 0\ny = w";
  constexpr int terms = 100'000;
  for (int i = 1; i < terms; ++i) text += " + w";
  const auto begin = std::chrono::steady_clock::now();
  const Lowered m(text + "\n", {"y"});
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  CHECK(m["y"].real[1] == doctest::Approx(filling("w", 1) * terms));
  CHECK(seconds < 10);   // a quadratic step takes minutes; the machine may be busy
}

TEST_CASE("calls that double at each level end with an error") {
  std::string text = "model m(d = 2)\nparam w[d] ~ 0\n";
  for (int i = 0; i < 60; ++i) text += fmt::format("block f{}(x[d]) {{ return f{}(x) + f{}(x) }}\n", i, i + 1, i + 1);
  text += "block f60(x[d]) { return x }\ny = f0(w)\n";
  CHECK(complaints(text).find("more than 200000 calls of blocks") != std::string::npos);
}

TEST_CASE("a chain of thousands of calls ends with an error") {
  std::string text = "model m(d = 2)\nparam w[d] ~ 0\n";
  for (int i = 0; i < 5000; ++i) text += fmt::format("block f{}(x[d]) {{ return f{}(x) + 1 }}\n", i, i + 1);
  text += "block f5000(x[d]) { return x }\ny = f0(w)\n";
  CHECK(complaints(text).find("more than 256 calls within one another") != std::string::npos);
}

TEST_CASE("repeats are bounded alone and within one another") {
  const auto nested = [](int depth, const char* turns) {
    std::string text = "model m(d = 2)\nparam w[d] ~ 0\nx = w * 1\n";
    for (int i = 0; i < depth; ++i) text += fmt::format("repeat {} {{\n", turns);
    text += "x = x * w\n";
    for (int i = 0; i < depth; ++i) text += "}\n";
    return text;
  };
  CHECK(complaints(nested(60, "1")).empty());
  CHECK(complaints(nested(61, "1")).find("more than 60 repeats within one another") != std::string::npos);
  CHECK(complaints(nested(20, "2")).find(" operations are more than 1000000 operations") != std::string::npos);
  CHECK(complaints(nested(1, "65537")).find("it must be 1 .. 65536") != std::string::npos);
}

TEST_CASE("what the IR cannot carry is an error of the text") {
  const auto refused = [](const std::string& text, std::string_view why) {
    CAPTURE(text.substr(0, 200));
    const std::string said = complaints(text);
    CAPTURE(said);
    CHECK(said.find(why) != std::string::npos);
  };
  refused("model m(d = 2)\nparam w[d] ~ 0\nx = w * 1\nrepeat 40000 {\nparam u[d], s[d]\nx = x * u * s\n}\n", "more than 65536 parameters and turns");
  refused("model m(a = 2, b = 2, c = 2, d = 2, e = 2, f = 2, g = 2, h = 2, i = 2, j = 2, k = 2, l = 2, n = 2)\n"
          "param u[a b c d e f g], w[h i j k l n]\ny[a b c d e f g h i j k l n] = u * w\n", "this value would have 13 axes; at most 12");
  refused("model m(a = 2000000, b = 2000000)\nparam u[a], w[b]\ny[a b] = u * w\n", "more than 2^40 elements");
  std::string axes = "model m(d = 2)\nparam w[d] ~ 0\ny = w * 0";
  std::string made;
  for (int i = 0; i < 4200; ++i) made += fmt::format("axis a{} = 2\n", i), axes += fmt::format(" + sum[a{0}](w * a{0})", i);
  refused("model m(d = 2)\nparam w[d] ~ 0\n" + made + axes.substr(axes.find("y =")) + "\n", "more than 4096 axes");
  refused("model m(t = 2147483647)\ny[t] = t * 2\n", "integers have 32 bits");
}

}  // namespace gradc::test
