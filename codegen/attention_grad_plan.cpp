// The plan of attention's gradient: which axes its loops have, where its sums grow, and whether
// excluded tiles may be left out.
#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "codegen/attention_grad.h"
#include "ir/text.h"

namespace gradc {
namespace {

// A result is small while one slot for every batch position that it lacks takes no more elements.
constexpr std::int64_t most_small = std::int64_t{1} << 20;
// Fewer outer positions than this make chunks of keys, as long as their slots take no more
// elements.
constexpr std::int64_t few_outer = 4, most_slots = std::int64_t{1} << 24;

// The exponential whose operand is x − …, x being a select with −∞: the recomputed weights.
std::vector<Condition> find_conditions(const Function& f, AxisId keys, ValueId& weight) {
  for (OpId o : f.body().ops) {
    const Op& op = f.op(o);
    const Op* centred = op.code == Opcode::exp_ ? f.definition(op.operands[0]) : nullptr;
    if (centred == nullptr || centred->code != Opcode::sub_) continue;
    if (!f.type(centred->operands[0]).axes.contains(keys)) continue;
    std::vector<Condition> found = conditions_of(f, centred->operands[0]);
    if (found.empty()) continue;
    weight = op.results[0];
    return found;
  }
  return {};
}

// Which values are 0 wherever the conditions exclude a score, given that the weights are.
std::vector<char> vanishing(const Function& f, ValueId weight,
                            const std::vector<Condition>& conditions) {
  std::vector<char> zero(f.values.size());
  if (!weight.valid()) return zero;
  for (OpId o : f.body().ops) {
    const Op& op = f.op(o);
    const ValueId r = op.results[0];
    const auto is = [&](std::size_t i) { return zero[op.operands[i].index] != 0; };
    switch (op.code) {
      case Opcode::constant_:
        zero[r.index] = is_real(f.type(r).dtype) && op.attr.real == 0;
        break;
      case Opcode::mul_:
        zero[r.index] = is(0) || is(1);
        break;
      case Opcode::add_:
      case Opcode::sub_:
        zero[r.index] = is(0) && is(1);
        break;
      case Opcode::div_:
      case Opcode::neg_:
      case Opcode::cast_:
      case Opcode::stop_:
      case Opcode::expand_:
        zero[r.index] = is(0);
        break;
      case Opcode::select_: {
        const bool decides = conditions.size() == 1 && conditions[0].value == op.operands[0];
        zero[r.index] = (is(1) && is(2)) || (decides && is(conditions[0].keeps ? 2 : 1));
        break;
      }
      default:
        zero[r.index] = r == weight;
    }
  }
  return zero;
}

}  // namespace

llvm::Value* position_in(Emitter& e, const AxisRole& role, const Point& point) {
  llvm::Value* at = e.i64(0);
  for (AxisId a : role.axes) at = e.add(e.mul(at, e.kernel.extent(a)), point.index[a.index].first);
  return at;
}

namespace {

class Planner {
 public:
  explicit Planner(const Emitter& e) : e_(e), f_(e.kernel) {}

  Result<GradPlan> run() {
    if (std::string why = attention_grad_form(f_, f_.body(), p_.form); !why.empty())
      return failure(Exit::internal, "a kernel of attention's gradient has not its form: " + why);
    ValueId weight;
    p_.conditions = find_conditions(f_, p_.form.keys, weight);
    const std::vector<char> zero = vanishing(f_, weight, p_.conditions);
    for (ValueId r : f_.body().results)
      if (!zero[f_.op(sum_of(r)).operands[0].index]) p_.conditions.clear();
    p_.scores = plan_scores(e_, f_.op(p_.form.scores[0]).results[0], p_.form.keys, p_.form.rows,
                            p_.form.batch, p_.conditions);
    for (OpId o : p_.form.scores)
      for (ValueId v : f_.op(o).operands)
        if (mixed(v) || other_dtype(v)) return refuse(o);
    choose_outer();
    const std::vector<ValueId>& results = f_.body().results;
    for (std::size_t r = 0; r < results.size(); ++r) {
      GradSum sum = describe(static_cast<int>(r), sum_of(results[r]));
      if (other_dtype(f_.op(sum.op).results[0]) || other_dtype(sum.tile) ||
          (sum.argument.valid() && mixed(sum.argument)))
        return refuse(sum.op);
      p_.sums.push_back(std::move(sum));
    }
    choose_chunks();
    for (GradSum& sum : p_.sums) place(sum);
    return std::move(p_);
  }

 private:
  bool has(ValueId v, AxisId a) const { return a.valid() && f_.type(v).axes.contains(a); }
  bool mixed(ValueId argument) const {
    bool rows = false;
    for (AxisId a : p_.form.rows) rows = rows || has(argument, a);
    return rows && has(argument, p_.form.keys);
  }
  bool other_dtype(ValueId v) const { return f_.type(v).dtype != p_.scores.dtype; }
  Failure refuse(OpId o) const {
    return failure(Exit::usage,
                   fmt::format("within attention neither an argument with rows and keys nor a "
                               "second dtype of sums is compiled: {}",
                               print_op(e_.program, f_, o)));
  }
  // The sum that a result is, or is a cast of.
  OpId sum_of(ValueId result) const {
    const OpId def = f_.value(result).def;
    return f_.op(def).code == Opcode::cast_ ? f_.value(f_.op(def).operands[0]).def : def;
  }
  // Axes of a result that are the scores': of a scatter the new axis may have the name of one.
  bool keeps(ValueId r, AxisId a) const {
    const Op& op = f_.op(f_.value(r).def);
    return has(r, a) && !(op.code == Opcode::scatter_ && op.attr.to == a);
  }

  void choose_outer() {
    std::vector<AxisId> outer, inner;
    for (AxisId a : p_.form.batch) {
      bool all = true;
      for (ValueId r : f_.body().results) {
        std::int64_t slots = f_.elements(f_.type(r));
        for (AxisId b : p_.form.batch)
          if (!keeps(r, b)) slots *= f_.extent(b);
        all = all && (slots <= most_small || keeps(r, a));
      }
      (all ? outer : inner).push_back(a);
    }
    p_.outer = role_of(e_, outer);
    p_.inner = role_of(e_, inner);
  }

  AxisRole part(const AxisRole& role, ValueId result, bool kept) const {
    std::vector<AxisId> axes;
    for (AxisId a : role.axes)
      if (keeps(result, a) == kept) axes.push_back(a);
    return role_of(e_, axes);
  }

  GradSum describe(int result, OpId o) const {
    const Op& op = f_.op(o);
    const ValueId r = op.results[0];
    GradSum sum{.op = o, .result = result, .tile = op.operands[0]};
    sum.rows = keeps(r, p_.scores.tiled);
    sum.keys = keeps(r, p_.scores.keys);
    if (op.code == Opcode::contract_) {
      sum.kind = sum.keys ? GradSum::over_rows : GradSum::over_keys;
      sum.rows = !sum.keys;
      sum.argument = argument_of(f_, f_.body(), op.operands[1]);
      sum.features = features_of(e_, p_.scores, sum.argument, sum.argument);
      const ValueId exact = before_rounding(sum.tile);
      sum.pairs = exact.valid() && e_.target.bf16_dot && p_.scores.dtype == DType::f32 &&
                  f_.type(sum.argument).dtype == DType::bf16;
      if (sum.pairs) sum.tile = exact;
    } else if (op.code == Opcode::scatter_) {
      sum.kind = GradSum::scattered;
      sum.index = op.operands[1];
      sum.features = {{op.attr.to}, f_.extent(op.attr.to)};
      sum.columns = sum.features.extent;
    } else {
      sum.kind = GradSum::summed;
      sum.columns = sum.keys ? 1 : p_.scores.lanes;
    }
    sum.outer = part(p_.outer, r, true);
    sum.missing = part(p_.outer, r, false);
    sum.others = part(p_.scores.others, r, true);
    return sum;
  }

  // x of cast(cast(x, bf16), f32); null else.
  ValueId before_rounding(ValueId v) const {
    const Op* widened = f_.definition(v);
    if (widened == nullptr || widened->code != Opcode::cast_) return {};
    const Op* rounded = f_.definition(widened->operands[0]);
    if (rounded == nullptr || rounded->code != Opcode::cast_ ||
        f_.type(rounded->results[0]).dtype != DType::bf16)
      return {};
    return rounded->operands[0];
  }

  void choose_chunks() {
    const Scores& s = p_.scores;
    if (p_.outer.extent >= few_outer || s.key_blocks() < 2 * few_outer) return;
    std::int64_t slots = 0;
    for (const GradSum& sum : p_.sums)
      if (!sum.keys) slots += f_.elements(f_.type(f_.op(sum.op).results[0]));
    if (slots * p_.outer.extent * few_outer <= most_slots) p_.chunks = few_outer;
  }

  void place(GradSum& sum) const {
    const ValueId r = f_.op(sum.op).results[0];
    sum.partial = sum.missing.extent != 1 || (p_.chunks > 1 && !sum.keys);
    sum.direct = !sum.partial && sum.kind == GradSum::summed && sum.rows && sum.keys;
    sum.inner = part(p_.inner, r, true);
    sum.whole = sum.partial || sum.direct || sum.inner.extent != p_.inner.extent;
    if (!sum.whole) sum.inner = {};
  }

  const Emitter& e_;
  const Function& f_;
  GradPlan p_;
};

}  // namespace

Result<GradPlan> plan_grad(const Emitter& e) { return Planner(e).run(); }

}  // namespace gradc
