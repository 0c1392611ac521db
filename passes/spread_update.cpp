// spread_update: a parameter is updated as soon as its gradient is there.
//
// @update runs over all parameters at once, so every gradient is written to memory, waits for the
// last of them, and is read again. Where nothing needs all of them first (no clipping), @update
// becomes a call for each part of the parameters, and the plan (plan_order.cpp) moves each to where
// the part's gradient is made: the gradient is still in a cache, and its memory serves the next one.
//
// A part is a large member, or a stretch of small ones; those of equal size and flags share a
// function, so the kernels are as many for any number of layers. Of the flags and of positions
// nothing is left: each part has one value of them. Fusing the optimizer into the backward pass is
// Lv et al., "Full Parameter Fine-tuning for Large Language Models with Limited Resources" (2023),
// section 3.2, there for SGD; element by element it is as good for any optimizer.
#include <algorithm>
#include <map>
#include <optional>

#include "ir/builder.h"
#include "passes/passes.h"

namespace gradc {
namespace {

class SpreadUpdate {
 public:
  SpreadUpdate(Program& program, FunctionId update, const UpdateOptions& options)
      : program_(program), id_(update), f_(program.function(update)), options_(options) {}

  // Whether something changed.
  bool run() {
    if (!find_groups() || !find_wide() || !find_constants()) return false;
    find_sums();
    const std::vector<Part> parts = cut();
    if (parts.size() < 2) return false;
    rewrite(parts);
    return true;
  }

 private:
  using Constants = std::map<ValueId, std::int64_t>;  // flags, positions and what they decide, of a leaf
  struct Part {
    std::size_t first = 0, count = 0;  // members of the groups, in order
    std::int64_t offset = 0, elements = 0;
    std::string key;  // decisions(), and whether its gradient's squares are summed
    FunctionId update;
  };

  // ---- what @update does

  bool find_groups() {
    for (const Group& g : f_.groups) {
      if (f_.value(g.first).def.valid()) continue;
      if (program_.text(g.name) == "p") p_ = &g;
      if (program_.text(g.name) == "g") g_ = &g;
    }
    if (p_ == nullptr || g_ == nullptr || p_->count != g_->count) return false;
    const Type& whole = f_.type(f_.body().results[0]);
    if (whole.axes.size() != 1) return false;
    n_ = whole.axes[0];
    leaves_ = leaves(program_, p_->bundle);
    return f_.extent(n_) == element_count(program_, p_->bundle) && f_.extent(n_) >= options_.least;
  }

  bool wide(ValueId v) const { return f_.type(v).axes.size() == 1 && f_.type(v).axes[0] == n_; }

  // False: something is no matter of one element alone, or of all gradients together.
  bool find_wide() {
    std::vector<char> late(f_.values.size(), 0);  // known when all gradients are
    for (ValueId v : f_.body().arguments) {
      const bool parameter = v.index >= p_->first.index && v.index < p_->first.index + p_->count;
      if (wide(v)) states_.push_back(v);
      late[v.index] = !parameter && !wide(v) && !f_.type(v).axes.empty();
    }
    for (std::uint32_t i = 0; i < g_->count; ++i) late[g_->first.index + i] = 1;
    for (OpId o : f_.body().ops) {
      const Op& op = f_.op(o);
      const bool makes_wide = wide(op.results[0]);
      if (makes_wide && op.code == Opcode::flat_) {
        if (op.operands.empty()) return false;
        if (op.operands[0] == p_->first && op.operands.size() == p_->count) continue;
        if (op.operands[0] == g_->first && op.operands.size() == g_->count) continue;
        return false;
      }
      for (ValueId v : op.operands) {
        if (!makes_wide && wide(v)) return false;
        if (!makes_wide) late[op.results[0].index] |= late[v.index];
        if (!makes_wide || wide(v)) continue;
        if (late[v.index] || !f_.type(v).axes.empty()) return false;
        const OpId def = f_.value(v).def;
        const bool constant = def.valid() && f_.op(def).code == Opcode::constant_;
        if (!constant && std::find(numbers_.begin(), numbers_.end(), v) == numbers_.end())
          numbers_.push_back(v);
      }
      if (makes_wide && !is_elementwise(op.code) && op.code != Opcode::flags_ &&
          op.code != Opcode::expand_ && (op.code != Opcode::position_ || !op.operands.empty()))
        return false;
    }
    for (ValueId v : f_.body().results) {
      if (!wide(v)) continue;
      const Op* def = f_.definition(v);
      if (def == nullptr || def->code == Opcode::flat_) return false;
      wide_results_.push_back(v);
    }
    return true;
  }

  // Flags and positions, and the decisions that are made of them, are one value for all elements of
  // a leaf: an exception is a whole one (update.cpp). False: something else is made of a position.
  bool find_constants() {
    std::vector<char> decided(f_.values.size(), 0);
    for (OpId o : f_.body().ops) {
      const Op& op = f_.op(o);
      const auto is_decided = [&](ValueId v) { return decided[v.index] || number(v).has_value(); };
      switch (op.code) {
        case Opcode::flags_: decided[op.results[0].index] = 1; break;
        case Opcode::position_: decided[op.results[0].index] = 1; break;
        case Opcode::and_:
        case Opcode::or_:
        case Opcode::not_:
        case Opcode::le_:
        case Opcode::lt_:
          if (!wide(op.results[0])) break;
          if (!std::all_of(op.operands.begin(), op.operands.end(), is_decided)) return false;
          decided[op.results[0].index] = 1;
          break;
        case Opcode::select_:
          for (std::size_t i = 1; i < 3; ++i)
            if (decided[op.operands[i].index]) return false;
          break;
        default:
          for (ValueId v : op.operands)
            if (decided[v.index]) return false;
      }
    }
    return true;
  }
  std::optional<std::int64_t> number(ValueId v) const {
    const Op* def = f_.definition(v);
    if (def == nullptr || def->code != Opcode::constant_ || is_real(f_.type(v).dtype)) return {};
    return def->attr.integer;
  }

  Constants constants_of(const Leaf& leaf) const {
    Constants out;
    for (OpId o : f_.body().ops) {
      const Op& op = f_.op(o);
      const auto at = [&](std::size_t i) {
        const auto known = out.find(op.operands[i]);
        return known != out.end() ? known->second : number(op.operands[i]).value_or(0);
      };
      const auto is = [&](std::int64_t x) { out.emplace(op.results[0], x); };
      if (!wide(op.results[0])) continue;
      switch (op.code) {
        case Opcode::flags_:
          is(program_.text(op.attr.flag) == "clip" ? leaf.member->clip : leaf.member->decay);
          break;
        case Opcode::position_: is(leaf.offset); break;
        case Opcode::and_: is(at(0) & at(1)); break;
        case Opcode::or_: is(at(0) | at(1)); break;
        case Opcode::not_: is(1 - at(0)); break;
        case Opcode::le_: is(at(0) <= at(1)); break;
        case Opcode::lt_: is(at(0) < at(1)); break;
        default: break;
      }
    }
    return out;
  }

  // What tells the functions of leaves apart, beside their sizes.
  std::string decisions(const Constants& constants) const {
    std::string out;
    for (const Op& op : f_.ops)
      if (op.code == Opcode::select_)
        if (const auto known = constants.find(op.operands[0]); known != constants.end())
          out += known->second != 0 ? '1' : '0';
    return out;
  }

  // Sums of squares of single gradients (norm.cpp): a part adds up those of its own as it reads them.
  void find_sums() {
    for (OpId o : f_.body().ops) {
      const Op& sum = f_.op(o);
      if (sum.code != Opcode::sum_ || !f_.type(sum.results[0]).axes.empty()) continue;
      const Op* square = f_.definition(sum.operands[0]);
      if (square == nullptr || square->code != Opcode::mul_ ||
          square->operands[0] != square->operands[1])
        continue;
      const ValueId g = square->operands[0];
      if (g.index >= g_->first.index && g.index < g_->first.index + g_->count)
        sums_.emplace(g.index - g_->first.index, sum.results[0]);
    }
  }

  // ---- parts

  std::vector<Part> cut() {
    std::vector<Part> out;
    bool open = false;  // the last part is a stretch of small members
    std::map<std::string, Constants> constants;
    for (std::size_t i = 0; i < leaves_.size(); ++i) {
      const Constants all = constants_of(leaves_[i]);
      const bool small = leaves_[i].elements < options_.large, sums = !small && sums_.contains(i);
      const std::string key = decisions(all) + (sums ? "+" : "");
      if (small && open && key == out.back().key) {
        ++out.back().count;
        out.back().elements += leaves_[i].elements;
      } else {
        out.push_back({i, 1, leaves_[i].offset, leaves_[i].elements, key, {}});
        constants.try_emplace(key, all);
      }
      open = small;
    }
    std::map<std::pair<std::int64_t, std::string>, FunctionId> made;
    for (Part& part : out) {
      FunctionId& update = made[{part.elements, part.key}];
      if (!update.valid())
        update = part_function(part.elements, constants.at(part.key), sums(part));
      part.update = update;
    }
    return out;
  }
  static bool sums(const Part& part) { return part.key.ends_with('+'); }

  // @update of `elements` parameters: (p, g, the states, numbers) -> what @update gives of each, and
  // the sum of squares of g.
  FunctionId part_function(std::int64_t elements, const Constants& constants, bool sums) {
    Function made{.name = program_.intern(program_.unique_function_name("update.part"))};
    Builder to(program_, made);
    Cloner copy(f_, to);
    const AxisId n = to.axis("n", elements);
    copy.map_axis(n_, n);
    const auto argument = [&](ValueId v, std::string_view name) {
      copy.map(v, to.argument(copy(f_.type(v)), name));
    };
    for (const auto& [group, name] : {std::pair{p_, "p"}, std::pair{g_, "g"}}) {
      const ValueId formal = to.argument({f_.type(group->first).dtype, {n}}, name);
      for (const Op& op : f_.ops)
        if (op.code == Opcode::flat_ && op.operands[0] == group->first)
          copy.map(op.results[0], formal);
    }
    for (ValueId v : states_) argument(v, program_.text(f_.value(v).name));
    for (ValueId v : numbers_) argument(v, program_.text(f_.value(v).name));
    for (OpId o : f_.body().ops) {
      const Op& op = f_.op(o);
      const ValueId result = op.results[0];
      if (!wide(result) || copy.mapped(result) || constants.contains(result)) continue;
      to.at = op.loc;
      const bool decided = op.code == Opcode::select_ && constants.contains(op.operands[0]);
      for (std::size_t i = decided ? 1 : 0; i < op.operands.size(); ++i)
        if (!copy.mapped(op.operands[i])) copy.clone(f_.value(op.operands[i]).def);
      if (!decided)
        copy.clone(o);
      else
        copy.map(result, copy(op.operands[constants.at(op.operands[0]) != 0 ? 1 : 2]));
    }
    std::vector<ValueId> results;
    std::vector<NameId> names;
    for (std::size_t i = 0; i < f_.body().results.size(); ++i) {
      if (!wide(f_.body().results[i])) continue;
      results.push_back(copy(f_.body().results[i]));
      if (i < f_.result_names.size()) names.push_back(f_.result_names[i]);
    }
    if (sums) {
      const ValueId g = to.function().body().arguments[1];
      results.push_back(to.sum(to.binary(Opcode::mul_, g, g), {n}));
      if (!names.empty()) names.push_back(program_.intern("squares"));
    }
    to.finish(results, names);
    program_.functions.push_back(std::move(made));
    return FunctionId{static_cast<std::uint32_t>(program_.functions.size() - 1)};
  }

  // ---- @update anew

  // One axis for all of an extent: a function has a limited number. Not one that `beside` has.
  static AxisId shared_axis(Builder& to, std::int64_t extent, const Type& beside = {}) {
    const AxisId axis = to.axis("part", extent);
    return beside.axes.contains(axis) ? to.fresh_axis("part", extent) : axis;
  }

  // Members one behind the other, along n: views where they lie so.
  static ValueId joined(Builder& to, ValueId first, std::size_t count, AxisId n) {
    const auto extent = [&](AxisId a) { return to.function().extent(a); };
    std::vector<ValueId> members;
    std::vector<AxisId> axes;
    for (std::size_t i = 0; i < count; ++i) {
      ValueId v{first.index + static_cast<std::uint32_t>(i)};
      while (to.type(v).axes.size() > 1) {
        const AxisId outer = to.type(v).axes[0], inner = to.type(v).axes[1];
        const AxisId both = shared_axis(to, extent(outer) * extent(inner), to.type(v));
        v = to.add(Opcode::merge_, {v}, {.to = both, .axes = {outer, inner}});
      }
      members.push_back(v);
      axes.push_back(to.type(v).axes.empty() ? AxisId{} : to.type(v).axes[0]);
    }
    if (count == 1 && axes[0] == n) return members[0];
    if (count == 1 && axes[0].valid())
      return to.add(Opcode::relabel_, {members[0]}, {.from = axes[0], .to = n});
    return to.add(Opcode::concat_, members, {.to = n, .axes = axes},
                  Type{to.type(first).dtype, {n}});
  }

  void rewrite(const std::vector<Part>& parts) {
    Function made{.name = f_.name};
    Builder to(program_, made);
    Cloner copy(f_, to);
    copy.arguments();
    // What the parts add up, and what is made of that, stands behind them.
    std::vector<char> late(f_.values.size(), 0);
    for (const Part& part : parts)
      if (sums(part)) {
        const ValueId sum = sums_.at(part.first);
        late[sum.index] = late[f_.definition(sum)->operands[0].index] = 2;
      }
    const auto clone_narrow = [&](int when) {
      for (OpId o : f_.body().ops) {
        const Op& op = f_.op(o);
        char& at = late[op.results[0].index];
        if (wide(op.results[0]) || at == 2) continue;
        for (ValueId v : op.operands)
          if (late[v.index] != 0) at = 1;
        if (at == when) copy.clone(o);
      }
    };
    clone_narrow(0);
    to.at = f_.op(f_.body().ops.back()).loc;
    std::vector<std::vector<ValueId>> pieces(wide_results_.size());
    std::vector<AxisId> axes;
    for (const Part& part : parts) {
      const AxisId n = shared_axis(to, part.elements);
      std::vector<ValueId> operands;
      for (const Group* group : {p_, g_}) {
        const ValueId first{copy(group->first).index + static_cast<std::uint32_t>(part.first)};
        operands.push_back(joined(to, first, part.count, n));
      }
      for (ValueId v : states_)
        operands.push_back(
            to.add(Opcode::slice_, {copy(v)},
                   {.integer = part.offset, .from = to.type(copy(v)).axes[0], .to = n}));
      for (ValueId v : numbers_) operands.push_back(copy(v));
      std::vector<Type> types;
      for (ValueId v : wide_results_) types.push_back({f_.type(v).dtype, {n}});
      if (sums(part)) types.push_back(f_.type(sums_.at(part.first)));
      const std::vector<ValueId> results =
          to.add_multi(Opcode::call_, operands, {.callee = part.update}, types);
      for (std::size_t r = 0; r < pieces.size(); ++r) pieces[r].push_back(results[r]);
      if (sums(part)) copy.map(sums_.at(part.first), results.back());
      axes.push_back(n);
    }
    clone_narrow(1);
    const AxisId whole = copy(n_);
    for (std::size_t r = 0; r < pieces.size(); ++r) {
      const ValueId v = wide_results_[r];
      const ValueId all = to.add(Opcode::concat_, pieces[r], {.to = whole, .axes = axes},
                                 Type{f_.type(v).dtype, {whole}});
      to.name(all, program_.text(f_.value(v).name));
      copy.map(v, all);
    }
    std::vector<ValueId> results;
    for (ValueId v : f_.body().results) results.push_back(copy(v));
    to.finish(results, f_.result_names);
    program_.functions[id_.index] = std::move(made);
  }

  Program& program_;
  const FunctionId id_;
  const Function f_;  // as it was
  const UpdateOptions options_;
  const Group *p_ = nullptr, *g_ = nullptr;
  std::vector<Leaf> leaves_;
  AxisId n_;                                       // all parameters
  std::vector<ValueId> states_, numbers_;          // arguments in n_; scalars that elements read
  std::vector<ValueId> wide_results_;
  std::map<std::size_t, ValueId> sums_;            // by member: of its gradient's squares
};

}  // namespace

Program spread_update(const Program& program, const UpdateOptions& options) {
  const FunctionId update = program.find("update");
  if (!update.valid() || !program.find("step").valid()) return program;
  Program out = program;
  return SpreadUpdate(out, update, options).run() ? out : program;
}

}  // namespace gradc
