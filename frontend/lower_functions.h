// Owns the table of the functions of values: what each is in the IR and whether it works on numbers.
#pragma once

#include <string_view>

#include "ir/op.h"

namespace gradc {

struct FunctionRow {
  std::string_view name;
  std::size_t arguments;
  Opcode code;
  bool of_numbers;  // a number of numbers
  bool no_bare;     // the argument is no bare position (rule 5)
};
inline constexpr FunctionRow function_rows[] = {
    {"exp", 1, Opcode::exp_, true, false},        {"log", 1, Opcode::log_, true, true},
    {"sqrt", 1, Opcode::sqrt_, true, true},       {"rsqrt", 1, Opcode::rsqrt_, true, true},
    {"sin", 1, Opcode::sin_, true, false},        {"cos", 1, Opcode::cos_, true, false},
    {"tanh", 1, Opcode::tanh_, true, false},      {"erf", 1, Opcode::erf_, true, false},
    {"abs", 1, Opcode::abs_, true, false},        {"floor", 1, Opcode::floor_, true, false},
    {"stop", 1, Opcode::stop_, true, false},      {"pow", 2, Opcode::pow_, true, false},
    {"max", 2, Opcode::max_, true, false},        {"min", 2, Opcode::min_, true, false},
    {"select", 3, Opcode::select_, false, false}, {"uniform", 1, Opcode::uniform_, false, false},
};
inline const FunctionRow* find_function(std::string_view name) {
  for (const FunctionRow& r : function_rows)
    if (r.name == name) return &r;
  return nullptr;
}

inline bool is_builtin(std::string_view name) {
  return name == "size" || find_function(name) != nullptr;
}

// Of the operators of chains.
inline Opcode opcode_of(std::string_view sign) {
  return sign == "+"    ? Opcode::add_
         : sign == "-"  ? Opcode::sub_
         : sign == "*"  ? Opcode::mul_
         : sign == "/"  ? Opcode::div_
         : sign == "//" ? Opcode::floordiv_
                        : Opcode::mod_;
}

}  // namespace gradc
