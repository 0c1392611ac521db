// x[a b c], x[a = e] and reductions: names of axes to axes, then frontend/terms.h (rules 9 to 12).
#include <algorithm>

#include "frontend/lowerer.h"

namespace gradc {

using ast::ExprKind;

// `x[a b c]` names all axes; a new one stands for the one that is not named (rule 9).
Term Lowerer::list(const ast::Expr& e) {
  Term x = eval(e.operands[0]);
  if (!x.ok()) return {};
  if (x.is_number()) {
    report_.error(e.point, fmt::format("`{}` is a number and has no axes",
                                       report_.text(expr(e.operands[0]).at)));
    return {};
  }
  Axes listed;
  const ast::Word* fresh = nullptr;
  for (const ast::Word& w : e.axes) {
    Binding* b = frame_.scope->find(w.text);
    if (b != nullptr && b->kind == Binding::wrong) return {};
    if (b != nullptr && b->kind == Binding::axis && has(x.axes, b->along)) {
      b->used = true;
      if (has(listed, b->along)) {
        report_.error(w.at, fmt::format("axis `{}` is named twice", w.text));
        return {};
      }
      listed.push_back(b->along);
      continue;
    }
    if (fresh != nullptr) {
      report_.error(
          w.at,
          fmt::format(
              "the value has {}; `{}` and `{}` are both new, and a list may bring one new name",
              describe(x.axes), fresh->text, w.text));
      return {};
    }
    fresh = &w;
  }
  const Axes rest = without(x.axes, listed);
  if (fresh == nullptr) {
    if (rest.empty()) return x;
    report_.error(e.point,
                  fmt::format("a list names all axes of the value, and `{}` is missing: {}",
                              rest[0]->name, describe(x.axes)));
    return {};
  }
  if (rest.size() != 1) {
    const std::string why = rest.empty()
                                ? "all axes of the value are named"
                                : fmt::format("{} axes of the value are not named", rest.size());
    report_.error(fresh->at, fmt::format("`{}` is no axis of the value, and {}: {}", fresh->text,
                                         why, describe(x.axes)));
    return {};
  }
  Binding* b = frame_.scope->find(fresh->text);
  if (b != nullptr && b->kind != Binding::axis) {
    report_.error(fresh->at, fmt::format("`{}` is no axis", fresh->text),
                  {{b->at, fmt::format("`{}` is bound here", fresh->text)}});
    return {};
  }
  if (b == nullptr && !may_bind(*fresh, false)) return {};
  const NamedAxis* to =
      b != nullptr ? b->along : make_axis(fresh->text, rest[0]->extent, fresh->at);
  if (b != nullptr) b->used = true;
  if (to->extent != rest[0]->extent) {
    report_.error(fresh->at,
                  fmt::format("`{}` has {} places and would stand for `{}`, which has {}", to->name,
                              to->extent, rest[0]->name, rest[0]->extent),
                  {{to->at, fmt::format("`{}` is {} here", to->name, to->extent)},
                   {rest[0]->at, fmt::format("`{}` is {} here", rest[0]->name, rest[0]->extent)}});
    return {};
  }
  return terms_.rename(x, rest[0], to, e.point);
}

Term Lowerer::index(const ast::Expr& e) {
  Term x;
  std::vector<Terms::Entry> entries;
  // `h[t = t - 1]` in `scan t` is the value at the position before; other entries read on from
  // there.
  std::size_t done = e.names.size();
  if (!reads_state(e, x, done)) x = eval(e.operands[0]);
  bool fine = x.ok();
  for (std::size_t i = 0; i < e.names.size(); ++i) {
    if (i == done) continue;
    const ast::Word& w = e.names[i];
    const ExprId at = e.operands[i + 1];
    const NamedAxis* axis = axis_named(w);
    if (axis == nullptr) {
      fine = false;
      continue;
    }
    Terms::Entry entry{.axis = axis, .span = expr(at).at};
    const ast::Expr& p = expr(at);
    if (p.kind == ExprKind::name && frame_.scope->find(p.text) == nullptr) {
      // A new name: x's axis under another name.
      const ast::Word fresh{p.text, p.at};
      if (!fine || !has(x.axes, axis)) {
        if (fine)
          report_.error(w.at, fmt::format("there is no axis `{}` to read along; the value has {}",
                                          w.text, describe(x.axes)));
        fine = false;
        continue;
      }
      if (!may_bind(fresh, false)) return {};
      entry.fresh = make_axis(p.text, axis->extent, p.at);
    } else {
      entry.at = eval(at);
      fine = fine && entry.at.ok();
    }
    entries.push_back(std::move(entry));
  }
  if (!fine) return {};
  return entries.empty() ? x : terms_.read(x, std::move(entries), e.at);
}

Term Lowerer::reduction(const ast::Expr& e) {
  Terms::Reduction r{.name = e.text};
  bool fine = axis_list(e.axes, r.over);
  for (const ast::Word& w : e.axes) r.places.push_back(w.at);
  const std::size_t wanted = e.text == "cross_entropy" ? 2 : 1;
  if (e.operands.size() != wanted) {
    report_.error(e.at,
                  fmt::format("`{}` takes {} and has {}", e.text,
                              wanted == 1 ? "one argument"
                                          : "two arguments, `cross_entropy[v](logits, target)`,",
                              e.operands.size()));
    return {};
  }
  if (e.text == "cross_entropy") {
    if (e.where.valid()) {
      r.has_where = true;
      r.where = eval(e.where);
      r.where_at = expr(e.where).at;
    }
    return fine ? cross_entropy(e, r) : Term{};
  }
  std::vector<Term> parts;
  if (e.text == "sum" || e.text == "mean")
    factors(e.operands[0], parts);
  else
    parts.push_back(eval(e.operands[0]));
  if (e.where.valid()) {
    r.has_where = true;
    r.where = eval(e.where);
    r.where_at = expr(e.where).at;
  }
  return fine ? terms_.reduce(r, std::move(parts), e.at) : Term{};
}

// Rule 11: logsumexp[v](x) − x[v = y].
Term Lowerer::cross_entropy(const ast::Expr& e, const Terms::Reduction& r) {
  const Term x = eval(e.operands[0]), y = eval(e.operands[1]);
  if (!x.ok() || !y.ok()) return {};
  if (r.over.size() != 1) {
    report_.error(
        e.at,
        "`cross_entropy` takes one axis: the one along which its second argument is a position");
    return {};
  }
  if (x.is_number() || !has(x.axes, r.over[0])) {
    report_.error(
        r.places[0],
        fmt::format("`cross_entropy` reduces over `{}`, which its first argument does not have: {}",
                    r.over[0]->name, describe(x)));
    return {};
  }
  Terms::Reduction log_sum = r;
  log_sum.name = "logsumexp";
  const Term total = terms_.reduce(log_sum, {x}, e.at);
  const Term picked =
      terms_.read(x, {{.axis = r.over[0], .at = y, .span = expr(e.operands[1]).at}}, e.at);
  Meeting meeting;
  meeting.add(total);
  meeting.add(picked);
  check_meeting(meeting, e);
  return terms_.arithmetic(Opcode::sub_, total, picked, e.at);
}

}  // namespace gradc
