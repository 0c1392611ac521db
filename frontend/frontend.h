// Owns the way from `.grad` text to a well-typed program, or to a good error. The language is in
// frontend/README.md.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "ir/diagnostic.h"
#include "ir/program.h"

namespace gradc {

namespace ast {
struct File;
}
using FilePtr = std::shared_ptr<const ast::File>;

// Reads a `use "PATH"` relative to the using file; gives false if it cannot. For tests, files in memory.
using ReadFile = std::function<bool(const std::string& path, std::string& text)>;

// Parses the model text in `sources[source]` and, transitively, what it uses (added to `sources`).
Result<FilePtr> parse_model(Sources& sources, std::uint32_t source, const ReadFile& read);
// The file as `.grad` text again; parses to the same tree.
std::string print_model(const ast::File& file);

struct LowerOptions {
  // --set NAME=VALUE of the header's numbers, and of `train`: lr, clip, weight_decay, beta1, beta2, eps,
  // warmup, steps. An unknown name is exit 2; a value that the text refuses is exit 1 with a note naming it.
  std::vector<std::pair<std::string, std::string>> set;
  std::vector<std::string> values;   // final values that @eval returns; empty: loss and logits, those that exist
  bool need_loss = true;             // train, gradcheck: a model without `loss` is an error
  DType real = DType::f32;           // the dtype of reals
};

// `expect fused(K)`: some fused K comes from these lines of the text, wherever they were lowered to.
struct Expectation {
  Claim claim = Claim::none;
  Span at;                           // of K; its source is also the file's index in Program::files
  std::uint32_t first = 0, last = 0; // lines of the block, or of the model's file
};

struct Model {
  Program program;                   // @loss, @eval and the functions of repeats, verified
  std::vector<Diagnostic> warnings;
  std::vector<std::pair<std::string, double>> numbers;   // the header's, with --set applied
  std::string token_batch, token_time;                   // names of token's first and last axis; empty without token
  std::vector<std::string> values;   // every final value's name, in source order
  std::vector<Expectation> expectations;  // each once, however often its block is called
};
Result<Model> lower(Sources& sources, const ast::File& file, const LowerOptions& options);

// The model's text with the axes and extents of every line's value in the margin, then the tree of
// parameters (stored name, shape, initialiser) with counts: what `check` prints.
Result<std::string> annotate(Sources& sources, const ast::File& file, const LowerOptions& options);

// Blocks and models that are part of the binary: frontend/lib/*.grad.
struct Embedded {
  std::string_view name, text;
};
const std::vector<Embedded>& library();

}  // namespace gradc
