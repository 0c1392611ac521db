// Owns the derivative table: for every operation a formula for the cotangent of each operand, or
// the statement that none flows, or that code walks it. The rows are in derivatives.def;
// derivatives.cpp proves at compile time that there is exactly one for every row of ir/ops.def.
#pragma once

#include <array>
#include <cstdint>

#include "ir/op.h"

namespace gradc {

// An expression over the words of a row, as nodes in postorder; the last is the root. A word is a
// leaf:
//   g        the cotangent of the result, of exactly the result's type
//   r        the result;  a b c  the operands
//   number   a constant of g's dtype;  zeros(x)  zeros of x's type
// An application is an operation of the IR. Elementwise ones mean themselves; `contract` contracts
// to the axes of the operand that the formula is for; `sum` sums over the axes that the operation
// reduces; views and reads take the attributes of the operation, turned round (`relabel(g)` for [t
// -> s] is [s -> t]).
struct Formula {
  enum class What : std::uint8_t { g, r, a, b, c, number, zeros, apply, only, unless };
  struct Node {
    What what = What::g;
    Opcode code = Opcode::add_;        // apply
    double number = 0;
    std::array<std::int8_t, 3> of{-1, -1, -1};
    int count = 0;
  };
  static constexpr int capacity = 20;
  std::array<Node, capacity> nodes{};
  int size = 0;                        // 0: no gradient flows

  constexpr Formula() = default;
  constexpr Formula(double number) {
    nodes[0] = {.what = What::number, .number = number}, size = 1;
  }
  constexpr bool is_stop() const { return size == 0; }
  constexpr const Node& root() const { return nodes[static_cast<std::size_t>(size - 1)]; }
};

struct Derivative {
  enum class Kind : std::uint8_t {
    none,      // no gradient flows through the operation
    formula,   // of[i] is the cotangent of operand i
    walker,    // any number of operands, or regions: passes/reverse_control.cpp
  };
  Opcode code = Opcode::constant_;
  Kind kind = Kind::none;
  std::array<Formula, 3> of{};
  int count = 0;                       // formulas
};

const Derivative& derivative(Opcode code);

}  // namespace gradc
