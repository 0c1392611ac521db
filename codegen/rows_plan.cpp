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

// `condition` as position of `lane` = place, if it is that.
OnePosition as_one_position(const Emitter& e, ValueId condition, AxisId lane) {
  const Op* const equal = e.kernel.definition(condition);
  if (equal == nullptr || equal->code != Opcode::eq_) return {};
  for (int i : {0, 1}) {
    const Op* const position = e.kernel.definition(equal->operands[static_cast<std::size_t>(i)]);
    const ValueId place = equal->operands[static_cast<std::size_t>(1 - i)];
    if (position != nullptr && position->code == Opcode::position_ && position->operands.empty() &&
        position->attr.to == lane && !e.kernel.type(place).axes.contains(lane))
      return {condition, place};
  }
  return {};
}

bool loads(const RowsPlan& plan, const Pass& pass, ValueId v) {
  return std::any_of(pass.loads.begin(), pass.loads.end(),
                     [&](int s) { return plan.saved[static_cast<std::size_t>(s)].value == v; });
}

// Whether something is read behind pass `from` that a result's buffer overwrites.
bool reads_behind(const Emitter& e, const RowsPlan& plan, std::size_t from, int buffer) {
  const int alias = e.instance.buffers[static_cast<std::size_t>(buffer)].alias;
  if (alias < 0) return false;
  const ValueId overwritten = e.kernel.body().arguments[static_cast<std::size_t>(alias)];
  // What is not read along the row may be read at any time.
  if (!plan.row_reads.empty()) return true;
  bool read = false;
  for (std::size_t p = from + 1; p < plan.passes.size(); ++p) {
    const Pass& pass = plan.passes[p];
    std::vector<ValueId> roots(pass.roots);
    for (const SingleTerm& t : pass.terms) roots.push_back(t.x);
    visit(e, roots, [&](ValueId v) {
      read = read || v == overwritten;
      return !loads(plan, pass, v);
    });
  }
  return read;
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
        plan.saved.push_back({v});
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
    for (int s : pass.saves) pass.roots.push_back(plan.saved[static_cast<std::size_t>(s)].value);
  return plan;
}

void pick_single_terms(const Emitter& e, RowsPlan& plan, AxisId lane) {
  for (Pass& pass : plan.passes)
    std::erase_if(pass.reductions, [&](int index) {
      const Reduction& r = plan.reductions[static_cast<std::size_t>(index)];
      const Op* const select = e.kernel.definition(r.operand);
      if (r.code != Opcode::sum_ || select == nullptr || select->code != Opcode::select_) return false;
      const Op* const otherwise = e.kernel.definition(select->operands[2]);
      if (otherwise == nullptr || otherwise->code != Opcode::constant_ ||
          otherwise->attr.real != 0 || otherwise->attr.integer != 0)
        return false;
      // An argument, which can be read anywhere whatever passes have done.
      ValueId x = select->operands[1];
      for (const Op* op = e.kernel.definition(x); op != nullptr; op = e.kernel.definition(x)) {
        if (op->code != Opcode::cast_) return false;
        x = op->operands[0];
      }
      const OnePosition one = as_one_position(e, select->operands[0], lane);
      if (!one.condition.valid()) return false;
      pass.terms.push_back({index, select->operands[1], one.place});
      pass.roots.erase(std::find(pass.roots.begin(), pass.roots.end(), r.operand));
      return true;
    });
}

OnePosition one_position(const Emitter& e, const Pass& pass, const RowsPlan& plan, AxisId lane) {
  OnePosition found;
  visit(e, pass.roots, [&](ValueId v) {
    if (OnePosition one = as_one_position(e, v, lane); one.condition.valid()) found = one;
    return !loads(plan, pass, v);
  });
  return found;
}

void save_in_results(const Emitter& e, RowsPlan& plan, AxisId lane) {
  const std::vector<ValueId>& results = e.kernel.body().results;
  for (std::size_t s = 0; s < plan.saved.size(); ++s) {
    const auto has = [&](const std::vector<int>& list) {
      return std::find(list.begin(), list.end(), static_cast<int>(s)) != list.end();
    };
    std::size_t from = 0, last = 0;
    for (std::size_t p = 0; p < plan.passes.size(); ++p) {
      if (has(plan.passes[p].saves)) from = p;
      if (has(plan.passes[p].loads)) last = p;
    }
    for (int r : plan.passes[last].stores) {
      const int buffer = e.argument_count() + r;
      const Type& type = e.kernel.type(results[static_cast<std::size_t>(r)]);
      const bool taken = std::any_of(plan.saved.begin(), plan.saved.end(),
                                     [&](const SavedValue& other) { return other.result == r; });
      if (taken || type.dtype != e.kernel.type(plan.saved[s].value).dtype ||
          type.axes.size() != plan.kept.size() + plan.reduced.size() ||
          e.stride(buffer, lane) != 1 || reads_behind(e, plan, from, buffer))
        continue;
      plan.saved[s].result = r;
      break;
    }
  }
}

}  // namespace gradc
