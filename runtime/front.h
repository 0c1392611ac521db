// Owns the way from a path on the command line to a program: reading the file, lowering, passes; and
// how failures reach the user. Nothing here touches LLVM.
#pragma once

#include <string>
#include <vector>

#include "frontend/frontend.h"
#include "passes/pipeline.h"
#include "passes/remark.h"

namespace gradc {

// What all verbs that read a model share.
struct Common {
  std::string file;                              // a `.grad` model or IR text; '-' is stdin
  std::vector<std::string> set;                  // name=value
  std::uint64_t seed = 0;
  int threads = 0;                               // 0: all that this process may use
  std::string target;                            // empty: the best that the machine runs
  std::string precision = "f32";
  std::string memory_budget;                     // bytes of activations, `800M`; empty: no budget
  std::string no_fuse;                           // claims that are not fused, by commas; `all`
  bool json = false;
  bool no_cache = false;                         // kernels on disk are neither read nor written
};

struct ModelFile {
  Sources sources;
  FilePtr file;
  Model model;
};

// Reads, parses and lowers. Warnings go to stderr unless `quiet`. On failure the diagnostics are already
// rendered into the failure's first message by report(): call report(sources, failure).
// What a text expects to be fused and is not (`expect fused(K)`) is a failure, unless `expect` is false.
Result<ModelFile> load_model(const Common& common, Sources& sources, const LowerOptions& options, bool quiet = false, bool expect = true);
Result<std::string> read_text(const std::string& path);   // exit 3; '-' is stdin
Result<LowerOptions> lower_options(const Common& common); // parses --set; exit 2
Result<Target> chosen_target(const Common& common);       // exit 2
Precision chosen_precision(const Common& common);
Result<FuseOptions> chosen_fusion(const Common& common);  // parses --no-fuse; exit 2
// Whether every expectation of the model holds; else where not, with the reason that fusion gives.
Result<Done> check_expectations(const Model& model, const FuseOptions& fuse);
int chosen_threads(const Common& common);
std::string chosen_cache(const Common& common);           // a directory (runtime/cache.h), or none: empty
Result<std::int64_t> chosen_budget(const Common& common); // bytes, 0: none; K, M, G are powers of ten; exit 2

// Renders to stderr and gives the exit code.
int report(const Sources& sources, const Failure& failure);

// A file's replacement in one piece: written beside, synced, renamed. Exit 3.
Result<Done> write_file(const std::string& path, std::string_view content);

// Writes to stdout; false once its reader is gone or it cannot be written (the caller exits with 3).
bool out(std::string_view text);

std::string with_commas(std::int64_t n);          // 124,439,808

}  // namespace gradc
