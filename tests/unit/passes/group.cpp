// Protects grouping: what becomes a kernel (goldens), that nothing but launches, calls and views
// stands outside, and that the grouped program means the same.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include "ir/text.h"
#include "passes/passes.h"
#include "support/golden.h"
#include "unit/passes/group_support.h"

namespace gradc {
namespace {

using namespace plan_test;

// Operations that the interpreter would still run one by one.
std::string left_over(const Program& p) {
  for (const Function& f : p.functions) {
    if (f.family != Family::none) continue;
    for (OpId o : f.body().ops) switch (f.op(o).code) {
        case Opcode::launch_:
        case Opcode::call_:
        case Opcode::relabel_:
        case Opcode::pick_:
        case Opcode::slice_:
        case Opcode::split_:
        case Opcode::merge_:
        case Opcode::concat_:
        case Opcode::flat_:
        case Opcode::scan_: break;
        default: return fmt::format("{} stands outside kernels", facts(f.op(o).code).name);
      }
  }
  return "";
}

}  // namespace

TEST_CASE("grouping: goldens; each means the same grouped") {
  golden::run("group", [&](const golden::Case& c) {
    const Program before = parsed(c.text("ir"));
    const Program after = group(before, avx512_target());
    check_round_trip(after);
    CHECK(left_over(after) == "");
    const std::string entry = c.sections[0].args.substr(0, c.sections[0].args.find(' '));
    if (!before.find(entry).valid()) FAIL("there is no @" << entry);
    const std::vector<Array> arguments = draw(before.function(before.find(entry)), 1);
    CHECK(difference(interpret(before, entry, arguments), interpret(after, entry, arguments)) ==
          "");
    return print(after, {.locations = false});
  });
}

TEST_CASE("grouping: random programs mean the same, and grouping again changes nothing") {
  for (std::uint64_t seed = 0; seed < 400; ++seed) {
    CAPTURE(seed);
    const Program before = random_program(seed);
    const Program after = group(before, avx512_target());
    check_round_trip(after);
    CHECK(left_over(after) == "");
    const std::vector<Array> arguments = draw(before.functions[0], seed);
    const std::string d =
        difference(interpret(before, "f", arguments), interpret(after, "f", arguments));
    if (!d.empty()) FAIL_CHECK(d << "\n" << print(before) << "\n" << print(after));
    CHECK(print(group(after, avx512_target())) == print(after));
  }
}

TEST_CASE(
    "grouping: a chain of a twenty thousand operations, and as many readers of one value, take no "
    "time") {
  std::string chain = "func @f(%x: f32[i=4]) -> f32[i] {\n  %v0 = sin %x -> f32[i]\n";
  for (int i = 0; i < 20000; ++i)
    chain += fmt::format("  %v{} = add %v{}, %x -> f32[i]\n", i + 1, i);
  const Program longest = group(parsed(chain + "  return %v20000\n}\n"), avx512_target());
  CHECK(longest.functions.size() > 2);  // more than one kernel: none grows without bound
  std::string star =
      "func @f(%x: f32[i=4], %w: f32[i j=2]) -> f32[j] {\n  %s = sin %x -> f32[i]\n  %v0 = "
      "contract %s, %w -> f32[j]\n";
  for (int i = 0; i < 4000; ++i)
    star += fmt::format(
        "  %c{0} = contract %s, %w -> f32[j]\n  %v{1} = add %v{0}, %c{0} -> f32[j]\n", i, i + 1);
  CHECK(left_over(group(parsed(star + "  return %v4000\n}\n"), avx512_target())) == "");
}

}  // namespace gradc
