// expect fused(K): what a text expects against what fusion does, function by function, since a
// block may be lowered into several.
#include <fmt/format.h>

#include <algorithm>

#include "passes/fuse.h"
#include "passes/passes.h"
#include "runtime/front.h"

namespace gradc {
namespace {

bool has_lines(const Program& p, LocId loc, const Expectation& e) {
  const std::vector<SourcePos>& lines = p.location(loc).lines;
  return std::any_of(lines.begin(), lines.end(), [&](const SourcePos& l) {
    return l.file.index == e.at.source && l.line >= e.first && l.line <= e.last;
  });
}

// The functions that have operations of these lines.
std::vector<std::string> functions_of(const Program& p, const Expectation& e) {
  std::vector<std::string> out;
  for (const Function& f : p.functions)
    if (std::any_of(f.ops.begin(), f.ops.end(),
                    [&](const Op& op) { return has_lines(p, op.loc, e); }))
      out.emplace_back(p.text(f.name));
  return out;
}

}  // namespace

Result<Done> check_expectations(const Model& model, const FuseOptions& fuse_options) {
  const auto wanted = [&](const Expectation& e) { return fuse_options.on(e.claim); };
  if (std::none_of(model.expectations.begin(), model.expectations.end(), wanted)) return Done{};
  const Program before = simplify(model.program);
  std::vector<Remark> remarks;
  const Program after = fuse(before, fuse_options, &remarks);
  std::vector<Diagnostic> messages;
  for (const Expectation& e : model.expectations) {
    if (!wanted(e)) continue;
    for (const std::string& function : functions_of(before, e)) {
      bool fused = false;
      const Remark* refused = nullptr;
      for (const Remark& r : remarks) {
        if (r.function != function || r.claim != e.claim || !has_lines(after, r.at, e)) continue;
        fused = fused || r.fused;
        if (!r.fused && refused == nullptr) refused = &r;
      }
      if (fused && refused == nullptr) continue;
      Diagnostic d{.at = e.at,
                   .message = fmt::format("no `{}` was fused from these lines, in @{}",
                                          name(e.claim), function)};
      if (refused != nullptr) {
        const SourcePos& at = after.location(refused->at).lines[0];
        d.notes.push_back(
            {Span{.source = at.file.index, .line = at.line, .column = at.column},
             refused->text + (refused->advice.empty() ? "" : "; " + refused->advice)});
      }
      messages.push_back(std::move(d));
      break;  // the same lines, the same reason
    }
  }
  if (messages.empty()) return Done{};
  return Failure{Exit::text, std::move(messages)};
}

}  // namespace gradc
