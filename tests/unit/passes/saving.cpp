// Protects what forward saves for backward: of a transformer's turn what its contractions read and
// no activation or normalised value that follows from it.
#include <set>

#include "gradient_check.h"
#include "passes/passes.h"

namespace gradc {
namespace {

using namespace gradient_test;

// x + gelu(layernorm(x) · gain · w) · o, with the norm and the activation as fused operations.
const std::string text = R"(func @h(%x: f32[t=3 d=4], %gain: f32[d], %w: f32[d f=5], %o: f32[f d]) -> f32[t d] {
  %x1 = contract %x, %o -> f32[t f]
  %x2 = contract %x1, %w -> f32[t d]
  %n = fused layernorm %x2 -> f32[t d] { (%a: f32[t d])
    %s = sum %a over d -> f32[t]
    %mean = div %s, 4.0 -> f32[t]
    %c = sub %a, %mean -> f32[t d]
    %cc = mul %c, %c -> f32[t d]
    %s2 = sum %cc over d -> f32[t]
    %var = div %s2, 4.0 -> f32[t]
    %v = add %var, 1e-05 -> f32[t]
    %rstd = rsqrt %v -> f32[t]
    %y = mul %c, %rstd -> f32[t d]
    yield %y
  }
  %g = mul %n, %gain -> f32[t d]
  %hidden = contract %g, %w -> f32[t f]
  %act = fused silu %hidden -> f32[t f] { (%b: f32[t f])
    %m = neg %b -> f32[t f]
    %e = exp %m -> f32[t f]
    %p = add %e, 1.0 -> f32[t f]
    %q = div %b, %p -> f32[t f]
    yield %q
  }
  %y1 = contract %act, %o -> f32[t d]
  %y2 = add %x, %y1 -> f32[t d]
  return %y2
}
func @f(%x: f32[t=3 d=4], %gain: f32[d], %w: f32[d f=5], %o: f32[f d]) -> f32[t d] {
  %y = call @h %x, %gain, %w, %o -> f32[t d]
  %z = call @h %y, %gain, %w, %o -> f32[t d]
  return %z
}
)";

}  // namespace

TEST_CASE("saving: norms come again from their statistics, activations from what they take") {
  Program p = parsed(text);
  const FunctionId f = p.find("f");
  Random random(9);
  const std::vector<Array> arguments = draw_all(p.function(f), random, true);
  check_gradient(p, f, arguments, {.tolerance = 1e-6});
  const Function& forward = p.function(p.find("h.fwd"));
  std::multiset<int> saved;  // ranks
  for (std::size_t i = 1; i < forward.body().results.size(); ++i)
    saved.insert(forward.type(forward.body().results[i]).axes.size());
  // The norm's mean and deviation; %x1, %x2, %hidden.
  CHECK(saved == std::multiset<int>{1, 1, 2, 2, 2});
  const Function& backward = p.function(p.find("h.bwd"));
  for (const Op& op : backward.ops)
    if (op.code == Opcode::fused_) CHECK(op.attr.claim != Claim::layernorm);  // no sums again
}

}  // namespace gradc
