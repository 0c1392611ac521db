// The rows of the derivative table, applied to an operation: formulas become operations.
#include <algorithm>

#include "ir/diagnostic.h"
#include "ir/typing.h"
#include "passes/reverse.h"

namespace gradc {

void Reverse::visit(OpId id) {
  const Op& op = from_.op(id);
  if (!activity_.active(from_id_, op)) return;
  if (std::all_of(op.results.begin(), op.results.end(), [&](ValueId v) { return slots_[v.index].empty(); })) return;
  to_.at = gradient_of(op.loc);
  switch (op.code) {
    case Opcode::concat_: return walk_concat(op);
    case Opcode::flat_: return walk_flat(op);
    case Opcode::call_: return walk_call(id);
    case Opcode::fused_: return walk_fused(op);
    case Opcode::scan_: return walk_scan(id);
    default: return apply_row(op);
  }
}

void Reverse::apply_row(const Op& op) {
  if (derivative(op.code).kind != Derivative::Kind::formula) internal_error("an operation without a derivative is walked");
  Cotangent g = finish(op.results[0]);
  if (!is_elementwise(op.code)) g = {cotangent(op.results[0]), {}};
  for (std::size_t k = 0; k < op.operands.size(); ++k)
    if (flows(op, k)) apply_formula(op, k, g);
}

void Reverse::apply_formula(const Op& op, std::size_t k, const Cotangent& g) {
  using What = Formula::What;
  const Formula& formula = derivative(op.code).of[k];
  const Type want = map_(from_.type(op.operands[k]));
  const DType dtype = to_.type(g.value).dtype;
  std::array<ValueId, Formula::capacity> made;
  Guard guard = g.guard;
  for (int n = 0; n < formula.size; ++n) {
    const Formula::Node& node = formula.nodes[static_cast<std::size_t>(n)];
    const bool root = n + 1 == formula.size;
    std::vector<ValueId> parts;
    for (int i = 0; i < node.count; ++i) parts.push_back(made[static_cast<std::size_t>(node.of[static_cast<std::size_t>(i)])]);
    ValueId& out = made[static_cast<std::size_t>(n)];
    switch (node.what) {
      case What::g: out = g.value; break;
      case What::r: out = primal(op.results[0]); break;
      case What::a:
      case What::b:
      case What::c: {
        const auto i = static_cast<std::size_t>(node.what) - static_cast<std::size_t>(What::a);
        // A word under zeros() stands for its type alone.
        const bool only_type = n + 1 < formula.size && formula.nodes[static_cast<std::size_t>(n) + 1].what == What::zeros;
        out = only_type ? zeros(map_(from_.type(op.operands[i]))) : primal(op.operands[i]);
        break;
      }
      case What::number: out = constant(node.number, dtype); break;
      case What::zeros: out = parts[0]; break;
      case What::only:
      case What::unless:
        out = parts[0];
        guard = both(guard, {parts[1], node.what == What::only});
        break;
      case What::apply:
        if (node.code == Opcode::pad_ && op.operands.size() == 1 && op.attr.from == op.attr.to) {
          out = parts[0];   // the slice was the whole axis
          break;
        }
        // Side by side with others along an axis: kept apart until all have come.
        if (root && (node.code == Opcode::place_ || node.code == Opcode::pad_) && op.operands.size() == 1 &&
            op.attr.stride == 1) {
          Placed p{parts[0], map_(op.attr.from), {}, op.attr.integer, 1};
          if (node.code == Opcode::pad_) {
            p.stretch = map_(op.attr.to);
            p.length = from_.extent(op.attr.to);
          }
          return contribute_at(op.operands[k], p);
        }
        if (node.code == Opcode::cast_) {
          out = to_.cast(parts[0], dtype);
        } else if (node.code == Opcode::sum_) {
          out = to_.add(node.code, parts, {.axes = map_(op.attr).axes});
        } else if (is_elementwise(node.code)) {
          std::string fault;
          const std::optional<Type> natural = infer(to_.program(), to_.function(), node.code, parts, {}, fault);
          const bool as_wanted = root && natural && natural->dtype == want.dtype && same_set(natural->axes, want.axes);
          out = as_wanted ? to_.add(node.code, parts, {}, want) : to_.add(node.code, parts);
        } else {
          out = turned(op, node.code, parts, want);
        }
        break;
    }
  }
  contribute(op.operands[k], {made[static_cast<std::size_t>(formula.size - 1)], guard});
}

// Views, reads and contractions of a formula: the attributes of `op`, turned round.
ValueId Reverse::turned(const Op& op, Opcode code, std::vector<ValueId> parts, const Type& want) {
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

// The adjoint of a pick or slice at a run-time offset: what lies outside was read as 0 and gets nothing.
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
    along = to_.fresh_axis(to_.program().text(to_.function().axis(along).name), to_.function().extent(along));
    g = to_.add(Opcode::relabel_, {g}, {.from = attr.to, .to = along});
  }
  const ValueId step = to_.integer(attr.stride, DType::i64);
  const ValueId position = to_.cast(to_.add(Opcode::position_, {}, {.to = along}), DType::i64);
  const ValueId index = to_.binary(Opcode::add_, to_.binary(Opcode::mul_, position, step), at);
  return to_.add(Opcode::scatter_, {g, index}, {.to = attr.from}, want);
}

}  // namespace gradc
