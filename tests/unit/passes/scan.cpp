// Protects recurrences on their way to a plan: every text here means the same with what needs no
// loop moved out of it, with its turns as functions, as kernels, and planned and run in memory; so
// does its gradient. A plan with one place moved is refused, or runs right all the same.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include "ir/philox.h"
#include "ir/text.h"
#include "passes/differentiate.h"
#include "passes/passes.h"
#include "passes/plan.h"
#include "support/golden.h"
#include "unit/passes/group_support.h"

namespace gradc {
namespace {

using namespace plan_test;

struct Text {
  std::string_view name, text;
};
const Text texts[] = {
    {"a recurrent layer", R"(func @f(%h0: f32[b=2 d=3], %z: f32[b t=4 d], %w: f32[d k=3]) -> f32[b d], f32[b t d] {
  %h, %hs = scan t carry 1 slice 1 %h0, %z, %w -> f32[b d], f32[b t d] { (%s: f32[b d], %x: f32[b d], %v: f32[d k])
    %a = contract %s, %v -> f32[b k]
    %r = relabel %a [k -> d] -> f32[b d]
    %c = add %r, %x -> f32[b d]
    %n = tanh %c -> f32[b d]
    yield %n, %n
  }
  return %h, %hs
})"},
    {"two states, backward, before and behind each turn", R"(func @f(%h0: f32[b=2 k=3], %z: f32[b t=5 g=2 k], %w: f32[g k j=3]) -> f32[b t k], f32[b t k], f32[k t b], f32[b k] {
  %h, %c, %hs, %before, %cs = scan t reverse carry 2 slice 1 %h0, %h0, %z, %w -> f32[b k], f32[b k], f32[b t k], f32[b t k], f32[k t b] { (%s: f32[b k], %u: f32[b k], %x: f32[b g k], %v: f32[g k j])
    %sj = relabel %s [k -> j] -> f32[b j]
    %p = contract %sj, %v -> f32[b g k]
    %a = add %p, %x -> f32[b g k]
    %i = pick %a [g = 0] -> f32[b k]
    %o = pick %a [g = 1] -> f32[b k]
    %t0 = tanh %i -> f32[b k]
    %m = mul %t0, %u -> f32[b k]
    %n = add %m, %o -> f32[b k]
    %q = sin %n -> f32[b k]
    yield %q, %n, %q, %s, %n
  }
  return %hs, %before, %cs, %c
})"},
    {"states that change places, start or end something", R"(func @f(%a: f32[d=2], %b: f32[d], %z: f32[t=3 d]) -> f32[d], f32[d], f32[t d], f32[d] {
  %p, %q, %r, %s = scan t carry 3 slice 1 %a, %b, %a, %z -> f32[d], f32[d], f32[d], f32[t d] { (%x: f32[d], %y: f32[d], %v: f32[d], %w: f32[d])
    %xw = mul %x, %w -> f32[d]
    %one = constant 1.0 -> f32[]
    %ones = expand %one -> f32[d]
    yield %y, %xw, %ones, %v
  }
  return %p, %r, %s, %q
})"},
    {"a state turned over every turn", R"(func @f(%h0: f32[d=2 e=2], %z: f32[t=3 d]) -> f32[d e], f32[t d e] {
  %h, %hs = scan t carry 1 slice 1 %h0, %z -> f32[d e], f32[t d e] { (%s: f32[d e], %x: f32[d])
    %a = relabel %s [d -> k] -> f32[k=2 e]
    %b = relabel %a [e -> d] -> f32[k d]
    %c = relabel %b [k -> e] -> f32[e d]
    %m = mul %c, %x -> f32[d e]
    %n = sin %m -> f32[d e]
    yield %n, %s
  }
  return %h, %hs
})"},
    {"integers", R"(func @f(%i0: i32[b=3], %k: i32[t=4 b], %x: f32[b]) -> i32[b], i32[t b], f32[t b] {
  %i, %is, %ys = scan t carry 1 slice 1 %i0, %k, %x -> i32[b], i32[t b], f32[t b] { (%s: i32[b], %j: i32[b], %y: f32[b])
    %n = add %s, %j -> i32[b]
    %f = cast %n -> f32[b]
    %g = mul %f, %y -> f32[b]
    yield %n, %n, %g
  }
  return %i, %is, %ys
})"},
    {"a scan in a scan, with calls and groups", R"(func @cell(%h: f32[d=2], %x: f32[d], %w: f32[d k=2]) -> f32[d], f32[] {
  %a = contract %h, %w -> f32[k]
  %b = relabel %a [k -> d] -> f32[d]
  %c = tanh %b -> f32[d]
  %r = add %c, %x -> f32[d]
  %n = sum %r over d -> f32[]
  return %r, %n
}
func @f(%z: f32[t=2 d=2], %w: f32[d k=2], %u: f32[s=3]) -> f32[t d], f32[d] {
  %m0 = sum %z over t -> f32[d]
  %c, %m = scan s carry 2 slice 1 %z, %m0, %u, %w -> f32[t d], f32[d] { (%b1: f32[t d], %m1: f32[d], %u1: f32[], %w2: f32[d k])
    %g0 = sum %b1 over t -> f32[d]
    %g, %gs = scan t reverse carry 1 slice 1 %g0, %b1, %w2, %u1 -> f32[d], f32[t d] { (%g1: f32[d], %b2: f32[d], %w3: f32[d k], %u2: f32[])
      %r, %n = call @cell %g1, %b2, %w3 -> f32[d], f32[]
      %v = mul %r, %u2 -> f32[d]
      %e = fused group %v, %n -> f32[d] { (%y1: f32[d], %n1: f32[])
        %e1 = sin %y1 -> f32[d]
        %e2 = mul %e1, %n1 -> f32[d]
        yield %e2
      }
      yield %e, %e
    }
    %n2 = add %gs, %g -> f32[t d]
    %m2 = add %m1, %g -> f32[d]
    yield %n2, %m2
  }
  return %c, %m
})"},
    {"sums over the turns", R"(func @f(%a0: f32[d=3 e=2], %b0: f32[d], %c0: f32[d e], %x: f32[t=4 b=2 d], %y: f32[b t e], %w: f32[d e]) -> f32[d e], f32[d], f32[d e], f32[t d], f32[d] {
  %zero = constant 0.0 -> f32[]
  %s0 = expand %zero -> f32[d]
  %a, %b, %c, %r, %n, %rs = scan t carry 5 slice 2 %a0, %b0, %c0, %b0, %s0, %x, %y, %w -> f32[d e], f32[d], f32[d e], f32[d], f32[d], f32[t d] { (%a1: f32[d e], %b1: f32[d], %c1: f32[d e], %r1: f32[d], %n1: f32[d], %x1: f32[b d], %y1: f32[b e], %w1: f32[d e])
    %p = contract %x1, %y1 -> f32[d e]
    %a2 = add %a1, %p -> f32[d e]
    %s = sum %x1 over b -> f32[d]
    %b2 = add %s, %b1 -> f32[d]
    %c2 = add %c1, %w1 -> f32[d e]
    %c3 = add %c2, %p -> f32[d e]
    %r2 = add %r1, %s -> f32[d]
    %q = contract %y1, %w1 -> f32[b d]
    %k = sum %q over b -> f32[d]
    %n2 = add %n1, %k -> f32[d]
    yield %a2, %b2, %c3, %r2, %n2, %r2
  }
  return %a, %b, %c, %rs, %n
})"},
    {"a sum of what the states make", R"(func @f(%h0: f32[b=2 d=3], %x: f32[b t=3 d], %w: f32[d k=3]) -> f32[d k], f32[k] {
  %zero = constant 0.0 -> f32[]
  %g0 = expand %zero -> f32[d k]
  %b0 = expand %zero -> f32[k]
  %h, %g, %s = scan t carry 3 slice 1 %h0, %g0, %b0, %x, %w -> f32[b d], f32[d k], f32[k] { (%h1: f32[b d], %g1: f32[d k], %s1: f32[k], %x1: f32[b d], %w1: f32[d k])
    %a = contract %h1, %w1 -> f32[b k]
    %c = tanh %a -> f32[b k]
    %r = relabel %c [k -> d] -> f32[b d]
    %n = add %r, %x1 -> f32[b d]
    %p = contract %h1, %c -> f32[d k]
    %g2 = add %g1, %p -> f32[d k]
    %q = sum %c over b -> f32[k]
    %s2 = add %s1, %q -> f32[k]
    yield %n, %g2, %s2
  }
  return %g, %s
})"},
    {"what needs no state", R"(func @f(%h0: f32[b=2 k=3], %x: f32[b t=3 d=2], %w: f32[d k], %u: f32[k]) -> f32[t b k], f32[t k b], f32[b t d], f32[t k] {
  %h, %hs, %ps, %xs, %us = scan t carry 1 slice 1 %h0, %x, %w, %u -> f32[b k], f32[t b k], f32[t k b], f32[b t d], f32[t k] { (%s: f32[b k], %x1: f32[b d], %w1: f32[d k], %u1: f32[k])
    %e = exp %u1 -> f32[k]
    %p = contract %x1, %w1 -> f32[b k]
    %v = sum %x1 over d -> f32[b]
    %q = mul %p, %e -> f32[b k]
    %n1 = mul %s, %v -> f32[b k]
    %n = add %n1, %q -> f32[b k]
    yield %n, %n, %q, %x1, %u1
  }
  return %hs, %ps, %xs, %us
})"},
    {"one position", R"(func @f(%h0: f32[d=2], %z: f32[d t=1]) -> f32[d], f32[d t] {
  %h, %hs = scan t carry 1 slice 1 %h0, %z -> f32[d], f32[d t] { (%s: f32[d], %x: f32[d])
    %n = mul %s, %x -> f32[d]
    yield %n, %s
  }
  return %h, %hs
})"},
    {"no position", R"(func @f(%h0: f32[d=2], %z: f32[d t=0]) -> f32[d], f32[d t] {
  %h, %hs = scan t carry 1 slice 1 %h0, %z -> f32[d], f32[d t] { (%s: f32[d], %x: f32[d])
    %n = mul %s, %x -> f32[d]
    yield %n, %n
  }
  return %h, %hs
})"},
    {"states alone", R"(func @f(%h0: f32[d=2]) -> f32[d], f32[t=3 d] {
  %h, %hs = scan t carry 1 slice 0 %h0 -> f32[d], f32[t d] { (%s: f32[d])
    %n = sin %s -> f32[d]
    yield %n, %n
  }
  return %h, %hs
})"},
};

Program with_gradient(const Text& text) {
  Program p = parsed(std::string(text.text));
  const FunctionId f = p.find("f");
  std::vector<std::uint32_t> wrt;
  const std::vector<ValueId> arguments = p.function(f).body().arguments;
  for (std::uint32_t i = 0; i < arguments.size(); ++i)
    if (is_real(p.function(f).type(arguments[i]).dtype)) wrt.push_back(i);
  REQUIRE(add_gradient(p, f, wrt, "grad").ok());
  return simplify(p);
}

std::string faults(const Program& p, std::string_view entry) {
  std::string out;
  for (const std::string& fault : check_plan(p, p.find(entry))) out += fault + "\n";
  return out;
}

Program planned(const Program& p, std::string_view entry) {
  const Program grouped = group(p, avx512_target());
  check_round_trip(grouped);
  CHECK(unsupported(grouped, entry) == "");
  const Program out = plan(grouped, avx512_target(), entry);
  check_round_trip(out);
  CHECK(faults(out, entry) == "");
  return out;
}

bool has_scan(const Program& p) {
  for (const Function& f : p.functions)
    for (const Op& op : f.ops)
      if (op.code == Opcode::scan_) return true;
  return false;
}

void check_ways(const Program& before, std::string_view entry) {
  CAPTURE(entry);
  const std::vector<Array> arguments = draw(before.function(before.find(entry)), 3);
  const std::vector<Array> right = interpret(before, entry, arguments);
  const Program hoisted = hoist(before), turns = outline(before);
  check_round_trip(hoisted);
  check_round_trip(turns);
  CHECK(difference(right, interpret(hoisted, entry, arguments)) == "");
  CHECK(difference(right, interpret(simplify(hoisted), entry, arguments)) == "");
  CHECK(difference(right, interpret(turns, entry, arguments)) == "");
  CHECK(print(outline(turns)) == print(turns));
  for (const Program& p : {before, simplify(hoisted)}) {
    const Program made = planned(p, entry);
    CHECK(!has_scan(made));
    CHECK(difference(right, run_in_memory(made, entry, arguments)) == "");
  }
}

}  // namespace

TEST_CASE("scans: hoisted, as functions, as kernels, planned, they mean the same") {
  for (const Text& t : texts) {
    CAPTURE(t.name);
    check_ways(parsed(std::string(t.text)), "f");
  }
}

TEST_CASE("scans: so do their gradients") {
  for (const Text& t : texts) {
    CAPTURE(t.name);
    check_ways(with_gradient(t), "grad");
  }
}

TEST_CASE("scans: what leaves the loop") {
  golden::run("hoist", [&](const golden::Case& c) {
    const Program before = parsed(c.text("ir"));
    return print(simplify(hoist(before)), {.locations = false});
  });
}

TEST_CASE("scans: a plan with one place moved is refused, or runs right all the same") {
  int refused = 0;
  for (const Text& t : texts) {
    CAPTURE(t.name);
    const Program before = with_gradient(t);
    const std::vector<Array> arguments = draw(before.function(before.find("grad")), 3);
    const std::vector<Array> right = interpret(before, "grad", arguments);
    const Program whole = planned(simplify(hoist(before)), "grad");
    const FunctionId id = whole.find("grad");
    for (std::uint64_t mutation = 0; mutation < 40; ++mutation) {
      Program spoiled = whole;
      Function& f = spoiled.function(id);
      const auto random = [&](std::uint64_t n, std::size_t below) {
        return static_cast<std::size_t>(philox_uniform(mutation, 1, n, 0) *
                                        static_cast<double>(below));
      };
      Placement& p = f.placed[random(1, f.values.size())];
      if (p.arena == Arena::none) continue;
      if (mutation % 2 == 0)
        p.offset = f.placed[random(2, f.values.size())].offset;
      else
        p.offset += 64;
      if (!faults(spoiled, "grad").empty()) {
        ++refused;
        continue;
      }
      CHECK(difference(right, run_in_memory(spoiled, "grad", arguments)) == "");
    }
  }
  CHECK(refused > 150);
}

TEST_CASE("scans: a step of too many launches is told before it is planned") {
  const Program p = group(parsed(R"(func @f(%h0: f32[d=2], %z: f32[t=300000 d]) -> f32[d] {
  %h = scan t carry 1 slice 1 %h0, %z -> f32[d] { (%s: f32[d], %x: f32[d])
    %y = sin %s -> f32[d]
    %n = mul %y, %x -> f32[d]
    yield %n
  }
  return %h
})"),
                          avx512_target());
  CHECK(too_long(p, "f") ==
        "@f would be a step of 300000 launches, and at most 262144 are planned: fewer turns of its "
        "scans, or layers, or `run --interpret`");
  CHECK(too_long(p, "g") == "");
}

}  // namespace gradc
