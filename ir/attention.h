// Owns the forms of softmax and attention: what the claims of those names and the kernel families
// `attention` and `attention_grad` promise about a region, and the only builder of a softmax that
// has the form. Vaswani et al., "Attention is all you need" (2017), equation 1; the saved
// log-sum-exp and the rewritten gradient are those of Dao, "FlashAttention-2" (2023), sections
// 2, 3.
//
// Axes of a score have one of three roles: `keys`, the softmax's axis, which q lacks; `rows`, which
// k lacks (positions of queries, and groups of query heads that share a key head); `batch`, the
// rest.
#pragma once

#include <string>
#include <vector>

#include "ir/builder.h"
#include "ir/program.h"

namespace gradc {

// weight = exp(x − shift) / norm, over one axis, where shift = stop(max of x) and norm = Σ exp(…).
// `guarded`: of a row that is −∞ everywhere the shift is 0 and the norm 1, so its weights are 0.
struct SoftmaxForm {
  AxisId axis;
  ValueId x, max, shift, exp, sum, norm, weight;
  bool guarded = false;
};
// Whether `weight` ends a softmax of this form in the same region.
bool softmax_form(const Function& f, ValueId weight, SoftmaxForm& out);
SoftmaxForm build_softmax(Builder& to, ValueId x, AxisId axis, bool guarded);
// log Σ exp(x): shift + log(norm). Of a guarded row that is −∞ everywhere 0, so that exp(x − lse)
// is its weight there, too.
ValueId build_lse(Builder& to, const SoftmaxForm& softmax);

// The argument of the region that a contraction's operand is: itself, or what it is a cast of (an
// argument of bf16 that is multiplied in f32). Invalid: it is neither.
ValueId argument_of(const Function& f, const Region& region, ValueId operand);

// A region: score = contract(q, k); elementwise operations of it (the score map) end in the
// softmax's x; elementwise operations of the weight (the weight map) end in the first operand of
// out = contract(weights, u). q, k and u are arguments, or casts of arguments. Beside these only
// sources, elementwise operations, `expand` and address operations (ir/kernel.h), in axes of the
// score. Results: out, or a cast of it, and perhaps lse.
struct AttentionForm {
  SoftmaxForm softmax;
  OpId score, sum;   // the two contractions
  ValueId q, k, u;   // arguments of the region: what is multiplied, or what that is a cast of
  ValueId weights;   // the weight map's end: the weight itself if there is none
  ValueId out, lse;  // lse: invalid if it is no result
  AxisId keys;
  AxisList rows, batch;
};
// "" and `out`, or what is not as it should be.
std::string attention_form(const Function& f, const Region& region, AttentionForm& out);

// A region whose values in the axes of the scores ("tiles") exist only in pieces. Tiles are
// contractions of two arguments (of these the first is the score of q and k and names the roles),
// sources, elementwise operations, `expand` and address operations. Results are sums of tiles: a
// contraction of a tile and an argument, over the keys or over all rows, perhaps over axes of the
// batch, too; a `sum` of a tile; a `scatter` of a tile, without a base, by an index in axes of the
// score. The index of a tile is never such a result, nor is an operand. An argument may be a cast of
// one, and a result a cast of a contraction.
struct AttentionGradForm {
  std::vector<OpId> scores, sums;  // in the region's order
  AxisId keys;
  AxisList rows, batch;
};
std::string attention_grad_form(const Function& f, const Region& region, AttentionGradForm& out);

}  // namespace gradc
