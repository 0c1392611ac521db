// Protects planning: places and order (goldens), that a plan run in real memory gives what the
// interpreter gives, that the checker accepts every plan and refuses every spoiled one, and
// packing.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include "ir/philox.h"
#include "ir/text.h"
#include "passes/passes.h"
#include "passes/plan.h"
#include "support/golden.h"
#include "unit/passes/group_support.h"

namespace gradc {
namespace {

using namespace plan_test;

std::string faults(const Program& p, std::string_view entry) {
  std::string out;
  for (const std::string& s : check_plan(p, p.find(entry))) out += s + "\n";
  return out;
}

void check_planned(const Program& before, const Program& planned, std::string_view entry,
                   std::uint64_t seed) {
  check_round_trip(planned);
  if (const std::string found = faults(planned, entry); !found.empty())
    FAIL_CHECK(found << print(planned));
  const std::vector<Array> arguments = draw(before.function(before.find(entry)), seed);
  const std::vector<Array> right = interpret(before, entry, arguments);
  CHECK(difference(right, interpret(planned, entry, arguments)) == "");
  const std::string d = difference(right, run_in_memory(planned, entry, arguments));
  if (!d.empty()) FAIL_CHECK("in memory: " << d << "\n" << print(planned));
}

}  // namespace

TEST_CASE("plans: goldens; each runs in memory") {
  golden::run("plan", [&](const golden::Case& c) {
    const Program before = parsed(c.text("ir"));
    const std::string entry = c.sections[0].args.substr(0, c.sections[0].args.find(' '));
    const Program planned = plan(group(before, avx512_target()), avx512_target(), entry);
    check_planned(before, planned, entry, 1);
    const PlanSummary s = summarize_plan(planned, planned.find(entry));
    std::string out = print_function(planned, planned.find(entry), {.locations = false});
    out += fmt::format(
        "# {} launches of {} kernels; activations {} bytes, alive at once {}:", s.launches,
        s.kernels, s.bytes[static_cast<std::size_t>(Arena::activations)], s.peak_live);
    for (const PlanSummary::Holder& h : s.at_peak)
      out += fmt::format("\n#   {} {}", h.value, h.bytes);
    return out + "\n";
  });
}

TEST_CASE("plans: random programs run in memory as interpreted") {
  for (std::uint64_t seed = 0; seed < 400; ++seed) {
    CAPTURE(seed);
    const Program before = random_program(seed);
    const Program grouped = group(before, avx512_target());
    CHECK(unsupported(grouped, "f") == "");
    check_planned(before, plan(grouped, avx512_target(), "f"), "f", seed);
  }
}

TEST_CASE("checker: a plan with one place moved is refused, or runs right all the same") {
  int refused = 0, tried = 0;
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    CAPTURE(seed);
    const Program before = random_program(seed);
    const Program planned = plan(group(before, avx512_target()), avx512_target(), "f");
    const std::vector<Array> arguments = draw(before.functions[0], seed);
    const std::vector<Array> right = interpret(before, "f", arguments);
    const FunctionId id = planned.find("f");
    for (int mutation = 0; mutation < 12; ++mutation) {
      Program spoiled = planned;
      Function& f = spoiled.function(id);
      const auto random = [&](std::size_t n) {
        return static_cast<std::size_t>(
            philox_uniform(seed, 1, static_cast<std::uint64_t>(mutation), ++tried) *
            static_cast<double>(n));
      };
      const std::size_t v = random(f.values.size());
      Placement& p = f.placed[v];
      switch (mutation % 4) {
        case 0: p.offset = f.placed[random(f.values.size())].offset; break;
        case 1: p.offset += 64; break;
        case 2: p.arena = f.placed[random(f.values.size())].arena; break;
        default:
          if (const int rank = f.values[v].type.axes.size(); rank > 1)
            std::swap(p.strides[0], p.strides[static_cast<std::size_t>(rank - 1)]);
      }
      if (!faults(spoiled, "f").empty()) {
        ++refused;
        continue;
      }
      const std::string d = difference(right, run_in_memory(spoiled, "f", arguments));
      if (!d.empty()) FAIL_CHECK("accepted, and wrong: " << d << "\n" << print(spoiled));
    }
  }
  CHECK(refused > 300);
}

TEST_CASE("checker: names what is wrong") {
  const Program grouped =
      group(parsed("func @f(%x: f32[i=8 j=64], %w: f32[j k=16]) -> (y: f32[i k], z: f32[i k]) {\n"
                   "  %a = contract %x, %w -> f32[i k]\n  %b = contract %a, %w -> f32[i j]\n"
                   "  %c = contract %b, %w -> f32[i k]\n  %d = tanh %c -> f32[i k]\n"
                   "  %e = contract %d, %w -> f32[i j]\n  %y = contract %e, %w -> f32[i k]\n"
                   "  %z = add %a, %y -> f32[i k]\n  return %y, %z\n}\n"),
            avx512_target());
  const Program planned = plan(grouped, avx512_target(), "f");
  CHECK(faults(planned, "f") == "");
  const FunctionId id = planned.find("f");
  const auto spoil = [&](std::string_view value, auto&& change) {
    Program p = planned;
    Function& f = p.function(id);
    for (std::size_t v = 0; v < f.values.size(); ++v)
      if (p.text(f.values[v].name) == value) change(f.placed[v]);
    return faults(p, "f");
  };
  const auto has = [](const std::string& text, std::string_view part) {
    return text.find(part) != std::string::npos;
  };
  const auto a =
      planned.function(id)
          .placed[planned.function(id).op(planned.function(id).body().ops[0]).results[0].index];
  CHECK(has(spoil("b", [&](Placement& p) { p.arena = a.arena, p.offset = a.offset; }),
            "while it is read"));
  CHECK(has(spoil("d", [&](Placement& p) { p.arena = a.arena, p.offset = a.offset; }),
            "which is read later"));
  CHECK(has(spoil("b", [](Placement& p) { p.arena = Arena::input, p.offset = 1 << 20; }),
            "outlives the call"));
  CHECK(has(spoil("b", [](Placement& p) { p.offset += 2; }), "not aligned"));
  CHECK(has(spoil("b", [](Placement& p) { p.strides[0] = 8; }), "lie on each other"));
  CHECK(has(spoil("y", [](Placement& p) { p.arena = Arena::activations, p.offset = 1 << 20; }),
            "belongs at out"));
  CHECK(has(spoil("b", [](Placement& p) { p.arena = Arena::none; }), "no place"));
}

TEST_CASE(
    "packing: nothing overlaps, everything is aligned, and nested lives take what is alive at "
    "once") {
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    std::vector<planning::Interval> items;
    std::uint64_t n = 0;
    const auto random = [&](int most) {
      return static_cast<std::int64_t>(philox_uniform(seed, 2, 0, n++) * most);
    };
    for (int i = 0; i < 80; ++i) {
      const std::int64_t first = random(60);
      items.push_back({1 + random(1000), first, first + random(20)});
    }
    const planning::Packing p = planning::pack(items);
    for (std::size_t i = 0; i < items.size(); ++i) {
      CHECK(p.offsets[i] % 64 == 0);
      CHECK(p.offsets[i] + items[i].bytes <= p.bytes);
      for (std::size_t k = 0; k < i; ++k) {
        const bool together = items[i].first <= items[k].last && items[k].first <= items[i].last;
        const bool apart = p.offsets[i] + items[i].bytes <= p.offsets[k] ||
                           p.offsets[k] + items[k].bytes <= p.offsets[i];
        CHECK((!together || apart));
      }
    }
  }
  // Forward keeps what backward reads, last first.
  std::vector<planning::Interval> nested;
  std::int64_t alive = 0;
  for (int i = 0; i < 500; ++i) {
    nested.push_back({64 * (1 + i % 7), i, 1000 - i});
    alive += 64 * (1 + i % 7);
  }
  CHECK(planning::pack(nested).bytes == alive);
}

TEST_CASE("plans: what only the interpreter runs is named") {
  const Program p = parsed(
      "func @f(%x: f32[t=3]) -> f32[t] {\n  %r = tanh %x -> f32[t]\n  return %r\n}\n");
  CHECK(unsupported(p, "f") == "@f: `tanh` runs in the interpreter only");
  CHECK(unsupported(p, "g") == "there is no function @g");
  const Program grouped = group(p, avx512_target());
  CHECK(unsupported(grouped, "f") == "");
  CHECK(faults(plan(grouped, avx512_target(), "f"), "f") == "");
}

}  // namespace gradc
