// The forms of softmax and attention: what has them, and what misses them by a little.
#include "ir/attention.h"

#include <doctest/doctest.h>

#include <string>

#include "ir/text.h"
#include "ir/verify.h"

using namespace gradc;

namespace {

// A causal attention as a kernel, with one text put in place of another.
std::string attention(std::string_view from = "", std::string_view to = "") {
  std::string text =
      "kernel @k attention(%q: f32[b=2 t=5 h=2 e=4], %k: f32[b s=7 h e], %u: f32[b s h e], "
      "%bias: f32[h s]) -> (out: f32[b t h e], lse: f32[b t h]) {\n"
      "  %score = contract %q, %k -> f32[b t h s]\n"
      "  %scaled = mul %score, 0.5 -> f32[b t h s]\n"
      "  %biased = add %scaled, %bias -> f32[b t h s]\n"
      "  %i = position t -> i32[t]\n"
      "  %j = position s -> i32[s]\n"
      "  %see = le %j, %i -> bool[s t]\n"
      "  %x = select %see, %biased, -inf -> f32[b t h s]\n"
      "  %max = amax %x over s -> f32[b t h]\n"
      "  %none = eq %max, -inf -> bool[b t h]\n"
      "  %finite = select %none, 0.0, %max -> f32[b t h]\n"
      "  %shift = stop %finite -> f32[b t h]\n"
      "  %centred = sub %x, %shift -> f32[b t h s]\n"
      "  %exp = exp %centred -> f32[b t h s]\n"
      "  %sum = sum %exp over s -> f32[b t h]\n"
      "  %zero = eq %sum, 0.0 -> bool[b t h]\n"
      "  %norm = select %zero, 1.0, %sum -> f32[b t h]\n"
      "  %weight = div %exp, %norm -> f32[b t h s]\n"
      "  %kept = mul %weight, 0.9 -> f32[b t h s]\n"
      "  %out = contract %kept, %u -> f32[b t h e]\n"
      "  %log = log %norm -> f32[b t h]\n"
      "  %lse = add %shift, %log -> f32[b t h]\n"
      "  return %out, %lse\n"
      "}\n";
  if (!from.empty()) {
    const std::size_t at = text.find(from);
    REQUIRE(at != std::string::npos);
    text.replace(at, from.size(), to);
  }
  return text;
}

Program parsed(const std::string& text) {
  Sources sources;
  Result<Program> p = parse_ir(sources, sources.add("attention.ir", text));
  REQUIRE(p.ok());
  return *p;
}

std::string faults(const std::string& text) {
  const Program p = parsed(text);
  std::string out;
  for (const Fault& f : verify(p)) out += f.message + "\n";
  return out;
}

}  // namespace

TEST_CASE("attention has its form, and its roles are read off it") {
  CHECK(faults(attention()) == "");
  const Program p = parsed(attention());
  const Function& f = p.functions[0];
  AttentionForm a;
  REQUIRE(attention_form(f, f.body(), a) == "");
  CHECK(p.text(f.axis(a.keys).name) == "s");
  CHECK(a.rows.size() == 1);
  CHECK(a.batch.size() == 2);
  CHECK(a.softmax.guarded);
  CHECK(p.text(f.value(a.weights).name) == "kept");
  CHECK(p.text(f.value(a.lse).name) == "lse");
}

TEST_CASE("what misses the form of attention by a little is refused, and says why") {
  const auto why = [](std::string_view from, std::string_view to) {
    return faults(attention(from, to));
  };
  CHECK(why("%weight = div %exp, %norm", "%weight = div %norm, %exp").find("no softmax") !=
        std::string::npos);
  CHECK(why("mul %weight, 0.9", "mul %weight, %centred").find("reads scores") !=
        std::string::npos);
  CHECK(why("amax %x over s", "amax %biased over s").find("no softmax") != std::string::npos);
  CHECK(why("add %shift, %log", "add %max, %log").find("logarithm") != std::string::npos);
}
