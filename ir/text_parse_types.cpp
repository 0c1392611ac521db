// Parsing of types, places and names: what is defined, under which axes, and where it lies.
#include "ir/text_parse_function.h"

#include <fmt/format.h>

namespace gradc::text {

bool FunctionParser::declare(const Word& axis, std::int64_t extent) {
  if (axis.text == "_") return r_.fail(axis.at, "`_` names no axis");
  if (f_.axes.size() == max_axes)
    return r_.fail(axis.at, fmt::format("a function has at most {} axes", max_axes));
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
        return r_.fail(
            name.at,
            fmt::format("axis `{}` has two extents: {} and {}", name.text, f_.extent(a), extent),
            axis_at_[a.index], "first here");
      }
    }
    if (!axes_.knows(name.text))
      return r_.fail(name.at, fmt::format("axis `{}` needs its extent here, where it occurs first",
                                          name.text));
    const AxisId a = axes_.find(name.text);
    if (out.axes.contains(a))
      return r_.fail(name.at, fmt::format("axis `{}` stands twice in a type", name.text));
    if (out.axes.full())
      return r_.fail(name.at, fmt::format("a type has more than {} axes", max_rank));
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
  if (all_.grouped > max_grouped)
    return r_.fail(out.at, "the functions' bundles have too many members together");
  if (leaves.empty()) return r_.fail(out.at, "the bundle has no member");
  if (!r_.skip("(")) return bundle_types(out);
  do {
    if (!type(out.types.emplace_back())) return false;
  } while (out.types.size() < leaves.size() && r_.skip(","));
  if (out.types.size() != leaves.size())
    return r_.fail(
        out.at, fmt::format("the bundle has {} members, not {}", leaves.size(), out.types.size()));
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
    for (int a = t.axes.size(); a-- > 0; stride *= f_.extent(t.axes[a]))
      item.places[i].strides[static_cast<std::size_t>(a)] = stride;
    if (__builtin_add_overflow(at.offset, stride * bytes(t.dtype), &at.offset))
      return r_.fail(where, "the offset is too large");
  }
  return true;
}

// `%x: f32[b=4], %p: @params` up to `close`: arguments of the open region.
bool FunctionParser::arguments(std::string_view close) {
  if (r_.skip(close)) return true;
  do {
    Token name;
    TypeItem item;
    if (!r_.take(Tok::value, "an argument", name) || !r_.take(":") || !type_item(item) ||
        !places(item))
      return false;
    const ValueId first{static_cast<std::uint32_t>(f_.values.size())};
    for (const Type& t : item.types) {
      b_.argument(t);
      region_of_.push_back(regions_.back().index);
    }
    if (!define({std::string(name.text), name.at}, item, first)) return false;
  } while (r_.skip(","));
  return r_.take(close);
}

// Names the value, or the consecutive values of a bundle, from `first` on, and notes their places.
bool FunctionParser::define(const Word& name, const TypeItem& item, ValueId first) {
  for (std::size_t i = 0; i < item.places.size(); ++i)
    if (item.places[i].arena != Arena::none)
      placed_.emplace_back(ValueId{first.index + static_cast<std::uint32_t>(i)}, item.places[i]);
  const bool number = name.text.find_first_not_of("0123456789") == std::string::npos;
  if (!number && !is_name(name.text))
    return r_.fail(name.at, "a name that begins with a digit is a number");
  if (!item.bundle.valid()) {
    if (!enter_name(name.text, name.at, first, 1)) return false;
    if (!number) b_.name(first, name.text);
    return true;
  }
  if (number) return r_.fail(name.at, "what a bundle gives needs a name");
  const BundleLayout& layout = all_.layouts[item.bundle];
  if (!enter_name(name.text, name.at, first, item.types.size())) return false;
  for (std::size_t i = 0; i < layout.leaves.size(); ++i)
    if (!enter_name(name.text + "." + layout.leaves[i].path, name.at,
                    ValueId{first.index + static_cast<std::uint32_t>(i)}, 1))
      return false;
  for (const Turn& t : layout.turns)
    if (!enter_name(name.text + "." + t.path, name.at, ValueId{first.index + t.first}, t.count))
      return false;
  b_.group(name.text, item.bundle, first, static_cast<std::uint32_t>(item.types.size()));
  return true;
}

bool FunctionParser::enter_name(std::string name, const Span& at, ValueId first,
                                std::size_t count) {
  const auto [it, fresh] =
      values_.emplace(std::move(name), Defined{first, static_cast<std::uint32_t>(count), at});
  return fresh ||
         r_.fail(at, fmt::format("`%{}` is defined twice", it->first), it->second.at, "first here");
}

// `-> f32[b t], i32[]` or `-> (loss: f32[], g: @params)`: what `return` must give.
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
  if (!named)
    return !item.bundle.valid() || r_.fail(item.at, "a bundle among results needs a name");
  if (!item.bundle.valid()) {
    names.push_back(p_.intern(name.text));
    return true;
  }
  for (const Leaf& leaf : all_.layouts[item.bundle].leaves)
    names.push_back(p_.intern(fmt::format("{}.{}", name.text, leaf.path)));
  return true;
}

}  // namespace gradc::text
