// Owns the printing of one function, for ir/text_print.cpp.
#pragma once

#include <span>

#include "ir/text.h"
#include "ir/text_names.h"

namespace gradc::text {

// Bundles by the path of their first leaf: which of them the results of a function may be, seen
// from their names (`g.wte`, `g.h.0.w`, … print as `g: @params`).
struct ResultBundles {
  std::unordered_map<std::string, std::vector<BundleId>> by_first_leaf;
};

class FunctionPrinter {
 public:
  FunctionPrinter(const Program& program, const Function& f, Layouts& layouts,
                  const ResultBundles& bundles, const PrintOptions& options)
      : p_(program),
        f_(f),
        layouts_(layouts),
        bundles_(bundles),
        options_(options),
        names_(program, f, layouts) {}

  std::string whole();
  std::string one(OpId op);  // on one line, regions as `{ … }`, without a location

 private:
  void head();
  void results_of_head();
  std::size_t bundle_result(std::size_t first);
  void region_head(RegionId r);
  void definitions(const std::vector<ValueId>& values, std::string_view between);
  void operation(const Op& op);
  void before_operands(const Op& op);
  void operands(const Op& op);
  void behind_operands(const Op& op);
  void result_types(const Op& op);
  void place(ValueId v);
  void place_group(const Group& g);
  void group_type(const Group& g);
  bool bundle_fits(BundleId bundle, std::span<const ValueId> values);
  void type(const Type& t);
  void in_type(AxisId a);
  std::string axis(AxisId a) const;
  void scan_axis(const Op& op);
  void location(LocId id);
  bool elided(const Op& op) const {
    return one_line_ || (op.code == Opcode::fused_ && !options_.bodies);
  }
  void indent() { out_.append(2 * static_cast<std::size_t>(depth_), ' '); }

  const Program& p_;
  const Function& f_;
  Layouts& layouts_;
  const ResultBundles& bundles_;
  const PrintOptions& options_;
  ValueNames names_;
  AxisScope axes_;  // what has occurred so far
  std::string out_;
  std::size_t line_ = 0;  // where the line begins
  int depth_ = 0;
  bool one_line_ = false;
};

}  // namespace gradc::text
