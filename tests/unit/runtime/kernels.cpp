// Protects that nothing is compiled twice: by one store, by the next run, by the command line; and that
// a cache which cannot help changes no result.
#include "runtime/kernels.h"

#include <doctest/doctest.h>
#include <fmt/format.h>
#include <sys/wait.h>

#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "frontend/frontend.h"
#include "ir/text.h"
#include "passes/pipeline.h"
#include "runtime/step.h"
#include "scratch.h"
#include "support/golden.h"

namespace gradc {
namespace {

using runtime_test::Scratch;

// Two kernels in three launches: of the first one two layouts, and one of them twice.
const char* text =
    "kernel @double map(%x: f32[i=4 j=8]) -> f32[i j] {\n"
    "  %y = add %x, %x -> f32[i j]\n"
    "  return %y\n"
    "}\n"
    "kernel @row rows(%x: f32[i=4 j=8]) -> f32[i] {\n"
    "  %s = sum %x over j -> f32[i]\n"
    "  return %s\n"
    "}\n"
    "func @f(%x: f32[i=4 j=8] at in+0 [8 1]) -> f32[i] {\n"
    "  %a = launch @double %x -> f32[i j] at act+0 [8 1]\n"
    "  %b = launch @double %a -> f32[i j] at act+128 [8 1]\n"
    "  %c = launch @double %b -> f32[i j] at act+256 [1 4]\n"
    "  %s = launch @row %c -> f32[i] at out+0 [1]\n"
    "  return %s\n"
    "}\n";

struct Outcome {
  LoadReport report;
  std::vector<float> sums;
};
Outcome load_and_run(KernelStore& store) {
  Sources sources;
  const Result<Program> p = parse_ir(sources, sources.add("text.ir", text));
  REQUIRE(p.ok());
  std::vector<float> in(32, 0.5f), between(96);
  Outcome out;
  out.sums.resize(4);
  Bases bases{};
  bases[index(Arena::input)] = reinterpret_cast<std::byte*>(in.data());
  bases[index(Arena::activations)] = reinterpret_cast<std::byte*>(between.data());
  bases[index(Arena::output)] = reinterpret_cast<std::byte*>(out.sums.data());
  Pool pool(2);
  Result<Step> step = Step::load(*p, p->find("f"), store, pool, bases, out.report);
  REQUIRE(step.ok());
  step->run();
  return out;
}

struct Ran {
  int code = -1;
  std::string out, errors;
};
Ran bench(const Scratch& scratch, const std::string& cache, const std::string& flags = "") {
  const std::string command =
      fmt::format("cd '{}' && GRADC_CACHE_DIR='{}' '{}/gradc' bench frontend/models/mini.grad "
                  "--set d=8 e=8 t=8 b=2 --steps 1 --json {} >'{}' 2>'{}'",
                  GRADC_SOURCE, cache, GRADC_BUILD, flags, scratch.path("out"), scratch.path("err"));
  const int status = std::system(command.c_str());
  return {WIFEXITED(status) ? WEXITSTATUS(status) : 128, scratch.read("out"), scratch.read("err")};
}

std::int64_t warnings_in(const std::string& errors) {
  std::int64_t n = 0;
  for (std::size_t at = 0; (at = errors.find("warning: ", at)) != std::string::npos; ++at) ++n;
  return n;
}

}  // namespace

TEST_CASE("launches of one kernel with the same layouts share code; a second run compiles nothing") {
  Scratch scratch;
  const std::vector<float> sums(4, 32.0f);
  {
    KernelStore store(host_target(), scratch.path("cache"));
    const Outcome first = load_and_run(store);
    CHECK(first.report.launches == 4);
    CHECK(first.report.kernels == 3);
    CHECK(first.report.compiled == 3);
    CHECK(first.report.cached == 0);
    CHECK(first.sums == sums);
    const Outcome again = load_and_run(store);
    CHECK(again.report.compiled + again.report.cached == 0);
    CHECK(again.sums == sums);
  }
  KernelStore next(host_target(), scratch.path("cache"));
  const Outcome second = load_and_run(next);
  CHECK(second.report.compiled == 0);
  CHECK(second.report.cached == 3);
  CHECK(second.sums == sums);
  KernelStore without(host_target());
  CHECK(load_and_run(without).report.compiled == 3);
}

TEST_CASE("a damaged entry is compiled again, and whole for the run behind") {
  Scratch scratch;
  const std::string dir = scratch.path("cache");
  {
    KernelStore store(host_target(), dir);
    load_and_run(store);
  }
  const std::string file = std::filesystem::directory_iterator(dir)->path().filename();
  std::string bytes = scratch.read("cache/" + file);
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
  scratch.write("cache/" + file, bytes);
  for (const int compiled : {1, 0}) {
    KernelStore store(host_target(), dir);
    const Outcome o = load_and_run(store);
    CHECK(o.report.compiled == compiled);
    CHECK(o.sums == std::vector<float>(4, 32.0f));
  }
}

TEST_CASE("bench: the second run finds all its kernels; --no-cache neither reads nor writes; one warning at most") {
  Scratch scratch;
  const std::string cache = scratch.path("cache");
  const auto counts = [](const Ran& r) {
    CHECK(r.code == 0);
    const nlohmann::json j = nlohmann::json::parse(r.out);
    return std::pair<int, int>(j["compiled"], j["cached"]);
  };
  CHECK(counts(bench(scratch, cache, "--no-cache")).first > 5);
  CHECK_FALSE(std::filesystem::exists(cache));
  const Ran first = bench(scratch, cache), second = bench(scratch, cache);
  const int n = counts(first).first;
  CHECK(n > 5);
  CHECK(counts(first) == std::pair(n, 0));
  CHECK(counts(second) == std::pair(0, n));
  CHECK(first.errors + second.errors == "");
  const nlohmann::json a = nlohmann::json::parse(first.out), b = nlohmann::json::parse(second.out);
  CHECK(a["loss"] == b["loss"]);
  for (const char* part : {"compile_s", "frontend_s", "passes_s", "llvm_s", "link_s"})
    CHECK(a[part].is_number());
  // Every entry is damaged, or none can be made: compiled as if there were no cache.
  for (const auto& f : std::filesystem::directory_iterator(cache))
    scratch.write("cache/" + f.path().filename().string(), "gradck");
  scratch.write("file", "");
  for (const std::string& place : {cache, scratch.path("file"), std::string("/proc/self/task")}) {
    const Ran r = bench(scratch, place);
    CHECK(counts(r) == std::pair(n, 0));
    CHECK(warnings_in(r.errors) == 1);
  }
  CHECK(counts(bench(scratch, cache)) == std::pair(0, n));
}

TEST_CASE("the code of a step does not grow with its depth") {
  const auto keys = [](const char* layers) {
    const std::string path = "tests/bench/gpt.grad";
    Sources sources;
    const std::uint32_t source = sources.add(path, golden::read_file(golden::source_path(path)));
    const auto parsed =
        parse_model(sources, source, [](const std::string&, std::string&) { return false; });
    REQUIRE(parsed.ok());
    LowerOptions small{.set = {{"d", "32"}, {"h", "2"}, {"t", "16"}, {"b", "2"}}, .values = {"loss"}};
    small.set.emplace_back("layers", layers);
    const Result<Model> model = lower(sources, **parsed, small);
    REQUIRE(model.ok());
    const Result<Program> p = run_pipeline(model->program, {.target = avx512_target()});
    REQUIRE(p.ok());
    const Function& step = p->function(p->find("step"));
    std::set<std::string> out;
    for (OpId o : step.body().ops)
      if (step.op(o).code == Opcode::launch_)
        out.insert(key_of(*p, instance_of(*p, step, step.op(o)), avx512_target()));
    return out;
  };
  const std::set<std::string> few = keys("4"), many = keys("48");
  CHECK(few.size() == many.size());
  // Most are the very same; the optimizer's and the norm's know how many parameters there are.
  std::size_t shared = 0;
  for (const std::string& k : many) shared += few.contains(k);
  CHECK(many.size() - shared <= 8);
}

}  // namespace gradc
