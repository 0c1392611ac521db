// Runs a loss over a large vocabulary in chunks of rows.
//
// 1. The anchor is a contraction whose result, the logits [rows, v], is large. With it belong all
//    operations that touch a value of its size (passes/chunk_find.cpp), and what stands between
//    them. Each must be row-wise, every element computed from its own row, or a sum over all rows
//    that no row reads again. Then no row needs another's values, and nothing that enters depends
//    on what leaves.
// 2. All of them become one function. It takes a slice of what has rows and all of what has none,
//    and runs forward and backward of the loss for a chunk of about 512 rows. Results with rows are
//    joined by `concat`. A sum over rows is added to that of the chunks before, which is an
//    argument, so that the addition is the epilogue of the contraction, in place in the gradient.
// 3. The calls stand behind the last thing that they need; what needs their results stands behind
//    them. The first call has no sum to add to, and a last one that has fewer rows other extents:
//    at most four functions for all chunks.
//
// `fused` operations that touch a value of the logits' size are taken apart first; if the part
// cannot be chunked, the function stays as it was. Linear in the program and the number of chunks.
#include "passes/chunk.h"

#include <fmt/format.h>

#include <algorithm>

#include "passes/passes.h"

namespace gradc {
namespace chunking {
namespace {

// `f` with the `fused` operations that read or give a value of the logits' size replaced by their
// meaning; false if there are none. `anchors` are operations of `f`, then of `out`.
bool take_apart(Program& program, const Function& f, const Cut& cut, std::vector<OpId>& anchors,
                Function& out) {
  const auto large = [&](ValueId v) { return is_large(f, anchors[0], cut, v); };
  const auto opens = [&](const Op& op) {
    return op.code == Opcode::fused_ &&
           (std::any_of(op.operands.begin(), op.operands.end(), large) ||
            std::any_of(op.results.begin(), op.results.end(), large));
  };
  if (std::none_of(f.body().ops.begin(), f.body().ops.end(),
                   [&](OpId o) { return opens(f.op(o)); }))
    return false;
  out = {.name = f.name};
  Builder to(program, out);
  Cloner copy(f, to);
  copy.arguments();
  for (OpId o : f.body().ops) {
    const Op& op = f.op(o);
    if (!opens(op)) {
      copy.clone(o);
      continue;
    }
    const Region& region = f.regions[op.regions[0].index];
    for (std::size_t i = 0; i < op.operands.size(); ++i)
      copy.map(region.arguments[i], copy(op.operands[i]));
    const std::vector<ValueId> made = copy.inline_region(region);
    for (std::size_t i = 0; i < made.size(); ++i) copy.map(op.results[i], made[i]);
  }
  std::vector<ValueId> results;
  for (ValueId v : f.body().results) results.push_back(copy(v));
  for (OpId& o : anchors) o = out.value(copy(f.op(o).results[0])).def;
  to.finish(results, f.result_names);
  return true;
}

// One function, as many chunked parts as it has.
Function chunk_function(Program& program, Function f, std::vector<Remark>* remarks,
                        const ChunkOptions& options) {
  std::vector<OpId> tried;
  while (const std::optional<OpId> anchor = find_anchor(f, tried, options)) {
    const Op& op = f.op(*anchor);
    const LocId at = op.loc;
    const NameId own = f.value(op.results[0]).name;
    const std::string name = fmt::format(
        "{} ({})", own.valid() ? fmt::format("%{}", program.text(own)) : "a product",
        human_bytes(f.elements(f.type(op.results[0])) * bytes(f.type(op.results[0]).dtype)));
    std::vector<OpId> anchors{*anchor};
    anchors.insert(anchors.end(), tried.begin(), tried.end());
    Function apart = f, next;
    while (take_apart(program, apart,
                      cut_rows(apart, row_axes(apart, apart.op(anchors[0])), options), anchors,
                      next))
      apart = std::move(next);
    std::string message;
    const std::optional<Part> part = find_part(apart, anchors[0], options, message);
    if (part) {
      anchors.erase(anchors.begin());
      f = write_part(program, apart, *part, anchors);
      tried = anchors;
      message = fmt::format("runs in {} chunks", part->chunks(apart));
    } else {
      tried.push_back(*anchor);
      if (!message.empty()) message = fmt::format("is held whole: {}", message);
    }
    if (remarks != nullptr && !message.empty())
      remarks->push_back(
          {.at = at,
           .function = std::string(program.text(f.name)),
           .text = fmt::format("@{}: {} {}", program.text(f.name), name, message)});
  }
  return f;
}

}  // namespace
}  // namespace chunking

Program chunk(const Program& program, const Target&, std::vector<Remark>* remarks,
              const ChunkOptions& options) {
  Program out = program;
  for (std::string_view entry : {"loss", "eval", "grad"})
    if (const FunctionId id = out.find(entry); id.valid()) {
      Function made = chunking::chunk_function(out, out.function(id), remarks, options);
      out.function(id) = std::move(made);
    }
  return out;
}

}  // namespace gradc
