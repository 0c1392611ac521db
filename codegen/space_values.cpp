// What of a kernel's body is worth computing outside a loop, and how much work an element is.
#include <algorithm>

#include "codegen/space.h"

namespace gradc {
namespace {

// Operands that are evaluated at the same point as the operation: all of an elementwise one, index
// and run-time scalars of address operations, of the whole chain of them.
void operands_here(const Emitter& e, ValueId v, std::vector<ValueId>& out) {
  std::vector<ValueId> chain{v};
  while (!chain.empty()) {
    const Op* op = e.kernel.definition(chain.back());
    const bool first = chain.back() == v;
    chain.pop_back();
    if (op == nullptr) continue;
    if (!is_address_op(op->code)) {
      if (first) out.insert(out.end(), op->operands.begin(), op->operands.end());
      continue;
    }
    if (op->code == Opcode::concat_) {
      chain.insert(chain.end(), op->operands.begin(), op->operands.end());
      continue;
    }
    out.insert(out.end(), op->operands.begin() + 1, op->operands.end());
    chain.push_back(op->operands[0]);
  }
}

}  // namespace

std::vector<ValueId> invariant_values(const Emitter& e, std::span<const ValueId> roots,
                                      std::span<const Dimension> inner) {
  std::vector<ValueId> out, pending(roots.begin(), roots.end());
  std::vector<bool> met(e.kernel.values.size());
  while (!pending.empty()) {
    const ValueId v = pending.back();
    pending.pop_back();
    if (met[v.index]) continue;
    met[v.index] = true;
    const Op* op = e.kernel.definition(v);
    if (op != nullptr && op->code == Opcode::constant_) continue;
    const AxisList& axes = e.kernel.type(v).axes;
    if (std::none_of(inner.begin(), inner.end(),
                     [&](const Dimension& d) { return has_axis(d, axes); }))
      out.push_back(v);
    else
      operands_here(e, v, pending);
  }
  return out;
}

int work(const Emitter& e, std::span<const ValueId> roots) {
  std::vector<ValueId> pending(roots.begin(), roots.end());
  std::vector<bool> met(e.kernel.values.size());
  int total = 0;
  while (!pending.empty()) {
    const ValueId v = pending.back();
    pending.pop_back();
    if (met[v.index]) continue;
    met[v.index] = true;
    const Op* op = e.kernel.definition(v);
    total += op == nullptr ? 1 : std::max(facts(op->code).cost, is_address_op(op->code) ? 1 : 0);
    operands_here(e, v, pending);
  }
  return total;
}

}  // namespace gradc
