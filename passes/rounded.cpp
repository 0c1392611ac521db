// keep_rounded: one copy of the parameters in bf16, written by the optimizer and read by products.
//
// Behind `precision` each function rounds the parameters that its products read, and kernels do so
// as they pack them: four bytes an element, in each of forward and both gradients. Here @step takes
// the parameters once more, as the group %rounded of a bundle that is theirs in bf16; it hands them
// down beside %p; and @update, which has each new parameter at hand, also gives it rounded. So a
// training step reads two bytes where it read four, for two bytes a parameter of memory:
//
//   Micikevicius et al., "Mixed Precision Training" (ICLR 2018), section 3.1.
//
// The casts do not go: one is left, in @update, and what %rounded holds is by contract what it would
// give of %p (the caller's matter before the first step: runtime/entry.h). A function takes
// %rounded.… for a group of parameters if all its calls in a step can give it and something in it, or
// in what it calls, rounds one of them. What rounds parameters elsewhere (the regions of a scan,
// @eval) goes on doing so.
#include <algorithm>
#include <map>

#include "ir/builder.h"
#include "passes/passes.h"
#include "passes/plan.h"

namespace gradc {
namespace {

constexpr std::string_view twin_name = "rounded";

bool is_argument(const Function& f, const Group& g) { return !f.value(g.first).def.valid(); }

// Where a function's arguments have the group.
std::size_t position_of(const Function& f, const Group& g) {
  const std::vector<ValueId>& formal = f.body().arguments;
  return static_cast<std::size_t>(std::find(formal.begin(), formal.end(), g.first) -
                                  formal.begin());
}

// Of each function of a step: which groups of arguments have a twin.
class Twins {
 public:
  Twins(const Program& program, FunctionId step) : p_(program), has_(program.functions.size()) {
    functions_ = reachable(p_, {step});  // callees first
    find_parameters(step);
    for (FunctionId id : functions_) {
      const Function& f = p_.function(id);
      for (const Group& g : f.groups)
        has_[id.index].push_back(is_argument(f, g) && inside_[g.bundle.index] &&
                                 (id != step || p_.text(g.name) == "p"));
    }
    do {
      changed_ = false;
      for (FunctionId id : functions_) hand_down(p_.function(id), id);
    } while (changed_);
    for (FunctionId id : functions_) keep_used(id);
  }
  // The group of function f, by its number in there, that holds v; null: none that has a twin.
  const Group* group_of(FunctionId f, ValueId v) const {
    const Function& function = p_.function(f);
    for (std::size_t i = 0; i < function.groups.size(); ++i) {
      const Group& g = function.groups[i];
      if (has_[f.index][i] && v.index >= g.first.index && v.index < g.first.index + g.count)
        return &g;
    }
    return nullptr;
  }
  bool has(FunctionId f, std::size_t group) const { return has_[f.index][group] != 0; }
  bool any(FunctionId f) const {
    return std::any_of(has_[f.index].begin(), has_[f.index].end(), [](char x) { return x != 0; });
  }
  const std::vector<FunctionId>& functions() const { return functions_; }

 private:
  // Bundles of parameters, all of them f32.
  void find_parameters(FunctionId step) {
    inside_.assign(p_.bundles.size(), 0);
    for (const Group& g : p_.function(step).groups)
      if (is_argument(p_.function(step), g) && p_.text(g.name) == "p") {
        inside_[g.bundle.index] = 1;
        for (const Leaf& leaf : leaves(p_, g.bundle)) {
          if (leaf.member->type.dtype != DType::f32) return inside_.assign(p_.bundles.size(), 0);
          inside_[leaf.bundle.index] = 1;
        }
      }
  }
  // Drops what some call has no twin for: whose operands are not, in order, members of one group
  // that has one.
  void hand_down(const Function& f, FunctionId id) {
    for (const Op& op : f.ops) {
      if (!op.attr.callee.valid()) continue;
      const Function& callee = p_.function(op.attr.callee);
      std::vector<char>& of = has_[op.attr.callee.index];
      for (std::size_t i = 0; i < of.size(); ++i) {
        if (!of[i]) continue;
        if (op.code == Opcode::call_ && given(callee, callee.groups[i], op, id)) continue;
        of[i] = 0;
        changed_ = true;
      }
    }
  }
  bool given(const Function& callee, const Group& g, const Op& call, FunctionId caller) const {
    const std::size_t at = position_of(callee, g);
    const ValueId first = call.operands[at];
    const Group* own = group_of(caller, first);
    if (own == nullptr || first.index + g.count > own->first.index + own->count) return false;
    for (std::uint32_t i = 0; i < g.count; ++i)
      if (call.operands[at + i] != ValueId{first.index + i}) return false;
    return true;
  }
  // Drops the groups of whose members nothing is rounded. Callees have been looked at.
  void keep_used(FunctionId id) {
    const Function& f = p_.function(id);
    std::vector<char> used(f.groups.size(), 0);
    const auto use = [&](ValueId v) {
      if (const Group* g = group_of(id, v)) used[static_cast<std::size_t>(g - f.groups.data())] = 1;
    };
    for (const Op& op : f.ops) {
      if (op.code == Opcode::cast_ && f.type(op.results[0]).dtype == DType::bf16)
        use(planning::below_views(f, op.operands[0]));
      if (op.code != Opcode::call_) continue;
      const Function& callee = p_.function(op.attr.callee);
      for (std::size_t i = 0; i < op.operands.size(); ++i)
        if (group_of(op.attr.callee, callee.body().arguments[i]) != nullptr) use(op.operands[i]);
    }
    for (std::size_t i = 0; i < used.size(); ++i) has_[id.index][i] &= used[i];
  }

  const Program& p_;
  std::vector<FunctionId> functions_;
  std::vector<char> inside_;               // by bundle
  std::vector<std::vector<char>> has_;     // by function, by group
  bool changed_ = false;
};

// Bundles of parameters in bf16, each made once.
class Mirrors {
 public:
  explicit Mirrors(Program& program) : program_(program) {}
  BundleId of(BundleId bundle) {
    if (const auto it = made_.find(bundle.index); it != made_.end()) return it->second;
    Bundle copy{.name = name_for(bundle), .axes = program_.bundle(bundle).axes, .members = {}};
    for (Member m : std::vector<Member>(program_.bundle(bundle).members)) {
      if (m.nested.valid()) {
        m.nested = of(m.nested);
        copy.members.push_back(std::move(m));
      } else {
        Type type = m.type;
        type.dtype = DType::bf16;
        copy.members.push_back({.name = m.name, .type = type, .stored = {}, .initial = {}});
      }
    }
    program_.bundles.push_back(std::move(copy));
    const BundleId made{static_cast<std::uint32_t>(program_.bundles.size() - 1)};
    made_.emplace(bundle.index, made);
    return made;
  }

 private:
  NameId name_for(BundleId bundle) {
    std::string name(program_.text(program_.bundle(bundle).name));
    const auto taken = [&](const std::string& n) {
      return std::any_of(program_.bundles.begin(), program_.bundles.end(),
                         [&](const Bundle& b) { return program_.text(b.name) == n; });
    };
    do name += ".rounded";
    while (taken(name));
    return program_.intern(name);
  }
  Program& program_;
  std::map<std::uint32_t, BundleId> made_;
};

// One function with its twins.
class Rewrite {
 public:
  Rewrite(const Program& from, FunctionId id, const Twins& twins, Mirrors& mirrors,
          Program& program, Function& made)
      : from_(from),
        id_(id),
        f_(from.function(id)),
        twins_(twins),
        to_(program, made),
        copy_(f_, to_),
        twin_(f_.values.size()) {
    copy_.arguments();
    for (std::size_t i = 0; i < f_.groups.size(); ++i)
      if (twins_.has(id, i)) take(f_.groups[i], mirrors.of(f_.groups[i].bundle));
  }
  // @step takes @update's further result, and gives it before its last two.
  void run(FunctionId update) {
    const bool updates = id_ == update;
    for (OpId o : f_.body().ops) {
      const Op& op = f_.op(o);
      to_.at = op.loc;
      if (op.code == Opcode::cast_ && rounds_twin(op))
        copy_.map(op.results[0], through_views(op.operands[0]));
      else if (op.code == Opcode::call_ && (takes(op.attr.callee) || op.attr.callee == update))
        call(op, op.attr.callee == update);
      else
        copy_.clone(o);
    }
    std::vector<ValueId> results;
    for (ValueId v : f_.body().results) results.push_back(copy_(v));
    std::vector<NameId> names = f_.result_names;
    if (updates) rounded_ = to_.cast(copy_(f_.body().results[0]), DType::bf16);
    if (rounded_.valid()) {
      const std::ptrdiff_t tail = updates ? 1 : 2;  // norm; loss, norm
      results.insert(results.end() - tail, rounded_);
      names.insert(names.end() - tail, to_.program().intern(twin_name));
    }
    to_.finish(results, names);
  }

 private:
  void take(const Group& g, BundleId mirror) {
    ValueId first;
    for (std::uint32_t i = 0; i < g.count; ++i) {
      Type type = copy_(f_.type(ValueId{g.first.index + i}));
      type.dtype = DType::bf16;
      const ValueId made = to_.argument(type);
      if (i == 0) first = made;
      twin_[g.first.index + i] = made;
    }
    to_.group(twin_name, mirror, first, g.count);
  }
  bool takes(FunctionId callee) const { return twins_.any(callee); }
  bool rounds_twin(const Op& cast) const {
    return f_.type(cast.results[0]).dtype == DType::bf16 &&
           twin_[planning::below_views(f_, cast.operands[0]).index].valid();
  }
  ValueId through_views(ValueId v) {
    if (twin_[v.index].valid()) return twin_[v.index];
    const Op& view = f_.op(f_.value(v).def);
    Type type = copy_(f_.type(v));
    type.dtype = DType::bf16;
    return twin_[v.index] =
               to_.add(view.code, {through_views(view.operands[0])}, copy_(view.attr), type);
  }
  void call(const Op& op, bool update) {
    std::vector<ValueId> operands;
    for (ValueId v : op.operands) operands.push_back(copy_(v));
    const Function& callee = from_.function(op.attr.callee);
    for (std::size_t i = 0; i < callee.groups.size(); ++i) {
      if (!twins_.has(op.attr.callee, i)) continue;
      const Group& g = callee.groups[i];
      const std::size_t at = position_of(callee, g);
      for (std::uint32_t n = 0; n < g.count; ++n)
        operands.push_back(twin_[op.operands[at + n].index]);
    }
    std::vector<Type> types;
    for (ValueId v : op.results) types.push_back(copy_(f_.type(v)));
    if (update) {
      Type flat = types[0];
      flat.dtype = DType::bf16;
      types.insert(types.end() - 1, flat);
    }
    std::vector<ValueId> made = to_.add_multi(op.code, operands, copy_(op.attr), types);
    if (update) {
      rounded_ = made[made.size() - 2];
      to_.name(rounded_, twin_name);
      made.erase(made.end() - 2);
    }
    for (std::size_t i = 0; i < made.size(); ++i) {
      copy_.map(op.results[i], made[i]);
      to_.name(made[i], to_.program().text(f_.value(op.results[i]).name));
    }
    for (const Group& g : f_.groups)
      for (std::size_t i = 0; i < op.results.size(); ++i)
        if (g.first == op.results[i])
          to_.group(std::string(to_.program().text(g.name)), g.bundle, made[i], g.count);
  }

  const Program& from_;
  const FunctionId id_;
  const Function& f_;
  const Twins& twins_;
  Builder to_;
  Cloner copy_;
  std::vector<ValueId> twin_;  // by value: arguments, and views of them that were made
  ValueId rounded_;
};

}  // namespace

Program keep_rounded(const Program& program) {
  const FunctionId step = program.find("step"), update = program.find("update");
  if (!step.valid() || !update.valid()) return program;
  const Twins twins(program, step);
  if (!twins.any(step)) return program;
  Program out = program;
  Mirrors mirrors(out);
  for (FunctionId id : twins.functions()) {
    if (id != update && !twins.any(id)) continue;
    Function made{.name = program.function(id).name, .family = program.function(id).family};
    Rewrite(program, id, twins, mirrors, out, made).run(update);
    out.functions[id.index] = std::move(made);
  }
  return out;
}

}  // namespace gradc
