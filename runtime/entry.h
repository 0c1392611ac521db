// Owns a model made ready to run: its programs planned, its arenas allocated, its kernels loaded. The
// entries share parameters; activations share one arena, since only one entry runs at a time.
#pragma once

#include <map>
#include <memory>
#include <span>

#include "passes/fuse.h"
#include "passes/passes.h"
#include "runtime/arguments.h"
#include "runtime/front.h"
#include "runtime/step.h"

namespace gradc {

// One planned entry: @step, @grad or @eval of some program.
class Entry {
 public:
  // All passes for options.entry, the plan checked by check_plan (a fault there is ours: exit 70).
  static Result<Entry> plan(const Program& program, const Pipeline& options);
  const Program& program() const { return program_; }
  FunctionId id() const { return id_; }
  const Function& function() const { return program_.function(id_); }
  const PlanSummary& summary() const { return summary_; }
  const std::vector<Remark>& remarks() const { return remarks_; }

  Result<Done> load(KernelStore& store, Pool& pool, Bases shared, LoadReport& report);
  void run() { step_->run(); }
  Step& step() { return *step_; }

  // Where an argument or a result lies, by name; null if there is none of that name.
  std::byte* argument(std::string_view name) const;
  std::byte* result(std::string_view name) const;
  const Type* argument_type(std::string_view name) const;
  // Sets a scalar argument (i64 or f32); nothing happens if the entry does not take it.
  void set(std::string_view name, std::int64_t value);
  void set(std::string_view name, double value);
  double scalar(std::string_view result_name) const;   // an f32 result without axes

 private:
  std::byte* place(ValueId v) const;
  Program program_;
  FunctionId id_;
  PlanSummary summary_;
  std::vector<Remark> remarks_;                        // what the passes decided
  std::unique_ptr<Step> step_;
  Mapping in_, out_;
  Bases bases_{};
};

// Parameters and optimizer state, and the entries that use them.
class Session {
 public:
  struct Options {
    Target target;
    int threads = 1;
    bool train = true;              // @step and its state
    bool eval = true;               // @eval
    FuseOptions fuse{};             // what is not fused
    ChunkOptions chunks{};          // of the loss
    UpdateOptions updates{};        // of parts of the parameters
    Precision precision = Precision::f32;
    std::string cache{};            // directory of compiled kernels; empty: none
    std::int64_t memory_budget = 0; // bytes of @step's activations; 0: none
  };
  // `program` is the frontend's. Parameters are zero until they are filled.
  static Result<std::unique_ptr<Session>> open(const Program& program, const Options& options);
  // A further program with the same parameters (another batch, other values): its @eval.
  Result<std::unique_ptr<Entry>> open_eval(const Program& program);

  // A step may keep a copy of the parameters in bf16 (passes/rounded.cpp). Who asks for the parameters may write them, so
  // the copy is made when the step is asked for next: ask for it again before running it.
  Entry& step();
  Entry& eval() { return *eval_; }
  const Program& program() const { return program_; }   // the frontend's
  std::span<float> parameters();
  std::span<float> fixed() const;
  // Of the last step; empty where it updates each part of the parameters as soon as it has its gradient.
  std::span<float> gradients() const;
  std::span<float> moment() const;                       // the first
  BundleId bundle() const { return bundle_; }            // @params; invalid without any
  BundleId fixed_bundle() const { return fixed_bundle_; }
  LoadReport report;
  double passes_s = 0;

 private:
  Pipeline pipeline(std::string_view entry) const;
  Result<Done> allocate(std::int64_t activations);
  void round_parameters();
  Program program_;
  Options options_;
  BundleId bundle_, fixed_bundle_;
  std::unique_ptr<Pool> pool_;
  std::unique_ptr<KernelStore> store_;
  std::vector<Mapping> mappings_;
  Bases bases_{};
  std::int64_t activation_bytes_ = 0;
  bool copy_is_old_ = true;
  std::unique_ptr<Entry> step_, eval_;
};

}  // namespace gradc
