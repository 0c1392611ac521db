// One model through everything.
#include "fuzz/subject.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "frontend/frontend.h"
#include "fuzz/faults.h"
#include "fuzz/noise.h"
#include "fuzz/random.h"
#include "fuzz/season.h"
#include "passes/pipeline.h"
#include "passes/plan.h"
#include "runtime/check_passes.h"
#include "runtime/execute.h"
#include "support/machine.h"

namespace gradc::fuzz {

struct Compilers {
  Pool pool{2};
  KernelStore kernels{host_target()};
};

std::string Outcome::signature() const {
  static constexpr std::string_view names[] = {"right", "refused", "differs", "failed",
                                               "not finite"};
  return fmt::format("{} {}", names[static_cast<std::size_t>(verdict)], where);
}

namespace {

// Rounding in float64, with a margin of a thousand; in float32, with one of sixteen.
constexpr double noise_64 = 1e-13, noise_32 = 0x1p-24, noise_bf16 = 0x1p-13, margin_32 = 16;

bool has_launches(const Program& p) {
  for (const Function& f : p.functions)
    if (f.family != Family::none) return true;
  return false;
}

double rms(const Array& a, const Array* b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.real.size(); ++i) {
    const double d = a.real[i] - (b != nullptr ? b->real[i] : 0);
    sum += d * d;
  }
  return a.real.empty() ? 0 : std::sqrt(sum / static_cast<double>(a.real.size()));
}

const Array* find(const std::vector<NamedArray>& all, std::string_view name) {
  for (const NamedArray& n : all)
    if (n.name == name) return &n.array;
  return nullptr;
}

class Examination {
 public:
  Examination(const Question& q, std::unique_ptr<Compilers>& compilers)
      : q_(q), random_(q.seed ^ 0x5eed), compilers_(compilers) {}
  Outcome outcome;

  void run(const std::string& text) {
    Sources sources;
    const std::uint32_t source = sources.add("fuzz.grad", text);
    Result<FilePtr> file = parse_model(sources, source, {});
    if (!file) return refuse(sources, file.failure());
    LowerOptions options;
    options.real = q_.wide ? DType::f64 : DType::f32;
    Result<Model> model = lower(sources, **file, options);
    if (!model) return refuse(sources, model.failure());
    // A program in six has positions that no model can say yet.
    const Program program =
        random_.chance(1.0 / 6) ? with_positions(model->program, random_) : model->program;
    note(program);
    Result<PassCheck> check = PassCheck::begin(program, q_.seed);
    if (!check) return fail("interpreter", check.failure());
    if (!finite(check->before())) return;
    base_ = program;
    // Chunks and updates by part are for what is large; here half of the programs have some all the
    // same.
    const ChunkOptions small{.rows = random_.between(1, 4), .least = 6, .most_chunks = 8};
    const UpdateOptions tiny{.least = 1, .large = random_.between(1, 40)};
    Pipeline pipeline{.target = host_target(),
                      .chunks = random_.chance(0.5) ? small : ChunkOptions{},
                      .precision = q_.bf16 ? Precision::bf16 : Precision::f32,
                      .least_reads = 1,
                      .updates = random_.chance(0.5) ? tiny : UpdateOptions{},
                      .after = [&](std::string_view pass, const Program& p) {
                        passes_.emplace_back(pass);
                        if (pass == "precision")
                          round(*check, p);
                        else
                          behind(*check, pass, p);
                      }};
    Result<Program> planned = run_pipeline(program, pipeline);
    if (!outcome.ok()) return;
    if (!planned) return fail("pipeline", planned.failure());
    if (!finite(check->before())) return;
    for (const NamedArray& n : reference_)
      if (n.name.starts_with("grad."))
        for (const double x : n.array.real) outcome.gradient = outcome.gradient || x != 0;
    if (q_.compiled) compile(*planned, *check, "compiled");
    if (outcome.ok() && q_.chosen && !q_.bf16) choose_passes(program);
  }

 private:
  void refuse(const Sources& sources, const Failure& f) {
    outcome.verdict = Verdict::refused;
    outcome.where = "frontend";
    outcome.message = render(sources, f.diagnostics[0]);
  }
  void fail(std::string_view where, const Failure& f) {
    outcome.verdict = Verdict::failed;
    outcome.where = where;
    outcome.message = f.diagnostics[0].message;
  }
  void differ(std::string_view where, std::string message) {
    outcome.verdict = Verdict::differs;
    outcome.where = where;
    outcome.message = std::move(message);
  }
  bool finite(const std::vector<NamedArray>& values) {
    for (const NamedArray& n : values)
      for (const double x : n.array.real)
        if (!std::isfinite(x) && !n.name.starts_with("eval.")) {
          outcome.verdict = Verdict::not_finite;
          outcome.where = "interpreter";
          outcome.message = fmt::format("{} has {}", n.name, x);
          return false;
        }
    return true;
  }
  void note(const Program& p) {
    for (const Function& f : p.functions)
      for (const Op& op : f.ops) {
        outcome.ops[static_cast<std::size_t>(op.code)] = true;
        if (op.code == Opcode::fused_)
          outcome.claims[static_cast<std::size_t>(op.attr.claim)] = true;
      }
  }

  // How far noise in every operation moves a value: of each element the largest deviation.
  double noise_of(const PassCheck& check, const std::string& name, double size, int samples,
                  bool root) {
    Result<std::vector<NamedArray>> clean = check.values(base_);
    if (!clean) return 0;
    const Array* a = find(*clean, name);
    double out = 0;
    for (int k = 0; k < samples && a != nullptr; ++k) {
      Result<std::vector<NamedArray>> noisy =
          check.values(with_noise(base_, size, q_.seed + static_cast<std::uint64_t>(k) + 1));
      if (!noisy) return 0;
      const Array* b = find(*noisy, name);
      if (b == nullptr) return 0;
      if (root)
        out = std::max(out, rms(*a, b));
      else
        for (std::size_t i = 0; i < a->real.size(); ++i)
          out = std::max(out, std::abs(a->real[i] - b->real[i]));
    }
    return out;
  }

  void behind(PassCheck& check, std::string_view pass, const Program& program) {
    if (!outcome.ok() || (q_.fault > 0 && *q_.injected > 0)) return;
    if (q_.fault > 0 && random_.chance(0.4)) {
      std::optional<Program> wrong = with_fault(program, q_.fault, random_);
      if (wrong) {
        *q_.injected = 1;
        compare(check, pass, *wrong);
        if (!outcome.ok()) *q_.injected = 2;
        return;
      }
    }
    compare(check, pass, program);
  }

  // Rounding moves values, as far as its casts say: what follows is held to what they give.
  void round(PassCheck& check, const Program& program) {
    if (!outcome.ok()) return;
    note(program);
    Result<PassCheck> rounded = PassCheck::begin(program, q_.seed);
    if (!rounded) return fail("precision", rounded.failure());
    check = std::move(*rounded);
    if (!finite(check.before())) return;
    base_ = program;
    reference_ = check.before();
  }

  void compare(PassCheck& check, std::string_view pass, const Program& program) {
    note(program);
    const bool first_gradient = program.find("grad").valid() && !base_.find("grad").valid();
    const std::vector<NamedArray> before = check.before();
    Result<PassLine> line = check.behind(pass, program);
    if (!line) return fail(pass, line.failure());
    if (!line->ok) {
      const Array &x = *find(before, line->value), &y = *find(check.before(), line->value);
      double most = 0;
      bool comparable = x.real.size() == y.real.size() && x.integer == y.integer;
      for (std::size_t i = 0; comparable && i < x.real.size(); ++i) {
        comparable = std::isfinite(y.real[i]);
        most = std::max(most, std::abs(x.real[i] - y.real[i]));
      }
      if (!comparable || most > noise_of(check, line->value, noise_64, 4, false))
        return differ(
            pass, fmt::format("{}: off by {:.1e} of its largest", line->value, line->difference));
      ++outcome.unstable;
    }
    if (first_gradient) derivative(check, pass, program);
    if (!outcome.ok()) return;
    if (!has_launches(program)) {
      base_ = program;
      reference_ = check.before();
    }
    if (const FunctionId step = program.find("step");
        step.valid() && !program.function(step).placed.empty())
      placed(check, pass, program, step);
  }

  // The gradient along a random direction against central differences of @loss, `stop` held still.
  // A kink or a jump may lie within one step, hardly within all of them.
  void derivative(const PassCheck& check, std::string_view pass, const Program& p) {
    const FunctionId loss = p.find("loss");
    const BundleId bundle = argument_bundle(p, loss, "p");
    Result<std::vector<Array>> in = check.arguments(p, "loss");
    if (!bundle.valid() || !in) return;
    StopTape stops;
    if (Result<std::vector<Array>> r = evaluate(p, loss, *in, std::int64_t{1} << 31, &stops); !r)
      return fail(pass, r.failure());
    stops.replay = true;
    const std::vector<Leaf> tensors = leaves(p, bundle);
    std::vector<std::vector<double>> point, direction;
    double along = 0, size = 0;
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      const Array* g = find(check.before(), "grad." + tensors[i].stored);
      point.push_back((*in)[i].real);
      direction.emplace_back();
      for (const double x : g->real) {
        direction.back().push_back(random_.chance(0.5) ? 1 : -1);
        along += x * direction.back().back();
        size += std::abs(x);
      }
    }
    double nearest = std::numeric_limits<double>::infinity();
    for (const double h : {1e-5, 1e-4, 1e-6, 1e-7, 1e-3}) {
      double side[2];
      for (const int k : {0, 1}) {
        for (std::size_t i = 0; i < point.size(); ++i)
          for (std::size_t j = 0; j < point[i].size(); ++j)
            (*in)[i].real[j] = point[i][j] + (k == 0 ? h : -h) * direction[i][j];
        stops.next = 0;
        Result<std::vector<Array>> r = evaluate(p, loss, *in, std::int64_t{1} << 31, &stops);
        if (!r) return fail(pass, r.failure());
        side[k] = (*r)[0].real[0];
      }
      nearest = std::min(nearest, std::abs((side[0] - side[1]) / (2 * h) - along));
      if (nearest <= 1e-5 * size) return;
    }
    // Rounding may decide, too: an argmax among what is equal but for it.
    const bool decided = noise_of(check, "loss", noise_64, 6, false) > 1e-9;
    if (nearest > 1e-4 * size + 1e-8 && !decided)
      differ(fmt::format("{} (derivative)", pass),
             fmt::format("along a direction {:.6e}, off by {:.1e}", along, nearest));
    else
      ++outcome.unstable;
  }

  // The plan's places: proved, and run.
  void placed(PassCheck& check, std::string_view pass, const Program& p, FunctionId step) {
    if (std::string what = unsupported(p, "step"); !what.empty()) {
      outcome.compilable = false;
      return;
    }
    if (const std::vector<std::string> faults = check_plan(p, step); !faults.empty())
      return differ(fmt::format("{} (places)", pass), faults[0]);
    Result<std::vector<Array>> in = check.arguments(p, "step");
    if (!in) return fail(pass, in.failure());
    Result<std::vector<Array>> r = plan_test::run_placed(p, step, *in);
    if (!r) return fail(pass, r.failure());
    std::vector<NamedArray> values;
    const Function& f = p.function(step);
    for (std::size_t i = 0; i < r->size(); ++i)
      values.push_back({std::string(p.text(f.result_names[i])), (*r)[i]});
    PassLine line;
    compare_values(check.before(), values, PassCheck::tolerance, line);
    if (!line.ok) differ(fmt::format("{} (memory)", pass), line.value + ": something overwrote it");
  }

  void compile(const Program& planned, PassCheck& check, const std::string& where) {
    const FunctionId step = planned.find("step");
    if (!unsupported(planned, "step").empty()) return;
    if (compilers_ == nullptr) compilers_ = std::make_unique<Compilers>();
    Result<std::vector<Array>> in = check.arguments(planned, "step");
    if (!in) return fail(where, in.failure());
    Result<std::vector<Array>> got =
        run_planned(planned, step, *in, compilers_->kernels, compilers_->pool);
    if (!got) return fail(where, got.failure());
    outcome.compiled = true;
    const Function& f = planned.function(step);
    for (std::size_t i = 0; i < got->size(); ++i) {
      const std::string name(planned.text(f.result_names[i]));
      const Array *exact = find(reference_, name), &have = (*got)[i];
      if (exact == nullptr) continue;
      const double off = rms(*exact, &have), size = rms(*exact, nullptr);
      const auto within = [&](double noise) {
        return off <= margin_32 * noise + 8 * noise_32 * size;
      };
      if (within(0)) continue;
      const double noise = noise_of(check, name, noise_32, 3, true);
      if (within(noise)) continue;
      // A comparison, a floor or a rounding to bf16 that noise decides shows in some samples only.
      const double more = q_.bf16 ? noise_bf16 : 4 * noise_32;
      if (within(noise_of(check, name, more, 30, true)) && std::isfinite(off)) {
        ++outcome.unstable;
        continue;
      }
      return differ(where, fmt::format("{}: rms error {:.1e} of {:.1e}, by noise {:.1e}", name, off,
                                       size, noise));
    }
  }

  // The same passes but for some of those that need not be, in the interpreter and compiled.
  void choose_passes(const Program& program) {
    static constexpr std::string_view needed[] = {"differentiate", "update", "group", "plan"};
    std::string left_out;
    Program p = program;
    Result<PassCheck> check = PassCheck::begin(program, q_.seed);
    if (!check) return fail("interpreter", check.failure());
    base_ = program;
    for (const std::string& pass : passes_) {
      const bool must = std::find(std::begin(needed), std::end(needed), pass) != std::end(needed);
      if (!must && random_.chance(0.5)) {
        left_out += fmt::format("{}{}", left_out.empty() ? "" : ", ", pass);
        continue;
      }
      Result<Program> next = run_pass(p, pass, host_target());
      if (!next) return fail(fmt::format("{} without {}", pass, left_out), next.failure());
      p = std::move(*next);
      compare(*check, pass, p);
      if (!outcome.ok()) {
        outcome.where += fmt::format(" without {}", left_out);
        return;
      }
    }
    if (q_.compiled) compile(p, *check, fmt::format("compiled without {}", left_out));
  }

  const Question& q_;
  Random random_;
  std::unique_ptr<Compilers>& compilers_;
  std::vector<std::string> passes_;
  Program base_;                       // the last one without launches
  std::vector<NamedArray> reference_;  // its values
};

}  // namespace

Examiner::Examiner() = default;
Examiner::~Examiner() = default;

Outcome Examiner::examine(const std::string& text, const Question& question) {
  Examination e(question, compilers_);
  e.run(text);
  return e.outcome;
}

}  // namespace gradc::fuzz
