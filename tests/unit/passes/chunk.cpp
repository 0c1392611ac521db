// Protects the chunked loss: what runs in a chunk and what stays whole (goldens), that the program
// means the same however rows are cut, and that a planned step never holds the logits.
#include "passes/chunk.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>

#include "ir/text.h"
#include "passes/passes.h"
#include "support/golden.h"
#include "unit/passes/group_support.h"

namespace gradc {
namespace {

using namespace plan_test;

constexpr ChunkOptions tiny{.rows = 4, .least = 8, .most_chunks = 64};

Program chunked(const Program& p, const ChunkOptions& options, std::vector<Remark>* remarks) {
  Program out = chunk(p, avx512_target(), remarks, options);
  check_round_trip(out);
  return out;
}

// The loss and its gradient as they stand behind `differentiate`; @loss alone is chunked as well.
std::string model(std::string_view axes, std::string_view rows, std::string_view loss) {
  return fmt::format(R"(bundle @params {{
  w: f32[v=11 d=4] as "w" ~ normal(0.02)
  c: f32[v=11] as "c" = 0.0
}}
input %x: f32[{0} d=4]
input %target: i32[{0}]
input %m: f32[{0}]
func @loss(%p: @params, %x: f32[{0} d=4], %target: i32[{1}], %m: f32[{1}], %step: i64[], %seed: i64[]) -> (loss: f32[]) {{
  %y = tanh %x -> f32[{1} d]
  %a = contract %y, %p.w -> f32[{1} v=11]
  %logits = add %a, %p.c -> f32[{1} v]
{2}
}}
)",
                     axes, rows, loss);
}

const std::string cross_entropy = R"(  %top = amax %logits over v -> f32[b t]
  %low = sub %logits, %top -> f32[b t v]
  %e = exp %low -> f32[b t v]
  %s = sum %e over v -> f32[b t]
  %l = log %s -> f32[b t]
  %lse = add %l, %top -> f32[b t]
  %g = gather %logits, %target [v] -> f32[b t]
  %r = sub %lse, %g -> f32[b t]
  %k = mul %r, %m -> f32[b t]
  %n = sum %m over b t -> f32[]
  %k1 = sum %k over b t -> f32[]
  %loss = div %k1, %n -> f32[]
  return %loss)";

int calls_of(const Program& p, std::string_view function) {
  int n = 0;
  for (const Op& op : p.function(p.find(function)).ops) n += op.code == Opcode::call_;
  return n;
}

}  // namespace

TEST_CASE("chunk: goldens; each means the same in chunks") {
  golden::run("chunk", [&](const golden::Case& c) {
    const Program before = parsed(c.text("ir"));
    std::vector<Remark> remarks;
    const Program after = chunked(before, tiny, &remarks);
    const std::string entry = c.sections[0].args.substr(0, c.sections[0].args.find(' '));
    const std::vector<Array> arguments = draw(before.function(before.find(entry)), 1);
    CHECK(difference(interpret(before, entry, arguments), interpret(after, entry, arguments)) ==
          "");
    std::string out = print(after, {.locations = false});
    for (const Remark& r : remarks) out += fmt::format("# {}\n", r.text);
    return out;
  });
}

TEST_CASE("chunk: forward and backward of a loss, rows cut in every way") {
  for (const auto& [b, t] : {std::pair{2, 8}, {8, 2}, {3, 7}, {7, 3}, {1, 13}, {13, 1}, {5, 5}}) {
    const std::string text = model(fmt::format("b={} t={}", b, t), "b t", cross_entropy);
    const Result<Program> grad = differentiate(simplify(parsed(text)));
    REQUIRE(grad.ok());
    const Program before = simplify(*grad);
    for (std::int64_t rows : {1, 3, 4, 6, 8}) {
      CAPTURE(b);
      CAPTURE(t);
      CAPTURE(rows);
      std::vector<Remark> remarks;
      const Program after =
          chunked(before, {.rows = rows, .least = 8, .most_chunks = 30}, &remarks);
      REQUIRE(remarks.size() == 2);  // @loss and @grad
      for (std::string_view entry : {"loss", "grad"}) {
        CHECK(calls_of(after, entry) >= (b * t + rows - 1) / rows);
        CHECK(calls_of(after, entry) <= 30);
        const std::vector<Array> arguments = draw(before.function(before.find(entry)), 3);
        CHECK(difference(interpret(before, entry, arguments), interpret(after, entry, arguments)) ==
              "");
        const Program planned = plan(group(after, avx512_target()), avx512_target(), entry);
        for (const std::string& fault : check_plan(planned, planned.find(entry))) FAIL_CHECK(fault);
        CHECK(difference(interpret(before, entry, arguments),
                         run_in_memory(planned, entry, arguments)) == "");
      }
    }
  }
}

TEST_CASE("chunk: what is worth nothing stays") {
  const std::string text = model("b=2 t=8", "b t", cross_entropy);
  const Program before = simplify(parsed(text));
  const auto same = [&](const ChunkOptions& options) {
    std::vector<Remark> remarks;
    const Program after = chunked(before, options, &remarks);
    return remarks.empty() && print(after) == print(before);
  };
  CHECK(same({}));                                // few elements
  CHECK(same({.rows = 16, .least = 8}));          // a single chunk
  CHECK(same({.rows = 4, .least = 2 * 8 * 11}));  // just as many elements
  CHECK_FALSE(same({.rows = 4, .least = 2 * 8 * 11 - 1}));
}

TEST_CASE("chunk: a planned step never holds the logits, and copies nothing") {
  const std::string text = model("b=8 t=64", "b t", cross_entropy);
  const Program before = simplify(*differentiate(simplify(parsed(text))));
  const auto planned_bytes = [&](const Program& p) {
    const Program planned = plan(group(p, avx512_target()), avx512_target(), "grad");
    for (const Function& f : planned.functions)
      CHECK_FALSE(planned.text(f.name).starts_with("copy"));
    return summarize_plan(planned, planned.find("grad"))
        .bytes[static_cast<std::size_t>(Arena::activations)];
  };
  const std::int64_t logits = 8 * 64 * 11 * 4, whole = planned_bytes(before);
  const std::int64_t cut =
      planned_bytes(chunked(before, {.rows = 64, .least = 8, .most_chunks = 64}, nullptr));
  CHECK(whole >= logits);
  CHECK(cut <= whole - logits + logits / 8 + 4096);
}

}  // namespace gradc
