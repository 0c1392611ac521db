// Parsing of operations' attributes, by their form (ir/README.md has the table), and of locations.
#include "ir/text_parse_function.h"

#include <fmt/format.h>

#include <algorithm>

namespace gradc::text {

bool FunctionParser::word(Word& out, std::string_view wanted) {
  Token t;
  if (!r_.take(Tok::word, wanted, t)) return false;
  out = {std::string(t.text), t.at};
  return true;
}

// Words up to `close`, which is taken.
bool FunctionParser::axis_words(std::vector<Word>& out, std::string_view close) {
  while (!r_.at_punct(close)) {
    if (out.size() > static_cast<std::size_t>(max_grouped))
      return r_.fail(r_.token().at, "too many axes");
    if (!word(out.emplace_back(), fmt::format("an axis or `{}`", close))) return false;
  }
  r_.advance();
  return true;
}

bool FunctionParser::before_operands(Pending& o) {
  Attr& a = o.op.attr;
  switch (facts(o.op.code).attr) {
    case AttrForm::none:
      if (o.op.code != Opcode::constant_) return true;
      o.constant = r_.token();
      if (!r_.at(Tok::number) && !r_.at(Tok::word))
        return r_.unexpected("a number, `true` or `false`");
      r_.advance();
      return true;
    case AttrForm::axis: return r_.at(Tok::value) || word(o.to, "an axis");
    case AttrForm::claim:
      if (!r_.at(Tok::word) || !parse_claim(r_.token().text, a.claim))
        return r_.unexpected("a claim, or `group`");
      r_.advance();
      return true;
    case AttrForm::scan: return scan_head(o);
    case AttrForm::callee: {
      Token t;
      if (!r_.take(Tok::symbol, "a function", t)) return false;
      const auto it = all_.functions.find(std::string(t.text));
      if (it == all_.functions.end() || it->second.id.index >= p_.functions.size())
        return r_.fail(t.at, fmt::format("no function `@{}` stands above", t.text));
      a.callee = it->second.id;
      return true;
    }
    case AttrForm::bundle: {
      Token t;
      if (!r_.take(Tok::symbol, "a bundle's flag", t)) return false;
      const std::size_t dot = t.text.rfind('.');
      if (dot == std::string_view::npos)
        return r_.fail(t.at, "expected `@BUNDLE.decay` or `@BUNDLE.clip`");
      const auto it = all_.bundles.find(std::string(t.text.substr(0, dot)));
      if (it == all_.bundles.end())
        return r_.fail(t.at,
                       fmt::format("no bundle `@{}` is declared above", t.text.substr(0, dot)));
      a.bundle = it->second.id;
      a.flag = p_.intern(t.text.substr(dot + 1));
      return true;
    }
    default: return true;
  }
}

// `t reverse carry 1 slice 2`
bool FunctionParser::scan_head(Pending& o) {
  if (!word(o.from, "an axis")) return false;
  if (r_.at_punct("=")) {
    std::int64_t extent = 0;
    if (axes_.knows(o.from.text))
      return r_.fail(o.from.at, fmt::format("axis `{}` has its extent already", o.from.text));
    if (!take_extent(r_, extent) || !declare(o.from, extent)) return false;
  }
  o.op.attr.reverse = r_.skip_word("reverse");
  const auto count = [&](std::string_view keyword, std::uint32_t& out) {
    std::int64_t n = 0;
    if (!r_.take_word(keyword)) return false;
    const Span at = r_.token().at;
    if (!r_.take_integer(n)) return false;
    if (n < 0 || n > max_grouped) return r_.fail(at, "no such number of operands");
    out = static_cast<std::uint32_t>(n);
    return true;
  };
  return count("carry", o.op.attr.carried) && count("slice", o.op.attr.sliced);
}

bool FunctionParser::behind_operands(Pending& o) {
  Attr& a = o.op.attr;
  switch (facts(o.op.code).attr) {
    case AttrForm::none:
    case AttrForm::bundle:
    case AttrForm::callee:
    case AttrForm::claim:
    case AttrForm::scan: return true;
    case AttrForm::axis:
      return !o.to.text.empty() || (r_.take("[") && word(o.to, "an axis") && r_.take("]"));
    case AttrForm::axes:
      if (!r_.take_word("over")) return false;
      while (r_.at(Tok::word))
        if (!word(o.axes.emplace_back(), "an axis")) return false;
      return !o.axes.empty() || r_.unexpected("an axis");
    case AttrForm::from_to:
      return r_.take("[") && word(o.from, "an axis") && r_.take("->") && word(o.to, "an axis") &&
             r_.take("]");
    case AttrForm::from_at:
      if (o.op.code == Opcode::shift_) return shifted(o);
      return r_.take("[") && word(o.from, "an axis") && r_.take("=") &&
             r_.take_integer(a.integer) && r_.take("]");
    case AttrForm::to_at:
      return r_.take("[") && word(o.to, "an axis") && r_.take("=") && r_.take_integer(a.integer) &&
             r_.take("]");
    case AttrForm::from_to_affine: return affine(o);
    case AttrForm::from_axes:
      return r_.take("[") && word(o.from, "an axis") && r_.take("->") && axis_words(o.axes, "]");
    case AttrForm::axes_to:
      return r_.take("[") && axis_words(o.axes, "->") && word(o.to, "an axis") && r_.take("]");
    case AttrForm::concat:
      return r_.take("[") && word(o.to, "an axis") && r_.take("=") && axis_words(o.axes, "]");
    case AttrForm::from: return r_.take("[") && word(o.from, "an axis") && r_.take("]");
    case AttrForm::to: return r_.take("[") && word(o.to, "an axis") && r_.take("]");
    case AttrForm::bundle_to:
      return r_.take(":") && all_.take_bundle(a.bundle) && r_.take("[") && word(o.to, "an axis") &&
             r_.take("]");
  }
  return true;
}

// `[t + 1]`
bool FunctionParser::shifted(Pending& o) {
  if (!r_.take("[") || !word(o.from, "an axis")) return false;
  const bool back = r_.skip("-");
  if (!back && !r_.take("+")) return false;
  if (!r_.take_integer(o.op.attr.integer)) return false;
  if (back) o.op.attr.integer = -o.op.attr.integer;
  return r_.take("]");
}

// `[t = 2 + 3*u]`, where `2 +` and `3*` may be absent
bool FunctionParser::affine(Pending& o) {
  Attr& a = o.op.attr;
  if (!r_.take("[") || !word(o.from, "an axis") || !r_.take("=")) return false;
  std::int64_t number = 0;
  bool have = false;
  if (r_.at(Tok::number)) {
    if (!r_.take_integer(number)) return false;
    have = true;
    if (r_.skip("+")) {
      a.integer = number;
      have = r_.at(Tok::number);
      if (have && !r_.take_integer(number)) return false;
    }
  }
  if (have) {
    if (!r_.take("*")) return false;
    a.stride = number;
  }
  return word(o.to, "an axis") && r_.take("]");
}

bool FunctionParser::resolve(const Word& word, AxisId& out) {
  if (word.text.empty() || word.text == "_") return true;
  out = axes_.find(word.text);
  return out.valid() || r_.fail(word.at, fmt::format("there is no axis `{}`", word.text));
}

bool FunctionParser::resolve_axes(Pending& o) {
  Attr& a = o.op.attr;
  if (!resolve(o.from, a.from) || !resolve(o.to, a.to)) return false;
  for (const Word& w : o.axes) {
    if (w.text == "_" && o.op.code != Opcode::concat_) return r_.fail(w.at, "`_` names no axis");
    if (!resolve(w, a.axes.emplace_back())) return false;
  }
  for (const Word* w : {&o.from, &o.to})
    if (w->text == "_") return r_.fail(w->at, "`_` names no axis");
  return true;
}

bool FunctionParser::constant(const Token& text, DType d, Attr& a) {
  const Span at = text.at;
  Reader value(text.text, at.source);
  if (d == DType::boolean) {
    if (text.text != "true" && text.text != "false")
      return r_.fail(at, "a bool is `true` or `false`");
    a.integer = text.text == "true" ? 1 : 0;
  } else if (is_real(d)) {
    if (!value.take_real(a.real)) return r_.fail(at, "this is no real number that fits");
  } else {
    if (!value.take_integer(a.integer)) return r_.fail(at, "this is no integer of 64 bits");
    if (d == DType::i32 && (a.integer < INT32_MIN || a.integer > INT32_MAX))
      return r_.fail(at, "this does not fit i32");
  }
  return true;
}

bool FunctionParser::location(LocId& out) {
  if (!r_.skip_word("loc")) return true;
  Location l;
  if (!r_.take("(")) return false;
  if (r_.skip_word("gradient"))
    l.role = Role::gradient;
  else if (r_.skip_word("update"))
    l.role = Role::update;
  while (r_.at(Tok::string)) {
    std::string file;
    const auto position = [&](std::uint32_t& n) {
      std::int64_t wide = 0;
      if (!r_.take(":")) return false;
      const Span at = r_.token().at;
      if (!r_.take_integer(wide)) return false;
      n = static_cast<std::uint32_t>(wide);
      return (wide >= 1 && wide <= UINT32_MAX) || r_.fail(at, "lines and columns count from 1");
    };
    SourcePos pos;
    if (!r_.take_string(file) || !position(pos.line) || !position(pos.column)) return false;
    const auto [it, fresh] =
        all_.files.emplace(file, FileId{static_cast<std::uint32_t>(p_.files.size())});
    if (fresh) p_.files.push_back(file);
    pos.file = it->second;
    l.lines.push_back(pos);
  }
  std::sort(l.lines.begin(), l.lines.end());
  l.lines.erase(std::unique(l.lines.begin(), l.lines.end()), l.lines.end());
  if (!l.lines.empty() || l.role != Role::forward) out = p_.intern(l);
  return r_.take(")");
}

}  // namespace gradc::text
