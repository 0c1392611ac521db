// What the planner changes in the order of launches, where parameters are updated part by part
// (spread_update.cpp). An update moves up to where its gradient is made and nobody reads the old
// values any more. And what is much larger than what it is made of, and waits long for its first
// reader, is made when that comes: the logits' part of a tied table's gradient.
#include <algorithm>
#include <utility>

#include "passes/plan.h"

namespace gradc::planning {
namespace {

class Order {
 public:
  Order(Program& program, const Function& f, Function& out)
      : program_(program),
        f_(f),
        to_(program, out),
        copy_(f, to_),
        updates_(f.ops.size(), 0),
        emitted_(f.ops.size(), 0),
        time_(f.ops.size(), 0),
        made_(f.values.size(), -1),
        read_(f.values.size(), -1) {}

  // False: there is nothing to move, and nothing was written.
  bool run() {
    find_updates();
    if (moved_.empty()) return false;
    const std::vector<std::vector<OpId>> ahead = find_late();
    find_times();
    std::vector<std::vector<OpId>> behind(f_.body().ops.size() + 1);  // by position + 1
    for (const Moved& m : moved_) behind[static_cast<std::size_t>(ready(m) + 1)].push_back(m.op);
    copy_.arguments();
    for (OpId o : behind[0]) emit(o);
    for (std::size_t t = 0; t < f_.body().ops.size(); ++t) {
      for (OpId o : ahead[t]) emit(o);
      if (const OpId o = f_.body().ops[t];
          !updates_[o.index] && !passes_on(f_.op(o)) && time_[o.index] == at(t))
        emit(o);
      for (OpId o : behind[t + 1]) emit(o);
    }
    std::vector<ValueId> results;
    for (ValueId v : f_.body().results) {
      if (const OpId def = f_.value(v).def; def.valid()) emit(def);
      results.push_back(copy_(v));
    }
    to_.finish(results, f_.result_names);
    return true;
  }

 private:
  struct Stretch {  // of the elements of a group, or of a flat argument of its name
    std::string_view name;
    std::int64_t begin, end;
  };
  struct Moved {
    OpId op;
    std::vector<Stretch> replaces;
  };

  // Launches all of whose results are parts of what replaces the parameters and their moments, or
  // scalars.
  void find_updates() {
    std::vector<int> readers(f_.values.size(), 0);
    for (OpId o : f_.body().ops)
      for (ValueId v : f_.op(o).operands) ++readers[v.index];
    std::vector<std::vector<Stretch>> parts(f_.ops.size());
    for (std::size_t i = 0; i < f_.result_names.size(); ++i) {
      const std::string_view name = program_.text(f_.result_names[i]);
      const Op* join = f_.definition(f_.body().results[i]);
      if (join == nullptr || join->code != Opcode::concat_) continue;
      if (name != "p" && name != "m" && name != "v" && name != "rounded") continue;
      std::int64_t at = 0;
      for (ValueId v : join->operands) {
        const std::int64_t n = f_.elements(f_.type(v));
        const OpId def = f_.value(v).def;
        if (def.valid() && f_.op(def).code == Opcode::launch_ && readers[v.index] == 1)
          parts[def.index].push_back({name, at, at + n});
        at += n;
      }
    }
    const auto is_number = [&](ValueId v) { return f_.type(v).axes.empty(); };
    for (OpId o : f_.body().ops)
      if (const std::vector<ValueId>& results = f_.op(o).results;
          !parts[o.index].empty() &&
          parts[o.index].size() + static_cast<std::size_t>(std::count_if(
                                      results.begin(), results.end(), is_number)) ==
              results.size()) {
        updates_[o.index] = 1;
        moved_.push_back({o, std::move(parts[o.index])});
      }
  }

  static std::int64_t at(std::size_t t) { return static_cast<std::int64_t>(t); }

  // Sets time_, the position at which each operation runs, and gives by position what runs ahead of
  // it instead of where it stands.
  std::vector<std::vector<OpId>> find_late() {
    const std::vector<OpId>& ops = f_.body().ops;
    std::vector<std::int64_t> first(f_.values.size(), INT64_MAX), last(f_.values.size(), -1);
    for (ValueId v : f_.body().results) first[v.index] = last[v.index] = at(ops.size());
    for (std::size_t t = ops.size(); t-- > 0;) {
      const Op& op = f_.op(ops[t]);
      time_[ops[t].index] = at(t);
      const ValueId r = op.results[0];
      for (ValueId v : op.operands) {
        // An update comes at once, wherever it stands here.
        const bool soon = updates_[ops[t].index];
        first[v.index] = std::min(first[v.index], soon ? -1 : passes_on(op) ? first[r.index] : at(t));
        last[v.index] = std::max(last[v.index], soon ? -1 : passes_on(op) ? last[r.index] : at(t));
      }
    }
    std::vector<std::vector<OpId>> ahead(ops.size());
    for (std::size_t t = 0; t < ops.size(); ++t) {
      const Op& op = f_.op(ops[t]);
      if (op.code != Opcode::launch_) continue;
      std::int64_t reader = at(ops.size());
      for (ValueId v : op.results) reader = std::min(reader, first[v.index]);
      if (reader - at(t) < long_after || reader == at(ops.size())) continue;
      std::int64_t held = 0, made = 0;
      for (ValueId v : op.results) made += bytes_of(v);
      for (ValueId v : op.operands) held += held_until(v, reader, last);
      if (made < worth || held > made / 2) continue;
      time_[ops[t].index] = reader;
      ahead[static_cast<std::size_t>(reader)].push_back(ops[t]);
    }
    return ahead;
  }
  std::int64_t bytes_of(ValueId v) const {
    return f_.elements(f_.type(v)) * bytes(f_.type(v).dtype);
  }
  // Bytes of a value, or of what it looks at, that nobody else would need any more at that time.
  std::int64_t held_until(ValueId v, std::int64_t time, const std::vector<std::int64_t>& last) const {
    const Op* def = f_.definition(v);
    if (def == nullptr || last[v.index] >= time) return 0;
    if (!passes_on(*def)) return bytes_of(v);
    std::int64_t out = 0;
    for (ValueId x : def->operands) out += held_until(x, time, last);
    return out;
  }

  // When each value is there, and when it is read for the last time by anything but an update. A
  // scalar can be made as early as what it is made of.
  void find_times() {
    const std::vector<OpId>& ops = f_.body().ops;
    for (std::size_t t = 0; t < ops.size(); ++t) {
      const Op& op = f_.op(ops[t]);
      std::int64_t time = time_[ops[t].index];
      if (passes_on(op) || is_scalar(op)) {
        time = -1;
        for (ValueId v : op.operands) time = std::max(time, made_[v.index]);
      }
      for (ValueId v : op.results) made_[v.index] = time;
    }
    for (std::size_t t = ops.size(); t-- > 0;) {
      const Op& op = f_.op(ops[t]);
      if (updates_[ops[t].index]) continue;
      const std::int64_t time =
          passes_on(op) ? read_[op.results[0].index] : time_[ops[t].index];
      for (ValueId v : op.operands) read_[v.index] = std::max(read_[v.index], time);
    }
    for (const Group& g : f_.groups)
      if (!f_.value(g.first).def.valid()) {
        std::vector<std::int64_t>& ends = ends_.emplace_back();
        std::int64_t at = 0;
        for (std::uint32_t i = 0; i < g.count; ++i)
          ends.push_back(at += f_.elements(f_.type(ValueId{g.first.index + i})));
        groups_.push_back(&g);
      }
  }
  bool is_scalar(const Op& op) const {
    return op.code == Opcode::launch_ &&
           std::all_of(op.results.begin(), op.results.end(),
                       [&](ValueId v) { return f_.type(v).axes.empty(); });
  }

  // The position behind which an update can run; −1: ahead of everything.
  std::int64_t ready(const Moved& m) const {
    std::int64_t out = -1;
    for (ValueId v : f_.op(m.op).operands) out = std::max(out, made_[v.index]);
    for (const Stretch& s : m.replaces)
      for (std::size_t i = 0; i < groups_.size(); ++i) {
        const Group& g = *groups_[i];
        if (program_.text(g.name) != s.name) continue;
        const std::vector<std::int64_t>& ends = ends_[i];
        auto member = std::upper_bound(ends.begin(), ends.end(), s.begin);
        for (; member != ends.end(); ++member) {
          out = std::max(out, read_[g.first.index + static_cast<std::size_t>(member - ends.begin())]);
          if (*member >= s.end) break;
        }
      }
    return out;
  }

  // The operation, behind what it needs and is not there yet: views and joins, which wait for their
  // readers, scalars of updates; a few levels.
  void emit(OpId o) {
    if (emitted_[o.index]) return;
    emitted_[o.index] = 1;
    for (ValueId v : f_.op(o).operands)
      if (const OpId def = f_.value(v).def; def.valid()) emit(def);
    to_.at = f_.op(o).loc;
    copy_.clone(o);
  }

  Program& program_;
  const Function& f_;
  Builder to_;
  Cloner copy_;
  static constexpr std::int64_t long_after = 32;  // operations: about a turn of a `repeat`
  static constexpr std::int64_t worth = 4 << 20;  // bytes

  std::vector<char> updates_, emitted_;      // by operation
  std::vector<std::int64_t> time_;
  std::vector<Moved> moved_;
  std::vector<std::int64_t> made_, read_;    // by value: positions, −1: before all
  std::vector<const Group*> groups_;         // of arguments
  std::vector<std::vector<std::int64_t>> ends_;  // of their members, in elements
};

}  // namespace

Function order_launches(Program& program, Function f) {
  Function out;
  out.name = f.name;
  return Order(program, f, out).run() ? std::move(out) : std::move(f);
}

}  // namespace gradc::planning
