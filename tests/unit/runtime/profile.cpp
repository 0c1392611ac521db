// Protects what `bench --profile`, `--lines` and `--trace` say: nothing is lost between launches and
// lines, forward is what the loss depends on.
#include "runtime/profile.h"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "runtime/lines.h"
#include "runtime/trace.h"

using namespace gradc;

namespace {

struct Made {
  Sources sources;
  std::unique_ptr<Session> session;

  explicit Made(const std::string& text, int threads = 2) {
    const auto no_file = [](const std::string&, std::string&) { return false; };
    Result<FilePtr> file = parse_model(sources, sources.add("m.grad", text), no_file);
    REQUIRE(file.ok());
    Result<Model> model = lower(sources, **file, {.values = {"loss"}});
    if (!model) FAIL(render(sources, model.failure().diagnostics[0]));
    Result<std::unique_ptr<Session>> s = Session::open(model->program, {.target = host_target(), .threads = threads});
    REQUIRE(s.ok());
    session = std::move(*s);
  }
  Entry& step() { return session->step(); }
  LineProfile lines(const std::vector<double>& seconds) { return lines_of(step().program(), step().id(), seconds); }
  const LineWork& line(const LineProfile& p, std::uint32_t n) {
    const auto it = p.lines.find({0, n});
    REQUIRE(it != p.lines.end());
    return it->second;
  }
};

const std::string gpt =
    "model m(layers = 2, d = 16, h = 2, v = 32, t = 8, b = 2)\n"   // 1
    "input token[b t] < v\n"
    "input target[b t] < v\n"
    "param wte[v d], wpe[t d] ~ normal(0.02)\n"
    "x = wte[v = token] + wpe\n"                                   // 5
    "repeat layers {\n"
    "  x = x + attention(layernorm(x), heads = h)\n"
    "  x = x + mlp(layernorm(x))\n"
    "}\n"
    "logits = sum[d](layernorm(x) * wte)\n"                        // 10
    "loss = mean[b t](cross_entropy[v](logits, target))\n";

}  // namespace

TEST_CASE("lines: all of a step's time stands at a line, at the optimizer or nowhere") {
  Made m(gpt);
  const std::size_t n = m.step().step().launches().size();
  REQUIRE(n > 40);
  double sum = 0;
  std::vector<double> seconds;
  for (std::size_t i = 0; i < n; ++i) seconds.push_back(static_cast<double>(i % 7 + 1)), sum += seconds.back();
  const LineProfile p = m.lines(seconds);
  CHECK(p.launches() == doctest::Approx(sum).epsilon(1e-12));
  CHECK(p.update > 0);
  CHECK(p.update < 0.2 * sum);
  CHECK(p.nowhere.forward + p.nowhere.backward == 0);
  double forward = 0, backward = 0, kernels = 0;
  std::size_t files = 0;
  for (const auto& [at, w] : p.lines) {
    forward += w.forward;
    backward += w.backward;
    for (const auto& [name, s] : w.kernels) kernels += s;
    files = std::max<std::size_t>(files, at.first + 1);
  }
  CHECK(files > 1);   // the library's lines too
  CHECK(forward + backward + p.update == doctest::Approx(sum));
  CHECK(kernels + p.update == doctest::Approx(sum));
  CHECK(backward > forward);
  // What GELU was given is kept in both turns, though its gradient is written over it.
  double in_mlp = 0;
  for (const auto& [at, w] : p.lines)
    if (m.sources.name(at.first) == "lib/mlp.grad") in_mlp += w.kept;
  CHECK(in_mlp >= 2 * (2 * 8 * 64) * 4);
  const std::string text = lines_text(p, m.sources, sum);
  CHECK(text.find("logits = sum[d](layernorm(x) * wte)") != std::string::npos);
  CHECK(text.find("lib/norms.grad\n") != std::string::npos);
  CHECK(text.find(" between kernels") != std::string::npos);
}

TEST_CASE("lines: each launch's time at its own lines, forward and backward, and what is kept") {
  Made m("model m(d = 64, e = 32, b = 16)\n"   // 1
         "input x[b d]\n"
         "param w[d e], u[e] ~ normal(0.5)\n"
         "a = sum[d](x * w)\n"
         "y = tanh(a)\n"                        // 5
         "z = y * u\n"
         "loss = mean[b e](z * z)\n");
  const std::size_t n = m.step().step().launches().size();
  const LineProfile p = m.lines(std::vector<double>(n, 1.0));
  CHECK(p.launches() == doctest::Approx(static_cast<double>(n)));
  const LineWork& product = m.line(p, 4);
  CHECK(product.forward > 0.5);    // of its kernel it is most of the work
  CHECK(product.backward > 0.5);
  CHECK(m.line(p, 5).forward > 0);
  CHECK(m.line(p, 7).forward > 0);
  double kept = 0;
  for (const auto& [at, w] : p.lines) kept += w.kept;
  CHECK(kept == 16 * 32 * 4);      // tanh's result; its own derivative needs no more
  CHECK(m.line(p, 5).kept == kept);
}

TEST_CASE("profile: the launches' sum is the step, and a trace of it is JSON with a row a thread") {
  for (const int threads : {1, 2}) {
    Made m(gpt, threads);
    Entry& e = m.step();
    Profile profile(e);
    for (int i = 0; i < 3; ++i) {
      e.step().run_timed();
      profile.add(1.0);
    }
    CHECK(profile.step() == 1.0);
    CHECK(profile.sum() > 0);
    CHECK(profile.overhead() < 1);
    const Roofline machine{.f32 = 1e9, .bf16 = 0, .read = 1e9, .copy = 1e9};
    JsonObject j;
    profile.json(j, machine);
    const auto json = nlohmann::json::parse(j.line());
    double sum = 0;
    std::size_t calls = 0;
    for (const auto& k : json["profile"]) {
      REQUIRE(k["threads"].size() == static_cast<std::size_t>(threads));
      double both = 0;
      for (const auto& t : k["threads"]) both += t["busy_ms"].get<double>() + t["waiting_ms"].get<double>();
      CHECK(both / threads == doctest::Approx(k["ms"].get<double>()).epsilon(0.05));
      sum += k["ms"].get<double>();
      calls += k["calls"].get<std::size_t>();
      CHECK(k["bytes"] > 0);
    }
    CHECK(calls == e.step().launches().size());
    CHECK(sum == doctest::Approx(json["profile_ms"].get<double>()).epsilon(0.05));
    CHECK(!json.contains("peak_bf16_gflops"));

    const auto trace = nlohmann::json::parse(trace_text(e));
    std::vector<std::size_t> kernels(static_cast<std::size_t>(threads));
    for (const auto& event : trace["traceEvents"]) {
      if (event["ph"] != "X") continue;
      CHECK(event["ts"] >= 0);
      CHECK(event["args"].contains("launch"));
      if (event["cat"] == "wait") continue;
      ++kernels[event["tid"].get<std::size_t>()];
      CHECK(event["args"].contains("lines"));
    }
    CHECK(kernels[0] >= e.step().launches().size());
  }
}

TEST_CASE("roofline: a launch is bound by products, by reading, or by all that moves") {
  const Roofline machine{.f32 = 100, .bf16 = 200, .read = 20, .copy = 30};
  CHECK(machine.seconds({.flop = 1000, .bytes = 1}, 0) == 10);
  CHECK(machine.seconds({.flop = 1000, .bytes = 1}, 1) == 5);
  CHECK(machine.seconds({.flop = 1000, .bytes = 1}, 0.5) == 7.5);
  CHECK(machine.seconds({.flop = 0, .bytes = 60, .written = 0}, 0) == 3);
  CHECK(machine.seconds({.flop = 0, .bytes = 60, .written = 30}, 0) == 2);
  const Roofline no_pairs{.f32 = 100, .bf16 = 0, .read = 20, .copy = 30};
  CHECK(no_pairs.seconds({.flop = 1000, .bytes = 1}, 1) == 10);
}
