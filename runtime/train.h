// Owns the training loop of `gradc train`: batches, schedule, log, validation, samples, weights.
#pragma once

#include "runtime/data.h"
#include "runtime/entry.h"
#include "runtime/weights.h"

namespace gradc {

struct TrainOptions {
  std::vector<std::string> data;
  double validation = 0.1;         // held out of every file
  std::int64_t steps = 0;          // 0: as the model's `train` says
  std::int64_t log_every = 1;
  std::int64_t validate_every = 100;
  std::int64_t validation_windows = 256;
  std::int64_t save_every = 0;     // 0: at the end alone
  std::int64_t sample_every = 0;
  std::int64_t sample_tokens = 300;
  std::string until;               // "bigram" or a loss: stop once validation is below
  std::string out;                 // folder for weights.safetensors and run.json; empty: nothing is saved
  std::string weights;             // start from a file
  std::vector<std::string> ignore;
};
int train(const Common& common, const TrainOptions& options);

// The rate of step `step` (from 0) of `steps`: warm-up linear from peak / n to the peak over at most a
// tenth of the run; then constant, or falling to a tenth of the peak by a half cosine or a line.
double learning_rate(const Schedule& schedule, std::int64_t step, std::int64_t steps);

// Fills @step's or @eval's batch with windows, checking that every byte is a valid token. Inputs other
// than token and target are exit 2: text does not feed them.
struct TextInputs {
  std::int64_t batch = 0, length = 0;
  static Result<TextInputs> of(const Model& model);
};

// Text from the model: recomputes its window at every token (rule 25 of the language). Each byte is
// handed to `emit` as it is drawn; false ends it.
struct SampleOptions {
  std::string prompt = "\n";
  std::int64_t tokens = 300;
  double temperature = 0.8;
  std::int64_t top_k = 0;          // 0: all
  std::uint64_t seed = 0;
};
class Sampler {
 public:
  // The model must have been lowered with a batch of 1 and logits as its value.
  static Result<Sampler> open(Session& session, const Model& model);
  // Refuses a model whose logits at a place depend on what comes after it.
  Result<Done> check_causal();
  Result<Done> run(const SampleOptions& options, const std::function<bool(unsigned char)>& emit);
  std::int64_t vocabulary() const { return vocabulary_; }

 private:
  std::unique_ptr<Entry> entry_;
  std::int32_t* token_ = nullptr;
  const float* logits_ = nullptr;
  std::int64_t length_ = 0, vocabulary_ = 0, time_stride_ = 0, vocabulary_stride_ = 0;
};
// Lowers the same file for sampling: batch 1, value `logits`.
Result<ModelFile> load_for_sampling(const Common& common, Sources& sources);

// SIGINT or SIGTERM arrived; 0 if none. install_signals() makes them set it once (a second one kills);
// only train and sample do, which end in order.
int signal_received();
void install_signals();

}  // namespace gradc
