// Owns sums of products of a kernel's values, and their factoring into fewer operations: what is common
// to terms is taken out of them. passes/group_arithmetic.cpp reads and writes the kernels.
#pragma once

#include <cstdint>
#include <map>
#include <unordered_map>
#include <vector>

#include "ir/program.h"

namespace gradc::grouping {

// Values of a function, and, counted down from −1, sums that stand as factors.
using Factor = std::int64_t;
struct Product {
  double constant = 1;
  std::vector<Factor> factors;  // sorted
};
using Sum = std::vector<Product>;

// An operation, or a leaf: a factor or a constant.
struct Step {
  enum Kind : std::uint8_t { leaf, constant, operation } kind = leaf;
  Opcode code = Opcode::add_;
  int a = -1, b = -1;  // steps; b −1: unary
  ValueId value;       // leaf
  double number = 0;   // constant
  AxisList axes;
};

Sum value_of(ValueId v);
Sum scaled(Sum s, double c);
// Terms without factors become one, where the first of them stood; none if several are 0 together.
Sum added(Sum a, const Sum& b);

// One expression over values of `function`.
class Factoring {
 public:
  explicit Factoring(const Function& function) : function_(function) {}
  // Constants are multiplied into every term; else sums stay together as factors.
  Sum multiplied(const Sum& a, const Sum& b);
  // The sum factored: operands before operations, the whole last. At most once.
  const std::vector<Step>& steps(const Sum& s) {
    step_of_sum(s);
    return steps_;
  }

 private:
  Product as_product(const Sum& s);
  Factor nested(const Sum& s);
  AxisList axes_of(Factor x) const;
  AxisList axes_of(const Sum& s) const;
  int add_step(Step step);
  int number(double c) { return add_step({.kind = Step::constant, .number = c}); }
  int operation(Opcode code, int a, int b = -1);
  int step_of(Factor x);
  int step_of_product(const Product& p, int last = -1);
  int step_of_sum(const Sum& s);
  int step_of_terms(const Sum& s);
  const AxisList& axes(int step) const { return steps_[static_cast<std::size_t>(step)].axes; }

  const Function& function_;
  std::vector<Sum> sums_;  // nested ones
  std::map<std::vector<std::pair<std::uint64_t, std::vector<Factor>>>, Factor> nested_;
  std::vector<Step> steps_;
  std::unordered_map<Factor, int> step_of_;
};

}  // namespace gradc::grouping
