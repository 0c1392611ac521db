// repeat (rule 16): the body is checked once, as a function of the values that a turn binds again.
// Inside a scan, which has no calls, its turns are checked one after the other.
#include <algorithm>

#include "frontend/lowerer.h"

namespace gradc {

namespace {
constexpr std::int64_t max_turns = 65'536;
constexpr int max_repeats = 60;  // within one another; what the IR's bundles bear
}  // namespace

// Values of the outside that the body binds again, in the order in which they were bound there.
std::vector<std::string> Lowerer::rebound(const ast::Stmt& s) {
  const BodyFacts& facts = blocks_.facts(*frame_.file, s.body, {});
  std::vector<std::pair<std::pair<std::size_t, std::size_t>, std::string>> found;
  for (const auto& [name, times] : facts.bound) {
    std::size_t outwards = SIZE_MAX;
    for (Scope* scope = frame_.scope; scope != nullptr; scope = scope->outer(), --outwards)
      if (const Binding* b = scope->find_here(name)) {
        if ((b->kind == Binding::value || b->kind == Binding::argument) && b->term.ok())
          found.push_back({{outwards, b->order}, name});
        break;
      }
  }
  std::sort(found.begin(), found.end());
  std::vector<std::string> out;
  for (auto& [order, name] : found) out.push_back(std::move(name));
  return out;
}

// A turn binds a value again with the same axes and type.
bool Lowerer::same_type(const std::string& name, const Binding& before, const Term& after,
                        Span at) {
  if (!after.ok()) return false;
  const Term& t = before.term;
  const bool same =
      t.dtype == after.dtype && t.axes.size() == after.axes.size() && covers(t.axes, after.axes);
  if (same && (!t.integer() || (after.low >= t.low && after.high <= t.high))) return true;
  const std::string what =
      same ? fmt::format("a turn makes `{}` an integer of {} .. {}, and before it was of {} .. {}",
                         name, after.low, after.high, t.low, t.high)
           : fmt::format("a turn makes `{}` {}, and before it was {}", name, describe(after),
                         describe(t));
  report_.error(at, what, {{before.at, fmt::format("`{}` before the turn", name)}});
  return false;
}

void Lowerer::repeat_statement(const ast::Stmt& s) {
  const auto turns = integer(s.value, "the count of a repeat", 1, max_turns);
  if (!turns) return;
  if (turns_around_ >= max_repeats) {
    report_.error(s.at, fmt::format("more than {} repeats within one another", max_repeats));
    return;
  }
  const std::string path = frame_.path, members = frame_.members;
  const double copies = copies_;
  ++turns_around_;
  copies_ *= static_cast<double>(*turns);
  frame_.path =
      label(frame_.path, s.path ? s.path->text : "@", turns_around_, s.path ? s.path->at : s.at);
  if (tables_.empty())
    repeat_function(s, *turns);
  else
    repeat_unrolled(s, *turns);
  --turns_around_;
  copies_ = copies;
  frame_.path = path;
  frame_.members = members;
}

// A value that is known only when the program runs, with the type of another.
Term Lowerer::placeholder(Node node, const Term& like) {
  node.type = graph_.node(like.node).type;
  Term t = like;
  t.node = graph_.add(std::move(node));
  t.positional = false;
  t.truth = -1;
  t.data = t.axes;
  t.position = nullptr;
  return t;
}

void Lowerer::repeat_function(const ast::Stmt& s, std::int64_t turns) {
  const std::string name = repeat_name(s.path ? s.path->text : "");
  Turns bundles = open_turns(member_name(frame_.members, name));
  FunctionTurn turn{.repeat = static_cast<std::uint32_t>(graph_.repeats.size()),
                    .names = rebound(s),
                    .outer = frame_.scope};
  graph_.repeats.push_back({.parent = graph_.home,
                            .turns = turns,
                            .name = name,
                            .begin = static_cast<std::uint32_t>(graph_.nodes.size()),
                            .trained = bundles.trained,
                            .fixed = bundles.fixed,
                            .site = sites_});
  graph_.instances.push_back({.trained = bundles.trained, .fixed = bundles.fixed});
  for (const std::string& n : turn.names) {
    const Binding& b = *turn.outer->find(n);
    turn.before.push_back(b.term.is_number() ? terms_.to_real(b.term, b.at) : b.term);
  }
  if (turn.names.empty())
    report_.warning(s.at, "this repeat binds no value of the outside again, so it has no effect");

  Scope scope(turn.outer, &blocks_.facts(*frame_.file, s.body, {}), frame_.id);
  const std::uint32_t home = std::exchange(graph_.home, turn.repeat);
  const std::uint32_t instance =
      std::exchange(instance_, static_cast<std::uint32_t>(graph_.instances.size() - 1));
  const Cursor cursor = std::exchange(cursor_, {});
  const std::int64_t sites = std::exchange(sites_, 0);
  const std::size_t made = frame_.made.size();
  frame_.scope = &scope;
  frame_.members.clear();
  begin_turn(turn, scope, s.at);
  body(s.body);
  end_turn(turn, scope);
  warn_unused(scope, false);
  give_axes(made);
  frame_.scope = turn.outer;
  graph_.home = home;
  instance_ = instance;
  cursor_ = cursor;
  RepeatInfo& info = graph_.repeats[turn.repeat];
  info.sites = std::exchange(sites_, sites + sites_ * turns);
  info.end = static_cast<std::uint32_t>(graph_.nodes.size());
  close_turns(bundles, turns, s.at);
  info.trained_member = bundles.trained_slot;
  info.fixed_member = bundles.fixed_slot;
  leave_turns(turn, scope, s.at);
  const double operations = static_cast<double>(info.end - info.begin) * copies_;
  if (operations > static_cast<double>(max_operations) && !report_.failed())
    report_.error(s.at, fmt::format("{} turns of {} operations are more than {} operations",
                                    static_cast<std::int64_t>(copies_), info.end - info.begin,
                                    max_operations));
}

void Lowerer::begin_turn(const FunctionTurn& turn, Scope& scope, Span at) {
  for (std::uint32_t i = 0; i < turn.names.size(); ++i) {
    Term t = placeholder({.kind = Node::carried,
                          .owner = turn.repeat,
                          .item = i,
                          .at = at,
                          .name = graph_.intern(turn.names[i])},
                         turn.before[i]);
    graph_.repeats[turn.repeat].carried.push_back(t.node);
    scope.bind(turn.names[i], {.kind = Binding::value,
                               .at = turn.outer->find(turn.names[i])->at,
                               .term = std::move(t),
                               .carried = true});
  }
}

void Lowerer::end_turn(FunctionTurn& turn, Scope& scope) {
  for (std::size_t i = 0; i < turn.names.size(); ++i) {
    const Binding& b = *scope.find_here(turn.names[i]);
    const Binding before{.at = turn.outer->find(turn.names[i])->at, .term = turn.before[i]};
    turn.fine = b.term.ok() && same_type(turn.names[i], before, b.term, b.at) && turn.fine;
    const Term after = turn.fine ? terms_.expand(b.term, turn.before[i].axes, b.at) : Term{};
    graph_.repeats[turn.repeat].results.push_back(after.node);
    turn.trained = turn.trained || turn.before[i].trained || after.trained;
  }
}

// The calls, and what the last one leaves.
void Lowerer::leave_turns(const FunctionTurn& turn, Scope& scope, Span at) {
  const RepeatInfo& info = graph_.repeats[turn.repeat];
  Node calls{.kind = Node::repeat, .owner = turn.repeat, .at = at};
  for (const Term& t : turn.before) calls.operands.push_back(t.node);
  graph_.add(std::move(calls));
  // What a turn reads of the one before is used, whatever follows the repeat.
  std::vector<char> read(turn.names.size(), 0);
  for (std::uint32_t n = info.begin; n < info.end && info.turns > 1; ++n)
    for (NodeId o : graph_.nodes[n].operands)
      if (const Node& from = graph_.node(o);
          from.kind == Node::carried && from.owner == turn.repeat)
        read[from.item] = 1;
  for (std::uint32_t i = 0; i < turn.names.size(); ++i) {
    const Span bound = scope.find_here(turn.names[i])->at;
    Term t = turn.before[i];
    if (turn.fine) {
      t = placeholder({.kind = Node::turned,
                       .owner = turn.repeat,
                       .item = i,
                       .at = bound,
                       .name = graph_.intern(turn.names[i])},
                      t);
      t.trained = turn.trained && t.real();
    }
    const Binding* old = turn.outer->find_here(turn.names[i]);
    turn.outer->bind(turn.names[i], {.kind = turn.fine ? Binding::value : Binding::wrong,
                                     .at = bound,
                                     .term = std::move(t),
                                     .used = !turn.fine || read[i] == 1,
                                     .carried = old != nullptr && old->carried});
  }
}

// Ends the storage of axes made since.
void Lowerer::give_axes(std::size_t made) {
  for (std::size_t i = frame_.made.size(); i > made; --i) graph_.give_axis(frame_.made[i - 1]);
  frame_.made.resize(made);
}

void Lowerer::repeat_unrolled(const ast::Stmt& s, std::int64_t turns) {
  Turns bundles = open_turns(member_name(frame_.members, repeat_name(s.path ? s.path->text : "")));
  Scope* outer = frame_.scope;
  const std::vector<std::string> names = rebound(s);
  const Cursor around = cursor_;
  const std::uint32_t instance = instance_;
  const auto first = static_cast<std::uint32_t>(graph_.instances.size());
  frame_.members.clear();
  for (std::int64_t k = 0; k < turns && !stopped(); ++k) {
    Scope scope(outer, &blocks_.facts(*frame_.file, s.body, {}), frame_.id);
    graph_.instances.push_back(
        {.trained = bundles.trained, .fixed = bundles.fixed, .outer = instance, .turn = k});
    instance_ = static_cast<std::uint32_t>(graph_.instances.size() - 1);
    cursor_ = {};
    const std::size_t made = frame_.made.size();
    frame_.scope = &scope;
    for (const std::string& n : names) {
      Binding b = *outer->find(n);
      b.carried = true;
      scope.bind(n, std::move(b));
    }
    // Values that the turn itself binds along the scan's axis are states of this turn.
    std::deque<StateTable> own;
    const std::vector<StateTable*> tables = tables_;
    for (const StateTable* t : tables) {
      own.push_back({t->scan, t->axis, &scope, {}});
      find_states(s.body, own.back());
      for (const std::string& n : names) own.back().states.erase(n);
      tables_.push_back(&own.back());
    }
    body(s.body);
    for (StateTable& t : own) close_states(t);
    tables_ = tables;
    for (const std::string& n : names) {
      Binding b = *scope.find_here(n);
      const Binding& old = *outer->find(n);
      if (b.term.ok() && old.term.ok() && !same_type(n, old, b.term, b.at))
        b = {.kind = Binding::wrong, .at = b.at, .used = true};
      b.carried = outer->find_here(n) != nullptr && outer->find_here(n)->carried;
      outer->bind(n, std::move(b));
    }
    warn_unused(scope, false);
    give_axes(made);
    frame_.scope = outer;
  }
  instance_ = instance;
  cursor_ = around;
  close_turns(bundles, turns, s.at);
  for (std::uint32_t i = first; i < graph_.instances.size(); ++i)
    if (graph_.instances[i].trained == bundles.trained && graph_.instances[i].outer == instance) {
      graph_.instances[i].trained_member = bundles.trained_slot;
      graph_.instances[i].fixed_member = bundles.fixed_slot;
    }
}

}  // namespace gradc
