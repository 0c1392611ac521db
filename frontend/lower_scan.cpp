// scan (rule 17). Its body is checked as whole-tensor statements in which a read at `t - 1` is a
// value of its own, the state; emission finds what depends on states and makes that the recurrence.
// So everything else (gates of all positions at once, say) stays outside of it.
#include <algorithm>

#include "frontend/lowerer.h"

namespace gradc {

using ast::ExprKind;
using ast::StmtKind;

// Values bound with the axis in their list, scans within included: what may be read at `t - 1`.
void Lowerer::find_states(const std::vector<ast::StmtId>& statements, StateTable& table) {
  for (ast::StmtId id : statements) {
    const ast::Stmt& s = frame_.file->stmt(id);
    if (s.kind == StmtKind::scan) find_states(s.body, table);
    if (s.kind != StmtKind::let || !s.has_list) continue;
    const bool listed = std::any_of(s.axes.begin(), s.axes.end(), [&](const ast::Word& w) {
      const Binding* b = frame_.scope->find(w.text);
      return b != nullptr && b->kind == Binding::axis && b->along == table.axis;
    });
    if (listed) table.states[s.name.text].let = &s;
  }
}

// The axis, if a scan may go along it here.
const NamedAxis* Lowerer::scan_axis(const ast::Stmt& s) {
  constexpr std::size_t most_scans = 60;  // within one another; what the IR's regions bear
  const NamedAxis* axis = axis_named(s.name);
  if (axis == nullptr) return nullptr;
  if (directions_.size() >= most_scans) {
    report_.error(s.at, fmt::format("more than {} scans within one another", most_scans));
    return nullptr;
  }
  for (const StateTable* t : tables_)
    if (t->axis->storage == axis->storage) {
      report_.error(s.name.at,
                    fmt::format("`{}` is the axis of a scan around already", s.name.text));
      return nullptr;
    }
  return axis;
}

void Lowerer::scan_statement(const ast::Stmt& s) {
  const NamedAxis* axis = scan_axis(s);
  if (axis == nullptr) {  // what it would bind is reported no more
    for (const auto& [name, times] : blocks_.facts(*frame_.file, s.body, {}).bound)
      if (frame_.scope->find(name) == nullptr)
        frame_.scope->bind(name, {.kind = Binding::wrong, .at = s.at, .used = true});
    return;
  }
  const auto index = static_cast<std::uint32_t>(graph_.scans.size());
  graph_.scans.push_back({.outer = tables_.empty() ? no_index : tables_.back()->scan,
                          .axis = axis->storage,
                          .begin = static_cast<std::uint32_t>(graph_.nodes.size())});
  StateTable table{index, axis, frame_.scope, {}};
  find_states(s.body, table);
  tables_.push_back(&table);
  directions_.push_back({index, {}});
  body(s.body);
  close_states(table);
  tables_.pop_back();
  const Direction direction = directions_.back().second;
  directions_.pop_back();

  ScanInfo& scan = graph_.scans[index];
  scan.reverse = direction.step > 0;
  scan.end = static_cast<std::uint32_t>(graph_.nodes.size());
  // It depends on the scans that what it reads from outside depends on, which may be none.
  std::uint32_t level = no_index;
  for (std::uint32_t n = scan.begin; n < scan.end; ++n) {
    if (!graph_.within(graph_.nodes[n].level, index)) continue;
    for (NodeId o : graph_.nodes[n].operands)
      if (const std::uint32_t l = graph_.node(o).level; !graph_.within(l, index))
        level = graph_.deeper(level, l);
  }
  for (const ScanState& state : scan.states)
    if (const std::uint32_t l = graph_.node(state.next).level; !graph_.within(l, index))
      level = graph_.deeper(level, l);
  scan.outer = level;
  Node end{.kind = Node::scan, .owner = index, .at = s.at};
  const NodeId at = graph_.add(std::move(end));
  graph_.node(at).level = level;
  // What the body has bound is known along the whole axis from here on.
  for (const auto& [name, b] : frame_.scope->in_order()) {
    if (!b->is_value() || b->term.kind != Term::tensor ||
        !graph_.within(graph_.node(b->term.node).level, index))
      continue;
    Node n{.kind = Node::collected,
           .owner = index,
           .item = static_cast<std::uint32_t>(scan.collected.size()),
           .type = graph_.node(b->term.node).type,
           .at = b->at,
           .name = graph_.intern(*name)};
    graph_.scans[index].collected.push_back(b->term.node);
    b->term.node = graph_.add(std::move(n));
    graph_.node(b->term.node).level = level;
  }
}

// The values that the states take on: what their names are bound to at the end.
void Lowerer::close_states(StateTable& table) {
  for (auto& [name, state] : table.states) {
    if (state.index == no_index) continue;
    ScanState& kept = graph_.scans[table.scan].states[state.index];
    kept.next = kept.previous;
    const Binding* b = table.scope->find_here(name);
    if (b == nullptr || !b->is_value() || !b->term.ok()) continue;
    const Term& was = state.term;
    const Term& is = b->term;
    const bool same =
        was.dtype == is.dtype && was.axes.size() == is.axes.size() && covers(was.axes, is.axes);
    if (!same || (is.integer() && (is.low < was.low || is.high > was.high))) {
      report_.error(
          state.read,
          fmt::format("`{}` is read here as {}{}, and bound to {}{}", name, describe(was),
                      was.integer() ? fmt::format(" of {} .. {}", was.low, was.high) : "",
                      describe(is),
                      is.integer() ? fmt::format(" of {} .. {}; a range that grows along the scan "
                                                 "is none: begin with `0.0 +` for a real",
                                                 is.low, is.high)
                                   : ""),
          {{b->at, "bound here"}});
      continue;
    }
    graph_.scans[table.scan].states[state.index].next = terms_.expand(is, was.axes, b->at).node;
  }
}

bool Lowerer::reads_state(const ast::Expr& e, Term& out, std::size_t& entry) {
  const ast::Expr& base = expr(e.operands[0]);
  if (tables_.empty() || base.kind != ExprKind::name) return false;
  for (StateTable* table : tables_) {
    bool visible = false;
    for (Scope* s = frame_.scope; s != nullptr; s = s->outer())
      visible = visible || s == table->scope;
    const auto it = table->states.find(base.text);
    if (!visible || it == table->states.end()) continue;
    for (std::size_t i = 0; i < e.names.size(); ++i) {
      const Binding* b = frame_.scope->find(e.names[i].text);
      if (b == nullptr || b->kind != Binding::axis || b->along != table->axis) continue;
      const Term at = eval(e.operands[i + 1]);
      if (!at.ok()) return entry = i, true;
      const Position* p = at.position.get();
      const bool here = p != nullptr && p->bare() == table->axis;
      if (here) continue;
      if (p == nullptr || p->divisor != 0 || p->terms.size() != 1 ||
          p->terms[0] != std::pair(table->axis, std::int64_t{1}) || std::abs(p->constant) != 1) {
        report_.error(expr(e.operands[i + 1]).at,
                      fmt::format("`{0}` is bound along the scan's axis `{1}`, and may be read at "
                                  "`{1}`, and at `{1} - 1` or else at `{1} + 1`",
                                  base.text, table->axis->name),
                      {{it->second.let->name.at, fmt::format("`{}` is bound here", base.text)}});
        return entry = i, true;
      }
      const int step = static_cast<int>(p->constant);
      auto& direction = std::find_if(directions_.begin(), directions_.end(), [&](const auto& d) {
                          return d.first == table->scan;
                        })->second;
      if (direction.step != 0 && direction.step != step) {
        report_.error(
            expr(e.operands[i + 1]).at,
            fmt::format(
                "a scan goes one way: this reads at `{0} {1} 1`, and another line at `{0} {2} 1`",
                table->axis->name, step < 0 ? "-" : "+", step < 0 ? "+" : "-"),
            {{direction.at, "the other one"}});
        return entry = i, true;
      }
      if (direction.step == 0) direction = {step, expr(e.operands[i + 1]).at};
      entry = i;
      out = state_term(base, it->second, *table);
      return true;
    }
  }
  return false;
}

// The value of the position before, made when it is first read.
Term Lowerer::state_term(const ast::Expr& name, State& state, StateTable& table) {
  if (Binding* b = table.scope->find_here(name.text); b != nullptr) b->used = true;
  if (state.index != no_index) return state.term;
  Axes axes;
  if (!axis_list(state.let->axes, axes) || !terms_.room(axes, name.at)) return {};
  const Guess g = guess_state(name.text, table);
  Term t;
  t.kind = Term::tensor;
  t.dtype = g.dtype;
  t.axes = t.data = axes;
  t.low = g.low;
  t.high = g.high;
  std::vector<ScanState>& states = graph_.scans[table.scan].states;
  state.index = static_cast<std::uint32_t>(states.size());
  state.read = name.at;
  Node n{.kind = Node::state,
         .owner = table.scan,
         .item = state.index,
         .type = {g.dtype, {}},
         .at = name.at,
         .name = graph_.intern(name.text)};
  for (const NamedAxis* a : axes) n.type.axes.push_back(a->storage);
  t.node = graph_.add(std::move(n));
  graph_.node(t.node).level = table.scan;
  states.push_back({t.node, t.node, graph_.intern(name.text)});
  state.term = t;
  return t;
}

}  // namespace gradc
