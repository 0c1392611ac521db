// bench: the time of a training step on random tokens, and where it goes.
#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <cstring>
#include <optional>

#include "ir/philox.h"
#include "runtime/clock.h"
#include "runtime/entry.h"
#include "runtime/file.h"
#include "runtime/json.h"
#include "runtime/lines.h"
#include "runtime/profile.h"
#include "runtime/trace.h"
#include "runtime/verbs.h"
#include "runtime/weights.h"

namespace gradc {
namespace {

// A random batch, drawn once and copied in before every step, as a loader would.
struct Batch {
  std::vector<std::pair<std::byte*, std::vector<std::byte>>> parts;
  std::int64_t tokens = 0;

  static Batch draw(const Program& p, const Entry& entry, std::uint64_t seed) {
    Batch out;
    for (std::size_t n = 0; n < p.inputs.size(); ++n) {
      const Input& in = p.inputs[n];
      std::byte* at = entry.argument(p.text(in.name));
      if (at == nullptr) continue;
      std::int64_t count = 1;
      for (const Axis& a : in.axes) count *= a.extent;
      const std::string_view name = p.text(in.name);
      if (name == "token" || name == "source") out.tokens += count;
      std::vector<std::byte> bytes(static_cast<std::size_t>(count * gradc::bytes(in.dtype)));
      for (std::int64_t i = 0; i < count; ++i) {
        const double u = philox_uniform(seed, 0, 0x62656e63 + n, static_cast<std::uint64_t>(i));
        if (in.dtype == DType::f32) {
          const auto x = static_cast<float>(2 * u - 1);
          std::memcpy(&bytes[static_cast<std::size_t>(i) * 4], &x, 4);
        } else {
          const std::int64_t low = in.bounded ? std::max<std::int64_t>(in.low, 0) : 0, high = in.bounded ? in.high : 2;
          const auto x = static_cast<std::int32_t>(low + static_cast<std::int64_t>(u * static_cast<double>(high - low)));
          std::memcpy(&bytes[static_cast<std::size_t>(i * gradc::bytes(in.dtype))], &x, static_cast<std::size_t>(std::min(4, gradc::bytes(in.dtype))));
        }
      }
      out.parts.emplace_back(at, std::move(bytes));
    }
    return out;
  }
  void copy() const {
    for (const auto& [at, bytes] : parts) std::memcpy(at, bytes.data(), bytes.size());
  }
};

// What --profile and --trace want, beside the times.
struct Report {
  std::unique_ptr<RooflineMeter> meter;
  std::optional<Profile> profile;
  std::optional<Roofline> machine;
  std::optional<LineProfile> lines;

  // A round of measuring, if it is time for one behind timed step i.
  Result<Done> behind(const Common& common, const BenchOptions& o, const Target& target, std::int64_t i) {
    const std::int64_t due = i * RooflineMeter::rounds / o.steps, done = meter ? meter->done() : 0;
    if (!o.profile || done > due) return Done{};
    if (!meter) {
      Result<std::unique_ptr<RooflineMeter>> made = RooflineMeter::create(target, chosen_threads(common));
      if (!made) return made.failure();
      meter = std::move(*made);
    }
    meter->round();
    return Done{};
  }
  Result<Done> finish(const BenchOptions& o, Entry& step) {
    if (!o.profile) return Done{};
    while (meter->done() < RooflineMeter::rounds) meter->round();
    machine = meter->rates();
    if (!o.lines) return Done{};
    std::vector<double> seconds;
    for (const Profile::Times& t : profile->launches()) seconds.push_back(t.seconds());
    lines = lines_of(step.program(), step.id(), seconds);
    return Done{};
  }
  void json(JsonObject& to, const Sources& sources) const {
    if (machine) profile->json(to, *machine);
    if (lines) lines_json(to, *lines, sources);
  }
  std::string text(const Sources& sources) const {
    std::string out;
    if (machine) out += "\n" + profile->text(*machine);
    if (lines) out += "\n" + lines_text(*lines, sources, profile->step());
    return out;
  }
};

Result<std::string> measure(const Common& common, const BenchOptions& o, Sources& sources) {
  const Clock::time_point begin = Clock::now();
  std::optional<ReplacedFile> trace;   // a file that cannot be written is told before the run
  if (!o.trace.empty()) {
    Result<ReplacedFile> file = ReplacedFile::create(o.trace);
    if (!file) return file.failure();
    trace.emplace(std::move(*file));
  }
  Result<LowerOptions> lowering = lower_options(common);
  if (!lowering) return lowering.failure();
  lowering->values = {"loss"};
  Result<Target> target = chosen_target(common);
  if (!target) return target.failure();
  Result<std::int64_t> budget = chosen_budget(common);
  if (!budget) return budget.failure();
  Result<ModelFile> model = load_model(common, sources, *lowering);
  if (!model) return model.failure();
  const double frontend_s = seconds_since(begin);
  Result<std::unique_ptr<Session>> opened =
      Session::open(model->model.program, {.target = *target, .threads = chosen_threads(common), .eval = false, .fuse = *chosen_fusion(common), .precision = chosen_precision(common), .cache = chosen_cache(common), .memory_budget = *budget});
  if (!opened) return opened.failure();
  Session& s = **opened;
  const double compile_s = seconds_since(begin);   // the arenas are mapped by now, but nothing has touched them
  const Clock::time_point init = Clock::now();
  std::vector<BundleValues<float>> parts;
  if (s.bundle().valid()) parts.push_back({s.bundle(), s.parameters()});
  if (s.fixed_bundle().valid()) parts.push_back({s.fixed_bundle(), s.fixed()});
  for (const BundleValues<float>& part : parts)
    if (Result<Done> r = initialize(s.program(), part, common.seed); !r) return r.failure();
  if (!o.weights.empty())
    if (Result<Done> r = load_weights(s.program(), parts, o.weights, {}); !r) return r.failure();
  Entry& step = s.step();
  const double init_s = seconds_since(init);
  const Batch batch = Batch::draw(s.program(), step, common.seed);
  step.set("seed", static_cast<std::int64_t>(common.seed));
  step.set("lr", model->model.program.training.lr.peak);
  Report profiled;
  if (o.profile) profiled.profile.emplace(step);
  std::vector<double> times;
  double first_s = 0, first_loss = 0, loss = 0;
  rusage usage{};
  for (std::int64_t i = 0; i < o.steps + 2; ++i) {   // the first two warm caches and pages
    const Clock::time_point t = Clock::now();
    batch.copy();
    step.set("step", i);
    const bool timed = (o.profile || trace) && i >= 2;
    timed ? step.step().run_timed() : step.run();
    loss = step.scalar("loss");
    if (i == 0) {
      first_s = compile_s + seconds_since(t);
      first_loss = loss;
    }
    if (i >= 2) times.push_back(seconds_since(t));
    if (o.profile && timed) profiled.profile->add(times.back());
    if (i == 2) getrusage(RUSAGE_SELF, &usage);   // the most there will be but for the measuring of rates
    if (i >= 2)
      if (Result<Done> r = profiled.behind(common, o, *target, i - 2); !r) return r.failure();
  }
  const double middle = median(times), least = *std::min_element(times.begin(), times.end());
  if (!o.profile) getrusage(RUSAGE_SELF, &usage);
  if (Result<Done> r = profiled.finish(o, step); !r) return r.failure();
  if (trace) {
    const std::string text = trace_text(step);
    const auto* bytes = reinterpret_cast<const unsigned char*>(text.data());
    if (Result<Done> r = trace->write({bytes, text.size()}); !r) return r.failure();
    if (Result<Done> r = trace->commit(); !r) return r.failure();
  }
  JsonObject j;
  j.add("model", common.file);
  j.add("ms", rounded(middle * 1e3, 100));
  j.add("min_ms", rounded(least * 1e3, 100));
  j.add("tok_s", rounded(static_cast<double>(batch.tokens) / middle, 10));
  j.add("first_call_s", rounded(first_s, 1000));
  j.add("rss_mib", usage.ru_maxrss / 1024);
  j.add("loss", rounded(loss, 10000));
  j.add("first_loss", rounded(first_loss, 10000));
  j.add("parameters", s.bundle().valid() ? element_count(s.program(), s.bundle()) : 0);
  j.add("compile_s", rounded(compile_s, 10000));
  j.add("frontend_s", rounded(frontend_s, 10000));
  j.add("passes_s", rounded(s.passes_s, 10000));
  j.add("llvm_s", rounded(s.report.llvm_s, 10000));
  j.add("link_s", rounded(s.report.link_s, 10000));
  j.add("compiled", s.report.compiled);
  j.add("cached", s.report.cached);
  j.add("init_s", rounded(init_s, 1000));
  j.add("threads", chosen_threads(common));
  j.add("target", target->name);
  j.add("precision", common.precision);
  const PlanSummary& plan = step.summary();
  j.add("activations", plan.bytes[index(Arena::activations)]);
  j.add("kernels", plan.kernels);
  j.add("launches", plan.launches);
  j.add("flop", static_cast<std::int64_t>(plan.cost.flop));
  j.add("bytes_moved", plan.cost.bytes);
  if (common.json) {
    profiled.json(j, sources);
    return j.line() + "\n";
  }
  std::string text;
  for (const auto& [key, value] : j.members()) text += fmt::format("{:<14} {}\n", key, value);
  return text + profiled.text(sources);
}

}  // namespace

int bench(const Common& common, const BenchOptions& options) {
  Sources sources;
  Result<std::string> text = measure(common, options, sources);
  if (!text) return report(sources, text.failure());
  return static_cast<int>(out(*text) ? Exit::ok : Exit::file);
}

}  // namespace gradc
