// Owns one execution of a function on arrays: by the interpreter in float64, or compiled. What `run` and
// the comparisons with other frameworks' answers stand on.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "ir/evaluate.h"
#include "ir/program.h"
#include "ir/target.h"
#include "passes/fuse.h"
#include "passes/passes.h"
#include "runtime/arguments.h"
#include "runtime/step.h"

namespace gradc {

struct ExecuteOptions {
  bool interpret = false;
  Target target;
  int threads = 1;
  FuseOptions fuse = {};
  Precision precision = Precision::f32;
  std::string cache = {};       // directory of compiled kernels; empty: none
};

// Runs an entry function (`eval`, `grad`, `loss`) on ordered_arguments(). `program` is the frontend's, or
// IR text; for `grad` it is differentiated first. Results by name, or by number (`0`, `1`, …).
Result<Arrays> execute(const Program& program, std::string_view function, const Arrays& arguments,
                       const ExecuteOptions& options);

// Runs a planned function compiled, in arenas of its own; arguments and results in its order, of its types.
Result<std::vector<Array>> run_planned(const Program& program, FunctionId planned, std::span<const Array> arguments,
                                       KernelStore& kernels, Pool& pool);

}  // namespace gradc
