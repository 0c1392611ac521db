// The forms of softmax and attention, read off a region's operations.
#include "ir/attention.h"

#include <algorithm>
#include <limits>

#include "ir/kernel.h"

namespace gradc {
namespace {

const Op* def(const Function& f, ValueId v, Opcode code) {
  const Op* op = f.definition(v);
  return op != nullptr && op->code == code ? op : nullptr;
}
bool is_number(const Function& f, ValueId v, double x) {
  const Op* op = def(f, v, Opcode::constant_);
  return op != nullptr && is_real(f.type(v).dtype) && op->attr.real == x;
}

// select(eq(x, tested), otherwise, x): x but for one number. Gives x, or `v` itself.
ValueId unguarded(const Function& f, ValueId v, double tested, double otherwise, bool& guarded) {
  guarded = false;
  const Op* select = def(f, v, Opcode::select_);
  if (select == nullptr || !is_number(f, select->operands[1], otherwise)) return v;
  const Op* test = def(f, select->operands[0], Opcode::eq_);
  if (test == nullptr) return v;
  const ValueId x = select->operands[2];
  for (const std::size_t i : {0, 1})
    if (test->operands[i] == x && is_number(f, test->operands[1 - i], tested)) {
      guarded = true;
      return x;
    }
  return v;
}

constexpr double infinity = std::numeric_limits<double>::infinity();

bool in_region(const Region& region, ValueId v) {
  return std::find(region.arguments.begin(), region.arguments.end(), v) != region.arguments.end();
}

// A cast of an argument, for a contraction: it has the argument's axes and not the scores'.
bool is_argument_cast(const Region& region, const Op& op) {
  return op.code == Opcode::cast_ && in_region(region, op.operands[0]);
}

// What may stand beside contractions and softmax.
bool is_free(const Function& f, const Op& op) {
  return is_elementwise(op.code) || facts(op.code).kind == Kind::source ||
         op.code == Opcode::expand_ || is_address(f, op);
}

// The roles of a score's axes from its operands: "" or why there are none.
std::string roles_of(const Function& f, const Op& score, AxisId& keys, AxisList& rows,
                     AxisList& batch) {
  const AxisList& q = f.type(score.operands[0]).axes;
  const AxisList& k = f.type(score.operands[1]).axes;
  int only_k = 0;
  rows = batch = {};
  for (AxisId a : f.type(score.results[0]).axes) {
    if (!q.contains(a)) {
      keys = a;
      ++only_k;
    } else {
      (k.contains(a) ? batch : rows).push_back(a);
    }
  }
  return only_k == 1 ? "" : "the keys have not one axis that the queries lack";
}

}  // namespace

ValueId argument_of(const Function& f, const Region& region, ValueId operand) {
  if (in_region(region, operand)) return operand;
  const Op* op = f.definition(operand);
  return op != nullptr && is_argument_cast(region, *op) ? op->operands[0] : ValueId{};
}

bool softmax_form(const Function& f, ValueId weight, SoftmaxForm& out) {
  const Op* quotient = def(f, weight, Opcode::div_);
  if (quotient == nullptr) return false;
  SoftmaxForm s;
  s.weight = weight;
  s.exp = quotient->operands[0];
  s.norm = quotient->operands[1];
  bool guarded_norm = false, guarded_shift = false;
  s.sum = unguarded(f, s.norm, 0, 1, guarded_norm);
  const Op* sum = def(f, s.sum, Opcode::sum_);
  const Op* exp = def(f, s.exp, Opcode::exp_);
  if (sum == nullptr || exp == nullptr || sum->operands[0] != s.exp || sum->attr.axes.size() != 1)
    return false;
  s.axis = sum->attr.axes[0];
  const Op* centred = def(f, exp->operands[0], Opcode::sub_);
  if (centred == nullptr) return false;
  s.x = centred->operands[0];
  s.shift = centred->operands[1];
  const Op* stop = def(f, s.shift, Opcode::stop_);
  s.max = unguarded(f, stop != nullptr ? stop->operands[0] : s.shift, -infinity, 0, guarded_shift);
  const Op* max = def(f, s.max, Opcode::amax_);
  if (max == nullptr || max->operands[0] != s.x || max->attr.axes != sum->attr.axes ||
      guarded_norm != guarded_shift || !same_set(f.type(s.x).axes, f.type(weight).axes))
    return false;
  s.guarded = guarded_norm;
  out = s;
  return true;
}

SoftmaxForm build_softmax(Builder& to, ValueId x, AxisId axis, bool guarded) {
  SoftmaxForm s;
  const Type type = to.type(x);
  s.axis = axis;
  s.x = x;
  s.guarded = guarded;
  s.max = to.reduce(Opcode::amax_, x, {axis});
  ValueId shift = s.max;
  if (guarded) {
    const ValueId lowest = to.constant(-infinity, type.dtype);
    const ValueId empty = to.binary(Opcode::eq_, s.max, lowest);
    const ValueId zero = to.constant(0, type.dtype);
    shift = to.add(Opcode::select_, {empty, zero, s.max}, {}, to.type(s.max));
  }
  s.shift = to.unary(Opcode::stop_, shift);
  const ValueId centred = to.add(Opcode::sub_, {x, s.shift}, {}, type);
  s.exp = to.unary(Opcode::exp_, centred);
  s.sum = to.sum(s.exp, {axis});
  s.norm = s.sum;
  if (guarded) {
    const ValueId zero = to.constant(0, type.dtype);
    const ValueId empty = to.binary(Opcode::eq_, s.sum, zero);
    const ValueId one = to.constant(1, type.dtype);
    s.norm = to.add(Opcode::select_, {empty, one, s.sum}, {}, to.type(s.sum));
  }
  s.weight = to.add(Opcode::div_, {s.exp, s.norm}, {}, type);
  return s;
}

ValueId build_lse(Builder& to, const SoftmaxForm& softmax) {
  const ValueId log = to.unary(Opcode::log_, softmax.norm);
  return to.binary(Opcode::add_, softmax.shift, log);
}

std::string attention_form(const Function& f, const Region& region, AttentionForm& out) {
  AttentionForm a;
  std::vector<OpId> contractions;
  for (OpId o : region.ops)
    if (f.op(o).code == Opcode::contract_) contractions.push_back(o);
  if (contractions.size() != 2) return "there are not two contractions";
  a.score = contractions[0];
  a.sum = contractions[1];
  const Op& score = f.op(a.score);
  const Op& sum = f.op(a.sum);
  a.q = argument_of(f, region, score.operands[0]);
  a.k = argument_of(f, region, score.operands[1]);
  a.weights = sum.operands[0];
  a.u = argument_of(f, region, sum.operands[1]);
  a.out = sum.results[0];
  for (ValueId v : {a.q, a.k, a.u})
    if (!v.valid()) return "an operand of a contraction is no argument";
  if (std::string why = roles_of(f, score, a.keys, a.rows, a.batch); !why.empty()) return why;
  const AxisList& axes = f.type(score.results[0]).axes;
  // The softmax is that of the region's only maximum.
  bool found = false;
  for (OpId o : region.ops)
    if (f.op(o).code == Opcode::div_ && softmax_form(f, f.op(o).results[0], a.softmax)) {
      if (found) return "there are two softmaxes";
      found = true;
    }
  if (!found) return "there is no softmax";
  const SoftmaxForm& s = a.softmax;
  if (s.axis != a.keys) return "the softmax is not over the keys";
  if (!same_set(f.type(s.x).axes, axes)) return "the softmax has not the axes of the scores";
  if (!same_set(f.type(a.weights).axes, axes)) return "the weights have not the axes of the scores";
  if (!f.type(a.u).axes.contains(a.keys)) return "the values have not the axis of the keys";
  if (f.type(a.out).axes.contains(a.keys)) return "the weighted sum is not over the keys";
  for (AxisId x : axes)
    if (x != a.keys && !f.type(a.out).axes.contains(x))
      return "the weighted sum is over more than the keys";
  for (AxisId x : f.type(a.u).axes)
    if (!axes.contains(x) && !f.type(a.out).axes.contains(x))
      return "the weighted sum is over features of the values";
  for (AxisId x : f.type(a.u).axes)
    if (a.rows.contains(x)) return "the values have an axis of the rows";
  // What depends on what: the scores reach the softmax through the map alone, the weights the sum.
  enum : char { outside, of_score, inside, of_weight, after };
  std::vector<char> part(f.values.size(), outside);
  std::vector<ValueId> inner{s.max, s.exp, s.sum, s.weight};
  for (OpId o : region.ops) {
    const Op& op = f.op(o);
    if (op.results.size() != 1) return "an operation has several results";
    const ValueId r = op.results[0];
    if (o == a.score) {
      part[r.index] = of_score;
      continue;
    }
    if (o == a.sum) {
      part[r.index] = after;
      continue;
    }
    char from = outside;
    for (ValueId v : op.operands) from = std::max(from, part[v.index]);
    if (r == s.weight) {
      part[r.index] = of_weight;
      continue;
    }
    if (is_argument_cast(region, op)) continue;
    if (op.code == Opcode::cast_ && op.operands[0] == a.out) {
      part[r.index] = after;
      continue;
    }
    const bool reduction = facts(op.code).kind == Kind::reduce;
    if (reduction && r != s.max && r != s.sum) return "there is another reduction";
    if (!reduction && !is_free(f, op)) return "an operation has no place in it";
    if (!reduction && !is_address(f, op) && !axes.contains_all(f.type(r).axes))
      return "a value has axes that the scores lack";
    part[r.index] = r == s.max || from == inside ? static_cast<char>(inside) : from;
    if (from == after) return "something stands behind the weighted sum";
  }
  if (part[s.x.index] != of_score) return "the softmax is not one of the scores";
  if (part[a.weights.index] != of_weight) return "the weighted sum is not one of the weights";
  if (part[a.q.index] != outside || part[a.k.index] != outside) return "a contraction of results";
  // The weight map may read nothing of the scores beside the weight.
  for (OpId o : region.ops) {
    const Op& op = f.op(o);
    if (part[op.results[0].index] != of_weight || op.results[0] == s.weight || o == a.sum) continue;
    for (ValueId v : op.operands)
      if (part[v.index] == of_score || part[v.index] == inside)
        return "what follows the softmax reads scores";
  }
  const Op* result = region.results.empty() ? nullptr : f.definition(region.results[0]);
  if (result == nullptr || (region.results[0] != a.out &&
                            (result->code != Opcode::cast_ || result->operands[0] != a.out)))
    return "its first result is not the weighted sum";
  if (region.results.size() > 2) return "there are more than two results";
  if (region.results.size() == 2) {
    a.lse = region.results[1];
    const Op* lse = def(f, a.lse, Opcode::add_);
    const Op* log = lse == nullptr ? nullptr : def(f, lse->operands[1], Opcode::log_);
    if (log == nullptr || lse->operands[0] != s.shift || log->operands[0] != s.norm)
      return "its second result is not the logarithm of the sum";
  }
  out = a;
  return "";
}

std::string attention_grad_form(const Function& f, const Region& region, AttentionGradForm& out) {
  AttentionGradForm g;
  AxisList axes;
  std::vector<char> tile(f.values.size(), 0), result(f.values.size(), 0);
  for (OpId o : region.ops) {
    const Op& op = f.op(o);
    if (op.results.size() != 1) return "an operation has several results";
    const ValueId r = op.results[0];
    if (op.code == Opcode::cast_ && result[op.operands[0].index] == 1 &&
        f.definition(op.operands[0])->code == Opcode::contract_) {
      result[r.index] = 2;  // nothing stands behind it
      continue;
    }
    for (ValueId v : op.operands)
      if (result[v.index]) return "something stands behind a sum";
    if (is_argument_cast(region, op)) continue;
    const auto is_tile = [&](ValueId v) { return tile[v.index] != 0; };
    if (op.code == Opcode::contract_ && argument_of(f, region, op.operands[0]).valid() &&
        argument_of(f, region, op.operands[1]).valid()) {
      if (g.scores.empty()) {
        if (std::string why = roles_of(f, op, g.keys, g.rows, g.batch); !why.empty()) return why;
        axes = f.type(r).axes;
      }
      if (!same_set(f.type(r).axes, axes)) return "two contractions have different axes";
      g.scores.push_back(o);
      tile[r.index] = 1;
      continue;
    }
    if (g.scores.empty() && !is_free(f, op)) return "the first contraction is not the scores'";
    if (op.code == Opcode::contract_) {
      if (!is_tile(op.operands[0]) || !argument_of(f, region, op.operands[1]).valid() ||
          !same_set(f.type(op.operands[0]).axes, axes))
        return "a contraction is not one of a tile and an argument";
      const AxisList& left = f.type(r).axes;
      bool rows = false, all_rows = true;
      for (AxisId a : g.rows) {
        rows = rows || left.contains(a);
        all_rows = all_rows && left.contains(a);
      }
      const bool keys = left.contains(g.keys);
      if (!(keys && !rows) && !(!keys && all_rows)) return "a contraction keeps rows and keys";
      result[r.index] = 1;
      g.sums.push_back(o);
    } else if (op.code == Opcode::sum_ || op.code == Opcode::scatter_) {
      if (op.code == Opcode::scatter_ && op.operands.size() != 2) return "a scatter has a base";
      if (!axes.contains_all(f.type(op.operands[0]).axes)) return "a sum is not one of a tile";
      result[r.index] = 1;
      g.sums.push_back(o);
    } else if (!is_free(f, op)) {
      return "an operation has no place in it";
    } else {
      for (ValueId v : op.operands) tile[r.index] |= tile[v.index];
      if (!is_address(f, op) && !axes.contains_all(f.type(r).axes) && !axes.empty())
        return "a value has axes that the scores lack";
    }
  }
  if (g.scores.empty()) return "there is no score";
  for (ValueId v : region.results)
    if (!result[v.index]) return "a result is no sum of a tile";
  out = std::move(g);
  return "";
}

}  // namespace gradc
