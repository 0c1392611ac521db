// Rules that look at axes: broadcasts sink and vanish, views meet, sums lose factors, products under a
// sum become contractions, pads that partition an axis become one concat.
#include <algorithm>

#include "passes/simplifier.h"
#include "passes/simplify.h"

namespace gradc {
namespace {

AxisList difference(const AxisList& a, const AxisList& b) {
  AxisList out;
  for (AxisId x : a)
    if (!b.contains(x)) out.push_back(x);
  return out;
}
AxisList intersection(const AxisList& a, const AxisList& b) {
  AxisList out;
  for (AxisId x : a)
    if (b.contains(x)) out.push_back(x);
  return out;
}
AxisList list_of(const std::vector<AxisId>& axes) {
  AxisList out;
  for (AxisId a : axes) out.push_back(a);
  return out;
}

}  // namespace

const std::vector<StructureRule>& structure_rules() {
  static const std::vector<StructureRule> rules{
      {"fold", "an elementwise operation on constants is a constant"},
      {"common", "equal operations are one"},
      {"dead", "what no result needs is dropped"},
      {"expand-same", "expand to the axes that are there already"},
      {"expand-expand", "expand of expand"},
      {"expand-operand", "an elementwise operand is not expanded to axes that another operand has"},
      {"expand-order", "no operation needs its operand's axes in another order"},
      {"expand-sink", "op(expand x) is expand(op x): less work"},
      {"cast-same", "cast to its own dtype"},
      {"div-row", "x / y is x * (1 / y) where y has fewer axes (reassoc)"},
      {"mul-square", "(x * y) * y is x * (y * y) where the square is there already (reassoc)"},
      {"relabel-relabel", "a -> b -> c is a -> c; a -> b -> a is nothing"},
      {"split-merge", "split of the merge that undoes it, and the reverse"},
      {"shift-zero", "shift by 0"},
      {"pick-concat", "a place of a concat is its operand"},
      {"slice-concat", "a stretch of a concat is its operand"},
      {"pads-concat", "a sum of pads or places that partition an axis is one concat"},
      {"sum-expand", "a sum over axes that were expanded is a product (reassoc)"},
      {"sum-sum", "sum of sum (reassoc)"},
      {"sum-neg", "a sign comes out of a sum"},
      {"sum-factor", "a factor without the summed axes comes out of the sum (reassoc)"},
      {"sum-product", "a sum of a product with private axes on both sides is a contraction (reassoc)"},
      {"contract-expand", "a contraction's operand is not expanded (reassoc)"},
  };
  return rules;
}

std::optional<ValueId> Simplifier::expand_rules(const std::vector<ValueId>& operands, const Type& t) {
  const ValueId x = operands[0];
  if (type(x).axes == t.axes) {
    fired("expand-same");
    return x;
  }
  if (const Op* inner = def(x, Opcode::expand_)) {
    fired("expand-expand");
    return make(Opcode::expand_, {inner->operands[0]}, {}, t);
  }
  return std::nullopt;
}

std::optional<ValueId> Simplifier::elementwise_rules(Opcode code, std::vector<ValueId>& operands, const Attr& attr,
                                                     const Type& t) {
  if (code == Opcode::cast_ && type(operands[0]).dtype == t.dtype) {
    fired("cast-same");
    return operands[0];
  }
  // Axes that some operand has of its own, without its expand.
  AxisList own;
  std::vector<ValueId> bare = operands;
  for (ValueId& v : bare) {
    if (const Op* e = def(v, Opcode::expand_)) v = e->operands[0];
    own = unite(own, type(v).axes);
  }
  if (bare != operands && !same_set(own, t.axes)) {
    fired("expand-sink");
    AxisList axes;
    for (AxisId a : t.axes)
      if (own.contains(a)) axes.push_back(a);
    return make(Opcode::expand_, {make(code, bare, attr, Type{t.dtype, axes})}, {}, t);
  }
  if (bare != operands) {
    fired("expand-operand");
    operands = bare;
  }
  if (code == Opcode::div_ && is_real(t.dtype) && type(operands[1]).axes.size() < t.axes.size() && !constant_of(operands[1]) &&
      !constant_of(operands[0])) {
    fired("div-row");
    const ValueId one = constant(1, t.dtype);
    const ValueId inverse = make(Opcode::div_, {one, operands[1]}, {}, type(operands[1]));
    return make(Opcode::mul_, {operands[0], inverse}, {}, t);
  }
  if (code == Opcode::add_) return pads_to_concat(operands, t);
  if (code == Opcode::mul_ && is_real(t.dtype)) return share_square(operands, t);
  return std::nullopt;
}

std::optional<ValueId> Simplifier::share_square(const std::vector<ValueId>& operands, const Type& t) {
  for (int i : {0, 1}) {
    const ValueId y = operands[static_cast<std::size_t>(1 - i)];
    const Op* m = def(operands[static_cast<std::size_t>(i)], Opcode::mul_);
    if (m == nullptr || (m->operands[0] == y) == (m->operands[1] == y)) continue;
    const std::optional<ValueId> square = known(Opcode::mul_, {y, y}, {}, type(y));
    if (!square) continue;
    const ValueId x = m->operands[0] == y ? m->operands[1] : m->operands[0];
    fired("mul-square");
    return make(Opcode::mul_, {x, *square}, {}, t);
  }
  return std::nullopt;
}

std::optional<ValueId> Simplifier::view_rules(Opcode code, const std::vector<ValueId>& operands, const Attr& attr, const Type& t) {
  const ValueId x = operands[0];
  if (code == Opcode::relabel_) {
    const Op* inner = def(x, Opcode::relabel_);
    if (inner == nullptr || inner->attr.to != attr.from) return std::nullopt;
    const ValueId base = inner->operands[0];
    fired("relabel-relabel");
    if (inner->attr.from == attr.to) return base;
    return make(Opcode::relabel_, {base}, {.from = inner->attr.from, .to = attr.to}, t);
  }
  if (code == Opcode::split_) {
    const Op* m = def(x, Opcode::merge_);
    if (m == nullptr || m->attr.to != attr.from || m->attr.axes != attr.axes) return std::nullopt;
    fired("split-merge");
    return m->operands[0];
  }
  if (code == Opcode::merge_) {
    const Op* s = def(x, Opcode::split_);
    if (s == nullptr || s->attr.from != attr.to || s->attr.axes != attr.axes) return std::nullopt;
    fired("split-merge");
    return s->operands[0];
  }
  if (code == Opcode::shift_ && attr.integer == 0) {
    fired("shift-zero");
    return x;
  }
  const Op* c = operands.size() == 1 && (code == Opcode::pick_ || code == Opcode::slice_) ? def(x, Opcode::concat_) : nullptr;
  if (c == nullptr || c->attr.to != attr.from) return std::nullopt;
  std::int64_t begin = 0;
  for (std::size_t i = 0; i < c->operands.size(); ++i) {
    const AxisId u = c->attr.axes[i];
    const std::int64_t size = u.valid() ? extent(u) : 1;
    if (begin == attr.integer && code == Opcode::pick_ && !u.valid()) {
      fired("pick-concat");
      return c->operands[i];
    }
    if (begin == attr.integer && code == Opcode::slice_ && u.valid() && attr.stride == 1 && size == extent(attr.to)) {
      const ValueId part = c->operands[i];
      fired("slice-concat");
      return u == attr.to ? part : make(Opcode::relabel_, {part}, {.from = u, .to = attr.to}, t);
    }
    begin += size;
  }
  return std::nullopt;
}

std::optional<ValueId> Simplifier::sum_rules(const std::vector<ValueId>& operands, const Attr& attr, const Type& t) {
  const ValueId x = operands[0];
  const AxisList over = list_of(attr.axes);
  if (const Op* e = def(x, Opcode::expand_); e != nullptr && is_real(t.dtype)) {
    const ValueId base = e->operands[0];
    const AxisList fresh = difference(over, type(base).axes);
    if (!fresh.empty()) {
      fired("sum-expand");
      double n = 1;
      for (AxisId a : fresh) n *= static_cast<double>(extent(a));
      const AxisList rest = difference(over, fresh);
      ValueId v = base;
      if (!rest.empty()) {
        const AxisList kept = difference(type(v).axes, rest);
        v = make(Opcode::sum_, {v}, {.axes = {rest.begin(), rest.end()}}, Type{t.dtype, kept});
      }
      v = make(Opcode::mul_, {v, constant(n, t.dtype)}, {}, type(v));
      return fit(v, t);
    }
    if (same_set(type(base).axes, type(x).axes)) {
      fired("expand-order");
      return make(Opcode::sum_, {base}, attr, t);
    }
  }
  if (const Op* s = def(x, Opcode::sum_)) {
    fired("sum-sum");
    Attr both = attr;
    both.axes.insert(both.axes.begin(), s->attr.axes.begin(), s->attr.axes.end());
    return make(Opcode::sum_, {s->operands[0]}, both, t);
  }
  if (const Op* n = def(x, Opcode::neg_)) {
    fired("sum-neg");
    return make(Opcode::neg_, {make(Opcode::sum_, {n->operands[0]}, attr, t)}, {}, t);
  }
  const Op* m = def(x, Opcode::mul_);
  if (m == nullptr || !is_real(t.dtype)) return std::nullopt;
  const std::array<ValueId, 2> f{m->operands[0], m->operands[1]};
  for (int i : {0, 1}) {
    const ValueId inside = f[static_cast<std::size_t>(i)], outside = f[static_cast<std::size_t>(1 - i)];
    if (!intersection(type(outside).axes, over).empty() || !type(inside).axes.contains_all(over)) continue;
    fired("sum-factor");
    const AxisList kept = difference(type(inside).axes, over);
    const ValueId s = make(Opcode::sum_, {inside}, attr, Type{t.dtype, kept});
    return fit(make(Opcode::mul_, {s, outside}, {}, Type{t.dtype, unite(kept, type(outside).axes)}), t);
  }
  // A true matrix product: every summed axis in both, a kept axis of its own on each side.
  const AxisList &a = type(f[0]).axes, &b = type(f[1]).axes;
  if (a.contains_all(over) && b.contains_all(over) && !intersection(difference(a, b), t.axes).empty() &&
      !intersection(difference(b, a), t.axes).empty()) {
    fired("sum-product");
    return make(Opcode::contract_, {f[0], f[1]}, {}, t);
  }
  return std::nullopt;
}

std::optional<ValueId> Simplifier::contract_rules(std::vector<ValueId>& operands, const Type& t) {
  for (int i : {0, 1}) {
    ValueId& a = operands[static_cast<std::size_t>(i)];
    ValueId& b = operands[static_cast<std::size_t>(1 - i)];
    const Op* e = def(a, Opcode::expand_);
    if (e == nullptr) continue;
    const ValueId base = e->operands[0];
    const AxisList fresh = difference(type(a).axes, type(base).axes);
    // Fresh axes that are summed: b alone has them now, so it is summed first. Those of the result that b
    // lacks are expanded behind.
    const AxisList summed = difference(fresh, t.axes);
    fired("contract-expand");
    ValueId other = b;
    if (!summed.empty())
      other = make(Opcode::sum_, {b}, {.axes = {summed.begin(), summed.end()}}, Type{type(b).dtype, difference(type(b).axes, summed)});
    AxisList axes;
    for (AxisId x : t.axes)
      if (type(base).axes.contains(x) || type(other).axes.contains(x)) axes.push_back(x);
    // What is left may have nothing to sum: then it is a product.
    const AxisList all = unite(type(base).axes, type(other).axes);
    const Type inner{t.dtype, axes};
    const ValueId v = same_set(all, axes) && type(base).dtype == t.dtype ? make(Opcode::mul_, {base, other}, {}, inner)
                      : i == 0                                            ? make(Opcode::contract_, {base, other}, {}, inner)
                                                                          : make(Opcode::contract_, {other, base}, {}, inner);
    return fit(v, t);
  }
  return std::nullopt;
}

// `pad(a, 0) + pad(b, 3) + place(c, 5)` over an axis of 6: the parts stand beside each other.
std::optional<ValueId> Simplifier::pads_to_concat(const std::vector<ValueId>& operands, const Type& t) {
  struct Part {
    std::int64_t begin, size;
    ValueId value;
    AxisId axis;
  };
  std::vector<Part> parts;
  AxisId to;
  std::vector<ValueId> work(operands.rbegin(), operands.rend());
  while (!work.empty()) {
    const ValueId v = work.back();
    work.pop_back();
    const Op* op = def(v);
    if (op == nullptr || !same_set(type(v).axes, t.axes)) return std::nullopt;
    if (op->code == Opcode::add_ && parts.size() + work.size() < 64) {
      work.push_back(op->operands[1]);
      work.push_back(op->operands[0]);
      continue;
    }
    const bool place = op->code == Opcode::place_;
    if (!place && !(op->code == Opcode::pad_ && op->attr.stride == 1)) return std::nullopt;
    const AxisId axis = place ? op->attr.to : op->attr.from;
    if (to.valid() && to != axis) return std::nullopt;
    to = axis;
    const AxisId u = place ? AxisId{} : op->attr.to;
    parts.push_back({op->attr.integer, place ? 1 : extent(u), op->operands[0], u});
  }
  std::sort(parts.begin(), parts.end(), [](const Part& a, const Part& b) { return a.begin < b.begin; });
  std::int64_t at = 0;
  std::vector<ValueId> values;
  Attr attr{.to = to};
  for (const Part& p : parts) {
    if (p.begin != at) return std::nullopt;
    at += p.size;
    values.push_back(p.value);
    attr.axes.push_back(p.axis);
  }
  if (at != extent(to)) return std::nullopt;
  fired("pads-concat");
  return make(Opcode::concat_, values, attr, t);
}

std::optional<ValueId> Simplifier::structure(Opcode code, std::vector<ValueId>& operands, const Attr& attr, const Type& t) {
  // Views and reads do not care how their operand's axes are ordered either.
  if (code != Opcode::expand_ && code != Opcode::flat_ && !is_elementwise(code))
    for (ValueId& v : operands)
      if (const Op* e = def(v, Opcode::expand_); e != nullptr && same_set(type(e->operands[0]).axes, type(v).axes)) {
        v = e->operands[0];
        fired("expand-order");
      }
  if (code == Opcode::expand_) return expand_rules(operands, t);
  if (is_elementwise(code)) return elementwise_rules(code, operands, attr, t);
  if (code == Opcode::sum_) return sum_rules(operands, attr, t);
  if (code == Opcode::contract_) return contract_rules(operands, t);
  const Kind kind = facts(code).kind;
  if (kind == Kind::view || code == Opcode::shift_) return view_rules(code, operands, attr, t);
  return std::nullopt;
}

}  // namespace gradc
