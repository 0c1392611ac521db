// The verifier's part that looks at the program as a whole: bundles, inputs, entries, calls.
#include <fmt/format.h>

#include <algorithm>

#include "ir/text.h"
#include "ir/verify_parts.h"

namespace gradc::verifier {

void Report::add(Invariant invariant, FunctionId f, OpId op, std::string message, bool printable) {
  if (full()) return;
  std::string where;
  if (f.valid()) where = fmt::format("@{}: ", program.text(program.function(f).name));
  if (op.valid() && printable)
    where += fmt::format("`{}`: ", print_op(program, program.function(f), op));
  faults_.push_back({invariant, f, op, where + message});
}

std::string check_axes(const Program& p, const std::vector<Axis>& axes) {
  if (axes.size() > text::max_axes) return fmt::format("has more than {} axes", text::max_axes);
  std::unordered_set<std::uint32_t> seen;
  for (const Axis& a : axes) {
    const std::string_view name = p.text(a.name);
    if (!text::is_name(name) || name == "_")
      return fmt::format("axis `{}` has no proper name", name);
    if (!seen.insert(a.name.index).second) return fmt::format("two axes are called `{}`", name);
    if (a.extent < 0 || a.extent > text::max_extent)
      return fmt::format("axis `{}` has extent {}", name, a.extent);
  }
  return "";
}

std::string check_type(const std::vector<Axis>& axes, const Type& type) {
  std::int64_t elements = 1;
  for (int i = 0; i < type.axes.size(); ++i) {
    for (int j = 0; j < i; ++j)
      if (type.axes[i] == type.axes[j]) return "a type has an axis twice";
    if (__builtin_mul_overflow(elements, axes[type.axes[i].index].extent, &elements) ||
        elements > text::max_elements)
      return "a value has too many elements";
  }
  return "";
}

namespace {

// Members by name, and none that a turn of a nested bundle could be taken for.
std::string check_members(const Program& p, const Bundle& b) {
  std::unordered_set<std::string> names, nested;
  for (const Member& m : b.members) {
    const std::string name(p.text(m.name));
    if (!text::is_name(name)) return fmt::format("member `{}` has no proper name", name);
    if (!names.insert(name).second) return fmt::format("two members are called `{}`", name);
    if (m.nested.valid()) nested.insert(name);
    if (!m.nested.valid())
      if (std::string why = check_type(b.axes, m.type); !why.empty()) return why;
  }
  for (const std::string& name : names)
    for (std::size_t dot = name.find('.'); dot != std::string::npos; dot = name.find('.', dot + 1))
      if (nested.contains(name.substr(0, dot)))
        return fmt::format("member `{}` looks like a turn of `{}`", name, name.substr(0, dot));
  return "";
}

struct Size {
  std::int64_t members = 0, elements = 0;
  int depth = 1;
  bool done = false, open = false;
};

// What is nested is measured first; "" or what is wrong.
std::string measure(const Program& p, const Bundle& b, const std::vector<Size>& sizes, Size& out) {
  const auto grow = [](std::int64_t& total, std::int64_t times, std::int64_t each,
                       std::int64_t most) {
    std::int64_t n = 0;
    if (__builtin_mul_overflow(times, each, &n) || n > most - total) return false;
    total += n;
    return true;
  };
  for (const Member& m : b.members) {
    std::int64_t elements = 1;
    if (!m.nested.valid())
      for (AxisId a : m.type.axes) elements *= b.axes[a.index].extent;
    const Size inner = m.nested.valid() ? sizes[m.nested.index] : Size{0, elements, 0};
    if (m.nested.valid() && (m.turns < 0 || m.turns > text::max_members))
      return fmt::format("`{}` has {} turns", p.text(m.name), m.turns);
    const std::int64_t times = m.nested.valid() ? m.turns : 1;
    if (!grow(out.members, times, 1 + inner.members, text::max_members))
      return "has too many members";
    if (!grow(out.elements, times, inner.elements, text::max_elements))
      return "has too many elements";
    out.depth = std::max(out.depth, 1 + inner.depth);
    if (out.depth > text::max_depth) return "nests too deep";
  }
  return "";
}

void check_nesting(Report& report) {
  const Program& p = report.program;
  std::vector<Size> sizes(p.bundles.size());
  std::vector<std::pair<BundleId, std::size_t>> stack;
  std::int64_t members = 0;
  for (std::uint32_t i = 0; i < p.bundles.size(); ++i) {
    if (!sizes[i].done && !sizes[i].open) stack.push_back({BundleId{i}, 0});
    while (!stack.empty()) {
      const BundleId b = stack.back().first;
      const Bundle& bundle = p.bundle(b);
      sizes[b.index].open = true;
      if (stack.back().second < bundle.members.size()) {
        const BundleId n = bundle.members[stack.back().second++].nested;
        if (!n.valid() || sizes[n.index].done) continue;
        if (sizes[n.index].open)
          return report.add(bundles,
                            fmt::format("bundle @{} holds itself", p.text(p.bundle(n).name)));
        stack.push_back({n, 0});
        continue;
      }
      if (const std::string why = measure(p, bundle, sizes, sizes[b.index]); !why.empty())
        return report.add(bundles, fmt::format("bundle @{} {}", p.text(bundle.name), why));
      sizes[b.index].done = true;
      members += sizes[b.index].members;
      stack.pop_back();
    }
  }
  if (members > text::max_all_members)
    report.add(bundles, "the bundles have too many members together");
}

template <class Things>
void check_names(Report& report, const Things& things, std::string_view what) {
  std::unordered_set<std::uint32_t> seen;
  for (const auto& t : things) {
    const std::string_view name = report.program.text(t.name);
    if (!text::is_name(name))
      report.add(names, fmt::format("{} `{}` has no proper name", what, name));
    if (!seen.insert(t.name.index).second)
      report.add(names, fmt::format("two {}s are called `{}`", what, name));
  }
}

void check_initialisers(Report& report) {
  const Program& p = report.program;
  for (const Bundle& b : p.bundles)
    for (const Member& m : b.members) {
      if (m.nested.valid() || m.initial.kind != Initial::computed) continue;
      const Function& f = p.function(m.initial.function);
      const auto fits = [&](const Type& t) {
        bool same = t.dtype == m.type.dtype && t.axes.size() == m.type.axes.size();
        for (int i = 0; same && i < t.axes.size(); ++i)
          same = f.extent(t.axes[i]) == b.axes[m.type.axes[i].index].extent;
        return same;
      };
      if (f.family != Family::none || !f.body().arguments.empty() || f.body().results.size() != 1 ||
          !fits(f.type(f.body().results[0])))
        report.add(initialisers, fmt::format("@{} does not compute `{}` of bundle @{}",
                                             p.text(f.name), p.text(m.name), p.text(b.name)));
    }
}

void check_recursion(Report& report) {
  const Program& p = report.program;
  enum : char { fresh, open, done };
  std::vector<char> state(p.functions.size(), fresh);
  std::vector<std::pair<FunctionId, std::size_t>> stack;
  for (std::uint32_t i = 0; i < p.functions.size(); ++i) {
    if (state[i] == fresh) stack.push_back({FunctionId{i}, 0});
    while (!stack.empty()) {
      const FunctionId f = stack.back().first;
      state[f.index] = open;
      const std::vector<Op>& ops = p.function(f).ops;
      if (stack.back().second == ops.size()) {
        state[f.index] = done;
        stack.pop_back();
        continue;
      }
      const FunctionId callee = ops[stack.back().second++].attr.callee;
      if (!callee.valid() || state[callee.index] == done) continue;
      if (state[callee.index] == open)
        return report.add(recursion, f, "calls itself, directly or not");
      stack.push_back({callee, 0});
    }
  }
}

void check_inputs(Report& report) {
  const Program& p = report.program;
  for (const Input& in : p.inputs) {
    std::string why = check_axes(p, in.axes);
    Type t{in.dtype, {}};
    for (std::uint32_t i = 0; i < in.axes.size() && !t.axes.full(); ++i)
      t.axes.push_back(AxisId{i});
    if (why.empty() && in.axes.size() > static_cast<std::size_t>(max_rank))
      why = "has too many axes";
    if (why.empty()) why = check_type(in.axes, t);
    if (why.empty() && in.bounded && (!is_integer(in.dtype) || in.low >= in.high))
      why = "is bounded by nothing";
    if (!why.empty()) report.add(inputs, fmt::format("input `{}` {}", p.text(in.name), why));
  }
}

// "" or what is wrong with an entry's arguments; `given` gets the bundles of %p and %f.
std::string check_arguments(const Program& p, const Function& f, std::vector<BundleId>& given) {
  const std::vector<ValueId>& arguments = f.body().arguments;
  std::size_t at = 0;
  for (const std::string_view name : {"p", "f"})
    for (const Group& g : f.groups)
      if (at < arguments.size() && g.first == arguments[at] && p.text(g.name) == name) {
        at += g.count;
        given.push_back(g.bundle);
        break;
      }
  if (arguments.size() != at + p.inputs.size() + 2)
    return "takes %p, %f, the inputs, %step and %seed";
  for (const Input& in : p.inputs) {
    const Type& t = f.type(arguments[at++]);
    bool same = t.dtype == in.dtype && t.axes.size() == static_cast<int>(in.axes.size());
    for (int i = 0; same && i < t.axes.size(); ++i)
      same = f.extent(t.axes[i]) == in.axes[static_cast<std::size_t>(i)].extent;
    if (!same) return fmt::format("argument {} is not the input `{}`", at - 1, p.text(in.name));
  }
  for (; at < arguments.size(); ++at)
    if (f.type(arguments[at]) != Type{DType::i64, {}}) return "%step and %seed are i64 scalars";
  return "";
}

void check_entry(Report& report, std::string_view name) {
  const Program& p = report.program;
  const FunctionId id = p.find(name);
  if (!id.valid()) return;
  const Function& f = p.function(id);
  std::vector<BundleId> given;
  if (std::string why = check_arguments(p, f, given); !why.empty())
    report.add(entries, id, std::move(why));
  const std::vector<ValueId>& results = f.body().results;
  if (name == "loss" && (results.size() != 1 || !is_real(f.type(results[0]).dtype) ||
                         !f.type(results[0]).axes.empty()))
    report.add(entries, id, "gives one real without axes");
  std::unordered_set<std::string_view> seen;
  for (BundleId b : given)
    for (const Leaf& leaf : report.layouts[b].leaves) {
      if (leaf.stored.empty() || leaf.stored.find('@') != std::string::npos)
        report.add(stored_names, id,
                   fmt::format("`{}` has no stored name: `{}`", leaf.path, leaf.stored));
      else if (!seen.insert(leaf.stored).second)
        report.add(stored_names, id, fmt::format("two parameters are stored as `{}`", leaf.stored));
    }
}

}  // namespace

void check_bundles(Report& report) {
  const Program& p = report.program;
  for (const Bundle& b : p.bundles) {
    std::string why = check_axes(p, b.axes);
    if (why.empty()) why = check_members(p, b);
    if (!why.empty()) report.add(bundles, fmt::format("bundle @{}: {}", p.text(b.name), why));
  }
  if (!report.any()) check_nesting(report);
}

void check_program(Report& report) {
  const Program& p = report.program;
  check_names(report, p.functions, "function");
  check_names(report, p.bundles, "bundle");
  check_names(report, p.inputs, "input");
  check_initialisers(report);
  check_recursion(report);
  check_inputs(report);
  check_entry(report, "loss");
  check_entry(report, "eval");
}

}  // namespace gradc::verifier
