// Owns what a call has for a block's header.
#pragma once

#include <algorithm>

#include "frontend/lowerer.h"

namespace gradc {

struct Lowerer::Arguments {
  struct HeaderAxis {
    std::string name;
    ExprId given;  // `s = t` in the call
    const NamedAxis* caller = nullptr;
    const NamedAxis* inner = nullptr;
  };
  const ast::Block* block = nullptr;
  std::vector<std::size_t> operand;  // by formal: of the call, or npos
  std::vector<Term> values;          // by formal
  std::vector<HeaderAxis> axes;
  static constexpr std::size_t npos = SIZE_MAX;

  HeaderAxis* axis(const std::string& name) {
    const auto it =
        std::find_if(axes.begin(), axes.end(), [&](const HeaderAxis& a) { return a.name == name; });
    return it == axes.end() ? nullptr : &*it;
  }
};

}  // namespace gradc
