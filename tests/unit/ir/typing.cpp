// Protects the type rules: what each operation of the table accepts in any order of axes and
// nothing else, the default order of inferred axes, and the binding of a callee's axes.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>

#include "ir/text.h"
#include "ir/typing.h"
#include "unit/ir/samples.h"

using namespace gradc;

namespace {

Type reversed(const Type& t) {
  Type out{t.dtype, {}};
  for (int i = t.axes.size(); i-- > 0;) out.axes.push_back(t.axes[i]);
  return out;
}

// The operation that gives %r in a sample.
const Op& sampled(const Function& f) {
  for (const Op& o : f.ops)
    if (f.value(o.results[0]).name.valid()) return o;
  FAIL("no sample");
  return f.ops[0];
}

// The type of the last operation's result, with the axes in the order of infer().
std::string inferred(const std::string& arguments, const std::string& line) {
  const Program p = samples::parse("func @f(" + arguments + ") {\n  " + line + "\n  return\n}\n");
  const Function& f = p.functions[0];
  const Op& o = f.ops.back();
  std::string fault;
  const std::optional<Type> t = infer(p, f, o.code, o.operands, o.attr, fault);
  CHECK(fault.empty());
  return t ? describe(p, f, *t) : "must be written";
}

std::string refusal(const std::string& arguments, const std::string& line) {
  Sources sources;
  const Result<Program> p = parse_ir(
      sources, sources.add("x.ir", "func @f(" + arguments + ") {\n  " + line + "\n  return\n}\n"));
  return p.ok() ? "accepted" : p.failure().diagnostics[0].message;
}

}  // namespace

TEST_CASE("each operation accepts its type in any order of axes and no other") {
  for (int i = 0; i < opcode_count; ++i) {
    const Opcode code = static_cast<Opcode>(i);
    const Facts& row = facts(code);
    if (row.kind == Kind::control && code != Opcode::flat_)
      continue;  // ir/control.h: below, and in verify.cpp
    for (const std::string& line : samples::of(code)) {
      CAPTURE(line);
      Program p = samples::parse(samples::program_around(line));
      Function& f = p.function(p.find("f"));
      const Op& o = sampled(f);
      const Type t = f.type(o.results[0]);
      const auto accepts = [&](const Type& x) {
        return check_types(p, f, o.code, o.operands, o.attr, x).empty();
      };
      CHECK(accepts(t));
      CHECK(accepts(reversed(t)));
      std::string fault;
      if (const std::optional<Type> own = infer(p, f, o.code, o.operands, o.attr, fault); own) {
        CHECK(own->dtype == t.dtype);
        CHECK(same_set(own->axes, t.axes));
      }
      // Written results may be more than one, but never these.
      const bool any_dtype =
          code == Opcode::constant_ || code == Opcode::cast_ || code == Opcode::uniform_;
      for (DType d : {DType::f32, DType::f64, DType::i32, DType::boolean})
        if (d != t.dtype && !any_dtype) CHECK_FALSE(accepts({d, t.axes}));
      const bool any_axes = code == Opcode::expand_ || code == Opcode::uniform_;
      const bool more_axes = any_axes || code == Opcode::scatter_ || code == Opcode::contract_;
      for (std::uint32_t a = 0; a < f.axes.size(); ++a)
        if (!t.axes.contains(AxisId{a})) {
          if (!more_axes) CHECK_FALSE(accepts({t.dtype, t.axes.with(AxisId{a})}));
        } else if (!any_axes) {
          CHECK_FALSE(accepts({t.dtype, t.axes.without(AxisId{a})}));
        }
      // One operand less or more than the table's bounds.
      std::vector<ValueId> operands = o.operands;
      if (row.most >= 0) {
        while (static_cast<int>(operands.size()) <= row.most) operands.push_back(ValueId{0});
        CHECK_FALSE(check_types(p, f, o.code, operands, o.attr, t).empty());
      }
      if (row.least > 0) {
        operands.resize(static_cast<std::size_t>(row.least) - 1, ValueId{0});
        CHECK_FALSE(check_types(p, f, o.code, operands, o.attr, t).empty());
      }
    }
  }
}

TEST_CASE("inferred axes: the left operand's first, then new ones, an index's where the axis was") {
  const std::string args =
      "%x: f32[b=2 t=3 d=4], %y: f32[s=5 t], %i: i32[s b], %c: bool[k=2 t], %n: i64[]";
  CHECK(inferred(args, "%r = add %x, %y -> f32[b t d s]") == "f32[b t d s]");
  CHECK(inferred(args, "%r = add %y, %x -> f32[b t d s]") == "f32[s t b d]");
  CHECK(inferred(args, "%r = select %c, %y, %x -> f32[b t d s k]") == "f32[k t s b d]");
  CHECK(inferred(args, "%r = gather %x, %i [t] -> f32[b s d]") == "f32[b s d]");
  CHECK(inferred(args, "%r = relabel %x [t -> u] -> f32[b d u=3]") == "f32[b u d]");
  CHECK(inferred(args, "%r = split %x [d -> i j] -> f32[b t i=2 j=2]") == "f32[b t i j]");
  CHECK(inferred(args, "%r = merge %x [t b -> n] -> f32[n=6 d]") == "f32[n d]");
  CHECK(inferred(args, "%r = place %x [n = 1] -> f32[b t d n=2]") == "f32[b t d n]");
  CHECK(inferred(args, "%r = argmax %x over t -> i32[b d]") == "i32[b d]");
  CHECK(inferred(args, "%r = lt %x, %y -> bool[b t d s]") == "bool[b t d s]");
  CHECK(inferred(args, "%r = position %n [t] -> i32[t]") == "i32[t]");
  CHECK(inferred(args, "%r = cast %x -> f64[b t d]") == "must be written");
  CHECK(inferred(args, "%r = contract %x, %y -> f32[b d s]") == "must be written");
}

TEST_CASE("what breaks a rule is refused") {
  const std::string args =
      "%x: f32[b=2 t=3 d=4], %y: f32[s=5 t], %i: i32[s b], %c: bool[t], %n: i64[], %h: f64[t], %g: "
      "bf16[t d]";
  const std::pair<const char*, const char*> wrong[] = {
      {"%r = add %x, %h -> f32[b t d]", "dtypes"},
      {"%r = add %c, %c -> bool[t]", "numbers"},
      {"%r = and %x, %x -> bool[b t d]", "bools"},
      {"%r = div %i, %i -> i32[s b]", "reals"},
      {"%r = floordiv %x, %x -> f32[b t d]", "integers"},
      {"%r = exp %i -> i32[s b]", "real"},
      {"%r = not %x -> f32[b t d]", "bool"},
      {"%r = select %x, %x, %x -> f32[b t d]", "condition"},
      {"%r = relabel %x [t -> d] -> f32[b d]", "there already"},
      {"%r = relabel %x [t -> u] -> f32[b u=4 d]", "differ in extent"},
      {"%r = pick %x [t = 3] -> f32[b d]", "outside"},
      {"%r = pick %x, %c [t = 0] -> f32[b d]", "i64 scalar"},
      {"%r = slice %x [t = 2 + u] -> f32[b u=2 d]", "outside"},
      {"%r = slice %x [t = -1 + u] -> f32[b u=2 d]", "outside"},
      {"%r = slice %x [t = 0*u] -> f32[b u=2 d]", "stride"},
      {"%r = split %x [d -> i j] -> f32[b t i=3 j=2]", "multiply"},
      {"%r = split %x [d -> i] -> f32[b t i=4]", "two axes"},
      {"%r = merge %x [b t -> n] -> f32[n=7 d]", "multiply"},
      {"%r = pad %y [u = 1 + 2*t] -> f32[s u=5]", "outside"},
      {"%r = place %y [n = 4] -> f32[s t n=4]", "outside"},
      {"%r = concat %x, %y [n = t t] -> f32[b n=6 d]", "other axes"},
      {"%r = concat %y, %y [n = t t] -> f32[s n=7]", "add up"},
      {"%r = concat %y, %y [n = t] -> f32[s n=3]", "operand"},
      {"%r = gather %x, %h [t] -> f32[b t d]", "integer"},
      {"%r = gather %y, %i [d] -> f32[s b]", "no axis `d`"},
      {"%r = scatter %x, %i [v] -> f32[v=9 t d]", "axes of the index"},
      {"%r = update %x, %y, %n [s -> t] -> f32[b t d]", "differ in more"},
      {"%r = bound %x, %c [t] -> f32[b t d]", "i64 scalar"},
      {"%r = sum %c over t -> bool[]", "numbers"},
      {"%r = sum %x over t t -> f32[b d]", "twice"},
      {"%r = argmax %x over t d -> i32[b]", "one axis"},
      {"%r = contract %x, %y -> f32[d s]", "only one operand"},
      {"%r = contract %x, %h -> f32[b d]", "one dtype"},
      {"%r = contract %g, %g -> bf16[t d]", "gives f32"},
      {"%r = contract %x, %y -> f32[b d s k=2]", "no operand"},
      {"%r = cast %x -> f64[b t]", "changes axes"},
      {"%r = expand %x -> f32[b t k=2]", "loses"},
      {"%r = expand %x -> f64[b t d k=2]", "dtype"},
      {"%r = uniform %n, %n, %x -> f32[t]", "i64 scalars"},
      {"%r = uniform %n, %n, %n -> i32[t]", "real"},
      {"%r = constant 1.0 -> f32[t]", "no axes"},
  };
  for (const auto& [line, why] : wrong) {
    CAPTURE(std::string(line));
    const std::string message = refusal(args, line);
    CHECK_MESSAGE(message.find(why) != std::string::npos, message);
  }
  const std::string wide =
      "%x: f32[a=1 b=1 c=1 d=1 e=1 f=1 g=1], %y: f32[h=1 i=1 j=1 k=1 l=1 m=1 n=1]";
  // More axes than a type may have, in a rule's union.
  CHECK(refusal("%g: f32[a=1], %i: i32[h=1 i=1 j=1 k=1 l=1 m=1 n=1]",
                "%r = scatter %g, %i [v] -> f32[v=2 a b=1 c=1 d=1 e=1 f=1 g=1]")
            .find("axes of the index") != std::string::npos);
  CHECK(refusal(wide, "%r = add %x, %y -> f32[a b c d e f g h i j k l]").find("too many axes") !=
        std::string::npos);
}

TEST_CASE("axes of a callee are bound by position, each to one") {
  const Program p = samples::parse(
      "func @g(%x: f32[t=3 s=3], %y: f32[s]) {\n  return\n}\n"
      "func @f(%a: f32[t=3 u=3], %b: f32[u], %c: f32[t], %d: f32[k=4], %e: f64[u]) {\n  "
      "return\n}\n");
  const Function &g = p.functions[0], &f = p.functions[1];
  const auto bind = [&](std::uint32_t theirs, std::uint32_t ours, std::vector<AxisId>& map) {
    return bind_axes(g, g.type(ValueId{theirs}), f, f.type(ValueId{ours}), map);
  };
  std::vector<AxisId> map;
  CHECK(bind(0, 0, map).empty());
  CHECK(map == std::vector<AxisId>{AxisId{0}, AxisId{1}});
  CHECK(bind(1, 1, map).empty());
  CHECK_FALSE(bind(1, 2, map).empty());  // s is u already
  std::vector<AxisId> fresh;
  CHECK_FALSE(bind(1, 3, fresh).empty());  // extent
  CHECK_FALSE(bind(1, 4, fresh).empty());  // dtype
  CHECK_FALSE(bind(1, 0, fresh).empty());  // rank
}
