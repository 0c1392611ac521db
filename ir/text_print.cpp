// Printing of programs: bundles, inputs, training settings, then functions, callees first.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "ir/text_function.h"

namespace gradc {
namespace {

using namespace text;

std::string initial_text(const Program& p, const Initial& i) {
  switch (i.kind) {
    case Initial::none: return "";
    case Initial::number: return " = " + print_real(i.value);
    case Initial::normal: return fmt::format(" ~ normal({})", print_real(i.value));
    case Initial::uniform: return fmt::format(" ~ uniform({})", print_real(i.value));
    case Initial::computed: return fmt::format(" = @{}", p.text(p.function(i.function).name));
  }
  return "";
}

// Axes by their place in `axes`, with extents where they occur first.
void append_type(std::string& out, const Program& p, const std::vector<Axis>& axes, const Type& t,
                 std::vector<char>& seen) {
  out.append(name(t.dtype)) += '[';
  for (int i = 0; i < t.axes.size(); ++i) {
    const Axis& a = axes[t.axes[i].index];
    out += fmt::format("{}{}", i > 0 ? " " : "", p.text(a.name));
    if (!seen[t.axes[i].index]) out += fmt::format("={}", a.extent);
    seen[t.axes[i].index] = 1;
  }
  out += ']';
}

void append_bundle(std::string& out, const Program& p, const Bundle& b, bool whole) {
  out += fmt::format("bundle @{} {{", p.text(b.name));
  if (!whole) {
    out += " … }\n";
    return;
  }
  out += '\n';
  std::vector<char> seen(b.axes.size(), 0);
  for (const Member& m : b.members) {
    out += fmt::format("  {}: ", p.text(m.name));
    if (m.nested.valid()) {
      out += fmt::format("{} x @{}\n", m.turns, p.text(p.bundle(m.nested).name));
      continue;
    }
    append_type(out, p, b.axes, m.type, seen);
    if (!m.stored.empty()) out += " as " + quoted(m.stored);
    out += initial_text(p, m.initial);
    if (!m.decay) out += " no_decay";
    if (!m.clip) out += " no_clip";
    out += '\n';
  }
  out += "}\n";
}

void append_input(std::string& out, const Program& p, const Input& input) {
  out += fmt::format("input %{}: {}[", p.text(input.name), name(input.dtype));
  for (std::size_t i = 0; i < input.axes.size(); ++i)
    out +=
        fmt::format("{}{}={}", i > 0 ? " " : "", p.text(input.axes[i].name), input.axes[i].extent);
  out += ']';
  if (input.bounded) out += fmt::format(" in {} .. {}", input.low, input.high);
  out += '\n';
}

std::string training_text(const Training& t) {
  constexpr std::string_view schedules[] = {"constant", "cosine", "linear"};
  const std::string lr = fmt::format("{}({}, {})", schedules[t.lr.kind], print_real(t.lr.peak),
                                     print_real(t.lr.warmup));
  const std::string rest =
      fmt::format("clip={} except={} steps={}", print_real(t.clip), quoted(t.except), t.steps);
  if (t.kind == Training::sgd)
    return fmt::format("train sgd lr={} momentum={} {}\n", lr, print_real(t.momentum), rest);
  return fmt::format("train adamw lr={} betas=({}, {}) eps={} weight_decay={} {}\n", lr,
                     print_real(t.beta1), print_real(t.beta2), print_real(t.eps),
                     print_real(t.weight_decay), rest);
}

// The bundles that the functions' text names, and what is nested in them.
std::vector<char> used_bundles(const Program& p, const std::vector<FunctionId>& functions) {
  std::vector<char> used(p.bundles.size(), 0);
  std::vector<BundleId> todo;
  const auto mark = [&](BundleId b) {
    if (!b.valid() || used[b.index]) return;
    used[b.index] = 1;
    todo.push_back(b);
  };
  for (FunctionId f : functions) {
    for (const Group& g : p.function(f).groups) mark(g.bundle);
    for (const Op& op : p.function(f).ops) mark(op.attr.bundle);
  }
  while (!todo.empty()) {
    const BundleId b = todo.back();
    todo.pop_back();
    for (const Member& m : p.bundle(b).members) mark(m.nested);
  }
  return used;
}

// Nested bundles before those that hold them, otherwise in order.
std::vector<BundleId> bundle_order(const Program& p) {
  std::vector<BundleId> order;
  std::vector<char> seen(p.bundles.size(), 0);
  struct Frame {
    BundleId bundle;
    std::size_t next = 0;
  };
  std::vector<Frame> stack;
  const auto enter = [&](BundleId b) {
    if (!b.valid() || seen[b.index]) return;
    seen[b.index] = 1;
    stack.push_back({b});
  };
  for (std::uint32_t i = 0; i < p.bundles.size(); ++i) {
    enter(BundleId{i});
    while (!stack.empty()) {
      const BundleId b = stack.back().bundle;
      if (stack.back().next < p.bundle(b).members.size()) {
        enter(p.bundle(b).members[stack.back().next++].nested);
      } else {
        order.push_back(b);
        stack.pop_back();
      }
    }
  }
  return order;
}

std::vector<FunctionId> function_order(const Program& p, const PrintOptions& options) {
  std::vector<FunctionId> roots;
  for (const std::string& name : options.functions)
    if (const FunctionId f = p.find(name); f.valid()) roots.push_back(f);
  if (options.functions.empty())
    for (std::uint32_t i = 0; i < p.functions.size(); ++i) roots.push_back(FunctionId{i});
  return reachable(p, roots);
}

ResultBundles result_bundles(const Program& p, Layouts& layouts, const std::vector<char>& used) {
  constexpr std::size_t most = 8;  // of bundles that begin alike
  ResultBundles out;
  for (BundleId b : bundle_order(p)) {
    if (!used[b.index]) continue;
    const std::vector<Leaf>& leaves = layouts[b].leaves;
    if (leaves.empty()) continue;
    std::vector<BundleId>& list = out.by_first_leaf[leaves[0].path];
    if (list.size() < most) list.push_back(b);
  }
  return out;
}

}  // namespace

std::string print_real(double x) {
  if (std::isnan(x)) return "nan";
  std::string out = fmt::format("{}", x);
  if (out.find_first_not_of("-0123456789") == std::string::npos) out += ".0";
  return out;
}

std::string print(const Program& p, const PrintOptions& options) {
  const std::vector<FunctionId> functions = function_order(p, options);
  const std::vector<char> used = options.functions.empty() ? std::vector<char>(p.bundles.size(), 1)
                                                           : used_bundles(p, functions);
  Layouts layouts(p);
  const ResultBundles results = result_bundles(p, layouts, used);
  std::string out;
  for (BundleId b : bundle_order(p)) {
    if (!used[b.index]) continue;
    append_bundle(out, p, p.bundle(b), options.bodies);
    if (options.bodies) out += '\n';
  }
  for (const Input& input : p.inputs) append_input(out, p, input);
  if (const std::string text = training_text(p.training); text != training_text(Training{}))
    out += text;
  if (!out.empty() && !out.ends_with("\n\n")) out += '\n';
  for (FunctionId f : functions)
    out += FunctionPrinter(p, p.function(f), layouts, results, options).whole() + "\n";
  if (out.ends_with("\n\n")) out.pop_back();
  return out;
}

std::string print_function(const Program& p, FunctionId f, const PrintOptions& options) {
  Layouts layouts(p);
  const std::vector<char> used(p.bundles.size(), 1);
  const ResultBundles results = result_bundles(p, layouts, used);
  return FunctionPrinter(p, p.function(f), layouts, results, options).whole();
}

std::string print_op(const Program& p, const Function& f, OpId op) {
  Layouts layouts(p);
  return FunctionPrinter(p, f, layouts, {}, {}).one(op);
}

}  // namespace gradc
