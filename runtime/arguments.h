// Owns the feeding of functions by name: arrays for inputs, scalars and members of bundles, put in the
// order that a function takes them.
#pragma once

#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ir/evaluate.h"
#include "ir/program.h"

namespace gradc {

// Values by name: arguments, or results of a function. A member of a bundle stands by its path under
// its group's name: `p.h.3.attn.w`.
using Arrays = std::map<std::string, Array>;

// The names of a function's arguments, in order.
std::vector<std::string> argument_names(const Program& program, const Function& f);
std::vector<std::int64_t> extents_of(const Function& f, const Type& type);

// The bundle that a function takes as the group `name` (p, f); invalid if it takes none.
BundleId argument_bundle(const Program& program, FunctionId function, std::string_view name);
BundleId argument_bundle(const Program& program, std::string_view function, std::string_view name);

// A bundle's values, flat in the order of leaves(), as arrays under `group`.
void add_members(const Program& program, BundleId bundle, std::string_view group,
                 std::span<const double> values, Arrays& into);

// The arguments of a function in its order and dtypes; `step` and `seed` are 0 where nothing feeds
// them. Exit 2 where one is missing or of other extents; integers outside an input's bounds, or
// beyond the dtype, are exit 3.
Result<std::vector<Array>> ordered_arguments(const Program& program, const Function& f,
                                             const Arrays& arguments);

}  // namespace gradc
