// Owns what growing an attention decides and building it needs. Internal to the pass.
#pragma once

#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "ir/program.h"

namespace gradc::fusing {

// Where an attention stands in a function.
struct Site {
  OpId softmax, score, sum;
  AxisId keys;
  ValueId q, k, u;
  int weight_slot = 0;  // of `sum`'s operands
  bool guarded = false;
  std::vector<OpId> inside;  // in the region's order; softmax, score and sum among them
  std::set<std::uint32_t> made_of_scores;  // of these: what the attention replaces
  std::vector<ValueId> captures;
};

struct Refusal {
  std::string text, advice;
  LocId at;  // where the reason stands
};

// Attentions by their weighted sums, around every softmax that is fused already; why not of the
// others that come near.
std::map<OpId, Site> attention_sites(const Program& program, const Function& f,
                                     const std::function<void(const Refusal&)>& refuse);

}  // namespace gradc::fusing
