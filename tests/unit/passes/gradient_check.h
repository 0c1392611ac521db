// Owns the check of gradients against central finite differences, in the interpreter's float64:
// every element of every argument asked for, and the same again for the gradient of the gradient.
#pragma once

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "ir/evaluate.h"
#include "ir/philox.h"
#include "ir/text.h"
#include "ir/verify.h"
#include "passes/differentiate.h"

namespace gradc::gradient_test {

inline Program parsed(const std::string& text) {
  Sources sources;
  Result<Program> p = parse_ir(sources, sources.add("test", text));
  if (!p) FAIL(render(sources, p.failure().diagnostics[0]));
  for (const Fault& fault : verify(*p)) FAIL(fault.message);
  return std::move(*p);
}

// No fault, and the text reads back as itself.
inline void check_well_formed(const Program& program) {
  const std::string text = print(program);
  for (const Fault& fault : verify(program)) FAIL_CHECK(fault.message << "\n" << text);
  Sources sources;
  const Result<Program> again = parse_ir(sources, sources.add("again", text));
  if (!again) FAIL(render(sources, again.failure().diagnostics[0]) << "\n" << text);
  CHECK(print(*again) == text);
}

class Random {
 public:
  explicit Random(std::uint64_t seed) : seed_(seed) {}
  double operator()() { return philox_uniform(seed_, 0, 0, next_++); }

 private:
  std::uint64_t seed_, next_ = 0;
};

// Reals with magnitudes in (0.3, 1.7), of both signs if asked; integers 0 … 3; fair bools.
inline Array draw(const Function& f, const Type& t, Random& random, bool negative) {
  std::vector<std::int64_t> extents;
  for (AxisId a : t.axes) extents.push_back(f.extent(a));
  Array a = Array::zeros(t.dtype, extents);
  for (double& x : a.real) {
    x = 0.3 + 1.4 * random();
    if (negative && random() < 0.5) x = -x;
  }
  for (std::int64_t& x : a.integer)
    x = static_cast<std::int64_t>(random() * (t.dtype == DType::boolean ? 2 : 4));
  return a;
}
inline std::vector<Array> draw_all(const Function& f, Random& random, bool negative) {
  std::vector<Array> out;
  for (ValueId v : f.body().arguments) out.push_back(draw(f, f.type(v), random, negative));
  return out;
}

inline std::vector<Array> run(const Program& p, FunctionId f, const std::vector<Array>& arguments) {
  Result<std::vector<Array>> r = evaluate(p, f, arguments);
  if (!r) FAIL(r.failure().diagnostics[0].message << "\n" << print(p));
  return std::move(*r);
}

// Σ weights · real results.
inline double weighted(const std::vector<Array>& results, const std::vector<Array>& weights) {
  double sum = 0;
  std::size_t w = 0;
  for (const Array& r : results) {
    if (!is_real(r.dtype)) continue;
    for (std::size_t i = 0; i < r.real.size(); ++i) sum += r.real[i] * weights[w].real[i];
    ++w;
  }
  return sum;
}

struct Settings {
  int orders = 2;              // 2: the gradient's gradient too
  double step = 1e-5, tolerance = 2e-7;
};

// Adds the gradient of `f` by all its real arguments and compares. Gives the gradient's function.
inline FunctionId check_gradient(Program& p, FunctionId f, const std::vector<Array>& arguments,
                                 Settings settings = {}) {
  const Function fn = p.function(f);
  std::vector<std::uint32_t> wrt;
  for (std::uint32_t i = 0; i < arguments.size(); ++i)
    if (is_real(arguments[i].dtype)) wrt.push_back(i);
  Result<FunctionId> made = add_gradient(p, f, wrt, fmt::format("{}.grad", p.text(fn.name)));
  if (!made) FAIL(made.failure().diagnostics[0].message);
  check_well_formed(p);
  const Function& grad = p.function(*made);

  Random random(11);
  std::vector<Array> with = arguments, weights;
  for (std::size_t i = arguments.size(); i < grad.body().arguments.size(); ++i)
    with.push_back(draw(grad, grad.type(grad.body().arguments[i]), random, true));
  weights.assign(with.begin() + static_cast<std::ptrdiff_t>(arguments.size()), with.end());
  if (weights.empty()) weights.push_back(Array::scalar(1.0));
  const std::vector<Array> got = run(p, *made, with);

  // The forward results are those of the function itself, bit for bit.
  const std::vector<Array> plain = run(p, f, arguments);
  REQUIRE(got.size() == wrt.size() + plain.size());
  for (std::size_t i = 0; i < plain.size(); ++i) {
    CHECK(got[wrt.size() + i].real == plain[i].real);
    CHECK(got[wrt.size() + i].integer == plain[i].integer);
  }
  for (std::size_t n = 0; n < wrt.size(); ++n) {
    CHECK(grad.type(grad.body().results[n]) == grad.type(grad.body().arguments[wrt[n]]));
    const Array& x = arguments[wrt[n]];
    for (std::size_t i = 0; i < x.real.size(); ++i) {
      std::vector<Array> moved = arguments;
      moved[wrt[n]].real[i] = x.real[i] + settings.step;
      const double above = weighted(run(p, f, moved), weights);
      moved[wrt[n]].real[i] = x.real[i] - settings.step;
      const double below = weighted(run(p, f, moved), weights);
      const double expected = (above - below) / (2 * settings.step), found = got[n].real[i];
      if (!(std::fabs(expected - found) <=
            settings.tolerance * std::fmax(1.0, std::fabs(expected)))) {
        FAIL_CHECK("argument " << wrt[n] << ", element " << i << ": " << found << ", not "
                               << expected << "\n"
                               << print(p));
        return *made;
      }
    }
  }
  if (settings.orders > 1) {
    settings.orders -= 1;
    check_gradient(p, *made, with, settings);
  }
  return *made;
}

inline void check_text(const std::string& text, std::uint64_t seed = 1, Settings settings = {}) {
  Program p = parsed(text);
  const FunctionId f = p.find("f");
  REQUIRE(f.valid());
  Random random(seed);
  check_gradient(p, f, draw_all(p.function(f), random, true), settings);
}

}  // namespace gradc::gradient_test
