// Owns the optimizer as IR: @update over flat values, and @step, which calls @grad and @update.
//
// AdamW is Loshchilov & Hutter, "Decoupled weight decay regularization" (ICLR 2019), algorithm 2,
// in the form of PyTorch's AdamW: decay first, then p −= lr/(1−β1^t) · m/(√v/√(1−β2^t) + ε), t =
// step + 1. The bias corrections are float64: 1 − β^t in float32 would lose the digits that the
// first steps live on. SGD has one moment, m = momentum·m + g. Gradients are clipped as PyTorch's
// clip_grad_norm_ does, by min(1, clip / (norm + 1e-6)); clip 0 is none, and the norm is given all
// the same. What runs over the elements is one `fused optimizer`, with all that is one number for
// all of them in its operands.
#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "ir/builder.h"
#include "ir/pattern.h"
#include "passes/differentiate.h"
#include "passes/passes.h"

namespace gradc {
namespace {

bool matches_any(std::string_view patterns, std::string_view text) {
  constexpr std::string_view separators = ", \t";
  for (std::size_t i = patterns.find_first_not_of(separators); i != std::string_view::npos;) {
    const std::size_t end = std::min(patterns.find_first_of(separators, i), patterns.size());
    if (matches(patterns.substr(i, end - i), text)) return true;
    i = patterns.find_first_not_of(separators, end);
  }
  return false;
}

// Elements whose decay is not their member's: a member stands for all turns, a pattern may name
// one.
struct Exception {
  std::int64_t begin = 0, end = 0;
  bool decay = false;
};

// Sets Member::decay by `except` and by what is reached, and gives the exceptions, in order.
std::vector<Exception> set_decay(Program& program, BundleId parameters) {
  const std::vector<std::string> list = unreached_parameters(program);
  const std::unordered_set<std::string> unreached(list.begin(), list.end());
  const std::vector<Leaf> all = leaves(program, parameters);
  std::vector<char> decays;
  for (const Leaf& leaf : all)
    decays.push_back(leaf.member->decay && !matches_any(program.training.except, leaf.stored) &&
                     !unreached.contains(leaf.stored));
  // The first turn speaks for the member; others may then be exceptions.
  std::unordered_map<const Member*, bool> of;
  for (std::size_t i = 0; i < all.size(); ++i) of.try_emplace(all[i].member, decays[i] != 0);
  for (Bundle& b : program.bundles)
    for (Member& m : b.members)
      if (const auto it = of.find(&m); it != of.end()) m.decay = it->second;
  std::vector<Exception> out;
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (all[i].elements == 0 || all[i].member->decay == (decays[i] != 0)) continue;
    const std::int64_t begin = all[i].offset, end = begin + all[i].elements;
    if (!out.empty() && out.back().end == begin && out.back().decay == (decays[i] != 0))
      out.back().end = end;
    else
      out.push_back({begin, end, decays[i] != 0});
  }
  return out;
}

const Group& parameters_of(const Program& program, const Function& grad) {
  for (const Group& g : grad.groups)
    if (program.text(g.name) == "p" && !grad.value(g.first).def.valid()) return g;
  internal_error("@grad has no %p to update");
}

// ---- @update

class Update {
 public:
  Update(Program& program, BundleId parameters, std::vector<Exception> exceptions)
      : program_(program),
        training_(program.training),
        bundle_(parameters),
        exceptions_(std::move(exceptions)) {}

  FunctionId run() {
    to_.at = program_.intern(Location{.role = Role::update, .lines = {}});
    const Group p_group = to_.arguments(bundle_, "p");
    const Group g_group = to_.arguments(bundle_, "g");
    n_ = to_.fresh_axis("n", element_count(program_, bundle_));
    real_ = to_.type(p_group.first).dtype;
    const Type flat{real_, {n_}};
    const ValueId m = to_.argument(flat, "m");
    const ValueId v = adamw() ? to_.argument(flat, "v") : ValueId{};
    const ValueId step = to_.argument({DType::i64, {}}, "step");
    const ValueId lr = to_.cast(to_.argument({DType::f32, {}}, "lr"), real_);
    const ValueId p = flatten(p_group);
    const ValueId g = clipped(flatten(g_group));
    adamw() ? adamw(p, g, m, v, step, lr) : sgd(p, g, m, lr);
    results_.push_back(norm_);
    std::vector<NameId> names;
    for (std::string_view name : {"p", "m", "v", "norm"})
      if (name != "v" || adamw()) names.push_back(program_.intern(name));
    to_.finish(results_, names);
    program_.functions.push_back(std::move(made_));
    return FunctionId{static_cast<std::uint32_t>(program_.functions.size() - 1)};
  }

 private:
  bool adamw() const { return training_.kind == Training::adamw; }
  ValueId named(ValueId v, std::string_view name) {
    to_.name(v, name);
    return v;
  }
  ValueId number(double x) { return to_.constant(x, real_); }
  // Operands in braces: operations are made in the order in which they are written.
  using Operands = std::initializer_list<ValueId>;
  ValueId add(Operands x) { return to_.add(Opcode::add_, x); }
  ValueId sub(Operands x) { return to_.add(Opcode::sub_, x); }
  ValueId mul(Operands x) { return to_.add(Opcode::mul_, x); }
  ValueId div(Operands x) { return to_.add(Opcode::div_, x); }
  ValueId choose(Operands x) { return to_.add(Opcode::select_, x); }
  ValueId root(ValueId a) { return to_.unary(Opcode::sqrt_, a); }

  ValueId flatten(const Group& group) {
    std::vector<ValueId> members;
    for (std::uint32_t i = 0; i < group.count; ++i)
      members.push_back(ValueId{group.first.index + i});
    return to_.add(Opcode::flat_, members, {.to = n_, .bundle = bundle_}, Type{real_, {n_}});
  }
  ValueId flags(std::string_view flag) {
    return to_.add(Opcode::flags_, {}, {.bundle = bundle_, .flag = program_.intern(flag)},
                   Type{DType::boolean, {n_}});
  }
  bool all(bool Member::*flag) const {
    const std::vector<Leaf> list = leaves(program_, bundle_);
    return std::all_of(list.begin(), list.end(), [&](const Leaf& l) { return l.member->*flag; });
  }

  // Sets norm_; the gradient scaled where it is clipped.
  ValueId clipped(ValueId g) {
    const bool everywhere = all(&Member::clip);
    const ValueId mask = everywhere ? ValueId{} : flags("clip");
    ValueId squares = mul({g, g});
    if (!everywhere) squares = choose({mask, squares, number(0)});
    norm_ = named(root(to_.sum(squares, {n_})), "norm");
    if (training_.clip == 0) return g;
    const ValueId ratio = div({number(training_.clip), add({norm_, number(1e-6)})});
    const ValueId scale = named(to_.add(Opcode::min_, {number(1), ratio}), "scale");
    const ValueId scaled = mul({g, scale});
    return everywhere ? scaled : choose({mask, scaled, g});
  }

  // 1 − lr·decay, or 1 where a member does not decay; invalid if none does.
  ValueId decay_factor(ValueId lr) {
    if (training_.weight_decay == 0) return {};
    const ValueId factor = sub({number(1), mul({lr, number(training_.weight_decay)})});
    if (all(&Member::decay) && exceptions_.empty()) return named(factor, "keep");
    return named(choose({decay_mask(), factor, number(1)}), "keep");
  }
  ValueId decay_mask() {
    ValueId mask = flags("decay");
    if (exceptions_.empty()) return mask;
    const ValueId at = to_.add(Opcode::position_, {}, {.to = n_});
    for (const Exception& e : exceptions_) {
      const ValueId begins = to_.add(Opcode::le_, {to_.integer(e.begin), at});
      const ValueId ends = to_.add(Opcode::lt_, {at, to_.integer(e.end)});
      const ValueId inside = to_.add(Opcode::and_, {begins, ends});
      mask = e.decay ? to_.add(Opcode::or_, {mask, inside})
                     : to_.add(Opcode::and_, {mask, to_.unary(Opcode::not_, inside)});
    }
    return named(mask, "decay");
  }

  void adamw(ValueId p, ValueId g, ValueId m, ValueId v, ValueId step, ValueId lr) {
    const double beta1 = training_.beta1, beta2 = training_.beta2;
    const ValueId t = to_.cast(add({step, to_.integer(1, DType::i64)}), DType::f64);
    const auto correction = [&](double beta) {   // 1 − β^t
      const ValueId power = to_.add(Opcode::pow_, {to_.constant(beta, DType::f64), t});
      return sub({to_.constant(1, DType::f64), power});
    };
    const ValueId rate = named(div({lr, to_.cast(correction(beta1), real_)}), "rate");
    const ValueId spread = to_.cast(root(correction(beta2)), real_);
    const ValueId inverse = named(div({number(1), spread}), "spread");
    std::vector<ValueId> operands{p, g, m, v, rate, inverse};
    if (const ValueId keep = decay_factor(lr); keep.valid()) operands.push_back(keep);
    over_elements(operands, {"p", "g", "m", "v", "rate", "spread", "keep"}, [&](const Values& x) {
      const ValueId old_m = mul({x[2], number(beta1)});
      const ValueId next_m = named(add({old_m, mul({x[1], number(1 - beta1)})}), "m");
      const ValueId squares = mul({mul({x[1], x[1]}), number(1 - beta2)});
      const ValueId next_v = named(add({mul({x[3], number(beta2)}), squares}), "v");
      const ValueId denominator = add({mul({root(next_v), x[5]}), number(training_.eps)});
      const ValueId change = mul({x[4], div({next_m, denominator})});
      const ValueId kept = x.size() == 7 ? mul({x[0], x[6]}) : x[0];
      return Values{named(sub({kept, change}), "p"), next_m, next_v};
    });
  }

  void sgd(ValueId p, ValueId g, ValueId m, ValueId lr) {
    over_elements({p, g, m, lr}, {"p", "g", "m", "lr"}, [&](const Values& x) {
      const ValueId next_m = training_.momentum == 0
                                 ? x[1]
                                 : named(add({mul({x[2], number(training_.momentum)}), x[1]}), "m");
      return Values{named(sub({x[0], mul({x[3], next_m})}), "p"), next_m};
    });
  }

  // Sets results_ to what `body` makes of the operands, as an operation that claims to be an
  // optimizer (fuse_check.cpp has its form).
  using Values = std::vector<ValueId>;
  using Names = std::initializer_list<std::string_view>;
  template <class Body>
  void over_elements(const Values& operands, Names names, Body body) {
    const RegionId region = to_.open();
    Values inside;
    for (std::size_t i = 0; i < operands.size(); ++i)
      inside.push_back(to_.argument(to_.type(operands[i]), names.begin()[i]));
    const Values made = body(inside);
    to_.close(made);
    const std::vector<Type> types(made.size(), to_.type(operands[0]));
    results_ = to_.add_multi(Opcode::fused_, operands, {.claim = Claim::optimizer}, types,
                             std::array{region});
    named(results_[0], "p");
    named(results_[1], "m");
    if (results_.size() == 3) named(results_[2], "v");
  }

  Program& program_;
  const Training training_;
  const BundleId bundle_;
  const std::vector<Exception> exceptions_;
  Function made_{.name = program_.intern("update")};
  Builder to_{program_, made_};
  AxisId n_;
  DType real_ = DType::f32;
  ValueId norm_;
  std::vector<ValueId> results_;
};

// ---- @step

void add_step(Program& program, FunctionId grad_id, FunctionId update_id) {
  const Function& grad = program.function(grad_id);
  const Function& update = program.function(update_id);
  const bool second_moment = program.training.kind == Training::adamw;
  Function made{.name = program.intern("step")};
  Builder to(program, made);
  to.at = program.intern(Location{.role = Role::update, .lines = {}});
  Cloner map(grad, to);
  const std::vector<ValueId>& formal = grad.body().arguments;
  const auto take = [&](ValueId v) {
    map.map(v, to.argument(map(grad.type(v)), program.text(grad.value(v).name)));
  };
  // The groups %p and %f stand first.
  std::size_t next = 0;
  for (const Group& g : grad.groups) {
    if (grad.value(g.first).def.valid()) continue;
    for (std::uint32_t i = 0; i < g.count; ++i) take(formal[next++]);
    to.group(program.text(g.name), g.bundle, map(g.first), g.count);
  }
  const Group& p = parameters_of(program, grad);
  const Type flat{to.type(map(p.first)).dtype,
                  {to.fresh_axis("n", element_count(program, p.bundle))}};
  std::vector<ValueId> state{to.argument(flat, "m")};
  if (second_moment) state.push_back(to.argument(flat, "v"));
  for (; next < formal.size(); ++next) take(formal[next]);
  const ValueId lr = to.argument({DType::f32, {}}, "lr");

  std::vector<ValueId> operands;
  for (ValueId v : formal) operands.push_back(map(v));
  std::vector<Type> types;
  for (ValueId v : grad.body().results) types.push_back(map(grad.type(v)));
  const std::vector<ValueId> made_grad =
      to.add_multi(Opcode::call_, operands, {.callee = grad_id}, types);
  to.group("g", p.bundle, made_grad[0], p.count);
  const ValueId loss = made_grad[p.count];
  to.name(loss, "loss");

  operands.clear();
  for (std::uint32_t i = 0; i < p.count; ++i) operands.push_back(map(ValueId{p.first.index + i}));
  operands.insert(operands.end(), made_grad.begin(), made_grad.begin() + p.count);
  operands.insert(operands.end(), state.begin(), state.end());
  const auto find = [&](std::string_view name) {
    for (ValueId v : formal)
      if (program.text(grad.value(v).name) == name) return map(v);
    internal_error("@grad has no %step");
  };
  operands.push_back(find("step"));
  operands.push_back(lr);
  types.assign(state.size() + 1, flat);
  types.push_back({flat.dtype, {}});
  std::vector<ValueId> results =
      to.add_multi(Opcode::call_, operands, {.callee = update_id}, types);
  std::vector<NameId> names = update.result_names;
  for (std::size_t i = 0; i < results.size(); ++i) to.name(results[i], program.text(names[i]));
  results.insert(results.end() - 1, loss);
  names.insert(names.end() - 1, program.intern("loss"));
  to.finish(results, names);
  program.functions.push_back(std::move(made));
}

}  // namespace

Program add_update(const Program& program) {
  Program out = program;
  const FunctionId grad = out.find("grad");
  if (!grad.valid()) internal_error("there is no @grad to update with");
  const BundleId parameters = parameters_of(out, out.function(grad)).bundle;
  const FunctionId update = Update(out, parameters, set_decay(out, parameters)).run();
  add_step(out, grad, update);
  return out;
}

}  // namespace gradc
