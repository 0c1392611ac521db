// Protects the making of functions: names and axes that stay unique, groups, inference, and copies
// that are the same function again.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include "ir/builder.h"
#include "ir/structure.h"
#include "ir/text.h"
#include "ir/verify.h"
#include "support/golden.h"
#include "unit/ir/samples.h"

using namespace gradc;

namespace {

// The whole function copied into the same program.
Function copy_of(Program& p, const Function& from) {
  Function to;
  to.name = from.name;
  to.family = from.family;
  Builder b(p, to);
  Cloner cloner(from, b);
  cloner.arguments();
  const std::vector<ValueId> results = cloner.inline_region(from.body());
  b.finish(results, from.result_names);
  return to;
}

}  // namespace

TEST_CASE("axes are found by name and extent, or made under a free name") {
  Program p;
  Function f;
  Builder b(p, f);
  const auto name = [&](AxisId a) { return std::string(p.text(f.axis(a).name)); };
  const AxisId d = b.axis("d", 4);
  CHECK(b.axis("d", 4) == d);
  const AxisId other = b.axis("d", 5);
  CHECK(name(other) == "d.1");
  CHECK(b.axis("d", 5) == other);
  CHECK(b.axis("d.1", 5) == other);
  CHECK(name(b.axis("d.1", 6)) == "d.2");
  CHECK(name(b.fresh_axis("d", 4)) == "d.3");
  CHECK(b.axis("d", 4) == d);
  // Names grow while views into them are in use.
  for (int i = 0; i < 200; ++i) b.axis(p.text(f.axis(d).name), 100 + i);
  CHECK(name(b.axis("d", 299)) == "d.203");
}

TEST_CASE("names of values and groups are made unique") {
  Program p;
  p.bundles.push_back({p.intern("b"),
                       {{p.intern("d"), 4}},
                       {{.name = p.intern("w"), .type = {DType::f32, {AxisId{0}}}}}});
  Function f;
  Builder b(p, f);
  const auto name = [&](ValueId v) { return std::string(p.text(f.value(v).name)); };
  const ValueId x = b.argument({DType::f32, {}}, "x");
  const ValueId y = b.unary(Opcode::exp_, x);
  b.name(y, "x");
  CHECK(name(y) == "x.1");
  const ValueId z = b.unary(Opcode::exp_, y);
  b.name(z, "x.1");
  CHECK(name(z) == "x.2");
  const Group g = b.arguments(BundleId{0}, "p"), h = b.arguments(BundleId{0}, "p"),
              q = b.arguments(BundleId{0}, "x");
  CHECK(p.text(g.name) == "p");
  CHECK(p.text(h.name) == "p.1");
  CHECK(p.text(q.name) == "x.3");
  const ValueId w = b.unary(Opcode::exp_, x);
  b.name(w, "p");
  CHECK(name(w) == "p.2");
  ValueId last = w;
  for (int i = 0; i < 300; ++i) {  // views into names that grow
    last = b.unary(Opcode::exp_, x);
    b.name(last, p.text(f.value(x).name));
  }
  CHECK(name(last) == "x.303");
  b.name(last, "");
  CHECK(name(last) == "x.303");
}

TEST_CASE("a built function verifies and prints as it was meant") {
  Program p;
  Function f;
  f.name = p.intern("norm");
  Builder b(p, f);
  const AxisId t = b.axis("t", 3), d = b.axis("d", 4);
  const ValueId x = b.argument({DType::f32, {t, d}}, "x");
  b.at = p.intern(Location{Role::forward, {}});
  const ValueId total = b.sum(x, {d});
  const ValueId count = b.constant(4);
  const ValueId mean = b.binary(Opcode::div_, total, count);
  b.name(mean, "mean");
  const RegionId r = b.open();
  const ValueId a = b.argument({DType::f32, {t, d}}, "a");
  const ValueId e = b.unary(Opcode::exp_, a);
  b.close(std::vector{e});
  const ValueId centred = b.binary(Opcode::sub_, x, mean);
  const std::vector<ValueId> fused =
      b.add_multi(Opcode::fused_, std::vector{centred}, {}, std::vector{b.type(x)}, std::vector{r});
  CHECK(b.expand(fused[0], {t, d}) == fused[0]);
  CHECK(b.cast(fused[0], DType::f32) == fused[0]);
  CHECK(b.sum(fused[0], {}) == fused[0]);
  const ValueId product = b.contract(fused[0], x, {t});
  b.finish(std::vector{product, b.integer(1, DType::boolean)});
  p.functions.push_back(std::move(f));
  for (const Fault& fault : verify(p)) FAIL(fault.message);
  CHECK(print(p) ==
        "func @norm(%x: f32[t=3 d=4]) -> f32[t], bool[] {\n"
        "  %0 = sum %x over d -> f32[t]\n"
        "  %mean = div %0, 4.0 -> f32[t]\n"
        "  %1 = sub %x, %mean -> f32[t d]\n"
        "  %2 = fused group %1 -> f32[t d] { (%a: f32[t d])\n"
        "    %3 = exp %a -> f32[t d]\n"
        "    yield %3\n"
        "  }\n"
        "  %4 = contract %2, %x -> f32[t]\n"
        "  %5 = constant true -> bool[]\n"
        "  return %4, %5\n"
        "}\n");
}

TEST_CASE("a copy of a function is the same function") {
  std::vector<std::string> texts = samples::all_programs();
  for (const char* file : {"regions", "groups", "attributes", "kernels", "example"}) {
    const std::string golden =
        golden::read_file(golden::source_path(fmt::format("tests/golden/ir/{}.golden", file)));
    for (std::size_t at = golden.find("---- print\n"); at != std::string::npos;
         at = golden.find("---- print\n", at + 1))
      texts.push_back(golden.substr(at + 11, golden.find("---- expect", at) - at - 11));
  }
  for (const std::string& text : texts) {
    Program p = samples::parse(text);
    for (std::size_t i = 0; i < p.functions.size(); ++i) {
      Function copy = copy_of(p, p.functions[i]);
      CAPTURE(print_function(p, FunctionId{static_cast<std::uint32_t>(i)}));
      CHECK(structure_key(p, copy) == structure_key(p, p.functions[i]));
      copy.placed = p.functions[i].placed;
      const std::string before = print_function(p, FunctionId{static_cast<std::uint32_t>(i)});
      p.functions[i] = std::move(copy);
      CHECK(print_function(p, FunctionId{static_cast<std::uint32_t>(i)}) == before);
    }
    CHECK(verify(p).empty());
  }
}

TEST_CASE("a call inlined is its callee's body in the caller's axes") {
  Program p = samples::parse(
      "func @g(%x: f32[t=3 d=4], %w: f32[d k=5]) -> f32[t k] {\n"
      "  %y = contract %x, %w -> f32[t k]\n  %z = exp %y -> f32[k t]\n  return %y\n}\n"
      "func @f(%a: f32[s=3 d=5], %b: f32[e=4 d], %c: f32[s e]) -> f32[s d] {\n"
      "  %r = call @g %c, %b -> f32[s d]\n  return %r\n}\n");
  const Function& f = p.functions[1];
  Function out;
  out.name = p.intern("inlined");
  Builder b(p, out);
  Cloner cloner(f, b);
  cloner.arguments();
  std::vector<ValueId> operands;
  for (ValueId v : f.ops[0].operands) operands.push_back(cloner(v));
  b.finish(inline_call(p.functions[0], b, operands));
  p.functions.push_back(std::move(out));
  CHECK(verify(p).empty());
  CHECK(print_function(p, FunctionId{2}) ==
        "func @inlined(%a: f32[s=3 d=5], %b: f32[e=4 d], %c: f32[s e]) -> f32[s d] {\n"
        "  %y = contract %c, %b -> f32[s d]\n"
        "  %z = exp %y -> f32[d s]\n"
        "  return %y\n}\n");
}

TEST_CASE("a name's text stays where it is, however many names follow") {
  Program p;
  const std::string_view first = p.text(p.intern("first"));
  for (int i = 0; i < 1000; ++i) p.intern("name." + std::to_string(i));
  CHECK(first == "first");
  CHECK(first.data() == p.text(p.intern("first")).data());
}
