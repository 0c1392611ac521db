// Owns what the two files of the hoist pass share: which parts of a scan need no recurrence.
// passes/hoist.cpp tells of the pass.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "ir/program.h"

namespace gradc::hoisting {

// A state that is only added to: its value behind the scan is the first one and the sum of `terms`
// over all turns.
struct Accumulation {
  std::uint32_t state = 0;
  std::vector<ValueId> terms;  // values of the region
};

// One scan taken apart. Values are the region's.
struct Parts {
  // Computed without the loop: `true` if it differs from turn to turn, so that all turns together
  // have the scan's axis. Slices, invariants, and what hoistable operations make of them.
  std::unordered_map<ValueId, bool> free;
  std::vector<std::uint32_t> states;      // that stay, ascending
  std::vector<Accumulation> accumulations;
  std::vector<std::uint32_t> results;     // collected ones that somebody reads, ascending
  std::vector<ValueId> collected;         // beside them, for accumulations: not free
  std::vector<ValueId> before;            // free values that the loop reads, but are made before it
  std::unordered_set<OpId> inside;        // operations that stay in the loop

  bool is_free(ValueId v) const { return free.contains(v); }
  bool varies(ValueId v) const { return free.at(v); }
};

// `uses`: by value of `f`, how many operands, region results and results it is.
Parts take_apart(const Function& f, const Op& scan, const std::vector<std::uint32_t>& uses);

// The operand of a contraction or a sum over which an accumulated term is summed along the scan,
// too, instead of turn by turn: its operands, or the term itself.
bool sums_through(const Function& f, const Parts& parts, ValueId term);

}  // namespace gradc::hoisting
