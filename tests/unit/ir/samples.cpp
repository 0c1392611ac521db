// Samples of every operation.
#include "unit/ir/samples.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <map>

#include "ir/text.h"

namespace gradc::samples {
namespace {

// What cannot be generated from the row alone.
const std::map<std::string, std::vector<std::string>, std::less<>>& written() {
  static const std::map<std::string, std::vector<std::string>, std::less<>> lines{
      {"constant",
       {"%r = constant 0.5 -> f32[]", "%r = constant -3 -> i64[]", "%r = constant true -> bool[]"}},
      {"position", {"%r = position t -> i32[t]", "%r = position %n [t] -> i32[t]"}},
      {"uniform", {"%r = uniform %n, %n, %n -> f32[t d]"}},
      {"flags",
       {"%r = flags @params.decay -> bool[n=14]", "%r = flags @params.clip -> bool[n=14]"}},
      {"cast", {"%r = cast %x -> bf16[d t]", "%r = cast %i -> f64[t]"}},
      {"expand", {"%r = expand %x -> f32[s=2 d t]"}},
      {"relabel", {"%r = relabel %x [t -> s] -> f32[s=6 d]"}},
      {"pick", {"%r = pick %x [t = 2] -> f32[d]", "%r = pick %x, %n [t = -1] -> f32[d]"}},
      {"slice",
       {"%r = slice %x [t = 1 + 2*u] -> f32[u=3 d]", "%r = slice %x, %n [t = u] -> f32[u=3 d]"}},
      {"split", {"%r = split %x [d -> i j] -> f32[t i=2 j=2]"}},
      {"merge", {"%r = merge %x [t d -> n] -> f32[n=24]"}},
      {"shift", {"%r = shift %x [t - 1] -> f32[t d]", "%r = shift %x [t + 1] -> f32[t d]"}},
      {"pad", {"%r = pad %x [u = 1 + 2*t] -> f32[u=13 d]"}},
      {"place", {"%r = place %x [n = 2] -> f32[t d n=3]"}},
      {"concat", {"%r = concat %x, %y, %z [n = t t _] -> f32[n=13 d]"}},
      {"gather", {"%r = gather %w, %i [v] -> f32[t d]"}},
      {"scatter",
       {"%r = scatter %x, %i [v] -> f32[v d]", "%r = scatter %x, %i, %w [v] -> f32[v d]"}},
      {"update", {"%r = update %x, %w, %n [v -> t] -> f32[t d]"}},
      {"bound", {"%r = bound %x, %n [t] -> f32[t d]"}},
      {"contract", {"%r = contract %x, %w -> f32[t v]"}},
      {"flat", {"%r = flat %p: @params [n] -> f32[n=14]"}},
      {"call", {"%r = call @callee %x, %p -> f32[t d]"}},
      {"launch", {"%r = launch @kernel %x, %y -> f32[t d]"}},
      {"fused",
       {"%r = fused softmax %x -> f32[t d] { (%a: f32[t d])\n    yield %a\n  }",
        "%r = fused group %x, %p -> f32[t d] { (%a: f32[t d], %q: @params)\n"
        "    %c = add %a, %q.c -> f32[t d]\n    yield %c\n  }"}},
      {"scan",
       {"%r = scan t carry 1 slice 1 %z, %x -> f32[d] { (%s1: f32[d], %s2: f32[d])\n    yield "
        "%s2\n  }",
        "%o, %r = scan t reverse carry 1 slice 1 %z, %x, %i -> f32[d], f32[t d] { (%s1: f32[d], "
        "%s2: f32[d], %s3: i32[t])\n"
        "    %c = add %s1, %s2 -> f32[d]\n    yield %c, %c\n  }"}},
  };
  return lines;
}

// Operands of one dtype each that elementwise operations may take, and their types.
struct Trial {
  std::string_view operand, type;
};
constexpr Trial trials[] = {{"%x", "f32[t d]"}, {"%i", "i32[t]"}, {"%b", "bool[t]"}};

bool parses(const std::string& text) {
  Sources sources;
  return parse_ir(sources, sources.add("sample.ir", text)).ok();
}

std::vector<std::string> generated(const Facts& row) {
  std::vector<std::string> out;
  for (const auto& [operand, type] : trials) {
    std::string line = fmt::format("%r = {} ", row.name);
    if (row.kind == Kind::reduce) {
      line += fmt::format("{} over t", operand);
    } else {
      if (row.kind == Kind::ternary) line += "%b, ";
      line += operand;
      if (row.kind != Kind::unary) line += fmt::format(", {}", operand);
    }
    // The result is the operand's type, or a bool or an index, without what is reduced.
    for (std::string result : {std::string(type), "bool" + std::string(type.substr(type.find('['))),
                               std::string("i32[t d]")}) {
      if (row.kind == Kind::reduce)
        result.erase(result.find('t'), result.find(']') - result.find('t') > 1 ? 2 : 1);
      const std::string whole = fmt::format("{} -> {}", line, result);
      if (!parses(program_around(whole))) continue;
      out.push_back(whole);
      break;
    }
  }
  return out;
}

}  // namespace

std::vector<std::string> of(Opcode code) {
  const auto it = written().find(facts(code).name);
  if (it != written().end()) return it->second;
  const Kind k = facts(code).kind;
  return is_elementwise(k) || k == Kind::reduce ? generated(facts(code))
                                                : std::vector<std::string>{};
}

std::string program_around(const std::string& lines) {
  return fmt::format(
      "bundle @params {{\n  w: f32[d=4 k=2] as \"w\" ~ normal(0.02)\n  c: f32[d] as \"c\" = 0.0 "
      "no_decay\n"
      "  e: f32[k] as \"e\" = 1.0 no_clip\n}}\n\n"
      "func @callee(%x: f32[t=6 d=4], %p: @params) -> f32[t d] {{\n  %y = mul %x, %p.c -> f32[t "
      "d]\n  return %y\n}}\n\n"
      "kernel @kernel map(%x: f32[t=6 d=4], %y: f32[t d]) -> f32[t d] {{\n  %0 = add %x, %y -> "
      "f32[t d]\n  return %0\n}}\n\n"
      "func @f(%x: f32[t=6 d=4], %y: f32[t d], %z: f32[d], %i: i32[t], %b: bool[t], %n: i64[], %w: "
      "f32[v=5 d], "
      "%p: @params) -> f32[t d] {{\n  {}\n  return %x\n}}\n",
      lines);
}

std::vector<std::string> all_programs() {
  std::vector<std::string> out;
  for (int i = 0; i < opcode_count; ++i)
    for (const std::string& lines : of(static_cast<Opcode>(i)))
      out.push_back(program_around(lines));
  return out;
}

Program parse(const std::string& text) {
  Sources sources;
  Result<Program> p = parse_ir(sources, sources.add("test.ir", text));
  REQUIRE_MESSAGE(p.ok(), render(sources, p.failure().diagnostics[0]) << text);
  return std::move(*p);
}

}  // namespace gradc::samples
