// What an operation could become, seen by itself: going forward, what each value costs to compute
// again from what is surely in memory.
#include <algorithm>

#include "passes/group_sweep.h"
#include "passes/plan.h"

namespace gradc::grouping {
namespace {

constexpr double cheap = 6;  // cost an element up to which a value is computed again

}  // namespace

void Sweep::classify(OpId id) {
  const Op& op = f_.op(id);
  Fate& fate = c_.fate[id.index];
  if (op.results.size() != 1 || facts(op.code).kind == Kind::control ||
      op.code == Opcode::concat_ || op.code == Opcode::scatter_ || op.code == Opcode::update_) {
    for (ValueId v : op.results) from_memory(v), after_[v.index] = id.index + 1;
    return;  // opaque
  }
  const ValueId v = op.results[0];
  const Kind kind = facts(op.code).kind;
  if (kind == Kind::reduce || kind == Kind::contract) {
    fate = Fate::placed;
    from_memory(v);
    after_[v.index] = id.index + 1;
    if (kind == Kind::contract) epilogue_[v.index] = id.index + 1;
    return;
  }
  for (ValueId x : op.operands) after_[v.index] = std::max(after_[v.index], after_[x.index]);
  if (is_address(op.code)) {
    const Op* source = def(op.operands[0]);
    const bool in_kernel = source != nullptr && is_address(source->code) &&
                           source->code != Opcode::gather_ &&
                           c_.fate[f_.value(op.operands[0]).def.index] == Fate::clone;
    fate = planning::is_static_view(op) && !in_kernel ? Fate::view : Fate::clone;
    from_memory(v);
    return;
  }
  // Sources, elementwise operations and expand.
  work_[v.index] = std::max(facts(op.code).cost, 1) * elements(v);
  for (ValueId x : op.operands) {
    work_[v.index] += work_[x.index];
    loads_[v.index] += loads_[x.index];
    if (same_set(f_.type(x).axes, f_.type(v).axes))
      epilogue_[v.index] = std::max(epilogue_[v.index], epilogue_[x.index]);
  }
  for (ValueId x : op.operands)  // the others are there when the contraction starts
    if (epilogue_[x.index] != epilogue_[v.index] && after_[x.index] >= epilogue_[v.index])
      epilogue_[v.index] = 0;
  bool free = op.code != Opcode::uniform_ && work_[v.index] <= 4 * cheap * elements(v);
  for (ValueId x : op.operands)
    free &= def(x) != nullptr && c_.free_source[f_.value(x).def.index] != 0;
  c_.free_source[id.index] = free;
  const double few = f_.type(v).axes.empty() ? 8 : 1.5 * elements(v);
  const bool repeat = work_[v.index] <= cheap * elements(v) && loads_[v.index] <= few;
  fate = repeat || free ? Fate::clone : Fate::placed;
  if (fate == Fate::placed) work_[v.index] = 0, loads_[v.index] = elements(v);
}

}  // namespace gradc::grouping
