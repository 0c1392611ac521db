// What a message can say about a name: where it is bound after all, or what it stands for.
#include <algorithm>

#include "frontend/lowerer.h"

namespace gradc {

namespace {

// The first statement of a body that binds the name, and whether a repeat stands around it.
struct Found {
  const ast::Stmt* let = nullptr;
  bool in_repeat = false, in_scan = false;
};

Found find_let(const ast::File& file, const std::vector<ast::StmtId>& body,
               const std::string& name) {
  for (ast::StmtId id : body) {
    const ast::Stmt& s = file.stmt(id);
    if (s.kind == ast::StmtKind::let && s.name.text == name) return {&s};
    Found inner = find_let(file, s.body, name);
    if (inner.let == nullptr) continue;
    inner.in_repeat = inner.in_repeat || s.kind == ast::StmtKind::repeat;
    inner.in_scan = inner.in_scan || s.kind == ast::StmtKind::scan;
    return inner;
  }
  return {};
}

void names_of(const ast::File& file, ast::ExprId id, std::vector<const ast::Expr*>& out) {
  const ast::Expr& e = file.expr(id);
  if (e.kind == ast::ExprKind::name &&
      std::none_of(out.begin(), out.end(), [&](const ast::Expr* o) { return o->text == e.text; }))
    out.push_back(&e);
  for (ast::ExprId o : e.operands) names_of(file, o, out);
}

}  // namespace

std::vector<Note> Lowerer::known_numbers(ExprId id) {
  constexpr std::size_t most = 4;
  std::vector<const ast::Expr*> names;
  names_of(*frame_.file, id, names);
  std::vector<Note> notes;
  for (const ast::Expr* e : names) {
    const Binding* b = frame_.scope->find(e->text);
    if (b == nullptr || notes.size() == most) continue;
    if (b->kind == Binding::number)
      notes.push_back({b->at, fmt::format("`{}` is {} here", e->text, b->exact.text())});
    if (b->kind == Binding::axis)
      notes.push_back({b->along->at, fmt::format("`{}` is {} here", e->text, b->along->extent)});
  }
  return notes;
}

std::string Lowerer::unbound_advice(const std::string& name) {
  if (blocks_.find(*frame_.file, name).block != nullptr)
    return fmt::format("; `{0}` is a block, and a call of it is `{0}(…)`", name);
  return near(name, frame_.scope->names());
}

std::vector<Note> Lowerer::unbound_notes(const std::string& name, Span at) {
  if (!active_.empty())
    if (const Binding* b = model_scope_->find_here(name); b != nullptr && b->kind != Binding::wrong)
      return {{b->at,
               fmt::format("the model's `{}` is not seen in a block; an argument would bring it in",
                           name)}};
  const Found f = find_let(*frame_.file, active_.empty() ? file_.body : active_.back()->body, name);
  if (f.let == nullptr) return {};
  const bool above = f.let->name.at.line < at.line;
  if (f.in_repeat && above)
    return {{f.let->name.at, "bound here; what is first bound in a turn is local to it"}};
  if (!f.in_scan || tables_.empty() || above)
    return {{f.let->name.at, above ? "bound here" : "bound only from here on"}};
  const std::string& t = tables_.back()->axis->name;
  const bool listed = std::any_of(f.let->axes.begin(), f.let->axes.end(),
                                  [&](const ast::Word& w) { return w.text == t; });
  return {
      {f.let->name.at,
       listed
           ? fmt::format(
                 "bound only from here on; at the position before it is `{0}[{1} = {1} - 1]`", name,
                 t)
           : fmt::format(
                 "bound here without `{}` in its list, so that there is none at another position",
                 t)}};
}

}  // namespace gradc
