// Arguments to formals, the header's axes to the caller's (rule 14).
#include "frontend/lower_arguments.h"

namespace gradc {

bool Lowerer::match_arguments(const ast::Expr& e, Arguments& a) {
  const ast::Block& block = *a.block;
  for (const ast::Formal& f : block.formals)
    for (const ast::Word& w : f.axes)
      if (a.axis(w.text) == nullptr) a.axes.push_back({.name = w.text});
  for (auto f = block.formals.begin(); f != block.formals.end(); ++f) {
    const auto twin = std::find_if(block.formals.begin(), f, [&](const ast::Formal& g) {
      return g.name.text == f->name.text;
    });
    if (twin != f) {
      report_.error(f->name.at, fmt::format("`{}` names two arguments", f->name.text),
                    {{twin->name.at, "the first one"}});
      return false;
    }
    if (a.axis(f->name.text) != nullptr) {
      report_.error(
          f->name.at,
          fmt::format("`{}` is an axis of this header and a name of an argument", f->name.text));
      return false;
    }
  }
  a.operand.assign(block.formals.size(), Arguments::npos);
  a.values.resize(block.formals.size());
  std::size_t next = 0;
  bool named = false;
  for (std::size_t i = 0; i < e.operands.size(); ++i) {
    const ast::Word& w = e.names[i];
    if (w.text.empty()) {
      if (named || next == block.formals.size()) {
        report_.error(
            expr(e.operands[i]).at,
            named ? std::string("an argument without a name stands behind named ones")
                  : fmt::format("`{}` takes {} argument{}", e.text, next, next == 1 ? "" : "s"),
            {{block.name.at, fmt::format("`{}` is defined here", e.text)}});
        return false;
      }
      a.operand[next++] = i;
      continue;
    }
    named = true;
    if (Arguments::HeaderAxis* x = a.axis(w.text)) {
      if (x->given.valid()) {
        report_.error(w.at, fmt::format("axis `{}` is given twice", w.text));
        return false;
      }
      x->given = e.operands[i];
      continue;
    }
    const auto it = std::find_if(block.formals.begin(), block.formals.end(),
                                 [&](const ast::Formal& f) { return f.name.text == w.text; });
    if (it == block.formals.end()) {
      std::vector<std::string_view> names;
      for (const ast::Formal& f : block.formals) names.push_back(f.name.text);
      for (const auto& x : a.axes) names.push_back(x.name);
      report_.error(
          w.at,
          fmt::format("`{}` has no argument or axis `{}`{}", e.text, w.text, near(w.text, names)),
          {{block.name.at, fmt::format("`{}` is defined here", e.text)}});
      return false;
    }
    std::size_t& slot = a.operand[static_cast<std::size_t>(it - block.formals.begin())];
    if (slot != Arguments::npos) {
      report_.error(w.at, fmt::format("argument `{}` is given twice", w.text),
                    {{expr(e.operands[slot]).at, "the first time"}});
      return false;
    }
    slot = i;
  }
  for (std::size_t f = 0; f < block.formals.size(); ++f)
    if (a.operand[f] == Arguments::npos && !block.formals[f].standard.valid()) {
      report_.error(e.point,
                    fmt::format("`{}` needs the argument `{}`", e.text, block.formals[f].name.text),
                    {{block.formals[f].name.at, "it has no default"}});
      return false;
    }
  return true;
}

// In the order of the source, in the caller's scope.
bool Lowerer::eval_arguments(const ast::Expr& e, Arguments& a) {
  bool fine = true;
  for (std::size_t i = 0; i < e.operands.size(); ++i) {
    const auto it = std::find(a.operand.begin(), a.operand.end(), i);
    if (it == a.operand.end()) continue;
    const std::size_t f = static_cast<std::size_t>(it - a.operand.begin());
    if (a.block->formals[f].tensor) {
      a.values[f] = eval(e.operands[i]);
    } else if (const auto n = number(e.operands[i], fmt::format("the argument `{}`",
                                                                a.block->formals[f].name.text))) {
      a.values[f] = number_term(*n);
    }
    fine = fine && a.values[f].ok();
  }
  return fine;
}

// Each axis of the header is fresh, and stands for one of the caller. It keeps the caller's storage
// unless that could meet itself: two stand for one, or an argument brings the caller's axis along
// besides.
bool Lowerer::header_axes(const ast::Expr& e, Arguments& a, Frame& inner) {
  for (Arguments::HeaderAxis& x : a.axes) {
    ast::Word word{x.name, e.point};
    if (x.given.valid()) {
      const ast::Expr& g = expr(x.given);
      if (g.kind != ast::ExprKind::name) {
        report_.error(
            g.at, fmt::format("`{}` is an axis of `{}`; what stands for it is the name of an axis",
                              x.name, e.text));
        return false;
      }
      word = {g.text, g.at};
    } else if (const Binding* b = frame_.scope->find(x.name);
               b == nullptr || (b->kind != Binding::axis && b->kind != Binding::wrong)) {
      report_.error(e.point,
                    fmt::format("`{0}` has an axis `{1}`, and there is no axis of that name here; "
                                "say what stands for it: `{1} = …`",
                                e.text, x.name),
                    {{a.block->name.at, fmt::format("`{}` is defined here", e.text)}});
      return false;
    }
    x.caller = axis_named(word);
    if (x.caller == nullptr) return false;
  }
  Axes besides;
  for (std::size_t f = 0; f < a.values.size(); ++f) {
    Axes own;
    for (const ast::Word& w : a.block->formals[f].axes) own.push_back(a.axis(w.text)->caller);
    for (const NamedAxis* x : without(a.values[f].axes, own)) add_axis(besides, x);
  }
  std::vector<const NamedAxis*> keeper;  // those whose storage is taken over
  for (const bool same_name : {true, false})
    for (Arguments::HeaderAxis& x : a.axes) {
      if (x.inner != nullptr || same_name != (x.name == x.caller->name)) continue;
      NamedAxis made{x.name, x.caller->extent, x.caller->at, x.caller->storage, inner.id, x.caller};
      if (has(besides, x.caller) || has(keeper, x.caller)) {
        made.storage = graph_.take_axis(x.name, made.extent);
        inner.made.push_back(made.storage);
      } else {
        keeper.push_back(x.caller);
      }
      axes_.push_back(std::move(made));
      x.inner = &axes_.back();
    }
  for (const Arguments::HeaderAxis& x : a.axes)
    inner.scope->bind(x.name,
                      {.kind = Binding::axis, .at = x.inner->at, .along = x.inner, .used = true});
  return true;
}

bool Lowerer::bind_tensor(const ast::Formal& formal, Term value, Span at, Arguments& a) {
  Axes listed, callers;
  for (const ast::Word& w : formal.axes) {
    const Arguments::HeaderAxis* x = a.axis(w.text);
    if (has(listed, x->inner)) {
      report_.error(w.at, fmt::format("axis `{}` is named twice", w.text));
      return false;
    }
    if (has(callers, x->caller)) {
      report_.error(at,
                    fmt::format("two axes of the argument `{}` would stand for `{}`",
                                formal.name.text, x->caller->name),
                    {{formal.name.at, "its axes"}});
      return false;
    }
    listed.push_back(x->inner);
    callers.push_back(x->caller);
  }
  const bool broadcasts = value.is_number() || (value.truth >= 0 && value.axes.empty());
  if (broadcasts && !listed.empty()) {
    value = terms_.expand(terms_.materialise(value, false, at), listed, at);
  } else if (!broadcasts) {
    for (std::size_t i = 0; i < listed.size(); ++i)
      if (!has(value.axes, callers[i])) {
        const std::string stands =
            callers[i]->name == listed[i]->name ? "" : fmt::format(" (for `{}`)", listed[i]->name);
        report_.error(
            at,
            fmt::format("argument `{}` needs the axis `{}`{}, and this has {}", formal.name.text,
                        callers[i]->name, stands, describe(value)),
            {{formal.name.at, fmt::format("`{}` lists its axes here", formal.name.text)}});
        return false;
      }
    for (std::size_t i = 0; i < listed.size() && value.ok(); ++i)
      value = terms_.rename(value, callers[i], listed[i], at);
  }
  if (!value.ok()) return false;
  frame_.scope->bind(formal.name.text,
                     {.kind = Binding::argument, .at = formal.name.at, .term = std::move(value)});
  return true;
}

// In the block's scope: formals in order, so that defaults may use the numbers before.
bool Lowerer::bind_formal(const ast::Expr& e, Arguments& a, std::size_t which, Frame& caller) {
  const ast::Formal& formal = a.block->formals[which];
  const std::size_t operand = a.operand[which];
  Span at = formal.name.at;
  if (operand != Arguments::npos) at = caller.file->expr(e.operands[operand]).at;
  Term value = a.values[which];
  if (formal.tensor) {
    if (operand == Arguments::npos) value = eval(formal.standard);
    return value.ok() && bind_tensor(formal, std::move(value), at, a);
  }
  if (operand == Arguments::npos) {
    const auto n = number(formal.standard, fmt::format("the default of `{}`", formal.name.text));
    if (!n) return false;
    value = number_term(*n);
  }
  if (!frame_.scope->facts().bracketed.contains(formal.name.text)) {
    frame_.scope->bind(formal.name.text,
                       {.kind = Binding::number, .at = formal.name.at, .exact = value.exact});
    return true;
  }
  const auto n = value.exact.as_integer();
  if (!n || *n < 1 || *n > max_extent) {
    report_.error(
        at,
        fmt::format("`{}` is an axis in `{}`, and its extent would be {}", formal.name.text, e.text,
                    value.exact.text()),
        {{frame_.scope->facts().bracketed.at(formal.name.text), "it stands in brackets here"}});
    return false;
  }
  make_axis(formal.name.text, *n, formal.name.at);
  return true;
}

}  // namespace gradc
