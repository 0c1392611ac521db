// Owns the list of passes: each takes a program and gives a better one, without touching its input. A
// pass rebuilds functions front to back (ir/builder.h) and is linear or n log n. pipeline.cpp has their order.
#pragma once

#include <array>
#include <map>
#include <string>
#include <vector>

#include "ir/diagnostic.h"
#include "ir/program.h"
#include "ir/target.h"
#include "passes/cost.h"
#include "passes/remark.h"

namespace gradc {

// How often each rewrite rule fired, by the rule's name (passes/rules.def).
using RuleCounts = std::map<std::string, std::int64_t>;

// Folds constants, merges equal operations, drops dead ones, and applies the rule table, in every
// function; idempotent. Kernels are left alone. passes/simplify.h tells of the rules.
Program simplify(const Program& program, RuleCounts* counts = nullptr);

// Reverse mode. From @loss makes @grad(same arguments) -> gradients of every member of %p in order, then
// the loss. A function called by @loss (a turn of a `repeat`) becomes @f.fwd, which also returns what
// backward needs as a bundle, and @f.bwd. passes/differentiate.h has the general entry.
// Remarks: what backward computes again instead of keeping it, and the bytes that this spares.
Result<Program> differentiate(const Program& program, std::vector<Remark>* remarks = nullptr);

// Adds @update from Program::training, over flat values, and @step, which calls @grad and @update:
//   @update(%p, %g, %m: f32[n], %v: f32[n], %step: i64, %lr: f32) -> p, m, v: f32[n], norm: f32
//   @step(%p, %f?, %m, %v, inputs…, %step, %seed, %lr) -> p, m, v, loss, norm
// sgd has no %v. What runs over the elements is one `fused optimizer`.
// %step counts from 0. The norm is the gradient's before clipping, over members that clip.
Program add_update(const Program& program);

// Moves the gradient's squared norm from a pass of its own in @update to where gradients are made:
// @grad and the functions it calls also give sums of squares of what they return, which @update takes
// as %squares and adds. passes/norm.cpp tells which.
Program spread_norm(const Program& program);

struct UpdateOptions {
  std::int64_t least = std::int64_t{1} << 21;  // parameters that are worth it: their state fills a cache
  std::int64_t large = std::int64_t{1} << 16;  // elements of a member that is a part by itself
};
// Where no gradient waits for the others (nothing clips), @update calls a function for each part of the
// parameters instead of running over all of them, so that the plan can update a part as soon as its
// gradient is there (passes/spread_update.cpp). The same program where that does not hold.
Program spread_update(const Program& program, const UpdateOptions& options = {});

// What the operands of contractions are rounded to.
enum class Precision : std::uint8_t { f32, bf16 };

// A contraction that reads an element of an operand fewer times is not rounded.
inline constexpr std::int64_t fewest_reads = 8;
// Rounds the operands of f32 products to bf16, by casts (passes/precision.cpp).
Program lower_precision(const Program& program, std::int64_t least = fewest_reads);

// Behind lower_precision: @step and what it calls take the parameters that products read a second time,
// in bf16, instead of rounding them, and @update gives them so (passes/rounded.cpp):
//   @step(…, %lr, %rounded) -> p, m, v, rounded: bf16[n], loss, norm
// The same program if there is no @step, or nothing that rounds a parameter.
Program keep_rounded(const Program& program);

// Computes before or behind each scan what needs no recurrence: products of slices and invariants,
// sums over the turns (passes/hoist.cpp). Drops what nobody reads.
Program hoist(const Program& program);

// Gives the region of each scan to a function, which the region then calls (passes/outline.cpp).
Program outline(const Program& program);

// Forms kernels inside each function: launches of definitions (Family, ir/verify.cpp), which are shared by
// structure; what is left beside launches and calls are views, `concat`, `flat` and scans of calls.
Program group(const Program& program, const Target& target);

// Inlines the calls of `entry` (@step, @grad, @eval) and the turns of its scans, orders, and gives every value its place. What cannot
// be a view is copied. Arguments and results lie in the arenas by name: group %p in p, %f in f, %m and
// %v in m and v, %rounded in rounded, gradients (results `g.…`) in g, other arguments in in, other results in out.
Program plan(const Program& program, const Target& target, std::string_view entry);

// Proves from order, sizes and places alone that no launch reads a byte that something else overwrote and
// that launches write disjoint, in-range places. Empty: it holds.
std::vector<std::string> check_plan(const Program& program, FunctionId planned);

struct PlanSummary {
  std::array<std::int64_t, arena_count> bytes{};   // by Arena
  struct Holder {
    std::string value;                      // as in the dump, with its type: `%q: f32[b t h e]`
    std::int64_t bytes;                     // of a sequence that turns make, those that are there
  };
  std::vector<Holder> at_peak;              // largest first, of the activation arena
  std::int64_t peak_live = 0;               // bytes alive at once: no plan can do with less
  std::int64_t lent = 0;                    // bytes alive then where gradients will be written
  int launches = 0, kernels = 0;            // kernels: distinct ones
  Cost cost;                                // of all launches
  struct Work {
    int launches = 0, kernels = 0;
    Cost cost;
  };
  std::array<Work, family_count> by_family; // by Family
};
PlanSummary summarize_plan(const Program& program, FunctionId planned);
// The summary as a table of lines; `holders`: how many of the largest values at the peak.
std::string summary_text(const PlanSummary& summary, std::size_t holders = 10);

}  // namespace gradc
