// Decides what leaves a scan: from what its results need, backward through the region.
#include <algorithm>

#include "passes/hoist.h"

namespace gradc::hoisting {
namespace {

constexpr double few = 1 << 18;  // elements that may be kept for all turns, whatever they are for
constexpr double wide = 8;       // a product may be so many times as large as what it is made of

class Finder {
 public:
  Finder(const Function& f, const Op& scan, const std::vector<std::uint32_t>& uses)
      : f_(f), scan_(scan), region_(f.regions[scan.regions[0].index]), uses_(uses) {}

  Parts run() {
    find_free();
    find_live();
    find_accumulations();
    find_live();  // without what only they needed
    for (ValueId v : wanted_)
      if (!out_.is_free(v) && !yielded(v)) out_.collected.push_back(v);
    find_inside();
    return std::move(out_);
  }

 private:
  const Op* def(ValueId v) const {
    const OpId d = f_.value(v).def;
    return d.valid() ? &f_.op(d) : nullptr;
  }
  std::uint32_t carried() const { return scan_.attr.carried; }
  double elements(ValueId v) const { return static_cast<double>(f_.elements(f_.type(v))); }
  double turns() const { return static_cast<double>(f_.extent(scan_.attr.from)); }

  // ---- what needs no state

  bool mentions_axis(const Op& op) const {
    const AxisId t = scan_.attr.from;
    const auto has = [&](ValueId v) { return f_.type(v).axes.contains(t); };
    return op.attr.from == t || op.attr.to == t ||
           std::find(op.attr.axes.begin(), op.attr.axes.end(), t) != op.attr.axes.end() ||
           std::any_of(op.operands.begin(), op.operands.end(), has) ||
           std::any_of(op.results.begin(), op.results.end(), has);
  }
  // With one more axis in operands and result it means the same for each position of that.
  static bool keeps_apart(const Op& op) {
    switch (op.code) {
      case Opcode::constant_:
      case Opcode::relabel_:
      case Opcode::split_:
      case Opcode::merge_:
      case Opcode::expand_: return true;
      case Opcode::position_:
      case Opcode::pick_:
      case Opcode::slice_: return op.operands.size() <= 1;
      default:
        const Kind kind = facts(op.code).kind;
        return is_elementwise(kind) || kind == Kind::reduce || kind == Kind::contract;
    }
  }
  void find_free() {
    for (std::size_t i = carried(); i < region_.arguments.size(); ++i) {
      const ValueId v = region_.arguments[i];
      if (!f_.type(v).axes.contains(scan_.attr.from) && !f_.type(v).axes.full())
        out_.free[v] = i < carried() + scan_.attr.sliced;
    }
    for (OpId o : region_.ops) {
      const Op& op = f_.op(o);
      if (!keeps_apart(op) || mentions_axis(op) || f_.type(op.results[0]).axes.full()) continue;
      bool free = true, varies = false;
      for (ValueId v : op.operands) {
        const auto it = out_.free.find(v);
        free &= it != out_.free.end();
        varies |= it != out_.free.end() && it->second;
      }
      // A position with a base of its own a turn has no form for all turns.
      if (free && !(varies && op.code == Opcode::position_)) out_.free[op.results[0]] = varies;
    }
  }

  // ---- what somebody reads

  void find_live() {
    std::unordered_set<ValueId> seen;
    std::vector<ValueId> work;
    const auto need = [&](ValueId v) {
      if (seen.insert(v).second) work.push_back(v);
    };
    const auto is_sum = [&](std::uint32_t k) {
      return std::any_of(out_.accumulations.begin(), out_.accumulations.end(),
                         [&](const Accumulation& a) { return a.state == k; });
    };
    out_.results.clear();
    out_.states.clear();
    for (std::uint32_t r = carried(); r < scan_.results.size(); ++r)
      if (uses_[scan_.results[r].index] > 0) {
        out_.results.push_back(r);
        need(region_.results[r]);
      }
    for (ValueId v : wanted_) need(v);
    std::vector<char> live(carried(), 0);
    const auto keep = [&](std::uint32_t k) {
      if (live[k] || is_sum(k)) return;
      live[k] = 1;
      need(region_.results[k]);
    };
    for (std::uint32_t k = 0; k < carried(); ++k)
      if (uses_[scan_.results[k].index] > 0) keep(k);
    while (!work.empty()) {
      const ValueId v = work.back();
      work.pop_back();
      if (const Op* op = def(v)) {
        for (ValueId x : op->operands) need(x);
        continue;
      }
      const auto at = std::find(region_.arguments.begin(), region_.arguments.end(), v);
      if (const auto k = static_cast<std::uint32_t>(at - region_.arguments.begin()); k < carried())
        keep(k);
    }
    for (std::uint32_t k = 0; k < carried(); ++k)
      if (live[k]) out_.states.push_back(k);
    readers_.clear();
    std::unordered_set<OpId> ops;
    for (ValueId v : seen)
      if (f_.value(v).def.valid()) ops.insert(f_.value(v).def);
    for (OpId o : region_.ops)
      if (ops.contains(o))
        for (ValueId v : f_.op(o).operands) readers_[v].push_back(o);
    yields_.clear();
    for (std::uint32_t k : out_.states) ++yields_[region_.results[k]];
    for (std::uint32_t r : out_.results) ++yields_[region_.results[r]];
  }
  std::size_t readers(ValueId v) const {
    const auto it = readers_.find(v);
    return it == readers_.end() ? 0 : it->second.size();
  }
  int yields(ValueId v) const {
    const auto it = yields_.find(v);
    return it == yields_.end() ? 0 : it->second;
  }
  bool yielded(ValueId v) const {
    return std::any_of(out_.results.begin(), out_.results.end(),
                       [&](std::uint32_t r) { return region_.results[r] == v; });
  }

  // ---- sums over the turns

  // The terms of state k, if the region only adds to it.
  bool terms_of(std::uint32_t k, std::vector<ValueId>& terms) const {
    ValueId v = region_.arguments[k];
    if (!is_real(f_.type(v).dtype) || f_.type(v).axes.contains(scan_.attr.from)) return false;
    while (v != region_.results[k]) {
      if (readers(v) != 1 || yields(v) != 0) return false;
      const Op& op = f_.op(readers_.at(v)[0]);
      if (op.code != Opcode::add_) return false;
      const ValueId term = op.operands[op.operands[0] == v ? 1 : 0];
      if (f_.type(term).dtype != f_.type(v).dtype ||
          !same_set(f_.type(term).axes, f_.type(v).axes))
        return false;
      terms.push_back(term);
      v = op.results[0];
    }
    return readers(v) == 0 && yields(v) == 1 && !terms.empty();
  }
  // What has to be there for all turns so that the term can be summed behind the loop.
  std::vector<ValueId> needed_for(ValueId term) const {
    if (sums_through(f_, out_, term) && readers(term) == 1 && yields(term) == 0) {
      const Op& op = *def(term);
      return op.operands;
    }
    return {term};
  }
  // What a value is a view of: that is collected, and looked at for all turns at once.
  ValueId seen(ValueId v) const {
    for (const Op* op = def(v); op != nullptr && !out_.is_free(v); op = def(v)) {
      const bool same = op->code == Opcode::relabel_ || op->code == Opcode::split_ ||
                        op->code == Opcode::merge_;
      if (!same || mentions_axis(*op) || f_.type(v).axes.full()) break;
      v = op->operands[0];
    }
    return v;
  }
  void find_accumulations() {
    sequences_ = few;
    for (std::size_t i = carried(); i < carried() + scan_.attr.sliced; ++i)
      sequences_ += elements(scan_.operands[i]);
    for (std::uint32_t r : out_.results) sequences_ += elements(scan_.results[r]);
    for (std::uint32_t k : out_.states) {
      Accumulation a{k, {}};
      if (!terms_of(k, a.terms)) continue;
      std::vector<ValueId> wanted;
      double more = 0;
      bool fits = true;
      for (ValueId term : a.terms)
        for (ValueId operand : needed_for(term)) {
          const ValueId v = seen(operand);
          const Type& t = f_.type(v);
          fits &= out_.is_free(v) || (!t.axes.contains(scan_.attr.from) && !t.axes.full());
          if (std::find(wanted_.begin(), wanted_.end(), v) != wanted_.end() || yielded(v)) continue;
          wanted.push_back(v);
          more += turns() * elements(v);
        }
      if (!fits || more > sequences_) continue;
      out_.accumulations.push_back(std::move(a));
      wanted_.insert(wanted_.end(), wanted.begin(), wanted.end());
    }
  }

  // ---- the loop that is left

  // Made of nothing but constants and positions, or only seen differently.
  bool trivial(ValueId v) const {
    const Op* op = def(v);
    if (op == nullptr) return true;
    switch (op->code) {
      case Opcode::constant_:
      case Opcode::position_: return true;
      case Opcode::relabel_:
      case Opcode::split_:
      case Opcode::merge_:
      case Opcode::pick_:
      case Opcode::slice_:
      case Opcode::expand_: return trivial(op->operands[0]);
      default: return false;
    }
  }
  bool leaves(ValueId v) const {
    if (!out_.is_free(v) || def(v) == nullptr) return false;
    const Kind kind = facts(def(v)->code).kind;
    if (kind == Kind::contract || kind == Kind::reduce)
      return !out_.varies(v) || turns() * elements(v) <= wide * sequences_;
    return !out_.varies(v) && !trivial(v);
  }
  void find_inside() {
    std::unordered_set<ValueId> seen;
    std::vector<ValueId> work;
    const auto need = [&](ValueId v) {
      if (seen.insert(v).second) work.push_back(v);
    };
    for (std::uint32_t k : out_.states) need(region_.results[k]);
    for (std::uint32_t r : out_.results)
      if (!out_.is_free(region_.results[r])) need(region_.results[r]);
    for (ValueId v : out_.collected) need(v);
    while (!work.empty()) {
      const ValueId v = work.back();
      work.pop_back();
      const Op* op = def(v);
      if (op == nullptr) continue;
      if (leaves(v)) {
        out_.before.push_back(v);
        continue;
      }
      out_.inside.insert(f_.value(v).def);
      for (ValueId x : op->operands) need(x);
    }
    std::sort(out_.before.begin(), out_.before.end());
  }

  const Function& f_;
  const Op& scan_;
  const Region& region_;
  const std::vector<std::uint32_t>& uses_;
  Parts out_;
  double sequences_ = 0;         // elements that are kept for all turns anyway, or are few
  std::vector<ValueId> wanted_;  // by accumulations, for all turns
  std::unordered_map<ValueId, std::vector<OpId>> readers_;  // live operations
  std::unordered_map<ValueId, int> yields_;                 // live ones
};

}  // namespace

bool sums_through(const Function& f, const Parts& parts, ValueId term) {
  const OpId d = f.value(term).def;
  if (!d.valid()) return false;
  const Op& op = f.op(d);
  if (op.code == Opcode::sum_) return parts.is_free(op.operands[0]);
  return op.code == Opcode::contract_;
}

Parts take_apart(const Function& f, const Op& scan, const std::vector<std::uint32_t>& uses) {
  return Finder(f, scan, uses).run();
}

}  // namespace gradc::hoisting
