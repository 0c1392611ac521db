// Recomputes turns of a `repeat`: activation checkpointing (Chen et al. 2016, Training deep nets
// with sublinear memory cost), with the turn as the segment.
//
// A turn is a call of @f.fwd in @grad whose saved values only one call of @f.bwd reads. Recomputed,
// it keeps what it was given, which the turn before hands on anyway, instead of what it saved. The
// earliest turns go first: their backward directions come last, when what later turns saved is
// gone, so that running forward again does not add to the peak; and the last turn of all would be
// recomputed just where the memory is fullest.
//
// The number of turns is found by bisection over plans, which is exact where each further turn
// takes no more memory than it gives back.
#include "passes/recompute.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <string>

#include "ir/builder.h"
#include "ir/structure.h"

namespace gradc {
namespace {

// A call of @f.fwd, the call of @f.bwd that alone reads what it saves, and which results those are.
struct Turn {
  OpId forward, backward;
  std::vector<char> saved;  // by result
  std::string stem;         // f
};

std::string stem_of(const Program& p, const Op& call, std::string_view direction) {
  if (call.code != Opcode::call_) return "";
  const std::string_view name = p.text(p.function(call.attr.callee).name);
  return name.ends_with(direction) ? std::string(name.substr(0, name.size() - direction.size()))
                                   : "";
}

// In order.
std::vector<Turn> turns_of(const Program& p, const Function& f) {
  std::vector<std::vector<OpId>> readers(f.values.size());
  for (OpId o : f.body().ops)
    for (ValueId v : f.op(o).operands)
      if (readers[v.index].empty() || readers[v.index].back() != o) readers[v.index].push_back(o);
  for (ValueId v : f.body().results) readers[v.index].push_back({});
  std::vector<Turn> out;
  for (OpId o : f.body().ops) {
    const Op& op = f.op(o);
    Turn t{.forward = o, .backward = {}, .saved = {}, .stem = stem_of(p, op, ".fwd")};
    if (t.stem.empty()) continue;
    for (ValueId v : op.results) {
      const std::vector<OpId>& r = readers[v.index];
      const bool saved = r.size() == 1 && r[0].valid() &&
                         (!t.backward.valid() || r[0] == t.backward) &&
                         stem_of(p, f.op(r[0]), ".bwd") == t.stem;
      if (saved) t.backward = r[0];
      t.saved.push_back(saved);
    }
    if (t.backward.valid()) out.push_back(std::move(t));
  }
  return out;
}

// `f` with only those results, and only what they need.
Function results_only(Program& program, const Function& f, const std::vector<char>& dropped) {
  Function out{.name = f.name};
  Builder to(program, out);
  Cloner copy(f, to);
  copy.arguments();
  std::vector<char> live(f.values.size(), 0);
  std::vector<std::size_t> kept;
  for (std::size_t i = 0; i < f.body().results.size(); ++i)
    if (!dropped[i]) {
      kept.push_back(i);
      live[f.body().results[i].index] = 1;
    }
  const std::vector<OpId>& ops = f.body().ops;
  std::vector<char> stays(f.ops.size(), 0);
  for (auto o = ops.rbegin(); o != ops.rend(); ++o) {
    const Op& op = f.op(*o);
    stays[o->index] = std::any_of(op.results.begin(), op.results.end(),
                                  [&](ValueId v) { return live[v.index] != 0; });
    if (stays[o->index])
      for (ValueId v : op.operands) live[v.index] = 1;
  }
  for (OpId o : ops)
    if (stays[o.index]) copy.clone(o);
  std::vector<ValueId> results;
  std::vector<NameId> names;
  for (std::size_t i : kept) {
    results.push_back(copy(f.body().results[i]));
    if (!f.result_names.empty()) names.push_back(f.result_names[i]);
  }
  to.finish(results, names);
  return out;
}

// The function that gives the results of @stem.fwd which are not saved: @stem where it is the same.
FunctionId plain_function(Program& program, const Turn& turn, FunctionId forward) {
  Function plain = results_only(program, Function(program.function(forward)), turn.saved);
  const FunctionId own = program.find(turn.stem);
  if (own.valid() && structure_key(program, plain) == structure_key(program, program.function(own)))
    return own;
  plain.name = program.intern(program.unique_function_name(fmt::format("{}.results", turn.stem)));
  program.functions.push_back(std::move(plain));
  return FunctionId{static_cast<std::uint32_t>(program.functions.size() - 1)};
}

class Rewriter {
 public:
  Rewriter(Program& program, const Function& f, const std::vector<Turn>& turns, std::size_t count,
           Function& out)
      : program_(program), f_(f), turns_(turns), to_(program, out), copy_(f, to_) {
    for (std::size_t i = 0; i < count; ++i) {
      forward_[turns[i].forward] = i;
      backward_[turns[i].backward].push_back(i);
    }
  }

  void run() {
    copy_.arguments();
    for (OpId o : f_.body().ops) {
      if (const auto it = forward_.find(o); it != forward_.end()) {
        first(turns_[it->second]);
        continue;
      }
      if (const auto it = backward_.find(o); it != backward_.end())
        for (std::size_t i : it->second) again(turns_[i]);
      copy_.clone(o);
    }
    std::vector<ValueId> results;
    for (ValueId v : f_.body().results) results.push_back(copy_(v));
    to_.finish(results, f_.result_names);
  }

 private:
  std::vector<ValueId> operands(const Op& op) const {
    std::vector<ValueId> out;
    for (ValueId v : op.operands) out.push_back(copy_(v));
    return out;
  }
  void define(ValueId v, ValueId made) {
    copy_.map(v, made);
    to_.name(made, program_.text(f_.value(v).name));
  }

  // Forward: results alone.
  void first(const Turn& turn) {
    const Op& op = f_.op(turn.forward);
    FunctionId& plain = plain_[op.attr.callee];
    if (!plain.valid()) plain = plain_function(program_, turn, op.attr.callee);
    std::vector<Type> types;
    for (std::size_t i = 0; i < op.results.size(); ++i)
      if (!turn.saved[i]) types.push_back(copy_(f_.type(op.results[i])));
    to_.at = op.loc;
    const std::vector<ValueId> made =
        to_.add_multi(Opcode::call_, operands(op), {.callee = plain}, types);
    for (std::size_t i = 0, n = 0; i < op.results.size(); ++i)
      if (!turn.saved[i]) define(op.results[i], made[n++]);
  }

  // Before backward: forward again, for what it saves.
  void again(const Turn& turn) {
    const Op& op = f_.op(turn.forward);
    std::vector<Type> types;
    for (ValueId v : op.results) types.push_back(copy_(f_.type(v)));
    to_.at = program_.with_role(op.loc, Role::gradient);
    const std::vector<ValueId> made =
        to_.add_multi(Opcode::call_, operands(op), {.callee = op.attr.callee}, types);
    for (std::size_t i = 0; i < op.results.size(); ++i)
      if (turn.saved[i]) define(op.results[i], made[i]);
    for (const Group& g : f_.groups) {
      const auto at = std::find(op.results.begin(), op.results.end(), g.first);
      if (at == op.results.end()) continue;
      const auto i = static_cast<std::size_t>(at - op.results.begin());
      if (std::find(turn.saved.begin() + static_cast<std::ptrdiff_t>(i),
                    turn.saved.begin() + static_cast<std::ptrdiff_t>(i + g.count),
                    0) == turn.saved.begin() + static_cast<std::ptrdiff_t>(i + g.count))
        to_.group(program_.text(g.name), g.bundle, made[i], g.count);
    }
  }

  Program& program_;
  const Function& f_;
  const std::vector<Turn>& turns_;
  Builder to_;
  Cloner copy_;
  std::map<OpId, std::size_t> forward_;  // call to turn
  std::map<OpId, std::vector<std::size_t>> backward_;
  std::map<FunctionId, FunctionId> plain_;
};

// Turns that follow each other in the list and are of one function, as "turns 0-7 of @h".
struct Run {
  std::string stem;
  int first = 0, count = 0;
  LocId at;
  std::string text() const {
    return count == 1 ? fmt::format("turn {} of @{}", first, stem)
                      : fmt::format("turns {}-{} of @{}", first, first + count - 1, stem);
  }
};
std::vector<Run> runs_of(const Program& p, int count) {
  const Function& f = p.function(p.find("grad"));
  std::vector<Run> out;
  std::map<std::string, int> seen;
  const std::vector<Turn> turns = turns_of(p, f);
  for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i) {
    const int number = seen[turns[i].stem]++;
    if (out.empty() || out.back().stem != turns[i].stem)
      out.push_back({turns[i].stem, number, 0, f.op(turns[i].forward).loc});
    ++out.back().count;
  }
  return out;
}

}  // namespace

int recomputable_turns(const Program& program) {
  const FunctionId grad = program.find("grad");
  return grad.valid() ? static_cast<int>(turns_of(program, program.function(grad)).size()) : 0;
}

Program recompute_turns(const Program& program, int count) {
  Program out = program;
  const FunctionId grad = out.find("grad");
  if (!grad.valid() || count <= 0) return out;
  const Function& f = program.function(grad);
  const std::vector<Turn> turns = turns_of(program, f);
  Function made{.name = f.name};
  Rewriter(out, f, turns, std::min(static_cast<std::size_t>(count), turns.size()), made).run();
  out.function(grad) = std::move(made);
  return out;
}

Result<Program> recompute(const Program& program, std::int64_t budget, const Measure& measure,
                          std::vector<Remark>* remarks) {
  const int all = recomputable_turns(program);
  std::map<int, std::int64_t> known;  // bytes by number of turns
  const auto bytes = [&](int count) -> Result<std::int64_t> {
    if (const auto it = known.find(count); it != known.end()) return it->second;
    Result<std::int64_t> made = measure(recompute_turns(program, count));
    if (made) known[count] = *made;
    return made;
  };
  // The last turn is recomputed at the peak, so that all but one may take less than all.
  int most = -1;
  for (int count : {0, all, all - 1}) {
    if (count < 0) continue;
    const Result<std::int64_t> b = bytes(count);
    if (!b) return b.failure();
    if (*b > budget) continue;
    most = count;
    break;
  }
  if (most < 0) {
    std::int64_t least = known.begin()->second;
    for (const auto& [count, b] : known) least = std::min(least, b);
    return failure(Exit::usage,
                   fmt::format("the memory budget of {} is {} too small: activations take {}{}",
                               human_bytes(budget), human_bytes(least - budget), human_bytes(least),
                               all > 0 ? ", turns recomputed"
                                       : ", and there is no turn of a `repeat` to recompute"));
  }
  int low = -1;  // does not fit, most does
  while (most - low > 1) {
    const int middle = low + (most - low) / 2;
    const Result<std::int64_t> b = bytes(middle);
    if (!b) return b.failure();
    (*b <= budget ? most : low) = middle;
  }
  if (remarks != nullptr) {
    int behind = 0;
    for (const Run& r : runs_of(program, most)) {
      const Result<std::int64_t> with = bytes(behind + r.count), without = bytes(behind);
      if (!with || !without) break;
      remarks->push_back({.at = r.at,
                          .text = fmt::format("recomputed: {}: {} less", r.text(),
                                              human_bytes(*without - *with))});
      behind += r.count;
    }
  }
  return recompute_turns(program, most);
}

}  // namespace gradc
