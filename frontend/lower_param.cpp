// Parameters: what they are called in files and in the IR, and how they start (rule 15).
#include <algorithm>

#include "frontend/lowerer.h"

namespace gradc {

// A path with one more label. A turn's `@` is followed by a byte that tells which repeat it belongs
// to, counted from the outside: stored names count from the inside, and that is known only at the
// parameter.
std::string Lowerer::label(const std::string& path, const std::string& text, int level, Span at) {
  if (text == ".") return path;
  std::string out = path;
  if (!out.empty()) out += '.';
  for (char c : text) {
    out += c;
    if (c != '@') continue;
    if (level == 0)
      report_.error(at, "`@` stands for the turn of a repeat, and there is none around");
    out += static_cast<char>(0x80 + level);
  }
  return out;
}

std::string Lowerer::stored_name(const std::string& path) const {
  std::string out;
  for (std::size_t i = 0; i < path.size(); ++i) {
    out += path[i];
    if (path[i] != '@') continue;
    const int level = static_cast<unsigned char>(path[++i]) - 0x80;
    out.append(static_cast<std::size_t>(turns_around_ - level), '^');
  }
  return out;
}

// Names within a bundle are names of the IR: segments of letters, digits and `_`, none begins with
// a digit.
std::string Lowerer::member_name(const std::string& path, const std::string& text) const {
  std::string out = path;
  std::string segment;
  const auto flush = [&] {
    if (segment.empty()) return;
    if (!out.empty()) out += '.';
    if (segment[0] >= '0' && segment[0] <= '9') out += '_';
    out += segment;
    segment.clear();
  };
  for (char c : text)
    if (c == '.')
      flush();
    else if (c != '@')
      segment += c;
  flush();
  return out;
}

// The wish, or with a number behind it: no two members have one name, and none looks like a member
// of a turn, `h.wte` beside a repeat called `h`.
std::string Lowerer::free_member(std::uint32_t bundle, const std::string& wish, bool nested) {
  MemberNames& names = member_names_[bundle];
  std::string name = wish;
  const auto numbered = [&](std::size_t end, auto&& taken) {
    const std::string head = name.substr(0, end), tail = name.substr(end);
    std::string other = head;
    for (int i = 2; taken(other); ++i) other = head + "_" + std::to_string(i);
    name = other + tail;
    return other.size();
  };
  for (std::size_t dot = name.find('.'); dot != std::string::npos; dot = name.find('.', dot + 1))
    dot = numbered(dot, [&](const std::string& head) { return names.nested.contains(head); });
  numbered(name.size(), [&](const std::string& head) {
    return names.all.contains(head) || (nested && names.prefixes.contains(head));
  });
  names.all.insert(name);
  if (nested) names.nested.insert(name);
  for (std::size_t dot = name.find('.'); dot != std::string::npos; dot = name.find('.', dot + 1))
    names.prefixes.insert(name.substr(0, dot));
  return name;
}

void Lowerer::param_statement(const ast::Stmt& s) {
  Initial initial{Initial::normal, 0.02, {}};
  bool fine = true;
  if (s.init.kind == ast::Init::value) {
    initial = {Initial::computed, 0, {}};
  } else if (s.init.kind != ast::Init::none) {
    const auto n = number(s.init.expr, "an initialiser");
    fine = n.has_value();
    initial.value = n ? n->value() : 0;
    initial.kind = s.init.kind == ast::Init::number   ? Initial::number
                   : s.init.kind == ast::Init::normal ? Initial::normal
                                                      : Initial::uniform;
    if (n && initial.kind != Initial::number && initial.value < 0) {
      report_.error(expr(s.init.expr).at,
                    fmt::format("a spread of {}; it cannot be negative", n->text()));
      fine = false;
    }
  }
  for (const ast::ParamDecl& d : s.decls) {
    // Extents first: they may make the axes of the declarations that follow.
    for (std::size_t i = 0; i < d.axes.size(); ++i)
      if (d.extents[i].valid()) {
        const auto n = extent(d.extents[i], d.axes[i].text);
        if (n) make_axis(d.axes[i].text, *n, d.axes[i].at);
      }
    if (fine) declare(d, s, initial);
  }
}

Term Lowerer::fixed_value(const ast::ParamDecl& d, const ast::Stmt& s, const Axes& axes) {
  Axes listed = std::exchange(frame_.listed, axes);
  Term t = eval(s.init.expr);
  frame_.listed = std::move(listed);
  const Span at = expr(s.init.expr).at;
  if (!t.ok()) return {};
  if (const Axes missing = without(t.axes, axes); !missing.empty()) {
    report_.error(d.name.at,
                  fmt::format("`{}` does not list the axis `{}`, which its value has: {}",
                              d.name.text, missing[0]->name, describe(t)),
                  {{at, "its value"}});
    return {};
  }
  if (!t.positional) {
    report_.error(
        at, fmt::format(
                "the value of the fixed parameter `{}` must be made of positions and numbers alone",
                d.name.text));
    return {};
  }
  return terms_.expand(terms_.to_real(t, at), axes, at);
}

void Lowerer::declare(const ast::ParamDecl& d, const ast::Stmt& s, Initial initial) {
  Axes axes;
  bool fine = may_bind(d.name, false);
  fine = axis_list(d.axes, axes) && fine && terms_.room(axes, d.name.at);
  const bool fixed = initial.kind == Initial::computed;
  Term value;
  if (frame_.path.empty() && d.path && d.path->text == ".") {
    report_.error(d.path->at,
                  "`.` adds nothing to the labels around, and here are none: the parameter would "
                  "have no name in files");
    fine = false;
  }
  if (fine && fixed) {
    value = fixed_value(d, s, axes);
    fine = value.ok();
  }
  Term t;
  if (fine) {
    const std::uint32_t bundle =
        fixed ? graph_.instances[instance_].fixed : graph_.instances[instance_].trained;
    ParamMember m{.name = member_name(frame_.members, d.name.text),
                  .type = {terms_.real(), {}},
                  .initial = initial,
                  .at = d.name.at};
    m.stored = stored_name(label(frame_.path, d.path ? d.path->text : d.name.text, turns_around_,
                                 d.path ? d.path->at : d.name.at));
    if (fixed) m.computed = value.node;
    for (const NamedAxis* a : axes) m.type.axes.push_back(a->storage);
    std::uint32_t& slot = fixed ? cursor_.fixed : cursor_.trained;
    std::vector<ParamMember>& members = graph_.bundles[bundle].members;
    Node n{.kind = Node::param,
           .item = static_cast<std::uint32_t>(graph_.params.size()),
           .type = m.type,
           .at = d.name.at};
    // A turn that is unrolled declares what the first one did.
    if (slot == members.size()) {
      m.name = free_member(bundle, m.name, false);
      members.push_back(std::move(m));
    }
    graph_.params.push_back({instance_, slot++, fixed});
    t.kind = Term::tensor;
    t.dtype = n.type.dtype;
    t.trained = !fixed;
    t.axes = t.data = axes;
    t.node = graph_.add(std::move(n));
  }
  if (fine || frame_.scope->find(d.name.text) == nullptr)
    bind_value(d.name, std::move(t), Binding::param);
}

}  // namespace gradc
