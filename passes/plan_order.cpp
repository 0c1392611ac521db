// The one change that the planner makes to the order of launches: what updates a part of the
// parameters (spread_update.cpp) moves up to where its gradient is made and nobody reads the old
// values any more.
#include <algorithm>

#include "passes/plan.h"

namespace gradc::planning {
namespace {

bool is_join(const Op& op) { return op.code == Opcode::concat_ || op.code == Opcode::flat_; }
bool passes_on(const Op& op) { return is_join(op) || is_static_view(op); }

class Advance {
 public:
  Advance(Program& program, const Function& f, Function& out)
      : program_(program),
        f_(f),
        to_(program, out),
        copy_(f, to_),
        updates_(f.ops.size(), 0),
        emitted_(f.ops.size(), 0),
        made_(f.values.size(), -1),
        read_(f.values.size(), -1) {}

  // False: there is nothing to move, and nothing was written.
  bool run() {
    find_updates();
    if (moved_.empty()) return false;
    find_times();
    std::vector<std::vector<OpId>> behind(f_.body().ops.size() + 1);  // by position + 1
    for (const Moved& m : moved_) behind[static_cast<std::size_t>(ready(m) + 1)].push_back(m.op);
    copy_.arguments();
    for (OpId o : behind[0]) emit(o);
    for (std::size_t t = 0; t < f_.body().ops.size(); ++t) {
      if (const OpId o = f_.body().ops[t]; !updates_[o.index]) emit(o);
      for (OpId o : behind[t + 1]) emit(o);
    }
    std::vector<ValueId> results;
    for (ValueId v : f_.body().results) results.push_back(copy_(v));
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

  // Launches all of whose results are parts of what replaces the parameters and their moments.
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
    for (OpId o : f_.body().ops)
      if (!parts[o.index].empty() && parts[o.index].size() == f_.op(o).results.size()) {
        updates_[o.index] = 1;
        moved_.push_back({o, std::move(parts[o.index])});
      }
  }

  // When each value is there, and when it is read for the last time by anything but an update. A
  // scalar can be made as early as what it is made of.
  void find_times() {
    const std::vector<OpId>& ops = f_.body().ops;
    for (std::size_t t = 0; t < ops.size(); ++t) {
      const Op& op = f_.op(ops[t]);
      std::int64_t time = static_cast<std::int64_t>(t);
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
          passes_on(op) ? read_[op.results[0].index] : static_cast<std::int64_t>(t);
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

  // The operation, behind what it needs: an update's views and scalars, a few levels.
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
  std::vector<char> updates_, emitted_;      // by operation
  std::vector<Moved> moved_;
  std::vector<std::int64_t> made_, read_;    // by value: positions, −1: before all
  std::vector<const Group*> groups_;         // of arguments
  std::vector<std::vector<std::int64_t>> ends_;  // of their members, in elements
};

}  // namespace

Function advance_updates(Program& program, const Function& f) {
  Function out;
  out.name = f.name;
  return Advance(program, f, out).run() ? out : f;
}

}  // namespace gradc::planning
