// Protects what saves memory, compiled: a loss in chunks and recomputed turns give the bits that the
// step has without them, and poison finds every byte of what is dead and none of what is not.
#include <doctest/doctest.h>

#include <cstdlib>
#include <cstring>

#include "ir/text.h"
#include "runtime/entry.h"
#include "runtime/poison.h"
#include "runtime/weights.h"
#include "support/golden.h"

namespace gradc {
namespace {

Model gpt(double clip, int v) {
  Sources sources;
  const std::string path = "frontend/models/gpt.grad";
  const std::uint32_t source = sources.add(path, golden::read_file(golden::source_path(path)));
  Result<FilePtr> file =
      parse_model(sources, source, [](const std::string&, std::string&) { return false; });
  REQUIRE(file.ok());
  Result<Model> model =
      lower(sources, **file,
            {.set = {{"layers", "4"}, {"d", "32"}, {"h", "2"}, {"v", std::to_string(v)}, {"t", "24"}, {"b", "3"}},
             .values = {"loss"}});
  REQUIRE(model.ok());
  model->program.training.clip = clip;
  return *model;
}

// Losses, norms and parameters of some steps, and the bytes of activations.
struct Ran {
  std::vector<float> losses, norms, parameters;
  std::int64_t activations = 0;
};
Ran train(const Session::Options& options, int steps, double rate = 1e-2, double clip = 1, int v = 131) {
  const Model model = gpt(clip, v);
  Result<std::unique_ptr<Session>> opened = Session::open(model.program, options);
  REQUIRE(opened.ok());
  Session& s = **opened;
  const BundleValues<float> part{s.bundle(), s.parameters()};
  REQUIRE(initialize(s.program(), part, 5).ok());
  Ran out;
  out.activations = s.step().summary().bytes[index(Arena::activations)];
  for (int step = 0; step < steps; ++step) {
    for (const char* name : {"token", "target"}) {
      auto* at = reinterpret_cast<std::int32_t*>(s.step().argument(name));
      for (int i = 0; i < 3 * 24; ++i) at[i] = (37 * i + 11 * step + name[1]) % v;
    }
    s.step().set("step", std::int64_t{step});
    s.step().set("seed", std::int64_t{0});
    s.step().set("lr", rate);
    s.step().run();
    float loss = 0;
    std::memcpy(&loss, s.step().result("loss"), sizeof loss);
    out.losses.push_back(loss);
    out.norms.push_back(static_cast<float>(s.step().scalar("norm")));
  }
  out.parameters.assign(s.parameters().begin(), s.parameters().end());
  return out;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

}  // namespace

TEST_CASE("memory: a budget changes no bit, for any number of threads") {
  const Ran whole = train({.target = host_target(), .threads = 2}, 3);
  CHECK(whole.losses[2] < whole.losses[0]);
  for (const double share : {0.8, 0.5}) {
    const auto budget = static_cast<std::int64_t>(share * static_cast<double>(whole.activations));
    for (int threads : {1, 2}) {
      const Ran r =
          train({.target = host_target(), .threads = threads, .memory_budget = budget}, 3);
      CHECK(r.activations <= budget);
      CHECK(same_bits(r.losses, whole.losses));
      CHECK(same_bits(r.parameters, whole.parameters));
    }
  }
}

TEST_CASE("memory: a loss in chunks has the bits of one that is whole, for any number of threads") {
  const Ran whole = train({.target = host_target(), .threads = 2}, 1);
  const ChunkOptions chunks{.rows = 20, .least = 1024};  // 12 of 24 rows at a time
  const Ran cut = train({.target = host_target(), .threads = 2, .chunks = chunks}, 3);
  const Ran alone = train({.target = host_target(), .threads = 1, .chunks = chunks}, 3);
  CHECK(same_bits({cut.losses[0]}, whole.losses));
  CHECK(same_bits(alone.losses, cut.losses));
  CHECK(same_bits(alone.parameters, cut.parameters));
  CHECK(cut.activations < whole.activations);
}

TEST_CASE("memory: bf16 has the same bits for any threads and memory, near those of f32") {
  const ChunkOptions chunks{.rows = 20, .least = 1024};
  const Ran single = train({.target = host_target(), .threads = 2, .chunks = chunks}, 20, 1e-3);
  Session::Options options{
      .target = host_target(), .threads = 2, .chunks = chunks, .precision = Precision::bf16};
  const Ran half = train(options, 20, 1e-3);
  for (std::size_t i = 0; i < half.losses.size(); ++i)
    CHECK(half.losses[i] == doctest::Approx(single.losses[i]).epsilon(1e-2));
  CHECK(!same_bits(half.losses, single.losses));
  options.threads = 1;
  setenv("GRADC_POISON", "1", 1);
  const Ran poisoned = train(options, 20, 1e-3);
  unsetenv("GRADC_POISON");
  CHECK(same_bits(poisoned.parameters, half.parameters));
  options.threads = 3;
  options.memory_budget = half.activations * 8 / 10;
  const Ran cut = train(options, 20, 1e-3);
  CHECK(same_bits(cut.losses, half.losses));
  CHECK(same_bits(cut.parameters, half.parameters));
}

TEST_CASE("memory: parameters updated part by part have the bits of those updated at the end") {
  for (const Precision precision : {Precision::f32, Precision::bf16}) {
    Session::Options options{.target = host_target(), .threads = 2, .precision = precision};
    const Ran whole = train(options, 3, 1e-2, 0);
    options.updates = {.least = 1, .large = 1024};
    options.chunks = {.rows = 20, .least = 1024};
    const Ran chunked = train(options, 3, 1e-2, 0);
    options.chunks = {};
    setenv("GRADC_POISON", "1", 1);
    const Ran parts = train(options, 3, 1e-2, 0);
    unsetenv("GRADC_POISON");
    CHECK(same_bits(parts.losses, whole.losses));
    CHECK(same_bits(parts.parameters, whole.parameters));
    options.threads = 3;
    options.memory_budget = parts.activations * 8 / 10;
    const Ran cut = train(options, 3, 1e-2, 0);
    CHECK(cut.activations <= options.memory_budget);
    CHECK(same_bits(cut.parameters, whole.parameters));
    CHECK(chunked.losses[0] == whole.losses[0]);
  }
}

TEST_CASE("memory: the norm of a large table's gradient is added up where the table is updated") {
  Session::Options options{.target = host_target(), .threads = 2};
  const Ran whole = train(options, 2, 1e-2, 0, 40000);
  options.updates = {.least = 1, .large = 1024};
  const Ran parts = train(options, 2, 1e-2, 0, 40000);
  options.threads = 3;
  const Ran three = train(options, 2, 1e-2, 0, 40000);
  CHECK(same_bits(parts.losses, whole.losses));
  CHECK(same_bits(parts.parameters, whole.parameters));
  for (std::size_t i = 0; i < 2; ++i)
    CHECK(parts.norms[i] == doctest::Approx(whole.norms[i]).epsilon(1e-6));
  CHECK(same_bits(three.norms, parts.norms));
  CHECK(same_bits(three.parameters, parts.parameters));
}

TEST_CASE("poison: a step that reads nothing stale keeps its bits") {
  const Ran clean = train({.target = host_target(), .threads = 2}, 2);
  setenv("GRADC_POISON", "1", 1);
  const Ran poisoned = train({.target = host_target(), .threads = 2}, 2);
  unsetenv("GRADC_POISON");
  CHECK(same_bits(poisoned.losses, clean.losses));
  CHECK(same_bits(poisoned.parameters, clean.parameters));
}

TEST_CASE("poison: dead values, when they die, element by element") {
  Sources sources;
  const std::uint32_t source = sources.add("plan", R"(kernel @map.1 map(%a: f32[i=2]) -> f32[i] {
  %r = tanh %a -> f32[i]
  return %r
}
kernel @map.2 map(%a: f32[i=2 j=2]) -> f32[i j] {
  %r = tanh %a -> f32[i j]
  return %r
}
func @f(%x: f32[i=2] at in+0 [1]) -> f32[i j=2] {
  %a = launch @map.1 %x -> f32[i] at act+0 [2]
  %b = launch @map.1 %a -> f32[i] at act+4 [2]
  %c = launch @map.1 %a -> f32[i] at act+16 [1]
  %d = launch @map.1 %c -> f32[i] at act+16 [1]
  %e = concat %d, %b [j = _ _] -> f32[i j] at act+16 [1 1]
  %y = launch @map.2 %e -> f32[i j] at out+0 [2 1]
  return %y
}
)");
  Result<Program> program = parse_ir(sources, source);
  REQUIRE(program.ok());
  std::vector<std::byte> activations(24), out(16);
  Bases bases{};
  bases[index(Arena::activations)] = activations.data();
  bases[index(Arena::output)] = out.data();
  const Poison p = Poison::of(program->function(program->find("f")), bases);
  const auto floats = [](const std::vector<std::byte>& bytes) {
    std::string text;
    for (std::size_t i = 0; i < bytes.size(); i += 4) {
      float x = 0;
      std::memcpy(&x, &bytes[i], 4);
      text += x == 0 ? '0' : x != x ? 'n' : '?';
    }
    return text;
  };
  std::string seen;
  REQUIRE(p.behind.size() == 5);
  for (const std::vector<Fill>& fills : p.behind) {
    poison(fills);
    seen += floats(activations) + " ";
  }
  //                 a lives; b too; a dies; c was overwritten by d; b and d die
  CHECK(seen == "000000 000000 n0n000 n0n000 nnnnnn ");
  CHECK(floats(out) == "0000");
  poison(p.before);
  CHECK(floats(out) == "nnnn");
}

}  // namespace gradc
