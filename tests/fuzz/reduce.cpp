// Changes of the syntax tree, greedily, until none helps.
#include "fuzz/reduce.h"

#include <fmt/format.h>

#include <algorithm>

#include "frontend/ast.h"
#include "frontend/frontend.h"

namespace gradc::fuzz {
namespace {

using ast::Expr;
using ast::ExprId;
using ast::ExprKind;
using ast::File;
using ast::Stmt;
using ast::StmtId;

class Reducer {
 public:
  Reducer(std::string text, const std::function<bool(const std::string&)>& fails, int tries)
      : text_(std::move(text)), fails_(fails), tries_(tries) {}

  std::string run() {
    if (!parse()) return text_;
    for (bool better = true; better && tries_ > 0;) {
      better = statements();
      better = blocks() || better;
      better = expressions() || better;
      better = extents() || better;
    }
    return text_;
  }

 private:
  bool parse() {
    Sources sources;
    Result<FilePtr> file = parse_model(sources, sources.add("fuzz.grad", text_), {});
    if (file) file_ = **file;
    return file.ok();
  }
  // Keeps the changed tree if it still fails.
  bool attempt(const File& changed) {
    if (tries_ <= 0) return false;
    std::string text = print_model(changed);
    if (text == text_) return false;
    --tries_;
    if (!fails_(text)) return false;
    text_ = std::move(text);
    return parse();
  }

  // Every list of statements: the model's, those of blocks, and bodies.
  std::vector<std::vector<StmtId>*> lists(File& f) {
    std::vector<std::vector<StmtId>*> out{&f.body};
    for (ast::Block& b : f.blocks) out.push_back(&b.body);
    for (Stmt& s : f.stmts)
      if (!s.body.empty()) out.push_back(&s.body);
    return out;
  }
  bool statements() {
    bool better = false;
    for (std::size_t l = 0; l < lists(file_).size(); ++l)
      for (std::size_t width : {8u, 3u, 1u})
        for (std::size_t at = lists(file_)[l]->size(); at-- > 0;) {
          if (l >= lists(file_).size()) break;
          File changed = file_;
          std::vector<StmtId>& list = *lists(changed)[l];
          if (at >= list.size()) continue;
          const std::size_t from = at + 1 >= width ? at + 1 - width : 0;
          list.erase(list.begin() + static_cast<std::ptrdiff_t>(from),
                     list.begin() + static_cast<std::ptrdiff_t>(at) + 1);
          better = attempt(changed) || better;
        }
    // A body in place of its construct.
    for (std::size_t at = 0; at < file_.body.size(); ++at) {
      File changed = file_;
      const std::vector<StmtId> body = changed.stmts[file_.body[at].index].body;
      if (body.empty()) continue;
      changed.body.erase(changed.body.begin() + static_cast<std::ptrdiff_t>(at));
      changed.body.insert(changed.body.begin() + static_cast<std::ptrdiff_t>(at), body.begin(),
                          body.end());
      better = attempt(changed) || better;
    }
    return better;
  }
  bool blocks() {
    bool better = false;
    for (std::size_t at = file_.blocks.size(); at-- > 0;) {
      File changed = file_;
      changed.blocks.erase(changed.blocks.begin() + static_cast<std::ptrdiff_t>(at));
      better = attempt(changed) || better;
    }
    if (file_.has_train) {
      File changed = file_;
      changed.has_train = false;
      changed.train.clear();
      better = attempt(changed) || better;
    }
    return better;
  }
  bool expressions() {
    bool better = false;
    for (std::size_t at = 0; at < file_.exprs.size(); ++at) {
      if (tries_ <= 0) return better;
      const Expr e = file_.exprs[at];
      if (e.kind == ExprKind::number || e.kind == ExprKind::name) continue;
      bool changed_it = false;
      for (std::size_t k = 0; k < e.operands.size() && !changed_it; ++k) {
        if (!e.operands[k].valid()) continue;
        File changed = file_;
        changed.exprs[at] = file_.expr(e.operands[k]);
        changed_it = attempt(changed);
      }
      // One of a chain less.
      for (std::size_t k = 0;
           k < e.operands.size() && !changed_it && e.operands.size() > 2 && !e.ops.empty(); ++k) {
        File changed = file_;
        Expr& c = changed.exprs[at];
        c.operands.erase(c.operands.begin() + static_cast<std::ptrdiff_t>(k));
        c.ops.erase(c.ops.begin() + static_cast<std::ptrdiff_t>(k));
        if (c.op_at.size() > k) c.op_at.erase(c.op_at.begin() + static_cast<std::ptrdiff_t>(k));
        c.ops[0] = "";
        changed_it = attempt(changed);
      }
      if (!changed_it && e.where.valid()) {
        File changed = file_;
        changed.exprs[at].where = {};
        changed_it = attempt(changed);
      }
      if (!changed_it) {
        File changed = file_;
        Expr number;
        number.kind = ExprKind::number;
        number.text = "0.5";
        number.number = 0.5;
        changed.exprs[at] = number;
        changed_it = attempt(changed);
      }
      better = better || changed_it;
      if (changed_it) at = 0;  // the tree is a new one
    }
    return better;
  }
  bool extents() {
    bool better = false;
    for (std::size_t at = 0; at < file_.exprs.size(); ++at) {
      const Expr e = file_.exprs[at];
      if (e.kind != ExprKind::number || !e.integer || e.number < 2) continue;
      for (const int smaller : {1, 2, 3}) {
        if (smaller >= e.number) break;
        File changed = file_;
        changed.exprs[at].text = fmt::format("{}", smaller);
        changed.exprs[at].number = smaller;
        if (attempt(changed)) {
          better = true;
          break;
        }
      }
    }
    return better;
  }

  std::string text_;
  const std::function<bool(const std::string&)>& fails_;
  int tries_;
  File file_;
};

}  // namespace

std::string reduced(const std::string& text, const std::function<bool(const std::string&)>& fails,
                    int tries) {
  return Reducer(text, fails, tries).run();
}

}  // namespace gradc::fuzz
