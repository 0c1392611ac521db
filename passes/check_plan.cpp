// Proves that a planned function computes what its values say, from the order of its operations and
// the places of its values alone. It shares no code with the planner. What is proved:
//
//  1 every value has a place in an arena, aligned to its dtype, no two of its elements at one
//    address
//  2 a view lies where its operand's elements lie; operands of a concat or flat lie inside the
//    result
//  3 a launch writes no byte that a later reader expects of another value; its results lie apart
//  4 a launch writes over one of its own operands only element by element: at the same places, and
//    the kernel reads the operand nowhere but at the index that it writes
//  5 parameters, fixed values, moments and inputs are written only by the results that replace them
//  6 arguments and results lie where callers expect them: members of %p, %f and %g and gradients at
//    the offsets of the leaves, flat p g m v at 0, other arguments in `in`, other results in `out`
//
// Two strided places are shown to be apart by their bounds or, for the parts of a concat, modulo a
// stride that both share. Where neither shows it, they count as overlapping: the check may refuse a
// right plan, never accept a wrong one. n log n in the number of values.
#include <algorithm>
#include <optional>

#include <fmt/format.h>

#include "ir/text_names.h"
#include "passes/check_extent.h"
#include "passes/passes.h"

namespace gradc {
namespace {

using namespace plan_check;
constexpr std::int64_t forever = INT64_MAX;

class Checker {
 public:
  Checker(const Program& p, FunctionId id) : p_(p), f_(p.function(id)), layouts_(p) {}

  std::vector<std::string> run() {
    if (f_.placed.size() != f_.values.size()) return {"the function has no plan"};
    for (ValueId v : f_.body().arguments) has_place(v);
    for (OpId o : f_.body().ops)
      for (ValueId v : f_.op(o).results) has_place(v);
    if (!faults_.empty()) return std::move(faults_);
    extents_.resize(f_.values.size());
    for (std::uint32_t v = 0; v < f_.values.size(); ++v)
      if (f_.placed[v].arena != Arena::none) extents_[v] = extent_of(f_, ValueId{v});
    for (OpId o : f_.body().ops) derived(f_.op(o));
    boundaries();
    readers();
    writes();
    return std::move(faults_);
  }

 private:
  template <class... T>
  void fault(fmt::format_string<T...> text, T&&... values) {
    faults_.push_back(fmt::format(text, std::forward<T>(values)...));
  }
  std::string show(ValueId v) {
    const Placement& p = f_.placed[v.index];
    if (!names_) names_.emplace(p_, f_, layouts_);
    return fmt::format("{} at {}+{}", (*names_)[v], name(p.arena), p.offset);
  }

  // ---- 1: places
  void has_place(ValueId v) {
    const Placement& p = f_.placed[v.index];
    if (p.arena == Arena::none) return fault("{} has no place", show(v));
    const Extent e = extent_of(f_, v);
    if (p.offset < 0 || p.offset % e.element != 0)
      fault("{} is not aligned to {} bytes", show(v), e.element);
    for (const auto& [stride, n] : e.dims)
      if (stride <= 0) return fault("{} has a stride of {} bytes", show(v), stride);
    if (!injective(e)) fault("elements of {} lie on each other", show(v));
  }

  // ---- 2: views and joins
  std::int64_t step(ValueId v, AxisId a) const {
    return f_.placed[v.index].strides[static_cast<std::size_t>(f_.type(v).axes.index_of(a))];
  }
  // Elements of `part` with index 0 lie `elements` behind the first of `whole`; further axes as
  // given.
  void lies_within(ValueId part, ValueId whole, std::int64_t elements,
                   const std::vector<std::pair<AxisId, std::int64_t>>& own) {
    const Type& t = f_.type(part);
    if (f_.elements(t) == 0) return;
    const Placement &a = f_.placed[part.index], &b = f_.placed[whole.index];
    bool right = a.arena == b.arena && a.offset == b.offset + elements * bytes(t.dtype);
    for (AxisId x : t.axes) {
      if (f_.extent(x) <= 1) continue;
      const auto it =
          std::find_if(own.begin(), own.end(), [&](const auto& o) { return o.first == x; });
      right &= step(part, x) == (it != own.end() ? it->second : step(whole, x));
    }
    if (!right) fault("{} does not lie where its elements in {} do", show(part), show(whole));
  }
  void derived(const Op& op) {
    const Attr& a = op.attr;
    if (op.code == Opcode::concat_) return concat(op);
    if (op.code == Opcode::flat_) return flat(op);
    if (op.operands.size() != 1) return;
    const ValueId x = op.operands[0], y = op.results[0];
    switch (op.code) {
      case Opcode::relabel_: return lies_within(y, x, 0, {{a.to, step(x, a.from)}});
      case Opcode::pick_: return lies_within(y, x, a.integer * step(x, a.from), {});
      case Opcode::slice_:
        return lies_within(y, x, a.integer * step(x, a.from), {{a.to, step(x, a.from) * a.stride}});
      case Opcode::split_:
        return lies_within(
            y, x, 0,
            {{a.axes[0], step(x, a.from) * f_.extent(a.axes[1])}, {a.axes[1], step(x, a.from)}});
      case Opcode::merge_: {
        const std::int64_t n = f_.extent(a.axes[0]), m = f_.extent(a.axes[1]);
        const std::int64_t outer = step(x, a.axes[0]), inner = step(x, a.axes[1]);
        if (n > 1 && m > 1 && outer != inner * m)
          fault("the axes that {} merges do not follow each other in {}", show(y), show(x));
        return lies_within(y, x, 0, {{a.to, m > 1 ? inner : outer}});
      }
      default: return;
    }
  }
  void concat(const Op& op) {
    const ValueId y = op.results[0];
    std::int64_t before = 0;
    for (std::size_t i = 0; i < op.operands.size(); ++i) {
      const AxisId along = op.attr.axes[i];
      std::vector<std::pair<AxisId, std::int64_t>> own;
      if (along.valid()) own.emplace_back(along, step(y, op.attr.to));
      lies_within(op.operands[i], y, before * step(y, op.attr.to), own);
      before += along.valid() ? f_.extent(along) : 1;
    }
  }
  void flat(const Op& op) {
    const ValueId y = op.results[0];
    std::int64_t before = 0;
    for (ValueId x : op.operands) {
      std::vector<std::pair<AxisId, std::int64_t>> own;
      std::int64_t next = step(y, op.attr.to);
      const AxisList& axes = f_.type(x).axes;
      for (int i = axes.size(); i-- > 0; next *= f_.extent(axes[i]))
        own.emplace_back(axes[i], next);
      lies_within(x, y, before * step(y, op.attr.to), own);
      before += f_.elements(f_.type(x));
    }
  }

  // ---- 6: what callers know
  void at(ValueId v, Arena arena, std::int64_t offset) {
    const Placement& p = f_.placed[v.index];
    if (p.arena != arena || (offset >= 0 && p.offset != offset))
      fault("{} belongs at {}{}", show(v), name(arena),
            offset >= 0 ? fmt::format("+{}", offset) : "");
    std::int64_t next = 1;
    const AxisList& axes = f_.type(v).axes;
    for (int i = axes.size(); i-- > 0; next *= f_.extent(axes[i]))
      if (f_.extent(axes[i]) > 1 && step(v, axes[i]) != next) return fault("{} has gaps", show(v));
  }
  Arena flat_arena(std::string_view n, ValueId v) const {
    if (f_.type(v).axes.size() != 1) return Arena::none;
    if (p_.text(f_.name) != "update" &&
        (!bundle_.valid() || f_.elements(f_.type(v)) != element_count(p_, bundle_)))
      return Arena::none;
    if (n == "p") return Arena::parameters;
    if (n == "g") return Arena::gradients;
    if (n == "m") return Arena::moment1;
    if (n == "v") return Arena::moment2;
    return n == "rounded" ? Arena::rounded : Arena::none;
  }
  static Arena group_arena(std::string_view n) {
    if (n == "p") return Arena::parameters;
    if (n == "f") return Arena::fixed;
    if (n == "g") return Arena::gradients;
    return n == "rounded" ? Arena::rounded : Arena::none;
  }
  void boundaries() {
    std::vector<char> known(f_.values.size(), 0);
    for (const Group& g : f_.groups) {
      const std::string_view n = p_.text(g.name);
      const Arena arena = group_arena(n);
      if (f_.value(g.first).def.valid() || arena == Arena::none) continue;
      if (n == "p") bundle_ = g.bundle;
      std::uint32_t v = g.first.index;
      for (const Leaf& leaf : leaves(p_, g.bundle)) {
        at(ValueId{v}, arena, leaf.offset * bytes(f_.type(ValueId{v}).dtype));
        known[v++] = 1;
      }
    }
    for (ValueId v : f_.body().arguments) {
      if (known[v.index]) continue;
      const Arena flat = flat_arena(p_.text(f_.value(v).name), v);
      at(v, flat != Arena::none ? flat : Arena::input, flat != Arena::none ? 0 : -1);
    }
    const std::vector<Leaf> members = bundle_.valid() ? leaves(p_, bundle_) : std::vector<Leaf>();
    std::size_t gradient = 0;
    for (std::size_t i = 0; i < f_.body().results.size(); ++i) {
      const ValueId v = f_.body().results[i];
      const std::string_view n =
          i < f_.result_names.size() ? p_.text(f_.result_names[i]) : std::string_view();
      if (n.starts_with("g.") && gradient < members.size())
        at(v, Arena::gradients, members[gradient++].offset * bytes(f_.type(v).dtype));
      else if (const Arena flat = flat_arena(n, v); flat != Arena::none)
        at(v, flat, 0);
      else
        at(v, Arena::output, -1);
    }
  }

  // ---- 3, 4, 5: time
  static bool moves_nothing(const Op& op) {
    const Kind kind = facts(op.code).kind;
    return op.code == Opcode::concat_ || op.code == Opcode::flat_ ||
           (kind == Kind::view && op.code != Opcode::expand_ && op.operands.size() == 1);
  }
  static bool is_view(const Op& op) {
    return moves_nothing(op) && op.code != Opcode::concat_ && op.code != Opcode::flat_;
  }
  // A value is needed until its last reader, and a view of it, which may be less, until its own. What
  // is joined is needed as long as the whole is, or any view of that.
  void readers() {
    last_.assign(f_.values.size(), -1);
    returned_.assign(f_.values.size(), 0);
    views_.assign(f_.values.size(), {});
    std::vector<std::int64_t> seen(f_.values.size(), -1);  // by views, too
    for (ValueId v : f_.body().results)
      last_[v.index] = seen[v.index] = forever, returned_[v.index] = 1;
    const std::vector<OpId>& ops = f_.body().ops;
    for (std::size_t t = ops.size(); t-- > 0;) {
      const Op& op = f_.op(ops[t]);
      const bool view = is_view(op);
      const std::int64_t need =
          moves_nothing(op) ? seen[op.results[0].index] : static_cast<std::int64_t>(t);
      for (ValueId v : op.operands) {
        seen[v.index] = std::max(seen[v.index], need);
        if (!view) last_[v.index] = std::max(last_[v.index], need);
        if (view) views_[v.index].push_back(op.results[0]);
        if (moves_nothing(op)) returned_[v.index] |= returned_[op.results[0].index];
      }
    }
  }
  void writes() {
    const std::vector<OpId>& ops = f_.body().ops;
    std::vector<std::uint32_t> made;
    for (ValueId v : f_.body().arguments) made.push_back(v.index);
    for (OpId o : ops)
      if (!moves_nothing(f_.op(o)) || is_view(f_.op(o)))
        for (ValueId v : f_.op(o).results) made.push_back(v.index);
    Needed needed(extents_, made);
    std::vector<std::vector<std::uint32_t>> ends(ops.size());
    std::vector<ValueId> looking;
    const auto begin = [&](ValueId whole, std::int64_t t) {  // with the views of it
      for (looking.push_back(whole); !looking.empty();) {
        const ValueId v = looking.back();
        looking.pop_back();
        looking.insert(looking.end(), views_[v.index].begin(), views_[v.index].end());
        if (last_[v.index] <= t) continue;
        needed.set(v.index, true);
        if (last_[v.index] != forever)
          ends[static_cast<std::size_t>(last_[v.index])].push_back(v.index);
      }
    };
    for (ValueId v : f_.body().arguments) {
      needed.each_across(extents_[v.index], [&](std::uint32_t other) {
        if (!apart(extents_[v.index], extents_[other]))
          fault("arguments {} and {} overlap", show(v), show(ValueId{other}));
      });
      needed.set(v.index, true);
    }
    for (ValueId v : f_.body().arguments) needed.set(v.index, false);
    for (ValueId v : f_.body().arguments) begin(v, -1);
    for (std::size_t t = 0; t < ops.size(); ++t) {
      for (std::uint32_t v : ends[t]) needed.set(v, false);
      const Op& op = f_.op(ops[t]);
      if (moves_nothing(op)) continue;
      for (std::size_t r = 0; r < op.results.size(); ++r) {
        write(op, r, needed);
        for (std::size_t q = 0; q < r; ++q)
          if (!apart(extents_[op.results[q].index], extents_[op.results[r].index]))
            fault("results {} and {} of one operation overlap", show(op.results[q]),
                  show(op.results[r]));
      }
      for (ValueId v : op.results) begin(v, static_cast<std::int64_t>(t));
    }
  }
  void write(const Op& op, std::size_t r, const Needed& needed) {
    const ValueId v = op.results[r];
    const Extent& mine = extents_[v.index];
    needed.each_across(mine, [&](std::uint32_t other) {
      if (!apart(mine, extents_[other]))
        fault("{} overwrites {}, which is read later", show(v), show(ValueId{other}));
    });
    for (std::size_t i = 0; i < op.operands.size(); ++i)
      if (!apart(mine, extents_[op.operands[i].index]) && !element_by_element(op, i, r))
        fault("{} overwrites {} while it is read", show(v), show(op.operands[i]));
    switch (mine.arena) {
      case Arena::parameters:
      case Arena::fixed:
      case Arena::moment1:
      case Arena::moment2:
      case Arena::rounded:
      case Arena::input:
        if (!returned_[v.index]) fault("{} is written over what outlives the call", show(v));
        break;
      default: break;
    }
  }

  // 4: operand i and result r at the same places, and the kernel pairs them index by index.
  bool element_by_element(const Op& op, std::size_t i, std::size_t r) const {
    if (op.code != Opcode::launch_) return false;
    const ValueId x = op.operands[i], y = op.results[r];
    const Placement &px = f_.placed[x.index], &py = f_.placed[y.index];
    const Function& k = p_.function(op.attr.callee);
    const ValueId kx = k.body().arguments[i], ky = k.body().results[r];
    if (px.arena != py.arena || px.offset != py.offset ||
        extents_[x.index].element != extents_[y.index].element)
      return false;
    if (!same_set(k.type(kx).axes, k.type(ky).axes)) return false;
    for (int a = 0; a < k.type(kx).axes.size(); ++a) {
      const AxisId axis = k.type(kx).axes[a];
      const int b = k.type(ky).axes.index_of(axis);
      if (k.extent(axis) > 1 &&
          px.strides[static_cast<std::size_t>(a)] != py.strides[static_cast<std::size_t>(b)])
        return false;
    }
    return only_pointwise(k, kx);
  }
  // Every reader of the argument wants it at the index of the element that is being written. A
  // reduction does so if it takes all of the argument's axes: results that have them too come
  // behind it.
  static bool only_pointwise(const Function& k, ValueId x) {
    if (k.family == Family::none || k.family == Family::attention ||
        k.family == Family::attention_grad)
      return false;  // tiles of the operands are read again after results were written
    for (ValueId r : k.body().results)
      if (r == x) return false;
    for (const Op& op : k.ops)
      if (facts(op.code).kind == Kind::reduce &&
          k.type(op.operands[0]).axes.size() != k.type(x).axes.size())
        return false;
    std::vector<char> contracted(k.values.size(), 0);
    for (const Op& op : k.ops)
      if (op.code == Opcode::contract_)
        for (ValueId v : op.operands) contracted[v.index] = 1;
    if (contracted[x.index]) return false;
    for (const Op& op : k.ops) {
      const auto n = std::count(op.operands.begin(), op.operands.end(), x);
      if (n == 0) continue;
      switch (op.code) {
        case Opcode::scatter_:
          if (n != 1 || op.operands.size() != 3 || op.operands[2] != x) return false;
          break;
        case Opcode::update_:
          if (n != 1 || op.operands[0] != x) return false;
          break;
        case Opcode::gather_:
          if (op.operands[0] == x) return false;
          break;
        case Opcode::expand_: break;
        default:
          if (facts(op.code).kind == Kind::reduce) break;
          if (!is_elementwise(op.code) || contracted[op.results[0].index]) return false;
      }
    }
    return true;
  }

  const Program& p_;
  const Function& f_;
  text::Layouts layouts_;
  std::optional<text::ValueNames> names_;  // made for the first fault
  BundleId bundle_;
  std::vector<Extent> extents_;     // by value
  std::vector<std::int64_t> last_;  // by value: the last operation that needs it
  std::vector<std::vector<ValueId>> views_;
  std::vector<char> returned_;
  std::vector<std::string> faults_;
};

}  // namespace

std::vector<std::string> check_plan(const Program& program, FunctionId planned) {
  return Checker(program, planned).run();
}

}  // namespace gradc
