// Interning, bundles unrolled, reachability.
#include "ir/program.h"

#include <algorithm>
#include <iterator>

#include "ir/diagnostic.h"

namespace gradc {
namespace {

constexpr std::string_view families[] = {"function",  "map",       "rows",          "contract",
                                         "read",      "attention", "attention_grad"};
constexpr std::string_view arenas[] = {"none", "p", "f", "g", "m", "v", "rounded", "act", "in", "out"};

template <class E, std::size_t n>
bool parse_enum(const std::string_view (&table)[n], std::string_view text, E& out) {
  for (std::size_t i = 0; i < n; ++i)
    if (table[i] == text) {
      out = static_cast<E>(i);
      return true;
    }
  return false;
}

std::string key_of(const Location& l) {
  std::string key(1, static_cast<char>('0' + static_cast<int>(l.role)));
  for (const SourcePos& p : l.lines) {
    key.append(reinterpret_cast<const char*>(&p.file.index), 4);
    key.append(reinterpret_cast<const char*>(&p.line), 4);
    key.append(reinterpret_cast<const char*>(&p.column), 4);
  }
  return key;
}

// `@` is the innermost turn, `@^` the next one out: turns.back() is the innermost.
std::string fill_turns(const std::string& pattern, const std::vector<std::int64_t>& turns) {
  std::string out;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] != '@') {
      out += pattern[i];
      continue;
    }
    std::size_t level = 0;
    while (i + 1 < pattern.size() && pattern[i + 1] == '^') ++i, ++level;
    if (level < turns.size())
      out += std::to_string(turns[turns.size() - 1 - level]);
    else  // of a bundle that stands by itself, as the parameter of a turn's function does
      out += '@' + std::string(level - turns.size(), '^');
  }
  return out;
}

struct Walk {
  BundleId bundle;
  std::string prefix;
  std::vector<std::int64_t> turns;
  std::size_t member = 0;
  std::int64_t turn = 0;
};

}  // namespace

std::string_view name(Family family) { return families[static_cast<int>(family)]; }
bool parse_family(std::string_view text, Family& out) { return parse_enum(families, text, out); }
std::string_view name(Arena arena) { return arenas[static_cast<int>(arena)]; }
bool parse_arena(std::string_view text, Arena& out) { return parse_enum(arenas, text, out); }

std::int64_t Function::elements(const Type& t) const {
  std::int64_t n = 1;
  for (AxisId a : t.axes) n *= extent(a);
  return n;
}

NameId Program::intern(std::string_view text) {
  auto [it, fresh] = name_index_.try_emplace(std::string(text), static_cast<std::uint32_t>(names.size()));
  if (fresh) names.emplace_back(text);
  return NameId{it->second};
}

LocId Program::intern(const Location& location) {
  auto [it, fresh] = location_index_.try_emplace(key_of(location), static_cast<std::uint32_t>(locations.size()));
  if (fresh) locations.push_back(location);
  return LocId{it->second};
}

const Location& Program::location(LocId id) const {
  static const Location nowhere;
  return id.valid() ? locations[id.index] : nowhere;
}

LocId Program::unite(LocId a, LocId b) {
  if (a == b || !b.valid()) return a;
  if (!a.valid()) return b;
  Location l = location(a);
  const Location& m = location(b);
  std::vector<SourcePos> both;
  std::set_union(l.lines.begin(), l.lines.end(), m.lines.begin(), m.lines.end(), std::back_inserter(both));
  l.lines = std::move(both);
  return intern(l);
}

LocId Program::with_role(LocId a, Role role) {
  Location l = location(a);
  l.role = role;
  return intern(l);
}

FunctionId Program::find(std::string_view function_name) const {
  for (std::size_t i = 0; i < functions.size(); ++i)
    if (text(functions[i].name) == function_name) return FunctionId{static_cast<std::uint32_t>(i)};
  return {};
}

std::string Program::unique_function_name(std::string_view wish) const {
  std::string out(wish);
  for (int i = 1; find(out).valid(); ++i) out = std::string(wish) + "." + std::to_string(i);
  return out;
}

std::vector<Leaf> leaves(const Program& program, BundleId root) {
  std::vector<Leaf> out;
  std::int64_t offset = 0;
  std::vector<Walk> stack{{root, "", {}, 0, 0}};
  while (!stack.empty()) {
    Walk& w = stack.back();
    const Bundle& bundle = program.bundle(w.bundle);
    if (w.member == bundle.members.size()) {
      stack.pop_back();
      continue;
    }
    const Member& m = bundle.members[w.member];
    const std::string path = w.prefix + std::string(program.text(m.name));
    if (m.nested.valid()) {
      if (w.turn == m.turns) {
        ++w.member;
        w.turn = 0;
        continue;
      }
      std::vector<std::int64_t> turns = w.turns;
      turns.push_back(w.turn);
      const std::string prefix = path + "." + std::to_string(w.turn++) + ".";
      stack.push_back({m.nested, prefix, std::move(turns), 0, 0});  // invalidates w
      continue;
    }
    ++w.member;
    Leaf leaf{.path = path, .stored = fill_turns(m.stored, w.turns), .bundle = w.bundle, .member = &m, .extents = {},
              .elements = 1, .offset = offset};
    for (AxisId a : m.type.axes) {
      leaf.extents.push_back(bundle.axes[a.index].extent);
      leaf.elements *= leaf.extents.back();
    }
    offset += leaf.elements;
    out.push_back(std::move(leaf));
  }
  return out;
}

std::int64_t leaf_count(const Program& program, BundleId bundle) {
  std::int64_t n = 0;
  for (const Member& m : program.bundle(bundle).members)
    n += m.nested.valid() ? m.turns * leaf_count(program, m.nested) : 1;  // as deep as repeats nest
  return n;
}

std::int64_t element_count(const Program& program, BundleId bundle) {
  std::int64_t n = 0;
  const Bundle& b = program.bundle(bundle);
  for (const Member& m : b.members) {
    std::int64_t k = 1;
    if (m.nested.valid())
      k = m.turns * element_count(program, m.nested);
    else
      for (AxisId a : m.type.axes) k *= b.axes[a.index].extent;
    n += k;
  }
  return n;
}

std::vector<FunctionId> reachable(const Program& program, const std::vector<FunctionId>& roots) {
  std::vector<char> seen(program.functions.size(), 0);
  std::vector<FunctionId> order;
  struct Frame {
    FunctionId function;
    std::size_t next = 0;
  };
  std::vector<Frame> stack;
  const auto enter = [&](FunctionId f) {
    if (!f.valid() || seen[f.index]) return;
    seen[f.index] = 1;
    stack.push_back({f});
  };
  const auto run = [&] {
    while (!stack.empty()) {
      const FunctionId f = stack.back().function;
      const Function& fn = program.function(f);
      if (stack.back().next == fn.ops.size()) {
        order.push_back(f);
        stack.pop_back();
        continue;
      }
      enter(fn.ops[stack.back().next++].attr.callee);
    }
  };
  for (FunctionId root : roots) {
    enter(root);
    run();
  }
  for (const Bundle& b : program.bundles)
    for (const Member& m : b.members) {
      enter(m.initial.function);
      run();
    }
  return order;
}

void drop_unreachable(Program& program, const std::vector<std::string>& roots) {
  std::vector<FunctionId> ids;
  for (const std::string& r : roots)
    if (FunctionId f = program.find(r); f.valid()) ids.push_back(f);
  std::vector<FunctionId> keep = reachable(program, ids);
  std::sort(keep.begin(), keep.end());
  std::vector<FunctionId> now(program.functions.size());
  std::vector<Function> functions;
  for (FunctionId f : keep) {
    now[f.index] = FunctionId{static_cast<std::uint32_t>(functions.size())};
    functions.push_back(std::move(program.functions[f.index]));
  }
  program.functions = std::move(functions);
  for (Function& f : program.functions)
    for (Op& o : f.ops)
      if (o.attr.callee.valid()) o.attr.callee = now[o.attr.callee.index];
  for (Bundle& b : program.bundles)
    for (Member& m : b.members)
      if (m.initial.function.valid()) m.initial.function = now[m.initial.function.index];
}

}  // namespace gradc
