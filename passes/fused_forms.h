// Owns the table of fused forms, compiled, and its two readings: a formula as a canonical form, to
// be found, and as operations, to be built.
#pragma once

#include <span>
#include <string_view>

#include "passes/canonical.h"
#include "passes/term.h"

namespace gradc {

struct Spelling {
  Claim claim;
  bool also;  // found, and rebuilt as the claim's definition
  RuleTerm formula;
};
std::span<const Spelling> spellings();
// The spelling that defines the claim.
const Spelling& definition(Claim claim);

struct ClaimRow {
  Claim claim;
  std::string_view what, instead;  // what it is; how it could be spelled
};
std::span<const ClaimRow> claim_rows();

// What a formula's words stand for.
struct FormWords {
  canonical::TermId x, target;
  double eps = 0, a = 0, b = 0;
  AxisList over;
};
canonical::TermId form_of(const RuleTerm& formula, const FormWords& words, canonical::Algebra& in,
                          const Function& f, DType dtype);

// The formula's operations; equal ones are one.
ValueId build_formula(const RuleTerm& formula, const FormWords& words, ValueId x, ValueId target,
                      Builder& to);

}  // namespace gradc
