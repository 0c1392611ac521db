// The pass: each function is rebuilt front to back, every operation made in simplest form, until no rule
// fires. What no result needs is left out.
#include "passes/simplify.h"

#include <algorithm>
#include <cmath>

#include "ir/diagnostic.h"
#include "passes/simplifier.h"

namespace gradc {
namespace {

// Rules shrink or move outward only, so few rounds are needed; the bound guards against a faulty table.
constexpr int most_rounds = 16;
constexpr int deepest_rewrite = 64;

// Which operations of the body (regions within included) some result needs.
std::vector<char> live_ops(const Function& f) {
  std::vector<char> live(f.ops.size(), 0);
  std::vector<OpId> work;
  const auto need = [&](ValueId v) {
    const OpId d = f.value(v).def;
    if (!d.valid() || live[d.index]) return;
    live[d.index] = 1;
    work.push_back(d);
  };
  for (ValueId v : f.body().results) need(v);
  while (!work.empty()) {
    const Op& op = f.op(work.back());
    work.pop_back();
    for (ValueId v : op.operands) need(v);
    for (RegionId r : op.regions)
      for (ValueId v : f.regions[r.index].results) need(v);
  }
  return live;
}

std::string key(Opcode code, const std::vector<ValueId>& operands, const Attr& a, const Type& t) {
  std::string k;
  const auto put = [&](const auto& x) { k.append(reinterpret_cast<const char*>(&x), sizeof x); };
  put(code);
  // A product's chain of sums follows its first operand's axes, so that contractions keep theirs.
  if (facts(code).commutes && is_elementwise(code) && operands[1].index < operands[0].index)
    put(operands[1]), put(operands[0]);
  else
    for (ValueId v : operands) put(v);
  put(a.real), put(a.integer), put(a.stride), put(a.from), put(a.to), put(a.bundle), put(a.flag);
  put(a.axes.size());   // else axes summed and axes kept could change places
  for (AxisId x : a.axes) put(x);
  put(t.dtype);
  if (code == Opcode::uniform_) {
    for (AxisId x : t.axes) put(x);   // the order decides the numbers
    return k;
  }
  // The order of axes is storage: two that differ in it alone are the same value.
  std::vector<AxisId> sorted(t.axes.begin(), t.axes.end());
  std::sort(sorted.begin(), sorted.end());
  for (AxisId x : sorted) put(x);
  return k;
}

double wrap(double x, DType d) {
  if (d == DType::i32) return static_cast<double>(static_cast<std::int32_t>(static_cast<std::int64_t>(x)));
  return x;
}

// Elementwise operations on constants whose meaning in double is that of the IR; nullopt for the others.
std::optional<double> fold_value(Opcode code, const std::vector<double>& v) {
  switch (code) {
    case Opcode::neg_: return -v[0];
    case Opcode::abs_: return std::fabs(v[0]);
    case Opcode::floor_: return std::floor(v[0]);
    case Opcode::exp_: return std::exp(v[0]);
    case Opcode::log_: return std::log(v[0]);
    case Opcode::sqrt_: return std::sqrt(v[0]);
    case Opcode::rsqrt_: return 1 / std::sqrt(v[0]);
    case Opcode::sin_: return std::sin(v[0]);
    case Opcode::cos_: return std::cos(v[0]);
    case Opcode::tanh_: return std::tanh(v[0]);
    case Opcode::sigmoid_: return 1 / (1 + std::exp(-v[0]));
    case Opcode::erf_: return std::erf(v[0]);
    case Opcode::not_: return v[0] != 0 ? 0.0 : 1.0;
    case Opcode::stop_: return v[0];
    case Opcode::add_: return v[0] + v[1];
    case Opcode::sub_: return v[0] - v[1];
    case Opcode::mul_: return v[0] * v[1];
    case Opcode::div_: return v[0] / v[1];
    case Opcode::pow_: return std::pow(v[0], v[1]);
    case Opcode::max_: return std::isnan(v[0]) || std::isnan(v[1]) ? NAN : std::fmax(v[0], v[1]);
    case Opcode::min_: return std::isnan(v[0]) || std::isnan(v[1]) ? NAN : std::fmin(v[0], v[1]);
    case Opcode::floordiv_: return v[1] == 0 ? 0.0 : std::floor(v[0] / v[1]);
    case Opcode::mod_: return v[1] == 0 ? 0.0 : v[0] - v[1] * std::floor(v[0] / v[1]);
    case Opcode::lt_: return v[0] < v[1] ? 1.0 : 0.0;
    case Opcode::le_: return v[0] <= v[1] ? 1.0 : 0.0;
    case Opcode::eq_: return v[0] == v[1] ? 1.0 : 0.0;
    case Opcode::ne_: return v[0] != v[1] ? 1.0 : 0.0;
    case Opcode::and_: return v[0] != 0 && v[1] != 0 ? 1.0 : 0.0;
    case Opcode::or_: return v[0] != 0 || v[1] != 0 ? 1.0 : 0.0;
    case Opcode::select_: return v[0] != 0 ? v[1] : v[2];
    default: return std::nullopt;
  }
}

}  // namespace

const Op* Simplifier::def(ValueId v) const {
  const OpId d = to_.function().value(v).def;
  return d.valid() ? &to_.function().op(d) : nullptr;
}
const Op* Simplifier::def(ValueId v, Opcode code) const {
  const Op* o = def(v);
  return o != nullptr && o->code == code ? o : nullptr;
}

std::optional<double> Simplifier::constant_of(ValueId v) const {
  if (const Op* e = def(v, Opcode::expand_)) v = e->operands[0];
  const Op* o = def(v, Opcode::constant_);
  if (o == nullptr) return std::nullopt;
  return is_real(type(v).dtype) ? o->attr.real : static_cast<double>(o->attr.integer);
}

ValueId Simplifier::constant(double value, DType dtype) {
  Attr a;
  if (is_real(dtype))
    a.real = value;
  else
    a.integer = static_cast<std::int64_t>(value);
  return append(Opcode::constant_, {}, a, Type{dtype, {}});
}

ValueId Simplifier::fit(ValueId x, const Type& t) {
  return same_set(type(x).axes, t.axes) ? x : make(Opcode::expand_, {x}, {}, t);
}

std::optional<ValueId> Simplifier::fold(Opcode code, const std::vector<ValueId>& operands, const Type& t) {
  if (!is_elementwise(code) || !t.axes.empty()) return std::nullopt;
  std::vector<double> values;
  for (ValueId v : operands) {
    const std::optional<double> k = constant_of(v);
    if (!k) return std::nullopt;
    values.push_back(*k);
  }
  const DType from = type(operands[0]).dtype;
  if (from == DType::i64 || t.dtype == DType::i64) return std::nullopt;   // not exact in double
  std::optional<double> r;
  if (code == Opcode::cast_) {
    if (t.dtype == DType::bf16 || t.dtype == DType::f16) return std::nullopt;   // rounds at run time
    r = is_real(t.dtype) ? values[0] : std::trunc(values[0]);
    if (!is_real(t.dtype) && !(std::fabs(*r) < 0x1p31)) return std::nullopt;
  } else {
    r = fold_value(code, values);
  }
  if (!r) return std::nullopt;
  fired("fold");
  return constant(wrap(*r, t.dtype), t.dtype);
}

std::optional<ValueId> Simplifier::known(Opcode code, const std::vector<ValueId>& operands, const Attr& attr, const Type& t) const {
  const auto it = scopes_.back().find(key(code, operands, attr, t));
  return it == scopes_.back().end() ? std::nullopt : std::optional(it->second);
}

ValueId Simplifier::append(Opcode code, const std::vector<ValueId>& operands, const Attr& attr, const Type& t) {
  const std::string k = key(code, operands, attr, t);
  if (const auto it = scopes_.back().find(k); it != scopes_.back().end()) {
    fired("common");
    Function& f = to_.function();
    Op& known = f.ops[f.value(it->second).def.index];
    known.loc = to_.program().unite(known.loc, to_.at);
    return it->second;
  }
  const ValueId v = to_.add(code, operands, attr, t);
  scopes_.back()[k] = v;
  return v;
}

ValueId Simplifier::make(Opcode code, std::vector<ValueId> operands, const Attr& attr, Type t) {
  if (++depth_ > deepest_rewrite) internal_error("a rewrite rule does not end");
  std::optional<ValueId> v = structure(code, operands, attr, t);
  if (!v) v = fold(code, operands, t);
  if (!v) v = table(code, operands, t);
  if (!v) v = append(code, operands, attr, t);
  --depth_;
  return *v;
}

// What looks at the order of an operand's axes (calls, regions, `flat`) gets it as it was.
void Simplifier::control(OpId id, const std::vector<char>& live) {
  const Op& op = from_.op(id);
  std::vector<ValueId> mapped;
  for (ValueId v : op.operands) {
    mapped.push_back(clone_(v));
    clone_.map(v, to_.expand(clone_(v), clone_(from_.type(v)).axes));
  }
  if (op.regions.empty() || op.attr.claim != Claim::none) {
    clone_.clone(id);  // a claimed region stays as its claim says it
  } else {
    // A fused or scan operation: its region is simplified by itself (nesting is bounded by the parsers).
    std::vector<RegionId> regions;
    for (RegionId r : op.regions) {
      const RegionId opened = to_.open();
      for (ValueId v : from_.regions[r.index].arguments)
        clone_.map(v, to_.argument(clone_(from_.type(v)), to_.program().text(from_.value(v).name)));
      region(from_.regions[r.index], live);
      std::vector<ValueId> results;
      for (ValueId v : from_.regions[r.index].results)
        results.push_back(to_.expand(clone_(v), clone_(from_.type(v)).axes));
      to_.close(results);
      regions.push_back(opened);
    }
    to_.at = op.loc;
    std::vector<ValueId> operands;
    std::vector<Type> types;
    for (ValueId v : op.operands) operands.push_back(clone_(v));
    for (ValueId v : op.results) types.push_back(clone_(from_.type(v)));
    const std::vector<ValueId> made = to_.add_multi(op.code, operands, clone_(op.attr), types, regions);
    for (std::size_t i = 0; i < made.size(); ++i) {
      clone_.map(op.results[i], made[i]);
      to_.name(made[i], to_.program().text(from_.value(op.results[i]).name));
    }
  }
  for (std::size_t i = 0; i < mapped.size(); ++i) clone_.map(op.operands[i], mapped[i]);
}

void Simplifier::operation(OpId id, const std::vector<char>& live) {
  const Op& op = from_.op(id);
  to_.at = op.loc;
  if (facts(op.code).kind == Kind::control) return control(id, live);
  std::vector<ValueId> operands;
  for (ValueId v : op.operands) operands.push_back(clone_(v));
  const Type t = clone_(from_.type(op.results[0]));
  const std::size_t before = to_.function().values.size();
  const ValueId v = make(op.code, std::move(operands), clone_(op.attr), t);
  clone_.map(op.results[0], v);
  if (v.index >= before && !to_.function().value(v).name.valid())
    to_.name(v, to_.program().text(from_.value(op.results[0]).name));
}

void Simplifier::region(const Region& r, const std::vector<char>& live) {
  scopes_.emplace_back();
  for (OpId o : r.ops)
    if (live[o.index])
      operation(o, live);
    else
      fired("dead");
  scopes_.pop_back();
}

bool Simplifier::run() {
  clone_.arguments();
  scopes_.emplace_back();
  const std::vector<char> live = live_ops(from_);
  for (OpId o : from_.body().ops)
    if (live[o.index])
      operation(o, live);
    else
      fired("dead");
  std::vector<ValueId> results;
  for (ValueId v : from_.body().results)
    results.push_back(to_.expand(clone_(v), clone_(from_.type(v)).axes));
  to_.finish(results, from_.result_names);
  return changed_;
}

namespace {

Function once(Program& p, const Function& from, RuleCounts& counts, bool& changed) {
  Function to;
  to.name = from.name;
  Builder builder(p, to);
  changed = Simplifier(from, builder, counts).run();
  return to;
}

}  // namespace

Function simplify_function(Program& program, Function f, RuleCounts* counts) {
  RuleCounts own;
  bool changed = true;
  for (int round = 0; changed && round < most_rounds; ++round) {
    const Function from = std::move(f);
    f = once(program, from, counts != nullptr ? *counts : own, changed);
  }
  return f;
}

Program simplify(const Program& program, RuleCounts* counts) {
  Program out = program;
  for (std::size_t i = 0; i < out.functions.size(); ++i) {
    if (out.functions[i].family != Family::none) continue;
    Function from = std::move(out.functions[i]);
    out.functions[i] = Function{};
    Function to = simplify_function(out, std::move(from), counts);
    out.functions[i] = std::move(to);
  }
  return out;
}

}  // namespace gradc
