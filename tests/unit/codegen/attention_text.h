// Owns the texts of attention kernels in tests: the parts that vary between them, put together.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace gradc::testing {

struct AttentionText {
  // Axes: of the arguments, of the scores (keys are s), of a row of them and of the result.
  std::string q = "b t h e", k = "b s h e", u = "b s h f", scores = "b t h s", out = "b t h f",
              row = "b t h";
  std::string arguments = "";  // further ones: `, %bias: f32[h s]`
  std::string map = "  %x = mul %score, 0.3 -> f32[b t h s]\n";  // of %score, gives %x
  // Of %weight, gives %kept; in a gradient %d_w, too, of %d_out and %u.
  std::string weights = "";
  bool with_lse = true, guarded = true;                               // forward
  std::string gradient = "  %d_s = mul %d_x, 0.3 -> f32[b t h s]\n";  // of %d_x, gives %d_s
  std::string results = "";  // of a gradient, further ones: `name: type;…`, defined in `gradient`
  std::string dtype = "f32";
  // %q, %k, %u and %d_out are bf16 in memory and widened first; what a gradient multiplies with them is
  // rounded.
  bool halves = false;
};
using Extents = std::vector<std::pair<std::string, int>>;

// Rows, keys, features of queries and of values.
struct Sizes {
  int t, s, e, f;
};
inline Extents extents_of(const Sizes& n, int batch, int heads) {
  return {{"b", batch}, {"t", n.t}, {"h", heads}, {"e", n.e}, {"s", n.s}, {"f", n.f}};
}

// kernel @k attention(%q, %k, %u, …) -> (out, lse)
std::string attention_text(const AttentionText& a, const Extents& extents);
// kernel @k attention_grad(%q, %k, %u, …, %lse, %delta, %d_out) -> (dq, dk, du, …)
std::string attention_grad_text(const AttentionText& a, const Extents& extents);

// A causal mask, and what its gradient does.
extern const std::string causal_map, causal_gradient;

}  // namespace gradc::testing
