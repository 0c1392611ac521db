// The turns of a scan in the plan, one behind the other, as those of a `repeat` are: each is the
// call in the scan's region, inlined with its slices picked at its position. What is collected is a
// `concat` of the turns' values, so every turn writes into its place of the sequence, and a slice
// is a view: no turn moves anything.
//
// A state's value behind a turn is what stands before the next. Where a scan collects both (the
// results, and the states that its derivative reads) they are one sequence, a position longer, with
// the first state at its end or beginning, and two slices of it.
#include <algorithm>
#include <map>

#include "ir/builder.h"
#include "ir/typing.h"
#include "passes/plan.h"

namespace gradc::planning {
namespace {

class Turns {
 public:
  Turns(const Program& program, const Function& f, const Op& scan, Builder& to, Cloner& copy)
      : program_(program),
        f_(f),
        scan_(scan),
        region_(f.regions[scan.regions[0].index]),
        to_(to),
        copy_(copy),
        n_(f.extent(scan.attr.from)),
        parts_(region_.results.size()) {}

  void run() {
    for (std::size_t k = 0; k < scan_.attr.carried; ++k)
      states_.push_back(copy_(scan_.operands[k]));
    first_ = states_;
    for (auto& p : parts_) p.resize(static_cast<std::size_t>(n_));
    for (std::int64_t i = 0; i < n_; ++i) turn(scan_.attr.reverse ? n_ - 1 - i : i);
    for (std::size_t k = 0; k < scan_.attr.carried; ++k) copy_.map(scan_.results[k], states_[k]);
    for (std::size_t r = scan_.attr.carried; r < region_.results.size(); ++r)
      copy_.map(scan_.results[r], collected(r));
  }

 private:
  void turn(std::int64_t position) {
    for (std::size_t i = 0; i < region_.arguments.size(); ++i) {
      const ValueId formal = region_.arguments[i];
      if (i < scan_.attr.carried) {
        copy_.map(formal, states_[i]);
      } else if (i < scan_.attr.carried + scan_.attr.sliced) {
        to_.at = scan_.loc;
        const Attr at{.integer = position, .from = copy_(scan_.attr.from)};
        const Type type = copy_(f_.type(formal));
        copy_.map(formal, to_.add(Opcode::pick_, {copy_(scan_.operands[i])}, at, type));
      } else {
        copy_.map(formal, copy_(scan_.operands[i]));
      }
    }
    for (OpId o : region_.ops) f_.op(o).code == Opcode::call_ ? call(o) : copy_.clone(o);
    for (std::size_t r = 0; r < region_.results.size(); ++r)
      parts_[r][static_cast<std::size_t>(position)] = copy_(region_.results[r]);
    for (std::size_t k = 0; k < states_.size(); ++k) states_[k] = copy_(region_.results[k]);
  }

  // The callee's body, under the same axes every turn: a function has but so many.
  void call(OpId id) {
    const Op& op = f_.op(id);
    const Function& callee = program_.function(op.attr.callee);
    const std::vector<ValueId>& formal = callee.body().arguments;
    const auto [at, fresh] = inside_.try_emplace(id, callee, to_);
    Cloner& inside = at->second;
    std::vector<AxisId> axes;
    for (std::size_t i = 0; i < formal.size(); ++i) {
      const ValueId actual = copy_(op.operands[i]);
      inside.map(formal[i], actual);
      if (fresh) bind_axes(callee, callee.type(formal[i]), to_.function(), to_.type(actual), axes);
    }
    for (std::uint32_t i = 0; i < axes.size(); ++i)
      if (axes[i].valid()) inside.map_axis(AxisId{i}, axes[i]);
    const std::vector<ValueId> made = inside.inline_region(callee.body());
    for (std::size_t i = 0; i < made.size(); ++i)
      copy_.map(op.results[i], under_axes(to_, made[i], copy_(f_.type(op.results[i])).axes));
  }

  // The state whose value before each turn is collected as result r, and behind it as another one.
  std::size_t collected_twice(std::size_t r) const {
    const auto collected = region_.results.begin() + scan_.attr.carried;
    const auto yielded = [&](ValueId v) {
      return std::find(collected, region_.results.end(), v) != region_.results.end();
    };
    for (std::size_t k = 0; k < scan_.attr.carried; ++k) {
      const ValueId before = region_.arguments[k], behind = region_.results[k];
      if (before != behind && (region_.results[r] == before || region_.results[r] == behind) &&
          yielded(before) && yielded(behind))
        return k;
    }
    return scan_.attr.carried;
  }

  // All parts behind each other along a new axis, which lies outermost.
  ValueId join(const std::vector<ValueId>& parts, ValueId result) {
    const Type part = to_.type(parts[0]);
    const AxisId along = to_.fresh_axis(program_.text(f_.axis(scan_.attr.from).name),
                                        static_cast<std::int64_t>(parts.size()));
    Type whole{part.dtype, {along}};
    for (AxisId a : part.axes) whole.axes.push_back(a);
    to_.at = scan_.loc;
    const Attr attr{.to = along, .axes = std::vector<AxisId>(parts.size())};
    const ValueId made = to_.add(Opcode::concat_, parts, attr, whole);
    to_.name(made, program_.text(f_.value(result).name));
    return made;
  }

  ValueId collected(std::size_t r) {
    const Type type = copy_(f_.type(scan_.results[r]));
    const AxisId along = copy_(scan_.attr.from);
    if (const std::size_t k = collected_twice(r); k < scan_.attr.carried) {
      if (whole_.size() < scan_.attr.carried) whole_.resize(scan_.attr.carried);
      if (!whole_[k].valid()) {
        std::vector<ValueId> parts = parts_[k];
        parts.insert(scan_.attr.reverse ? parts.end() : parts.begin(), first_[k]);
        whole_[k] = join(parts, scan_.results[r]);
      }
      const bool behind = region_.results[r] == region_.results[k];
      const Attr slice{.integer = behind != scan_.attr.reverse ? 1 : 0,
                       .from = to_.type(whole_[k]).axes[0],
                       .to = along};
      return to_.add(Opcode::slice_, {whole_[k]}, slice, type);
    }
    for (std::size_t q = scan_.attr.carried; q < r; ++q)
      if (region_.results[q] == region_.results[r] && copy_(f_.type(scan_.results[q])) == type)
        return copy_(scan_.results[q]);
    const ValueId whole = join(parts_[r], scan_.results[r]);
    return to_.add(Opcode::relabel_, {whole}, {.from = to_.type(whole).axes[0], .to = along}, type);
  }

  const Program& program_;
  const Function& f_;
  const Op& scan_;
  const Region& region_;
  Builder& to_;
  Cloner& copy_;
  std::int64_t n_;
  std::vector<ValueId> states_, first_;
  std::vector<std::vector<ValueId>> parts_;  // by result of the region, then by position
  std::map<OpId, Cloner> inside_;            // by call of the region
  std::vector<ValueId> whole_;               // by state: collected before and behind each turn
};

}  // namespace

void inline_turns(const Program& program, const Function& f, const Op& scan, Builder& to,
                  Cloner& copy) {
  Turns(program, f, scan, to, copy).run();
}

}  // namespace gradc::planning
