// Protects the structural key: functions that differ only in names, places and groups have the same
// one, and any other difference shows.
#include <doctest/doctest.h>

#include <map>

#include "ir/structure.h"
#include "unit/ir/samples.h"

using namespace gradc;

namespace {

std::string key(const std::string& text) {
  const Program p = samples::parse(text);
  return structure_key(p, p.functions.back());
}

// A function with every `from` replaced.
std::string with(std::string_view from, std::string_view to) {
  std::string text =
      "func @f(%x: f32[t=4 d=3], %y: f32[d]) {\n"
      "  %0 = mul %x, %y -> f32[t d]\n"
      "  %1 = slice %0 [t = 1 + u] -> f32[u=2 d]\n"
      "  %2 = exp %1 -> f32[u d]\n"
      "  return\n}\n";
  for (std::size_t at = text.find(from); at != std::string::npos && !from.empty();
       at = text.find(from, at + to.size()))
    text.replace(at, from.size(), to);
  return text;
}

}  // namespace

TEST_CASE("names, axes' names and places do not count") {
  const std::string k = key(with("", ""));
  CHECK(key(with("%x", "%other")) == k);
  CHECK(key(with("@f", "@g")) == k);
  CHECK(key(with("%y -> f32[t d]", "%y -> f32[t d] loc(\"a\":1:2)")) == k);
  CHECK(key(with("[t", "[s")) == k);
}

TEST_CASE("operations, types, extents, attributes and wiring count") {
  std::map<std::string, std::string> seen{{key(with("", "")), "base"}};
  const std::pair<const char*, const char*> changes[] = {
      {"mul", "add"},
      {"f32", "f64"},
      {"t=4", "t=5"},
      {"1 + u", "u"},
      {"1 + u", "2*u"},
      {"u=2", "u=3"},
      {"t=4 d=3", "d=3 t=4"},
      {"%x, %y", "%y, %x"},
      {"%0 = mul %x, %y -> f32[t d]", "%0 = mul %x, %y -> f32[d t]"},
      {"exp %1", "exp %0"},
      {"%y: f32[d]", "%y: f32[d], %z: f32[]"},
      {"%2 = exp %1 -> f32[u d]", "%2 = exp %1 -> f32[u d]\n  %3 = exp %1 -> f32[u d]"}};
  for (const auto& [from, to] : changes) {
    std::string text = with(from, to);
    if (std::string_view(to) == "exp %0")
      text.replace(text.find("exp %0 -> f32[u"), 15, "exp %0 -> f32[t");
    const auto [it, fresh] = seen.emplace(key(text), to);
    CHECK_MESSAGE(fresh, to << " is the same as " << it->second);
  }
}

TEST_CASE("samples of different operations have different keys") {
  std::map<std::string, std::string> seen;
  for (const std::string& text : samples::all_programs()) {
    const auto [it, fresh] = seen.emplace(key(text), text);
    CHECK_MESSAGE(fresh, text << " is the same as " << it->second);
    CHECK(key(text) == it->first);
  }
}

TEST_CASE("a kernel's family, its regions and a bundle's flags count") {
  const std::string kernel =
      "(%x: f32[t=4]) -> f32[t] {\n  %0 = exp %x -> f32[t]\n  return %0\n}\n";
  CHECK(key("kernel @k map" + kernel) != key("func @k" + kernel));
  CHECK(key("kernel @k map" + kernel) != key("kernel @k rows" + kernel));
  const std::string whole =
      "func @f(%x: f32[t=4]) -> f32[t] {\n  %y = fused group %x -> f32[t] { (%a: f32[t])\n"
      "    %b = exp %a -> f32[t]\n    yield %b\n  }\n  return %y\n}\n";
  std::string other = whole;
  other.replace(other.find("exp"), 3, "log");
  CHECK(key(whole) != key(other));
  const std::string flags =
      "bundle @b {\n  w: f32[d=4]\n  c: f32[d]\n}\nfunc @f() -> bool[n=8] {\n  %0 = flags @b.decay "
      "-> bool[n]\n  return %0\n}\n";
  std::string free = flags;
  free.replace(free.find("c: f32[d]"), 9, "c: f32[d] no_decay");
  CHECK(key(flags) != key(free));
  std::string clip = flags;
  clip.replace(clip.find("c: f32[d]"), 9, "c: f32[d] no_clip");
  CHECK(key(flags) == key(clip));
}
