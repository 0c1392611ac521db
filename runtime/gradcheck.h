// Owns the check of derivatives: @grad against central differences of @loss, both in the
// interpreter's float64, for every parameter tensor at random values; and the search of the
// smallest sizes for it.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "frontend/frontend.h"
#include "ir/diagnostic.h"
#include "ir/program.h"

namespace gradc {

struct GradcheckSettings {
  std::int64_t elements =
      5;  // random single elements of each tensor, beside the one of the largest gradient
  std::uint64_t seed = 0;
  double relative = 1e-6;  // of the derivative
  double floor = 1e-8;  // of the largest gradient of all tensors
};

// One parameter tensor. An error is |numeric − exact| / max(|exact|, floor · largest / relative):
// it holds while it is at most `relative`.
struct GradcheckLine {
  std::string stored;
  std::vector<std::int64_t> extents;
  double norm = 0;  // of its gradient
  double direction_error = 0;  // along one random direction over all of it
  std::int64_t elements = 0;  // how many single ones were compared
  double element_error = 0;  // the worst of them
  std::int64_t worst = -1;  // its index, row-major
  double worst_exact = 0, worst_numeric = 0;
  bool ok = true;
};
struct GradcheckReport {
  std::vector<GradcheckLine> lines;
  double loss = 0, largest = 0;  // gradient element
  std::int64_t evaluations = 0;
  bool ok = true;
};

// `program` has @loss and @grad (passes/passes.h). Parameters are their initial values plus normal
// noise of deviation 0.3, so that nothing rests at a special point; inputs are random within their
// bounds; `stop` is held still. `each` is called with every line as soon as it is known. Numeric
// derivatives are by Ridders ("Accurate computation of F'(x) and F'(x)F''(x)", Advances in
// Engineering Software 4, 1982): central differences of falling step, extrapolated; begun again
// with smaller steps where a kink may lie within the first. A loss that is not finite is exit 4.
Result<GradcheckReport> check_gradients(const Program& program, const GradcheckSettings& settings,
                                        const std::function<void(const GradcheckLine&)>& each = {});
// `ok    h.0.attn.wq [4 2 2]   norm 1.2e-01   direction 3.1e-10   6 elements 2.2e-09`, without a
// newline; where it fails, with the worst element and both values.
std::string text_of(const GradcheckLine& line);

// The model at the smallest sizes with which it still checks: numbers of the header that count a
// `repeat` become 2; each other whole number from 2 on, in the header's order, the smallest that no
// other has, or else the smallest. Fractions, 0, 1 and what `options.set` names stay. `set` is what
// to print.
struct SmallModel {
  Model model;
  std::vector<std::pair<std::string, std::string>> set;  // as for --set, in the header's order
};
Result<SmallModel> smallest_model(Sources& sources, const ast::File& file,
                                  const LowerOptions& options);

}  // namespace gradc
