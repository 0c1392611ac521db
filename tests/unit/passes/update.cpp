// Protects the optimizer: ten steps of @step against a plain loop over the elements, the clipped
// norm, which members decay, and SGD.
#include "gradient_check.h"
#include "passes/fuse.h"
#include "passes/passes.h"

namespace gradc {
namespace {

using namespace gradient_test;

// Three members decay unless excepted; idle is never reached; h has two turns.
std::string model(const std::string& train, const std::string& gain_flags = "") {
  return R"(bundle @params.h {
  w: f32[d=3 e=2] as "h.@.w" ~ normal(0.02)
  bias: f32[e=2] as "h.@.bias" ~ normal(0.02)
}
bundle @params {
  gain: f32[d=3] as "gain" ~ normal(0.02))" + gain_flags + R"(
  h: 2 x @params.h
  idle: f32[k=4] as "idle" ~ normal(0.02)
  last: f32[] as "last" ~ normal(0.02)
}
input %x: f32[d=3]
)" + train + R"(
func @h(%x: f32[d=3], %p: @params.h) -> f32[d] {
  %a = contract %x, %p.w -> f32[e=2]
  %b = add %a, %p.bias -> f32[e]
  %c = tanh %b -> f32[e]
  %y = contract %c, %p.w -> f32[d]
  return %y
}
func @loss(%p: @params, %x: f32[d=3], %step: i64[], %seed: i64[]) -> (loss: f32[]) {
  %a = mul %x, %p.gain -> f32[d]
  %b = call @h %a, %p.h.0 -> f32[d]
  %c = call @h %b, %p.h.1 -> f32[d]
  %e = mul %c, %c -> f32[d]
  %f = sum %e over d -> f32[]
  %g = sub %f, %p.last -> f32[]
  %loss = mul %g, %g -> f32[]
  return %loss
}
)";
}

// The elements of a bundle's members as one list, and back.
std::vector<double> flat(std::span<const Array> members) {
  std::vector<double> out;
  for (const Array& a : members) out.insert(out.end(), a.real.begin(), a.real.end());
  return out;
}
void unflat(std::span<Array> members, const std::vector<double>& values) {
  std::size_t at = 0;
  for (Array& a : members)
    for (double& x : a.real) x = values[at++];
}

struct Flags {
  std::vector<char> decays, clips;   // by element
};

// Runs @step `steps` times beside the same in a plain loop; they must agree to rounding.
void check_steps(const std::string& text, const Flags& flags, int steps = 10) {
  const Program before = parsed(text);
  Result<Program> d = differentiate(before);
  REQUIRE(d.ok());
  const Program p = add_update(*d);
  check_well_formed(p);
  const Training& t = p.training;
  const bool adamw = t.kind == Training::adamw;
  const Function& loss = p.function(p.find("loss"));
  const std::size_t members = 7;
  Random random(5);
  std::vector<Array> feed = draw_all(loss, random, true);   // %p, %x, %step, %seed
  std::span<Array> parameters(feed.data(), members);
  std::vector<double> x = flat(parameters), m(x.size()), v(x.size());
  REQUIRE(flags.decays.size() == x.size());
  Array am = Array::zeros(DType::f32, {static_cast<std::int64_t>(x.size())}), av = am;

  for (int s = 0; s < steps; ++s) {
    const double lr = 0.05 / (1 + s);
    feed[members + 1] = Array::scalar(std::int64_t{s}, DType::i64);
    feed[members + 2] = Array::scalar(std::int64_t{7}, DType::i64);
    std::vector<Array> arguments(feed.begin(), feed.begin() + members);
    arguments.push_back(am);
    if (adamw) arguments.push_back(av);
    arguments.insert(arguments.end(), feed.begin() + members, feed.end());
    arguments.push_back(Array::scalar(lr));
    const std::vector<Array> got = run(p, p.find("step"), arguments);
    REQUIRE(got.size() == (adamw ? 5 : 4));

    const std::vector<Array> gradient = run(p, p.find("grad"), feed);
    const std::vector<double> g = flat(std::span(gradient).subspan(0, members));
    double squares = 0;
    for (std::size_t i = 0; i < g.size(); ++i)
      if (flags.clips[i]) squares += g[i] * g[i];
    const double norm = std::sqrt(squares);
    const double scale = t.clip > 0 ? std::fmin(1.0, t.clip / (norm + 1e-6)) : 1.0;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double gi = g[i] * (flags.clips[i] ? scale : 1.0);
      if (adamw) {
        if (flags.decays[i]) x[i] *= 1 - lr * t.weight_decay;
        m[i] = t.beta1 * m[i] + (1 - t.beta1) * gi;
        v[i] = t.beta2 * v[i] + (1 - t.beta2) * gi * gi;
        const double mh = m[i] / (1 - std::pow(t.beta1, s + 1)),
                     vh = v[i] / (1 - std::pow(t.beta2, s + 1));
        x[i] -= lr * mh / (std::sqrt(vh) + t.eps);
      } else {
        m[i] = t.momentum * m[i] + gi;
        x[i] -= lr * m[i];
      }
    }
    CHECK(got[got.size() - 2].real[0] == gradient.back().real[0]);
    CHECK(got.back().real[0] == doctest::Approx(norm).epsilon(1e-12));
    for (std::size_t i = 0; i < x.size(); ++i) {
      CHECK(std::fabs(got[0].real[i] - x[i]) <= 1e-12 * std::fmax(1.0, std::fabs(x[i])));
      CHECK(std::fabs(got[1].real[i] - m[i]) <= 1e-12 * std::fmax(1.0, std::fabs(m[i])));
    }
    unflat(parameters, got[0].real);
    am = got[1];
    if (adamw) av = got[2];
  }
}

// gain 3, then two turns of w 6 and bias 2, idle 4, last 1.
std::vector<char> elements(bool gain, bool w0, bool bias0, bool w1, bool bias1, bool idle,
                           bool last) {
  std::vector<char> out;
  const auto add = [&](bool flag, int n) {
    out.insert(out.end(), static_cast<std::size_t>(n), flag);
  };
  add(gain, 3), add(w0, 6), add(bias0, 2), add(w1, 6), add(bias1, 2), add(idle, 4), add(last, 1);
  return out;
}
const std::vector<char> everywhere = elements(true, true, true, true, true, true, true);

std::string adamw(std::string_view clip, std::string_view except) {
  return fmt::format(
      "train adamw lr=constant(0.001, 0.0) betas=(0.9, 0.95) eps=1e-08 weight_decay=0.1 clip={} "
      "except=\"{}\" steps=10",
      clip, except);
}

std::size_t count(const Program& p, std::string_view function, Opcode code) {
  std::size_t n = 0;
  for (const Op& op : p.function(p.find(function)).ops) n += op.code == code;
  return n;
}

}  // namespace

TEST_CASE("AdamW: ten steps as in a plain loop, with and without clipping") {
  // What no gradient reaches does not decay either.
  for (std::string_view clip : {"0.0", "0.01", "1000.0"})
    check_steps(model(adamw(clip, "")),
                {elements(true, true, true, true, true, false, true), everywhere});
}

TEST_CASE("AdamW: members excepted from decay by pattern, also in one turn only") {
  check_steps(model(adamw("1.0", "*.bias, gain")),
              {elements(false, true, false, true, false, false, true), everywhere});
  check_steps(model(adamw("1.0", "h.1.* last")),
              {elements(true, true, true, false, false, false, false), everywhere});
  check_steps(model(adamw("1.0", "h.0.w")),
              {elements(true, false, true, true, true, false, true), everywhere});
  check_steps(model(adamw("1.0", "*")),
              {elements(false, false, false, false, false, false, false), everywhere});
  // Nothing but whole names and stars matches.
  check_steps(model(adamw("1.0", "gai ain * bias*x")),
              {elements(false, false, false, false, false, false, false), everywhere});
  check_steps(model(adamw("1.0", "gai ain bias *.w.* h.*")),
              {elements(true, false, false, false, false, false, true), everywhere});
}

TEST_CASE("members that do not count for clipping") {
  check_steps(model(adamw("0.01", ""), " no_clip"),
              {elements(true, true, true, true, true, false, true),
               elements(false, true, true, true, true, true, true)});
  check_steps(model(adamw("0.0", ""), " no_clip"),
              {elements(true, true, true, true, true, false, true),
               elements(false, true, true, true, true, true, true)});
}

TEST_CASE("SGD with and without momentum") {
  for (std::string_view momentum : {"0.0", "0.9"})
    check_steps(model(fmt::format("train sgd lr=constant(0.1, 0.0) momentum={} clip=0.5 steps=10",
                                  momentum)),
                {everywhere, everywhere});
}

TEST_CASE("flags are read only where a member differs") {
  const auto updated = [](const std::string& except) {
    std::string text = model(adamw("1.0", except));
    const std::size_t idle =
        text.find("%g = sub %f, %p.last");  // reach idle, so that it decays like the others
    text.replace(idle, 0, "%i = sum %p.idle over k -> f32[]\n  ");
    text.replace(text.find("%g = sub %f, %p.last"), 20,
                 "%j = sub %f, %i -> f32[]\n  %g = sub %j, %p.last");
    Result<Program> d = differentiate(parsed(text));
    REQUIRE(d.ok());
    return add_update(*d);
  };
  CHECK(count(updated(""), "update", Opcode::flags_) == 0);
  const Program biases = updated("*.bias");
  CHECK(count(biases, "update", Opcode::flags_) == 1);
  CHECK(count(biases, "update", Opcode::position_) == 0);
  CHECK(count(updated("h.1.bias"), "update", Opcode::position_) == 1);
}

TEST_CASE("bias corrections keep float64's digits") {
  const Result<Program> d = differentiate(parsed(model(adamw("1.0", ""))));
  REQUIRE(d.ok());
  const Program p = add_update(*d);
  const Function& update = p.function(p.find("update"));
  for (const Op& op : update.ops)
    if (op.code == Opcode::pow_) CHECK(update.type(op.results[0]).dtype == DType::f64);
  CHECK(count(p, "update", Opcode::pow_) == 2);
}

TEST_CASE("the claim of an optimizer is proved: whatever changes its formula is refused") {
  const std::string sgd = "train sgd lr=constant(0.1, 0.0) momentum=0.9 clip=0.5 steps=10";
  for (const std::string& train : {adamw("1.0", ""), adamw("0.0", "*"), sgd}) {
    const Result<Program> d = differentiate(parsed(model(train)));
    REQUIRE(d.ok());
    const Program whole = add_update(*d);
    CHECK(count(whole, "update", Opcode::fused_) == 1);
    std::array<bool, claim_count> optimizer{};
    optimizer[static_cast<std::size_t>(Claim::optimizer)] = true;
    CHECK(count(unfuse_claims(whole, optimizer), "update", Opcode::fused_) == 0);
    CHECK(check_claims(whole) == "");
    const std::string text = print(whole);
    const std::size_t begin = text.find("fused optimizer");
    REQUIRE(begin != std::string::npos);
    const std::size_t end = text.find("return %p", begin);
    // Each line of the region in another operation's place, and each number another one.
    int refused = 0;
    for (std::size_t at = text.find("\n", begin); at < end; at = text.find("\n", at + 1)) {
      const std::size_t next = text.find("\n", at + 1);
      std::string line = text.substr(at, next - at);
      bool changed = false;
      for (const auto& [from, to] : {std::pair{" = mul ", " = add "}, {" = add ", " = max "},
                                     {" = sub ", " = add "}, {" = div ", " = mul "},
                                     {" = sqrt ", " = exp "}})
        if (const std::size_t w = line.find(from); !changed && w != std::string::npos) {
          line.replace(w, std::string_view(from).size(), to);
          changed = true;
        }
      if (!changed) continue;
      std::string wrong = text;
      CHECK(check_claims(parsed(wrong.replace(at, next - at, line))) != "");
      ++refused;
    }
    CHECK(refused >= (train == sgd ? 3 : 10));
  }
}

}  // namespace gradc
