// Calls of blocks (rules 2 and 14): the body is checked anew in a scope of its own, and the result
// told in the caller's axes.
#include <algorithm>

#include "frontend/lower_arguments.h"
#include "frontend/lower_functions.h"

namespace gradc {

namespace {
constexpr std::size_t max_calls = 200'000;
constexpr std::size_t max_nested_calls = 256;  // each takes a piece of the stack
}  // namespace

bool Lowerer::stopped() {
  if (report_.full()) return true;
  if (graph_.nodes.size() < max_operations && calls_ < max_calls) return false;
  report_.error(here_,
                calls_ < max_calls
                    ? fmt::format("the model has more than {} operations, calls and turns counted",
                                  max_operations)
                    : fmt::format("the model has more than {} calls of blocks", max_calls));
  return true;
}

Term Lowerer::call(const ast::Expr& e) {
  if (is_builtin(e.text)) return builtin(e);
  const BlockRef ref = blocks_.find(*frame_.file, e.text);
  return ref.block != nullptr ? block_call(e, ref) : unknown_block(e);
}

Term Lowerer::unknown_block(const ast::Expr& e) {
  std::vector<std::string_view> names = blocks_.names(*frame_.file);
  for (const FunctionRow& r : function_rows) names.push_back(r.name);
  report_.error(e.point,
                fmt::format("there is no block or function `{}`{}", e.text, near(e.text, names)));
  for (ExprId o : e.operands) eval(o);
  return {};
}

bool Lowerer::enter_call(const ast::Expr& e, BlockRef ref) {
  ++calls_;
  here_ = e.point;
  if (active_.size() == max_nested_calls) {
    report_.error(e.point, fmt::format("more than {} calls within one another", max_nested_calls));
    return false;
  }
  if (std::find(active_.begin(), active_.end(), ref.block) == active_.end()) return true;
  std::vector<Note> notes;
  for (auto it = std::find(active_.begin(), active_.end(), ref.block) + 1; it != active_.end();
       ++it)
    notes.push_back({(*it)->name.at, fmt::format("by way of `{}`", (*it)->name.text)});
  report_.error(
      e.point,
      fmt::format("`{}` calls itself{}", e.text, notes.empty() ? "" : " through other blocks"),
      notes);
  return false;
}

Term Lowerer::block_call(const ast::Expr& e, BlockRef ref) {
  if (stopped() || !enter_call(e, ref)) return {};
  Arguments a{.block = ref.block};
  if (!match_arguments(e, a) || !eval_arguments(e, a)) return {};
  const BodyFacts& facts = blocks_.facts(*ref.file, ref.block->body, ref.block->result);
  Scope scope(nullptr, &facts, ++frames_);
  Frame inner{.file = ref.file,
              .scope = &scope,
              .listed = {},
              .id = scope.frame(),
              .path = frame_.path,
              .members = frame_.members,
              .made = {}};
  const auto& labels = frame_.scope->facts().labels;
  const auto own = labels.find(static_cast<std::uint32_t>(&e - frame_.file->exprs.data()));
  const std::string text = e.path ? e.path->text : own == labels.end() ? e.text : own->second;
  inner.path = label(frame_.path, text, turns_around_, e.path ? e.path->at : e.point);
  inner.members = member_name(frame_.members, text);
  if (!header_axes(e, a, inner)) return {};

  report_.enter_call(e.point, e.text);
  active_.push_back(ref.block);
  std::swap(frame_, inner);  // inner is the caller's now
  bool fine = true;
  for (std::size_t f = 0; f < a.values.size() && fine; ++f) fine = bind_formal(e, a, f, inner);
  Term result;
  if (fine) {
    body(ref.block->body);
    result = eval(ref.block->result);
    record({"", expr(ref.block->result).at}, result);
    warn_unused(scope, false);
  }
  std::swap(frame_, inner);
  if (result.ok()) result = tell(std::move(result), inner, e, *ref.block);
  active_.pop_back();
  report_.leave_call();
  for (auto it = inner.made.rbegin(); it != inner.made.rend(); ++it) graph_.give_axis(*it);
  return result;
}

// The result in the caller's axes (rule 14).
Term Lowerer::tell(Term result, const Frame& inner, const ast::Expr& e, const ast::Block& block) {
  if (result.kind != Term::tensor) return result;
  const Axes axes = result.axes;
  for (const NamedAxis* x : axes) {
    if (x->frame != inner.id) continue;
    const Span at = inner.file->expr(block.result).at;
    if (x->outer == nullptr) {
      report_.error(at,
                    fmt::format("the result of `{}` has the axis `{}`, which is made inside and "
                                "means nothing outside: {}",
                                e.text, x->name, describe(axes)),
                    {{x->at, fmt::format("`{}` is made here", x->name)}});
      return {};
    }
    if (has(result.axes, x->outer)) {
      report_.error(at, fmt::format("the result of `{}` would have the axis `{}` twice", e.text,
                                    x->outer->name));
      return {};
    }
    result = terms_.rename(result, x, x->outer, e.point);
    if (!result.ok()) return {};
  }
  return result;
}

}  // namespace gradc
