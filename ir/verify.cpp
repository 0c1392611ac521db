// The invariants of a program. This list is the specification; the number stands in each Fault.
//
// The program
//   1 names        functions, bundles and inputs have names of letters, digits, `_` and dots, each
//                  once
//   2 bundles      nested bundles exist, form no cycle and nest at most max_depth deep; members
//                  have names of their own, none like a turn's (`h.3`) beside a nested `h`; types
//                  and sizes are within bounds
//   3 initialisers a computed one is a function without arguments whose only result has the
//                  member's type
//   4 recursion    no function calls itself, directly or not
//   5 inputs       axes have names of their own; only integers are bounded, by low < high
//   6 entries      @loss and @eval take %p and %f (those that exist), the inputs, %step and %seed
//                  as i64 scalars; @loss gives one real without axes
//   7 stored names every member of an entry's %p and %f has one, turns filled in, each once in
//                  both together
//   8 locations    lines are sorted, distinct and in files that exist, and count from 1
// Each function
//   9 ids          every index is inside its array, and placements are none or one a value
//  10 axes         names are well-formed and distinct, extents 0 … max_extent, at most max_axes
//  11 types        axes are distinct; a value has at most max_elements elements
//  12 regions      region 0 is the body; every other belongs to one operation, every operation to
//                  one region; each operation has as many as ops.def says; at most max_depth deep
//  13 definitions  every value is an argument of one region or a result of one operation, as
//                  Value::def says
//  14 uses         operands and a region's results are defined before, in the same region
//  15 counts       operands as ops.def says; one result, but for call, launch, fused and scan
//  16 attributes   the fields of the operation's form are there; all others keep their defaults;
//                  an integer constant fits its dtype
//  17 typing       the type rule of each operation (ir/typing.h, ir/control.h)
//  18 results      have no names, or each a well-formed one of its own
//  19 value names  are well-formed and distinct, groups' among them
//  20 groups       consecutive arguments of one region or results of one operation, with the types
//                  of the bundle's members, at least one; no two groups share a value
//  21 kernels      have the form of their family (ir/kernel.h)
//  22 placements   offsets and strides are not negative, offsets multiples of the element's size,
//                  ends within 64 bits; if there are any, then of all arguments and results of the
//                  body and all operands and results of launches; kernels have none
//
// A layer whose faults would make the next one unsafe to look at ends the verification.
#include "ir/verify.h"

#include "ir/verify_parts.h"

namespace gradc {

std::vector<Fault> verify(const Program& program) {
  verifier::Report report(program);
  verifier::check_ids(report);
  if (report.any()) return report.take();
  verifier::check_bundles(report);
  if (report.any()) return report.take();
  for (std::uint32_t f = 0; f < program.functions.size(); ++f)
    verifier::check_structure(report, FunctionId{f});
  if (report.any()) return report.take();
  verifier::check_program(report);
  for (std::uint32_t f = 0; f < program.functions.size(); ++f)
    verifier::check_function(report, FunctionId{f});
  return report.take();
}

}  // namespace gradc
