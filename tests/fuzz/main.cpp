// The fuzz: random models through every pass, in the interpreter and compiled.
//
//     fuzz --count 1000 --from 1 [--compiled] [--bf16]   a thousand of them; prints where to go on
//     fuzz --seconds 600 --from 1                 as many as there is time for
//     fuzz --fault 3 --count 50                   with a deliberate fault: how many find it
//     fuzz --faults 20                            each fault, until it is found, in at most 20 programs
//     fuzz --texts tests/golden/fuzz              texts that once failed
//     fuzz --show 17                              the model of a seed
//
// Exit codes: 0 all agree, 1 some do not, 2 flags. The work is done in a process of its own, so
// that a crash is a finding too.
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <vector>

#include "fuzz/faults.h"
#include "fuzz/generator.h"
#include "fuzz/reduce.h"
#include "fuzz/subject.h"

using namespace gradc;
using namespace gradc::fuzz;

namespace {

constexpr unsigned most_seconds = 120;  // for one program

struct Flags {
  double seconds = 1e9;
  std::uint64_t from = 1;
  std::int64_t count = 0;  // 0: until the time is over
  bool compiled = false, bf16 = false, reduce = true;
  int fault = 0;
  std::int64_t faults = 0;  // programs for each fault
  std::string texts;
};

// What workers and their parent share.
struct Shared {
  std::uint64_t seed = 0;  // in work
  std::int64_t programs = 0, compiled = 0, with_gradient = 0, unstable = 0, not_finite = 0,
               refused = 0;
  std::int64_t injected = 0, found = 0;
  std::int64_t ops[opcode_count] = {}, claims[claim_count] = {};
  char signature[512] = {}, message[4096] = {};
};

void put(char* to, std::size_t size, const std::string& text) {
  const std::size_t n = std::min(size - 1, text.size());
  std::memcpy(to, text.data(), n);
  to[n] = 0;
}

Question question_of(std::uint64_t seed, const Flags& flags) {
  // One in ten is compiled as well, or all of them; four in ten go through a choice of passes, too; one
  // in ten has reals of 64 bits.
  const bool compiled = flags.fault == 0 && (flags.compiled || seed % 10 == 3);
  return {.seed = seed,
          .compiled = compiled,
          .chosen = flags.fault == 0 && (compiled || seed % 10 < 3),
          .wide = !compiled && !flags.bf16 && seed % 10 == 7,
          .bf16 = flags.bf16,
          .fault = flags.fault};
}
// Runs `work` in a process of its own; gives how it ended, "" if it returned 0.
template <class Work>
std::string apart(const Work& work) {
  std::fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    const int code = work();
    std::fflush(stdout);
    _exit(code);
  }
  int status = 0;
  waitpid(child, &status, 0);
  if (WIFSIGNALED(status))
    return WTERMSIG(status) == SIGALRM ? "hang" : fmt::format("signal {}", WTERMSIG(status));
  return WEXITSTATUS(status) == 0 ? "" : fmt::format("exit {}", WEXITSTATUS(status));
}

// The signature of a text's failure, "" if all is right.
std::string failure_of(const std::string& text, const Question& question, Shared& shared) {
  shared.signature[0] = shared.message[0] = 0;
  const std::string end = apart([&] {
    if (std::freopen("/dev/null", "w", stderr) == nullptr) return 1;
    alarm(most_seconds);
    Examiner examiner;
    const Outcome o = examiner.examine(text, question);
    if (o.ok()) return 0;
    put(shared.signature, sizeof shared.signature, o.signature());
    put(shared.message, sizeof shared.message, o.message);
    return 3;
  });
  return end.empty() || end == "exit 3" ? shared.signature : end;
}

int worker(const Flags& flags, std::int64_t left, std::chrono::steady_clock::time_point end,
           Shared& shared) {
  Examiner examiner;
  for (; left != 0 && std::chrono::steady_clock::now() < end; --left, ++shared.seed) {
    alarm(most_seconds);
    const Outcome o =
        examiner.examine(random_model(shared.seed), question_of(shared.seed, flags));
    ++shared.programs;
    shared.compiled += o.compiled ? 1 : 0;
    shared.with_gradient += o.gradient ? 1 : 0;
    shared.unstable += o.unstable;
    shared.not_finite += o.verdict == Verdict::not_finite ? 1 : 0;
    shared.refused += o.verdict == Verdict::refused ? 1 : 0;
    for (std::size_t i = 0; i < o.ops.size(); ++i) shared.ops[i] += o.ops[i] ? 1 : 0;
    for (std::size_t i = 0; i < o.claims.size(); ++i) shared.claims[i] += o.claims[i] ? 1 : 0;
    if (o.ok()) continue;
    put(shared.signature, sizeof shared.signature, o.signature());
    put(shared.message, sizeof shared.message, o.message);
    return 3;
  }
  return 0;
}

void report(const std::string& text, const Question& question, const std::string& signature,
            const Flags& flags, Shared& shared) {
  fmt::print("\nseed {}: {}\n  {}\n", question.seed, signature, shared.message);
  std::string small = text;
  if (flags.reduce)
    small = reduced(
        text, [&](const std::string& t) { return failure_of(t, question, shared) == signature; },
        1500);
  failure_of(small, question, shared);
  fmt::print("{}  {}\n", small, shared.message);
  std::fflush(stdout);
}

void print_histogram(const Shared& s) {
  fmt::print("operations, in how many programs:\n");
  for (int i = 0; i < opcode_count; ++i)
    fmt::print("  {:<10} {:>7}{}", facts(static_cast<Opcode>(i)).name, s.ops[i],
               i % 4 == 3 || i + 1 == opcode_count ? "\n" : "");
  fmt::print("fused forms, in how many programs:\n");
  for (int i = 1; i < claim_count; ++i)
    fmt::print("  {:<14} {:>7}{}", name(static_cast<Claim>(i)), s.claims[i],
               i % 3 == 0 ? "\n" : "");
  fmt::print(
      "{} programs, {} compiled; {:.1f} % with a gradient; {} not finite; {} refused; {} "
      "differences that rounding explains\n",
      s.programs, s.compiled,
      100.0 * static_cast<double>(s.with_gradient) /
          static_cast<double>(std::max<std::int64_t>(1, s.programs)),
      s.not_finite, s.refused, s.unstable);
}

int run(const Flags& flags, Shared& shared) {
  const auto begin = std::chrono::steady_clock::now();
  const auto end = begin + std::chrono::duration_cast<std::chrono::steady_clock::duration>(
                               std::chrono::duration<double>(std::min(flags.seconds, 1e8)));
  shared.seed = flags.from;
  int failures = 0;
  while (failures < 20) {
    const std::int64_t done = static_cast<std::int64_t>(shared.seed - flags.from);
    if (flags.count > 0 && done >= flags.count) break;
    if (std::chrono::steady_clock::now() >= end) break;
    shared.signature[0] = shared.message[0] = 0;
    const std::string ended = apart(
        [&] { return worker(flags, flags.count > 0 ? flags.count - done : -1, end, shared); });
    if (ended.empty()) break;
    ++failures;
    const std::string signature = ended == "exit 3" ? shared.signature : ended;
    const Question question = question_of(shared.seed, flags);
    report(random_model(shared.seed), question, signature, flags, shared);
    ++shared.seed;
  }
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  print_histogram(shared);
  fmt::print("{} failures in {:.1f} s ({:.2f} ms a program); next --from {}\n", failures, seconds,
             1000 * seconds / static_cast<double>(std::max<std::int64_t>(1, shared.programs)),
             shared.seed);
  return failures == 0 ? 0 : 1;
}

// One fault in `count` programs, or, if `first`, until it is found.
int run_fault(Flags flags, int fault, std::int64_t count, bool first, Shared& shared) {
  flags.fault = fault;
  shared = Shared{};
  Examiner examiner;
  for (shared.seed = flags.from; shared.programs < count; ++shared.seed) {
    double injected = 0;
    Question question = question_of(shared.seed, flags);
    question.injected = &injected;
    (void)examiner.examine(random_model(shared.seed), question);
    ++shared.programs;
    shared.injected += injected > 0 ? 1 : 0;
    shared.found += injected > 1 ? 1 : 0;
    if (first && shared.found > 0) break;
  }
  fmt::print("fault {:>2} ({}): injected into {} of {} programs, found in {}\n", fault,
             fault_name(fault), shared.injected, shared.programs, shared.found);
  return shared.found > 0 ? 0 : 1;
}

int run_texts(const Flags& flags, Shared& shared) {
  std::vector<std::filesystem::path> paths;
  if (std::filesystem::is_directory(flags.texts)) {
    for (const auto& entry : std::filesystem::directory_iterator(flags.texts))
      if (entry.path().extension() == ".grad") paths.push_back(entry.path());
  } else {
    paths.emplace_back(flags.texts);
  }
  std::sort(paths.begin(), paths.end());
  int failures = 0;
  for (const std::filesystem::path& path : paths) {
    std::ifstream in(path);
    std::stringstream text;
    text << in.rdbuf();
    std::string failed;
    for (std::uint64_t k = 0; k < 6 && failed.empty(); ++k)  // choices of passes
      failed = failure_of(text.str(), {.seed = flags.from + k, .compiled = k == 0, .chosen = true},
                          shared);
    if (failed.empty()) continue;
    fmt::print("{}: {}: {}\n", path.string(), failed, shared.message);
    ++failures;
  }
  fmt::print("{} texts, {} failures\n", paths.size(), failures);
  return failures == 0 && !paths.empty() ? 0 : 1;
}

int usage() {
  fmt::print(
      stderr,
      "fuzz [--count N] [--seconds S] [--from SEED] [--compiled] [--bf16] [--no-reduce] [--fault 1..{}] "
      "[--faults N] [--texts FILE|FOLDER] [--show SEED]\n",
      fault_count);
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  Flags flags;
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    const std::string value = i + 1 < argc ? argv[i + 1] : "";
    if (flag == "--compiled") {
      flags.compiled = true;
      continue;
    }
    if (flag == "--bf16") {
      flags.bf16 = true;
      continue;
    }
    if (flag == "--no-reduce") {
      flags.reduce = false;
      continue;
    }
    if (value.empty()) return usage();
    ++i;
    if (flag == "--seconds")
      flags.seconds = std::atof(value.c_str());
    else if (flag == "--from")
      flags.from = std::strtoull(value.c_str(), nullptr, 10);
    else if (flag == "--count")
      flags.count = std::atoll(value.c_str());
    else if (flag == "--fault")
      flags.fault = std::atoi(value.c_str());
    else if (flag == "--faults")
      flags.faults = std::atoll(value.c_str());
    else if (flag == "--texts")
      flags.texts = value;
    else if (flag == "--show") {
      fmt::print("{}", random_model(std::strtoull(value.c_str(), nullptr, 10)));
      return 0;
    } else
      return usage();
  }
  if (flags.fault < 0 || flags.fault > fault_count) return usage();
  const bool random = flags.count > 0 || flags.seconds < 1e8;
  if (!random && flags.texts.empty() && flags.faults == 0) return usage();
  if (flags.fault > 0 && flags.count == 0) return usage();
  void* memory =
      mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return 3;
  Shared& shared = *new (memory) Shared;
  if (flags.fault > 0) return run_fault(flags, flags.fault, flags.count, false, shared);
  int code = flags.texts.empty() ? 0 : run_texts(flags, shared);
  for (int fault = 1; fault <= fault_count && flags.faults > 0; ++fault)
    code = std::max(code, run_fault(flags, fault, flags.faults, true, shared));
  shared = Shared{};
  return random ? std::max(code, run(flags, shared)) : code;
}
