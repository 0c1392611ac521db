// Protects the command line as scripts see it: exit codes, streams, round trips of every stage, names
// that are fixed, files that are whole or not there.
#include <doctest/doctest.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/wait.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <utility>

#include "runtime/initial.h"
#include "scratch.h"
#include "support/golden.h"

namespace gradc {
namespace {

struct Ran {
  int code = -1;
  std::string output;
};
// `gradc ARGUMENTS` in the source folder; standard error joins or is dropped.
Ran gradc(const std::string& arguments, bool errors = false) {
  const std::string command =
      fmt::format("cd '{}' && '{}/gradc' {} {}", GRADC_SOURCE, GRADC_BUILD, arguments, errors ? "2>&1" : "2>/dev/null");
  std::FILE* pipe = popen(command.c_str(), "r");
  REQUIRE(pipe != nullptr);
  Ran out;
  char buffer[4096];
  for (std::size_t n; (n = std::fread(buffer, 1, sizeof buffer, pipe)) > 0;) out.output.append(buffer, n);
  const int status = pclose(pipe);
  out.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128;
  return out;
}

// The same, sent `signal` once it has printed a line that begins with `word`.
Ran interrupted(const std::string& arguments, int signal, std::string_view word) {
  const std::string command =
      fmt::format("cd '{}' && echo $$ && exec '{}/gradc' {} 2>/dev/null", GRADC_SOURCE, GRADC_BUILD, arguments);
  std::FILE* pipe = popen(command.c_str(), "r");
  REQUIRE(pipe != nullptr);
  int pid = 0;
  REQUIRE(std::fscanf(pipe, "%d\n", &pid) == 1);
  Ran out;
  char line[4096];
  while (pid > 0 && std::fgets(line, sizeof line, pipe) != nullptr) {
    out.output += line;
    if (std::string_view(line).starts_with(word)) kill(std::exchange(pid, 0), signal);
  }
  while (std::fgets(line, sizeof line, pipe) != nullptr) out.output += line;
  const int status = pclose(pipe);
  out.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128;
  return out;
}

const std::string mini = "frontend/models/mini.grad";
const std::string small = mini + " --set d=8 e=8 t=8 b=2";

}  // namespace

TEST_CASE("exit codes tell what was wrong") {
  CHECK(gradc("check " + mini).code == 0);
  CHECK(gradc("check tests/parity/README.md").code == 1);           // not a model
  CHECK(gradc("check " + mini + " --set d=0").code == 1);           // the text refuses the value
  CHECK(gradc("check " + mini + " --set dd=4").code == 2);          // no such number
  CHECK(gradc("check " + mini + " --set d").code == 2);
  CHECK(gradc("check " + mini + " --nonsense").code == 2);
  CHECK(gradc("").code == 2);
  CHECK(gradc("--help").code == 0);
  CHECK(gradc("train --help").code == 0);
  CHECK(gradc("check no-such-file.grad").code == 3);
  CHECK(gradc("train " + small + " --data no-such-file").code == 3);
  CHECK(gradc("train " + mini + " --data LICENSE --set v=20").code == 3);   // a byte outside the vocabulary
  CHECK(gradc("dump " + mini + " --stage=nonsense").code == 2);
  CHECK(gradc("opt " + mini + " --passes=nonsense").code == 2);
  CHECK(gradc("run " + mini + " --input token=no.npy").code == 3);
  CHECK(gradc("run " + mini + " --input token=frontend").code == 3);         // a folder
  CHECK(gradc("run " + mini + " --input tokn=no.npy").code == 2);
  CHECK(gradc("chek " + mini).code == 2);
  CHECK(gradc("train " + small + " --data LICENSE --until bigam").code == 2);
  CHECK(gradc("train " + small + " --data LICENSE --steps 100000000 --out LICENSE/x").code == 3);   // before training
  CHECK(gradc("bench tests/bench/lstm.grad --set t=200000 b=1 d=2 --steps 1").code == 2);  // too many launches
}

TEST_CASE("--memory-budget: what it takes, what a plan says of it, what cannot be met") {
  const std::string gpt = "frontend/models/gpt.grad --set layers=4 d=32 h=2 t=32 b=8 ";
  for (const char* wrong : {"x", "800Q", "-1", "0", "1.5GB"}) CHECK(gradc(fmt::format("dump {} --stage=plan --memory-budget {}", gpt, wrong)).code == 2);
  CHECK(gradc("dump " + gpt + "--stage=plan --memory-budget 1.5G").output == gradc("dump " + gpt + "--stage=plan").output);
  const Ran planned = gradc("dump " + gpt + "--stage=plan --brief --memory-budget 0.6M");
  CHECK(planned.code == 0);
  CHECK(planned.output.find("# recomputed: turns 0-") != std::string::npos);
  const Ran refused = gradc("bench " + gpt + "--memory-budget 1K", true);
  CHECK(refused.code == 2);
  CHECK(refused.output.find("too small: activations take ") != std::string::npos);
}

TEST_CASE("bench: profile, lines and trace, and what they refuse") {
  runtime_test::Scratch scratch;
  CHECK(gradc("bench " + small + " --lines").code == 2);                     // needs --profile
  CHECK(gradc("bench " + small + " --steps 1 --trace LICENSE/x").code == 3);
  const Ran text = gradc("bench " + small + " --steps 2 --profile --lines --trace " + scratch.path("trace.json"));
  CHECK(text.code == 0);
  for (const char* part : {"\nkernel ", "\nsum ", "\noverhead: ", "\nmachine: ", "q = sum[d](x * wq) ", " the optimizer\n"})
    CHECK_MESSAGE(text.output.find(part) != std::string::npos, part);
  CHECK(scratch.files() == 1);   // written beside and renamed
  CHECK(nlohmann::json::parse(scratch.read("trace.json"))["traceEvents"].size() > 20);
  const auto json = nlohmann::json::parse(gradc("bench " + small + " --steps 2 --json --profile --lines").output);
  for (const char* key : {"ms", "parameters", "overhead", "profile_share", "peak_f32_gflops", "read_gbs", "copy_gbs", "update_gbs"})
    CHECK_MESSAGE(json[key].is_number(), key);
  CHECK(json["profile"].size() > 5);
  CHECK(json["lines"].size() > 5);
  // The turns of a scan are launches like others.
  const std::string turns = scratch.path("turns.json");
  const Ran scan = gradc("bench tests/bench/lstm.grad --set d=16 v=32 t=5 b=2 --steps 1 --profile --lines --trace " + turns);
  CHECK(scan.code == 0);
  CHECK(scan.output.find("+ sum[j](hidden[t = t - 1, k = j] * wh) ") != std::string::npos);
  CHECK(nlohmann::json::parse(scratch.read("turns.json"))["traceEvents"].size() > 2 * 2 * 5 * 2);
}

TEST_CASE("models of the benchmark have the peers' parameters") {
  const auto count = [](const std::string& model, const std::string& set) {
    const std::string output = gradc("check tests/bench/" + model + ".grad" + (set.empty() ? "" : " --set " + set)).output;
    return output.substr(output.rfind(' ') + 1);
  };
  const std::string gpt2 = "layers=12 d=768 h=12 v=50257 ";
  CHECK(count("gpt", gpt2 + "t=64") == "123,702,528\n");
  CHECK(count("gpt", gpt2 + "t=1024") == "124,439,808\n");
  CHECK(count("encdec", "") == "48,350,208\n");
  CHECK(count("lstm", "") == "1,151,488\n");
}

TEST_CASE("check --passes: a line a pass for every shipped model, at sizes that differ") {
  for (const char* model : {"mini", "gpt", "llama", "transformer", "cnn", "lstm", "rnn"}) {
    CAPTURE(model);
    const Ran r = gradc(fmt::format("check frontend/models/{}.grad --passes", model), true);
    CHECK(r.code == 0);
    CHECK(r.output.starts_with("sizes: "));
    CHECK(r.output.find("\nok    differentiate ") != std::string::npos);
    CHECK(r.output.find("\nok    plan ") != std::string::npos);
    CHECK(r.output.find(" passes: all values agree\n") != std::string::npos);
  }
  CHECK(gradc("check " + mini + " --passes --set d=0").code == 1);
  CHECK(gradc("check " + mini + " --passes --target nonsense").code == 2);
}

TEST_CASE("a message has its place, the line and a caret") {
  const Ran r = gradc("check " + mini + " --set d=0", true);
  CHECK(r.output.starts_with("frontend/models/mini.grad:1:"));
  CHECK(r.output.find("error: ") != std::string::npos);
  CHECK(r.output.find('^') != std::string::npos);
}

TEST_CASE("dump --math: the gradient as mathematics, and what it goes with") {
  const Ran r = gradc("dump " + mini + " --stage=grad --math");
  CHECK(r.code == 0);
  CHECK(r.output.find("\nd_wk[d e] = sum[b t](x * d_k") != std::string::npos);
  CHECK(gradc("dump " + mini + " --stage=grad --math --function=@update").code == 0);
  CHECK(gradc("dump " + mini + " --stage=grad --math --function=@nothing").code == 2);
  CHECK(gradc("dump " + mini + " --stage=plan --math").code == 2);
}

TEST_CASE("misspelt words come with what was meant") {
  const auto says = [](const std::string& arguments, const std::string& text) {
    const Ran r = gradc(arguments, true);
    CHECK_MESSAGE(r.output.find(text) != std::string::npos, r.output);
  };
  says("chek " + mini, "there is no verb `chek`; did you mean `check`?");
  says("run " + mini + " --input tokn=no.npy", "there is no input `tokn`; did you mean `token`?");
  says("check " + mini + " --set stpes=3", "did you mean `steps`?");
}

TEST_CASE("what cannot be written is exit 3; training that is interrupted, or loses its reader, is saved") {
  for (const char* verb : {"--help", "check --help", "dump --list-stages", "opt --list"}) CHECK(gradc(std::string(verb) + " >/dev/full").code == 3);
  CHECK(gradc("check " + mini + " >/dev/full").code == 3);
  runtime_test::Scratch scratch;
  const std::string long_run = "train " + small + " --data LICENSE --steps 100000000 --sample-tokens 0 --out ";
  CHECK(gradc(long_run + scratch.path("lost") + " >/dev/full").code == 3);
  CHECK(interrupted(long_run + scratch.path("stopped"), SIGINT, "step").code == 130);
  CHECK(interrupted(long_run + scratch.path("ended"), SIGTERM, "step").code == 143);
  for (const char* run : {"lost", "stopped", "ended"}) {
    CHECK(std::filesystem::exists(scratch.path(run) + "/weights.safetensors"));
    CHECK(nlohmann::json::parse(golden::read_file(scratch.path(run) + "/run.json")).contains("step"));
  }
}

TEST_CASE("every IR stage of every shipped model goes through opt unchanged") {
  runtime_test::Scratch scratch;
  const std::string stages = gradc("dump --list-stages").output;
  int round_trips = 0;
  for (const char* model : {"mini", "gpt", "llama", "transformer", "cnn"})
    for (const char* stage : {"ir", "grad", "grouped", "plan"}) {
      CAPTURE(model);
      CAPTURE(stage);
      CHECK(stages.find(fmt::format("\n{} ", stage)) != std::string::npos);
      const Ran once = gradc(fmt::format("dump frontend/models/{}.grad --stage={}", model, stage));
      REQUIRE(once.code == 0);
      const Ran twice = gradc("opt - --passes= <" + scratch.write("stage.ir", once.output));
      CHECK(twice.code == 0);
      CHECK(twice.output == once.output);
      ++round_trips;
    }
  CHECK(round_trips == 20);
}

TEST_CASE("bf16: casts show in every stage that has kernels and go through opt; bench says the precision") {
  runtime_test::Scratch scratch;
  for (const char* stage : {"grouped", "plan"}) {
    const Ran half = gradc(fmt::format("dump {} --precision bf16 --stage={}", mini, stage));
    REQUIRE(half.code == 0);
    CHECK(half.output.find("-> bf16[") != std::string::npos);
    CHECK(gradc("opt - --passes= <" + scratch.write("stage.ir", half.output)).output == half.output);
    CHECK(gradc(fmt::format("dump {} --stage={}", mini, stage)).output.find("bf16") == std::string::npos);
  }
  const Ran bench = gradc("bench " + small + " --precision bf16 --steps 1 --json");
  CHECK(nlohmann::json::parse(bench.output)["precision"] == "bf16");
}

TEST_CASE("training: the same bits for any number of threads, weights that sample reads, nothing half-written") {
  runtime_test::Scratch scratch;
  const auto losses = [&](int threads, const std::string& model = small) {
    const Ran r = gradc(fmt::format("train {} --data LICENSE --steps 6 --threads {} --json --validate-every 3 --sample-tokens 0 --out {}",
                                    model, threads, scratch.path("run")));
    CHECK(r.code == 0);
    std::vector<std::string> out;
    for (std::size_t at = 0; at < r.output.size();) {
      const std::size_t end = r.output.find('\n', at);
      const auto j = nlohmann::json::parse(r.output.substr(at, end - at));
      out.push_back(j.contains("loss") ? j["loss"].dump() + " " + j["norm"].dump() : j["validation"].dump());
      at = end + 1;
    }
    return out;
  };
  for (const char* recurrent : {"lstm", "rnn"}) {  // wide enough that kernels of a turn run on all threads
    const std::string model = fmt::format("frontend/models/{}.grad --set d=128 t=6 b=8", recurrent);
    const std::vector<std::string> one = losses(1, model);
    CHECK(one.size() == 8);
    CHECK(one == losses(2, model));
    CHECK(one == losses(3, model));
    CHECK(one.front() != one[5]);
  }
  const std::vector<std::string> one = losses(1);
  CHECK(one.size() == 8);   // six steps, two validations
  CHECK(one == losses(2));
  CHECK(one == losses(3));
  CHECK(one.front() != one[5]);
  const auto run = nlohmann::json::parse(golden::read_file(scratch.path("run") + "/run.json"));
  CHECK(run["set"]["d"] == 8);
  CHECK(run["step"] == 6);
  CHECK(run["program"] == fmt::format("{:016x}", fnv1a(gradc("dump " + small + " --stage=ast").output)));
  for (const auto& entry : std::filesystem::directory_iterator(scratch.path("run")))
    CHECK(entry.path().extension() != ".tmp");
  const std::string from = " --checkpoint " + scratch.path("run") + " --tokens 20 --seed 3";
  const Ran text = gradc("sample " + mini + from);
  CHECK(text.code == 0);
  CHECK(text.output.size() == 22);   // the prompt, twenty bytes, a newline
  CHECK(gradc("sample " + mini + from).output == text.output);
  CHECK(gradc("sample " + mini + from + " --set d=16").code == 2);   // differs from the checkpoint
  CHECK(gradc("sample " + mini + from + " --set dd=16").code == 2);
}

TEST_CASE("run: compiled and interpreted agree, from files to files") {
  runtime_test::Scratch scratch;
  const std::string base = "tests/parity/gpt2/";
  const std::string what = base + "model.grad --set layers=2 d=64 h=4 v=96 p=16 t=16 b=2 --weights " + base + "model.safetensors --input " +
                           base + "batch.safetensors --value loss grad.transformer.wpe.weight";
  const Ran fast = gradc("run " + what), slow = gradc("run " + what + " --interpret");
  CHECK(fast.code == 0);
  CHECK(slow.code == 0);
  CHECK(slow.output.starts_with("loss: f32[] 4.69408611047"));
  CHECK(fast.output.starts_with("loss: f32[] 4.69408"));
  // Rounded operands move the loss in the fifth digit; the oracle rounds the same ones.
  const auto loss = [](const Ran& r) { return std::strtod(r.output.c_str() + r.output.find("] ") + 2, nullptr); };
  const Ran half = gradc("run " + what + " --precision bf16"), oracle = gradc("run " + what + " --precision bf16 --interpret");
  CHECK(loss(half) == doctest::Approx(loss(oracle)).epsilon(1e-5));
  CHECK(loss(oracle) == doctest::Approx(loss(slow)).epsilon(1e-3));
  CHECK(std::abs(loss(oracle) - loss(slow)) > 1e-5);
  CHECK(gradc("run " + what + " --precision f16").code == 2);
  const std::string file = scratch.path("out.safetensors");
  CHECK(gradc("run " + what + " --output " + file).code == 0);
  CHECK(std::filesystem::file_size(file) > 16 * 64 * 4);
  CHECK(gradc("run " + what + " --value grad.nothing").code == 2);
}

}  // namespace gradc
