// The search of the smallest sizes at which a model checks: one number of the header after the
// other.
#include <algorithm>
#include <cmath>
#include <set>

#include "frontend/ast.h"
#include "runtime/gradcheck.h"

namespace gradc {
namespace {

constexpr std::int64_t most_tried = 64;  // sizes of one number; then it keeps the text's

// Names in the counts of all repeats, those in blocks among them: a block's formal that counts a
// repeat is most often called as the header's number is.
std::set<std::string> counting_names(const ast::File& file) {
  std::set<std::string> out;
  std::vector<ast::StmtId> statements = file.body;
  for (const ast::Block& b : file.blocks)
    statements.insert(statements.end(), b.body.begin(), b.body.end());
  std::vector<ast::ExprId> counts;
  while (!statements.empty()) {
    const ast::Stmt& s = file.stmt(statements.back());
    statements.pop_back();
    if (s.kind == ast::StmtKind::repeat) counts.push_back(s.value);
    statements.insert(statements.end(), s.body.begin(), s.body.end());
  }
  while (!counts.empty()) {
    const ast::ExprId id = counts.back();
    counts.pop_back();
    if (!id.valid()) continue;
    const ast::Expr& e = file.expr(id);
    if (e.kind == ast::ExprKind::name) out.insert(e.text);
    counts.insert(counts.end(), e.operands.begin(), e.operands.end());
  }
  return out;
}

}  // namespace

Result<SmallModel> smallest_model(Sources& sources, const ast::File& file,
                                  const LowerOptions& options) {
  Result<Model> whole = lower(sources, file, options);
  if (!whole) return whole.failure();
  const std::vector<std::pair<std::string, double>> numbers = whole->numbers;
  const std::set<std::string> counting = counting_names(file);
  SmallModel out{std::move(*whole), {}};
  LowerOptions at = options;
  std::set<std::int64_t> used;
  const auto fixed = [&](const std::string& name) {
    return std::any_of(options.set.begin(), options.set.end(),
                       [&](const auto& s) { return s.first == name; });
  };
  const auto searched = [&](const std::string& name, double value) {
    return !fixed(name) && value >= 2 && value == std::floor(value);
  };
  for (const auto& [name, value] : numbers)
    if (!searched(name, value) && value == std::floor(value))
      used.insert(static_cast<std::int64_t>(value));
  // True, and kept, if the model checks with this number too.
  const auto attempt = [&](const std::string& name, std::int64_t size) {
    LowerOptions wish = at;
    wish.set.emplace_back(name, std::to_string(size));
    Result<Model> model = lower(sources, file, wish);
    if (!model) return false;
    out.model = std::move(*model);
    at = std::move(wish);
    out.set.emplace_back(name, std::to_string(size));
    return true;
  };
  const auto search = [&](const std::string& name, double value, bool distinct) {
    const auto most =
        static_cast<std::int64_t>(std::min<double>(std::max(value, 32.0), most_tried));
    for (std::int64_t size = 2; size <= most; ++size) {
      if (distinct && used.contains(size)) continue;
      if (!attempt(name, size)) continue;
      if (!counting.contains(name)) used.insert(size);
      return true;
    }
    return false;
  };
  // Turns first: the rest is then lowered at two of them.
  for (const auto& [name, value] : numbers)
    if (searched(name, value) && counting.contains(name)) search(name, value, false);
  for (const auto& [name, value] : numbers)
    if (searched(name, value) && !counting.contains(name) && !search(name, value, true))
      search(name, value, false);
  std::sort(out.set.begin(), out.set.end(), [&](const auto& a, const auto& b) {
    const auto place = [&](const std::string& name) {
      return std::find_if(numbers.begin(), numbers.end(),
                          [&](const auto& n) { return n.first == name; }) -
             numbers.begin();
    };
    return place(a.first) < place(b.first);
  });
  return out;
}

}  // namespace gradc
