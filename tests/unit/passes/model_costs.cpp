// Protects speed where no test may look at a clock: for every shipped model the kernels of its
// training step by family, their launches, floating-point operations and bytes moved, and the
// activations. A decision of grouping or planning that costs a pass over memory shows here. The
// arguments of a case: the model, then numbers to set.
#include <doctest/doctest.h>

#include <filesystem>
#include <set>
#include <sstream>

#include "frontend/frontend.h"
#include "ir/builder.h"
#include "passes/pipeline.h"
#include "passes/plan.h"
#include "support/golden.h"

namespace gradc {
namespace {

// The step of a model, planned for AVX-512.
Program planned_step(const std::string& path, const LowerOptions& options,
                     const FuseOptions& fusion = {}) {
  Sources sources;
  const std::uint32_t source = sources.add(path, golden::read_file(golden::source_path(path)));
  const auto parsed =
      parse_model(sources, source, [](const std::string&, std::string&) { return false; });
  if (!parsed) FAIL(render(sources, parsed.failure().diagnostics[0]));
  const Result<Model> lowered = lower(sources, **parsed, options);
  if (!lowered) FAIL(render(sources, lowered.failure().diagnostics[0]));
  Result<Program> planned = run_pipeline(lowered->program, {.target = avx512_target(), .fuse = fusion});
  if (!planned) FAIL(planned.failure().diagnostics[0].message);
  return std::move(*planned);
}

std::string costs_of(const Program& planned) {
  std::string out;
  if (const std::string what = unsupported(planned, "step"); !what.empty())
    out = "launches alone count: " + what + "\n";
  return out + summary_text(summarize_plan(planned, planned.find("step")), 0);
}

}  // namespace

TEST_CASE("costs of the training step of every shipped model") {
  std::set<std::string> without;
  for (const auto& file :
       std::filesystem::directory_iterator(golden::source_path("frontend/models")))
    without.insert("frontend/models/" + file.path().filename().string());
  golden::run("models", [&](const golden::Case& c) {
    std::istringstream words(c.sections[0].args);
    std::string path, setting;
    words >> path;
    LowerOptions options{.values = {"loss"}};
    while (words >> setting) {
      const std::size_t is = setting.find('=');
      options.set.emplace_back(setting.substr(0, is), setting.substr(is + 1));
    }
    if (options.set.empty()) without.erase(path);
    return costs_of(planned_step(path, options));
  });
  CHECK(without == std::set<std::string>{});
}

TEST_CASE("costs of the optimizer: clip and AdamW read p, g, m, v and write p, m, v in one pass") {
  const Program planned = planned_step("frontend/models/gpt.grad", {});
  const Function& step = planned.function(planned.find("step"));
  std::int64_t n = 0;
  for (ValueId v : step.body().arguments)
    if (planned.text(step.value(v).name) == "m") n = step.elements(step.type(v));
  REQUIRE(n > 0);
  std::vector<std::int64_t> passes;  // bytes a parameter
  for (OpId id : step.body().ops) {
    const Op& op = step.op(id);
    if (op.code != Opcode::launch_ || planned.location(op.loc).role != Role::update) continue;
    if (const std::int64_t each = launch_cost(planned, step, op).bytes / n) passes.push_back(each);
  }
  CHECK(passes == std::vector<std::int64_t>{28});  // the norm is none
}

TEST_CASE("no planned buffer grows faster than linearly in the length") {
  // A prime length: what has a multiple of t² elements has two axes of it (or their product).
  constexpr std::int64_t t = 4099;
  const std::pair<const char*, LowerOptions> models[] = {
      {"frontend/models/gpt.grad", {.set = {{"t", "4099"}, {"b", "1"}, {"layers", "2"}}}},
      {"frontend/models/llama.grad", {.set = {{"t", "4099"}, {"b", "1"}}}},
      {"frontend/models/mini.grad", {.set = {{"t", "4099"}, {"b", "1"}}}},
      {"frontend/models/transformer.grad", {.set = {{"t", "4099"}, {"s", "4099"}, {"b", "1"}}}},
      {"tests/bench/window.grad", {.set = {{"t", "4099"}}}}};
  for (const auto& [path, options] : models) {
    CAPTURE(path);
    const Program planned = planned_step(path, options);
    const Function& step = planned.function(planned.find("step"));
    int in_length = 0;
    for (const planning::Life& life : planning::lives(step)) {
      const std::int64_t elements = step.elements(step.type(life.value));
      in_length += elements % t == 0;
      CAPTURE(planned.text(step.value(life.value).name));
      CHECK((elements == 0 || elements % (t * t) != 0));
    }
    CHECK(in_length >= 20);
  }
  // What the program itself declares: without fusion the scores are such a buffer.
  std::array<bool, claim_count> all;
  all.fill(true);
  const Program whole =
      planned_step("frontend/models/mini.grad", {.set = {{"t", "257"}, {"b", "1"}}}, {.off = all});
  const Function& step = whole.function(whole.find("step"));
  int squares = 0;
  for (const planning::Life& life : planning::lives(step))
    squares += step.elements(step.type(life.value)) % (257 * 257) == 0;
  CHECK(squares > 0);
}

TEST_CASE("costs are counted from bodies: products, elements, what is read of a table") {
  Program p;
  Function k{.family = Family::contract};
  Builder b(p, k);
  const AxisId m = b.axis("m", 5), n = b.axis("n", 7), r = b.axis("r", 3);
  const ValueId x = b.argument({DType::f32, {m, r}}), y = b.argument({DType::f32, {r, n}});
  const ValueId table = b.argument({DType::f32, {r, n}}), row = b.argument({DType::i32, {m}});
  const ValueId product = b.contract(x, y, {m, n});
  const ValueId looked_up = b.add(Opcode::gather_, {table, row}, {.from = r});
  b.finish(std::vector<ValueId>{b.binary(Opcode::add_, product, looked_up)});
  const Cost cost = kernel_cost(k);
  CHECK(cost.flop == 2 * 5 * 7 * 3 + 5 * 7);
  // The table's 21 elements are fewer than the 35 looked up: each moves once.
  CHECK(cost.bytes == 4 * (5 * 3 + 3 * 7 + 3 * 7 + 5 + 5 * 7));

  Function few{.family = Family::map};
  Builder c(p, few);
  const AxisId v = c.axis("v", 100), d = c.axis("d", 4), t = c.axis("t", 2);
  const ValueId words = c.argument({DType::f32, {v, d}}), at = c.argument({DType::i32, {t}});
  const ValueId found = c.add(Opcode::gather_, {words, at}, {.from = v});
  c.finish(std::vector<ValueId>{c.unary(Opcode::exp_, found)});
  CHECK(kernel_cost(few).flop == 8);
  CHECK(kernel_cost(few).bytes == 4 * (8 + 2 + 8));  // eight of the table's 400
}

}  // namespace gradc
