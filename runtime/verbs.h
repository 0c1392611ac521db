// Owns the verbs of the command line, one function each: options in, exit code out. cli.cpp parses the
// flags; train and sample have files of their own.
#pragma once

#include "runtime/front.h"

namespace gradc {

int check(const Common& common);
int check_passes(const Common& common);  // runtime/check_passes.h

struct DumpOptions {
  std::string stage = "ir";
  std::string after;             // a pass: the program behind it instead of a stage
  std::string function;          // empty: @step and what it calls (before it exists: every entry)
  bool list_stages = false, brief = false, remarks = false;
  bool math = false;             // of stage grad: as mathematics in the language of the models
};
int dump(const Common& common, const DumpOptions& options);

struct OptOptions {
  std::string passes;            // names separated by commas; empty: parse, verify, print
  bool list = false, brief = false;
};
int opt(const Common& common, const OptOptions& options);

struct RunOptions {
  std::vector<std::string> inputs;      // NAME=FILE.npy or FILE.safetensors
  std::vector<std::string> values;      // final values, or grad.PARAM; IR text: results of the function
  std::string function = "eval";        // IR text
  std::string output;                   // .npy (one value) or .safetensors; empty: printed
  std::string weights;
  std::vector<std::string> ignore;
  bool interpret = false;
};
int run(const Common& common, const RunOptions& options);

struct BenchOptions {
  std::int64_t steps = 8;
  bool profile = false, lines = false;
  std::string trace;             // a file
  std::string weights;
};
int bench(const Common& common, const BenchOptions& options);

struct SampleVerbOptions {
  std::string checkpoint, weights, prompt = "\n";
  std::vector<std::string> ignore;
  std::int64_t tokens = 500, top_k = 0;
  double temperature = 0.8;
};
int sample(Common common, const SampleVerbOptions& options);

struct GradcheckOptions {
  std::int64_t elements = 5;            // single elements of each parameter, at least
};
int gradcheck(const Common& common, const GradcheckOptions& options);

}  // namespace gradc
