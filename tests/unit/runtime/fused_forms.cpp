// Protects every fused form, forward and gradient, at lengths that no tile divides and at extreme
// values: what is compiled with fusion on stays as near to the float64 definition as what is
// compiled from the definition: rms(O − R) ≤ 3 · rms(U − R) + 4 · 2⁻²⁴ · rms(R).
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <cmath>

#include "frontend/frontend.h"
#include "passes/differentiate.h"
#include "passes/passes.h"
#include "runtime/entry.h"
#include "runtime/initial.h"
#include "runtime/oracle.h"

using namespace gradc;

namespace {

struct Form {
  std::string_view name;
  Claim claim;            // must be recognised
  std::string_view text;  // ends in `y`, with the axes of `c`
};

const Form forms[] = {
    {"causal", Claim::attention,
     "weight = softmax[s](sum[e](q * k[t = s]) / sqrt(size(e)) where s <= t)\n"
     "y[b t h e] = sum[s](weight * u[t = s])\n"},
    {"window, cap and slopes", Claim::attention,
     "param slope[h] ~ normal(0.1)\n"
     "a = 3 * tanh(sum[e](q * k[t = s]) / 6) - slope * (t - s)\n"
     "y[b t h e] = sum[s](softmax[s](a where s <= t and t - s < 5) * u[t = s])\n"},
    {"a table by distance", Claim::attention,
     "param rel[h r = 2 * t] ~ normal(0.5)\n"
     "a = sum[e](q * k[t = s]) * 0.3 + rel[r = t - s + size(t)]\n"
     "y[b t h e] = sum[s](softmax[s](a) * u[t = s])\n"},
    {"a bias of its own", Claim::attention,
     "param bias[h t s] ~ normal(0.5)\n"
     "y[b t h e] = sum[s](softmax[s](sum[e](q * k[t = s]) + bias) * u[t = s])\n"},
    {"lengths, some of them 0", Claim::attention,
     "input length[b] < size(t) + 1\n"
     "y[b t h e] = sum[s](softmax[s](sum[e](q * k[t = s]) where s < length) * u[t = s])\n"},
    {"documents", Claim::attention,
     "input doc[b t] < 3\n"
     "w = softmax[s](sum[e](q * k[t = s]) where doc == doc[t = s] and s <= t)\n"
     "y[b t h e] = sum[s](w * u[t = s])\n"},
    {"dropout", Claim::attention,
     "w = softmax[s](sum[e](q * k[t = s]) where s <= t)\n"
     "y[b t h e] = sum[s](dropout(w, rate = 0.2) * u[t = s])\n"},
    {"heads that share a key head", Claim::attention,
     "param wide[b t g = 3 h e] ~ normal(1.0)\n"
     "w = softmax[s](sum[e](wide * k[t = s]) where s <= t)\n"
     "y[b t h e] = sum[g](sum[s](w * u[t = s]))\n"},
    {"softmax", Claim::softmax, "w = softmax[t](x)\ny = w * w\n"},
    {"layernorm", Claim::layernorm, "m = x - mean[t](x)\ny = m / sqrt(mean[t](m * m) + 1e-5)\n"},
    {"rmsnorm", Claim::rmsnorm, "y = x / sqrt(mean[t](x * x) + 1e-5)\n"},
    {"gelu", Claim::gelu, "y = gelu(x)\n"},
    {"exact gelu", Claim::gelu, "y = gelu_erf(x)\n"},
    {"silu", Claim::silu, "y = silu(x)\n"},
    {"cross entropy", Claim::cross_entropy,
     "input right[b h] < t\ny = cross_entropy[t](x, right) * x\n"},
};

struct Case {
  std::int64_t t = 7;
  double scale = 1;  // of q and x
};

std::string text_of(const Form& form, const Case& c) {
  return fmt::format(
      "model m(b = 2, t = {}, h = 2, e = 5)\naxis s = t\n"
      "param q[b t h e], x[b h t] ~ normal({})\n"
      "param k[b t h e], u[b t h e], c[b t h e] ~ normal(1.0)\n{}"
      "loss = sum[b t h e](y * c)\n",
      c.t, c.scale, form.text);
}

Model lowered(const std::string& text) {
  Sources sources;
  const std::uint32_t source = sources.add("form.grad", text);
  Result<FilePtr> file =
      parse_model(sources, source, [](const std::string&, std::string&) { return false; });
  if (!file) FAIL(render(sources, file.failure().diagnostics[0]));
  Result<Model> model = lower(sources, **file, {});
  if (!model) FAIL(render(sources, model.failure().diagnostics[0]) << "\n" << text);
  return *model;
}

// An input's integers: all of its range in turn, lengths 0 and full ones among them.
std::int64_t drawn(const Input& input, std::size_t i) {
  const std::int64_t n = input.high - input.low;
  const auto k = static_cast<std::int64_t>(i);
  return input.low + (k % 2 == 0 ? n - 1 - k / 2 % n : k * 7 % n);
}

// Loss and gradients after one step, compiled.
std::vector<std::vector<float>> compiled(const Program& program, const FuseOptions& fuse) {
  Result<std::unique_ptr<Session>> opened =
      Session::open(program, {.target = host_target(), .threads = 2, .train = true, .fuse = fuse});
  if (!opened) FAIL(opened.failure().diagnostics[0].message);
  Session& s = **opened;
  const OracleFeed feed = *initial_feed(program, 1);
  std::copy(feed.p.begin(), feed.p.end(), s.parameters().begin());
  for (const Input& input : program.inputs) {
    auto* at = reinterpret_cast<std::int32_t*>(s.step().argument(program.text(input.name)));
    std::size_t n = 1;
    for (const Axis& a : input.axes) n *= static_cast<std::size_t>(a.extent);
    for (std::size_t i = 0; at != nullptr && i < n; ++i)
      at[i] = static_cast<std::int32_t>(drawn(input, i));
  }
  s.step().set("step", std::int64_t{0});
  s.step().set("seed", std::int64_t{3});
  s.step().set("lr", 0.0);
  s.step().run();
  std::vector<std::vector<float>> out{{static_cast<float>(s.step().scalar("loss"))}};
  for (const Leaf& l : leaves(program, s.bundle())) {
    const auto g = s.gradients().subspan(static_cast<std::size_t>(l.offset),
                                         static_cast<std::size_t>(l.elements));
    out.emplace_back(g.begin(), g.end());
  }
  return out;
}

// The same in float64, from the definitions.
std::vector<std::vector<double>> reference(const Program& program) {
  const Result<Program> grad = differentiate(simplify(program));
  REQUIRE(grad.ok());
  OracleFeed feed = *initial_feed(program, 1);
  for (double& x : feed.p) x = static_cast<double>(static_cast<float>(x));
  feed.seed = 3;
  for (const Input& input : program.inputs) {
    std::vector<std::int64_t> extents;
    for (const Axis& a : input.axes) extents.push_back(a.extent);
    Array x = Array::zeros(input.dtype, extents);
    for (std::size_t i = 0; i < x.integer.size(); ++i) x.integer[i] = drawn(input, i);
    feed.inputs[std::string(program.text(input.name))] = std::move(x);
  }
  Result<std::vector<Array>> r = run_entry(*grad, grad->find("grad"), feed);
  if (!r) FAIL(r.failure().diagnostics[0].message);
  std::vector<std::vector<double>> out{r->back().real};
  for (std::size_t i = 0; i + 1 < r->size(); ++i) out.push_back((*r)[i].real);
  return out;
}

double rms(std::span<const double> x) {
  double s = 0;
  for (const double v : x) s += v * v;
  return x.empty() ? 0 : std::sqrt(s / static_cast<double>(x.size()));
}
double away(std::span<const float> x, std::span<const double> r) {
  REQUIRE(x.size() == r.size());
  std::vector<double> d(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) d[i] = static_cast<double>(x[i]) - r[i];
  return rms(d);
}

// Σ |y · c| of the loss: the gradient of c is y, that of y is c.
double terms(const Program& program, const std::vector<std::vector<double>>& r) {
  const OracleFeed feed = *initial_feed(program, 1);
  const std::vector<Leaf> members = leaves(program, argument_bundle(program, "loss", "p"));
  double sum = 0;
  for (std::size_t i = 0; i < members.size(); ++i)
    if (members[i].path == "c")
      for (std::size_t k = 0; k < r[i + 1].size(); ++k)
        sum += std::fabs(r[i + 1][k] * feed.p[static_cast<std::size_t>(members[i].offset) + k]);
  return sum;
}

void compare(const Form& form, const Case& c) {
  INFO(form.name, ", t = ", c.t, ", scale ", c.scale);
  const Model model = lowered(std::string(text_of(form, c)));
  const Program& program = model.program;
  FuseOptions none;
  none.off.fill(true);
  std::vector<Remark> remarks;
  fuse(simplify(program), {}, &remarks);
  CHECK(std::any_of(remarks.begin(), remarks.end(),
                    [&](const Remark& r) { return r.fused && r.claim == form.claim; }));
  const auto r = reference(program);
  const auto o = compiled(program, {}), u = compiled(program, none);
  REQUIRE(o.size() == r.size());
  for (std::size_t i = 0; i < r.size(); ++i) {
    const double unfused = away(u[i], r[i]), fused = away(o[i], r[i]), size = rms(r[i]);
    // A loss is a sum that may cancel; its terms, not their sum, bound its error. Where one key has
    // all the weight the gradients of q and k are 0 and come out so, but for weights that are
    // scaled behind the softmax: the scale is rounded before the sum on one side, behind it on the
    // other.
    double least = i == 0 ? 4 * 0x1p-24 * terms(program, r) : 0;
    if (form.name == "dropout" && size == 0) least = 8 * 0x1p-24 * std::max(1.0, c.scale);
    // A norm whose result is a sign (of one element, or of the difference of two) has a gradient of 0
    // but for eps: all of it is cancellation.
    const bool alone = (form.claim == Claim::rmsnorm && c.t == 1) ||
                       (form.claim == Claim::layernorm && c.t <= 2);
    if (c.scale == 1 && !alone)
      CHECK_MESSAGE(unfused <= 1e-5 * size + least, "tensor ", i, ": unfused off by ", unfused);
    CHECK_MESSAGE(fused <= 3 * unfused + 4 * 0x1p-24 * size + least, "tensor ", i, ": ", fused,
                  " against ", unfused, " of ", size);
  }
}

}  // namespace

TEST_CASE("fused forms: at lengths that no tile divides they are their definitions") {
  for (const Form& form : forms)
    for (const std::int64_t t : {1, 7, 65}) compare(form, {.t = t});
}

// By hand (-ns): ten seconds; last run on 2026-11-28.
TEST_CASE("fused forms: more lengths" * doctest::skip()) {
  for (const Form& form : forms)
    for (const std::int64_t t : {2, 63, 100, 257}) compare(form, {.t = t});
}

TEST_CASE("fused forms: extreme values") {
  for (const Form& form : forms) {
    compare(form, {.t = 5, .scale = 1e4});  // scores of ±1e4, one class certain
    compare(form, {.t = 5, .scale = 0});    // variance 0
  }
  // 1e18 squared is beyond float32 / 64, not beyond float32 itself.
  for (const Form& form : forms)
    if (form.claim == Claim::layernorm || form.claim == Claim::rmsnorm)
      compare(form, {.t = 3, .scale = 1e18});
}

// frontend/README.md has this table: what becomes of 1e30, whose square float32 cannot hold.
TEST_CASE("fused forms: at 1e30 they give what the reference says, fused and unfused") {
  for (const Form& form : forms) {
    CAPTURE(form.name);
    const Model model = lowered(text_of(form, {.t = 3, .scale = 1e30}));
    const Program& program = model.program;
    FuseOptions none;
    none.off.fill(true);
    const auto o = compiled(program, {}), u = compiled(program, none);
    const auto r = reference(program);
    const std::vector<Leaf> members = leaves(program, argument_bundle(program, "loss", "p"));
    for (std::size_t i = 1; i < o.size(); ++i) {
      const std::string_view name = members[i - 1].path;
      const bool argument = name == "x", result = name == "c";   // the gradient of c is y
      CAPTURE(name);
      double largest = 0;
      for (const double x : r[i]) largest = std::max(largest, std::fabs(x));
      for (std::size_t k = 0; k < o[i].size(); ++k) {
        const auto both = [&](auto is) { return is(o[i][k]) && is(u[i][k]); };
        const double exact = r[i][k];
        if ((form.claim == Claim::layernorm || form.claim == Claim::rmsnorm) && (argument || result))
          CHECK(both([](float x) { return x == 0; }));
        else if (form.name == "gelu" && argument)
          CHECK(both([](float x) { return std::isnan(x); }));
        else if (std::isinf(static_cast<float>(exact)))   // of the cross entropy, times x
          CHECK(both([&](float x) { return x == static_cast<float>(exact); }));
        else if (form.name == "dropout" && (name == "q" || name == "k"))   // one part in 2²⁴ of the scale
          CHECK(both([&](float x) { return std::fabs(x) <= (name == "q" ? 1e-5 : 1e25); }));
        else
          CHECK(both([&](float x) {
            return std::fabs(static_cast<double>(x) - exact) <= 1e-5 * largest + 1e-5;
          }));
      }
    }
  }
}
