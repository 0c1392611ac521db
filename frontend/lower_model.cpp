// The model: its header, its body, and what it is asked for at the end (rules 3, 4 and 19).
#include <algorithm>

#include "frontend/lowerer.h"

namespace gradc {

Lowerer::Lowerer(Sources& sources, const ast::File& file, const LowerOptions& options)
    : sources_(sources),
      file_(file),
      options_(options),
      report_(sources),
      graph_(program_),
      terms_(graph_, report_, options.real),
      blocks_(sources, report_) {}

const FinalValue* Lowerer::final(std::string_view name) const {
  const auto it = std::find_if(finals_.begin(), finals_.end(),
                               [&](const FinalValue& f) { return f.name == name; });
  return it == finals_.end() ? nullptr : &*it;
}

bool Lowerer::run() {
  if (!file_.has_model) {
    report_.error({file_.source, 1, 1, 0}, "this file has blocks but no `model`");
    return false;
  }
  blocks_.check(file_);
  if (!find_setting_names()) return false;
  model_scope_ = std::make_unique<Scope>(nullptr, &blocks_.facts(file_, file_.body, {}), 0);
  frame_.file = &file_;
  frame_.scope = model_scope_.get();
  graph_.bundles.resize(2);
  inner_.resize(2);
  member_names_.resize(2);
  graph_.instances.push_back({.trained = 0, .fixed = 1});
  graph_.repeats[0].trained = 0;
  graph_.repeats[0].fixed = 1;
  header();
  body(file_.body);
  graph_.repeats[0].end = static_cast<std::uint32_t>(graph_.nodes.size());
  train_settings();
  apply_settings();
  finish();
  if (report_.failed()) note_settings();
  return !report_.failed();
}

void Lowerer::header() {
  for (const ast::HeaderNumber& h : file_.numbers) {
    const std::string& name = h.name.text;
    const auto set = std::find_if(options_.set.rbegin(), options_.set.rend(),
                                  [&](const auto& s) { return s.first == name; });
    const auto standard = number(h.value, fmt::format("the default of `{}`", name));
    std::optional<Number> n = standard;
    if (set != options_.set.rend()) n = parse_number(set->second);
    if (!may_bind(h.name, false)) continue;
    if (!n) {
      frame_.scope->bind(name, {.kind = Binding::wrong, .at = h.name.at, .used = true});
      continue;
    }
    numbers_.emplace_back(name, n->value());
    const auto bracket = frame_.scope->facts().bracketed.find(name);
    if (bracket == frame_.scope->facts().bracketed.end()) {
      frame_.scope->bind(name, {.kind = Binding::number, .at = h.name.at, .exact = *n});
      continue;
    }
    const auto size = n->as_integer();
    if (size && *size >= 1 && *size <= max_extent) {
      make_axis(name, *size, h.name.at);
      continue;
    }
    report_.error(h.name.at,
                  fmt::format("`{}` is an axis, and its extent would be {}; it must be 1 .. {}",
                              name, n->text(), max_extent),
                  {{bracket->second, "it stands in brackets here"}});
    frame_.scope->bind(name, {.kind = Binding::wrong, .at = h.name.at, .used = true});
  }
}

void Lowerer::note_settings() {
  // A value that the text refuses is shown with the setting that brought it (design: exit 1 with a
  // note).
  for (Diagnostic& d : report_.messages()) {
    if (d.severity != Severity::error) continue;
    for (const ast::HeaderNumber& h : file_.numbers)
      for (const auto& [name, value] : options_.set)
        if (name == h.name.text)
          d.notes.push_back({h.name.at, fmt::format("with --set {}={}", name, value)});
    break;
  }
}

void Lowerer::check_loss() {
  Binding* loss = frame_.scope->find_here("loss");
  if (loss == nullptr || !(loss->kind == Binding::value || loss->kind == Binding::number ||
                           loss->kind == Binding::wrong)) {
    if (options_.need_loss)
      report_.error(file_.model.at,
                    "the model binds no `loss`, which training minimises: a real without axes");
    return;
  }
  if (loss->kind == Binding::wrong) return;
  const Term t = loss->kind == Binding::number ? number_term(loss->exact) : loss->term;
  if (!t.real() || !t.axes.empty()) {
    report_.error(loss->at,
                  fmt::format("`loss` is a real without axes, and this is {}{}", describe(t),
                              t.axes.empty() ? "" : "; `mean[…](…)` would make one of it"));
    return;
  }
  if (!t.trained)
    report_.error(loss->at, "no parameter reaches `loss`, so there is nothing to train");
}

void Lowerer::finish() {
  check_loss();
  warn_unused(*frame_.scope, true);
  for (const auto& [name, b] : frame_.scope->in_order())
    if (b->kind == Binding::value && b->term.kind == Term::tensor)
      finals_.push_back({*name, b->term, b->at});
}

}  // namespace gradc
