// Owns the making of functions: the only way to append an operation. It infers and checks result types,
// makes names unique in the function, and keeps the stack of open regions. A broken rule here is a fault
// of the caller's code, not of a user: it ends in internal_error.
#pragma once

#include <initializer_list>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "ir/program.h"

namespace gradc {

class Builder {
 public:
  // Appends to an empty function of the program. `function` must not move while the builder lives: make
  // it a local and push it into the program at the end (its callees must be there before).
  Builder(Program& program, Function& function);

  Program& program() { return program_; }
  Function& function() { return function_; }

  // ---- axes: find() gives the axis of that name and extent or makes it, as `d.1` if `d` is taken.
  AxisId axis(std::string_view name, std::int64_t extent);
  AxisId fresh_axis(std::string_view name, std::int64_t extent);   // always a new one

  // ---- arguments of the innermost open region (the body first)
  ValueId argument(const Type& type, std::string_view name = {});
  // All members of a bundle as consecutive arguments that print as one name. Axes by name and extent.
  Group arguments(BundleId bundle, std::string_view name);

  // ---- operations. The location of each is `at` (set it before adding).
  LocId at;
  ValueId add(Opcode code, std::span<const ValueId> operands, const Attr& attr = {});
  ValueId add(Opcode code, std::initializer_list<ValueId> operands, const Attr& attr = {}) {
    return add(code, std::span(operands.begin(), operands.size()), attr);
  }
  // With the result's type written: any order of axes; needed where it cannot be inferred.
  ValueId add(Opcode code, std::span<const ValueId> operands, const Attr& attr, const Type& result);
  ValueId add(Opcode code, std::initializer_list<ValueId> operands, const Attr& attr, const Type& result) {
    return add(code, std::span(operands.begin(), operands.size()), attr, result);
  }
  // call, launch, fused, scan: `regions` were opened and closed before. Results are consecutive values.
  std::vector<ValueId> add_multi(Opcode code, std::span<const ValueId> operands, const Attr& attr,
                                 std::span<const Type> results, std::span<const RegionId> regions = {});
  // Declares consecutive values (results of one operation) as a bundle that prints as one name.
  void group(std::string_view name, BundleId bundle, ValueId first, std::uint32_t count);

  // ---- regions: open, add arguments and operations, close with results.
  RegionId open();
  void close(std::span<const ValueId> results);
  // Ends the body. Every region must be closed.
  void finish(std::span<const ValueId> results, std::span<const NameId> names = {});

  // ---- names: `wish` made unique by `.n`; an empty wish leaves the value unnamed.
  void name(ValueId value, std::string_view wish);

  // ---- shorthand
  const Type& type(ValueId v) const { return function_.type(v); }
  ValueId constant(double real, DType dtype = DType::f32);
  ValueId integer(std::int64_t value, DType dtype = DType::i32);   // also bool: 0, 1
  ValueId binary(Opcode code, ValueId a, ValueId b) { return add(code, {a, b}); }
  ValueId unary(Opcode code, ValueId a) { return add(code, {a}); }
  ValueId cast(ValueId x, DType to);                               // x itself if it has the dtype
  ValueId expand(ValueId x, const AxisList& axes);                 // x itself if it has just these, in order
  ValueId sum(ValueId x, const AxisList& over);                    // x itself over nothing
  ValueId reduce(Opcode code, ValueId x, const AxisList& over);
  ValueId contract(ValueId a, ValueId b, const AxisList& result);

 private:
  ValueId append(Opcode code, std::span<const ValueId> operands, const Attr& attr, const Type& result);
  Program& program_;
  Function& function_;
  std::vector<RegionId> open_;
  std::unordered_map<std::uint32_t, std::uint32_t> taken_;         // value names
  std::unordered_map<std::uint32_t, AxisId> axis_by_name_;
  std::unordered_map<std::string, std::uint32_t> next_suffix_;
};

// Copies operations of one function into another through a builder, with values and axes mapped. Passes
// rebuild functions front to back with it; they map what they replace and copy the rest.
class Cloner {
 public:
  Cloner(const Function& from, Builder& to);
  void map(ValueId from, ValueId to);
  void map_axis(AxisId from, AxisId to) { axes_[from.index] = to; }
  ValueId operator()(ValueId from) const;          // internal_error if it was not mapped
  bool mapped(ValueId from) const { return values_[from.index].valid(); }
  AxisId operator()(AxisId from);                  // by name and extent unless mapped; kept from then on
  Type operator()(const Type& type);
  Attr operator()(const Attr& attr);
  // Arguments of the body with their names and groups.
  void arguments();
  // One operation with its regions, location (unless `keep_at`: the builder's) and names; maps its results.
  void clone(OpId op, bool keep_at = false);
  // All operations of a region, its arguments being mapped already; gives its results.
  std::vector<ValueId> inline_region(const Region& region, bool keep_at = false);
  // Groups of `from` that lie among results of operations are declared in the copy as they are met.
 private:
  void clone_groups(const std::vector<ValueId>& defined);
  const Function& from_;
  Builder& to_;
  std::vector<ValueId> values_;
  std::vector<AxisId> axes_;
  std::vector<std::pair<std::uint32_t, std::uint32_t>> groups_;  // first value and index, by value
};

// `caller` with the call `op` (operands mapped to `operands`) replaced by the callee's body: appends the
// body through `to`; gives the results. Callee axes are bound by the argument types, fresh otherwise.
std::vector<ValueId> inline_call(const Function& callee, Builder& to, std::span<const ValueId> operands);

}  // namespace gradc
