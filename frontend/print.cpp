// print_model: a tree as `.grad` text. Brackets are nodes of the tree, so none are added, and the
// text parses to the same tree. Recursion is bounded by deepest_nesting.
#include <fmt/format.h>

#include "frontend/ast.h"
#include "frontend/frontend.h"

namespace gradc {
namespace {

using namespace ast;

class Printer {
 public:
  explicit Printer(const File& file) : file_(file) {}

  std::string run() {
    for (const File::Use& u : file_.uses) out_ += fmt::format("use \"{}\"\n", u.path.text);
    std::size_t next = 0;
    for (; next < file_.blocks.size() && !file_.blocks[next].in_model; ++next)
      block(file_.blocks[next]);
    if (!file_.has_model) return std::move(out_);
    out_ += fmt::format("model {}(", file_.model.text);
    for (std::size_t i = 0; i < file_.numbers.size(); ++i) {
      out_ += fmt::format("{}{} = ", i > 0 ? ", " : "", file_.numbers[i].name.text);
      expr(file_.numbers[i].value);
    }
    out_ += ")\n";
    for (std::size_t place = 0; place <= file_.body.size(); ++place) {
      for (; next < file_.blocks.size() && file_.blocks[next].place == place; ++next)
        block(file_.blocks[next]);
      if (file_.has_train && file_.train_place == place) train();
      if (place < file_.body.size()) statement(file_.body[place]);
    }
    return std::move(out_);
  }

 private:
  void line(std::string_view text) { out_ += std::string(2 * depth_, ' ') + std::string(text); }
  void label(const std::optional<Word>& path) {
    if (path) out_ += fmt::format(" as {}", path->text);
  }
  void list(const std::vector<Word>& axes) {
    out_ += '[';
    for (std::size_t i = 0; i < axes.size(); ++i)
      out_ += fmt::format("{}{}", i > 0 ? " " : "", axes[i].text);
    out_ += ']';
  }
  void body(const std::vector<StmtId>& statements) {
    out_ += " {\n";
    ++depth_;
    for (StmtId s : statements) statement(s);
    --depth_;
    line("}\n");
  }

  void block(const Block& b);
  void statement(StmtId id);
  void param(const Stmt& s);
  void train();
  void setting(const Setting& s);
  void expr(ExprId id);
  void chain(const Expr& e);
  void arguments(const Expr& e, std::size_t first);

  const File& file_;
  std::string out_;
  std::size_t depth_ = 0;
};

void Printer::block(const Block& b) {
  line(fmt::format("block {}(", b.name.text));
  for (std::size_t i = 0; i < b.formals.size(); ++i) {
    const Formal& f = b.formals[i];
    out_ += fmt::format("{}{}", i > 0 ? ", " : "", f.name.text);
    if (f.tensor) list(f.axes);
    if (!f.standard.valid()) continue;
    out_ += " = ";
    expr(f.standard);
  }
  out_ += ") {\n";
  ++depth_;
  for (StmtId s : b.body) statement(s);
  line("return ");
  expr(b.result);
  --depth_;
  out_ += "\n}\n";
}

void Printer::statement(StmtId id) {
  const Stmt& s = file_.stmt(id);
  switch (s.kind) {
    case StmtKind::axis:
      for (std::size_t i = 0; i < s.names.size(); ++i) {
        i == 0 ? line("axis ") : void(out_ += ", ");
        out_ += s.names[i].text + " = ";
        expr(s.exprs[i]);
      }
      break;
    case StmtKind::input:
      line("input " + s.name.text);
      list(s.axes);
      if (s.low.valid()) {
        out_ += " in ";
        expr(s.low);
        out_ += " .. ";
        expr(s.high);
      } else if (s.high.valid()) {
        out_ += " < ";
        expr(s.high);
      }
      break;
    case StmtKind::param: param(s); break;
    case StmtKind::let:
      line(s.name.text);
      if (s.has_list) list(s.axes);
      out_ += " = ";
      expr(s.value);
      break;
    case StmtKind::repeat:
      line("repeat ");
      expr(s.value);
      label(s.path);
      return body(s.body);
    case StmtKind::scan: line("scan " + s.name.text); return body(s.body);
    case StmtKind::expect: line(fmt::format("expect fused({})", s.name.text)); break;
  }
  out_ += '\n';
}

void Printer::param(const Stmt& s) {
  line("param ");
  for (std::size_t i = 0; i < s.decls.size(); ++i) {
    const ParamDecl& d = s.decls[i];
    out_ += fmt::format("{}{}[", i > 0 ? ", " : "", d.name.text);
    for (std::size_t a = 0; a < d.axes.size(); ++a) {
      out_ += fmt::format("{}{}", a > 0 ? " " : "", d.axes[a].text);
      if (!d.extents[a].valid()) continue;
      out_ += " = ";
      expr(d.extents[a]);
    }
    out_ += ']';
    label(d.path);
  }
  if (s.init.kind == Init::none) return;
  out_ += s.init.kind == Init::value     ? " = "
          : s.init.kind == Init::normal  ? " ~ normal("
          : s.init.kind == Init::uniform ? " ~ uniform("
                                         : " ~ ";
  expr(s.init.expr);
  if (s.init.kind == Init::normal || s.init.kind == Init::uniform) out_ += ')';
}

void Printer::train() {
  out_ += "train {\n";
  for (const Setting& s : file_.train) {
    out_ += "  ";
    setting(s);
    out_ += '\n';
  }
  out_ += "}\n";
}

void Printer::setting(const Setting& s) {
  if (!s.name.text.empty()) out_ += s.name.text + " = ";
  switch (s.kind) {
    case Setting::number: return expr(s.expr);
    case Setting::string: out_ += fmt::format("\"{}\"", s.text); return;
    case Setting::call: out_ += s.text; break;
    case Setting::tuple: break;
  }
  out_ += '(';
  for (std::size_t i = 0; i < s.items.size(); ++i) {
    if (i > 0) out_ += ", ";
    setting(s.items[i]);
  }
  out_ += ')';
}

void Printer::chain(const Expr& e) {
  for (std::size_t i = 0; i < e.operands.size(); ++i) {
    if (i > 0) out_ += fmt::format(" {} ", e.ops[i]);
    expr(e.operands[i]);
  }
}

// The operands from `first` on, each with its name if it has one.
void Printer::arguments(const Expr& e, std::size_t first) {
  for (std::size_t i = first; i < e.operands.size(); ++i) {
    if (i > first) out_ += ", ";
    if (i - first < e.names.size() && !e.names[i - first].text.empty())
      out_ += e.names[i - first].text + " = ";
    expr(e.operands[i]);
  }
}

void Printer::expr(ExprId id) {
  const Expr& e = file_.expr(id);
  switch (e.kind) {
    case ExprKind::number:
    case ExprKind::boolean:
    case ExprKind::training:
    case ExprKind::name: out_ += e.text; return;
    case ExprKind::paren:
      out_ += '(';
      expr(e.operands[0]);
      out_ += ')';
      return;
    case ExprKind::sum:
    case ExprKind::product:
    case ExprKind::both:
    case ExprKind::either: return chain(e);
    case ExprKind::negate:
    case ExprKind::invert:
      out_ += e.kind == ExprKind::negate ? "-" : "not ";
      expr(e.operands[0]);
      return;
    case ExprKind::compare:
      expr(e.operands[0]);
      out_ += fmt::format(" {} ", e.text);
      expr(e.operands[1]);
      return;
    case ExprKind::call:
      out_ += e.text + '(';
      arguments(e, 0);
      out_ += ')';
      return label(e.path);
    case ExprKind::reduce:
      out_ += e.text;
      list(e.axes);
      out_ += '(';
      arguments(e, 0);
      if (e.where.valid()) {
        out_ += " where ";
        expr(e.where);
      }
      out_ += ')';
      return;
    case ExprKind::list: expr(e.operands[0]); return list(e.axes);
    case ExprKind::index:
      expr(e.operands[0]);
      out_ += '[';
      arguments(e, 1);
      out_ += ']';
      return;
  }
}

}  // namespace

std::string print_model(const File& file) { return Printer(file).run(); }

}  // namespace gradc
