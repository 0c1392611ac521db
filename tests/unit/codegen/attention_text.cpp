// Texts of attention kernels.
#include "unit/codegen/attention_text.h"

#include <fmt/format.h>

#include <algorithm>

namespace gradc::testing {
namespace {

// Types in order of the text: an axis has its extent where it occurs first.
class Types {
 public:
  Types(const AttentionText& a, const Extents& extents) : dtype_(a.dtype), extents_(extents) {}
  std::string operator()(const std::string& list) { return (*this)(list, dtype_); }
  std::string operator()(const std::string& list, const std::string& dtype) {
    std::string out;
    for (std::size_t i = 0; i < list.size();) {
      const std::size_t end = std::min(list.find(' ', i), list.size());
      const std::string name = list.substr(i, end - i);
      out += (out.empty() ? "" : " ") + name;
      if (std::find(seen_.begin(), seen_.end(), name) == seen_.end()) {
        seen_.push_back(name);
        for (const auto& [n, extent] : extents_)
          if (n == name) out += fmt::format("={}", extent);
      }
      i = end + 1;
    }
    return dtype + "[" + out + "]";
  }

 private:
  std::string dtype_;
  const Extents& extents_;
  std::vector<std::string> seen_;
};

// `%q: type`, or `%q16: type` with a cast to %q among `casts`.
std::string argument(const AttentionText& a, Types& type, const std::string& name,
                     const std::string& axes, std::string& casts) {
  if (!a.halves) return "%" + name + ": " + type(axes);
  const std::string given = "%" + name + "16: " + type(axes, "bf16");
  casts += "  %" + name + " = cast %" + name + "16 -> " + type(axes) + "\n";
  return given;
}

std::string head(const AttentionText& a, Types& type, const std::string& family,
                 std::string& casts) {
  std::string t = "kernel @k " + family + "(" + argument(a, type, "q", a.q, casts);
  t += ", " + argument(a, type, "k", a.k, casts);
  return t + ", " + argument(a, type, "u", a.u, casts) + a.arguments;
}

}  // namespace

const std::string causal_map =
    "  %i = position t -> i32[t]\n  %j = position s -> i32[s]\n"
    "  %see = le %j, %i -> bool[s t]\n  %scaled = mul %score, 0.3 -> f32[b t h s]\n"
    "  %x = select %see, %scaled, -inf -> f32[b t h s]\n";
const std::string causal_gradient =
    "  %d_scaled = select %see, %d_x, 0.0 -> f32[b t h s]\n"
    "  %d_s = mul %d_scaled, 0.3 -> f32[b t h s]\n";

std::string attention_text(const AttentionText& a, const Extents& extents) {
  Types type(a, extents);
  std::string casts, t = head(a, type, "attention", casts);
  const std::string row = type(a.row), out = type(a.out), full = type(a.scores),
                    truth = "bool[" + a.row + "]\n";
  t += ") -> (out: " + out + (a.with_lse ? ", lse: " + row : "") + ") {\n" + casts;
  t += "  %score = contract %q, %k -> " + full + "\n" + a.map + "  %max = amax %x over s -> " +
       row + "\n";
  if (a.guarded)
    t += "  %none = eq %max, -inf -> " + truth + "  %finite = select %none, 0.0, %max -> " + row +
         "\n  %shift = stop %finite -> " + row + "\n";
  else
    t += "  %shift = stop %max -> " + row + "\n";
  t += "  %centred = sub %x, %shift -> " + full + "\n  %exp = exp %centred -> " + full +
       "\n  %sum = sum %exp over s -> " + row + "\n";
  if (a.guarded)
    t +=
        "  %zero = eq %sum, 0.0 -> " + truth + "  %norm = select %zero, 1.0, %sum -> " + row + "\n";
  const std::string norm = a.guarded ? "%norm" : "%sum";
  t += "  %weight = div %exp, " + norm + " -> " + full + "\n" + a.weights;
  t += std::string("  %out = contract ") + (a.weights.empty() ? "%weight" : "%kept") + ", %u -> " +
       out + "\n";
  if (!a.with_lse) return t + "  return %out\n}\n";
  return t + "  %log = log " + norm + " -> " + row + "\n  %lse = add %shift, %log -> " + row +
         "\n  return %out, %lse\n}\n";
}

std::string attention_grad_text(const AttentionText& a, const Extents& extents) {
  Types type(a, extents);
  std::string casts, t = head(a, type, "attention_grad", casts);
  const std::string row = type(a.row), out = type(a.out), q = type(a.q), k = type(a.k),
                    u = type(a.u), full = type(a.scores);
  t += ", %lse: " + row + ", %delta: " + row + ", " + argument(a, type, "d_out", a.out, casts) +
       ") -> (dq: " + q +
       ", dk: " + k + ", du: " + u;
  std::string names;
  for (std::size_t i = 0; i < a.results.size();) {
    const std::size_t end = std::min(a.results.find(';', i), a.results.size());
    const std::string one = a.results.substr(i, end - i);
    t += ", " + one;
    names += ", %" + one.substr(0, one.find(':'));
    i = end + 1;
  }
  t += ") {\n" + casts + "  %score = contract %q, %k -> " + full + "\n" + a.map +
       "  %shifted = sub %x, %lse -> " + full + "\n  %weight = exp %shifted -> " + full + "\n";
  t += a.weights.empty() ? "  %d_w = contract %d_out, %u -> " + full + "\n" : a.weights;
  t += "  %centred = sub %d_w, %delta -> " + full + "\n  %d_x = mul %weight, %centred -> " + full +
       "\n" + a.gradient;
  std::string d_s = "%d_s", weight = a.weights.empty() ? "%weight" : "%kept";
  if (a.halves)
    for (std::string* tile : {&d_s, &weight}) {
      t += "  " + *tile + "16 = cast " + *tile + " -> " + type(a.scores, "bf16") + "\n  " + *tile +
           "r = cast " + *tile + "16 -> " + full + "\n";
      *tile += "r";
    }
  t += "  %dq = contract " + d_s + ", %k -> " + q + "\n  %dk = contract " + d_s + ", %q -> " + k +
       "\n  %du = contract " + weight + ", %d_out -> " + u + "\n";
  return t + "  return %dq, %dk, %du" + names + "\n}\n";
}

}  // namespace gradc::testing
