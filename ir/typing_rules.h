// What the type rules share: the operation that is looked at, and where its fault is told. Internal
// to typing.
#pragma once

#include <fmt/format.h>

#include <optional>
#include <span>
#include <string>

#include "ir/program.h"

namespace gradc::typing {

struct Context {
  const Program& p;
  const Function& f;
  Opcode code;
  std::span<const ValueId> operands;
  const Attr& attr;
  std::string& fault;

  const Type& type(std::size_t i) const { return f.type(operands[i]); }
  std::string axis(AxisId a) const {
    return a.valid() && a.index < f.axes.size() ? std::string(p.text(f.axis(a).name)) : "?";
  }
  std::nullopt_t fail(std::string why) const {
    fault = std::move(why);
    return std::nullopt;
  }
  bool scalar(std::size_t i, DType d) const { return type(i).dtype == d && type(i).axes.empty(); }
  bool known(AxisId a) const { return a.valid() && a.index < f.axes.size(); }
};
using Inferred = std::optional<Type>;

// typing_move.cpp
Inferred view(const Context& c);
Inferred read(const Context& c);

}  // namespace gradc::typing
