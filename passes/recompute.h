// Owns the recomputation of whole turns: memory for time, where a budget asks for it.
// passes/recompute.cpp has the algorithm. What one turn keeps for its backward direction is the
// choice of passes/saving.h.
#pragma once

#include <functional>
#include <vector>

#include "ir/diagnostic.h"
#include "ir/program.h"
#include "passes/remark.h"

namespace gradc {

// How many calls in @grad save something for a later one: the turns of its `repeat`s.
int recomputable_turns(const Program& program);

// @grad with the first `count` of them recomputed: the call of @f.fwd becomes one of what gives
// only its results (@f, if it does just that), and right before @f.bwd stands the call of @f.fwd,
// with what the turn was given. The bits of every result are the same. `simplify` must not follow:
// it would merge both calls again.
Program recompute_turns(const Program& program, int count);

// Activations of the program in bytes, once it is planned.
using Measure = std::function<Result<std::int64_t>(const Program&)>;

// The least number of turns, earliest first, with which the plan keeps to the budget (bytes of
// activations); none if it does anyway. Exit 2 if it cannot.
Result<Program> recompute(const Program& program, std::int64_t budget, const Measure& measure,
                          std::vector<Remark>* remarks = nullptr);

}  // namespace gradc
