// The six models against PyTorch's float64 answers, in the interpreter: logits to 1e-12, every
// gradient to 1e-10, weights loaded by name. The measure is relative rms with a floor
// (tests/parity/README.md).
#include <doctest/doctest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "frontend/frontend.h"
#include "ir/verify.h"
#include "passes/passes.h"
#include "runtime/oracle.h"
#include "runtime/safetensors.h"
#include "support/golden.h"

using namespace gradc;

namespace {

struct Parity {
  std::string folder;
  std::vector<std::pair<std::string, std::string>> set;
  std::size_t gradients;  // how many tensors PyTorch gives a gradient of
  std::string without_first_row = {};  // a table whose gradient is compared from row 1 on
};

double rms(std::span<const double> x) {
  double s = 0;
  for (const double v : x) s += v * v;
  return x.empty() ? 0 : std::sqrt(s / static_cast<double>(x.size()));
}
// NaN anywhere makes it NaN, and no comparison holds.
double relative_rms(std::span<const double> x, std::span<const double> r, double floor) {
  REQUIRE(x.size() == r.size());
  std::vector<double> d(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) d[i] = x[i] - r[i];
  return rms(d) / std::max(rms(r), floor);
}

std::string text_of(const Sources& sources, const Failure& f) {
  std::string out;
  for (const Diagnostic& d : f.diagnostics) out += render(sources, d);
  return out;
}

std::vector<double> reals(const StoredTensor& t) {
  std::vector<double> out(static_cast<std::size_t>(t.elements));
  read_reals(t, std::span(out));
  return out;
}

std::string model_text(const Parity& parity) {
  return golden::read_file(golden::source_path("tests/parity/" + parity.folder + "/model.grad"));
}

void check(const Parity& parity, const std::string& text) {
  const std::string base = golden::source_path("tests/parity/" + parity.folder + "/");
  Sources sources;
  const std::uint32_t source = sources.add("model.grad", text);
  Result<FilePtr> file =
      parse_model(sources, source, [](const std::string&, std::string&) { return false; });
  REQUIRE_MESSAGE(file.ok(), text_of(sources, file.failure()));
  Result<Model> model = lower(sources, **file, {.set = parity.set, .values = {"logits"}});
  REQUIRE_MESSAGE(model.ok(), text_of(sources, model.failure()));
  Result<Program> program = differentiate(model->program);
  REQUIRE_MESSAGE(program.ok(), text_of(sources, program.failure()));
  const std::vector<Fault> faults = verify(*program);
  REQUIRE_MESSAGE(faults.empty(), faults[0].message);

  Result<OracleFeed> feed = initial_feed(*program, 1);
  REQUIRE(feed.ok());
  Result<Done> loaded = load_feed(*program, *feed, base + "model.safetensors", {});
  REQUIRE_MESSAGE(loaded.ok(), text_of(sources, loaded.failure()));
  Result<Safetensors> batch = Safetensors::open(base + "batch.safetensors");
  Result<Safetensors> expected = Safetensors::open(base + "expected.safetensors");
  REQUIRE((batch.ok() && expected.ok()));
  for (const StoredTensor& t : batch->tensors()) {
    Result<Array> a = to_array(t, DType::i32);
    REQUIRE(a.ok());
    feed->inputs[t.name] = *a;
  }

  Result<std::vector<Array>> logits = run_entry(*program, program->find("eval"), *feed);
  REQUIRE_MESSAGE(logits.ok(), text_of(sources, logits.failure()));
  REQUIRE(logits->size() == 1);
  const StoredTensor* want = expected->find("logits");
  REQUIRE(want != nullptr);
  CHECK((*logits)[0].extents == want->shape);
  CHECK(relative_rms((*logits)[0].real, reals(*want), 0) <= 1e-12);

  Result<std::vector<Array>> grad = run_entry(*program, program->find("grad"), *feed);
  REQUIRE_MESSAGE(grad.ok(), text_of(sources, grad.failure()));
  const auto json = nlohmann::json::parse(golden::read_file(base + "expected.json"));
  const double loss = json["loss_f64"][0];
  CHECK(grad->back().real[0] == doctest::Approx(loss).epsilon(1e-13));

  double largest = 0;
  for (const StoredTensor& t : expected->tensors())
    if (t.name.starts_with("grad.")) largest = std::max(largest, rms(reals(t)));
  const std::vector<Leaf> all =
      leaves(*program, argument_bundle(*program, program->find("grad"), "p"));
  REQUIRE(grad->size() == all.size() + 1);
  double worst = 0;
  std::set<std::string> compared;
  for (std::size_t i = 0; i < all.size(); ++i) {
    INFO(all[i].stored);
    const StoredTensor* g = expected->find("grad." + all[i].stored);
    REQUIRE(g != nullptr);
    std::vector<double> wanted = reals(*g), given = (*grad)[i].real;
    REQUIRE(wanted.size() == given.size());
    if (all[i].stored == parity.without_first_row)
      for (std::vector<double>* x : {&wanted, &given})
        x->erase(x->begin(), x->begin() + all[i].extents.back());
    const double error = relative_rms(given, wanted, 1e-4 * largest);
    CHECK(error <= 1e-10);
    worst = std::max(worst, error);
    compared.insert(all[i].stored);
  }
  CHECK(compared.size() == parity.gradients);
  MESSAGE(parity.folder, ": logits ", relative_rms((*logits)[0].real, reals(*want), 0),
          ", worst gradient ", worst);
}

}  // namespace

TEST_CASE("parity in the interpreter: GPT-2") {
  const Parity p{
      "gpt2",
      {{"layers", "2"}, {"d", "64"}, {"h", "4"}, {"v", "96"}, {"p", "16"}, {"t", "16"}, {"b", "2"}},
      28};
  check(p, model_text(p));
}
TEST_CASE("parity in the interpreter: Llama, RNN, LSTM, CNN") {
  for (const Parity& p : {Parity{"llama", {}, 21}, Parity{"rnn", {}, 11}, Parity{"lstm", {}, 11},
                          Parity{"cnn", {}, 7}})
    check(p, model_text(p));
}
// torch.nn.Embedding with padding_idx = 0, as Marian's, sends nothing back to row 0 from a look-up
// (the head's part of that row stays). The model's text looks id 0 up like any other, so its
// gradient of the shared table differs there and nowhere else; said in the language, with `stop`,
// all of it agrees.
TEST_CASE("parity in the interpreter: Marian") {
  Parity p{"marian", {}, 85, "model.shared.weight"};
  std::string text = model_text(p);
  check(p, text);
  for (const std::string& ids : {std::string("source"), std::string("token")}) {
    const std::string read = "shared[v = " + ids + "]";
    const std::size_t at = text.find(read);
    REQUIRE(at != std::string::npos);
    text.replace(at, read.size(), "select(" + ids + " != 0, " + read + ", stop(" + read + "))");
  }
  p.without_first_row = "";
  check(p, text);
}
