// The rows of the derivative table, applied to an operation: formulas become operations.
#include <algorithm>
#include <utility>

#include "ir/diagnostic.h"
#include "ir/typing.h"
#include "passes/reverse.h"

namespace gradc {

void Reverse::visit(OpId id) {
  const Op& op = from_.op(id);
  if (!activity_.active(from_id_, op)) return;
  if (std::all_of(op.results.begin(), op.results.end(),
                  [&](ValueId v) { return slots_[v.index].empty(); }))
    return;
  to_.at = gradient_of(op.loc);
  switch (op.code) {
    case Opcode::concat_: return walk_concat(op);
    case Opcode::flat_: return walk_flat(op);
    case Opcode::call_: return walk_call(id);
    case Opcode::fused_: return walk_fused(id);
    case Opcode::scan_: return walk_scan(id);
    default: return apply_row(op);
  }
}

void Reverse::apply_row(const Op& op) {
  if (derivative(op.code).kind != Derivative::Kind::formula)
    internal_error("an operation without a derivative is walked");
  Row row{.op = op, .g = finish(op.results[0]), .made = {}};
  if (op.code == Opcode::relabel_)
    relabel_guard(op, row.g.guard);
  else if (!is_elementwise(op.code) && op.code != Opcode::sum_ && op.code != Opcode::expand_)
    row.g = {cotangent(op.results[0]), {}};
  // An operand used twice: what both uses give is added first, so that x·x gives 2·(g·x).
  const bool twice =
      op.operands.size() == 2 && op.operands[0] == op.operands[1] && is_elementwise(op.code);
  Slot before;
  if (twice) before = std::exchange(slots_[op.operands[0].index], {});
  for (std::size_t k = 0; k < op.operands.size(); ++k)
    if (flows(op, k)) apply_formula(row, k);
  if (!twice || before.empty()) return;
  Slot& slot = slots_[op.operands[0].index];
  if (slot.sum.value.valid()) add_to(before, slot.sum);
  slot = std::move(before);
}

// Where a broadcast operand's cotangent is best summed: below the outermost factors, divisors and
// signs that do not have the axes that go away. −1: at the end.
int Reverse::sum_early(const Row& row, const Formula& formula, const Type& want) {
  using What = Formula::What;
  if (!is_elementwise(row.op.code) || from_lse_) return -1;
  std::array<bool, Formula::capacity> linear{}, wide{};   // has g; has axes that the operand lacks
  for (int n = 0; n < formula.size; ++n) {
    const auto at = static_cast<std::size_t>(n);
    const Formula::Node& node = formula.nodes[at];
    linear[at] = node.what == What::g;
    if (node.what == What::r) wide[at] = true;
    if (node.what == What::a || node.what == What::b || node.what == What::c) {
      const ValueId v =
          row.op.operands[static_cast<std::size_t>(node.what) - static_cast<std::size_t>(What::a)];
      for (AxisId a : from_.type(v).axes) wide[at] = wide[at] || !want.axes.contains(map_(a));
    }
    for (int i = 0; i < node.count; ++i) {
      const auto part = static_cast<std::size_t>(node.of[static_cast<std::size_t>(i)]);
      linear[at] = linear[at] || linear[part];
      wide[at] = wide[at] || wide[part];
    }
  }
  int n = formula.size - 1;
  for (;;) {
    const Formula::Node& node = formula.nodes[static_cast<std::size_t>(n)];
    if (node.what != What::apply) break;
    const auto narrow = [&](int i) {
      return !linear[static_cast<std::size_t>(i)] && !wide[static_cast<std::size_t>(i)];
    };
    if (node.code == Opcode::neg_ || (node.code == Opcode::div_ && narrow(node.of[1])) ||
        (node.code == Opcode::mul_ && narrow(node.of[1])))
      n = node.of[0];
    else if (node.code == Opcode::mul_ && narrow(node.of[0]))
      n = node.of[1];
    else
      break;
  }
  return n + 1 == formula.size ? -1 : n;
}

void Reverse::apply_formula(Row& row, std::size_t k) {
  using What = Formula::What;
  const Op& op = row.op;
  const Formula& formula = derivative(op.code).of[k];
  Type want = map_(from_.type(op.operands[k]));
  if (from_lse_) {
    if (is_elementwise(op.code) || op.code == Opcode::expand_) {
      want = cotangent_type(op.operands[k]);
    } else if (op.code != Opcode::contract_) {
      const AxisList own = map_(from_.type(op.results[0])).axes;
      for (AxisId a : to_.type(row.g.value).axes)
        if (!own.contains(a)) want.axes = want.axes.with(a);
    }
  }
  const int early = sum_early(row, formula, want);
  std::array<ValueId, Formula::capacity> made;
  Guard guard = row.g.guard;
  for (int n = 0; n < formula.size; ++n) {
    const auto at = static_cast<std::size_t>(n);
    const Formula::Node& node = formula.nodes[at];
    const bool root = n + 1 == formula.size;
    std::vector<ValueId> parts;
    for (int i = 0; i < node.count; ++i)
      parts.push_back(made[static_cast<std::size_t>(node.of[static_cast<std::size_t>(i)])]);
    switch (node.what) {
      case What::g: made[at] = row.g.value; break;
      case What::r: made[at] = primal(op.results[0]); break;
      case What::a:
      case What::b:
      case What::c: {
        const ValueId v =
            op.operands[static_cast<std::size_t>(node.what) - static_cast<std::size_t>(What::a)];
        // A word under zeros() stands for its type alone.
        const bool only_type = !root && formula.nodes[at + 1].what == What::zeros;
        made[at] = only_type ? zeros(map_(from_.type(v))) : primal(v);
        break;
      }
      case What::number: made[at] = constant(node.number, to_.type(row.g.value).dtype); break;
      case What::zeros: made[at] = parts[0]; break;
      case What::only:
      case What::unless:
        made[at] = parts[0];
        if (const Condition more{parts[1], node.what == What::only};
            std::find(guard.begin(), guard.end(), more) == guard.end())
          guard.push_back(more);
        break;
      case What::apply:
        if (root && contribute_in_place(op, node.code, k, parts[0])) return;
        made[at] = apply_node(row, node.code, parts, root ? &want : nullptr);
        break;
    }
    if (n == early) {
      Cotangent c = narrowed({made[at], guard}, want);
      made[at] = c.value;
      guard = std::move(c.guard);
    }
  }
  contribute(op.operands[k], {made[static_cast<std::size_t>(formula.size - 1)], guard});
}

// A pick's or slice's cotangent lies along an axis of the operand, perhaps side by side with
// others: kept apart until all have come. True if `code` is the adjoint of such an operation.
bool Reverse::contribute_in_place(const Op& op, Opcode code, std::size_t k, ValueId value) {
  if ((code != Opcode::place_ && code != Opcode::pad_) || op.operands.size() != 1 ||
      op.attr.stride != 1 || from_lse_)
    return false;
  const ValueId v = op.operands[k];
  if (code == Opcode::place_) {
    contribute_at(v, {value, map_(op.attr.from), {}, op.attr.integer, 1});
  } else if (op.attr.from == op.attr.to) {
    contribute(v, {value, {}});   // the slice was the whole axis
  } else {
    contribute_at(v, {value, map_(op.attr.from), map_(op.attr.to), op.attr.integer,
                      from_.extent(op.attr.to)});
  }
  return true;
}

// One application of a formula. `want`: the operand's type, if this is the root. The same one twice
// in a row's formulas is one operation.
ValueId Reverse::apply_node(Row& row, Opcode code, const std::vector<ValueId>& parts,
                            const Type* want) {
  if (code == Opcode::cast_) return to_.cast(parts[0], to_.type(row.g.value).dtype);
  if (code == Opcode::sum_) return to_.add(code, parts, {.axes = map_(row.op.attr).axes});
  if (!is_elementwise(code)) return turned(row.op, code, parts, *want);
  ValueId& made = row.made[{code, parts}];
  if (made.valid()) return made;
  std::string fault;
  const std::optional<Type> natural = infer(to_.program(), to_.function(), code, parts, {}, fault);
  const bool as_wanted =
      want && natural && natural->dtype == want->dtype && same_set(natural->axes, want->axes);
  return made = as_wanted ? to_.add(code, parts, {}, *want) : to_.add(code, parts);
}

// Views, reads and contractions of a formula: the attributes of `op`, turned round.
ValueId Reverse::turned(const Op& op, Opcode code, const std::vector<ValueId>& parts,
                        const Type& want) {
  Attr attr = map_(op.attr);
  switch (code) {
    case Opcode::contract_: {
      // bf16 times f32: the cotangent is rounded like the operand that it meets.
      const DType a = to_.type(parts[0]).dtype, b = to_.type(parts[1]).dtype;
      const DType narrow = bytes(a) < bytes(b) ? a : b;
      const ValueId x = to_.cast(parts[0], narrow), y = to_.cast(parts[1], narrow);
      return to_.contract(x, y, want.axes);
    }
    case Opcode::place_:
    case Opcode::pad_:
      if (op.operands.size() == 2) return write_at(op, parts[0], want);
      if (code == Opcode::place_) attr = {.integer = attr.integer, .to = attr.from};
      break;
    case Opcode::slice_:
      if (op.code == Opcode::update_) attr = {.from = attr.to, .to = attr.from};
      break;
    case Opcode::relabel_: std::swap(attr.from, attr.to); break;
    case Opcode::pick_: attr = {.integer = attr.integer, .from = attr.to}; break;
    case Opcode::merge_:
    case Opcode::split_:
    case Opcode::gather_:
    case Opcode::scatter_: std::swap(attr.from, attr.to); break;
    case Opcode::shift_: {
      // Beyond the axis nothing is left either way; so the number stays small enough to be negated.
      const std::int64_t n = from_.extent(op.attr.from);
      attr.integer = -std::clamp(attr.integer, -n, n);
      break;
    }
    default: break;   // bound, update: as they are
  }
  return to_.add(code, parts, attr, want);
}

// The adjoint of a pick or slice at a run-time offset: what lies outside was read as 0 and gets
// nothing.
ValueId Reverse::write_at(const Op& op, ValueId g, const Type& want) {
  const Attr attr = map_(op.attr);
  ValueId at = primal(op.operands[1]);
  if (attr.integer != 0) at = to_.binary(Opcode::add_, at, to_.integer(attr.integer, DType::i64));
  if (op.code == Opcode::pick_) {
    const AxisId one = to_.fresh_axis(to_.program().text(to_.function().axis(attr.from).name), 1);
    const ValueId row = to_.expand(g, want.axes.replaced(attr.from, one));
    return to_.add(Opcode::update_, {zeros(want), row, at}, {.from = one, .to = attr.from}, want);
  }
  if (attr.stride == 1)
    return to_.add(Opcode::update_, {zeros(want), g, at}, {.from = attr.to, .to = attr.from}, want);
  AxisId along = attr.to;
  if (along == attr.from) {
    along = to_.fresh_axis(to_.program().text(to_.function().axis(along).name),
                           to_.function().extent(along));
    g = to_.add(Opcode::relabel_, {g}, {.from = attr.to, .to = along});
  }
  const ValueId step = to_.integer(attr.stride, DType::i64);
  const ValueId position = to_.cast(to_.add(Opcode::position_, {}, {.to = along}), DType::i64);
  const ValueId index = to_.binary(Opcode::add_, to_.binary(Opcode::mul_, position, step), at);
  return to_.add(Opcode::scatter_, {g, index}, {.to = attr.from}, want);
}

}  // namespace gradc
