// Parsing of programs: bundles, inputs, training settings; functions are in
// ir/text_parse_function.cpp.
#include "ir/text_parse.h"

#include <fmt/format.h>

#include "ir/text.h"

namespace gradc {
namespace text {

bool Parsed::take_bundle(BundleId& out) {
  Token name;
  if (!reader.take(Tok::symbol, "a bundle's name", name)) return false;
  const auto it = bundles.find(std::string(name.text));
  if (it == bundles.end())
    return reader.fail(name.at, fmt::format("no bundle `@{}` is declared above", name.text));
  out = it->second.id;
  return true;
}

bool take_extent(Reader& r, std::int64_t& out) {
  if (!r.take("=")) return false;
  const Span at = r.token().at;
  if (!r.take_integer(out)) return false;
  return (out >= 0 && out <= max_extent) ||
         r.fail(at, fmt::format("an extent is 0 to {}", max_extent));
}

bool take_dtype(Reader& r, DType& out) {
  if (!r.at(Tok::word) || !parse_dtype(r.token().text, out)) return r.unexpected("a dtype");
  r.advance();
  return true;
}

namespace {

struct Initialiser {
  BundleId bundle;
  std::size_t member;
  Token function;
};

class ProgramParser {
 public:
  explicit ProgramParser(Reader& r) : r_(r), p_(r) {}

  bool run() {
    for (r_.skip_newlines(); !r_.at(Tok::end); r_.skip_newlines()) {
      const bool ok = r_.at_word("bundle")  ? bundle()
                      : r_.at_word("input") ? input()
                      : r_.at_word("train") ? train()
                      : r_.at_word("func") || r_.at_word("kernel")
                          ? parse_function(p_)
                          : r_.unexpected("`bundle`, `input`, `train`, `func` or `kernel`");
      if (!ok) return false;
    }
    for (const Initialiser& i : initialisers_) {
      const auto it = p_.functions.find(std::string(i.function.text));
      if (it == p_.functions.end())
        return r_.fail(i.function.at, fmt::format("there is no function `@{}`", i.function.text));
      p_.program.bundles[i.bundle.index].members[i.member].initial.function = it->second.id;
    }
    return true;
  }
  Program take() { return std::move(p_.program); }

 private:
  bool bundle();
  bool member(Bundle& b, std::vector<Span>& axes_at, Parsed::BundleSize& size);
  bool nested(Member& m, Parsed::BundleSize& size);
  bool tensor(Bundle& b, Member& m, std::vector<Span>& axes_at, Parsed::BundleSize& size);
  bool bundle_type(Bundle& b, Type& t, std::vector<Span>& axes_at, std::int64_t& elements);
  bool initial(Bundle& b, Initial& out);
  bool input();
  bool train();
  bool setting(std::string_view key, Training& t);

  Reader& r_;
  Parsed p_;
  std::vector<Initialiser> initialisers_;
  std::unordered_map<std::string, Span> inputs_;
  std::unordered_map<std::string, AxisId> axes_;  // of the bundle that is being read
  std::int64_t members_ = 0;                      // of all bundles
  std::optional<Span> train_at_;
};

bool ProgramParser::bundle() {
  r_.advance();
  Token name;
  if (!r_.take(Tok::symbol, "the bundle's name", name)) return false;
  if (!is_name(name.text)) return r_.fail(name.at, "a name begins with a letter");
  if (const auto it = p_.bundles.find(std::string(name.text)); it != p_.bundles.end())
    return r_.fail(name.at, fmt::format("bundle `@{}` is declared twice", name.text), it->second.at,
                   "first here");
  if (!r_.take("{") || !r_.take_newline()) return false;
  Bundle b;
  b.name = p_.program.intern(name.text);
  Parsed::BundleSize size;
  std::unordered_map<std::string, Span> names;
  std::vector<Span> axes_at;
  axes_.clear();
  while (!r_.at_punct("}")) {
    Token word;
    if (!r_.take(Tok::word, "a member's name or `}`", word)) return false;
    if (const auto [it, fresh] = names.emplace(word.text, word.at); !fresh)
      return r_.fail(word.at, fmt::format("member `{}` is declared twice", word.text), it->second,
                     "first here");
    b.members.emplace_back().name = p_.program.intern(word.text);
    if (!r_.take(":") || !member(b, axes_at, size) || !r_.take_newline()) return false;
    if (size.members > max_members)
      return r_.fail(word.at, fmt::format("a bundle has more than {} members", max_members));
    if (size.elements > max_elements) return r_.fail(word.at, "a bundle has too many elements");
    if (size.depth > max_depth)
      return r_.fail(word.at, fmt::format("bundles nest deeper than {}", max_depth));
  }
  r_.advance();
  members_ += size.members;
  if (members_ > max_all_members)
    return r_.fail(name.at, "the bundles have too many members together");
  const BundleId id{static_cast<std::uint32_t>(p_.program.bundles.size())};
  p_.bundles.emplace(name.text, Parsed::Declared<BundleId>{id, name.at});
  p_.sizes.push_back(size);
  p_.program.bundles.push_back(std::move(b));
  return r_.take_newline();
}

bool ProgramParser::member(Bundle& b, std::vector<Span>& axes_at, Parsed::BundleSize& size) {
  if (r_.at(Tok::number)) return nested(b.members.back(), size);
  return tensor(b, b.members.back(), axes_at, size);
}

bool ProgramParser::nested(Member& m, Parsed::BundleSize& size) {
  const Span at = r_.token().at;
  if (!r_.take_integer(m.turns) || !r_.take_word("x") || !p_.take_bundle(m.nested)) return false;
  if (m.turns < 0 || m.turns > max_members)
    return r_.fail(at, fmt::format("a bundle has 0 to {} turns", max_members));
  const Parsed::BundleSize& inner = p_.sizes[m.nested.index];
  size.members += m.turns * (1 + inner.members);
  size.depth = std::max(size.depth, 1 + inner.depth);
  std::int64_t elements = 0;
  if (__builtin_mul_overflow(m.turns, inner.elements, &elements) || elements > max_elements)
    elements = max_elements + 1;
  size.elements += elements;
  return true;
}

bool ProgramParser::tensor(Bundle& b, Member& m, std::vector<Span>& axes_at,
                           Parsed::BundleSize& size) {
  std::int64_t elements = 1;
  if (!bundle_type(b, m.type, axes_at, elements)) return false;
  size.members += 1;
  size.elements += elements;
  if (r_.skip_word("as") && !r_.take_string(m.stored)) return false;
  if (!initial(b, m.initial)) return false;
  m.decay = !r_.skip_word("no_decay");
  m.clip = !r_.skip_word("no_clip");
  return true;
}

bool ProgramParser::bundle_type(Bundle& b, Type& t, std::vector<Span>& axes_at,
                                std::int64_t& elements) {
  if (!take_dtype(r_, t.dtype) || !r_.take("[")) return false;
  while (!r_.at_punct("]")) {
    Token word;
    if (!r_.take(Tok::word, "an axis or `]`", word)) return false;
    const auto [it, fresh] =
        axes_.emplace(word.text, AxisId{static_cast<std::uint32_t>(b.axes.size())});
    if (fresh) {
      if (word.text == "_") return r_.fail(word.at, "`_` names no axis");
      if (!r_.at_punct("="))
        return r_.fail(
            word.at,
            fmt::format("axis `{}` needs its extent here, where it occurs first", word.text));
      if (b.axes.size() == max_axes) return r_.fail(word.at, "too many axes");
      b.axes.push_back({p_.program.intern(word.text), 0});
      axes_at.push_back(word.at);
      if (!take_extent(r_, b.axes.back().extent)) return false;
    } else if (r_.at_punct("=")) {
      std::int64_t again = 0;
      if (!take_extent(r_, again)) return false;
      if (const std::int64_t first = b.axes[it->second.index].extent; again != first)
        return r_.fail(word.at,
                       fmt::format("axis `{}` has two extents: {} and {}", word.text, first, again),
                       axes_at[it->second.index], "first here");
    }
    const AxisId a = it->second;
    if (t.axes.contains(a))
      return r_.fail(word.at, fmt::format("axis `{}` stands twice in a type", word.text));
    if (t.axes.full())
      return r_.fail(word.at, fmt::format("a type has more than {} axes", max_rank));
    t.axes.push_back(a);
    if (__builtin_mul_overflow(elements, b.axes[a.index].extent, &elements) ||
        elements > max_elements)
      return r_.fail(word.at, "a tensor has too many elements");
  }
  r_.advance();
  return true;
}

bool ProgramParser::initial(Bundle& b, Initial& out) {
  if (r_.skip("~")) {
    if (r_.skip_word("normal"))
      out.kind = Initial::normal;
    else if (r_.skip_word("uniform"))
      out.kind = Initial::uniform;
    else
      return r_.unexpected("`normal` or `uniform`");
    return r_.take("(") && r_.take_real(out.value) && r_.take(")");
  }
  if (!r_.skip("=")) return true;
  if (!r_.at(Tok::symbol)) {
    out.kind = Initial::number;
    return r_.take_real(out.value);
  }
  out.kind = Initial::computed;
  initialisers_.push_back({BundleId{static_cast<std::uint32_t>(p_.program.bundles.size())},
                           b.members.size() - 1, r_.token()});
  r_.advance();
  return true;
}

bool ProgramParser::input() {
  r_.advance();
  Token name;
  Input in;
  if (!r_.take(Tok::value, "the input's name", name)) return false;
  if (!is_name(name.text)) return r_.fail(name.at, "a name begins with a letter");
  if (const auto [it, fresh] = inputs_.emplace(name.text, name.at); !fresh)
    return r_.fail(name.at, fmt::format("input `%{}` is declared twice", name.text), it->second,
                   "first here");
  in.name = p_.program.intern(name.text);
  Bundle scope;
  Type t;
  std::vector<Span> axes_at;
  std::int64_t elements = 1;
  axes_.clear();
  if (!r_.take(":") || !bundle_type(scope, t, axes_at, elements)) return false;
  in.dtype = t.dtype;
  in.axes = scope.axes;
  if (r_.skip_word("in")) {
    in.bounded = true;
    if (!r_.take_integer(in.low) || !r_.take("..") || !r_.take_integer(in.high)) return false;
  }
  p_.program.inputs.push_back(std::move(in));
  return r_.take_newline();
}

bool ProgramParser::train() {
  if (train_at_) return r_.fail(r_.token().at, "`train` stands twice", *train_at_, "first here");
  train_at_ = r_.token().at;
  r_.advance();
  Training t;
  if (r_.skip_word("sgd"))
    t.kind = Training::sgd;
  else if (!r_.skip_word("adamw"))
    return r_.unexpected("`adamw` or `sgd`");
  while (r_.at(Tok::word)) {
    const std::string key(r_.token().text);
    const Span at = r_.token().at;
    r_.advance();
    if (!r_.take("=")) return false;
    if (!setting(key, t))
      return r_.fail(at, fmt::format("no training setting is called `{}`", key));
  }
  p_.program.training = t;
  return r_.take_newline();
}

bool ProgramParser::setting(std::string_view key, Training& t) {
  if (key == "lr") {
    if (r_.skip_word("cosine"))
      t.lr.kind = Schedule::cosine;
    else if (r_.skip_word("linear"))
      t.lr.kind = Schedule::linear;
    else if (!r_.take_word("constant"))
      return false;
    return r_.take("(") && r_.take_real(t.lr.peak) && r_.take(",") && r_.take_real(t.lr.warmup) &&
           r_.take(")");
  }
  if (key == "betas")
    return r_.take("(") && r_.take_real(t.beta1) && r_.take(",") && r_.take_real(t.beta2) &&
           r_.take(")");
  if (key == "except") return r_.take_string(t.except);
  if (key == "steps") return r_.take_integer(t.steps);
  double* const real = key == "eps"            ? &t.eps
                       : key == "weight_decay" ? &t.weight_decay
                       : key == "clip"         ? &t.clip
                       : key == "momentum"     ? &t.momentum
                                               : nullptr;
  return real != nullptr && r_.take_real(*real);
}

}  // namespace
}  // namespace text

Result<Program> parse_ir(const Sources& sources, std::uint32_t source) {
  text::Reader reader(sources.text(source), source);
  text::ProgramParser parser(reader);
  if (!parser.run()) return reader.failure();
  return parser.take();
}

}  // namespace gradc
