// Protects the rewrite table: both sides of every row agree, bit for bit where the row says exact, on
// special values and random ones, by the interpreter.
#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <random>

#include "ir/builder.h"
#include "ir/evaluate.h"
#include "passes/rules.h"
#include "passes/simplify.h"

namespace gradc {
namespace {

bool is_truth(Opcode c) {
  return c == Opcode::lt_ || c == Opcode::le_ || c == Opcode::eq_ || c == Opcode::ne_ || c == Opcode::and_ ||
         c == Opcode::or_ || c == Opcode::not_;
}

// A term as a function of all variables x y z c d (reals) and p q (bools), one axis long.
struct TermFunction {
  Program program;
  explicit TermFunction(const RuleTerm& term, std::int64_t n) {
    Function f;
    f.name = program.intern("f");
    Builder b(program, f);
    const AxisId axis = b.axis("i", n);
    std::array<ValueId, 128> bound{};
    for (char v : std::string("xyzcd")) bound[static_cast<std::size_t>(v)] = b.argument({DType::f64, {axis}}, std::string(1, v));
    for (char v : std::string("pq")) bound[static_cast<std::size_t>(v)] = b.argument({DType::boolean, {axis}}, std::string(1, v));
    std::vector<ValueId> values;
    for (int i = 0; i < term.count; ++i) {
      const TermNode& node = term.nodes[static_cast<std::size_t>(i)];
      if (node.kind == TermNode::variable) {
        values.push_back(bound[static_cast<std::size_t>(node.name)]);
      } else if (node.kind == TermNode::constant) {
        values.push_back({});   // its dtype follows from where it stands: made below
      } else {
        std::vector<ValueId> operands;
        for (std::size_t k = 0; k < 3; ++k) {
          if (node.operands[k] < 0) continue;
          ValueId v = values[static_cast<std::size_t>(node.operands[k])];
          if (!v.valid()) {
            const double x = term.nodes[static_cast<std::size_t>(node.operands[k])].value;
            const bool truth = node.code == Opcode::and_ || node.code == Opcode::or_ || node.code == Opcode::not_ ||
                               (node.code == Opcode::select_ && k == 0);
            v = truth ? b.integer(x != 0, DType::boolean) : b.constant(x, DType::f64);
          }
          operands.push_back(v);
        }
        values.push_back(b.add(node.code, operands));
      }
    }
    ValueId result = values.back();
    if (!result.valid()) result = boolean_root ? b.integer(term.root().value != 0, DType::boolean) : b.constant(term.root().value, DType::f64);
    result = b.expand(result, AxisList{axis});
    b.finish(std::span(&result, 1));
    program.functions.push_back(std::move(f));
  }
  static inline bool boolean_root = false;   // set for a rule whose left side is a bool
};

std::vector<double> run(const RuleTerm& t, const std::vector<Array>& arguments, bool truth) {
  TermFunction::boolean_root = truth;
  TermFunction f(t, arguments[0].size());
  Result<std::vector<Array>> r = evaluate(f.program, FunctionId{0}, arguments);
  REQUIRE(r.ok());
  const Array& a = (*r)[0];
  if (a.dtype != DType::boolean) return a.real;
  return {a.integer.begin(), a.integer.end()};
}

}  // namespace

TEST_CASE("every rewrite rule's sides agree as its label says") {
  // All combinations of special values for x, y and c, then random ones.
  const std::vector<double> special{0.0, -0.0, 1.0, -1.0, 0.5, 3.0, INFINITY, -INFINITY, NAN, 1e300, -1e-300};
  std::vector<Array> arguments(7);
  std::mt19937_64 random(1);
  std::normal_distribution<double> normal;
  const auto any = [&] { return special[random() % special.size()]; };
  // Braces: drawn from left to right.
  const auto add = [&](std::initializer_list<double> values) {
    auto argument = arguments.begin();
    for (double v : values) (argument++)->real.push_back(v);
    for (; argument != arguments.end(); ++argument) argument->integer.push_back(random() % 2);
  };
  for (double x : special)
    for (double y : special)
      for (double c : special) add({x, y, any(), c, any()});
  for (int i = 0; i < 2000; ++i)
    add({normal(random), normal(random), normal(random), normal(random), normal(random)});
  const auto n = static_cast<std::int64_t>(arguments[0].real.size());
  for (std::size_t i = 0; i < 7; ++i) {
    arguments[i].dtype = i < 5 ? DType::f64 : DType::boolean;
    arguments[i].extents = {n};
  }
  for (const RewriteRule& rule : rewrite_rules()) {
    CAPTURE(rule.name);
    const bool truth = is_truth(rule.from.root().code);
    const std::vector<double> a = run(rule.from, arguments, truth), b = run(rule.to, arguments, truth);
    int wrong = 0, compared = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
      bool same = true;
      if (rule.fp == Fp::exact) {
        same = (std::isnan(a[i]) && std::isnan(b[i])) || std::bit_cast<std::uint64_t>(a[i]) == std::bit_cast<std::uint64_t>(b[i]);
        ++compared;
      } else {
        bool finite = std::isfinite(a[i]) && std::isfinite(b[i]);
        for (std::size_t k = 0; k < 5; ++k) {
          const double v = arguments[k].real[i];
          finite = finite && std::isfinite(v) && (rule.fp == Fp::finite || (std::fabs(v) < 1e6 && (v == 0 || std::fabs(v) > 1e-6)));
        }
        if (!finite) continue;
        ++compared;
        const double scale = std::max({std::fabs(a[i]), std::fabs(b[i]), 1e-6});
        same = rule.fp == Fp::finite ? a[i] == b[i] : std::fabs(a[i] - b[i]) <= 1e-9 * scale;
      }
      wrong += same ? 0 : 1;
    }
    CHECK(wrong == 0);
    CHECK(compared > 300);
  }
}

TEST_CASE("names of rules are distinct") {
  std::map<std::string, int> seen;
  for (const RewriteRule& r : rewrite_rules()) CHECK(++seen[std::string(r.name)] == 1);
  for (const StructureRule& r : structure_rules()) CHECK(++seen[std::string(r.name)] == 1);
}

}  // namespace gradc
