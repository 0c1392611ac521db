// Owns the table of rewrite rules and what every rule must satisfy at compile time.
#pragma once

#include <span>

#include "passes/term.h"

namespace gradc {

std::span<const RewriteRule> rewrite_rules();

// Relative cost of a term: the sum over its operations, from ir/ops.def.
int cost_of(const RuleTerm& term);

}  // namespace gradc
