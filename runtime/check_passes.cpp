// The interpreter before and behind each pass.
#include "runtime/check_passes.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <unordered_map>

#include "passes/passes.h"
#include "runtime/initial.h"

namespace gradc {
namespace {

constexpr double rate = 0.01;        // @step's lr
constexpr std::int64_t at_step = 2;  // its step: the first ones forgive much
constexpr double floor_of_gradients = 1e-4;
constexpr double infinite = std::numeric_limits<double>::infinity();

double largest(const Array& a) {
  double out = 0;
  for (const double x : a.real)
    if (std::isfinite(x)) out = std::max(out, std::abs(x));
  return out;
}

// Relative to `scale`, which is not 0 where anything may differ.
double difference(const Array& a, const Array& b, double scale) {
  if (a.dtype != b.dtype || a.extents != b.extents || a.integer != b.integer) return infinite;
  double out = 0;
  for (std::size_t i = 0; i < a.real.size(); ++i) {
    const double x = a.real[i], y = b.real[i];
    if (x == y || (std::isnan(x) && std::isnan(y))) continue;
    const double d = std::abs(x - y) / scale;
    out = std::isnan(d) ? infinite : std::max(out, d);
  }
  return out;
}

std::int64_t operations(const Program& program) {
  std::int64_t n = 0;
  for (const Function& f : program.functions) n += static_cast<std::int64_t>(f.ops.size());
  return n;
}

const Group* argument_group(const Function& f, ValueId first) {
  for (const Group& g : f.groups)
    if (g.first == first && g.count > 0) return &g;
  return nullptr;
}

bool is_scalar(const Type& t, DType dtype) { return t == Type{dtype, {}}; }

}  // namespace

Result<PassCheck> PassCheck::begin(const Program& program, std::uint64_t seed) {
  PassCheck check;
  Result<OracleFeed> feed = random_feed(program, seed);
  if (!feed) return feed.failure();
  check.feed_ = std::move(*feed);
  check.feed_.step = at_step;
  check.feed_.seed = static_cast<std::int64_t>(seed);
  const auto n = static_cast<std::int64_t>(check.feed_.p.size());
  check.m_ = check.v_ = Array::zeros(DType::f32, {n});
  for (std::size_t i = 0; i < check.feed_.p.size(); ++i) {
    check.m_.real[i] = 0.1 * initial_normal(seed, fnv1a("m"), i);
    check.v_.real[i] = 0.1 * (1.1 + initial_uniform(seed, fnv1a("v"), i));
  }
  Result<std::vector<NamedArray>> values = check.values(program);
  if (!values) return values.failure();
  check.before_ = std::move(*values);
  check.operations_ = operations(program);
  return check;
}

// By position: @step(%p, %f, %m, %v, inputs, %step, %seed, %lr, %rounded), the others without m, v and lr. Of
// an input only the name's beginning is sure, since another argument may have taken the name.
Result<std::vector<Array>> PassCheck::arguments(const Program& program,
                                                std::string_view entry) const {
  const Function& f = program.function(program.find(entry));
  std::vector<Array> out;
  std::size_t input = 0;
  int moments = entry == "step" ? (program.training.kind == Training::adamw ? 2 : 1) : 0;
  const std::vector<ValueId>& formal = f.body().arguments;
  while (out.size() < formal.size()) {
    const ValueId v = formal[out.size()];
    const Type& t = f.type(v);
    const std::string_view name = program.text(f.value(v).name);
    if (const Group* g = argument_group(f, v)) {
      const std::vector<double>& flat = program.text(g->name) == "f" ? feed_.f : feed_.p;
      std::size_t done = 0;
      for (std::uint32_t i = 0; i < g->count; ++i) {
        const Type& member = f.type(ValueId{v.index + i});
        Array a = Array::zeros(member.dtype, extents_of(f, member));
        if (done + a.real.size() > flat.size()) internal_error("a group beyond its values");
        std::copy_n(flat.begin() + static_cast<std::ptrdiff_t>(done), a.real.size(),
                    a.real.begin());
        done += a.real.size();
        if (member.dtype == DType::bf16)   // %rounded
          for (double& x : a.real) x = round_to(x, DType::bf16);
        out.push_back(std::move(a));
      }
      continue;
    }
    if (moments > 0) {
      out.push_back(moments-- == 2 || program.training.kind != Training::adamw ? m_ : v_);
      out.back().dtype = t.dtype;
      continue;
    }
    const auto names_it = [&](const Input& in) { return name.starts_with(program.text(in.name)); };
    while (input < program.inputs.size() && !names_it(program.inputs[input])) ++input;
    if (input < program.inputs.size())
      out.push_back(feed_.inputs.at(std::string(program.text(program.inputs[input++].name))));
    else if (is_scalar(t, DType::i64))
      out.push_back(Array::scalar(name.starts_with("step") ? feed_.step : feed_.seed, DType::i64));
    else
      out.push_back(Array::scalar(rate, t.dtype));
  }
  return out;
}

Result<std::vector<NamedArray>> PassCheck::values(const Program& program) const {
  std::vector<NamedArray> out;
  const auto run = [&](std::string_view entry, auto&& name_of) -> Result<Done> {
    const FunctionId id = program.find(entry);
    if (!id.valid()) return Done{};
    Result<std::vector<Array>> in = arguments(program, entry);
    if (!in) return in.failure();
    Result<std::vector<Array>> results = evaluate(program, id, *in);
    if (!results) return results.failure();
    for (std::size_t i = 0; i < results->size(); ++i) {
      std::string name = name_of(program.function(id), i);
      const auto same = [&](const NamedArray& n) { return n.name == name; };
      if (name.empty() || std::any_of(out.begin(), out.end(), same)) continue;
      out.push_back({std::move(name), std::move((*results)[i])});
    }
    return Done{};
  };
  const auto result_name = [&](const Function& f, std::size_t i) {
    return std::string(program.text(f.result_names[i]));
  };
  // @step calls @grad, whose gradients it does not give; @loss is the start of @grad.
  if (Result<Done> r = run("step", result_name); !r) return r.failure();
  if (const FunctionId grad = program.find("grad"); grad.valid()) {
    const BundleId p = argument_bundle(program, grad, "p");
    const std::vector<Leaf> tensors = p.valid() ? leaves(program, p) : std::vector<Leaf>{};
    const auto name = [&](const Function&, std::size_t i) {
      return i < tensors.size() ? "grad." + tensors[i].stored : std::string("loss");
    };
    if (Result<Done> r = run("grad", name); !r) return r.failure();
  } else if (!program.find("step").valid()) {
    if (Result<Done> r = run("loss", result_name); !r) return r.failure();
  }
  const auto eval_name = [&](const Function& f, std::size_t i) {
    return "eval." + result_name(f, i);
  };
  if (Result<Done> r = run("eval", eval_name); !r) return r.failure();
  return out;
}

void compare_values(const std::vector<NamedArray>& before, const std::vector<NamedArray>& after,
                    double tolerance, PassLine& line) {
  std::unordered_map<std::string_view, const Array*> old;
  double gradients = 0;
  for (const NamedArray& n : before) {
    old.emplace(n.name, &n.array);
    if (n.name.starts_with("grad.")) gradients = std::max(gradients, largest(n.array));
  }
  for (const NamedArray& n : after) {
    const auto it = old.find(n.name);
    if (it == old.end()) continue;
    double scale = largest(*it->second);
    if (n.name.starts_with("grad.")) scale = std::max(scale, floor_of_gradients * gradients);
    const double d = difference(*it->second, n.array, scale);
    if (d <= line.difference && !line.value.empty()) continue;
    line.difference = d;
    line.value = n.name;
    line.ok = d <= tolerance;
    if (!line.ok) return;
  }
}

Result<PassLine> PassCheck::behind(std::string_view pass, const Program& program) {
  PassLine line{.pass = std::string(pass), .value = {}, .before = operations_};
  line.after = operations_ = operations(program);
  Result<std::vector<NamedArray>> now = values(program);
  if (!now) return now.failure();
  compare_values(before_, *now, tolerance, line);
  before_ = std::move(*now);
  return line;
}

std::string text_of(const PassLine& l) {
  return fmt::format("{}  {:<14} {:>7.1e} of {:<24} {} -> {} operations", l.ok ? "ok  " : "FAIL",
                     l.pass, l.difference, l.value, l.before, l.after);
}

}  // namespace gradc
