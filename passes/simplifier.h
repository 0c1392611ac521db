// Owns the state of one simplification: the function being rebuilt, and making of operations in simplest
// form. Internal to the pass.
#pragma once

#include <optional>
#include <string>
#include <unordered_map>

#include "ir/builder.h"
#include "passes/passes.h"
#include "passes/rules.h"

namespace gradc {

class Simplifier {
 public:
  Simplifier(const Function& from, Builder& to, RuleCounts& counts) : from_(from), to_(to), clone_(from, to), counts_(counts) {}
  // Rebuilds the whole body; gives whether any rule fired.
  bool run();

 private:
  // ---- simplify.cpp
  void region(const Region& region, const std::vector<char>& live);
  void operation(OpId id, const std::vector<char>& live);
  void control(OpId id, const std::vector<char>& live);
  // The value of an operation in simplest form. Its type has the result's axes, perhaps in another order.
  // The type by value: it may be one of the function that is growing.
  ValueId make(Opcode code, std::vector<ValueId> operands, const Attr& attr, Type type);
  // The value of an equal operation, if there is one in this region.
  std::optional<ValueId> known(Opcode code, const std::vector<ValueId>& operands, const Attr& attr, const Type& type) const;
  ValueId append(Opcode code, const std::vector<ValueId>& operands, const Attr& attr, const Type& type);
  ValueId constant(double value, DType dtype);
  // x with exactly these axes: expanded if some are missing.
  ValueId fit(ValueId x, const Type& type);
  std::optional<ValueId> fold(Opcode code, const std::vector<ValueId>& operands, const Type& type);
  // ---- simplify_rules.cpp: the table
  std::optional<ValueId> table(Opcode code, const std::vector<ValueId>& operands, const Type& type);
  bool match(const RuleTerm& term, int node, ValueId value, std::array<ValueId, 128>& bound);
  bool match_operands(const RuleTerm& term, const TermNode& node, const std::vector<ValueId>& operands,
                      std::array<ValueId, 128>& bound);
  ValueId build(const RuleTerm& term, int node, const std::array<ValueId, 128>& bound, DType dtype);
  // ---- simplify_axes.cpp: rules about axes
  std::optional<ValueId> structure(Opcode code, std::vector<ValueId>& operands, const Attr& attr, const Type& type);
  std::optional<ValueId> expand_rules(const std::vector<ValueId>& operands, const Type& type);
  std::optional<ValueId> elementwise_rules(Opcode code, std::vector<ValueId>& operands, const Attr& attr, const Type& type);
  std::optional<ValueId> view_rules(Opcode code, const std::vector<ValueId>& operands, const Attr& attr, const Type& type);
  std::optional<ValueId> sum_rules(const std::vector<ValueId>& operands, const Attr& attr, const Type& type);
  std::optional<ValueId> contract_rules(std::vector<ValueId>& operands, const Type& type);
  std::optional<ValueId> share_square(const std::vector<ValueId>& operands, const Type& type);
  std::optional<ValueId> pads_to_concat(const std::vector<ValueId>& operands, const Type& type);

  // ---- helpers
  const Op* def(ValueId v) const;                          // null for an argument
  const Op* def(ValueId v, Opcode code) const;             // null unless defined by that operation
  std::optional<double> constant_of(ValueId v) const;      // through expand
  const Type& type(ValueId v) const { return to_.type(v); }
  std::int64_t extent(AxisId a) const { return to_.function().extent(a); }
  void fired(std::string_view rule) {
    ++counts_[std::string(rule)];
    changed_ = true;
  }

  const Function& from_;
  Builder& to_;
  Cloner clone_;
  RuleCounts& counts_;
  bool changed_ = false;
  int depth_ = 0;
  std::vector<std::unordered_map<std::string, ValueId>> scopes_;  // common subexpressions, a map a region
};

}  // namespace gradc
