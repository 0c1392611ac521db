// Owns the order of the passes and the names of stages.
#pragma once

#include <functional>

#include "passes/chunk.h"
#include "passes/fuse.h"
#include "passes/passes.h"

namespace gradc {

enum class Stage : std::uint8_t { ir, fused, grad, grouped, plan };

struct Pipeline {
  Target target;
  Stage until = Stage::plan;
  std::string_view entry = "step";        // what `plan` plans
  FuseOptions fuse;                       // what is not looked for
  ChunkOptions chunks;                    // of the loss
  Precision precision = Precision::f32;
  std::int64_t least_reads = fewest_reads;  // of a product that is rounded
  UpdateOptions updates;                  // of parts of the parameters
  std::int64_t memory_budget = 0;         // bytes of activations of @step or @grad; 0: none
  bool verify = true;                     // after every pass, with the claims of what is fused
  std::vector<Remark>* remarks = nullptr; // what was decided and why
  // Called after each pass with its name; for `dump --after` and `check --passes`. May be empty.
  std::function<void(std::string_view pass, const Program&)> after;
};

// From the frontend's program to the stage. A verifier's fault is an internal error (exit 70) that names
// the pass.
Result<Program> run_pipeline(const Program& program, const Pipeline& options);

// The passes that `gradc opt --passes=` knows, with a line of help each, and one of them by name.
struct PassInfo {
  std::string_view name, help;
};
const std::vector<PassInfo>& pass_list();
Result<Program> run_pass(const Program& program, std::string_view pass, const Target& target);

}  // namespace gradc
