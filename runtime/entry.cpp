// Planning, allocation and loading of entries.
#include "runtime/entry.h"

#include <fmt/format.h>

#include <chrono>
#include <cstring>

#include "ir/evaluate.h"
#include "passes/plan.h"

namespace gradc {

namespace {
std::span<float> floats(std::byte* base, const Program& p, BundleId b) {
  if (!b.valid() || base == nullptr) return {};
  return {reinterpret_cast<float*>(base), static_cast<std::size_t>(element_count(p, b))};
}
}  // namespace

Result<Entry> Entry::plan(const Program& program, const Pipeline& options) {
  const std::string_view entry = options.entry;
  Entry e;
  Pipeline pipeline = options;
  pipeline.remarks = &e.remarks_;
  Result<Program> planned = run_pipeline(program, pipeline);
  if (!planned) return planned.failure();
  if (const std::string what = unsupported(*planned, entry); !what.empty())
    return failure(Exit::usage, what + ": `gradcheck` and `run --interpret` do");
  e.program_ = std::move(*planned);
  e.id_ = e.program_.find(entry);
  if (!e.id_.valid()) return failure(Exit::internal, fmt::format("the plan lost @{}", entry));
  if (const std::vector<std::string> faults = check_plan(e.program_, e.id_); !faults.empty())
    return failure(Exit::internal, "the memory plan is wrong: " + faults[0]);
  e.summary_ = summarize_plan(e.program_, e.id_);
  return e;
}

Result<Done> Entry::load(KernelStore& store, Pool& pool, Bases shared, LoadReport& report) {
  bases_ = shared;
  Result<Mapping> in = Mapping::allocate(static_cast<std::size_t>(summary_.bytes[index(Arena::input)]));
  if (!in) return in.failure();
  Result<Mapping> out = Mapping::allocate(static_cast<std::size_t>(summary_.bytes[index(Arena::output)]));
  if (!out) return out.failure();
  in_ = std::move(*in);
  out_ = std::move(*out);
  bases_[index(Arena::input)] = in_.data();
  bases_[index(Arena::output)] = out_.data();
  Result<Step> step = Step::load(program_, id_, store, pool, bases_, report);
  if (!step) return step.failure();
  step_ = std::make_unique<Step>(std::move(*step));
  return Done{};
}

std::byte* Entry::place(ValueId v) const {
  const Placement& at = function().placed[v.index];
  return bases_[index(at.arena)] + at.offset;
}

std::byte* Entry::argument(std::string_view name) const {
  for (ValueId v : function().body().arguments)
    if (program_.text(function().value(v).name) == name) return place(v);
  return nullptr;
}

const Type* Entry::argument_type(std::string_view name) const {
  for (ValueId v : function().body().arguments)
    if (program_.text(function().value(v).name) == name) return &function().type(v);
  return nullptr;
}

std::byte* Entry::result(std::string_view name) const {
  const Function& f = function();
  for (std::size_t i = 0; i < f.result_names.size(); ++i)
    if (program_.text(f.result_names[i]) == name) return place(f.body().results[i]);
  return nullptr;
}

void Entry::set(std::string_view name, std::int64_t value) {
  if (std::byte* p = argument(name)) std::memcpy(p, &value, sizeof value);
}
void Entry::set(std::string_view name, double value) {
  const auto v = static_cast<float>(value);
  if (std::byte* p = argument(name)) std::memcpy(p, &v, sizeof v);
}

double Entry::scalar(std::string_view result_name) const {
  float out = 0;
  if (const std::byte* p = result(result_name)) std::memcpy(&out, p, sizeof out);
  return static_cast<double>(out);
}

Result<std::unique_ptr<Session>> Session::open(const Program& program, const Options& options) {
  auto s = std::make_unique<Session>();
  s->program_ = program;
  s->options_ = options;
  s->bundle_ = argument_bundle(program, "eval", "p");
  s->fixed_bundle_ = argument_bundle(program, "eval", "f");
  s->pool_ = std::make_unique<Pool>(options.threads);
  s->store_ = std::make_unique<KernelStore>(options.target, options.cache);
  const auto begin = std::chrono::steady_clock::now();
  std::int64_t activations = 0;
  for (const bool step : {true, false}) {
    if (!(step ? options.train : options.eval)) continue;
    Result<Entry> e = Entry::plan(program, s->pipeline(step ? "step" : "eval"));
    if (!e) return e.failure();
    activations = std::max(activations, e->summary().bytes[index(Arena::activations)]);
    (step ? s->step_ : s->eval_) = std::make_unique<Entry>(std::move(*e));
  }
  s->passes_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  if (Result<Done> r = s->allocate(activations); !r) return r.failure();
  for (Entry* e : {s->step_.get(), s->eval_.get()})
    if (e != nullptr)
      if (Result<Done> r = e->load(*s->store_, *s->pool_, s->bases_, s->report); !r) return r.failure();
  return s;
}

Pipeline Session::pipeline(std::string_view entry) const {
  return {.target = options_.target, .entry = entry, .fuse = options_.fuse, .chunks = options_.chunks, .precision = options_.precision, .updates = options_.updates, .memory_budget = options_.memory_budget};
}

Result<Done> Session::allocate(std::int64_t activations) {
  const auto add = [&](Arena arena, std::int64_t bytes) -> Result<Done> {
    Result<Mapping> m = Mapping::allocate(static_cast<std::size_t>(bytes));
    if (!m) return m.failure();
    bases_[index(arena)] = m->data();
    mappings_.push_back(std::move(*m));
    return Done{};
  };
  const std::int64_t p = bundle_.valid() ? element_count(program_, bundle_) * 4 : 0;
  const std::int64_t f = fixed_bundle_.valid() ? element_count(program_, fixed_bundle_) * 4 : 0;
  for (const auto& [arena, size] : {std::pair{Arena::parameters, p}, std::pair{Arena::fixed, f},
                                    std::pair{Arena::activations, activations}})
    if (Result<Done> r = add(arena, size); !r) return r;
  activation_bytes_ = activations;
  if (options_.train)
    for (Arena arena : {Arena::gradients, Arena::moment1, Arena::moment2})
      if (arena != Arena::gradients || step_->summary().bytes[index(arena)] > 0)
        if (Result<Done> r = add(arena, p); !r) return r;
  if (step_)
    if (Result<Done> r = add(Arena::rounded, step_->summary().bytes[index(Arena::rounded)]); !r) return r;
  return Done{};
}

Entry& Session::step() {
  if (copy_is_old_) round_parameters();
  copy_is_old_ = false;
  return *step_;
}

void Session::round_parameters() {
  if (step_->summary().bytes[index(Arena::rounded)] == 0) return;
  const std::span<const float> from = floats(bases_[index(Arena::parameters)], program_, bundle_);
  auto* const to = reinterpret_cast<std::uint16_t*>(bases_[index(Arena::rounded)]);
  pool_->run([&](int worker) {
    const auto part = [&](int n) {
      return from.size() / static_cast<std::size_t>(pool_->size()) * static_cast<std::size_t>(n);
    };
    const std::size_t end = worker + 1 == pool_->size() ? from.size() : part(worker + 1);
    for (std::size_t i = part(worker); i < end; ++i) to[i] = bf16_bits(from[i]);
  });
}

Result<std::unique_ptr<Entry>> Session::open_eval(const Program& program) {
  const BundleId b = argument_bundle(program, "eval", "p");
  if (b.valid() != bundle_.valid() || (b.valid() && element_count(program, b) != element_count(program_, bundle_)))
    return failure(Exit::text, "the model's parameters change with the size of the batch");
  Result<Entry> e = Entry::plan(program, pipeline("eval"));
  if (!e) return e.failure();
  Bases bases = bases_;
  const std::int64_t need = e->summary().bytes[index(Arena::activations)];
  if (need > activation_bytes_) {
    Result<Mapping> m = Mapping::allocate(static_cast<std::size_t>(need));
    if (!m) return m.failure();
    bases[index(Arena::activations)] = m->data();
    mappings_.push_back(std::move(*m));
  }
  auto made = std::make_unique<Entry>(std::move(*e));
  if (Result<Done> r = made->load(*store_, *pool_, bases, report); !r) return r.failure();
  return made;
}

std::span<float> Session::parameters() {
  copy_is_old_ = true;
  return floats(bases_[index(Arena::parameters)], program_, bundle_);
}
std::span<float> Session::fixed() const { return floats(bases_[index(Arena::fixed)], program_, fixed_bundle_); }
std::span<float> Session::gradients() const { return floats(bases_[index(Arena::gradients)], program_, bundle_); }
std::span<float> Session::moment() const { return floats(bases_[index(Arena::moment1)], program_, bundle_); }

}  // namespace gradc
