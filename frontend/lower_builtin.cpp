// Calls of the functions of values.
#include "frontend/lower_functions.h"
#include "frontend/lowerer.h"

namespace gradc {

Term Lowerer::builtin(const ast::Expr& e) {
  if (e.path) {
    report_.error(e.path->at,
                  fmt::format("`{}` is a function and has no parameters to label", e.text));
    return {};
  }
  for (const ast::Word& w : e.names)
    if (!w.text.empty()) {
      report_.error(w.at, fmt::format("`{}` is a function; its arguments have no names", e.text));
      return {};
    }
  if (e.text == "size") {
    const NamedAxis* a = size_of(e);
    return a != nullptr ? number_term(Number::integer(a->extent)) : Term{};
  }
  const FunctionRow& row = *find_function(e.text);
  if (e.operands.size() != row.arguments) {
    report_.error(e.at, fmt::format("`{}` takes {} argument{} and has {}", e.text, row.arguments,
                                    row.arguments == 1 ? "" : "s", e.operands.size()));
    return {};
  }
  if (row.no_bare &&
      bare_position(e.operands[0], fmt::format("the argument of `{}`", e.text).c_str()))
    return {};
  std::vector<Term> x;
  bool fine = true;
  for (ExprId o : e.operands) {
    x.push_back(eval(o));
    fine = fine && x.back().ok();
  }
  if (!fine) return {};
  if (row.code == Opcode::uniform_) return terms_.uniform(x[0], sites_++, e.at);
  if (x.size() == 1) return terms_.function(row.code, x[0], e.at);
  Meeting meeting;
  meeting.add(x[x.size() - 2]);
  meeting.add(x[x.size() - 1]);
  check_meeting(meeting, e);
  return row.code == Opcode::select_ ? terms_.select(x[0], x[1], x[2], e.at)
                                     : terms_.arithmetic(row.code, x[0], x[1], e.at);
}

}  // namespace gradc
