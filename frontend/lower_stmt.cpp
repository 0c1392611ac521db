// Axes, inputs and bindings (rules 1, 3, 9 and 13).
#include <algorithm>

#include "frontend/lower_functions.h"
#include "frontend/lowerer.h"
#include "frontend/near.h"

namespace gradc {

using ast::StmtKind;

std::string Lowerer::near(const std::string& name, std::vector<std::string_view> candidates) const {
  const std::string_view found = nearest(name, candidates);
  return found.empty() ? "" : fmt::format("; did you mean `{}`?", found);
}

Binding* Lowerer::lookup(const std::string& name, Span at, std::string_view what) {
  if (Binding* b = frame_.scope->find(name)) return b;
  report_.error(at, fmt::format("there is no {} `{}`{}", what, name, unbound_advice(name)),
                unbound_notes(name, at));
  // Once is enough: what is bound to nothing stays silent from here on.
  frame_.scope->bind(name, {.kind = Binding::wrong, .at = at, .used = true});
  return nullptr;
}

const NamedAxis* Lowerer::axis_named(const ast::Word& word) {
  Binding* b = lookup(word.text, word.at, "axis");
  if (b == nullptr || b->kind == Binding::wrong) return nullptr;
  b->used = true;
  if (b->kind == Binding::axis) return b->along;
  report_.error(word.at,
                fmt::format("`{}` is a {}, not an axis", word.text,
                            b->kind == Binding::number ? "number" : "value"),
                {{b->at, fmt::format("`{}` is bound here", word.text)}});
  return nullptr;
}

bool Lowerer::axis_list(const std::vector<ast::Word>& words, Axes& out) {
  bool fine = true;
  for (const ast::Word& w : words) {
    const NamedAxis* a = axis_named(w);
    fine = fine && a != nullptr;
    if (a != nullptr && has(out, a)) {
      report_.error(w.at, fmt::format("axis `{}` is named twice", w.text));
      fine = false;
    } else if (a != nullptr) {
      out.push_back(a);
    }
  }
  return fine;
}

NamedAxis* Lowerer::new_axis(const std::string& name, std::int64_t extent, Span at) {
  axes_.push_back({name, extent, at, graph_.take_axis(name, extent), frame_.id, nullptr});
  frame_.made.push_back(axes_.back().storage);
  return &axes_.back();
}

const NamedAxis* Lowerer::make_axis(const std::string& name, std::int64_t extent, Span at) {
  if (Binding* b = frame_.scope->find(name); b != nullptr && b->kind == Binding::axis) {
    if (b->along->extent == extent) return b->along;
    report_.error(at,
                  fmt::format("axis `{}` would be {} here, and it is {} already", name, extent,
                              b->along->extent),
                  {{b->along->at, fmt::format("`{}` is {} here", name, b->along->extent)}});
    return nullptr;
  }
  if (!may_bind({name, at}, false)) return nullptr;
  const NamedAxis* a = new_axis(name, extent, at);
  frame_.scope->bind(name, {.kind = Binding::axis, .at = at, .along = a});
  return a;
}

bool Lowerer::may_bind(const ast::Word& word, bool as_let) {
  if (is_builtin(word.text)) {
    report_.error(word.at,
                  fmt::format("`{}` is the name of a function and cannot be bound", word.text));
    return false;
  }
  const Binding* b = frame_.scope->find(word.text);
  if (b == nullptr || b->kind == Binding::wrong) return true;
  if (as_let && (b->kind == Binding::value || b->kind == Binding::argument)) return true;
  static constexpr const char* kinds[] = {"a number",    "an axis",     "a value", "an input",
                                          "a parameter", "an argument", ""};
  report_.error(word.at,
                fmt::format("`{}` is {} and cannot be bound again", word.text, kinds[b->kind]),
                {{b->at, fmt::format("`{}` is bound here", word.text)}});
  return false;
}

void Lowerer::record(const ast::Word& word, const Term& t) {
  if (!t.ok() ||
      !recorded_.insert(fmt::format("{}:{}:{}", word.at.source, word.at.line, word.at.column))
           .second)
    return;
  std::string text = t.is_number() ? t.exact.text()
                                   : fmt::format("{}{}", gradc::name(t.dtype), describe(t.axes));
  if (!word.text.empty()) text = word.text + (t.is_number() ? " = " : " ") + text;
  lines_.push_back({word.at.source, word.at.line, std::move(text)});
}

void Lowerer::bind_value(const ast::Word& word, Term term, Binding::Kind kind) {
  const Binding* before = frame_.scope->find_here(word.text);
  if (before != nullptr && before->kind == Binding::value && !before->used && !before->carried)
    report_.warning(before->at, fmt::format("this value of `{}` is never used", word.text),
                    {{word.at, "it is bound again here"}});
  if (term.kind == Term::tensor && !graph_.node(term.node).name.valid())
    graph_.node(term.node).name = graph_.intern(word.text);
  record(word, term);
  const Binding::Kind now = term.ok() ? kind : Binding::wrong;
  const bool carried = before != nullptr && before->carried;
  frame_.scope->bind(word.text, {.kind = now,
                                 .at = word.at,
                                 .term = std::move(term),
                                 .used = now == Binding::wrong,
                                 .carried = carried});
}

void Lowerer::axis_statement(const ast::Stmt& s) {
  for (std::size_t i = 0; i < s.names.size(); ++i) {
    const auto n = extent(s.exprs[i], s.names[i].text);
    if (n && make_axis(s.names[i].text, *n, s.names[i].at) != nullptr)
      record(s.names[i], number_term(Number::integer(*n)));
    else if (frame_.scope->find(s.names[i].text) == nullptr)
      frame_.scope->bind(s.names[i].text,
                         {.kind = Binding::wrong, .at = s.names[i].at, .used = true});
  }
}

void Lowerer::input_statement(const ast::Stmt& s) {
  if (frame_.id != 0 || turns_around_ > 0 || !tables_.empty()) {
    report_.error(s.at, "an `input` stands in the model, outside `repeat` and `scan`");
    return;
  }
  ModelInput in{.name = s.name.text};
  Axes axes;
  bool fine = may_bind(s.name, false);
  fine = axis_list(s.axes, axes) && fine && terms_.room(axes, s.name.at);
  if (s.high.valid()) {
    const std::string what = fmt::format("a bound of `{}`", s.name.text);
    const auto low =
        s.low.valid() ? integer(s.low, what, INT32_MIN, INT32_MAX) : std::optional<std::int64_t>(0);
    const auto high = integer(s.high, what, INT32_MIN, std::int64_t{INT32_MAX} + 1);
    fine = fine && low && high;
    if (low && high && *low >= *high) {
      report_.error(
          expr(s.high).at,
          fmt::format("`{}` could hold nothing: its integers would be from {} and below {}",
                      s.name.text, *low, *high));
      fine = false;
    }
    in.bounded = true;
    in.low = low.value_or(0);
    in.high = high.value_or(1);
  }
  Term t;
  if (fine) {
    Node n{.kind = Node::input,
           .item = static_cast<std::uint32_t>(inputs_.size()),
           .type = {in.bounded ? DType::i32 : terms_.real(), {}},
           .at = s.name.at};
    for (const NamedAxis* a : axes) n.type.axes.push_back(a->storage);
    t.kind = Term::tensor;
    t.dtype = n.type.dtype;
    t.node = graph_.add(std::move(n));
    t.axes = t.data = axes;
    t.low = in.low;
    t.high = in.high - 1;
    in.term = t;
    inputs_.push_back(std::move(in));
  }
  if (fine || frame_.scope->find(s.name.text) == nullptr)
    bind_value(s.name, std::move(t), Binding::input);
}

void Lowerer::let_statement(const ast::Stmt& s) {
  Axes axes;
  bool fine = !s.has_list || axis_list(s.axes, axes);
  Axes listed = std::exchange(frame_.listed, axes);
  Term t = eval(s.value);
  frame_.listed = std::move(listed);
  const bool bindable = may_bind(s.name, true);
  const Span at = expr(s.value).at;
  if (fine && t.ok() && s.has_list) {
    if (const Axes missing = without(t.axes, axes); !missing.empty()) {
      report_.error(
          s.name.at,
          fmt::format("the left side does not list the axis `{}`, which the right side has: {}",
                      missing[0]->name, describe(t)),
          {{at, "the right side"}});
      t = {};
    } else {
      t = terms_.expand(terms_.materialise(t, true, at), axes, s.name.at);
    }
  }
  if (!fine) t = {};
  if (!bindable) return;
  if (t.is_number()) {
    // Bound once, it is a number; more often, a value (rule 1).
    const bool visible = frame_.scope->find(s.name.text) != nullptr;
    if (!visible && frame_.scope->bound_once(s.name.text)) {
      record(s.name, t);
      frame_.scope->bind(s.name.text, {.kind = Binding::number, .at = s.name.at, .exact = t.exact});
      return;
    }
    t = terms_.to_real(t, at);
  }
  bind_value(s.name, std::move(t), Binding::value);
}

// The last line of an expression.
std::uint32_t Lowerer::last_line(ExprId id) const {
  std::uint32_t line = 0;
  std::vector<ExprId> work{id};
  while (!work.empty()) {
    const ast::Expr& e = expr(work.back());
    work.pop_back();
    line = std::max({line, e.at.line, e.point.line});
    work.insert(work.end(), e.operands.begin(), e.operands.end());
    if (e.where.valid()) work.push_back(e.where);
  }
  return line;
}

void Lowerer::expect_statement(const ast::Stmt& s) {
  Claim claim;
  if (parse_claim(s.name.text, claim) && claim != Claim::none && claim != Claim::optimizer &&
      claim != Claim::attention_grad) {
    const auto same = [&](const Expectation& e) {
      return e.claim == claim && e.at.source == s.name.at.source && e.at.line == s.name.at.line &&
             e.at.column == s.name.at.column;
    };
    if (std::any_of(expectations_.begin(), expectations_.end(), same)) return;
    const bool in_block = !active_.empty();
    expectations_.push_back({.claim = claim,
                             .at = s.name.at,
                             .first = in_block ? active_.back()->at.line : 1,
                             .last = in_block ? last_line(active_.back()->result) : UINT32_MAX});
    return;
  }
  report_.error(s.name.at, fmt::format("there is no fused form `{}`", s.name.text) +
                               near(s.name.text, {"softmax", "attention", "layernorm", "rmsnorm",
                                                  "cross_entropy", "gelu", "silu"}));
}

void Lowerer::statement(const ast::Stmt& s) {
  here_ = s.at;
  switch (s.kind) {
    case StmtKind::axis: return axis_statement(s);
    case StmtKind::input: return input_statement(s);
    case StmtKind::param: return param_statement(s);
    case StmtKind::let: return let_statement(s);
    case StmtKind::repeat: return repeat_statement(s);
    case StmtKind::scan: return scan_statement(s);
    case StmtKind::expect: return expect_statement(s);
  }
}

void Lowerer::body(const std::vector<ast::StmtId>& statements) {
  for (ast::StmtId id : statements) {
    if (stopped()) return;
    statement(frame_.file->stmt(id));
  }
}

void Lowerer::warn_unused(Scope& scope, bool model) {
  const bool shipped = frame_.file->source < sources_.size() &&
                       sources_.name(frame_.file->source).starts_with("lib/");
  if (shipped || report_.failed()) return;
  // A model without loss and logits is asked for any of its values.
  const bool asked =
      model && scope.find_here("loss") == nullptr && scope.find_here("logits") == nullptr;
  for (const auto& [name, b] : scope.in_order()) {
    if (b->used || b->carried) continue;
    const bool value =
        b->kind == Binding::value && !asked && !(model && (*name == "loss" || *name == "logits"));
    if (!value && b->kind != Binding::input && b->kind != Binding::param) continue;
    if (model &&
        std::find(options_.values.begin(), options_.values.end(), *name) != options_.values.end())
      continue;
    report_.warning(b->at, fmt::format("`{}` is never used", *name));
  }
}

}  // namespace gradc
