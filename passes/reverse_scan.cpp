// A scan forward, with what its derivative reads, and backward. Forward also collects, for all
// turns, the states before each, and of its products what the derivative asks for: so that backward
// multiplies by no matrix again. Everything else of a turn is computed again.
#include <algorithm>

#include "passes/reverse.h"

namespace gradc {
namespace {

bool contains(const std::vector<std::uint32_t>& ascending, std::size_t i) {
  return std::binary_search(ascending.begin(), ascending.end(), i);
}

}  // namespace

std::size_t Derived::states_read(const Op& scan) const {
  return static_cast<std::size_t>(
      std::lower_bound(arguments.begin(), arguments.end(), scan.attr.carried) - arguments.begin());
}

// Products, and what elementwise operations of the same axes make of each alone: of an LSTM the
// gates before their functions, of a recurrent layer with tanh its state.
void Reverse::keep_products(const Op& scan) {
  keepable_.assign(from_.values.size(), 0);
  std::vector<OpId> reader(from_.values.size());
  std::vector<int> uses(from_.values.size(), 0);
  for (OpId o : region_.ops)
    for (ValueId v : from_.op(o).operands) reader[v.index] = o, ++uses[v.index];
  for (ValueId v : region_.results) ++uses[v.index];
  for (OpId o : region_.ops) {
    if (from_.op(o).code != Opcode::contract_) continue;
    for (ValueId v = from_.op(o).results[0];; v = from_.op(reader[v.index]).results[0]) {
      const AxisList& axes = from_.type(v).axes;
      if (axes.full() || axes.contains(scan.attr.from)) break;
      keepable_[v.index] = 1;
      if (uses[v.index] != 1 || !reader[v.index].valid()) break;
      const Op& next = from_.op(reader[v.index]);
      if (!is_elementwise(next.code) || !same_set(from_.type(next.results[0]).axes, axes)) break;
    }
  }
}

// The scan with what its derivative reads collected behind its own results: the states at the start
// of each turn, then what is kept.
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
  for (std::size_t i = 0; i < d.states_read(op); ++i)
    yields.push_back(map_(region.arguments[d.arguments[i]]));
  for (ValueId v : d.kept) yields.push_back(map_(v));
  to_.close(yields);
  to_.at = op.loc;
  const std::vector<ValueId> made =
      to_.add_multi(Opcode::scan_, operands, attr, types, std::array{copy});
  for (std::size_t i = 0; i < op.results.size(); ++i) {
    map_.map(op.results[i], made[i]);
    to_.name(made[i], to_.program().text(from_.value(op.results[i]).name));
  }
  extras_[id.index] = {made.begin() + static_cast<std::ptrdiff_t>(op.results.size()), made.end()};
}

// ---- backward
//
// A scan in the other direction. It carries the cotangents of the states, then a sum for each
// invariant; it slices what the forward scan collected for it (the states, what was kept), the
// sequences, and the cotangents of what was collected; it collects the cotangents of the sequences'
// slices.
struct Reverse::BackwardScan {
  const Op& op;
  const Derived& d;
  std::vector<std::uint32_t> carried, sums, sequences;   // operands of `op` that get a cotangent
  std::vector<ValueId> operands;                         // carried, sums, slices, invariants
  std::size_t sliced = 0;

  bool is_invariant(std::uint32_t k) const { return k >= op.attr.carried + op.attr.sliced; }
  std::size_t first_slice() const { return carried.size() + sums.size(); }
};

void Reverse::walk_scan(OpId id) {
  const Op& op = from_.op(id);
  BackwardScan back{.op = op, .d = gradient_.of(from_id_, op)};
  for (std::uint32_t k = 0; k < op.operands.size(); ++k) {
    const bool given = contains(back.d.gives, k);
    if (k < op.attr.carried &&
        (given || contains(back.d.slots, k) || activity_.wanted(from_id_, op.results[k])))
      back.carried.push_back(k);
    else if (k >= op.attr.carried && given)
      (back.is_invariant(k) ? back.sums : back.sequences).push_back(k);
  }
  std::vector<std::uint32_t> of = back.carried;  // results, by the operand that they are for
  of.insert(of.end(), back.sums.begin(), back.sums.end());
  of.insert(of.end(), back.sequences.begin(), back.sequences.end());
  if (of.empty()) return;
  const LocId at = gradient_of(op.loc);
  scan_operands(id, back);
  const RegionId region = scan_region(back);
  std::vector<Type> types;
  for (std::uint32_t k : of) types.push_back(map_(from_.type(op.operands[k])));
  to_.at = at;
  const Attr attr{.from = map_(op.attr.from),
                  .carried = static_cast<std::uint32_t>(back.first_slice()),
                  .sliced = static_cast<std::uint32_t>(back.sliced),
                  .reverse = !op.attr.reverse};
  const std::vector<ValueId> made =
      to_.add_multi(Opcode::scan_, back.operands, attr, types, std::array{region});
  for (std::size_t n = 0; n < made.size(); ++n)
    if (flows(op, of[n])) contribute(op.operands[of[n]], {made[n], {}});
}

void Reverse::scan_operands(OpId id, BackwardScan& back) {
  const Op& op = back.op;
  const Region& region = from_.regions[op.regions[0].index];
  for (std::uint32_t k : back.carried) back.operands.push_back(incoming(op.results[k]));
  for (std::uint32_t k : back.sums)
    back.operands.push_back(zeros(map_(from_.type(op.operands[k]))));
  if (has_extras(id))
    for (ValueId v : extras(id)) back.operands.push_back(v);
  for (std::uint32_t k : back.d.arguments)
    if (k >= op.attr.carried && !back.is_invariant(k))
      back.operands.push_back(primal(op.operands[k]));
  for (std::uint32_t k : back.d.slots) {
    if (k < op.attr.carried) continue;
    AxisList axes =
        map_(from_.type(region.results[k])).axes;  // slices must have the yielded value's order
    axes.push_back(map_(op.attr.from));
    back.operands.push_back(to_.expand(incoming(op.results[k]), axes));
  }
  back.sliced = back.operands.size() - back.first_slice();
  for (std::uint32_t k : back.d.arguments)
    if (back.is_invariant(k)) back.operands.push_back(primal(op.operands[k]));
}

RegionId Reverse::scan_region(const BackwardScan& back) {
  const Op& op = back.op;
  const Derived& d = back.d;
  const auto operand_type = [&](std::uint32_t k) { return map_(from_.type(op.operands[k])); };
  const RegionId region = to_.open();
  std::vector<ValueId> formal;
  for (std::size_t i = 0; i < back.operands.size(); ++i) {
    Type type = to_.type(back.operands[i]);
    if (i >= back.first_slice() && i < back.first_slice() + back.sliced)
      type.axes = type.axes.without(map_(op.attr.from));
    formal.push_back(to_.argument(type));
  }
  // What stands where among them, in the order in which the body takes it.
  std::vector<ValueId> cotangents, arguments, kept;
  std::size_t slice = back.first_slice(), invariant = slice + back.sliced;
  for (std::size_t i = 0; i < d.states_read(op); ++i) arguments.push_back(formal[slice++]);
  for (std::size_t i = 0; i < d.kept.size(); ++i) kept.push_back(formal[slice++]);
  for (std::uint32_t k : d.arguments)
    if (k >= op.attr.carried)
      arguments.push_back(formal[back.is_invariant(k) ? invariant++ : slice++]);
  arguments.insert(arguments.end(), kept.begin(), kept.end());
  for (std::uint32_t k : d.slots) {
    const auto state =
        std::lower_bound(back.carried.begin(), back.carried.end(), k) - back.carried.begin();
    cotangents.push_back(k < op.attr.carried ? formal[static_cast<std::size_t>(state)]
                                             : formal[slice++]);
  }
  for (std::size_t i = 0; i < cotangents.size(); ++i) to_.name(cotangents[i], formal_name(d, i));
  for (std::size_t i = 0; i < arguments.size(); ++i)
    to_.name(arguments[i], formal_name(d, cotangents.size() + i));
  for (std::size_t i = 0; i < back.sums.size(); ++i)
    to_.name(formal[back.carried.size() + i], "sum_" + path(op.operands[back.sums[i]]));

  const std::vector<ValueId> outs = embed(d, cotangents, arguments);
  to_.at = gradient_of(op.loc);
  const auto out_of = [&](std::uint32_t k) {
    return outs[static_cast<std::size_t>(std::lower_bound(d.gives.begin(), d.gives.end(), k) -
                                         d.gives.begin())];
  };
  std::vector<ValueId> yields;
  for (std::uint32_t k : back.carried) {
    // A state that no turn reads: nothing goes back further. The constant must stand in this
    // region.
    const Type type = operand_type(k);
    yields.push_back(contains(d.gives, k) ? out_of(k)
                                          : to_.expand(to_.constant(0, type.dtype), type.axes));
  }
  for (std::size_t i = 0; i < back.sums.size(); ++i) {
    const ValueId sum = formal[back.carried.size() + i];
    yields.push_back(
        to_.add(Opcode::add_, {sum, out_of(back.sums[i])}, {}, operand_type(back.sums[i])));
  }
  for (std::uint32_t k : back.sequences) yields.push_back(out_of(k));
  to_.close(yields);
  return region;
}

}  // namespace gradc
