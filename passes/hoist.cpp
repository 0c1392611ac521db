// Moves out of a scan what needs no recurrence; what is left in the loop is as small as it can be.
//
//   - What nobody reads is dropped: collected values, states, what only they needed.
//   - A product or a reduction of slices and invariants is computed for all turns before the loop,
//     with the scan's axis as one more, and becomes a slice; of invariants alone, anything. So the
//     input of an LSTM's gates is one large product, whether or not the model says so.
//   - A collected value that no state goes into is computed beside the loop.
//   - A state that is only added to and whose partial sums nobody reads is summed behind the loop:
//     `acc + contract(x, y)` as a contraction along the scan's axis, too, of x and y collected. The
//     gradient of a recurrent matrix is one product so, instead of one a turn that reads and writes
//     the whole gradient. Terms are kept for all turns only if they are not larger than what the
//     scan keeps anyway, so a matrix added up elementwise stays a state.
//
// Sums are added in another order; nothing else changes a value. passes/hoist_find.cpp decides;
// here the function is written again. A scan in a scan leaves first, so a round a depth of nesting.
#include "passes/hoist.h"

#include <algorithm>

#include "ir/builder.h"
#include "ir/walk.h"
#include "passes/passes.h"

namespace gradc {
namespace hoisting {
namespace {

// One scan in the function that is being written: before it, its region, behind it.
class Rewriter {
 public:
  Rewriter(const Function& f, const Op& scan, const std::vector<std::uint32_t>& uses, Builder& to,
           Cloner& copy)
      : f_(f),
        scan_(scan),
        region_(f.regions[scan.regions[0].index]),
        uses_(uses),
        parts_(take_apart(f, scan, uses)),
        to_(to),
        copy_(copy) {}

  // `inner` writes one operation of the region that stays.
  template <class Inner>
  void run(const Inner& inner) {
    for (std::size_t i = scan_.attr.carried; i < region_.arguments.size(); ++i)
      whole_[region_.arguments[i]] = copy_(scan_.operands[i]);
    for (ValueId v : parts_.before) whole(v);
    loop(inner);
    to_.at = scan_.loc;
    for (std::uint32_t r : parts_.results) {
      const ValueId v = region_.results[r];
      if (!parts_.is_free(v)) continue;
      const Type type = copy_(f_.type(scan_.results[r]));
      define(scan_.results[r], to_.expand(whole(v), type.axes));
    }
    for (const Accumulation& a : parts_.accumulations) {
      if (uses_[scan_.results[a.state].index] == 0) continue;
      const Type type = copy_(f_.type(scan_.results[a.state]));
      ValueId sum = copy_(scan_.operands[a.state]);
      const bool from_zero = is_zero(sum);
      for (ValueId term : a.terms) {
        const ValueId t = total(term);
        sum = from_zero && term == a.terms[0] ? to_.expand(t, type.axes)
                                              : to_.add(Opcode::add_, {sum, t}, {}, type);
      }
      define(scan_.results[a.state], sum);
    }
  }

 private:
  bool is_zero(ValueId v) const {
    const Function& f = to_.function();
    OpId d = f.value(v).def;
    if (d.valid() && f.op(d).code == Opcode::expand_) d = f.value(f.op(d).operands[0]).def;
    return d.valid() && f.op(d).code == Opcode::constant_ && f.op(d).attr.real == 0 &&
           is_real(f.type(v).dtype);
  }
  void define(ValueId v, ValueId made) {
    copy_.map(v, made);
    if (!to_.function().value(made).name.valid())
      to_.name(made, to_.program().text(f_.value(v).name));
  }
  AxisId along() { return copy_(scan_.attr.from); }
  // Of a value for all turns.
  Type whole_type(ValueId v) {
    const Type one = copy_(f_.type(v));
    if (!parts_.is_free(v) || parts_.varies(v)) {
      Type out{one.dtype, {along()}};
      for (AxisId a : one.axes) out.axes.push_back(a);
      return out;
    }
    return one;
  }

  // A free value for all turns, or one that was collected; made with what it is made of when first
  // asked for. The region's order is one in which all of it can be made.
  ValueId whole(ValueId v) {
    if (const auto it = whole_.find(v); it != whole_.end()) return it->second;
    std::unordered_set<OpId> wanted;
    std::vector<ValueId> work{v};
    while (!work.empty()) {
      const ValueId x = work.back();
      work.pop_back();
      if (whole_.contains(x)) continue;
      const OpId d = f_.value(x).def;
      if (!d.valid() || !wanted.insert(d).second) continue;
      for (ValueId o : f_.op(d).operands) work.push_back(o);
    }
    for (OpId o : region_.ops) {
      if (!wanted.contains(o)) continue;
      const Op& op = f_.op(o);
      std::vector<ValueId> operands;
      for (ValueId x : op.operands) operands.push_back(whole_.at(x));
      to_.at = op.loc;
      const Attr attr = copy_(op.attr);
      const Type type = whole_type(op.results[0]);
      const ValueId made = to_.add(op.code, operands, attr, type);
      to_.name(made, to_.program().text(f_.value(op.results[0]).name));
      whole_[op.results[0]] = made;
    }
    return whole_.at(v);
  }

  // The sum of a term over all turns.
  ValueId total(ValueId term) {
    const OpId d = f_.value(term).def;
    const bool through = sums_through(f_, parts_, term) && !whole_.contains(term);
    to_.at = d.valid() ? f_.op(d).loc : scan_.loc;
    if (through && f_.op(d).code == Opcode::contract_) {
      std::vector<ValueId> operands;
      for (ValueId x : f_.op(d).operands) operands.push_back(whole(x));
      const auto varies = [&](ValueId x) { return to_.type(x).axes.contains(along()); };
      const auto vary = std::count_if(operands.begin(), operands.end(), varies);
      if (vary == 1)  // what is multiplied by the same matrix every turn is added up first
        for (ValueId& x : operands)
          if (varies(x)) x = to_.sum(x, {along()});
      const ValueId made = to_.add(Opcode::contract_, operands, {}, copy_(f_.type(term)));
      return vary == 0 ? times_turns(made) : made;
    }
    if (through) {
      const ValueId x = whole(f_.op(d).operands[0]);
      Attr attr = copy_(f_.op(d).attr);
      if (!to_.type(x).axes.contains(along()))
        return times_turns(to_.add(Opcode::sum_, {x}, attr, copy_(f_.type(term))));
      attr.axes.push_back(along());
      return to_.add(Opcode::sum_, {x}, attr, copy_(f_.type(term)));
    }
    const ValueId all = whole(term);
    return to_.type(all).axes.contains(along()) ? to_.sum(all, {along()}) : times_turns(all);
  }
  ValueId times_turns(ValueId x) {
    const Type type = to_.type(x);
    const ValueId n = to_.constant(static_cast<double>(f_.extent(scan_.attr.from)), type.dtype);
    return to_.add(Opcode::mul_, {x, n}, {}, type);
  }

  // What only differs in the order of its axes, and lies in memory already: the turns put them in
  // order as they read.
  ValueId in_any_order(ValueId v) const {
    const Function& f = to_.function();
    const OpId d = f.value(v).def;
    if (!d.valid() || f.op(d).code != Opcode::expand_) return v;
    const ValueId x = f.op(d).operands[0];
    return same_set(f.type(x).axes, f.type(v).axes) ? x : v;
  }

  // ---- the loop that is left

  struct Operand {
    ValueId value, formal;  // outside; of the old region: an argument or what was made before
  };
  // Results of the scan that the loop still collects, by their index.
  std::vector<std::uint32_t> results() const {
    std::vector<std::uint32_t> out;
    for (std::uint32_t r : parts_.results)
      if (!parts_.is_free(region_.results[r])) out.push_back(r);
    return out;
  }

  template <class Inner>
  void loop(const Inner& inner) {
    std::vector<Type> types;
    for (std::uint32_t k : parts_.states) types.push_back(copy_(f_.type(scan_.results[k])));
    for (std::uint32_t r : results()) types.push_back(copy_(f_.type(scan_.results[r])));
    for (ValueId v : parts_.collected) types.push_back(whole_type(v));
    if (types.empty()) return;
    std::vector<Operand> operands;
    for (std::uint32_t k : parts_.states)
      operands.push_back({copy_(scan_.operands[k]), region_.arguments[k]});
    const std::size_t sliced = add_slices(operands);
    const Attr attr{.from = along(),
                    .carried = static_cast<std::uint32_t>(parts_.states.size()),
                    .sliced = static_cast<std::uint32_t>(sliced),
                    .reverse = scan_.attr.reverse};
    const RegionId region = write_region(operands, attr, inner);
    std::vector<ValueId> values;
    for (const Operand& o : operands) values.push_back(o.value);
    to_.at = scan_.loc;
    const std::vector<ValueId> made =
        to_.add_multi(Opcode::scan_, values, attr, types, std::array{region});
    std::size_t n = 0;
    for (std::uint32_t k : parts_.states) define(scan_.results[k], made[n++]);
    for (std::uint32_t r : results()) {
      define(scan_.results[r], made[n]);
      whole_.try_emplace(region_.results[r], made[n++]);
    }
    for (ValueId v : parts_.collected) whole_[v] = made[n++];
  }

  // Slices, then invariants; gives the number of slices.
  std::size_t add_slices(std::vector<Operand>& operands) {
    std::vector<Operand> invariants;
    const std::size_t states = operands.size();
    const std::size_t first_invariant = scan_.attr.carried + scan_.attr.sliced;
    for (std::size_t i = scan_.attr.carried; i < region_.arguments.size(); ++i)
      if (const ValueId v = region_.arguments[i]; is_read(v))
        (i < first_invariant ? operands : invariants).push_back({in_any_order(whole_.at(v)), v});
    for (ValueId v : parts_.before)
      (parts_.varies(v) ? operands : invariants).push_back({in_any_order(whole_.at(v)), v});
    const std::size_t slices = operands.size() - states;
    operands.insert(operands.end(), invariants.begin(), invariants.end());
    return slices;
  }

  template <class Inner>
  RegionId write_region(const std::vector<Operand>& operands, const Attr& attr,
                        const Inner& inner) {
    const RegionId region = to_.open();
    std::vector<ValueId> formals;
    for (std::size_t i = 0; i < operands.size(); ++i) {
      Type type = to_.type(operands[i].value);
      if (i >= attr.carried && i < attr.carried + attr.sliced)
        type.axes = type.axes.without(along());
      const std::string_view name = to_.program().text(f_.value(operands[i].formal).name);
      formals.push_back(to_.argument(type, name));
    }
    for (std::size_t i = 0; i < operands.size(); ++i) {
      const AxisList axes = copy_(f_.type(operands[i].formal)).axes;
      copy_.map(operands[i].formal, to_.expand(formals[i], axes));
    }
    for (OpId o : region_.ops)
      if (parts_.inside.contains(o)) inner(o);
    std::vector<ValueId> yields;
    for (std::uint32_t k : parts_.states) yields.push_back(copy_(region_.results[k]));
    for (std::uint32_t r : results()) yields.push_back(copy_(region_.results[r]));
    for (ValueId v : parts_.collected) yields.push_back(copy_(v));
    to_.close(yields);
    return region;
  }

  bool is_read(ValueId v) const {
    return yields(v) || std::any_of(parts_.inside.begin(), parts_.inside.end(), [&](OpId o) {
             const std::vector<ValueId>& x = f_.op(o).operands;
             return std::find(x.begin(), x.end(), v) != x.end();
           });
  }
  bool yields(ValueId v) const {
    return std::any_of(parts_.states.begin(), parts_.states.end(),
                       [&](std::uint32_t k) { return region_.results[k] == v; }) ||
           std::any_of(parts_.results.begin(), parts_.results.end(), [&](std::uint32_t r) {
             return region_.results[r] == v && !parts_.is_free(v);
           });
  }

  const Function& f_;
  const Op& scan_;
  const Region& region_;
  const std::vector<std::uint32_t>& uses_;
  const Parts parts_;
  Builder& to_;
  Cloner& copy_;
  std::unordered_map<ValueId, ValueId> whole_;  // region's values for all turns, outside
};

class Pass {
 public:
  Pass(Program& program, const Function& f, Function& out)
      : f_(f), to_(program, out), copy_(f, to_), uses_(f.values.size(), 0) {
    for (const Op& op : f.ops)
      for (ValueId v : op.operands) ++uses_[v.index];
    for (const Region& r : f.regions)
      for (ValueId v : r.results) ++uses_[v.index];
  }
  void run() {
    copy_.arguments();
    for (OpId o : f_.body().ops) operation(o);
    std::vector<ValueId> results;
    for (ValueId v : f_.body().results) results.push_back(copy_(v));
    to_.finish(results, f_.result_names);
  }

 private:
  // As deep as scans nest, which the parsers bound.
  void operation(OpId id) {
    const Op& op = f_.op(id);
    if (op.code != Opcode::scan_) return copy_.clone(id);
    Rewriter(f_, op, uses_, to_, copy_).run([&](OpId inner) { operation(inner); });
  }
  const Function& f_;
  Builder to_;
  Cloner copy_;
  std::vector<std::uint32_t> uses_;
};

// How many scans stand in each other, at most.
int depth_of(const Function& f) {
  int depth = 0, deepest = 0;
  const auto scan = [&](OpId o) { return o.valid() && f.op(o).code == Opcode::scan_ ? 1 : 0; };
  walk(
      f, [&](RegionId, OpId o) { deepest = std::max(deepest, depth += scan(o)); }, [](OpId) {},
      [&](RegionId, OpId o) { depth -= scan(o); });
  return deepest;
}

}  // namespace
}  // namespace hoisting

Program hoist(const Program& program) {
  Program out = program;
  for (std::size_t i = 0; i < out.functions.size(); ++i)
    for (int round = hoisting::depth_of(out.functions[i]); round > 0; --round) {
      const Function from = std::move(out.functions[i]);
      Function made{.name = from.name};
      hoisting::Pass(out, from, made).run();
      out.functions[i] = std::move(made);
    }
  return out;
}

}  // namespace gradc
