// Owns what the parts of recognition share. Internal to the pass: fuse.cpp rebuilds functions,
// fuse_find.cpp finds spellings of formulas, fuse_attention.cpp grows attention around a softmax.
#pragma once

#include <map>
#include <optional>
#include <set>

#include "passes/fuse.h"
#include "passes/fused_forms.h"

namespace gradc::fusing {

inline bool is_operation(const canonical::Base& b, Opcode code) {
  return b.kind == canonical::Base::operation && b.code == code;
}
inline AxisList list_of(const std::vector<AxisId>& axes) {
  AxisList out;
  for (AxisId a : axes) out.push_back(a);
  return out;
}

// A value that is `fused · rest`, or `coefficient · fused + rest`.
struct Found {
  const Spelling* spelling = nullptr;
  FormWords words;
  bool added = false;
  double coefficient = 1;
  canonical::TermId rest;
  // exp(x) was contracted before it was divided by its sum: the fused softmax is contracted
  // instead, times `weights`, with `with`.
  bool contracted = false;
  canonical::TermId weights, with;
};

class Finder {
 public:
  Finder(const Program& program, const Function& f, canonical::Algebra& in,
         const FuseOptions& options)
      : program_(program), f_(f), in_(in), options_(options) {}

  std::optional<Found> find(ValueId v, canonical::TermId t);
  // What came near and was not found after all.
  std::vector<Remark> near() const;

 private:
  using TermId = canonical::TermId;
  using BaseId = canonical::BaseId;
  using Factor = canonical::Factor;
  bool on(Claim claim) const;
  std::optional<Found> product(TermId t);
  std::optional<Found> norm(TermId t, const Factor& root);
  std::optional<Found> activation(TermId t, const Factor& one_plus);
  std::optional<Found> gelu_tanh(TermId t, TermId u);
  std::optional<Found> gelu_erf(TermId t, TermId u);
  std::optional<Found> silu(TermId t, const Factor& below);
  std::optional<Found> softmax(TermId t, const Factor& sum);
  std::optional<Found> contracted_softmax(TermId t, const Factor& sum, const FormWords& w);
  std::optional<Found> cross_entropy(TermId t);
  bool has_exponential(TermId t);
  // Spellings of the claim with these words as factors of t.
  std::optional<Found> fits(Claim claim, const FormWords& w, TermId t);
  // x of Π exp(x): invalid if a factor is no exponential or indicator.
  TermId exponent(TermId t);
  bool as_written(TermId x);
  TermId gathered(TermId t);

  // ---- fuse_near.cpp: why not. `anchor` is the factor that the candidate is about.
  void missed(Claim claim, BaseId anchor, std::string text, std::string advice);
  void near_softmax(TermId t, const Factor& sum);
  void near_guarded_softmax(TermId t, const Factor& below);
  void near_norm(TermId t, const Factor& root);
  void near_root_plus(TermId t, const Factor& below);
  void near_silu(TermId t, const Factor& below);
  void near_activation(TermId t, const Factor& one_plus, TermId u, bool erf);
  void near_cross_entropy(BaseId log, TermId x, const canonical::Part& l, const canonical::Part& g);
  // The value of the form in words: its name, or its axes.
  std::string shown(TermId t) const;
  bool has_factor_along(TermId t, const AxisList& axes, BaseId but) const;

  const Program& program_;
  const Function& f_;
  canonical::Algebra& in_;
  const FuseOptions& options_;
  DType dtype_ = DType::f32;
  LocId at_;
  std::map<std::pair<Claim, BaseId>, Remark> near_;
  std::set<std::pair<Claim, BaseId>> done_;
};

// Attention around every fused softmax, where it has the form (ir/attention.h).
Program fuse_attention(const Program& program, std::vector<Remark>* remarks);

// Whether x may hold −∞: made with it, or fed.
bool may_be_lowest(const Function& f, ValueId x);

// logsumexp(x) − x at the target, along the axis.
ValueId build_cross_entropy(Builder& to, ValueId x, ValueId target, AxisId axis);

// `b t d`; a value's name, or its axes.
std::string text_of_axes(const Program& program, const Function& f, const AxisList& axes);
std::string text_of_value(const Program& program, const Function& f, ValueId v);

}  // namespace gradc::fusing
