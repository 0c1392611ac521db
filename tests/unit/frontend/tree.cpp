// Trees as nested lists: (kind text words operands).
#include "unit/frontend/tree.h"

#include <fmt/format.h>

namespace gradc::test {
namespace {

using namespace ast;

class Writer {
 public:
  explicit Writer(const File& f) : f_(f) {}
  std::string out;

  void words(std::string_view head, const std::vector<Word>& ws) {
    out += fmt::format(" {}[", head);
    for (const Word& w : ws) out += w.text + " ";
    out += "]";
  }
  void path(const std::optional<Word>& p) {
    if (p) out += " as:" + p->text;
  }
  void expr(ExprId id) {
    if (!id.valid()) {
      out += " _";
      return;
    }
    const Expr& e = f_.expr(id);
    out += fmt::format(" ({}", static_cast<int>(e.kind));
    if (!e.text.empty()) out += " `" + e.text + "`";
    if (e.kind == ExprKind::number) out += fmt::format(" {:a} {}", e.number, e.integer);
    if (e.kind == ExprKind::boolean) out += fmt::format(" {}", e.number);
    for (const std::string& op : e.ops) out += " op:" + op;
    if (!e.axes.empty()) words("axes", e.axes);
    if (!e.names.empty()) words("names", e.names);
    for (ExprId o : e.operands) expr(o);
    if (e.where.valid()) out += " where", expr(e.where);
    path(e.path);
    out += ")";
  }
  void statement(StmtId id) {
    const Stmt& s = f_.stmt(id);
    out += fmt::format("\n{{{} {} {}", static_cast<int>(s.kind), s.name.text, s.has_list);
    words("names", s.names);
    for (ExprId e : s.exprs) expr(e);
    words("axes", s.axes);
    for (const ParamDecl& d : s.decls) {
      out += " decl " + d.name.text;
      words("axes", d.axes);
      for (ExprId e : d.extents) expr(e);
      path(d.path);
    }
    out += fmt::format(" init {}", static_cast<int>(s.init.kind));
    expr(s.init.expr), expr(s.low), expr(s.high), expr(s.value);
    path(s.path);
    for (StmtId b : s.body) statement(b);
    out += "}";
  }
  void setting(const Setting& s) {
    out += fmt::format("\n<{} {} `{}`", s.name.text, static_cast<int>(s.kind), s.text);
    expr(s.expr);
    for (const Setting& i : s.items) setting(i);
    out += ">";
  }
  void file() {
    for (const File::Use& u : f_.uses) out += "use " + u.path.text + "\n";
    for (const Block& b : f_.blocks) {
      out += fmt::format("\nblock {} {} {}", b.name.text, b.in_model, b.in_model ? b.place : 0);
      for (const Formal& x : b.formals) {
        out += fmt::format(" formal {} {}", x.name.text, x.tensor);
        words("axes", x.axes);
        expr(x.standard);
      }
      for (StmtId s : b.body) statement(s);
      expr(b.result);
    }
    out += fmt::format("\nmodel {} {}", f_.has_model, f_.model.text);
    for (const HeaderNumber& n : f_.numbers) out += " " + n.name.text, expr(n.value);
    for (StmtId s : f_.body) statement(s);
    out += fmt::format("\ntrain {} {}", f_.has_train, f_.train_place);
    for (const Setting& s : f_.train) setting(s);
  }

 private:
  const File& f_;
};

}  // namespace

std::string tree(const File& file) {
  Writer w(file);
  w.file();
  return w.out;
}

std::string tree(const File& file, ExprId e) {
  Writer w(file);
  w.expr(e);
  return w.out;
}

std::string render_all(const Sources& sources, const Failure& failure) {
  std::string out;
  for (const Diagnostic& d : failure.diagnostics) out += render(sources, d);
  return out;
}

std::string repeated(std::string_view text, int times) {
  std::string out;
  for (int i = 0; i < times; ++i) out += text;
  return out;
}

Parsed parse(const std::string& text, const Files& files, const std::string& main) {
  Parsed p;
  p.source = p.sources.add(main, text);
  Result<FilePtr> r =
      parse_model(p.sources, p.source, [&](const std::string& path, std::string& out) {
        const auto found = files.find(path);
        if (found != files.end()) out = found->second;
        return found != files.end();
      });
  if (r)
    p.file = *r;
  else
    p.messages = render_all(p.sources, r.failure());
  return p;
}

}  // namespace gradc::test
