// Protects updates part by part: for every model they give what one update gives, where the plan
// puts them, they stand right behind their gradient and no gradient has a place of its own; what
// needs all gradients first is left alone, and the checker sees an update that comes too early.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "ir/text.h"
#include "passes/fuse.h"
#include "passes/passes.h"
#include "passes/plan.h"
#include "unit/passes/group_support.h"

namespace gradc {
namespace {

using namespace plan_test;

const Settings small_gpt{{"layers", "3"}, {"d", "8"}, {"h", "2"}, {"v", "11"}, {"t", "4"}, {"b", "2"}};

// The step as it is before updates are spread. `how` changes the settings of training.
template <class How>
Program step_of(Program program, How&& how, bool bf16 = false) {
  how(program.training);
  Result<Program> grad = differentiate(simplify(program));
  REQUIRE(grad.ok());
  Program step = simplify(add_update(simplify(*grad)));
  if (bf16) step = simplify(keep_rounded(lower_precision(step, 1)));
  step = spread_norm(unfuse(step, false));
  drop_unreachable(step, {"step"});
  return step;
}
void no_clip(Training& t) { t.clip = 0; }

std::vector<Array> arguments_of(const Program& p) {
  const Function& f = p.function(p.find("step"));
  std::vector<Array> out = draw(f, 5);
  for (std::size_t i = 0; i < out.size(); ++i)
    for (double& x : out[i].real)
      x = round_to(p.text(f.value(f.body().arguments[i]).name) == "v" ? std::fabs(x) : 0.3 * x,
                   out[i].dtype);
  return out;
}

int calls_of_parts(const Program& p) {
  const Function& update = p.function(p.find("update"));
  return static_cast<int>(std::count_if(update.ops.begin(), update.ops.end(), [](const Op& op) {
    return op.code == Opcode::call_;
  }));
}

// The same values to the bit, before and behind grouping and planning, and nothing copied for it.
Program check_spread(const Program& before, const UpdateOptions& options) {
  const Program after = spread_update(before, options);
  check_round_trip(after);
  CHECK(print(spread_update(after, options)) == print(after));
  const std::vector<Array> arguments = arguments_of(before);
  const std::vector<Array> was = interpret(before, "step", arguments);
  const std::vector<Array> is = interpret(after, "step", arguments);
  REQUIRE(is.size() == was.size());
  for (std::size_t i = 0; i < is.size(); ++i) CHECK(is[i].real == was[i].real);
  const Program grouped = group(after, avx512_target());
  const Program planned = plan(grouped, avx512_target(), "step");
  check_round_trip(planned);
  for (const std::string& fault : check_plan(planned, planned.find("step"))) FAIL_CHECK(fault);
  CHECK(copies(planned) <= copies(plan(group(before, avx512_target()), avx512_target(), "step")));
  if (unsupported(grouped, "step").empty())
    CHECK(difference(was, run_in_memory(planned, "step", arguments)) == "");
  return planned;
}

bool updates(const Function& f, const Op& op) {
  return op.code == Opcode::launch_ &&
         std::any_of(op.results.begin(), op.results.end(), [&](ValueId v) {
           return f.placed[v.index].arena == Arena::parameters;
         });
}

}  // namespace

TEST_CASE("spread update: every model's step is the step, in f32 and bf16") {
  const std::pair<const char*, Settings> models[] = {
      {"gpt", small_gpt},
      {"llama",
       {{"layers", "2"}, {"d", "16"}, {"g", "2"}, {"r", "2"}, {"f", "12"}, {"v", "11"}, {"t", "4"}, {"b", "2"}}},
      {"transformer",
       {{"layers", "1"}, {"d", "8"}, {"h", "2"}, {"v", "11"}, {"s", "3"}, {"t", "4"}, {"b", "2"}}},
      {"cnn", {{"layers", "2"}, {"d", "6"}, {"v", "11"}, {"t", "5"}, {"b", "2"}}},
      {"rnn", {{"layers", "1"}, {"d", "4"}, {"v", "11"}, {"t", "3"}, {"b", "2"}}}};
  for (const auto& [model, set] : models)
    for (const bool bf16 : {false, true}) {
      CAPTURE(model);
      CAPTURE(bf16);
      const Program before = step_of(shipped(model, set), no_clip, bf16);
      for (const std::int64_t large : {1, 24, 1 << 20}) {
        CAPTURE(large);
        if (calls_of_parts(spread_update(before, {.least = 1, .large = large})) > 0)
          check_spread(before, {.least = 1, .large = large});
        else
          CHECK(large > 24);  // all small and alike: one part, which is what there was
      }
    }
}

TEST_CASE("spread update: decay by member and by turn, and SGD") {
  const Program model = shipped("gpt", small_gpt);
  const auto check = [&](auto&& how) {
    const Program before = step_of(model, how);
    CHECK(calls_of_parts(spread_update(before, {.least = 1, .large = 24})) > 3);
    check_spread(before, {.least = 1, .large = 24});
  };
  check([](Training& t) { t.clip = 0, t.except = "*.bias, *norm*"; });
  check([](Training& t) { t.clip = 0, t.except = "*.1.*"; });   // a turn: by position in the IR
  check([](Training& t) { t.clip = 0, t.kind = Training::sgd, t.momentum = 0.9; });
}

TEST_CASE("spread update: what needs all gradients, or is not worth it, stays one") {
  const Program model = shipped("gpt", small_gpt);
  const auto same = [](const Program& p, const UpdateOptions& options) {
    return print(spread_update(p, options)) == print(p);
  };
  CHECK(same(step_of(model, [](Training& t) { t.clip = 1; }), {.least = 1, .large = 1}));
  CHECK(same(step_of(model, no_clip), {}));
  // Without momentum the gradient itself is a result.
  CHECK(same(step_of(model, [](Training& t) { t.clip = 0, t.kind = Training::sgd, t.momentum = 0; }),
             {.least = 1, .large = 1}));
  // The norm has not been spread: a pass over all gradients comes first.
  Result<Program> grad = differentiate(simplify(model));
  REQUIRE(grad.ok());
  Program unspread = *grad;
  unspread.training.clip = 0;
  unspread = unfuse(simplify(add_update(unspread)), false);
  CHECK(same(unspread, {.least = 1, .large = 1}));
}

TEST_CASE("spread update: updates stand behind their gradients, which need no arena") {
  const Program before = step_of(shipped("gpt", small_gpt), no_clip);
  const Program planned = check_spread(before, {.least = 1, .large = 24});
  const Function& f = planned.function(planned.find("step"));
  const std::vector<OpId>& ops = f.body().ops;
  // The first update comes soon behind forward, which takes half of the launches; without spreading
  // the only one is the last of all.
  std::vector<std::size_t> where;
  std::size_t launches = 0;
  for (OpId o : ops) {
    if (f.op(o).code != Opcode::launch_) continue;
    if (updates(f, f.op(o))) where.push_back(launches);
    ++launches;
  }
  REQUIRE(where.size() > 12);
  CHECK(where.front() < launches * 6 / 10);
  const auto bytes = [](const Program& p, Arena a) {
    return summarize_plan(p, p.find("step")).bytes[static_cast<std::size_t>(a)];
  };
  const Program whole = plan(group(before, avx512_target()), avx512_target(), "step");
  CHECK(bytes(planned, Arena::gradients) == 0);
  CHECK(bytes(planned, Arena::activations) <
        bytes(whole, Arena::gradients) + bytes(whole, Arena::activations));
  // Layers share the kernels of their parts, and @update has no more axes for more of them.
  const PlanSummary s = summarize_plan(planned, planned.find("step"));
  const Program deep = shipped("gpt", {{"layers", "9"}, {"d", "8"}, {"h", "2"}, {"v", "11"}, {"t", "4"}, {"b", "2"}});
  const Program spread = spread_update(step_of(deep, no_clip), {.least = 1, .large = 24});
  const Program three = spread_update(before, {.least = 1, .large = 24});
  const auto axes = [](const Program& p) { return p.function(p.find("update")).axes.size(); };
  CHECK(axes(spread) == axes(three));
  const Program deeper = plan(group(spread, avx512_target()), avx512_target(), "step");
  CHECK(summarize_plan(deeper, deeper.find("step")).kernels == s.kernels);
}

TEST_CASE("spread update: a tied table's gradient from the logits is made when the embedding's is there") {
  const Program before = step_of(
      shipped("gpt", {{"layers", "3"}, {"d", "64"}, {"h", "2"}, {"v", "16384"}, {"t", "4"}, {"b", "2"}}),
      no_clip);
  const Program planned = check_spread(before, {.least = 1, .large = 1024});
  const Function& f = planned.function(planned.find("step"));
  // And its squares are added up by the kernel that updates the table: nobody else reads all of it.
  std::size_t table = 0, products = 0;
  int readers = 0, updating = 0;
  for (OpId o : f.body().ops) {
    const Op& op = f.op(o);
    if (op.code != Opcode::launch_ || planned.text(f.value(op.results[0]).name) == "g.wte") continue;
    const bool reads = std::any_of(op.operands.begin(), op.operands.end(), [&](ValueId v) {
      return planned.text(f.value(planning::below_views(f, v)).name).starts_with("g.") &&
             f.elements(f.type(v)) == 16384 * 64;
    });
    readers += reads;
    updating += reads && updates(f, op) && f.type(op.results.back()).axes.empty();
  }
  CHECK(readers == 1);
  CHECK(updating == 1);
  for (OpId o : f.body().ops) {
    if (f.op(o).code != Opcode::launch_ ||
        planned.function(f.op(o).attr.callee).family != Family::contract)
      continue;
    ++products;
    if (f.elements(f.type(f.op(o).results[0])) == 16384 * 64) table = products;
  }
  CHECK(products > 30);
  CHECK(table == products);   // the last one, though the loss comes before all layers
}

TEST_CASE("spread update: the checker refuses an update ahead of a reader of the old parameters") {
  const Program before = step_of(shipped("gpt", small_gpt), no_clip);
  const Program planned = check_spread(before, {.least = 1, .large = 24});
  int refused = 0;
  const FunctionId id = planned.find("step");
  const std::vector<OpId>& ops = planned.function(id).body().ops;
  for (std::size_t t = 0; t < ops.size(); ++t) {
    const Function& f = planned.function(id);
    if (!updates(f, f.op(ops[t]))) continue;
    // Ahead of the launch that reads one of the same parameters last.
    const Placement& mine = f.placed[f.op(ops[t]).results.back().index];
    const std::int64_t end = mine.offset + 4 * f.elements(f.type(f.op(ops[t]).results.back()));
    for (std::size_t r = t; r-- > 0;) {
      const Op& reader = f.op(ops[r]);
      if (reader.code != Opcode::launch_) continue;
      const bool reads = std::any_of(reader.operands.begin(), reader.operands.end(), [&](ValueId v) {
        const Placement& p = f.placed[v.index];
        return p.arena == Arena::parameters && mine.arena == Arena::parameters &&
               p.offset >= mine.offset && p.offset < end;
      });
      if (!reads) continue;
      Program wrong = planned;
      std::vector<OpId>& order = wrong.function(id).regions[0].ops;
      std::rotate(order.begin() + static_cast<std::ptrdiff_t>(r),
                  order.begin() + static_cast<std::ptrdiff_t>(t),
                  order.begin() + static_cast<std::ptrdiff_t>(t) + 1);
      const std::vector<std::string> faults = check_plan(wrong, id);
      const bool named = std::any_of(faults.begin(), faults.end(), [](const std::string& fault) {
        return fault.find("which is read later") != std::string::npos;
      });
      CHECK(named);
      ++refused;
      break;
    }
  }
  CHECK(refused > 6);
}

}  // namespace gradc
