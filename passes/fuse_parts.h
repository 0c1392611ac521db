// Owns what the parts of recognition share. Internal to the pass: fuse.cpp rebuilds functions,
// fuse_find.cpp finds spellings of formulas, fuse_attention.cpp grows attention around a softmax.
#pragma once

#include <map>
#include <optional>
#include <set>

#include "passes/fuse.h"
#include "passes/fused_forms.h"

namespace gradc::fusing {

// A value that is `fused · rest`, or `coefficient · fused + rest`.
struct Found {
  const Spelling* spelling = nullptr;
  FormWords words;
  bool added = false;
  double coefficient = 1;
  canonical::TermId rest;
  // exp(x) was contracted before it was divided by its sum: the fused softmax is contracted instead,
  // times `weights`, with `with`.
  bool contracted = false;
  canonical::TermId weights, with;
};

// Candidates that came near, by what they are about, so that a later success unsays them.
struct Near {
  Claim claim;
  LocId at;
  std::string text, advice;
};

class Finder {
 public:
  Finder(const Program& program, const Function& f, canonical::Algebra& in,
         const FuseOptions& options)
      : program_(program), f_(f), in_(in), options_(options) {}

  std::optional<Found> find(ValueId v, canonical::TermId t);

 private:
  using TermId = canonical::TermId;
  using Factor = canonical::Factor;
  std::optional<Found> product(TermId t);
  std::optional<Found> norm(TermId t, const Factor& root);
  std::optional<Found> activation(TermId t, const Factor& one_plus);
  std::optional<Found> silu(TermId t, const Factor& below);
  std::optional<Found> softmax(TermId t, const Factor& sum);
  std::optional<Found> contracted_softmax(TermId t, const Factor& sum, const FormWords& w);
  std::optional<Found> cross_entropy(TermId t);
  // Spellings of the claim with these words as factors of t.
  std::optional<Found> fits(Claim claim, const FormWords& w, TermId t);
  // x of Π exp(x): invalid if a factor is no exponential or indicator.
  TermId exponent(TermId t);

  const Program& program_;
  const Function& f_;
  canonical::Algebra& in_;
  const FuseOptions& options_;
  DType dtype_ = DType::f32;
};

// Attention around every fused softmax, where it has the form (ir/attention.h).
Program fuse_attention(const Program& program, const FuseOptions& options,
                       std::vector<Remark>* remarks);

// Whether x may hold −∞: made with it, or fed.
bool may_be_lowest(const Program& program, const Function& f, ValueId x);

// logsumexp(x) − x at the target, along the axis.
ValueId build_cross_entropy(Builder& to, ValueId x, ValueId target, AxisId axis);

std::string text_of_axes(const Program& program, const Function& f, const AxisList& axes);

}  // namespace gradc::fusing
