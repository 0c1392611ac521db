// Finding blocks and reading bodies ahead.
#include "frontend/blocks.h"

#include "ir/diagnostic.h"

namespace gradc {
namespace {

// Walks a body: statements of scans too, those of repeats only as far as a fact reaches into them.
class Reader {
 public:
  Reader(const ast::File& file, BodyFacts& facts) : file_(file), facts_(facts) {}

  void body(const std::vector<ast::StmtId>& statements, bool own) {
    for (ast::StmtId id : statements) statement(file_.stmt(id), own);
  }

  void expression(ast::ExprId id, bool own) {
    if (!id.valid()) return;
    const ast::Expr& e = file_.expr(id);
    if (e.kind == ast::ExprKind::call && !e.path && own) {
      const int n = ++calls_[e.text];
      facts_.labels[id.index] = n == 1 ? e.text : e.text + "_" + std::to_string(n);
    }
    bracket(e.axes);
    if (e.kind == ast::ExprKind::index) bracket(e.names);
    for (ast::ExprId o : e.operands) expression(o, own);
    expression(e.where, own);
  }

 private:
  void bracket(const std::vector<ast::Word>& words) {
    for (const ast::Word& w : words) facts_.bracketed.try_emplace(w.text, w.at);
  }

  void statement(const ast::Stmt& s, bool own) {
    if (s.kind != ast::StmtKind::axis) bracket(s.axes);
    for (const ast::ParamDecl& d : s.decls) {
      bracket(d.axes);
      for (ast::ExprId e : d.extents) expression(e, own);
    }
    for (ast::ExprId e : s.exprs) expression(e, own);
    for (ast::ExprId e : {s.init.expr, s.low, s.high, s.value}) expression(e, own);
    if (s.kind == ast::StmtKind::let) ++facts_.bound[s.name.text];
    body(s.body, own && s.kind == ast::StmtKind::scan);
  }

  const ast::File& file_;
  BodyFacts& facts_;
  std::unordered_map<std::string, int> calls_;
};

}  // namespace

const BodyFacts& Blocks::facts(const ast::File& file, const std::vector<ast::StmtId>& body,
                               ast::ExprId result) {
  const auto [it, fresh] = facts_.try_emplace(&body);
  if (fresh) {
    Reader reader(file, it->second);
    reader.body(body, true);
    reader.expression(result, true);
  }
  return it->second;
}

void Blocks::check_file(const ast::File& file) {
  auto& visible = visible_[&file];
  for (const ast::Block& b : file.blocks) {
    const auto [it, fresh] = visible.try_emplace(b.name.text, BlockRef{&file, &b});
    if (!fresh)
      report_.error(b.name.at, fmt::format("there are two blocks `{}`", b.name.text),
                    {{it->second.block->name.at, "the first one"}});
  }
  for (const ast::File::Use& u : file.uses)
    for (const ast::Block& b : u.file->blocks) {
      const auto [it, fresh] = visible.try_emplace(b.name.text, BlockRef{u.file.get(), &b});
      if (!fresh && it->second.file != &file && it->second.block != &b)
        report_.error(
            u.path.at,
            fmt::format("\"{}\" has a block `{}`, and so has a file used before", u.path.text,
                        b.name.text),
            {{it->second.block->name.at, "the first one"}, {b.name.at, "the second one"}});
    }
}

void Blocks::check(const ast::File& main) {
  // Files that are used may use others; each is looked at once.
  std::vector<const ast::File*> open{&main};
  while (!open.empty()) {
    const ast::File* f = open.back();
    open.pop_back();
    if (visible_.contains(f)) continue;
    check_file(*f);
    for (const ast::File::Use& u : f->uses) open.push_back(u.file.get());
  }
}

const std::vector<std::shared_ptr<const ast::File>>& Blocks::library_files() {
  if (loaded_) return library_;
  loaded_ = true;
  const ReadFile nothing = [](const std::string&, std::string&) { return false; };
  for (const Embedded& e : library()) {
    const std::string name = "lib/" + std::string(e.name);
    std::uint32_t source = 0;
    while (source < sources_.size() &&
           (sources_.name(source) != name || sources_.text(source) != e.text))
      ++source;
    if (source == sources_.size()) source = sources_.add(name, std::string(e.text));
    Result<FilePtr> parsed = parse_model(sources_, source, nothing);
    if (!parsed) internal_error(render(sources_, parsed.failure().diagnostics[0]));
    library_.push_back(*parsed);
  }
  return library_;
}

BlockRef Blocks::find(const ast::File& file, const std::string& name) {
  const auto known = visible_.find(&file);
  if (known != visible_.end())
    if (const auto it = known->second.find(name); it != known->second.end()) return it->second;
  for (const auto& f : library_files())
    for (const ast::Block& b : f->blocks)
      if (b.name.text == name) return {f.get(), &b};
  return {};
}

std::vector<std::string_view> Blocks::names(const ast::File& file) {
  std::vector<std::string_view> out;
  for (const ast::Block& b : file.blocks) out.push_back(b.name.text);
  for (const ast::File::Use& u : file.uses)
    for (const ast::Block& b : u.file->blocks) out.push_back(b.name.text);
  for (const auto& f : library_files())
    for (const ast::Block& b : f->blocks) out.push_back(b.name.text);
  return out;
}

}  // namespace gradc
