// Groups operations into kernels: what stands in a kernel together passes its values in registers,
// what stands in two passes them through memory. The forms of kernels are in ir/README.md; here is
// who goes where.
//
// One sweep over a function from its end (passes/group_sweep.h). When an operation's turn comes,
// all readers of its value have their kernels, numbered in order of creation, so a larger number
// runs earlier:
//
//   - It joins the kernel of its first reader if the form allows, as an intermediate value or, if
//     others read it too, as a further result; else it opens a kernel, which then runs before all
//     others so far. So every value flows from a larger number to a smaller one and no cycle can
//     arise. No search is needed.
//   - A reduction turns the map that it joins into a rows kernel, a contraction into a contract
//     kernel whose epilogue the map becomes. The softmax of a row gathers from its division
//     backward to its maximum.
//   - A value that a contraction could hand out is not left to a rows kernel if it is wanted
//     elsewhere.
//   - Two kernels that read the same full-size value are merged if the later one reads nothing that
//     is made between the two (AdamW's three results, the bias gradients of one cotangent).
//
// Values that cost less to compute than to keep (masks of positions, a scaled operand, reads) are
// clones: they have no kernel and are computed wherever they are read. Static views never enter
// kernels: they are strides.
//
// A rows kernel over the innermost axes (a softmax) may compute full-size values from its sums; one
// over others (a bias gradient) may not, since it sees its sums only at the end of the whole pass.
// Nor may one that keeps no axis, which would be a single row on a single core.
//
// Linear in the program but for sorting the readers of a value.
#include <utility>

#include "ir/structure.h"
#include "passes/group.h"
#include "passes/passes.h"

namespace gradc {

Program group(const Program& whole, const Target&) {
  using namespace grouping;
  const Program program = outline(whole);
  Program out = program;
  out.functions.clear();
  KernelTable kernels;
  std::vector<FunctionId> roots;
  for (std::uint32_t i = 0; i < program.functions.size(); ++i) {
    roots.push_back(FunctionId{i});
    kernels.names.insert(std::string(program.text(program.functions[i].name)));
  }
  std::vector<FunctionId> now(program.functions.size());
  for (FunctionId id : reachable(program, roots)) {  // callees first, kernels before their launches
    Function f = program.function(id);
    for (Op& op : f.ops)
      if (op.attr.callee.valid()) op.attr.callee = now[op.attr.callee.index];
    if (f.family == Family::none) {
      const Function ready = prepare(out, f, kernels);
      f = write_out(out, ready, cluster(ready), kernels);
    } else {
      kernels.by_key.try_emplace(structure_key(out, f),
                                 FunctionId{static_cast<std::uint32_t>(out.functions.size())});
    }
    now[id.index] = FunctionId{static_cast<std::uint32_t>(out.functions.size())};
    out.functions.push_back(std::move(f));
  }
  for (Bundle& b : out.bundles)
    for (Member& m : b.members)
      if (m.initial.function.valid()) m.initial.function = now[m.initial.function.index];
  return out;
}

}  // namespace gradc
