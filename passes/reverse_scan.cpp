// A scan forward, with what its derivative reads, and backward.
#include <algorithm>

#include "passes/reverse.h"

namespace gradc {
namespace {

bool contains(const std::vector<std::uint32_t>& ascending, std::size_t i) {
  return std::binary_search(ascending.begin(), ascending.end(), i);
}

}  // namespace

std::size_t Derived::states_read(const Op& scan) const {
  return static_cast<std::size_t>(std::lower_bound(arguments.begin(), arguments.end(), scan.attr.carried) - arguments.begin());
}

// The scan with the states at the start of each turn collected behind its own results.
void Reverse::copy_scan(OpId id) {
  const Op& op = from_.op(id);
  const Derived& d = gradient_.of(from_id_, op);
  const Region& region = from_.regions[op.regions[0].index];
  std::vector<ValueId> operands;
  for (ValueId v : op.operands) operands.push_back(map_(v));
  std::vector<Type> types;
  for (ValueId v : op.results) types.push_back(map_(from_.type(v)));
  for (const Type& t : extra_types(id)) types.push_back(t);
  const Attr attr = map_(op.attr);
  const RegionId copy = to_.open();
  for (ValueId v : region.arguments)
    map_.map(v, to_.argument(map_(from_.type(v)), to_.program().text(from_.value(v).name)));
  std::vector<ValueId> yields = map_.inline_region(region);
  for (std::size_t i = 0; i < d.states_read(op); ++i) yields.push_back(map_(region.arguments[d.arguments[i]]));
  to_.close(yields);
  to_.at = op.loc;
  const std::vector<ValueId> made = to_.add_multi(Opcode::scan_, operands, attr, types, std::array{copy});
  for (std::size_t i = 0; i < op.results.size(); ++i) {
    map_.map(op.results[i], made[i]);
    to_.name(made[i], to_.program().text(from_.value(op.results[i]).name));
  }
  extras_[id.index] = {made.begin() + static_cast<std::ptrdiff_t>(op.results.size()), made.end()};
}

// A scan in the other direction. It carries the cotangents of the states, then a sum for each invariant;
// it slices the states that the forward scan collected, the sequences, and the cotangents of what was
// collected; it collects the cotangents of the sequences' slices.
void Reverse::walk_scan(OpId id) {
  const Op& op = from_.op(id);
  const Derived& d = gradient_.of(from_id_, op);
  const Region& region = from_.regions[op.regions[0].index];
  const std::size_t states = op.attr.carried, invariants = states + op.attr.sliced;
  const AxisId along = map_(op.attr.from);
  const LocId at = gradient_of(op.loc);
  const auto operand_type = [&](std::size_t k) { return map_(from_.type(op.operands[k])); };

  std::vector<std::uint32_t> carried, sums, sequences;   // operands of the scan
  for (std::uint32_t k = 0; k < op.operands.size(); ++k) {
    const bool given = contains(d.gives, k);
    if (k < states && (given || contains(d.slots, k) || activity_.wanted(from_id_, op.results[k])))
      carried.push_back(k);
    else if (k >= invariants && given)
      sums.push_back(k);
    else if (k >= states && given)
      sequences.push_back(k);
  }
  std::vector<std::uint32_t> of = carried;               // results, by the operand that they are for
  of.insert(of.end(), sums.begin(), sums.end());
  of.insert(of.end(), sequences.begin(), sequences.end());
  if (of.empty()) return;
  std::vector<ValueId> operands;
  for (std::uint32_t k : carried) operands.push_back(incoming(op.results[k]));
  for (std::uint32_t k : sums) operands.push_back(zeros(operand_type(k)));
  if (has_extras(id))
    for (ValueId v : extras(id)) operands.push_back(v);
  for (std::uint32_t k : d.arguments)
    if (k >= states && k < invariants) operands.push_back(primal(op.operands[k]));
  for (std::uint32_t k : d.slots) {
    if (k < states) continue;
    AxisList axes = map_(from_.type(region.results[k])).axes;   // slices must have the yielded value's order
    axes.push_back(along);
    operands.push_back(to_.expand(incoming(op.results[k]), axes));
  }
  const std::size_t sliced = operands.size() - carried.size() - sums.size();
  for (std::uint32_t k : d.arguments)
    if (k >= invariants) operands.push_back(primal(op.operands[k]));

  const RegionId back = to_.open();
  std::vector<ValueId> formal;
  for (std::size_t i = 0; i < operands.size(); ++i) {
    Type type = to_.type(operands[i]);
    const std::size_t first_slice = carried.size() + sums.size();
    if (i >= first_slice && i < first_slice + sliced) type.axes = type.axes.without(along);
    formal.push_back(to_.argument(type, to_.program().text(to_.function().value(operands[i]).name)));
  }
  std::vector<ValueId> cotangents, arguments;
  std::size_t slice = carried.size() + sums.size(), invariant = slice + sliced;
  for (std::uint32_t k : d.arguments) arguments.push_back(formal[k < invariants ? slice++ : invariant++]);
  for (std::uint32_t k : d.slots)
    cotangents.push_back(k >= states ? formal[slice++]
                                     : formal[static_cast<std::size_t>(std::find(carried.begin(), carried.end(), k) - carried.begin())]);
  const std::vector<ValueId> outs = embed(d, cotangents, arguments);
  to_.at = at;
  const auto out_of = [&](std::uint32_t k) {
    return outs[static_cast<std::size_t>(std::lower_bound(d.gives.begin(), d.gives.end(), k) - d.gives.begin())];
  };
  std::vector<ValueId> yields;
  for (std::uint32_t k : carried) {
    // A state that no turn reads: nothing goes back further. The constant must stand in this region.
    const Type type = operand_type(k);
    yields.push_back(contains(d.gives, k) ? out_of(k) : to_.expand(to_.constant(0, type.dtype), type.axes));
  }
  for (std::size_t i = 0; i < sums.size(); ++i) {
    const ValueId sum = formal[carried.size() + i];
    yields.push_back(to_.add(Opcode::add_, {sum, out_of(sums[i])}, {}, operand_type(sums[i])));
  }
  for (std::uint32_t k : sequences) yields.push_back(out_of(k));
  to_.close(yields);

  std::vector<Type> types;
  for (std::uint32_t k : of) types.push_back(operand_type(k));
  const Attr attr{.from = along, .carried = static_cast<std::uint32_t>(carried.size() + sums.size()),
                  .sliced = static_cast<std::uint32_t>(sliced), .reverse = !op.attr.reverse};
  const std::vector<ValueId> made = to_.add_multi(Opcode::scan_, operands, attr, types, std::array{back});
  for (std::size_t n = 0; n < made.size(); ++n) {
    to_.name(made[n], cotangent_name(op.operands[of[n]]));
    if (flows(op, of[n])) contribute(op.operands[of[n]], {made[n], {}});
  }
}

}  // namespace gradc
