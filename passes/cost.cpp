// Counts what kernels compute and move.
#include "passes/cost.h"

#include <algorithm>
#include <vector>

#include "ir/kernel.h"

namespace gradc {
namespace {

double products_of(const Function& kernel, const Op& op) {
  const Type& result = kernel.type(op.results[0]);
  double products = static_cast<double>(kernel.elements(result));
  for (AxisId a : kernel.type(op.operands[0]).axes)
    if (!result.axes.contains(a)) products *= static_cast<double>(kernel.extent(a));
  return products;
}

double flop_of(const Function& kernel) {
  double total = 0;
  for (OpId id : kernel.body().ops) {
    const Op& op = kernel.op(id);
    const Kind kind = facts(op.code).kind;
    const Type& result = kernel.type(op.results[0]);
    if (!is_real(result.dtype) || op.code == Opcode::stop_) continue;
    if (is_elementwise(kind)) total += static_cast<double>(kernel.elements(result));
    if (kind == Kind::reduce)
      total += static_cast<double>(kernel.elements(kernel.type(op.operands[0])));
    if (kind == Kind::contract) total += 2 * products_of(kernel, op);
  }
  return total;
}

// By value: how many of its elements the body reads. Backward, since what a chain of address
// operations reads of its source follows from what is read of its end.
std::vector<std::int64_t> elements_read(const Function& kernel) {
  std::vector<std::int64_t> read(kernel.values.size(), 0);
  const std::vector<OpId>& ops = kernel.body().ops;
  for (std::size_t n = ops.size(); n-- > 0;) {
    const Op& op = kernel.op(ops[n]);
    const bool addressing = is_address(kernel, op);
    for (std::size_t i = 0; i < op.operands.size(); ++i) {
      const ValueId x = op.operands[i];
      const std::int64_t all = kernel.elements(kernel.type(x));
      const bool addressed = addressing && (i == 0 || op.code == Opcode::concat_);
      const std::int64_t more = addressed ? std::min(all, read[op.results[0].index]) : all;
      read[x.index] = addressed ? std::min(all, read[x.index] + more) : all;
    }
  }
  return read;
}

std::int64_t size_of(const Function& f, ValueId v) {
  return f.elements(f.type(v)) * bytes(f.type(v).dtype);
}

// The operand that a scatter or update starts from, if there is one.
ValueId base_of(const Op& op) {
  if (op.code == Opcode::update_) return op.operands[0];
  return op.code == Opcode::scatter_ && op.operands.size() == 3 ? op.operands[2] : ValueId{};
}

}  // namespace

Cost kernel_cost(const Function& kernel) {
  Cost cost{.flop = flop_of(kernel)};
  const std::vector<std::int64_t> read = elements_read(kernel);
  for (ValueId v : kernel.body().arguments)
    cost.bytes += read[v.index] * bytes(kernel.type(v).dtype);
  for (ValueId v : kernel.body().results) cost.written += size_of(kernel, v);
  cost.bytes += cost.written;
  return cost;
}

double operation_cost(const Function& kernel, const Op& op) {
  const Facts& row = facts(op.code);
  if (row.kind == Kind::contract) return row.cost * products_of(kernel, op);
  const ValueId v = row.kind == Kind::reduce ? op.operands[0] : op.results[0];
  return row.cost * static_cast<double>(kernel.elements(kernel.type(v)));
}

Cost launch_cost(const Program& program, const Function& planned, const Op& launch) {
  const Function& kernel = program.function(launch.attr.callee);
  Cost cost = kernel_cost(kernel);
  if (kernel.family != Family::read) return cost;
  const Op& op = kernel.op(kernel.body().ops[0]);
  const ValueId base = base_of(op);
  if (!base.valid()) return cost;
  const std::vector<ValueId>& arguments = kernel.body().arguments;
  const auto nth = std::find(arguments.begin(), arguments.end(), base) - arguments.begin();
  const Placement& from = planned.placed[launch.operands[static_cast<std::size_t>(nth)].index];
  const Placement& to = planned.placed[launch.results[0].index];
  if (from.arena != to.arena || from.offset != to.offset) return cost;
  const ValueId change = op.operands[op.code == Opcode::update_ ? 1 : 0];
  const std::int64_t whole = size_of(kernel, base);
  const std::int64_t touched = std::min(whole, size_of(kernel, change));
  // A scatter reads what it adds to; an update does not.
  cost.bytes -= 2 * whole - (op.code == Opcode::update_ ? 1 : 2) * touched;
  cost.written -= whole - touched;
  return cost;
}

}  // namespace gradc
