// Printing of operations: their attributes by form (ir/README.md has the table), and locations.
#include <fmt/format.h>

#include <algorithm>

#include "ir/text_function.h"

namespace gradc::text {
namespace {

constexpr std::size_t location_column = 72;

// `2 + 3*u`, `u`, `-1 + u`
std::string affine(std::int64_t k, std::int64_t m, const std::string& axis) {
  std::string out = k == 0 ? "" : fmt::format("{} + ", k);
  return out + (m == 1 ? "" : fmt::format("{}*", m)) + axis;
}

// `t + 1`, `t - 1`
std::string shifted(const std::string& axis, std::int64_t k) {
  const std::uint64_t size = k < 0 ? -static_cast<std::uint64_t>(k) : static_cast<std::uint64_t>(k);
  return fmt::format("{} {} {}", axis, k < 0 ? '-' : '+', size);
}

}  // namespace

void FunctionPrinter::operation(const Op& op) {
  for (std::size_t i = 0; i < op.results.size();) {
    if (i > 0) out_ += ", ";
    const Group* g = names_.group_starting_at(op.results[i]);
    out_ += g ? names_.group_name(*g) : names_[op.results[i]];
    i += g ? g->count : 1;
  }
  if (!op.results.empty()) out_ += " = ";
  out_.append(facts(op.code).name);
  before_operands(op);
  operands(op);
  behind_operands(op);
  result_types(op);
  if (!op.regions.empty() && elided(op)) out_ += " { … }";
}

void FunctionPrinter::before_operands(const Op& op) {
  const Attr& a = op.attr;
  switch (facts(op.code).attr) {
    case AttrForm::axis:
      if (op.operands.empty()) out_ += " " + axis(a.to);
      break;
    case AttrForm::bundle:
      out_ += fmt::format(" @{}.{}", p_.text(p_.bundle(a.bundle).name), p_.text(a.flag));
      break;
    case AttrForm::callee: out_ += fmt::format(" @{}", p_.text(p_.function(a.callee).name)); break;
    case AttrForm::claim: out_.append(" ").append(name(a.claim)); break;
    case AttrForm::scan:
      scan_axis(op);
      out_ += fmt::format("{} carry {} slice {}", a.reverse ? " reverse" : "", a.carried, a.sliced);
      break;
    case AttrForm::none:
      if (op.code != Opcode::constant_) break;
      out_ += " " + constant_text(a, f_.type(op.results[0]).dtype);
      break;
    default: break;
  }
}

// The only attribute that may name an axis which stands in no type before or beside it.
void FunctionPrinter::scan_axis(const Op& op) {
  const AxisId a = op.attr.from;
  const std::string name = axis(a);
  out_ += " " + name;
  const auto has_it = [&](ValueId v) { return f_.type(v).axes.contains(a); };
  if (axes_.knows(name) || std::any_of(op.results.begin(), op.results.end(), has_it)) return;
  axes_.add(name, a, f_.extent(a));
  out_ += fmt::format("={}", f_.extent(a));
}

void FunctionPrinter::operands(const Op& op) {
  if (!op.operands.empty()) out_ += ' ';
  if (facts(op.code).kind == Kind::control) return names_.list(out_, op.operands);
  for (std::size_t i = 0; i < op.operands.size(); ++i)
    out_.append(i > 0 ? ", " : "").append(names_[op.operands[i]]);
}

void FunctionPrinter::behind_operands(const Op& op) {
  const Attr& a = op.attr;
  const auto list = [&](std::string_view separator = " ") {
    std::string out;
    for (AxisId x : a.axes) out.append(out.empty() ? "" : separator).append(axis(x));
    return out;
  };
  switch (facts(op.code).attr) {
    case AttrForm::none:
    case AttrForm::bundle:
    case AttrForm::callee:
    case AttrForm::claim:
    case AttrForm::scan: break;
    case AttrForm::axis:
      if (!op.operands.empty()) out_ += fmt::format(" [{}]", axis(a.to));
      break;
    case AttrForm::axes: out_ += " over " + list(); break;
    case AttrForm::from_to: out_ += fmt::format(" [{} -> {}]", axis(a.from), axis(a.to)); break;
    case AttrForm::from_at:
      if (op.code == Opcode::shift_)
        out_ += fmt::format(" [{}]", shifted(axis(a.from), a.integer));
      else
        out_ += fmt::format(" [{} = {}]", axis(a.from), a.integer);
      break;
    case AttrForm::to_at: out_ += fmt::format(" [{} = {}]", axis(a.to), a.integer); break;
    case AttrForm::from_to_affine:
      out_ += fmt::format(" [{} = {}]", axis(a.from), affine(a.integer, a.stride, axis(a.to)));
      break;
    case AttrForm::from_axes: out_ += fmt::format(" [{} -> {}]", axis(a.from), list()); break;
    case AttrForm::axes_to: out_ += fmt::format(" [{} -> {}]", list(), axis(a.to)); break;
    case AttrForm::concat: out_ += fmt::format(" [{} = {}]", axis(a.to), list()); break;
    case AttrForm::from: out_ += fmt::format(" [{}]", axis(a.from)); break;
    case AttrForm::to: out_ += fmt::format(" [{}]", axis(a.to)); break;
    case AttrForm::bundle_to:
      out_ += fmt::format(": @{} [{}]", p_.text(p_.bundle(a.bundle).name), axis(a.to));
      break;
  }
}

void FunctionPrinter::result_types(const Op& op) {
  if (!op.results.empty()) out_ += " -> ";
  for (std::size_t i = 0; i < op.results.size();) {
    if (i > 0) out_ += ", ";
    if (const Group* g = names_.group_starting_at(op.results[i])) {
      group_type(*g);
      place_group(*g);
      i += g->count;
    } else {
      type(f_.type(op.results[i]));
      place(op.results[i]);
      ++i;
    }
  }
}

void FunctionPrinter::location(LocId id) {
  const Location& at = p_.location(id);
  if (at.lines.empty() && at.role == Role::forward) return;
  const std::size_t width = out_.size() - line_;
  out_.append(width + 2 <= location_column ? location_column - width : 2, ' ');
  out_ += "loc(";
  if (at.role != Role::forward) out_ += at.role == Role::gradient ? "gradient" : "update";
  // By the files' names: their numbers are not in the text.
  std::vector<SourcePos> lines = at.lines;
  std::sort(lines.begin(), lines.end(), [&](const SourcePos& a, const SourcePos& b) {
    if (a.file != b.file) return p_.files[a.file.index] < p_.files[b.file.index];
    return a < b;
  });
  for (const SourcePos& l : lines) {
    if (out_.back() != '(') out_ += ' ';
    out_ += fmt::format("{}:{}:{}", quoted(p_.files[l.file.index]), l.line, l.column);
  }
  out_ += ')';
}

}  // namespace gradc::text
