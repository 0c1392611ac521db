// Owns the running of a program's entry functions (@loss, @eval, @grad) in the interpreter:
// arguments put together from parameters, inputs, step and seed.
#pragma once

#include <string>
#include <vector>

#include "ir/evaluate.h"
#include "ir/program.h"
#include "runtime/arguments.h"

namespace gradc {

struct OracleFeed {
  std::vector<double> p, f;  // the groups %p and %f in the flat order of leaves(); f may be empty
  Arrays inputs;
  std::int64_t step = 0, seed = 0;
};

// Values of the bundles %p and %f that @loss or else @eval takes, by their initialisers.
Result<OracleFeed> initial_feed(const Program& program, std::uint64_t seed);
// A point at which nothing rests: the initial values plus normal noise of deviation 0.3, inputs
// random within their bounds. What checks of derivatives and of passes run at.
Result<OracleFeed> random_feed(const Program& program, std::uint64_t seed);
// As load_weights of runtime/weights.h, into the same two.
Result<Done> load_feed(const Program& program, OracleFeed& feed, const std::string& path,
                       const std::vector<std::string>& ignore);

// All of it by name.
Arrays named_arguments(const Program& program, const OracleFeed& feed);
// The ordered_arguments of an entry function.
Result<std::vector<Array>> entry_arguments(const Program& program, FunctionId f,
                                           const OracleFeed& feed);
// entry_arguments and evaluate in one.
Result<std::vector<Array>> run_entry(const Program& program, FunctionId f, const OracleFeed& feed,
                                     StopTape* stops = nullptr);

}  // namespace gradc
