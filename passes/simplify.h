// Owns the names of the rules that are not terms: they look at axes, not at algebra alone. Each fires in
// some golden of tests/golden/simplify, as each row of rules.def does.
#pragma once

#include <string_view>
#include <vector>

#include "passes/passes.h"

namespace gradc {

struct StructureRule {
  std::string_view name, help;
};
const std::vector<StructureRule>& structure_rules();

}  // namespace gradc
