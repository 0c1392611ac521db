// Which values a gradient concerns: dependence upward from the innermost regions, then one sweep
// forward and one backward through each region, outer before inner, callers before callees.
#include "passes/activity.h"

#include <algorithm>

#include "ir/walk.h"
#include "passes/derivatives.h"

namespace gradc {
namespace {

bool has_reach(Opcode code) {
  return code == Opcode::call_ || code == Opcode::fused_ || code == Opcode::scan_;
}

}  // namespace

bool Reach::join(std::size_t row, const Reach& other, std::size_t other_row) {
  bool changed = false;
  for (std::size_t w = 0; w < words_; ++w) {
    std::uint64_t& mine = bits_[row * words_ + w];
    const std::uint64_t both = mine | other.bits_[other_row * words_ + w];
    changed |= both != mine;
    mine = both;
  }
  return changed;
}

bool passes_gradient(const Function& f, const Op& op, std::size_t k) {
  if (!is_real(f.type(op.operands[k]).dtype)) return false;
  const Derivative& d = derivative(op.code);
  switch (d.kind) {
    case Derivative::Kind::none: return false;
    case Derivative::Kind::formula: return !d.of[k].is_stop();
    case Derivative::Kind::walker: return true;
  }
  return false;
}

Activity::Activity(const Program& program, FunctionId root, const std::vector<std::uint32_t>& wrt)
    : program_(program), functions_(reachable(program, {root})), of_(program.functions.size()) {
  // Initialisers of parameters come along with what is reachable; nothing marks them.
  for (FunctionId f : functions_) {
    const Function& fn = program.function(f);
    PerFunction& of = of_[f.index];
    of.varied.assign(fn.values.size(), 0);
    of.wanted.assign(fn.values.size(), 0);
    of.slots.resize(fn.regions.size());
    of.reach.resize(fn.regions.size());
    walk(
        fn, [](RegionId, OpId) {}, [](OpId) {},
        [&](RegionId r, OpId owner) {
          of.inner_first.push_back(r);
          of.slots[r.index].assign(fn.regions[r.index].results.size(), 0);
          if (f == root && !owner.valid()) return;
          of.reach[r.index] = reach_of(f, r);
          if (owner.valid() && fn.op(owner).code == Opcode::scan_) close_scan(f, owner);
        });
  }
  const Region& body = program.function(root).body();
  for (std::uint32_t i : wrt)
    if (is_real(program.function(root).type(body.arguments[i]).dtype))
      of_[root.index].varied[body.arguments[i].index] = 1;
  std::fill(of_[root.index].slots[0].begin(), of_[root.index].slots[0].end(), 1);
  for (auto f = functions_.rbegin(); f != functions_.rend(); ++f)
    for (auto r = regions(*f).rbegin(); r != regions(*f).rend(); ++r) {
      forward(*f, *r);
      backward(*f, *r);
    }
}

bool Activity::active(FunctionId f, const Op& op) const {
  return std::any_of(op.results.begin(), op.results.end(), [&](ValueId v) { return wanted(f, v); });
}

const Reach& Activity::reach(FunctionId f, OpId id) const {
  const Op& op = program_.function(f).op(id);
  const PerFunction& of = of_[f.index];
  if (op.code == Opcode::call_) return of_[op.attr.callee.index].reach[0];
  if (op.code == Opcode::scan_) return of.scans.at(id.index);
  return of.reach[op.regions[0].index];
}

Reach Activity::reach_of(FunctionId f, RegionId r) {
  const Function& fn = program_.function(f);
  const Region& region = fn.regions[r.index];
  // Rows by position in the region: its arguments, then the results of its operations.
  std::unordered_map<std::uint32_t, std::size_t> row;
  for (ValueId v : region.arguments) row.emplace(v.index, row.size());
  for (OpId o : region.ops)
    for (ValueId v : fn.op(o).results) row.emplace(v.index, row.size());
  const std::size_t arguments = region.arguments.size();
  Reach all(row.size(), arguments);
  for (std::size_t i = 0; i < arguments; ++i)
    if (is_real(fn.type(region.arguments[i]).dtype)) all.set(i, i);
  for (OpId o : region.ops) {
    const Op& op = fn.op(o);
    for (std::size_t i = 0; i < op.results.size(); ++i) {
      if (!is_real(fn.type(op.results[i]).dtype)) continue;
      for (std::size_t k = 0; k < op.operands.size(); ++k)
        if (passes_gradient(fn, op, k) && (!has_reach(op.code) || reach(f, o)(i, k)))
          all.join(row.at(op.results[i].index), all, row.at(op.operands[k].index));
    }
  }
  Reach out(region.results.size(), arguments);
  for (std::size_t i = 0; i < region.results.size(); ++i)
    if (is_real(fn.type(region.results[i]).dtype))
      out.join(i, all, row.at(region.results[i].index));
  return out;
}

// A state depends on its start, for there may be no turn, and on whatever the states that it
// depends on depend on: closed by repetition, which ends after at most as many rounds as there are
// states.
void Activity::close_scan(FunctionId f, OpId id) {
  const Function& fn = program_.function(f);
  const Op& op = fn.op(id);
  const Region& region = fn.regions[op.regions[0].index];
  Reach out = of_[f.index].reach[op.regions[0].index];
  const std::size_t states = op.attr.carried;
  for (std::size_t i = 0; i < states; ++i)
    if (is_real(fn.type(region.arguments[i]).dtype)) out.set(i, i);
  for (bool changed = true; changed;) {
    changed = false;
    for (std::size_t i = 0; i < op.results.size(); ++i)
      for (std::size_t s = 0; s < states; ++s)
        if (s != i && out(i, s)) changed |= out.join(i, out, s);
  }
  of_[f.index].scans.insert_or_assign(id.index, std::move(out));
}

void Activity::forward(FunctionId f, RegionId r) {
  const Function& fn = program_.function(f);
  std::vector<char>& varied = of_[f.index].varied;
  const auto mark = [](char& flag, bool also) { flag = flag || also; };
  for (OpId o : fn.regions[r.index].ops) {
    const Op& op = fn.op(o);
    const auto depends = [&](std::size_t k) {
      return varied[op.operands[k].index] && passes_gradient(fn, op, k);
    };
    for (std::size_t i = 0; i < op.results.size(); ++i) {
      if (!is_real(fn.type(op.results[i]).dtype)) continue;
      for (std::size_t k = 0; k < op.operands.size(); ++k)
        if (depends(k) && (!has_reach(op.code) || reach(f, o)(i, k)))
          varied[op.results[i].index] = 1;
    }
    if (!has_reach(op.code)) continue;
    const bool call = op.code == Opcode::call_;
    std::vector<char>& inner = call ? of_[op.attr.callee.index].varied : varied;
    const Region& body =
        call ? program_.function(op.attr.callee).body() : fn.regions[op.regions[0].index];
    for (std::size_t k = 0; k < op.operands.size(); ++k) {
      mark(inner[body.arguments[k].index], depends(k));
      // Through the turns of a scan a state varies as soon as what it depends on does.
      if (op.code == Opcode::scan_ && k < op.attr.carried)
        mark(inner[body.arguments[k].index], varied[op.results[k].index] != 0);
    }
  }
}

void Activity::backward(FunctionId f, RegionId r) {
  const Function& fn = program_.function(f);
  PerFunction& of = of_[f.index];
  const Region& region = fn.regions[r.index];
  for (std::size_t i = 0; i < region.results.size(); ++i) {
    char& slot = of.slots[r.index][i];
    slot = slot && of.varied[region.results[i].index];
    if (slot) of.wanted[region.results[i].index] = 1;
  }
  for (auto o = region.ops.rbegin(); o != region.ops.rend(); ++o) {
    const Op& op = fn.op(*o);
    if (!active(f, op)) continue;
    if (op.code == Opcode::launch_) launches_ = true;
    const bool matrix = has_reach(op.code);
    for (std::size_t k = 0; k < op.operands.size(); ++k) {
      if (!of.varied[op.operands[k].index] || !passes_gradient(fn, op, k)) continue;
      for (std::size_t i = 0; i < op.results.size(); ++i)
        if (of.wanted[op.results[i].index] && (!matrix || reach(f, *o)(i, k)))
          of.wanted[op.operands[k].index] = 1;
    }
    if (!matrix) continue;
    const bool call = op.code == Opcode::call_;
    std::vector<char>& slots =
        call ? of_[op.attr.callee.index].slots[0] : of.slots[op.regions[0].index];
    for (std::size_t i = 0; i < op.results.size(); ++i) {
      if (!of.wanted[op.results[i].index]) continue;
      slots[i] = 1;
      // A cotangent that arrives at a state comes back to the state that the turn before left.
      if (op.code == Opcode::scan_)
        for (std::size_t s = 0; s < op.attr.carried; ++s)
          if (reach(f, *o)(i, s)) slots[s] = 1;
    }
  }
}

}  // namespace gradc
