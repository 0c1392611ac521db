// Times of life in a planned function.
#include <algorithm>
#include <map>

#include "passes/plan.h"

namespace gradc::planning {
namespace {

bool looks_only(const Op& op) {
  return op.code == Opcode::concat_ || op.code == Opcode::flat_ ||
         (facts(op.code).kind == Kind::view && op.code != Opcode::expand_ &&
          op.operands.size() == 1);
}

// The gradients: results in their arena, what is joined to them, and what they are written over (a
// sum so far).
std::vector<char> gradients(const Function& f) {
  std::vector<char> out(f.values.size(), 0);
  const auto there = [&](ValueId v) { return f.placed[v.index].arena == Arena::gradients; };
  for (ValueId v : f.body().results) out[v.index] = there(v);
  for (auto o = f.body().ops.rbegin(); o != f.body().ops.rend(); ++o) {
    const Op& op = f.op(*o);
    if (!looks_only(op)) {
      for (ValueId v : op.results)
        for (ValueId x : op.operands)
          out[x.index] |= out[v.index] && there(x) &&
                          f.placed[x.index].offset == f.placed[v.index].offset;
      continue;
    }
    const bool whole = op.code == Opcode::flat_ && there(op.results[0]);
    for (ValueId v : op.operands) out[v.index] |= whole || out[op.results[0].index];
  }
  return out;
}

// What was written: a view with the place of its operand looks at it.
ValueId looked_at(const Function& f, ValueId v) {
  for (OpId d = f.value(v).def;
       d.valid() && f.op(d).operands.size() == 1 && looks_only(f.op(d)) &&
       f.placed[f.op(d).operands[0].index].offset == f.placed[v.index].offset;
       d = f.value(v).def)
    v = f.op(d).operands[0];
  return v;
}

}  // namespace

std::vector<Life> lives(const Function& f) {
  const std::vector<OpId>& ops = f.body().ops;
  const std::int64_t n = static_cast<std::int64_t>(ops.size());
  std::vector<std::int64_t> last(f.values.size(), -1);
  for (ValueId v : f.body().results) last[v.index] = n;
  for (std::int64_t t = n; t-- > 0;) {
    const Op& op = f.op(ops[static_cast<std::size_t>(t)]);
    const std::int64_t need = looks_only(op) ? last[op.results[0].index] : t;
    for (ValueId v : op.operands) last[v.index] = std::max(last[v.index], need);
  }
  const std::vector<char> gradient = gradients(f);
  std::vector<Life> out;
  std::map<std::uint32_t, std::size_t> by_value;
  for (std::int64_t t = 0; t < n; ++t) {
    const Op& op = f.op(ops[static_cast<std::size_t>(t)]);
    if (looks_only(op)) continue;
    for (ValueId v : op.results) {
      const Placement& p = f.placed[v.index];
      if (p.arena != Arena::activations && (p.arena != Arena::gradients || gradient[v.index]))
        continue;
      // Written over an operand: that one's bytes are this one's.
      for (ValueId operand : op.operands) {
        const ValueId x = looked_at(f, operand);
        if (const auto it = by_value.find(x.index); it != by_value.end() && last[x.index] == t &&
                                                    f.placed[x.index].arena == p.arena &&
                                                    f.placed[x.index].offset == p.offset)
          out[it->second].last = t - 1, out[it->second].overwritten = true;
      }
      by_value[v.index] = out.size();
      out.push_back(
          {v, f.elements(f.type(v)) * bytes(f.type(v).dtype), t, std::max(last[v.index], t)});
    }
  }
  return out;
}

}  // namespace gradc::planning
