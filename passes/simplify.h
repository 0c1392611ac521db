// Owns the names of the rules that are not terms: they look at axes, not at algebra alone. Each fires in
// some golden of tests/golden/simplify, as each row of rules.def does. Regions that claim something stay as they are: their
// form is what the claim promises.
#pragma once

#include <string_view>
#include <vector>

#include "passes/passes.h"

namespace gradc {

struct StructureRule {
  std::string_view name, help;
};
const std::vector<StructureRule>& structure_rules();

// One function that stands in no program yet, but for its names.
Function simplify_function(Program& program, Function f, RuleCounts* counts = nullptr);

}  // namespace gradc
