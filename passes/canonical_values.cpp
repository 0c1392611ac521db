// Canonical forms of operations, and values of forms.
#include <algorithm>
#include <cmath>
#include <limits>

#include "passes/canonical.h"

namespace gradc::canonical {
namespace {

constexpr int deepest = 24;

AxisList union_of_axes(const Algebra& a, const std::vector<TermId>& terms) {
  AxisList out;
  for (TermId t : terms) out = unite(out, a.axes(t));
  return out;
}

}  // namespace

TermId Algebra::of(ValueId v) {
  if (of_.size() < f_.values.size()) of_.resize(f_.values.size());
  if (of_[v.index].valid()) return of_[v.index];
  const OpId def = f_.value(v).def;
  const Type& type = f_.type(v);
  const bool opaque = !def.valid() || facts(f_.op(def).code).kind == Kind::control;
  const TermId t =
      opaque
          ? term(intern(Base{.kind = Base::value, .of = v, .dtype = type.dtype, .axes = type.axes}))
          : form(f_.op(def), type);
  of_[v.index] = t;
  if (same_set(type.axes, axes(t))) value_of_.try_emplace(t.index, v);
  return t;
}

ValueId Algebra::value(TermId t) const {
  const auto it = value_of_.find(t.index);
  return it == value_of_.end() ? ValueId{} : it->second;
}

TermId Algebra::form(const Op& op, const Type& type) {
  std::vector<TermId> x;
  for (ValueId v : op.operands) x.push_back(of(v));
  const bool real = is_real(type.dtype);
  const auto plain = [&] {
    const bool elementwise = is_elementwise(op.code);
    return operation(op.code, op.attr, type.dtype, x,
                     elementwise ? union_of_axes(*this, x) : type.axes);
  };
  switch (op.code) {
    case Opcode::constant_:
      if (!real) return number(static_cast<double>(op.attr.integer));
      return std::isfinite(op.attr.real) ? number(op.attr.real) : plain();
    case Opcode::expand_:
      return x[0];
    case Opcode::not_:
      return negated(x[0]);  // of comparisons: NaN aside
    default:
      break;
  }
  if (!real) return plain();
  double p = 0;
  switch (op.code) {
    case Opcode::neg_:
      return scale(x[0], -1);
    case Opcode::add_:
      return add(x[0], x[1]);
    case Opcode::sub_:
      return sub(x[0], x[1]);
    case Opcode::mul_:
      return mul(x[0], x[1]);
    case Opcode::div_:
      return div(x[0], x[1]);
    case Opcode::sqrt_:
      return power(x[0], 0.5);
    case Opcode::rsqrt_:
      return power(x[0], -0.5);
    case Opcode::pow_:
      return is_number(x[1], p) ? power(x[0], p) : plain();
    case Opcode::exp_:
      return exp(x[0]);
    case Opcode::log_:
      return log(x[0]);
    case Opcode::tanh_:
    case Opcode::erf_:
      return odd(op.code, x[0], type.dtype);
    case Opcode::cast_:
      if (f_.type(op.operands[0]).dtype == type.dtype) return x[0];
      return form_of_choice(x[0]).value_or(plain());
    case Opcode::select_:
      return form_of_select(op, type);
    case Opcode::gather_:
      return form_of_gather(op, type);
    case Opcode::sum_: {
      AxisList over;
      for (AxisId a : op.attr.axes) over.push_back(a);
      return sum_over(x[0], over, type.dtype);
    }
    case Opcode::contract_: {
      const AxisList all = unite(axes(x[0]), axes(x[1]));
      if (!all.contains_all(f_.type(op.operands[0]).axes) ||
          !all.contains_all(f_.type(op.operands[1]).axes))
        return plain();
      return contract(x[0], x[1], type.axes, type.dtype);
    }
    default:
      return plain();
  }
}

// What lacks the axis that is read along comes out, if no position is outside.
TermId Algebra::form_of_gather(const Op& op, const Type& type) {
  const TermId x = of(op.operands[0]), index = of(op.operands[1]);
  const auto range = range_of(program_, f_, op.operands[1]);
  const bool inside = range && range->first >= 0 && range->second < f_.extent(op.attr.from);
  const TermId along = inside ? bound(x, {op.attr.from}) : x;
  const TermId read = operation(Opcode::gather_, {.from = op.attr.from}, type.dtype, {along, index},
                                unite(axes(along).without(op.attr.from), axes(index)));
  return add(read, sub(x, along));
}

bool Algebra::sums_exponentials(TermId t) const {
  if (!is_product(t)) return false;
  return std::all_of(factors(t).begin(), factors(t).end(), [&](const Factor& f) {
    const Base& b = base(f.base);
    return b.kind == Base::operation && b.nonnegative &&
           (b.code == Opcode::exp_ || b.code == Opcode::sum_);
  });
}

// A real made of a condition, or of an integer that a condition chooses: 1 and 0, 0 and −1000000.
std::optional<TermId> Algebra::form_of_choice(TermId chosen) {
  const Base* b = only_base(chosen);
  if (b == nullptr || b->kind != Base::operation) return std::nullopt;
  if (b->dtype == DType::boolean) return indicator(chosen);
  double yes = 0, no = 0;
  if (b->code != Opcode::select_ || !is_number(b->arguments[1], yes) ||
      !is_number(b->arguments[2], no) || (yes != 0 && no != 0))
    return std::nullopt;
  const TermId c = b->arguments[0];
  return no == 0 ? scale(indicator(c), yes) : scale(indicator(negated(c)), no);
}

TermId Algebra::negated(TermId c) {
  const AxisList axes = this->axes(c);
  if (const Base* b = only_base(c); b != nullptr && b->kind == Base::operation) {
    const std::vector<TermId> a = b->arguments;
    if (b->code == Opcode::not_) return a[0];
    if (b->code == Opcode::lt_)
      return operation(Opcode::le_, {}, DType::boolean, {a[1], a[0]}, axes);
    if (b->code == Opcode::le_)
      return operation(Opcode::lt_, {}, DType::boolean, {a[1], a[0]}, axes);
  }
  return operation(Opcode::not_, {}, DType::boolean, {c}, axes);
}

TermId Algebra::form_of_select(const Op& op, const Type& type) {
  const auto other = [&](std::size_t i, double wanted) {
    double k = 0;
    const TermId t = of(op.operands[i]);
    if (std::isfinite(wanted)) return is_number(t, k) && k == wanted;
    const Base* b = only_base(t);
    return b != nullptr && b->kind == Base::operation && b->code == Opcode::constant_ &&
           b->attr.real == wanted;
  };
  const TermId c = of(op.operands[0]);
  const TermId a = of(op.operands[1]), b = of(op.operands[2]);
  constexpr double infinity = std::numeric_limits<double>::infinity();
  // A sum of exponentials that is 0 is guarded before something is divided by it.
  if (const Base* test = only_base(c); test != nullptr && test->kind == Base::operation &&
                                       test->arguments.size() == 2)
    for (const std::size_t i : {0, 1}) {
      double zero = 1;
      const TermId t = test->arguments[1 - i];
      if (!is_number(test->arguments[i], zero) || zero != 0 || !sums_exponentials(t)) continue;
      if (test->code == Opcode::eq_ && t == b) return t;
      if ((test->code == Opcode::ne_ || (test->code == Opcode::lt_ && i == 0)) && t == a) return t;
    }
  if (other(2, -infinity)) return add(a, mask(c));
  if (other(1, -infinity)) {
    const TermId m = mask(negated(c));
    return add(b, m);
  }
  if (other(2, 0)) return mul(a, indicator(c));
  if (other(1, 0)) {
    const TermId i = indicator(negated(c));
    return mul(b, i);
  }
  return operation(Opcode::select_, {}, type.dtype, {c, a, b},
                   unite(axes(c), unite(axes(a), axes(b))));
}

// ---- values of forms

ValueId Algebra::realise(TermId t, DType dtype, std::vector<ValueId>* met, int depth) {
  if (const ValueId v = value(t); v.valid() && f_.type(v).dtype == dtype) {
    if (met != nullptr) met->push_back(v);
    return v;
  }
  if (depth > deepest) return {};
  double k = 0;
  if (is_number(t, k)) return made(to_->constant(k, dtype));
  const Sum s = sum(t);
  // A multiple of what is there.
  if (const double c = s.parts[0].coefficient; c != 1 && !masked(t)) {
    const TermId unit = scale(t, 1 / c);
    if (const ValueId v = value(unit); v.valid() || is_product(t)) {
      const ValueId x = realise(unit, dtype, met, depth + 1);
      if (!x.valid()) return {};
      if (c == -1) return made(to_->unary(Opcode::neg_, x));
      const ValueId number = to_->constant(c, dtype);
      return made(to_->binary(Opcode::mul_, x, number));
    }
  }
  if (is_product(t) && !masked(t)) return realise_product(factors(t), dtype, met, depth + 1);
  TermId unmasked = number(s.constant);
  std::vector<TermId> masks;
  for (const Part& p : s.parts) {
    const std::vector<Factor>& f = product(p.product).factors;
    if (f.size() == 1 && base(f[0].base).kind == Base::mask)
      masks.push_back(base(f[0].base).arguments[0]);
    else
      unmasked = add(unmasked, term(p));
  }
  if (!masks.empty()) {
    const ValueId x = realise(unmasked, dtype, met, depth + 1);
    ValueId all;
    for (TermId m : masks) {
      const ValueId c = realise(m, DType::boolean, met, depth + 1);
      if (!c.valid()) return {};
      all = all.valid() ? made(to_->binary(Opcode::and_, all, c)) : c;
    }
    if (!x.valid()) return {};
    const ValueId lowest = made(to_->constant(-std::numeric_limits<double>::infinity(), dtype));
    return made(to_->add(Opcode::select_, {all, x, lowest}));
  }
  ValueId out;
  for (const Part& p : s.parts) {
    const bool minus = out.valid() && p.coefficient < 0;
    Part q = p;
    if (minus) q.coefficient = -q.coefficient;
    const ValueId v = realise(term(q), dtype, met, depth + 1);
    if (!v.valid()) return {};
    out = out.valid() ? made(to_->binary(minus ? Opcode::sub_ : Opcode::add_, out, v)) : v;
  }
  if (s.constant == 0) return out;
  const ValueId constant = made(to_->constant(s.constant, dtype));
  return made(to_->binary(Opcode::add_, out, constant));
}

ValueId Algebra::realise_product(const std::vector<Factor>& of, DType dtype,
                                 std::vector<ValueId>* met, int depth) {
  const std::vector<Factor> factors = of;
  ValueId out;
  std::vector<TermId> below;
  for (const Factor& f : factors) {
    const TermId whole = term(1, {f});
    if (f.power == -1 && factors.size() > 1 && !value(whole).valid()) {
      below.push_back(term(f.base));
      continue;
    }
    const ValueId v = factors.size() == 1 ? realise_factor(f, dtype, met, depth)
                                          : realise(whole, dtype, met, depth + 1);
    if (!v.valid()) return {};
    out = out.valid() ? made(to_->binary(Opcode::mul_, out, v)) : v;
  }
  for (TermId t : below) {
    const ValueId v = realise(t, dtype, met, depth + 1);
    if (!v.valid()) return {};
    const ValueId above = out.valid() ? out : made(to_->constant(1, dtype));
    out = made(to_->binary(Opcode::div_, above, v));
  }
  return out;
}

ValueId Algebra::realise_factor(const Factor& f, DType dtype, std::vector<ValueId>* met,
                                int depth) {
  const Base b = base(f.base);
  if (b.kind == Base::operation && b.code == Opcode::exp_) {
    const ValueId x = realise(scale(b.arguments[0], f.power), dtype, met, depth + 1);
    return x.valid() ? made(to_->unary(Opcode::exp_, x)) : x;
  }
  const ValueId x =
      f.power == 1 ? realise_base(b, dtype, met, depth) : realise(term(f.base), dtype, met, depth);
  if (!x.valid() || f.power == 1) return x;
  if (f.power == 2) return made(to_->binary(Opcode::mul_, x, x));
  if (f.power == 0.5) return made(to_->unary(Opcode::sqrt_, x));
  if (f.power == -0.5) return made(to_->unary(Opcode::rsqrt_, x));
  if (f.power == -1) {
    const ValueId one = made(to_->constant(1, dtype));
    return made(to_->binary(Opcode::div_, one, x));
  }
  const ValueId p = made(to_->constant(f.power, dtype));
  return made(to_->binary(Opcode::pow_, x, p));
}

ValueId Algebra::realise_base(const Base& b, DType dtype, std::vector<ValueId>* met, int depth) {
  if (depth > deepest) return {};
  switch (b.kind) {
    case Base::value:
      if (met != nullptr) met->push_back(b.of);
      return b.of;
    case Base::sum:
    case Base::group:
      return realise(b.arguments[0], dtype, met, depth + 1);
    case Base::mask:
      return {};  // stands in a sum
    case Base::indicator: {
      const ValueId c = realise(b.arguments[0], DType::boolean, met, depth + 1);
      if (!c.valid()) return {};
      const ValueId one = made(to_->constant(1, dtype)), zero = made(to_->constant(0, dtype));
      return made(to_->add(Opcode::select_, {c, one, zero}));
    }
    case Base::operation:
      break;
  }
  // Operations of forms come from values, so most arguments are there; of numbers the dtype is
  // that of the others.
  std::vector<ValueId> operands(b.arguments.size());
  DType numbers = is_elementwise(b.code) ? b.dtype : dtype;
  double ignored = 0;
  for (const bool number : {false, true})
    for (std::size_t i = 0; i < operands.size(); ++i) {
      const TermId t = b.arguments[i];
      if (is_number(t, ignored) != number) continue;
      const ValueId there = value(t);
      const bool condition = b.code == Opcode::select_ && i == 0;
      operands[i] = realise(t,
                            condition                  ? DType::boolean
                            : there.valid() && !number ? f_.type(there).dtype
                                                       : numbers,
                            met, depth + 1);
      if (!operands[i].valid()) return {};
      if (!condition && !number) numbers = f_.type(operands[i]).dtype;
    }
  if (!is_elementwise(b.code)) return {};  // a value of it was there, of another region
  return made(to_->add(b.code, operands, b.attr, Type{b.dtype, b.axes}));
}

}  // namespace gradc::canonical
