// Owns the chunked loss: the largest values of a language model, logits over a vocabulary, are
// never held whole. passes/chunk.cpp has the algorithm.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "ir/builder.h"
#include "ir/target.h"
#include "passes/remark.h"

namespace gradc {

struct ChunkOptions {
  std::int64_t rows = 512;        // of a chunk, about
  std::int64_t least = 4 << 20;   // elements of logits that are worth it
  std::int64_t most_chunks = 64;  // beyond, chunks have more rows
};

// In @loss, @eval and @grad: a contraction of a value with row axes and a matrix, [rows, v], that
// has more than options.least elements and more than one chunk of rows, and whatever is computed
// from values of its size (the softmax over v, the loss of each row, the gradient, the products of
// the gradient with the matrix and the rows), becomes a function that is called once a chunk. What
// is left whole has a remark that says why. The bits of what has rows are those without chunks; a
// sum over rows adds chunks in order.
Program chunk(const Program& program, const Target& target, std::vector<Remark>* remarks = nullptr,
              const ChunkOptions& options = {});

namespace chunking {

// How rows are cut: along `sliced` in steps, one by one along what is outside of it.
struct Cut {
  AxisList picked;
  AxisId sliced;
  std::int64_t step = 0;
  AxisList axes() const { return picked.with(sliced); }
};

// What runs once a chunk. Values are in order of definition.
struct Part {
  OpId anchor;  // the contraction that makes the logits
  Cut cut;
  std::vector<char> inside;           // by operation
  std::vector<OpId> ops;              // those inside and what costs nothing to make again
  std::vector<ValueId> inputs;        // with row axes: a slice each; others whole
  std::vector<ValueId> kept, summed;  // results with row axes, sums over them
  std::int64_t chunks(const Function& f) const;
};

// The first contraction that is worth it, if any: rows from one operand, the matrix has none of
// them. `tried` are passed over.
std::optional<OpId> find_anchor(const Function& f, const std::vector<OpId>& tried,
                                const ChunkOptions& options);
Cut cut_rows(const Function& f, const AxisList& rows, const ChunkOptions& options);
// The axes of the anchor's result that its matrix lacks.
AxisList row_axes(const Function& f, const Op& anchor);
// A value of about the size of the logits, with all axes that are cut.
bool is_large(const Function& f, OpId anchor, const Cut& cut, ValueId v);
// All operations that belong with the anchor; or why not, empty where it is no loss.
std::optional<Part> find_part(const Function& f, OpId anchor, const ChunkOptions& options,
                              std::string& fault);
// `f` with the part in functions of its own, which are appended to `program`. `others` are
// operations of `f`, then those of the result; those inside the part are dropped.
Function write_part(Program& program, const Function& f, const Part& part,
                    std::vector<OpId>& others);

}  // namespace chunking
}  // namespace gradc
