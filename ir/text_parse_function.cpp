// Parsing of functions. Operations go through a Builder as the text has them; each is checked against its
// type rule before it is made. Regions nest on a stack of our own.
#include <fmt/format.h>

#include <algorithm>

#include "ir/control.h"
#include "ir/text_parse.h"
#include "ir/typing.h"

namespace gradc::text {
namespace {

struct Word {
  std::string text;
  Span at;
};

// What one type of a list stands for: a value, or the members of a bundle.
struct TypeItem {
  Span at;
  BundleId bundle;                   // invalid: one value
  std::vector<Type> types;
  std::vector<Placement> places;     // as many, or none
};

// An operation whose line, or whose region, is being read.
struct Pending {
  Op op;
  Span at;
  std::vector<Word> names;
  std::vector<TypeItem> items;
  std::vector<Type> types;           // of items, one after the other
  Word from, to;                     // axes are known when the types are
  std::vector<Word> axes;
  Token constant;
};

class FunctionParser {
 public:
  explicit FunctionParser(Parsed& parsed)
      : all_(parsed), r_(parsed.reader), p_(parsed.program), b_(parsed.program, f_) {}
  bool run();

 private:
  bool head();
  bool head_results();
  bool head_result(std::vector<Type>& types, std::vector<NameId>& names, bool named);
  bool arguments(std::string_view close);
  bool define(const Word& name, const TypeItem& item, ValueId first);
  bool enter_name(std::string name, const Span& at, ValueId first, std::size_t count);
  bool statement(bool& done);
  bool finish(Pending& o);
  bool close(bool& done);

  bool type(Type& out);
  bool type_item(TypeItem& out);
  bool bundle_types(TypeItem& out);
  bool declare(const Word& axis, std::int64_t extent);
  bool place(Placement& out, int rank);
  bool places(TypeItem& item);

  bool result_names(Pending& o);
  bool before_operands(Pending& o);
  bool scan_head(Pending& o);
  bool operands(std::vector<ValueId>& out);
  bool behind_operands(Pending& o);
  bool affine(Pending& o);
  bool shifted(Pending& o);
  bool axis_words(std::vector<Word>& out, std::string_view close);
  bool word(Word& out, std::string_view wanted);
  bool result_types(Pending& o);
  bool resolve_axes(Pending& o);
  bool resolve(const Word& word, AxisId& out);
  bool constant(Pending& o);
  bool open_region(Pending& o);
  bool location(LocId& out);

  Parsed& all_;
  Reader& r_;
  Program& p_;
  Function f_;
  Builder b_;
  AxisScope axes_;
  std::vector<Span> axis_at_;                      // by axis
  struct Defined {
    ValueId first;
    std::uint32_t count;
    Span at;
  };
  std::unordered_map<std::string, Defined> values_;
  std::vector<std::uint32_t> region_of_;           // by value
  std::vector<Pending> open_;                      // operations whose regions are being read
  std::vector<RegionId> regions_{RegionId{0}};
  std::vector<std::pair<ValueId, Placement>> placed_;
  std::vector<Type> declared_results_;
  std::vector<NameId> declared_names_;
};

bool FunctionParser::run() {
  if (!head()) return false;
  for (bool done = false; !done;)
    if (!statement(done)) return false;
  if (!placed_.empty()) {
    f_.placed.resize(f_.values.size());
    for (const auto& [v, at] : placed_) f_.placed[v.index] = at;
  }
  p_.functions.push_back(std::move(f_));
  return true;
}

bool FunctionParser::head() {
  const bool kernel = r_.at_word("kernel");
  r_.advance();
  Token name;
  if (!r_.take(Tok::symbol, "the function's name", name)) return false;
  if (!is_name(name.text)) return r_.fail(name.at, "a name begins with a letter");
  const FunctionId id{static_cast<std::uint32_t>(p_.functions.size())};
  if (const auto [it, fresh] = all_.functions.emplace(name.text, Parsed::Declared<FunctionId>{id, name.at}); !fresh)
    return r_.fail(name.at, fmt::format("function `@{}` stands twice", name.text), it->second.at, "first here");
  f_.name = p_.intern(name.text);
  if (kernel) {
    if (!r_.at(Tok::word) || !parse_family(r_.token().text, f_.family) || f_.family == Family::none)
      return r_.unexpected("a kernel's family");
    r_.advance();
  }
  return r_.take("(") && arguments(")") && head_results() && r_.take("{") && r_.take_newline();
}

// `-> f32[b t], i32[]` or `-> (loss: f32[], g: @params)`. The types are compared with what is returned.
bool FunctionParser::head_results() {
  if (!r_.skip("->")) return true;
  const bool named = r_.skip("(");
  do {
    if (!head_result(declared_results_, declared_names_, named)) return false;
  } while (r_.skip(","));
  return !named || r_.take(")");
}

bool FunctionParser::head_result(std::vector<Type>& types, std::vector<NameId>& names, bool named) {
  Token name;
  if (named && (!r_.take(Tok::word, "a result's name", name) || !r_.take(":"))) return false;
  TypeItem item;
  if (!type_item(item)) return false;
  types.insert(types.end(), item.types.begin(), item.types.end());
  if (!named) return !item.bundle.valid() || r_.fail(item.at, "a bundle among results needs a name");
  if (!item.bundle.valid()) {
    names.push_back(p_.intern(name.text));
    return true;
  }
  for (const Leaf& leaf : all_.layouts[item.bundle].leaves)
    names.push_back(p_.intern(fmt::format("{}.{}", name.text, leaf.path)));
  return true;
}

// `%x: f32[b=4], %p: @params` up to `close`: arguments of the open region.
bool FunctionParser::arguments(std::string_view close) {
  if (r_.skip(close)) return true;
  do {
    Token name;
    TypeItem item;
    if (!r_.take(Tok::value, "an argument", name) || !r_.take(":") || !type_item(item) || !places(item)) return false;
    const ValueId first{static_cast<std::uint32_t>(f_.values.size())};
    for (const Type& t : item.types) {
      b_.argument(t);
      region_of_.push_back(regions_.back().index);
    }
    if (!define({std::string(name.text), name.at}, item, first)) return false;
  } while (r_.skip(","));
  return r_.take(close);
}

bool FunctionParser::enter_name(std::string name, const Span& at, ValueId first, std::size_t count) {
  const auto [it, fresh] = values_.emplace(std::move(name), Defined{first, static_cast<std::uint32_t>(count), at});
  return fresh || r_.fail(at, fmt::format("`%{}` is defined twice", it->first), it->second.at, "first here");
}

// Names the value, or the consecutive values of a bundle, from `first` on, and notes their places.
bool FunctionParser::define(const Word& name, const TypeItem& item, ValueId first) {
  for (std::size_t i = 0; i < item.places.size(); ++i)
    if (item.places[i].arena != Arena::none)
      placed_.emplace_back(ValueId{first.index + static_cast<std::uint32_t>(i)}, item.places[i]);
  const bool number = name.text.find_first_not_of("0123456789") == std::string::npos;
  if (!number && !is_name(name.text)) return r_.fail(name.at, "a name that begins with a digit is a number");
  if (!item.bundle.valid()) {
    if (!enter_name(name.text, name.at, first, 1)) return false;
    if (!number) b_.name(first, name.text);
    return true;
  }
  if (number) return r_.fail(name.at, "what a bundle gives needs a name");
  const BundleLayout& layout = all_.layouts[item.bundle];
  if (!enter_name(name.text, name.at, first, item.types.size())) return false;
  for (std::size_t i = 0; i < layout.leaves.size(); ++i)
    if (!enter_name(name.text + "." + layout.leaves[i].path, name.at, ValueId{first.index + static_cast<std::uint32_t>(i)}, 1))
      return false;
  for (const Turn& t : layout.turns)
    if (!enter_name(name.text + "." + t.path, name.at, ValueId{first.index + t.first}, t.count)) return false;
  b_.group(name.text, item.bundle, first, static_cast<std::uint32_t>(item.types.size()));
  return true;
}

// ---- types

bool FunctionParser::declare(const Word& axis, std::int64_t extent) {
  if (axis.text == "_") return r_.fail(axis.at, "`_` names no axis");
  if (f_.axes.size() == max_axes) return r_.fail(axis.at, fmt::format("a function has at most {} axes", max_axes));
  axes_.add(axis.text, b_.fresh_axis(axis.text, extent), extent);
  axis_at_.push_back(axis.at);
  return true;
}

bool FunctionParser::type(Type& out) {
  if (!take_dtype(r_, out.dtype) || !r_.take("[")) return false;
  std::int64_t elements = 1;
  while (!r_.at_punct("]")) {
    Word name;
    if (!word(name, "an axis or `]`")) return false;
    if (r_.at_punct("=")) {
      std::int64_t extent = 0;
      if (!take_extent(r_, extent)) return false;
      if (!axes_.knows(name.text)) {
        if (!declare(name, extent)) return false;
      } else if (const AxisId a = axes_.find(name.text); f_.extent(a) != extent) {
        return r_.fail(name.at, fmt::format("axis `{}` has two extents: {} and {}", name.text, f_.extent(a), extent),
                       axis_at_[a.index], "first here");
      }
    }
    if (!axes_.knows(name.text))
      return r_.fail(name.at, fmt::format("axis `{}` needs its extent here, where it occurs first", name.text));
    const AxisId a = axes_.find(name.text);
    if (out.axes.contains(a)) return r_.fail(name.at, fmt::format("axis `{}` stands twice in a type", name.text));
    if (out.axes.full()) return r_.fail(name.at, fmt::format("a type has more than {} axes", max_rank));
    out.axes.push_back(a);
    if (__builtin_mul_overflow(elements, f_.extent(a), &elements) || elements > max_elements)
      return r_.fail(name.at, "a value has too many elements");
  }
  r_.advance();
  return true;
}

bool FunctionParser::type_item(TypeItem& out) {
  out.at = r_.token().at;
  if (!r_.at(Tok::symbol)) return type(out.types.emplace_back());
  if (!all_.take_bundle(out.bundle)) return false;
  const std::vector<Leaf>& leaves = all_.layouts[out.bundle].leaves;
  all_.grouped += static_cast<std::int64_t>(leaves.size());
  if (all_.grouped > max_grouped) return r_.fail(out.at, "the functions' bundles have too many members together");
  if (leaves.empty()) return r_.fail(out.at, "the bundle has no member");
  if (!r_.skip("(")) return bundle_types(out);
  do {
    if (!type(out.types.emplace_back())) return false;
  } while (out.types.size() < leaves.size() && r_.skip(","));
  if (out.types.size() != leaves.size())
    return r_.fail(out.at, fmt::format("the bundle has {} members, not {}", leaves.size(), out.types.size()));
  return r_.take(")");
}

// Members' axes by name and extent (AxisScope::resolve).
bool FunctionParser::bundle_types(TypeItem& out) {
  for (const Leaf& leaf : all_.layouts[out.bundle].leaves) {
    Type& t = out.types.emplace_back();
    t.dtype = leaf.member->type.dtype;
    for (AxisId a : leaf.member->type.axes) {
      const Axis& theirs = p_.bundle(leaf.bundle).axes[a.index];
      AxisScope::Resolved r = axes_.resolve(p_.text(theirs.name), theirs.extent, t.axes);
      if (!r.axis.valid()) {
        if (!declare({r.fresh, out.at}, theirs.extent)) return false;
        r.axis = axes_.find(r.fresh);
      }
      t.axes.push_back(r.axis);
    }
  }
  return true;
}

// `act+4096 [64 1]`
bool FunctionParser::place(Placement& out, int rank) {
  if (!r_.at(Tok::word) || !parse_arena(r_.token().text, out.arena) || out.arena == Arena::none)
    return r_.unexpected("an arena");
  r_.advance();
  const auto natural = [&](std::int64_t& n) {
    const Span at = r_.token().at;
    return r_.take_integer(n) && (n >= 0 || r_.fail(at, "offsets and strides are not negative"));
  };
  if (!r_.take("+") || !natural(out.offset)) return false;
  if (rank < 0) return true;
  if (!r_.take("[")) return false;
  for (int i = 0; i < rank; ++i)
    if (!natural(out.strides[static_cast<std::size_t>(i)])) return false;
  return r_.take("]");
}

// The places of a value or a bundle, if `at` stands here.
bool FunctionParser::places(TypeItem& item) {
  if (!r_.skip_word("at")) return true;
  item.places.resize(item.types.size());
  if (!item.bundle.valid()) return place(item.places[0], item.types[0].axes.size());
  if (r_.skip("(")) {
    for (std::size_t i = 0; i < item.types.size(); ++i) {
      if (i > 0 && !r_.take(",")) return false;
      if (!r_.skip_word("none") && !place(item.places[i], item.types[i].axes.size())) return false;
    }
    return r_.take(")");
  }
  Placement at;
  const Span where = r_.token().at;
  if (!place(at, -1)) return false;
  for (std::size_t i = 0; i < item.types.size(); ++i) {
    const Type& t = item.types[i];
    item.places[i] = at;
    std::int64_t stride = 1;
    for (int a = t.axes.size(); a-- > 0; stride *= f_.extent(t.axes[a])) item.places[i].strides[static_cast<std::size_t>(a)] = stride;
    if (__builtin_add_overflow(at.offset, stride * bytes(t.dtype), &at.offset)) return r_.fail(where, "the offset is too large");
  }
  return true;
}

// ---- statements

bool FunctionParser::word(Word& out, std::string_view wanted) {
  Token t;
  if (!r_.take(Tok::word, wanted, t)) return false;
  out = {std::string(t.text), t.at};
  return true;
}

bool FunctionParser::statement(bool& done) {
  if (r_.at_word("return") || r_.at_word("yield")) return close(done);
  Pending o;
  o.at = r_.token().at;
  if (!result_names(o)) return false;
  const Token code = r_.token();
  if (!r_.at(Tok::word)) return r_.unexpected("an operation");
  if (!parse_opcode(code.text, o.op.code)) return r_.fail(code.at, fmt::format("there is no operation `{}`", code.text));
  o.at = code.at;
  r_.advance();
  if (!before_operands(o)) return false;
  if (r_.at(Tok::value) && !operands(o.op.operands)) return false;
  if (!behind_operands(o) || !result_types(o) || !resolve_axes(o)) return false;
  if (o.op.code == Opcode::constant_ && !constant(o)) return false;
  if (facts(o.op.code).regions > 0) return open_region(o);
  return location(o.op.loc) && finish(o) && r_.take_newline();
}

bool FunctionParser::result_names(Pending& o) {
  if (!r_.at(Tok::value)) return true;
  do {
    Token t;
    if (!r_.take(Tok::value, "a result", t)) return false;
    o.names.push_back({std::string(t.text), t.at});
  } while (r_.skip(","));
  return r_.take("=");
}

bool FunctionParser::operands(std::vector<ValueId>& out) {
  do {
    Token t;
    if (!r_.take(Tok::value, "an operand", t)) return false;
    const auto it = values_.find(std::string(t.text));
    if (it == values_.end()) return r_.fail(t.at, fmt::format("`%{}` is not defined above", t.text));
    const Defined& d = it->second;
    if (region_of_[d.first.index] != regions_.back().index)
      return r_.fail(t.at, fmt::format("`%{}` belongs to another region: what a region uses is an operand", t.text), d.at,
                     "defined here");
    if (out.size() + d.count > static_cast<std::size_t>(max_grouped)) return r_.fail(t.at, "too many operands");
    for (std::uint32_t i = 0; i < d.count; ++i) out.push_back(ValueId{d.first.index + i});
  } while (r_.skip(","));
  return true;
}

bool FunctionParser::before_operands(Pending& o) {
  Attr& a = o.op.attr;
  switch (facts(o.op.code).attr) {
    case AttrForm::none:
      if (o.op.code != Opcode::constant_) return true;
      o.constant = r_.token();
      if (!r_.at(Tok::number) && !r_.at(Tok::word)) return r_.unexpected("a number, `true` or `false`");
      r_.advance();
      return true;
    case AttrForm::axis: return r_.at(Tok::value) || word(o.to, "an axis");
    case AttrForm::claim:
      if (!r_.at(Tok::word) || !parse_claim(r_.token().text, a.claim)) return r_.unexpected("a claim, or `group`");
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
      if (dot == std::string_view::npos) return r_.fail(t.at, "expected `@BUNDLE.decay` or `@BUNDLE.clip`");
      const auto it = all_.bundles.find(std::string(t.text.substr(0, dot)));
      if (it == all_.bundles.end())
        return r_.fail(t.at, fmt::format("no bundle `@{}` is declared above", t.text.substr(0, dot)));
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
    if (axes_.knows(o.from.text)) return r_.fail(o.from.at, fmt::format("axis `{}` has its extent already", o.from.text));
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

// Words up to `close`, which is taken.
bool FunctionParser::axis_words(std::vector<Word>& out, std::string_view close) {
  while (!r_.at_punct(close)) {
    if (out.size() > static_cast<std::size_t>(max_grouped)) return r_.fail(r_.token().at, "too many axes");
    if (!word(out.emplace_back(), fmt::format("an axis or `{}`", close))) return false;
  }
  r_.advance();
  return true;
}

bool FunctionParser::behind_operands(Pending& o) {
  Attr& a = o.op.attr;
  switch (facts(o.op.code).attr) {
    case AttrForm::none:
    case AttrForm::bundle:
    case AttrForm::callee:
    case AttrForm::claim:
    case AttrForm::scan: return true;
    case AttrForm::axis: return !o.to.text.empty() || (r_.take("[") && word(o.to, "an axis") && r_.take("]"));
    case AttrForm::axes:
      if (!r_.take_word("over")) return false;
      while (r_.at(Tok::word))
        if (!word(o.axes.emplace_back(), "an axis")) return false;
      return !o.axes.empty() || r_.unexpected("an axis");
    case AttrForm::from_to: return r_.take("[") && word(o.from, "an axis") && r_.take("->") && word(o.to, "an axis") && r_.take("]");
    case AttrForm::from_at:
      if (o.op.code == Opcode::shift_) return shifted(o);
      return r_.take("[") && word(o.from, "an axis") && r_.take("=") && r_.take_integer(a.integer) && r_.take("]");
    case AttrForm::to_at:
      return r_.take("[") && word(o.to, "an axis") && r_.take("=") && r_.take_integer(a.integer) && r_.take("]");
    case AttrForm::from_to_affine: return affine(o);
    case AttrForm::from_axes: return r_.take("[") && word(o.from, "an axis") && r_.take("->") && axis_words(o.axes, "]");
    case AttrForm::axes_to: return r_.take("[") && axis_words(o.axes, "->") && word(o.to, "an axis") && r_.take("]");
    case AttrForm::concat: return r_.take("[") && word(o.to, "an axis") && r_.take("=") && axis_words(o.axes, "]");
    case AttrForm::from: return r_.take("[") && word(o.from, "an axis") && r_.take("]");
    case AttrForm::to: return r_.take("[") && word(o.to, "an axis") && r_.take("]");
    case AttrForm::bundle_to:
      return r_.take(":") && all_.take_bundle(a.bundle) && r_.take("[") && word(o.to, "an axis") && r_.take("]");
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

bool FunctionParser::result_types(Pending& o) {
  if (o.names.empty()) return true;
  if (!r_.take("->")) return false;
  do {
    TypeItem& item = o.items.emplace_back();
    if (!type_item(item) || !places(item)) return false;
    o.types.insert(o.types.end(), item.types.begin(), item.types.end());
  } while (r_.skip(","));
  if (o.items.size() == o.names.size()) return true;
  return r_.fail(o.names.back().at, fmt::format("{} results are named, {} have types", o.names.size(), o.items.size()));
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

bool FunctionParser::constant(Pending& o) {
  if (o.types.empty()) return r_.fail(o.at, "a constant has a result");
  Attr& a = o.op.attr;
  const DType d = o.types[0].dtype;
  const Span at = o.constant.at;
  Reader value(o.constant.text, at.source);
  if (d == DType::boolean) {
    if (o.constant.text != "true" && o.constant.text != "false") return r_.fail(at, "a bool is `true` or `false`");
    a.integer = o.constant.text == "true" ? 1 : 0;
  } else if (is_real(d)) {
    if (!value.take_real(a.real)) return r_.fail(at, "this is no real number that fits");
  } else {
    if (!value.take_integer(a.integer)) return r_.fail(at, "this is no integer of 64 bits");
    if (d == DType::i32 && (a.integer < INT32_MIN || a.integer > INT32_MAX)) return r_.fail(at, "this does not fit i32");
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
    const auto [it, fresh] = all_.files.emplace(file, FileId{static_cast<std::uint32_t>(p_.files.size())});
    if (fresh) p_.files.push_back(file);
    pos.file = it->second;
    l.lines.push_back(pos);
  }
  std::sort(l.lines.begin(), l.lines.end());
  l.lines.erase(std::unique(l.lines.begin(), l.lines.end()), l.lines.end());
  if (!l.lines.empty() || l.role != Role::forward) out = p_.intern(l);
  return r_.take(")");
}

// ---- making operations

bool FunctionParser::open_region(Pending& o) {
  if (!r_.take("{")) return false;
  if (regions_.size() > static_cast<std::size_t>(max_depth))
    return r_.fail(o.at, fmt::format("regions nest deeper than {}", max_depth));
  regions_.push_back(b_.open());
  o.op.regions.push_back(regions_.back());
  open_.push_back(std::move(o));
  return r_.take("(") && arguments(")") && location(open_.back().op.loc) && r_.take_newline();
}

bool FunctionParser::finish(Pending& o) {
  const bool control = facts(o.op.code).kind == Kind::control && o.op.code != Opcode::flat_;
  std::string fault;
  if (!control && o.types.size() != 1)
    fault = "has one result";
  else if (!control)
    fault = check_types(p_, f_, o.op.code, o.op.operands, o.op.attr, o.types[0]);
  else
    fault = check_control(p_, f_, o.op, o.types);
  if (!fault.empty()) return r_.fail(o.at, fmt::format("`{}`: {}", facts(o.op.code).name, fault));
  b_.at = o.op.loc;
  const ValueId first{static_cast<std::uint32_t>(f_.values.size())};
  b_.add_multi(o.op.code, o.op.operands, o.op.attr, o.types, o.op.regions);
  region_of_.resize(f_.values.size(), regions_.back().index);
  std::uint32_t at = first.index;
  for (std::size_t i = 0; i < o.items.size(); ++i) {
    if (!define(o.names[i], o.items[i], ValueId{at})) return false;
    at += static_cast<std::uint32_t>(o.items[i].types.size());
  }
  return true;
}

// `return` or `yield`, and the `}` below it.
bool FunctionParser::close(bool& done) {
  const bool body = regions_.size() == 1;
  const Span at = r_.token().at;
  if (!r_.take_word(body ? "return" : "yield")) return false;
  std::vector<ValueId> results;
  if (r_.at(Tok::value) && !operands(results)) return false;
  if (!r_.take_newline() || !r_.take("}")) return false;
  if (!body) {
    b_.close(results);
    regions_.pop_back();
    Pending o = std::move(open_.back());
    open_.pop_back();
    return finish(o) && r_.take_newline();
  }
  if (results.size() != declared_results_.size())
    return r_.fail(at, fmt::format("{} values are returned, {} are declared", results.size(), declared_results_.size()));
  for (std::size_t i = 0; i < results.size(); ++i)
    if (f_.type(results[i]) != declared_results_[i])
      return r_.fail(at, fmt::format("result {} is {}, but {} is declared", i, describe(p_, f_, f_.type(results[i])),
                                     describe(p_, f_, declared_results_[i])));
  b_.finish(results, declared_names_);
  done = true;
  return r_.take_newline();
}

}  // namespace

bool parse_function(Parsed& parsed) { return FunctionParser(parsed).run(); }

}  // namespace gradc::text
