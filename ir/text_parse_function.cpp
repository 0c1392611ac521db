// Parsing of functions: the head, the statements one by one, and the making of operations.
#include "ir/text_parse_function.h"

#include <fmt/format.h>

#include "ir/control.h"
#include "ir/typing.h"

namespace gradc::text {

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
  if (const auto [it, fresh] =
          all_.functions.emplace(name.text, Parsed::Declared<FunctionId>{id, name.at});
      !fresh)
    return r_.fail(name.at, fmt::format("function `@{}` stands twice", name.text), it->second.at,
                   "first here");
  f_.name = p_.intern(name.text);
  if (kernel) {
    if (!r_.at(Tok::word) || !parse_family(r_.token().text, f_.family) || f_.family == Family::none)
      return r_.unexpected("a kernel's family");
    r_.advance();
  }
  return r_.take("(") && arguments(")") && head_results() && r_.take("{") && r_.take_newline();
}

bool FunctionParser::statement(bool& done) {
  if (r_.at_word("return") || r_.at_word("yield")) return close(done);
  Pending o;
  o.at = r_.token().at;
  if (!result_names(o)) return false;
  const Token code = r_.token();
  if (!r_.at(Tok::word)) return r_.unexpected("an operation");
  if (!parse_opcode(code.text, o.op.code))
    return r_.fail(code.at, fmt::format("there is no operation `{}`", code.text));
  o.at = code.at;
  r_.advance();
  if (!before_operands(o)) return false;
  if ((r_.at(Tok::value) || (is_elementwise(o.op.code) && at_literal())) &&
      !operands(o.op.operands, &o))
    return false;
  if (!behind_operands(o) || !result_types(o) || !resolve_axes(o)) return false;
  if (o.op.code == Opcode::constant_) {
    if (o.types.empty()) return r_.fail(o.at, "a constant has a result");
    if (!constant(o.constant, o.types[0].dtype, o.op.attr)) return false;
  }
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

// Numbers may stand for constants where `numbers` takes them: an elementwise operation.
bool FunctionParser::operands(std::vector<ValueId>& out, Pending* numbers) {
  do {
    Token t;
    if (numbers != nullptr && is_elementwise(numbers->op.code) && at_literal()) {
      numbers->literals.emplace_back(out.size(), r_.token());
      r_.advance();
      out.push_back({});
      continue;
    }
    if (!r_.take(Tok::value, "an operand", t)) return false;
    const auto it = values_.find(std::string(t.text));
    if (it == values_.end())
      return r_.fail(t.at, fmt::format("`%{}` is not defined above", t.text));
    const Defined& d = it->second;
    if (region_of_[d.first.index] != regions_.back().index)
      return r_.fail(
          t.at,
          fmt::format("`%{}` belongs to another region: what a region uses is an operand", t.text),
          d.at, "defined here");
    if (out.size() + d.count > static_cast<std::size_t>(max_grouped))
      return r_.fail(t.at, "too many operands");
    for (std::uint32_t i = 0; i < d.count; ++i) out.push_back(ValueId{d.first.index + i});
  } while (r_.skip(","));
  return true;
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
  return r_.fail(o.names.back().at, fmt::format("{} results are named, {} have types",
                                                o.names.size(), o.items.size()));
}

bool FunctionParser::open_region(Pending& o) {
  if (!r_.take("{")) return false;
  if (regions_.size() > static_cast<std::size_t>(max_depth))
    return r_.fail(o.at, fmt::format("regions nest deeper than {}", max_depth));
  regions_.push_back(b_.open());
  o.op.regions.push_back(regions_.back());
  open_.push_back(std::move(o));
  return r_.take("(") && arguments(")") && location(open_.back().op.loc) && r_.take_newline();
}

bool FunctionParser::literals(Pending& o) {
  const std::vector<ValueId> written = o.op.operands;
  const Facts& row = facts(o.op.code);
  const int n = static_cast<int>(written.size());
  if (n < row.least || n > row.most)
    return r_.fail(o.at, fmt::format("`{}`: has {} operands", row.name, n));
  for (const auto& [place, token] : o.literals) {
    if (o.types.size() != 1)
      return r_.fail(token.at, "a number stands only where the operation has one result");
    const std::optional<DType> d = literal_dtype(f_, o.op.code, written, place, o.types[0].dtype);
    if (!d) return r_.fail(token.at, "nothing tells the dtype of this number");
    Attr a;
    if (!constant(token, *d, a)) return false;
    b_.at = o.op.loc;
    const Type type{*d, {}};
    o.op.operands[place] = b_.add_multi(Opcode::constant_, {}, a, std::span(&type, 1))[0];
    region_of_.resize(f_.values.size(), regions_.back().index);
  }
  return true;
}

bool FunctionParser::finish(Pending& o) {
  if (!o.literals.empty() && !literals(o)) return false;
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
    return r_.fail(at, fmt::format("{} values are returned, {} are declared", results.size(),
                                   declared_results_.size()));
  for (std::size_t i = 0; i < results.size(); ++i)
    if (f_.type(results[i]) != declared_results_[i])
      return r_.fail(at, fmt::format("result {} is {}, but {} is declared", i,
                                     describe(p_, f_, f_.type(results[i])),
                                     describe(p_, f_, declared_results_[i])));
  b_.finish(results, declared_names_);
  done = true;
  return r_.take_newline();
}

bool parse_function(Parsed& parsed) { return FunctionParser(parsed).run(); }

}  // namespace gradc::text
