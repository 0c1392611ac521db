// Owns terms: small expressions over variables, built by operators at compile time, in which the rewrite
// rules of passes/rules.def are written. Both sides of a rule are data: matched, built, costed, tested.
#pragma once

#include <array>
#include <cstdint>

#include "ir/op.h"

namespace gradc {

// A node of a term. Variables x y z match any value; c d match constants only; p q match bools.
struct TermNode {
  enum Kind : std::uint8_t { variable, constant, operation } kind = variable;
  Opcode code = Opcode::constant_;
  std::array<std::int8_t, 3> operands{-1, -1, -1};
  double value = 0;
  char name = 0;
};

// Nodes in order of construction; the last is the root.
struct RuleTerm {
  static constexpr int capacity = 28;
  std::array<TermNode, capacity> nodes{};
  int count = 0;

  constexpr RuleTerm() = default;
  constexpr RuleTerm(double value) { nodes[0] = {TermNode::constant, Opcode::constant_, {-1, -1, -1}, value, 0}, count = 1; }
  constexpr RuleTerm(int value) : RuleTerm(static_cast<double>(value)) {}
  static constexpr RuleTerm variable(char name) {
    RuleTerm t;
    t.nodes[0] = {TermNode::variable, Opcode::constant_, {-1, -1, -1}, 0, name};
    t.count = 1;
    return t;
  }
  static constexpr RuleTerm apply(Opcode code, std::initializer_list<RuleTerm> operands) {
    RuleTerm t;
    TermNode root{TermNode::operation, code, {-1, -1, -1}, 0, 0};
    int n = 0;
    for (const RuleTerm& o : operands) {
      const int base = t.count;
      for (int i = 0; i < o.count; ++i) {
        TermNode node = o.nodes[static_cast<std::size_t>(i)];
        for (std::int8_t& k : node.operands)
          if (k >= 0) k = static_cast<std::int8_t>(k + base);
        t.nodes[static_cast<std::size_t>(t.count++)] = node;   // out of capacity: not a constant expression
      }
      root.operands[static_cast<std::size_t>(n++)] = static_cast<std::int8_t>(t.count - 1);
    }
    t.nodes[static_cast<std::size_t>(t.count++)] = root;
    return t;
  }
  constexpr const TermNode& root() const { return nodes[static_cast<std::size_t>(count - 1)]; }
  constexpr bool mentions(char name) const {
    for (int i = 0; i < count; ++i)
      if (nodes[static_cast<std::size_t>(i)].name == name) return true;
    return false;
  }
};

namespace term {

inline constexpr RuleTerm x = RuleTerm::variable('x'), y = RuleTerm::variable('y'), z = RuleTerm::variable('z');
inline constexpr RuleTerm c = RuleTerm::variable('c'), d = RuleTerm::variable('d');   // constants
inline constexpr RuleTerm p = RuleTerm::variable('p'), q = RuleTerm::variable('q');   // bools
inline constexpr RuleTerm yes = RuleTerm(1), no = RuleTerm(0);                        // bool constants

constexpr RuleTerm operator+(const RuleTerm& a, const RuleTerm& b) { return RuleTerm::apply(Opcode::add_, {a, b}); }
constexpr RuleTerm operator-(const RuleTerm& a, const RuleTerm& b) { return RuleTerm::apply(Opcode::sub_, {a, b}); }
constexpr RuleTerm operator*(const RuleTerm& a, const RuleTerm& b) { return RuleTerm::apply(Opcode::mul_, {a, b}); }
constexpr RuleTerm operator/(const RuleTerm& a, const RuleTerm& b) { return RuleTerm::apply(Opcode::div_, {a, b}); }
constexpr RuleTerm operator-(const RuleTerm& a) { return RuleTerm::apply(Opcode::neg_, {a}); }
constexpr RuleTerm operator!(const RuleTerm& a) { return RuleTerm::apply(Opcode::not_, {a}); }
constexpr RuleTerm operator&&(const RuleTerm& a, const RuleTerm& b) { return RuleTerm::apply(Opcode::and_, {a, b}); }
constexpr RuleTerm operator||(const RuleTerm& a, const RuleTerm& b) { return RuleTerm::apply(Opcode::or_, {a, b}); }
constexpr RuleTerm operator<(const RuleTerm& a, const RuleTerm& b) { return RuleTerm::apply(Opcode::lt_, {a, b}); }
constexpr RuleTerm max(const RuleTerm& a, const RuleTerm& b) { return RuleTerm::apply(Opcode::max_, {a, b}); }
constexpr RuleTerm min(const RuleTerm& a, const RuleTerm& b) { return RuleTerm::apply(Opcode::min_, {a, b}); }
constexpr RuleTerm pow(const RuleTerm& a, const RuleTerm& b) { return RuleTerm::apply(Opcode::pow_, {a, b}); }
constexpr RuleTerm ne(const RuleTerm& a, const RuleTerm& b) { return RuleTerm::apply(Opcode::ne_, {a, b}); }
constexpr RuleTerm abs(const RuleTerm& a) { return RuleTerm::apply(Opcode::abs_, {a}); }
constexpr RuleTerm floor(const RuleTerm& a) { return RuleTerm::apply(Opcode::floor_, {a}); }
constexpr RuleTerm exp(const RuleTerm& a) { return RuleTerm::apply(Opcode::exp_, {a}); }
constexpr RuleTerm log(const RuleTerm& a) { return RuleTerm::apply(Opcode::log_, {a}); }
constexpr RuleTerm sqrt(const RuleTerm& a) { return RuleTerm::apply(Opcode::sqrt_, {a}); }
constexpr RuleTerm rsqrt(const RuleTerm& a) { return RuleTerm::apply(Opcode::rsqrt_, {a}); }
constexpr RuleTerm tanh(const RuleTerm& a) { return RuleTerm::apply(Opcode::tanh_, {a}); }
constexpr RuleTerm erf(const RuleTerm& a) { return RuleTerm::apply(Opcode::erf_, {a}); }
constexpr RuleTerm stop(const RuleTerm& a) { return RuleTerm::apply(Opcode::stop_, {a}); }
constexpr RuleTerm select(const RuleTerm& a, const RuleTerm& b, const RuleTerm& e) { return RuleTerm::apply(Opcode::select_, {a, b, e}); }

}  // namespace term

// What a rule does to floating-point results. exact: the same bits on every input, NaN's payload aside.
// finite: equal for finite inputs and results, up to the sign of zero; NaN and infinity may lose their
// trace. reassoc: equal in real arithmetic.
enum class Fp : std::uint8_t { exact, finite, reassoc };

struct RewriteRule {
  std::string_view name;
  RuleTerm from, to;
  Fp fp = Fp::exact;
};

}  // namespace gradc
