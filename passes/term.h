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
struct Term {
  static constexpr int capacity = 14;
  std::array<TermNode, capacity> nodes{};
  int count = 0;

  constexpr Term() = default;
  constexpr Term(double value) { nodes[0] = {TermNode::constant, Opcode::constant_, {-1, -1, -1}, value, 0}, count = 1; }
  constexpr Term(int value) : Term(static_cast<double>(value)) {}
  static constexpr Term variable(char name) {
    Term t;
    t.nodes[0] = {TermNode::variable, Opcode::constant_, {-1, -1, -1}, 0, name};
    t.count = 1;
    return t;
  }
  static constexpr Term apply(Opcode code, std::initializer_list<Term> operands) {
    Term t;
    TermNode root{TermNode::operation, code, {-1, -1, -1}, 0, 0};
    int n = 0;
    for (const Term& o : operands) {
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

inline constexpr Term x = Term::variable('x'), y = Term::variable('y'), z = Term::variable('z');
inline constexpr Term c = Term::variable('c'), d = Term::variable('d');   // constants
inline constexpr Term p = Term::variable('p'), q = Term::variable('q');   // bools
inline constexpr Term yes = Term(1), no = Term(0);                        // bool constants

constexpr Term operator+(const Term& a, const Term& b) { return Term::apply(Opcode::add_, {a, b}); }
constexpr Term operator-(const Term& a, const Term& b) { return Term::apply(Opcode::sub_, {a, b}); }
constexpr Term operator*(const Term& a, const Term& b) { return Term::apply(Opcode::mul_, {a, b}); }
constexpr Term operator/(const Term& a, const Term& b) { return Term::apply(Opcode::div_, {a, b}); }
constexpr Term operator-(const Term& a) { return Term::apply(Opcode::neg_, {a}); }
constexpr Term operator!(const Term& a) { return Term::apply(Opcode::not_, {a}); }
constexpr Term operator&&(const Term& a, const Term& b) { return Term::apply(Opcode::and_, {a, b}); }
constexpr Term operator||(const Term& a, const Term& b) { return Term::apply(Opcode::or_, {a, b}); }
constexpr Term operator<(const Term& a, const Term& b) { return Term::apply(Opcode::lt_, {a, b}); }
constexpr Term max(const Term& a, const Term& b) { return Term::apply(Opcode::max_, {a, b}); }
constexpr Term min(const Term& a, const Term& b) { return Term::apply(Opcode::min_, {a, b}); }
constexpr Term pow(const Term& a, const Term& b) { return Term::apply(Opcode::pow_, {a, b}); }
constexpr Term ne(const Term& a, const Term& b) { return Term::apply(Opcode::ne_, {a, b}); }
constexpr Term abs(const Term& a) { return Term::apply(Opcode::abs_, {a}); }
constexpr Term floor(const Term& a) { return Term::apply(Opcode::floor_, {a}); }
constexpr Term exp(const Term& a) { return Term::apply(Opcode::exp_, {a}); }
constexpr Term log(const Term& a) { return Term::apply(Opcode::log_, {a}); }
constexpr Term sqrt(const Term& a) { return Term::apply(Opcode::sqrt_, {a}); }
constexpr Term rsqrt(const Term& a) { return Term::apply(Opcode::rsqrt_, {a}); }
constexpr Term tanh(const Term& a) { return Term::apply(Opcode::tanh_, {a}); }
constexpr Term stop(const Term& a) { return Term::apply(Opcode::stop_, {a}); }
constexpr Term select(const Term& a, const Term& b, const Term& e) { return Term::apply(Opcode::select_, {a, b, e}); }

}  // namespace term

// What a rule does to floating-point results. exact: the same bits on every input, NaN's payload aside.
// finite: equal for finite inputs and results, up to the sign of zero; NaN and infinity may lose their
// trace. reassoc: equal in real arithmetic.
enum class Fp : std::uint8_t { exact, finite, reassoc };

struct RewriteRule {
  std::string_view name;
  Term from, to;
  Fp fp = Fp::exact;
};

}  // namespace gradc
