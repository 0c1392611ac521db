// Owns the choice of what a function's forward direction saves for its backward one.
//
// Backward reads some values of forward. Arguments are passed again, never saved. Results of
// contractions, reductions, gathers, scatters, scans, calls and fused operations are saved. Sources
// (random bits too: the same seed, step and site give the same bits), elementwise operations, views
// and other reads, and of fused operations activations and norms (from the statistics that they
// keep), are computed again, bit for bit the same, from what is at hand. If what is at
// hand does not suffice, either the value itself is saved or what it lacks, whichever has fewer
// elements: of a layernorm over an argument the mean, of one over a sum of contractions the centred
// value. Where both have as many, the value itself, until several together have more.
//
// Where memory is worth more than this (recomputing contractions, or keeping cheap values because
// bytes are plenty) is a decision of its own, for which this leaves everything in the IR to see.
#pragma once

#include <vector>

#include "ir/program.h"

namespace gradc {

struct Saving {
  std::vector<ValueId> saved;               // in order of definition
  std::vector<std::uint32_t> arguments;     // of the body, that backward reads; ascending
  std::vector<ValueId> again;               // what backward reads directly and elementwise operations
                                            // or fused ones compute again
  std::vector<ValueId> instead;             // saved only for those
};
// `asked`: what backward reads directly. Linear.
Saving choose_saving(const Function& function, const std::vector<ValueId>& asked);

// One value, or (with `nested`) all that one call of a function saves.
struct SavedPart {
  std::string name;                         // a wish; may be empty
  Type type;                                // with axes of `function`
  BundleId nested;
};
// Declares the bundle of these parts, in order; calls in a row of one function are turns of one
// member.
BundleId declare_saved(Program& program, const Function& function, std::string_view name,
                       const std::vector<SavedPart>& parts);

}  // namespace gradc
