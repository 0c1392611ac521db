// The derivative of fused operations. A region goes back as a region that computes forward again,
// but for what its claim keeps:
//
//   softmax     its result. d_x = w · (d_w − Σ d_w · w), the sum over the softmax's axis.
//   attention   the logarithm of the sum, lse: the weights are exp(x − lse) again, and Σ d_w · w of
//               each row is Σ d_out · out over the features (the weight map only multiplies), which
//               stands outside as `delta` (Dao, "FlashAttention-2", 2023, section 3).
//   others      statistics of rows: what reductions give, and what is computed from these alone,
//               such as a layernorm's mean and reciprocal deviation.
//
// The backward region of attention claims to be `attention_grad` (ir/attention.h). What follows its
// sums is moved behind the operation.
#include <algorithm>

#include "ir/kernel.h"
#include "passes/reverse.h"

namespace gradc {
namespace {

// The values of the region that are statistics of rows.
std::vector<char> statistics(const Function& f, const Region& region) {
  std::vector<char> out(f.values.size(), 0), reduced(f.values.size(), 0);
  for (OpId o : region.ops) {
    const Op& op = f.op(o);
    if (facts(op.code).kind == Kind::reduce) {
      out[op.results[0].index] = 1;
      for (ValueId v : op.results) reduced[v.index] = 1;
      continue;
    }
    if (!is_elementwise(op.code)) continue;
    bool any = false, all = true;
    for (ValueId v : op.operands) {
      const bool number = f.value(v).def.valid() && f.op(f.value(v).def).code == Opcode::constant_;
      any = any || out[v.index] != 0;
      all = all && (out[v.index] != 0 || number);
    }
    out[op.results[0].index] = any && all;
  }
  return out;
}

}  // namespace

void Reverse::set_claim(const Op& owner, const Derived& d) {
  keepable_.assign(from_.values.size(), 0);
  switch (owner.attr.claim) {
    case Claim::none:
    case Claim::attention_grad:
      return;
    case Claim::softmax: {
      SoftmaxForm s;
      if (region_.results.size() != 1 || !softmax_form(from_, region_.results[0], s)) return;
      softmax_ = s;
      keepable_[s.weight.index] = 1;
      return;
    }
    case Claim::attention: {
      AttentionForm a;
      if (!attention_form(from_, region_, a).empty() || d.slots != std::vector<std::uint32_t>{0} ||
          !walks_in_tiles())
        return;
      batch_ = a.batch;
      softmax_ = a.softmax;
      from_lse_ = true;
      lse_ = a.lse;
      if (lse_.valid()) keepable_[lse_.index] = 1;
      return;
    }
    default:
      keepable_ = statistics(from_, region_);
  }
}

// Whether what depends on the arguments goes back value by value, in axes of the scores.
bool Reverse::walks_in_tiles() const {
  return std::all_of(region_.ops.begin(), region_.ops.end(), [&](OpId o) {
    const Op& op = from_.op(o);
    switch (op.code) {
      case Opcode::relabel_:
      case Opcode::split_:
      case Opcode::merge_:
      case Opcode::shift_:
      case Opcode::gather_:
      case Opcode::expand_:
      case Opcode::contract_:
        return true;
      case Opcode::pick_:
      case Opcode::slice_:
        return op.operands.size() == 1;
      default:
        return is_elementwise(op.code) || facts(op.code).kind == Kind::reduce ||
               !activity_.varied(from_id_, op.results[0]);
    }
  });
}

Type Reverse::cotangent_type(ValueId v) {
  Type type = map_(from_.type(v));
  const OpId def = from_.value(v).def;
  if (!from_lse_ || !def.valid()) return type;
  const bool address = is_address(from_, from_.op(def));
  const AxisList& more = address ? batch_ : from_.type(softmax_->x).axes;
  for (AxisId a : more) type.axes = type.axes.with(map_(a));
  return type;
}

ValueId Reverse::take(Taken what, const Type& type, std::string_view name) {
  taken_.push_back(what);
  return to_.argument(type, name);
}

void Reverse::walk_softmax() {
  const SoftmaxForm& s = *softmax_;
  if (slots_[s.weight.index].empty()) return;
  to_.at = gradient_of(from_.op(from_.value(s.weight).def).loc);
  const ValueId g = cotangent(s.weight);
  const ValueId w = primal(s.weight);
  const Type type = to_.type(w);
  ValueId row;
  if (from_lse_) {
    row = take({Taken::delta}, map_(from_.type(s.max)), "delta");
  } else {
    const ValueId product = to_.add(Opcode::mul_, {g, w}, {}, type);
    row = to_.sum(product, {map_(s.axis)});
  }
  const ValueId above = to_.add(Opcode::sub_, {g, row}, {}, type);
  contribute(s.x, {to_.add(Opcode::mul_, {w, above}, {}, type), {}});
}

Type Reverse::lse_type(const Op& op) const {
  AttentionForm a;
  attention_form(from_, from_.regions[op.regions[0].index], a);
  return from_.type(a.softmax.max);
}

std::string Reverse::extra_name(const Op& op, std::size_t n) const {
  const auto text = [&](ValueId v) { return std::string(to_.program().text(from_.value(v).name)); };
  if (op.code == Opcode::scan_) return text(op.results[0]);
  if (op.code != Opcode::fused_) return "";
  const std::vector<ValueId> kept = further(op, gradient_.of(from_id_, op));
  if (n >= kept.size()) return "lse";
  const std::string own = text(kept[n]);
  return own.empty() ? std::string(facts(from_.op(from_.value(kept[n]).def).code).name) : own;
}

// The operation with what is kept as further results.
void Reverse::copy_fused(OpId id) {
  const Op& op = from_.op(id);
  const Derived& d = gradient_.of(from_id_, op);
  const Region& region = from_.regions[op.regions[0].index];
  std::vector<ValueId> operands;
  for (ValueId v : op.operands) operands.push_back(map_(v));
  std::vector<Type> types;
  for (ValueId v : op.results) types.push_back(map_(from_.type(v)));
  for (const Type& t : extra_types(id)) types.push_back(t);
  const RegionId copy = to_.open();
  for (ValueId v : region.arguments)
    map_.map(v, to_.argument(map_(from_.type(v)), to_.program().text(from_.value(v).name)));
  std::vector<ValueId> yields = map_.inline_region(region);
  for (ValueId v : further(op, d)) yields.push_back(map_(v));
  if (d.lse) {
    AttentionForm a;
    attention_form(from_, region, a);
    SoftmaxForm here = a.softmax;
    here.shift = map_(here.shift);
    here.norm = map_(here.norm);
    yields.push_back(build_lse(to_, here));
  }
  to_.close(yields);
  to_.at = op.loc;
  const std::vector<ValueId> made =
      to_.add_multi(Opcode::fused_, operands, map_(op.attr), types, std::array{copy});
  for (std::size_t i = 0; i < made.size(); ++i)
    if (i < op.results.size()) {
      map_.map(op.results[i], made[i]);
      to_.name(made[i], to_.program().text(from_.value(op.results[i]).name));
    } else {
      to_.name(made[i], extra_name(op, i - op.results.size()));
    }
  extras_[id.index] = {made.begin() + static_cast<std::ptrdiff_t>(op.results.size()), made.end()};
}

// The results once more, of what was kept and the operands: the region's operations behind both.
void Reverse::copy_from_kept(OpId id) {
  const Op& op = from_.op(id);
  const Region& region = from_.regions[op.regions[0].index];
  for (std::size_t i = 0; i < op.operands.size(); ++i)
    map_.map(region.arguments[i], map_(op.operands[i]));
  const std::vector<ValueId> kept = further(op, gradient_.of(from_id_, op));
  for (std::size_t i = 0; i < kept.size(); ++i) map_.map(kept[i], extras(id)[i]);
  std::vector<char> needed(from_.values.size(), 0);
  for (ValueId v : region.results) needed[v.index] = 1;
  const auto wanted = [&](OpId o) {
    return std::any_of(from_.op(o).results.begin(), from_.op(o).results.end(),
                       [&](ValueId v) { return needed[v.index] != 0 && !map_.mapped(v); });
  };
  for (auto o = region.ops.rbegin(); o != region.ops.rend(); ++o)
    if (wanted(*o))
      for (ValueId v : from_.op(*o).operands) needed[v.index] = 1;
  for (OpId o : region.ops)
    if (wanted(o)) map_.clone(o);
  for (std::size_t i = 0; i < op.results.size(); ++i)
    map_.map(op.results[i], map_(region.results[i]));
}

void Reverse::walk_fused(OpId id) {
  const Op& op = from_.op(id);
  const Derived& d = gradient_.of(from_id_, op);
  if (d.gives.empty()) return;
  const LocId at = gradient_of(op.loc);
  std::vector<ValueId> operands;
  for (std::uint32_t i : d.arguments) operands.push_back(primal(op.operands[i]));
  const std::vector<ValueId>& results = from_.regions[op.regions[0].index].results;
  std::size_t next = 0;
  for (ValueId v : d.kept) {
    const auto result = std::find(results.begin(), results.end(), v);
    operands.push_back(result != results.end()
                           ? primal(op.results[static_cast<std::size_t>(result - results.begin())])
                           : extras(id)[next++]);
  }
  if (d.lse) operands.push_back(extras(id)[next]);
  to_.at = at;
  std::vector<ValueId> cotangents;
  for (std::uint32_t i : d.slots) cotangents.push_back(incoming(op.results[i]));
  if (d.delta) {
    const ValueId out = primal(op.results[0]);
    // A contraction, so that it adds as d_out · u does: where one key has all the weight, both are
    // the same number and their difference is 0.
    operands.push_back(to_.contract(cotangents[0], out, map_(lse_type(op)).axes));
    to_.name(operands.back(), "delta");
  }
  const std::size_t split = operands.size();
  operands.insert(operands.end(), cotangents.begin(), cotangents.end());
  std::vector<ValueId> made;
  if (!d.handed.empty()) {
    made = attention_grad(d, operands, at);
  } else {
    const RegionId region = to_.open();
    std::vector<ValueId> formal;
    for (std::size_t i = 0; i < operands.size(); ++i)
      formal.push_back(to_.argument(to_.type(operands[i]),
                                    formal_name(d, i < split ? d.slots.size() + i : i - split)));
    const auto cut = formal.begin() + static_cast<std::ptrdiff_t>(split);
    const std::vector<ValueId> outs = embed(d, {cut, formal.end()}, {formal.begin(), cut});
    to_.close(outs);
    std::vector<Type> types;
    for (ValueId v : outs) types.push_back(to_.type(v));
    to_.at = at;
    made = to_.add_multi(Opcode::fused_, operands, {}, types, std::array{region});
  }
  for (std::size_t n = 0; n < made.size(); ++n)
    if (flows(op, d.gives[n])) contribute(op.operands[d.gives[n]], {made[n], {}});
}

// The fused operation of what stands in `d.inner`, and the rest of the body behind it. `operands`:
// what the body takes, cotangents last.
std::vector<ValueId> Reverse::attention_grad(const Derived& d, std::span<const ValueId> operands,
                                             LocId at) {
  const Function& body = d.body;
  const std::vector<ValueId>& formal = body.body().arguments;
  const std::size_t slots = d.slots.size(), rest = formal.size() - slots;
  const auto operand = [&](std::size_t i) { return operands[i < slots ? rest + i : i - slots]; };
  std::vector<char> read(body.values.size(), 0);
  for (OpId o : body.body().ops)
    if (d.inner[o.index] != 0)
      for (ValueId v : body.op(o).operands) read[v.index] = 1;
  std::vector<ValueId> inputs;
  Cloner inside(body, to_), behind(body, to_);
  map_axes_of(body, inside);
  map_axes_of(body, behind);
  const RegionId region = to_.open();
  for (std::size_t i = 0; i < formal.size(); ++i) {
    behind.map(formal[i], operand(i));
    if (read[formal[i].index] == 0) continue;
    inputs.push_back(operand(i));
    inside.map(formal[i], to_.argument(to_.type(inputs.back()),
                                       to_.program().text(body.value(formal[i]).name)));
  }
  for (OpId o : body.body().ops)
    if (d.inner[o.index] != 0) inside.clone(o);
  std::vector<ValueId> yields;
  std::vector<Type> types;
  for (ValueId v : d.handed) {
    yields.push_back(inside(v));
    types.push_back(to_.type(yields.back()));
  }
  to_.close(yields);
  to_.at = at;
  const std::vector<ValueId> sums = to_.add_multi(
      Opcode::fused_, inputs, {.claim = Claim::attention_grad}, types, std::array{region});
  for (std::size_t i = 0; i < sums.size(); ++i) {
    behind.map(d.handed[i], sums[i]);
    to_.name(sums[i], std::string(to_.program().text(d.names[i])));
  }
  // The rest, and what it reads, by need.
  std::vector<char> needed(body.ops.size(), 0);
  const auto need = [&](ValueId v) {
    if (!behind.mapped(v)) needed[body.value(v).def.index] = 1;
  };
  for (ValueId v : body.body().results) need(v);
  for (auto o = body.body().ops.rbegin(); o != body.body().ops.rend(); ++o)
    if (needed[o->index] != 0)
      for (ValueId v : body.op(*o).operands) need(v);
  for (OpId o : body.body().ops)
    if (needed[o.index] != 0) behind.clone(o);
  std::vector<ValueId> out;
  for (ValueId v : body.body().results) out.push_back(behind(v));
  return out;
}

// Splits the backward body of an attention in two: what the claim `attention_grad` covers, and what
// stands behind its sums. Leaves `inner` and `handed` empty if that cannot be.
void split_attention_grad(Derived& d) {
  Function& f = d.body;
  enum : char { free, tile, sum, after };
  std::vector<char> part(f.values.size(), free);
  std::vector<char> inner(f.ops.size(), 0);
  for (OpId o : f.body().ops) {
    Op& op = f.ops[o.index];
    const auto has = [&](char p) {
      return std::any_of(op.operands.begin(), op.operands.end(),
                         [&](ValueId v) { return part[v.index] == p; });
    };
    const ValueId r = op.results[0];
    if (op.results.size() != 1) return;
    if (has(sum) || has(after)) {
      if (has(tile)) return;
      part[r.index] = after;
      continue;
    }
    inner[o.index] = 1;
    if (op.code == Opcode::contract_) {
      if (has(tile) && part[op.operands[0].index] != tile)
        std::swap(op.operands[0], op.operands[1]);
      part[r.index] = has(tile) ? sum : tile;
    } else if (has(tile)) {
      const bool sums = op.code == Opcode::scatter_ || facts(op.code).kind == Kind::reduce;
      part[r.index] = sums ? sum : tile;
    }
  }
  std::vector<char> handed(f.values.size(), 0);
  const auto hand = [&](ValueId v) {
    if (part[v.index] == sum) handed[v.index] = 1;
  };
  for (ValueId v : f.body().results) {
    if (part[v.index] == tile) return;
    hand(v);
  }
  for (OpId o : f.body().ops)
    if (inner[o.index] == 0)
      for (ValueId v : f.op(o).operands) hand(v);
  // What no sum reads stands behind.
  std::vector<char> live = handed;
  std::vector<ValueId> yields;
  for (auto o = f.body().ops.rbegin(); o != f.body().ops.rend(); ++o) {
    const Op& op = f.op(*o);
    if (inner[o->index] == 0 || live[op.results[0].index] == 0) {
      inner[o->index] = 0;
      continue;
    }
    for (ValueId v : op.operands) live[v.index] = 1;
  }
  for (OpId o : f.body().ops)
    if (handed[f.op(o).results[0].index] != 0) yields.push_back(f.op(o).results[0]);
  Region region{.arguments = f.body().arguments, .ops = {}, .results = yields};
  for (OpId o : f.body().ops)
    if (inner[o.index] != 0) region.ops.push_back(o);
  AttentionGradForm form;
  if (yields.empty() || !attention_grad_form(f, region, form).empty()) return;
  for (ValueId v : yields) {
    d.names.push_back(f.value(v).name);
    f.values[v.index].name = {};
  }
  d.inner = std::move(inner);
  d.handed = std::move(yields);
}

}  // namespace gradc
