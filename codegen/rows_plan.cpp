// Passes from dependences: a value's stage is the number of passes that must be complete before it.
#include "codegen/rows_plan.h"

#include <algorithm>

namespace gradc {
namespace {

// Reading a saved value back costs as much as two or three operations.
constexpr int worth_saving = 6;
constexpr int much = 1000;

bool shares(const AxisList& a, const AxisList& b) {
  return std::any_of(a.begin(), a.end(), [&](AxisId x) { return b.contains(x); });
}

// The work of one element along the reduced axes, shared parts counted as often as they are used.
std::vector<int> costs(const Emitter& e, const AxisList& reduced) {
  std::vector<int> cost(e.kernel.values.size());
  const auto varies = [&](ValueId v) { return shares(e.kernel.type(v).axes, reduced); };
  for (ValueId v : e.kernel.body().arguments) cost[v.index] = varies(v) ? 1 : 0;
  for (OpId o : e.kernel.body().ops) {
    const Op& op = e.kernel.op(o);
    int c = facts(op.code).cost;
    for (ValueId x : op.operands) c += cost[x.index];
    cost[op.results[0].index] = varies(op.results[0]) ? std::min(c, much) : 0;
  }
  return cost;
}

// What a pass asks for along the reduced axes, from its roots down to arguments.
template <class Enter>
void visit(const Emitter& e, const std::vector<ValueId>& roots, Enter enter) {
  std::vector<bool> met(e.kernel.values.size());
  std::vector<ValueId> pending(roots);
  while (!pending.empty()) {
    const ValueId v = pending.back();
    pending.pop_back();
    if (met[v.index]) continue;
    met[v.index] = true;
    if (!enter(v)) continue;
    const OpId def = e.kernel.value(v).def;
    if (!def.valid()) continue;
    const Op& op = e.kernel.op(def);
    // What an address operation moves is no value of its own.
    pending.insert(pending.end(), op.operands.begin() + (is_address_op(op.code) ? 1 : 0),
                   op.operands.end());
  }
}

// In pass order: a value that an earlier pass had and that is not cheap is saved there.
void choose_saved(const Emitter& e, RowsPlan& plan) {
  const std::vector<int> cost = costs(e, plan.reduced);
  std::vector<int> first_pass(e.kernel.values.size(), -1), saved_as(e.kernel.values.size(), -1);
  for (std::size_t k = 0; k < plan.passes.size(); ++k) {
    Pass& pass = plan.passes[k];
    visit(e, pass.roots, [&](ValueId v) {
      if (!shares(e.kernel.type(v).axes, plan.reduced)) return false;
      int& first = first_pass[v.index];
      if (first < 0) first = static_cast<int>(k);
      const OpId def = e.kernel.value(v).def;
      const bool computed = def.valid() && !is_address_op(e.kernel.op(def).code);
      if (first == static_cast<int>(k) || !computed || cost[v.index] < worth_saving) return true;
      int& index = saved_as[v.index];
      if (index < 0) {
        index = static_cast<int>(plan.saved.size());
        plan.saved.push_back(v);
        plan.passes[static_cast<std::size_t>(first)].saves.push_back(index);
      }
      pass.loads.push_back(index);
      return false;
    });
  }
}

}  // namespace

RowsPlan plan_rows(const Emitter& e, bool keep) {
  RowsPlan plan;
  const Region& body = e.kernel.body();
  std::vector<int> stage(e.kernel.values.size());
  std::vector<std::pair<int, int>> at;  // pass and index of each reduction
  int last = 0;
  for (OpId o : body.ops) {
    const Op& op = e.kernel.op(o);
    const ValueId r = op.results[0];
    int& s = stage[r.index];
    for (ValueId x : op.operands) s = std::max(s, stage[x.index]);
    if (facts(op.code).kind != Kind::reduce) continue;
    const ValueId x = op.operands[0];
    if (plan.reductions.empty()) {
      for (AxisId a : op.attr.axes) plan.reduced.push_back(a);
      for (AxisId a : e.kernel.type(x).axes)
        if (!plan.reduced.contains(a)) plan.kept.push_back(a);
    }
    at.emplace_back(s, static_cast<int>(plan.reductions.size()));
    last = std::max(last, s);
    plan.reductions.push_back({op.code, x, r, e.kernel.type(x).dtype});
    ++s;
  }
  std::vector<std::pair<int, int>> stores;
  for (std::size_t i = 0; i < body.results.size(); ++i) {
    const ValueId v = body.results[i];
    if (!shares(e.kernel.type(v).axes, plan.reduced)) {
      plan.row_results.push_back(static_cast<int>(i));
      continue;
    }
    stores.emplace_back(stage[v.index], static_cast<int>(i));
    last = std::max(last, stage[v.index]);
  }
  std::vector<ValueId> rows;
  for (int i : plan.row_results) rows.push_back(body.results[static_cast<std::size_t>(i)]);
  visit(e, rows, [&](ValueId v) {
    const OpId def = e.kernel.value(v).def;
    if (!def.valid() || is_address_op(e.kernel.op(def).code))
      plan.row_reads.emplace_back(v, stage[v.index]);
    return !def.valid() || facts(e.kernel.op(def).code).kind != Kind::reduce;
  });
  for (const auto& [pass, index] : stores)
    if (e.instance.buffers[static_cast<std::size_t>(e.argument_count() + index)].alias >= 0)
      for (const auto& [v, s] : plan.row_reads)
        if (e.kernel.value(v).def.valid()) {  // an argument of its own kind is no result's place
          plan.guarded = true;
          last = std::max(last, s);
        }
  plan.passes.resize(static_cast<std::size_t>(last) + 1);
  for (const auto& [pass, index] : at) {
    plan.passes[static_cast<std::size_t>(pass)].reductions.push_back(index);
    plan.passes[static_cast<std::size_t>(pass)].roots.push_back(
        plan.reductions[static_cast<std::size_t>(index)].operand);
  }
  for (auto [pass, index] : stores) {
    // What lies in an operand's place is written when nothing reads that operand any more.
    const std::size_t buffer = static_cast<std::size_t>(e.argument_count() + index);
    if (e.instance.buffers[buffer].alias >= 0) pass = last;
    plan.passes[static_cast<std::size_t>(pass)].stores.push_back(index);
    plan.passes[static_cast<std::size_t>(pass)].roots.push_back(
        body.results[static_cast<std::size_t>(index)]);
  }
  if (keep) choose_saved(e, plan);
  for (Pass& pass : plan.passes)
    for (int s : pass.saves) pass.roots.push_back(plan.saved[static_cast<std::size_t>(s)]);
  return plan;
}

}  // namespace gradc
