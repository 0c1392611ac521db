// Owns what the parts of mixed precision share: who reads a value and in which form, and what one
// function saves for another in bf16. passes/precision.cpp tells of the rules.
#pragma once

#include <vector>

#include "ir/program.h"

namespace gradc::rounding {

// The most demanding reader of a value.
enum class Reader : char {
  none,
  sums,     // sums, and products of few elements: they take what is there
  product,  // contractions that round
  other,    // f32
};

// What is bf16 at a function's border.
struct Border {
  std::vector<char> born;     // by value: arguments and results of calls that are bf16
  std::vector<char> results;  // by result of the body
};

// Operand i is rounded: of a contraction that reads its elements `least` times, or of the products
// of attention.
bool rounds(const Function& f, const Op& op, std::size_t i, std::int64_t least);
// A value that was widened from bf16.
bool is_widened(const Function& f, ValueId v);
// Operand i of a call is an argument that is bf16.
bool takes_bf16(const Program& program, const std::vector<Border>& borders, const Op& call,
                std::size_t i);
// The readers of each value, through views and joins.
std::vector<Reader> readers(const Program& program, const Function& f,
                            const std::vector<Border>& borders, const Border& own,
                            std::int64_t least);
// The borders of every function (precision_saved.cpp). The members of `out`'s bundles follow.
std::vector<Border> narrow_saved(const Program& program, std::int64_t least, Program& out);

}  // namespace gradc::rounding
