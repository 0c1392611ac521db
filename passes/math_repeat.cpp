// Calls in a row of one function, as a `repeat` of the mathematical printer.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "passes/math_print.h"

namespace gradc::math {

std::vector<Printer::Carry> Printer::carried(const Function& f, const std::vector<OpId>& calls) {
  std::vector<Carry> out;
  if (calls.size() < 2) return out;
  const Op& first = f.op(calls[0]);
  const Op& second = f.op(calls[1]);
  for (std::size_t a = 0; a < second.operands.size(); ++a)
    for (std::size_t r = 0; r < first.results.size(); ++r)
      if (second.operands[a] == first.results[r]) out.push_back({a, r});
  return out;
}

void Printer::bind_starts(Sheet& s) {
  std::vector<std::uint32_t> by_calls(s.f.values.size(), 0);
  for (const Op& op : s.f.ops)
    if (op.code == Opcode::call_)
      for (ValueId v : op.operands) ++by_calls[v.index];
  std::set<std::uint32_t> seen;
  for (OpId id : s.f.body().ops) {
    const Op& op = s.f.op(id);
    if (op.code != Opcode::call_ || !seen.insert(op.attr.callee.index).second) continue;
    const Function& callee = p_.function(op.attr.callee);
    const Sheet names(p_, layouts_, callee, constants_, invented_);
    for (const Carry& c : carried(s.f, calls_in(s.f, s.f.body(), op.attr.callee))) {
      const ValueId start = op.operands[c.argument];
      const std::string name = names.own_name(callee.body().arguments[c.argument], true);
      const std::string own = s.own_name(start, true);
      if (by_calls[start.index] == s.uses[start.index] && (own.empty() || own == name) &&
          s.f.value(start).def.valid())
        bound_[{&s.f, start.index}] = name, s.reserve(name);
    }
  }
}
std::vector<OpId> Printer::calls_in(const Function& f, const Region& in, FunctionId callee) {
  std::vector<OpId> out;
  for (OpId o : in.ops)
    if (f.op(o).code == Opcode::call_ && f.op(o).attr.callee == callee) out.push_back(o);
  return out;
}

void Printer::call_of(Sheet& s, const Region& in, OpId id) {
  const Op& op = s.f.op(id);
  const std::vector<OpId> calls = calls_in(s.f, in, op.attr.callee);
  if (calls[0] != id) return;  // a later turn of what stands there already
  const Function& callee = p_.function(op.attr.callee);
  const std::vector<Carry> carry = carried(s.f, calls);
  Sheet& inner = new_sheet(op.attr.callee);
  const std::vector<std::string> names = pass_arguments(s, op, inner, carry);
  const bool backward = p_.location(op.loc).role == Role::gradient;
  line(fmt::format(
      "repeat {} {{{}", calls.size(),
      backward ? "  # the last turn first; what forward made, as it was in that turn" : ""));
  ++depth_;
  function(inner);
  for (const Carry& c : carry) {
    const ValueId r = callee.body().results[c.result];
    equation(inner, names[c.argument], callee.type(r), inner.term(r));
  }
  kept(s, op, inner);
  --depth_;
  line("}");
  after_turns(s, calls, carry, inner, names);
}
void Printer::kept(const Sheet& s, const Op& call, const Sheet& inner) {
  std::vector<std::string> names;
  for (std::size_t r = 0; r < call.results.size(); ++r)
    if (in_bundle(s.f, call.results[r]) && p_.location(call.loc).role == Role::forward)
      names.push_back(show(inner.term(inner.f.body().results[r])));
  if (!names.empty()) line(fmt::format("# kept for backward: {}", fmt::join(names, ", ")));
}
bool Printer::rebinds(const Function& f, ValueId formal, ValueId result) {
  const OpId def = f.value(result).def;
  if (!def.valid()) return false;
  for (OpId o : f.body().ops) {
    if (o.index <= def.index) continue;
    const std::vector<ValueId>& operands = f.op(o).operands;
    if (std::find(operands.begin(), operands.end(), formal) != operands.end()) return false;
  }
  return true;
}
const Term* Printer::saved_term(const Sheet& s, ValueId v) const {
  const OpId def = s.f.value(v).def;
  if (!def.valid() || s.f.op(def).code != Opcode::call_) return nullptr;
  const Op& call = s.f.op(def);
  const auto it = sheets_.find(call.attr.callee.index);
  if (it == sheets_.end()) return nullptr;
  if (!in_bundle(s.f, v)) return nullptr;
  const auto r = std::find(call.results.begin(), call.results.end(), v) - call.results.begin();
  const Function& callee = p_.function(call.attr.callee);
  return &it->second->term(callee.body().results[static_cast<std::size_t>(r)]);
}
void Printer::after_turns(Sheet& s, const std::vector<OpId>& calls, const std::vector<Carry>& carry,
                          const Sheet& inner, const std::vector<std::string>& names) {
  std::set<std::uint32_t> read;  // by others than calls
  for (const Op& op : s.f.ops)
    if (op.code != Opcode::call_)
      for (ValueId v : op.operands) read.insert(v.index);
  for (std::size_t n = 0; n < calls.size(); ++n) {
    const Op& call = s.f.op(calls[n]);
    const bool backward = p_.location(call.loc).role == Role::gradient;
    const std::size_t turn = backward ? calls.size() - 1 - n : n;
    for (std::size_t r = 0; r < call.results.size(); ++r) {
      const ValueId v = call.results[r];
      const auto c =
          std::find_if(carry.begin(), carry.end(), [&](const Carry& x) { return x.result == r; });
      const bool handed_on = c != carry.end();
      const std::string base =
          handed_on ? names[c->argument] : show(inner.term(inner.f.body().results[r]));
      s.reserve(base);
      const bool by_turn = !handed_on && calls.size() > 1;
      const std::string name = by_turn ? s.fresh(fmt::format("{}_turn{}", base, turn)) : base;
      s.terms[v.index] = light(name);
      if (by_turn && read.contains(v.index))
        line(fmt::format("# {}: {} of turn {}", name, base, turn));
    }
  }
}

std::vector<std::string> Printer::pass_arguments(Sheet& s, const Op& call, Sheet& inner,
                                                 const std::vector<Carry>& carry) {
  const Function& callee = inner.f;
  const std::vector<ValueId>& formals = callee.body().arguments;
  // What stands for itself first, so that local names keep clear of it.
  for (std::size_t a = 0; a < formals.size(); ++a)
    if (const Term* known = saved_term(s, call.operands[a])) {
      inner.terms[formals[a].index] = *known;
      inner.reserve(show(*known));
    }
  std::vector<std::string> names(formals.size());
  for (const Carry& c : carry) {
    names[c.argument] = inner.fresh(inner.own_name(formals[c.argument], true));
    const ValueId r = callee.body().results[c.result];
    if (rebinds(callee, formals[c.argument], r)) bound_[{&callee, r.index}] = names[c.argument];
  }
  for (std::size_t a = 0; a < formals.size(); ++a) {
    Term& t = inner.terms[formals[a].index];
    if (!t.word.empty()) continue;
    if (names[a].empty()) names[a] = argument_name(inner, formals[a]);
    t = light(names[a]);
    const bool parameter =
        in_bundle(s.f, call.operands[a]) && !s.f.value(call.operands[a]).def.valid();
    if (!parameter && !callee.type(formals[a]).axes.empty())
      equation(s, names[a], s.f.type(call.operands[a]), s.term(call.operands[a]));
  }
  return names;
}

}  // namespace gradc::math
