// Drawing text from a model, a token at a time.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "ir/philox.h"
#include "runtime/train.h"

namespace gradc {
namespace {

constexpr std::uint64_t sample_site = 0x73616d70;

// Draws an index with probability proportional to exp(logit / temperature) among the k largest;
// temperature 0 takes the largest.
std::int64_t draw(const std::vector<double>& logits, const SampleOptions& o, std::uint64_t count) {
  std::vector<std::int64_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  const auto before = [&](std::int64_t a, std::int64_t b) {
    const double x = logits[static_cast<std::size_t>(a)], y = logits[static_cast<std::size_t>(b)];
    return x != y ? x > y : a < b;
  };
  std::sort(order.begin(), order.end(), before);
  if (o.temperature <= 0) return order[0];
  if (o.top_k > 0 && o.top_k < static_cast<std::int64_t>(order.size())) order.resize(static_cast<std::size_t>(o.top_k));
  std::vector<double> weight;
  const double top = logits[static_cast<std::size_t>(order[0])];
  double total = 0;
  for (std::int64_t i : order) {
    weight.push_back(std::exp((logits[static_cast<std::size_t>(i)] - top) / o.temperature));
    total += weight.back();
  }
  double rest = philox_uniform(o.seed, count, sample_site, 0) * total;
  for (std::size_t i = 0; i < order.size(); ++i) {
    rest -= weight[i];
    if (rest < 0) return order[i];
  }
  return order.back();
}

}  // namespace

Result<ModelFile> load_for_sampling(const Common& common, Sources& sources) {
  Result<LowerOptions> options = lower_options(common);
  if (!options) return options.failure();
  options->values = {"logits"};
  options->need_loss = false;
  // The batch's axis has a name only once the model is known.
  Result<ModelFile> first = load_model(common, sources, *options, true);
  if (!first) return first;
  const std::string batch = first->model.token_batch;
  if (batch.empty()) return failure(Exit::text, "sampling needs an input `token` with a batch and a time axis");
  options->set.emplace_back(batch, "1");
  Result<Model> model = lower(first->sources, *first->file, *options);
  if (!model) return model.failure();
  first->model = std::move(*model);
  return first;
}

Result<Sampler> Sampler::open(Session& session, const Model& model) {
  Result<std::unique_ptr<Entry>> entry = session.open_eval(model.program);
  if (!entry) return entry.failure();
  Sampler s;
  s.entry_ = std::move(*entry);
  const Function& f = s.entry_->function();
  const Program& p = s.entry_->program();
  const Type* token = s.entry_->argument_type("token");
  if (token == nullptr || token->axes.size() != 2) return failure(Exit::text, "`token` has not a batch and a time axis");
  const AxisId time = token->axes[1];
  s.length_ = f.extent(time);
  s.token_ = reinterpret_cast<std::int32_t*>(s.entry_->argument("token"));
  for (std::size_t i = 0; i < f.result_names.size(); ++i) {
    if (p.text(f.result_names[i]) != "logits") continue;
    const ValueId v = f.body().results[i];
    const Type& t = f.type(v);
    for (int a = 0; a < t.axes.size(); ++a) {
      const std::int64_t stride = f.placed[v.index].strides[static_cast<std::size_t>(a)];
      if (t.axes[a] == time) {
        s.time_stride_ = stride;
      } else if (!token->axes.contains(t.axes[a])) {
        s.vocabulary_ = f.extent(t.axes[a]);
        s.vocabulary_stride_ = stride;
      }
    }
    s.logits_ = reinterpret_cast<const float*>(s.entry_->result("logits"));
  }
  if (s.logits_ == nullptr || s.vocabulary_ == 0)
    return failure(Exit::text, "`logits` has not the axes of `token` and one more");
  return s;
}

Result<Done> Sampler::check_causal() {
  const std::int64_t half = std::max<std::int64_t>(1, length_ / 2);
  std::vector<float> first;
  for (std::int32_t fill : {0, 1}) {
    for (std::int64_t t = 0; t < length_; ++t)
      token_[t] = static_cast<std::int32_t>(t < half ? t % std::min<std::int64_t>(vocabulary_, 7)
                                                     : fill * (vocabulary_ > 1 ? 1 : 0));
    entry_->run();
    for (std::int64_t t = 0; t < half; ++t)
      for (std::int64_t v = 0; v < vocabulary_; ++v) {
        const float x = logits_[t * time_stride_ + v * vocabulary_stride_];
        if (fill == 0)
          first.push_back(x);
        else if (x != first[static_cast<std::size_t>(t * vocabulary_ + v)] && !(std::isnan(x) && std::isnan(first[static_cast<std::size_t>(t * vocabulary_ + v)])))
          return failure(Exit::text, fmt::format("the logits at position {} depend on later tokens: this model cannot be "
                                                 "sampled from left to right", t));
      }
  }
  return Done{};
}

Result<Done> Sampler::run(const SampleOptions& o, const std::function<bool(unsigned char)>& emit) {
  std::vector<std::int32_t> window;
  for (unsigned char c : o.prompt) {
    if (c >= vocabulary_) return failure(Exit::file, fmt::format("byte {} of the prompt is outside the vocabulary of {}", c, vocabulary_));
    window.push_back(c);
  }
  if (window.empty()) window.push_back('\n' < vocabulary_ ? '\n' : 0);
  const std::int64_t keep = std::min(length_ - 1, length_ - length_ / 2);   // a full window drops its older half
  if (static_cast<std::int64_t>(window.size()) > length_) window.erase(window.begin(), window.end() - length_);
  std::vector<double> logits(static_cast<std::size_t>(vocabulary_));
  for (std::int64_t count = 0; count < o.tokens; ++count) {
    std::fill_n(token_, length_, 0);
    std::copy(window.begin(), window.end(), token_);
    entry_->run();
    const auto last = static_cast<std::int64_t>(window.size()) - 1;
    for (std::int64_t v = 0; v < vocabulary_; ++v) {
      logits[static_cast<std::size_t>(v)] = static_cast<double>(logits_[last * time_stride_ + v * vocabulary_stride_]);
      if (std::isnan(logits[static_cast<std::size_t>(v)])) return failure(Exit::numbers, "the logits are not numbers");
    }
    const std::int64_t next = draw(logits, o, static_cast<std::uint64_t>(count));
    if (!emit(static_cast<unsigned char>(next))) return Done{};
    if (static_cast<std::int64_t>(window.size()) == length_) window.erase(window.begin(), window.end() - keep);
    window.push_back(static_cast<std::int32_t>(next));
  }
  return Done{};
}

}  // namespace gradc
