// sample: generated text from trained weights.
#include <fmt/format.h>

#include "runtime/json.h"
#include "runtime/train.h"
#include "runtime/verbs.h"

namespace gradc {
namespace {

// A checkpoint brings the --set values of its run; a different one on the command line is exit 2.
Result<Done> apply_checkpoint(Common& common, SampleVerbOptions& o) {
  if (o.checkpoint.empty()) {
    if (o.weights.empty()) return failure(Exit::usage, "sample needs --checkpoint DIR or --weights FILE");
    return Done{};
  }
  const std::string path = o.checkpoint + "/run.json";
  Result<std::string> text = read_text(path);
  if (!text) return text.failure();
  Result<std::vector<JsonNumber>> numbers = json_numbers(*text, "set");
  if (!numbers) return failure(Exit::file, fmt::format("{}: {}", path, numbers.failure().diagnostics[0].message));
  for (const JsonNumber& n : *numbers) {
    for (const std::string& s : common.set)
      if (s.starts_with(n.name + "=") && std::strtod(s.c_str() + n.name.size() + 1, nullptr) != n.value)
        return failure(Exit::usage, fmt::format("--set {} differs from the checkpoint's {}={}", s, n.name, n.text));
    common.set.push_back(fmt::format("{}={}", n.name, n.text));
  }
  if (o.weights.empty()) o.weights = o.checkpoint + "/weights.safetensors";
  return Done{};
}

Result<Done> sample_text(Common& common, SampleVerbOptions o, Sources& sources, bool& written) {
  if (Result<Done> r = apply_checkpoint(common, o); !r) return r;
  Result<Target> target = chosen_target(common);
  if (!target) return target.failure();
  Result<ModelFile> model = load_for_sampling(common, sources);
  if (!model) return model.failure();
  sources = model->sources;
  Result<std::unique_ptr<Session>> session =
      Session::open(model->model.program, {.target = *target, .threads = chosen_threads(common), .train = false, .fuse = *chosen_fusion(common), .precision = chosen_precision(common), .cache = chosen_cache(common)});
  if (!session) return session.failure();
  Session& s = **session;
  std::vector<BundleValues<float>> parts;
  if (s.bundle().valid()) parts.push_back({s.bundle(), s.parameters()});
  if (s.fixed_bundle().valid()) parts.push_back({s.fixed_bundle(), s.fixed()});
  for (const BundleValues<float>& part : parts)
    if (Result<Done> r = initialize(s.program(), part, common.seed); !r) return r;
  if (Result<Done> r = load_weights(s.program(), parts, o.weights, o.ignore); !r) return r;
  Result<Sampler> sampler = Sampler::open(s, model->model);
  if (!sampler) return sampler.failure();
  if (Result<Done> r = sampler->check_causal(); !r) return r;
  written = out(o.prompt);
  const auto emit = [&](unsigned char c) {
    const char text = static_cast<char>(c);
    written = written && out({&text, 1});
    return written && signal_received() == 0;
  };
  const SampleOptions options{o.prompt, o.tokens, o.temperature, o.top_k, common.seed};
  if (Result<Done> r = sampler->run(options, emit); !r) return r;
  written = written && out("\n");
  return Done{};
}

}  // namespace

int sample(Common common, const SampleVerbOptions& options) {
  install_signals();
  Sources sources;
  bool written = true;
  Result<Done> done = sample_text(common, options, sources, written);
  if (!done) return report(sources, done.failure());
  if (signal_received() != 0) return 128 + signal_received();
  return static_cast<int>(written ? Exit::ok : Exit::file);
}

}  // namespace gradc
