// Protects that IR text is a faithful form of a program: every operation prints and parses, any
// text is safe to parse, reals come back bit for bit, and both ways take linear time.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <bit>
#include <cmath>
#include <filesystem>

#include "ir/builder.h"
#include "ir/structure.h"
#include "ir/text.h"
#include "ir/verify.h"
#include "support/golden.h"
#include "unit/ir/samples.h"

using namespace gradc;

namespace {

std::uint64_t mix(std::uint64_t& state) {  // splitmix64
  std::uint64_t z = state += 0x9E3779B97F4A7C15;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
  return z ^ (z >> 31);
}

// Whatever the text is: parsing ends, and what is accepted prints, parses and prints the same, and
// can be verified.
bool survives(const std::string& text) {
  Sources sources;
  const Result<Program> p = parse_ir(sources, sources.add("any.ir", text));
  if (!p.ok()) {
    CHECK(p.failure().diagnostics.size() == 1);
    CHECK(p.failure().diagnostics[0].at.line > 0);
    CHECK(!render(sources, p.failure().diagnostics[0]).empty());
    return false;
  }
  (void)verify(*p);
  const std::string once = print(*p);
  const Result<Program> again = parse_ir(sources, sources.add("again.ir", once));
  CHECK_MESSAGE(again.ok(), (again.ok() ? "" : render(sources, again.failure().diagnostics[0]))
                                << text);
  if (again.ok()) CHECK(print(*again) == once);
  return true;
}

std::vector<std::string> corpus() {
  std::vector<std::string> out = samples::all_programs();
  for (const auto& file :
       std::filesystem::directory_iterator(golden::source_path("tests/golden/ir"))) {
    const std::string text = golden::read_file(file.path().string());
    for (std::size_t at = text.find("---- expect\n"); at != std::string::npos;
         at = text.find("---- expect\n", at + 1))
      out.push_back(text.substr(at + 12, text.find("\n----", at) - at - 12));
  }
  return out;
}

}  // namespace

TEST_CASE("every operation prints and parses") {
  for (int i = 0; i < opcode_count; ++i) {
    const Opcode code = static_cast<Opcode>(i);
    const std::vector<std::string> lines = samples::of(code);
    CHECK_MESSAGE(!lines.empty(), "no sample of " << facts(code).name);
    for (const std::string& line : lines) {
      CAPTURE(line);
      const Program p = samples::parse(samples::program_around(line));
      for (const Fault& f : verify(p)) FAIL(f.message);
      const std::string text = print(p);
      CHECK(text.find("  " + line + "\n") != std::string::npos);
      const Program again = samples::parse(text);
      CHECK(print(again) == text);
      const Function& f = p.function(p.find("f"));
      CHECK(structure_key(again, again.function(again.find("f"))) == structure_key(p, f));
      const bool has_it =
          std::any_of(f.ops.begin(), f.ops.end(), [&](const Op& o) { return o.code == code; });
      CHECK(has_it);
    }
  }
}

TEST_CASE("reals print in the shortest form that reads back, and never as integers") {
  const std::pair<double, std::string> known[] = {
      {0.5, "0.5"},
      {1, "1.0"},
      {-0.0, "-0.0"},
      {1e-5, "1e-05"},
      {3e-4, "0.0003"},
      {1e22, "1e+22"},
      {123456789, "123456789.0"},
      {INFINITY, "inf"},
      {-INFINITY, "-inf"},
      {NAN, "nan"},
      {-NAN, "nan"},
      {5e-324, "5e-324"},
      {0.1, "0.1"},
      {1.7976931348623157e308, "1.7976931348623157e+308"}};
  for (const auto& [x, text] : known) CHECK(print_real(x) == text);
  std::uint64_t state = 1;
  for (int i = 0; i < 2000; ++i) {
    const double x = std::bit_cast<double>(mix(state));
    if (std::isnan(x)) continue;
    const Program p = samples::parse("func @f() -> f64[] {\n  %0 = constant " + print_real(x) +
                                     " -> f64[]\n  return %0\n}\n");
    CHECK(std::bit_cast<std::uint64_t>(p.functions[0].ops[0].attr.real) ==
          std::bit_cast<std::uint64_t>(x));
  }
}

TEST_CASE("any text is safe to parse") {
  std::uint64_t state = 7;
  const std::vector<std::string> texts = corpus();
  CHECK(texts.size() > 60);
  constexpr std::string_view pieces[] = {"%x",     "@params",
                                         "->",     "=",
                                         "{",      "}",
                                         "(",      ")",
                                         "[",      "]",
                                         "\n",     " ",
                                         "9",      "-1",
                                         ",",      "t",
                                         "\"",     "\\",
                                         "loc(",   "yield",
                                         "return", "9999999999999999999",
                                         "..",     ":",
                                         "…",      "\xff",
                                         "0",      " x ",
                                         "at p+0", "exp",
                                         "_",      "#"};
  int accepted = 0;
  for (int round = 0; round < 30000; ++round) {
    std::string text = texts[mix(state) % texts.size()];
    for (std::uint64_t edits = mix(state) % 4 == 0 ? 3 : 1; edits-- > 0;) {
      const std::size_t at = mix(state) % (text.size() + 1);
      const std::size_t length = std::min<std::size_t>(mix(state) % 6, text.size() - at);
      switch (mix(state) % 5) {
        case 0: text.erase(at, length); break;
        case 1: text.insert(at, pieces[mix(state) % std::size(pieces)]); break;
        case 2: text.insert(at, text.substr(mix(state) % (text.size() + 1), 40)); break;
        case 3: text.replace(at, length, pieces[mix(state) % std::size(pieces)]); break;
        case 4: text.insert(at, 1, static_cast<char>(mix(state))); break;
      }
    }
    CAPTURE(text);
    accepted += survives(text);
  }
  CHECK(accepted > 100);  // else nothing was tested behind the parser
  CHECK(survives(""));
  CHECK_FALSE(survives(std::string("func @f(\0) {", 12)));
}

TEST_CASE("deep and long texts are refused or read, without recursion and in linear time") {
  std::string deep = "func @f(%x: f32[]) -> f32[] {\n";
  for (int i = 0; i < 100000; ++i)
    deep += fmt::format("%y{0} = fused group %x{1} -> f32[] {{ (%x{0}: f32[])\n", i + 1,
                        i == 0 ? "" : std::to_string(i));
  CHECK_FALSE(survives(deep));
  CHECK_FALSE(survives(std::string(1000000, '(')));
  CHECK_FALSE(survives("bundle @b {\n  w: f32[" + std::string(1000000, 'x') + "]\n}\n"));

  std::string bundles = "bundle @b0 {\n  w: f32[]\n}\n";
  for (int i = 1; i < 100; ++i)
    bundles += fmt::format("bundle @b{} {{\n  h: 1 x @b{}\n}}\n", i, i - 1);
  CHECK_FALSE(survives(bundles));

  std::string text = "func @f(%x: f32[t=4]) -> f32[t] {\n  %0 = exp %x -> f32[t]\n";
  const int n = 50000;
  for (int i = 1; i < n; ++i) text += fmt::format("  %{} = add %{}, %x -> f32[t]\n", i, i - 1);
  text += fmt::format("  return %{}\n}}\n", n - 1);
  const Program p = samples::parse(text);
  CHECK(print(p) == text);
  CHECK(verify(p).empty());
}

TEST_CASE("a region that holds as many regions as may be prints and parses") {
  std::string open, close;
  const int depth = 64;
  for (int i = 1; i <= depth; ++i) {
    open += fmt::format("%r{0} = fused group %x{1} -> f32[] {{ (%x{0}: f32[])\n", i,
                        i == 1 ? "" : std::to_string(i - 1));
    close = fmt::format("yield %{}\n}}\n",
                        i == depth ? fmt::format("x{}", i) : fmt::format("r{}", i + 1)) +
            close;
  }
  const std::string text = "func @f(%x: f32[]) -> f32[] {\n" + open + close + "return %r1\n}\n";
  CHECK(survives(text));
  CHECK(verify(samples::parse(text)).empty());
}

TEST_CASE("names that clash print apart") {
  // Names are unique where the builder makes them; a printer that trusted in it would make a text
  // that means something else.
  Program p = samples::parse(
      "bundle @b {\n  w: f32[]\n}\n"
      "func @f(%x: f32[], %y: f32[], %p: @b, %q: @b) -> f32[] {\n  return %y\n}\n");
  Function& f = p.functions[0];
  f.values[0].name = p.intern("p.w");
  f.values[1].name = p.intern("p.w");
  f.groups[1].name = f.groups[0].name;
  const std::string text = print(p);
  CHECK(text.find("(%p.w: f32[], %0: f32[], %p.1: @b, %p.2: @b)") != std::string::npos);
  CHECK(print(samples::parse(text)) == text);
}

TEST_CASE("functions and what they reach can be printed alone") {
  const std::string text =
      "bundle @b {\n  w: f32[d=4] = @start\n}\n"
      "bundle @other {\n  w: f32[d=4]\n}\n"
      "func @start() -> f32[d=4] {\n  %0 = constant 1.0 -> f32[]\n  %1 = expand %0 -> f32[d]\n  "
      "return %1\n}\n"
      "func @inner(%x: f32[d=4]) -> f32[d] {\n  return %x\n}\n"
      "func @alone(%p: @other) -> f32[d] {\n  return %p.w\n}\n"
      "func @outer(%p: @b) -> f32[d] {\n  %0 = call @inner %p.w -> f32[d]\n  return %0\n}\n";
  const Program p = samples::parse(text);
  const std::string part = print(p, {.functions = {"outer"}});
  CHECK(part.find("@alone") == std::string::npos);
  CHECK(part.find("@other") == std::string::npos);
  CHECK(print(samples::parse(part)) == part);
  CHECK(part.find("func @inner") < part.find("func @outer"));
  CHECK(print_function(p, p.find("inner")) ==
        "func @inner(%x: f32[d=4]) -> f32[d] {\n  return %x\n}\n");
  CHECK(print_op(p, p.function(p.find("outer")), OpId{0}) == "%0 = call @inner %p -> f32[d=4]");
}
