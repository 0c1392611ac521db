// Protects rules 14 to 18: calls, names of parameters, repeats, scans and chance, compared with loops.
#include <doctest/doctest.h>

#include <cmath>
#include <set>

#include "ir/philox.h"
#include "unit/frontend/lowered.h"

namespace gradc::test {
namespace {

std::vector<std::string> stored(const Lowered& m) {
  std::vector<std::string> out;
  const Program& p = m.model().program;
  for (const char* bundle : {"params", "fixed"})
    for (std::uint32_t i = 0; i < p.bundles.size(); ++i)
      if (p.text(p.bundles[i].name) == bundle)
        for (const Leaf& leaf : leaves(p, BundleId{i})) out.push_back(leaf.stored);
  return out;
}

}  // namespace

TEST_CASE("two axes of a header may stand for one, and change places") {
  const Lowered m(R"(model m(t = 3, s = 3, d = 2)
block attend(q[t d], m[s d]) {
  w = softmax[s](sum[d](q * m) where s <= t)
  return sum[s](w * m)
}
block tell(x[t s]) { return x * t + s }
param x[t d], w[t s] ~ 0
own = attend(x, x, s = t)
own_by_hand = sum[s](softmax[s](sum[d](x * x[t = s]) where s <= t) * x[t = s])
turned[t s] = tell(w, t = s, s = t)
block both(x[d], g[]) { return sum[d](x * g) }
param g[t d] ~ 0
block keeps(x[d], g[]) { return x + sum[d](x * g) }
)", {"own", "own_by_hand", "turned"});
  const Array own = m["own"], hand = m["own_by_hand"], turned = m["turned"];
  for (std::size_t i = 0; i < own.real.size(); ++i) CHECK(own.real[i] == doctest::Approx(hand.real[i]));
  for (std::int64_t t = 0; t < 3; ++t)
    for (std::int64_t s = 0; s < 3; ++s)
      CHECK(turned.real[static_cast<std::size_t>(3 * t + s)] == doctest::Approx(filling("w", 3 * t + s) * static_cast<double>(s) + static_cast<double>(t)));
}

TEST_CASE("an axis of a header is not the caller's axis that another argument brings along") {
  // sum[d] removes the header's d; that of g passes through and is the caller's.
  const Lowered m(R"(model m(d = 3)
block mix(x[d], g[]) { return sum[d](x * g) }
param x[d], g[d] ~ 0
y = mix(x, g)
)", {"y"});
  const Array y = m["y"];
  REQUIRE(y.size() == 3);
  double sum = 0;
  for (std::int64_t d = 0; d < 3; ++d) sum += filling("x", d);
  for (std::int64_t d = 0; d < 3; ++d) CHECK(y.real[static_cast<std::size_t>(d)] == doctest::Approx(sum * filling("g", d)));
}

TEST_CASE("axes of one name and extent, made in different places, stay apart") {
  // Inside f another t is made, beside the t that passes through; parameters of both kinds.
  const std::string text = R"(model m(b = 2, t = 3, d = 2)
block f(x[d]) {
  axis T = 3
  param w[d T], v[T] ~ 0
  y = sum[d](x * w)
  return x * sum[T](y * v)
}
param x0[b t d], g[t] ~ 0
x = x0 * g
repeat 2 as h.@ { x = f(x) as f + g }
z = f(x) as last
)";
  std::string same = text;
  for (std::size_t i = same.find('T'); i != std::string::npos; i = same.find('T')) same[i] = 't';
  const Lowered apart(text, {"z"}), together(same, {"z"});
  const Array a = apart["z"], b = together["z"];
  REQUIRE(a.size() == 12);
  for (std::size_t i = 0; i < a.real.size(); ++i) CHECK(a.real[i] == b.real[i]);
}

TEST_CASE("stored names follow labels through calls and repeats") {
  const Lowered m(R"(model m(n = 2, d = 2)
block leaf(x[d]) {
  param w[d] as weight_l@ ~ 0
  return x * w
}
block part(x[d], n) {
  repeat n as inner.@ {
    param u[d] ~ 0
    x = leaf(x + u) as .
    x = leaf(x)
    x = leaf(x)
  }
  return x
}
param x[d] ~ 0
y = x * 1
repeat 2 as outer.@ {
  param s[d] as s@ ~ 0
  y = part(y * s, n = n) as p
}
param f[d] = 1 / (d + 1)
z = y + f
)", {"z"});
  CHECK(stored(m) == std::vector<std::string>{
                         "x", "outer.0.s0", "outer.0.p.inner.0.u", "outer.0.p.inner.0.weight_l0", "outer.0.p.inner.0.leaf.weight_l0",
                         "outer.0.p.inner.0.leaf_2.weight_l0", "outer.0.p.inner.1.u", "outer.0.p.inner.1.weight_l1", "outer.0.p.inner.1.leaf.weight_l1",
                         "outer.0.p.inner.1.leaf_2.weight_l1", "outer.1.s1", "outer.1.p.inner.0.u", "outer.1.p.inner.0.weight_l0",
                         "outer.1.p.inner.0.leaf.weight_l0", "outer.1.p.inner.0.leaf_2.weight_l0", "outer.1.p.inner.1.u", "outer.1.p.inner.1.weight_l1",
                         "outer.1.p.inner.1.leaf.weight_l1", "outer.1.p.inner.1.leaf_2.weight_l1", "f"});
  // And each turn uses its own.
  double y[2];
  for (std::int64_t d = 0; d < 2; ++d) {
    double v = filling("x", d);
    for (const char* o : {"0", "1"}) {
      v *= filling(std::string("outer.") + o + ".s" + o, d);
      for (const char* i : {"0", "1"}) {
        const std::string path = std::string("outer.") + o + ".p.inner." + i + ".";
        v = (v + filling(path + "u", d)) * filling(path + "weight_l" + i, d);
        v *= filling(path + "leaf.weight_l" + i, d) * filling(path + "leaf_2.weight_l" + i, d);
      }
    }
    y[d] = v + 1 / static_cast<double>(d + 1);
  }
  const Array z = m["z"];
  for (std::size_t d = 0; d < 2; ++d) CHECK(z.real[d] == doctest::Approx(y[d]));
}

TEST_CASE("a turn reads, rebinds and exchanges values of the outside") {
  const Lowered m(R"(model m(d = 2)
param a0[d], b0[d] ~ 0
a = a0 * 1
b = b0 * 1
twice = a0 + b0
repeat 3 {
  old = a
  a = b + twice
  b = old * 0.5
}
)", {"a", "b"});
  const Array ra = m["a"], rb = m["b"];
  for (std::int64_t d = 0; d < 2; ++d) {
    double a = filling("a0", d), b = filling("b0", d);
    const double twice = a + b;
    for (int k = 0; k < 3; ++k) {
      const double old = a;
      a = b + twice;
      b = old * 0.5;
    }
    CHECK(ra.real[static_cast<std::size_t>(d)] == doctest::Approx(a));
    CHECK(rb.real[static_cast<std::size_t>(d)] == doctest::Approx(b));
  }
}

TEST_CASE("scans go forward and backward, with states of every kind") {
  const Lowered m(R"(model m(t = 5, d = 2)
input token[t] < 3
param x[t d] ~ 0
scan t {
  total[t d] = 0.5 * total[t = t - 1] + x
  seen[t] = seen[t = t - 1] or token == 0
  last[t] = select(token == 0, t, last[t = t - 1])
  phase[t] = (phase[t = t - 1] + token) % 4
}
scan t { rest[t d] = rest[t = t + 1] * x + total }
)", {"total", "seen", "last", "phase", "rest"});
  const Array total = m["total"], seen = m["seen"], last = m["last"], phase = m["phase"], rest = m["rest"];
  double before[2] = {0, 0};
  std::int64_t was_seen = 0, was_last = 0, was_phase = 0;
  for (std::int64_t t = 0; t < 5; ++t) {
    const std::int64_t token = filling("token", t, 0, 3);
    for (std::int64_t d = 0; d < 2; ++d) {
      before[d] = 0.5 * before[d] + filling("x", 2 * t + d);
      CHECK(total.real[static_cast<std::size_t>(2 * t + d)] == doctest::Approx(before[d]));
    }
    was_seen = was_seen != 0 || token == 0 ? 1 : 0;
    if (token == 0) was_last = t;
    was_phase = (was_phase + token) % 4;
    CHECK(seen.integer[static_cast<std::size_t>(t)] == was_seen);
    CHECK(last.integer[static_cast<std::size_t>(t)] == was_last);
    CHECK(phase.integer[static_cast<std::size_t>(t)] == was_phase);
  }
  double after[2] = {0, 0};
  for (std::int64_t t = 4; t >= 0; --t)
    for (std::int64_t d = 0; d < 2; ++d) {
      after[d] = after[d] * filling("x", 2 * t + d) + total.real[static_cast<std::size_t>(2 * t + d)];
      CHECK(rest.real[static_cast<std::size_t>(2 * t + d)] == doctest::Approx(after[d]));
    }
}

TEST_CASE("scans nest, and repeats within them have states of their own") {
  const Lowered m(R"(model m(i = 3, j = 4, l = 2)
param w[i j], a[] , c[] ~ 0
scan i {
  scan j { h[i j] = tanh(a * h[i = i - 1] + c * h[j = j - 1] + w) }
}
block cell(x[i j], g) {
  scan j {
    repeat 2 as layer.@ {
      param u[] ~ 0
      s[i j] = x + u * s[j = j - 1] + g
      x = s
    }
  }
  return x
}
y = cell(w, 0.25)
diagonal[i j] = h[i = i - 1, j = j - 1]
)", {"h", "y", "diagonal"});
  const Array h = m["h"], y = m["y"], diagonal = m["diagonal"];
  const double a = filling("a", 0), c = filling("c", 0);
  double grid[4][5] = {};
  for (std::int64_t i = 0; i < 3; ++i) {
    double state[2] = {0, 0};
    for (std::int64_t j = 0; j < 4; ++j) {
      grid[i + 1][j + 1] = std::tanh(a * grid[i][j + 1] + c * grid[i + 1][j] + filling("w", 4 * i + j));
      CHECK(h.real[static_cast<std::size_t>(4 * i + j)] == doctest::Approx(grid[i + 1][j + 1]));
      CHECK(diagonal.real[static_cast<std::size_t>(4 * i + j)] == doctest::Approx(grid[i][j]));
      double x = filling("w", 4 * i + j);
      for (int k = 0; k < 2; ++k) {
        state[k] = x + filling("cell.layer." + std::to_string(k) + ".u", 0) * state[k] + 0.25;
        x = state[k];
      }
      CHECK(y.real[static_cast<std::size_t>(4 * i + j)] == doctest::Approx(x));
    }
  }
}

TEST_CASE("draws differ by place, turn and step, and are the generator's") {
  const Lowered m(R"(model m(d = 4)
param x[d] ~ 0
a = uniform(x)
b = uniform(x)
c = x * 0
e = x * 0
repeat 2 {
  c = e
  repeat 2 { e = uniform(x) }
}
)", {"a", "b", "c", "e"});
  std::set<double> seen;
  std::size_t drawn = 0;
  for (const std::int64_t step : {0, 1}) {
    const std::vector<Array> out = m.run("eval", step, 7);
    for (std::int64_t i = 0; i < 4; ++i) {
      const std::size_t k = static_cast<std::size_t>(i);
      const auto draw = [&](std::uint64_t site) { return philox_uniform(7, static_cast<std::uint64_t>(step), site, static_cast<std::uint64_t>(i)); };
      CHECK(out[0].real[k] == draw(0));
      CHECK(out[1].real[k] == draw(1));
      CHECK(out[2].real[k] == draw(3));   // what the first outer turn's second inner turn left
      CHECK(out[3].real[k] == draw(5));
      for (const Array& a : out) seen.insert(a.real[k]), ++drawn;
    }
  }
  CHECK(seen.size() == drawn);
}

TEST_CASE("training has a loss of its own and leaves no trace in @eval") {
  const Lowered m(R"(model m(d = 50)
param x[d] ~ 0
y = x * 1
repeat 2 { y = dropout(y, 0.5) }
loss = sum[d](y)
)");
  double sum = 0;
  for (std::int64_t d = 0; d < 50; ++d) sum += filling("x", d);
  CHECK(m["loss"].real[0] == doctest::Approx(sum));
  CHECK(m.run("loss")[0].real[0] != doctest::Approx(sum));
  const Program& p = m.model().program;
  for (const Function& f : p.functions) {
    const bool training = p.text(f.name) == "loss" || p.text(f.name) == "turn";
    for (const Op& o : f.ops) CHECK((training || o.code != Opcode::uniform_));
  }
  // What is the same in both is one function.
  const Lowered shared("model m(d = 2)\nparam x[d] ~ 0\ny = x * 1\nrepeat 2 { y = y * x }\nloss = sum[d](y)\n");
  CHECK(shared.model().program.functions.size() == 3);
}

}  // namespace gradc::test
