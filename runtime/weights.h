// Owns the way of parameters between a program's bundles, files and memory: initial values, loading and
// saving by stored name (rules 15 and 21 of the language). Offsets are those of leaves(): a bundle's
// tensors in order, dense.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "ir/diagnostic.h"
#include "ir/program.h"

namespace gradc {

// One bundle's values as floats (the arena's form) or doubles (the interpreter's).
template <class Real>
struct BundleValues {
  BundleId bundle;
  std::span<Real> values;          // element_count() of them
};

// Starts every member by its initialiser: (seed, stored name) alone decide the numbers, so that another
// order or more layers change nothing else. Computed ones are evaluated by the interpreter.
Result<Done> initialize(const Program& program, BundleValues<float> into, std::uint64_t seed);
Result<Done> initialize(const Program& program, BundleValues<double> into, std::uint64_t seed);

// Loads all bundles from one safetensors file by stored name. A stored tensor fits if its shape groups
// adjacent declared extents. Missing, misshapen and unexpected tensors are all listed in one failure
// (exit 3), but those that match a `*`-pattern of `ignore`; a missing computed parameter keeps its value.
Result<Done> load_weights(const Program& program, std::span<const BundleValues<float>> into, const std::string& path,
                          const std::vector<std::string>& ignore);
Result<Done> load_weights(const Program& program, std::span<const BundleValues<double>> into, const std::string& path,
                          const std::vector<std::string>& ignore);

// Writes all bundles as F32 under their stored names and declared extents, beside and renamed.
Result<Done> save_weights(const Program& program, std::span<const BundleValues<float>> from, const std::string& path,
                          const std::vector<std::pair<std::string, std::string>>& metadata);

}  // namespace gradc
