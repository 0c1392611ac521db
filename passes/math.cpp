// The walk of the mathematical printer: which values get lines.
#include "passes/math.h"

#include <fmt/format.h>

#include <algorithm>

#include "ir/diagnostic.h"
#include "passes/math_print.h"

namespace gradc {
namespace math {
namespace {

constexpr std::size_t longest = 72;    // characters of an expression that stands inside another one
constexpr std::size_t long_line = 96;  // of one that has parts to name

// A sum's name is still known for one, so that sum / size is recognised.
Term named(const std::string& name, const Term& term) {
  Term out = light(name);
  out.axes = term.axes;
  out.count = term.count;
  return out;
}

bool made_by_call(const Function& f, ValueId v) {
  const OpId def = f.value(v).def;
  return def.valid() && f.op(def).code == Opcode::call_;
}

}  // namespace

std::string Printer::run(FunctionId id) {
  Sheet& sheet = new_sheet(id);
  const auto is_backward = [&](const Op& op) { return p_.location(op.loc).role == Role::gradient; };
  if (std::any_of(sheet.f.ops.begin(), sheet.f.ops.end(), is_backward)) out_ = "# forward\n";
  for (ValueId v : sheet.f.body().arguments) sheet.terms[v.index] = light(argument_name(sheet, v));
  function(sheet);
  return std::move(out_);
}

Sheet& Printer::new_sheet(FunctionId id) {
  sheets_[id.index] = std::make_unique<Sheet>(p_, layouts_, p_.function(id), constants_, invented_);
  return *sheets_[id.index];
}

void Printer::line(const std::string& text) {
  out_ += std::string(2 * depth_, ' ') + (comment_ > 0 ? "# " : "");
  out_ += std::string(2 * static_cast<std::size_t>(std::max(comment_ - 1, 0)), ' ') + text + "\n";
}
void Printer::equation(const Sheet& s, const std::string& name, const Type& type,
                       const Term& term) {
  std::string list = s.axes(type.axes);
  for (const std::string& a : along_) list += (list.empty() ? "" : " ") + a;
  const std::string text = show(term);
  if (text == name) return;
  line(list.empty() ? fmt::format("{} = {}", name, text)
                    : fmt::format("{}[{}] = {}", name, list, text));
}
void Printer::turn_to(const Op& op) {
  if (backward_ || depth_ > 0 || comment_ > 0 || p_.location(op.loc).role != Role::gradient ||
      op.code == Opcode::constant_ || op.code == Opcode::expand_)
    return;
  out_ += "\n# backward\n";
  backward_ = true;
}

std::string Printer::argument_name(Sheet& s, ValueId v) {
  const std::string own = s.own_name(v);
  return s.fresh(own.empty() ? "x_1" : own);
}

void Printer::function(Sheet& s) {
  bind_starts(s);
  region(s, s.f.body());
  // Results by other names than their values have, and those that are no value's own.
  for (std::size_t i = 0; i < s.f.body().results.size(); ++i) {
    const ValueId v = s.f.body().results[i];
    if (i >= s.f.result_names.size() || !s.f.result_names[i].valid() || made_by_call(s.f, v))
      continue;
    const std::string_view name = p_.text(s.f.result_names[i]);
    std::string wish;
    if (name.starts_with("g.")) wish = "d_" + plain(name.substr(2));
    if (name.starts_with("d_p.")) wish = "d_" + plain(name.substr(4));
    if (!wish.empty() && wish != show(s.term(v))) equation(s, wish, s.f.type(v), s.term(v));
  }
}

void Printer::region(Sheet& s, const Region& region) {
  const std::set<std::uint32_t> results = [&] {
    std::set<std::uint32_t> out;
    for (ValueId v : region.results) out.insert(v.index);
    return out;
  }();
  for (OpId id : region.ops) {
    const Op& op = s.f.op(id);
    turn_to(op);
    switch (op.code) {
      case Opcode::call_:
        call_of(s, region, id);
        break;
      case Opcode::fused_:
        fused(s, op);
        break;
      case Opcode::scan_:
        scan(s, op);
        break;
      default:
        place(s, op, op.results[0], short_term(s, op), results.contains(op.results[0].index));
    }
  }
}

Term Printer::short_term(Sheet& s, const Op& op) {
  for (;;) {
    Term term = s.read_as(op);
    if (show(term).size() <= long_line) return term;
    ValueId part;
    std::size_t most = 24;
    for (ValueId v : op.operands)
      if (const std::size_t size = show(s.term(v)).size();
          size > most && !s.term(v).light && s.f.value(v).def.valid())
        part = v, most = size;
    if (!part.valid()) return term;
    const std::string name = s.invented(s.f.op(s.f.value(part).def));
    equation(s, name, s.f.type(part), s.term(part));
    s.terms[part.index] = named(name, s.term(part));
  }
}
void Printer::place(Sheet& s, const Op& op, ValueId v, const Term& term, bool result) {
  const std::string own = s.own_name(v);
  const bool literal = op.code == Opcode::constant_ || op.code == Opcode::position_;
  const auto bound = bound_.find({&s.f, v.index});
  const bool own_line = (!own.empty() || bound != bound_.end()) && !literal;
  const bool several = s.uses[v.index] > 1 || result;
  const bool expands = op.code == Opcode::expand_;  // broadcasts where it is read, but in a sum
  const bool inside = literal || term.light || !several || expands;
  if (!own_line && inside && show(term).size() <= longest && !(expands && s.summed[v.index])) {
    s.terms[v.index] = term;
    return;
  }
  const std::string name = bound != bound_.end() ? bound->second
                           : own.empty()         ? s.invented(op)
                                                 : s.fresh(own);
  equation(s, name, s.f.type(v), term);
  s.terms[v.index] = named(name, term);
}

bool Printer::in_bundle(const Function& f, ValueId v) {
  return std::any_of(f.groups.begin(), f.groups.end(), [&](const Group& g) {
    return g.first.index <= v.index && v.index < g.first.index + g.count;
  });
}

}  // namespace math

std::string math_text(const Program& program, std::string_view function) {
  const FunctionId id = program.find(function);
  if (!id.valid()) internal_error(fmt::format("there is no function @{} to print", function));
  // Twice: a constant may stand before the operation that tells what it is.
  math::Printer first(program, {});
  first.run(id);
  return math::Printer(program, first.constants()).run(id);
}

}  // namespace gradc
