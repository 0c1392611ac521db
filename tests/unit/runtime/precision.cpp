// The oracle rule under bf16: compiled gradients lie by those that the interpreter gives in float64
// with the same roundings, nearer than these lie by the unrounded ones. A sum that differs in its
// last bit may round the other way, so the distance is that of few elements by a bf16's last bit,
// not of float32.
#include <doctest/doctest.h>

#include <cmath>

#include "frontend/frontend.h"
#include "runtime/entry.h"
#include "runtime/execute.h"
#include "runtime/oracle.h"
#include "support/golden.h"

namespace gradc {
namespace {

using Settings = std::vector<std::pair<std::string, std::string>>;

Program lowered(const std::string& path, const Settings& set) {
  Sources sources;
  const std::uint32_t source = sources.add(path, golden::read_file(golden::source_path(path)));
  Result<FilePtr> file =
      parse_model(sources, source, [](const std::string&, std::string&) { return false; });
  REQUIRE(file.ok());
  Result<Model> model = lower(sources, **file, {.set = set});
  REQUIRE(model.ok());
  return model->program;
}

// rms(a − b) / rms(b) of the one gradient in which it is largest.
double distance(const Arrays& a, const Arrays& b) {
  double worst = 0;
  for (const auto& [name, x] : b) {
    if (!name.starts_with("g.")) continue;
    double d = 0, all = 0;
    for (std::size_t i = 0; i < x.real.size(); ++i) {
      const double e = a.at(name).real[i] - x.real[i];
      d += e * e;
      all += x.real[i] * x.real[i];
    }
    if (all > 0) worst = std::max(worst, std::sqrt(d / all));
  }
  return worst;
}

}  // namespace

TEST_CASE("precision: compiled gradients are the oracle's of the same roundings") {
  const Program programs[] = {
      lowered("frontend/models/gpt.grad",
              {{"layers", "1"}, {"d", "32"}, {"h", "2"}, {"v", "37"}, {"t", "19"}, {"b", "3"}}),
      lowered("frontend/models/llama.grad",
              {{"layers", "1"}, {"d", "16"}, {"f", "11"}, {"v", "29"}, {"t", "11"}, {"b", "2"}}),
      lowered("frontend/models/transformer.grad",
              {{"layers", "1"}, {"d", "16"}, {"v", "29"}, {"s", "9"}, {"t", "11"}, {"b", "2"}})};
  for (const Program& p : programs) {
    Result<OracleFeed> feed = random_feed(p, 3);
    REQUIRE(feed.ok());
    const Arrays arguments = named_arguments(p, *feed);
    const auto run = [&](bool interpret, Precision precision, const Target& target) {
      Result<Arrays> r = execute(
          p, "grad", arguments,
          {.interpret = interpret, .target = target, .threads = 2, .precision = precision});
      REQUIRE(r.ok());
      return *r;
    };
    const Arrays exact = run(true, Precision::f32, portable_target()),
                 oracle = run(true, Precision::bf16, portable_target());
    const double rounding = distance(oracle, exact);
    CHECK(rounding > 1e-4);
    CHECK(rounding < 0.1);
    // Targets differ in how contractions run, not in what they are: one program suffices.
    std::vector<Target> targets{host_target()};
    if (&p == programs) targets.push_back(portable_target());
    for (const Target& target : targets) {
      const double ours = distance(run(false, Precision::bf16, target), oracle);
      CHECK(ours < rounding / 4);
      MESSAGE(target.name, ": ", ours, " by the oracle; the roundings make ", rounding);
    }
  }
}

TEST_CASE("precision: a step that reads the copy has the gradients of one that rounds for itself") {
  const Program p =
      lowered("frontend/models/gpt.grad",
              {{"layers", "2"}, {"d", "32"}, {"h", "2"}, {"v", "37"}, {"t", "19"}, {"b", "3"}});
  Result<OracleFeed> feed = random_feed(p, 3);
  REQUIRE(feed.ok());
  Result<std::unique_ptr<Session>> opened = Session::open(
      p, {.target = host_target(), .threads = 2, .eval = false, .precision = Precision::bf16});
  REQUIRE(opened.ok());
  Session& s = **opened;
  Arrays arguments = named_arguments(p, *feed);
  const std::vector<Leaf> members = leaves(s.program(), s.bundle());
  const auto fill = [&] {
    const std::span<float> to = s.parameters();
    for (const Leaf& l : members)
      for (std::int64_t i = 0; i < l.elements; ++i)
        to[static_cast<std::size_t>(l.offset + i)] =
            static_cast<float>(arguments.at("p." + l.path).real[static_cast<std::size_t>(i)]);
  };
  fill();
  for (int step = 0; step < 3; ++step) {
    for (const char* name : {"token", "target"}) {
      const std::vector<std::int64_t>& from = arguments.at(name).integer;
      std::copy(from.begin(), from.end(),
                reinterpret_cast<std::int32_t*>(s.step().argument(name)));
    }
    s.step().set("step", std::int64_t{step});
    s.step().set("lr", 0.01);
    // A step later these are the parameters that the optimizer made, and the copy beside them.
    for (const Leaf& l : members)
      for (std::int64_t i = 0; i < l.elements; ++i)
        arguments.at("p." + l.path).real[static_cast<std::size_t>(i)] =
            static_cast<double>(s.parameters()[static_cast<std::size_t>(l.offset + i)]);
    Result<Arrays> expected = execute(
        p, "grad", arguments,
        {.target = host_target(), .threads = 2, .precision = Precision::bf16});
    REQUIRE(expected.ok());
    step == 2 ? fill() : void();   // the same values, written by someone else
    s.step().run();
    for (const Leaf& l : members) {
      CAPTURE(l.path);
      bool same = true;
      for (std::int64_t i = 0; i < l.elements; ++i)
        same &= expected->at("g." + l.path).real[static_cast<std::size_t>(i)] ==
                static_cast<double>(s.gradients()[static_cast<std::size_t>(l.offset + i)]);
      CHECK(same);
    }
    const auto* copy = reinterpret_cast<const std::uint16_t*>(s.step().result("rounded"));
    REQUIRE(copy != nullptr);
    const std::span<const float> made = s.parameters();
    CHECK(std::equal(made.begin(), made.end(), copy,
                     [](float x, std::uint16_t bits) { return bf16_bits(x) == bits; }));
  }
}

}  // namespace gradc
