// The loop: batch, step, log; from time to time validation, a sample, the weights.
#include "runtime/train.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <numbers>

#include "runtime/clock.h"
#include "runtime/file.h"
#include "runtime/initial.h"
#include "runtime/json.h"

namespace gradc {
namespace {

volatile std::sig_atomic_t received = 0;
void on_signal(int number) {
  received = number;
  std::signal(number, SIG_DFL);   // a second one ends at once
}

// Everything that a run holds.
struct Run {
  const Common& common;
  const TrainOptions& options;
  ModelFile model;
  TextInputs inputs;
  Corpus corpus;
  std::unique_ptr<Session> session;
  std::unique_ptr<ModelFile> sampling;     // where a sample is asked for
  std::unique_ptr<Sampler> sampler;
  std::int64_t steps = 0;
  double bigram = 0;
};

void fill_batch(Entry& entry, const TextInputs& in, const std::function<void(std::int64_t, std::int32_t*, std::int32_t*)>& window) {
  auto* token = reinterpret_cast<std::int32_t*>(entry.argument("token"));
  auto* target = reinterpret_cast<std::int32_t*>(entry.argument("target"));
  std::vector<std::int32_t> unused(static_cast<std::size_t>(in.length));
  for (std::int64_t i = 0; i < in.batch; ++i)
    window(i, token + i * in.length, target != nullptr ? target + i * in.length : unused.data());
}

// The mean loss over held-out windows, in order; NaN without any.
double validate(Run& run) {
  const TextInputs& in = run.inputs;
  const std::int64_t batches =
      std::min(run.options.validation_windows, run.corpus.validation_windows()) / in.batch;
  Entry& eval = run.session->eval();
  double total = 0;
  // Spread over the held-out text, the same windows each time.
  const std::int64_t stride = batches > 0 ? run.corpus.validation_windows() / (batches * in.batch) : 1;
  for (std::int64_t b = 0; b < batches; ++b) {
    fill_batch(eval, in, [&](std::int64_t i, std::int32_t* token, std::int32_t* target) {
      run.corpus.validation_window((b * in.batch + i) * stride, token, target);
    });
    eval.set("step", std::int64_t{0});
    eval.set("seed", static_cast<std::int64_t>(run.common.seed));
    eval.run();
    total += eval.scalar("loss");
  }
  return batches > 0 ? total / static_cast<double>(batches) : std::nan("");
}

// After the first step: is the loss what ignorance gives, and does every parameter take part?
void sanity(Run& run, double loss) {
  const Program& p = run.session->program();
  double v = 0;
  for (const Input& i : p.inputs)
    if (p.text(i.name) == "token" && i.bounded) v = static_cast<double>(i.high);
  if (v > 1) fmt::print(stderr, "first loss {:.2f}, ln v = {:.2f}\n", loss, std::log(v));
  // Where no gradient is kept, the moment is a multiple of it after the first step.
  const bool kept = !run.session->gradients().empty();
  const std::span<const float> g = kept ? run.session->gradients() : run.session->moment();
  const bool scaled = !kept && p.training.kind == Training::adamw;
  const double unit = scaled ? 1 / (1 - p.training.beta1) : 1;
  struct Norm {
    std::string stored;
    double rms;
  };
  std::vector<Norm> norms;
  for (const Leaf& leaf : leaves(p, run.session->bundle())) {
    double sum = 0;
    for (std::int64_t i = 0; i < leaf.elements; ++i) {
      const auto x = static_cast<double>(g[static_cast<std::size_t>(leaf.offset + i)]);
      sum += x * x;
    }
    norms.push_back({leaf.stored, unit * std::sqrt(sum)});
  }
  std::vector<double> sorted;
  for (const Norm& n : norms)
    if (n.rms > 0) sorted.push_back(n.rms);
  std::sort(sorted.begin(), sorted.end());
  const double median = sorted.empty() ? 0 : sorted[sorted.size() / 2];
  for (const Norm& n : norms)
    if (n.rms == 0)
      fmt::print(stderr, "warning: the gradient of {} is 0\n", n.stored);
    else if (n.rms > 100 * median)
      fmt::print(stderr, "warning: the gradient of {} has norm {:.3g}, {:.0f} times the median\n", n.stored, n.rms, n.rms / median);
}

// Before hours of training: can its folder be written?
Result<Done> prepare_out(const std::string& folder) {
  if (folder.empty()) return Done{};
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) return failure(Exit::file, fmt::format("{}: {}", folder, error.message()));
  Result<ReplacedFile> probe = ReplacedFile::create(folder + "/run.json");
  return probe ? Result<Done>(Done{}) : probe.failure();
}

Result<Done> save(Run& run, std::int64_t step) {
  const TrainOptions& o = run.options;
  if (o.out.empty()) return Done{};
  const Program& p = run.session->program();
  std::vector<BundleValues<float>> parts;
  if (run.session->bundle().valid()) parts.push_back({run.session->bundle(), run.session->parameters()});
  if (run.session->fixed_bundle().valid()) parts.push_back({run.session->fixed_bundle(), run.session->fixed()});
  if (Result<Done> r = save_weights(p, parts, o.out + "/weights.safetensors", {{"format", "gradc"}}); !r) return r;
  JsonObject set, json;
  for (const auto& [name, value] : run.model.model.numbers)
    if (value == std::floor(value) && std::abs(value) < 0x1p53)
      set.add(name, static_cast<std::int64_t>(value));
    else
      set.add(name, value);
  json.add("model", run.common.file);
  json.add("set", set);
  json.add("seed", run.common.seed);
  json.add("precision", run.common.precision);
  json.add("step", step);
  // Of what `dump --stage=ast` prints: the same on any machine, whatever built gradc.
  json.add("program", fmt::format("{:016x}", fnv1a(print_model(*run.model.file))));
  return write_file(o.out + "/run.json", json.indented() + "\n");
}

// `written` becomes false once stdout's reader is gone.
Result<Done> show_sample(Run& run, std::int64_t step, bool& written) {
  std::string text;
  const auto emit = [&](unsigned char c) {
    text += static_cast<char>(c);
    return signal_received() == 0;
  };
  SampleOptions o;
  o.tokens = run.options.sample_tokens;
  o.seed = run.common.seed + static_cast<std::uint64_t>(step);
  if (Result<Done> r = run.sampler->run(o, emit); !r) return r;
  if (run.common.json) {
    JsonObject j;
    j.add("step", step);
    j.add("sample", text);
    text = j.line();
  } else {
    text = fmt::format("---- sample after {} steps\n{}\n----", step, text);
  }
  written = out(text + "\n");
  return Done{};
}

void introduce(const Run& run) {
  const Program& p = run.session->program();
  const PlanSummary& plan = run.session->step().summary();
  const auto bytes = [&](Arena a) { return plan.bytes[index(a)]; };
  const std::int64_t n = element_count(p, run.session->bundle());
  fmt::print(stderr, "parameters   {} in {} tensors\n", with_commas(n), leaf_count(p, run.session->bundle()));
  fmt::print(stderr, "memory       {} parameters, gradients and moments, {} activations\n", human_bytes(n * 16),
             human_bytes(bytes(Arena::activations)));
  for (const Remark& r : run.session->step().remarks())
    if (r.claim == Claim::none) fmt::print(stderr, "             {}\n", r.text);
  for (std::size_t i = 0; i < std::min<std::size_t>(plan.at_peak.size(), 10); ++i)
    fmt::print(stderr, "             {} {} {}\n", i == 0 ? "at the peak:" : "            ",
               human_bytes(plan.at_peak[i].bytes), plan.at_peak[i].value);
  fmt::print(stderr, "target       {}, {} threads, {}\n", chosen_target(run.common)->name, chosen_threads(run.common),
             run.common.precision);
  fmt::print(stderr, "step         {} launches of {} kernels; passes {:.0f} ms, LLVM {:.0f} ms, link {:.0f} ms\n",
             plan.launches, plan.kernels, 1e3 * run.session->passes_s, 1e3 * run.session->report.llvm_s,
             1e3 * run.session->report.link_s);
  fmt::print(stderr, "data         {} files, {} to learn from, {} held out; windows of {} bytes\n", run.corpus.files(),
             human_bytes(run.corpus.train_bytes()), human_bytes(run.corpus.validation_bytes()), run.inputs.length);
  fmt::print(stderr, "bigrams      entropy {:.4f}: what a table of pairs of bytes could reach\n", run.bigram);
}

bool log_step(const Run& run, std::int64_t step, double loss, double norm, double lr, double ms) {
  const double rate = static_cast<double>(run.inputs.batch * run.inputs.length) / ms * 1e3;
  if (run.common.json) {
    JsonObject j;
    j.add("step", step);
    for (const auto& [name, value] : {std::pair{"loss", loss}, {"norm", norm}, {"lr", lr}, {"ms", ms}, {"tok_s", rate}})
      j.add(name, value);
    return out(j.line() + "\n");
  }
  const auto width = std::to_string(run.steps).size();
  return out(fmt::format("step {:>{}}/{} | loss {:.4f} | norm {:.2f} | lr {:.1e} | {:.1f} ms | {:.0f} tok/s\n", step, width,
                         run.steps, loss, norm, lr, ms, rate));
}

bool log_validation(const Run& run, std::int64_t step, double loss) {
  if (run.common.json) {
    JsonObject j;
    j.add("step", step);
    j.add("validation", loss);
    j.add("bigram", run.bigram);
    return out(j.line() + "\n");
  }
  const auto width = std::to_string(run.steps).size();
  return out(fmt::format("step {:>{}}/{} | validation {:.4f} (bigrams {:.4f}) | {:.3f} bits a byte\n", step, width, run.steps,
                         loss, run.bigram, loss / std::numbers::ln2));
}

Result<int> loop(Run& run) {
  const TrainOptions& o = run.options;
  Entry& step = run.session->step();
  const Training& t = run.model.model.program.training;
  double goal = -INFINITY;
  if (o.until == "bigram")
    goal = run.bigram;
  else if (!o.until.empty())
    goal = std::strtod(o.until.c_str(), nullptr);
  std::int64_t done = 0;
  const LoadReport before = run.session->report;
  double last_validation = std::nan("");
  bool written = true;   // without a reader training ends, saved as after a signal
  while (done < run.steps && signal_received() == 0 && written) {
    const double lr = learning_rate(t.lr, done, run.steps);
    fill_batch(step, run.inputs, [&](std::int64_t i, std::int32_t* token, std::int32_t* target) {
      run.corpus.window(run.common.seed, done * run.inputs.batch + i, token, target);
    });
    step.set("step", done);
    step.set("seed", static_cast<std::int64_t>(run.common.seed));
    step.set("lr", lr);
    const Clock::time_point begin = Clock::now();
    step.run();
    const double ms = 1e3 * seconds(begin, Clock::now());
    const double loss = step.scalar("loss"), norm = step.scalar("norm");
    ++done;
    const bool last = done == run.steps;
    if (done == 1 || last || done % std::max<std::int64_t>(1, o.log_every) == 0)
      written = log_step(run, done, loss, norm, lr, ms);
    if (!std::isfinite(loss) || !std::isfinite(norm))
      return failure(Exit::numbers, fmt::format("step {}: the {} is {}; nothing was saved since", done,
                                                std::isfinite(loss) ? "gradient's norm" : "loss", std::isfinite(loss) ? norm : loss));
    if (done == 1) sanity(run, loss);
    if (written && o.validate_every > 0 && (last || done % o.validate_every == 0) && run.corpus.validation_windows() >= run.inputs.batch) {
      last_validation = validate(run);
      written = log_validation(run, done, last_validation);
    }
    if (written && run.sampler && o.sample_every > 0 && !last && done % o.sample_every == 0)
      if (Result<Done> r = show_sample(run, done, written); !r) return r.failure();
    if (o.save_every > 0 && !last && done % o.save_every == 0)
      if (Result<Done> r = save(run, done); !r) return r.failure();
    if (last_validation < goal) break;
  }
  if (Result<Done> r = save(run, done); !r) return r.failure();
  if (signal_received() != 0) return 128 + signal_received();
  if (written && run.sampler)
    if (Result<Done> r = show_sample(run, done, written); !r) return r.failure();
  if (!written) return static_cast<int>(Exit::file);
  fmt::print(stderr, "kernels      {} compiled and {} from the cache before the first step, {} since\n", before.compiled,
             before.cached, run.session->report.compiled - before.compiled);
  if (!o.out.empty()) fmt::print(stderr, "saved        {}/weights.safetensors\n", o.out);
  return 0;
}

Result<Run> prepare(const Common& common, const TrainOptions& options, Sources& sources) {
  Result<LowerOptions> lowering = lower_options(common);
  if (!lowering) return lowering.failure();
  lowering->values = {"loss"};
  if (options.steps > 0) lowering->set.emplace_back("steps", std::to_string(options.steps));
  Result<ModelFile> model = load_model(common, sources, *lowering);
  if (!model) return model.failure();
  sources = model->sources;
  if (Result<Done> r = prepare_out(options.out); !r) return r.failure();
  Result<TextInputs> inputs = TextInputs::of(model->model);
  if (!inputs) return inputs.failure();
  Result<Corpus> corpus = Corpus::open(options.data, options.validation, inputs->length);
  if (!corpus) return corpus.failure();
  for (const Input& i : model->model.program.inputs)
    if (i.bounded && corpus->greatest_byte() >= i.high)
      return failure(Exit::file, fmt::format("the data has byte {}, but `{}` is below {}", corpus->greatest_byte(),
                                             model->model.program.text(i.name), i.high));
  Result<Target> target = chosen_target(common);
  if (!target) return target.failure();
  Result<std::int64_t> budget = chosen_budget(common);
  if (!budget) return budget.failure();
  Result<std::unique_ptr<Session>> session = Session::open(
      model->model.program,
      {.target = *target, .threads = chosen_threads(common), .fuse = *chosen_fusion(common), .precision = chosen_precision(common), .cache = chosen_cache(common), .memory_budget = *budget});
  if (!session) return session.failure();
  Run run{common, options, std::move(*model), *inputs, std::move(*corpus), std::move(*session), nullptr, nullptr, 0, 0};
  run.steps = run.model.model.program.training.steps;
  run.bigram = run.corpus.bigram_entropy();
  return run;
}

Result<Done> start_parameters(Session& s, const Common& common, const TrainOptions& options) {
  const Program& p = s.program();
  std::vector<BundleValues<float>> parts;
  if (s.bundle().valid()) parts.push_back({s.bundle(), s.parameters()});
  if (s.fixed_bundle().valid()) parts.push_back({s.fixed_bundle(), s.fixed()});
  for (const BundleValues<float>& part : parts)
    if (Result<Done> r = initialize(p, part, common.seed); !r) return r;
  return options.weights.empty() ? Result<Done>(Done{}) : load_weights(p, parts, options.weights, options.ignore);
}

Result<Done> prepare_sampling(Run& run, Sources& sources) {
  if (run.options.sample_tokens <= 0) return Done{};
  Result<ModelFile> model = load_for_sampling(run.common, sources);
  if (!model) return Done{};   // a model without logits trains all the same
  run.sampling = std::make_unique<ModelFile>(std::move(*model));
  Result<Sampler> sampler = Sampler::open(*run.session, run.sampling->model);
  if (!sampler) return sampler.failure();
  run.sampler = std::make_unique<Sampler>(std::move(*sampler));
  if (Result<Done> r = run.sampler->check_causal(); !r) {
    fmt::print(stderr, "note: no samples: {}\n", r.failure().diagnostics[0].message);
    run.sampler.reset();
  }
  return Done{};
}

}  // namespace

int signal_received() { return received; }
void install_signals() {
  std::signal(SIGINT, on_signal);
  std::signal(SIGTERM, on_signal);
}

double learning_rate(const Schedule& s, std::int64_t step, std::int64_t steps) {
  const double warmup = std::min(s.warmup, static_cast<double>(steps) / 10);
  const auto at = static_cast<double>(step);
  if (at < warmup) return s.peak * (at + 1) / std::max(1.0, std::ceil(warmup));
  if (s.kind == Schedule::constant) return s.peak;
  const double whole = static_cast<double>(steps - 1) - warmup;
  const double part = whole > 0 ? std::min(1.0, (at - warmup) / whole) : 0;
  const double fall = s.kind == Schedule::cosine ? 0.5 * (1 + std::cos(std::numbers::pi * part)) : 1 - part;
  return s.peak * (0.1 + 0.9 * fall);
}

Result<TextInputs> TextInputs::of(const Model& model) {
  TextInputs out;
  const Program& p = model.program;
  for (const Input& i : p.inputs) {
    const std::string_view name = p.text(i.name);
    if (name != "token" && name != "target")
      return failure(Exit::usage, fmt::format("text feeds `token` and `target`; nothing feeds the input `{}`", name));
    if (i.axes.size() != 2) return failure(Exit::text, fmt::format("`{}` has not a batch and a time axis", name));
    if (out.batch != 0 && (out.batch != i.axes[0].extent || out.length != i.axes[1].extent))
      return failure(Exit::text, "`token` and `target` have different extents");
    out = {i.axes[0].extent, i.axes[1].extent};
  }
  if (model.token_batch.empty()) return failure(Exit::text, "the model has no input `token`");
  return out;
}

int train(const Common& common, const TrainOptions& options) {
  Sources sources;
  install_signals();
  Result<Run> run = prepare(common, options, sources);
  if (!run) return report(sources, run.failure());
  if (Result<Done> r = start_parameters(*run->session, common, options); !r) return report(sources, r.failure());
  if (Result<Done> r = prepare_sampling(*run, sources); !r) return report(sources, r.failure());
  introduce(*run);
  Result<int> code = loop(*run);
  if (code) return *code;
  return report(sources, code.failure());
}

}  // namespace gradc
