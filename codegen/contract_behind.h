// Owns what stands behind a contraction in its kernel: the epilogue of each tile, and totals, which
// are sums of the epilogue's values over all axes.
#pragma once

#include "codegen/contract.h"
#include "codegen/reduce.h"

namespace gradc {

class Behind {
 public:
  Behind(Emitter& e, const Contraction& c) : e_(e), c_(c) {}

  // The part of a tile that exists, by positions in the roles.
  struct Part {
    llvm::Value *batch, *m, *rows, *n, *columns;
  };
  // Takes shared scratch for the totals; before the others.
  void lay_out();
  // Asks for what `apply` reads and writes, into the L2 before the tile is computed; into the L1 `apply`
  // asks a row ahead, since the panel of b streams through there meanwhile.
  void fetch(const Part& part);
  // Computes and stores the results for a tile of sums, c.width elements a row, vector by vector;
  // sums for totals stay in registers until its end.
  void apply(llvm::Value* tile, const Part& part);
  // The second phase: one worker adds the parts, a vector of neighbours at a time.
  void add_totals();

 private:
  // Of a total each tile gives one part, in the order of products, rows of tiles, tiles; whoever
  // computes a tile, its place is the same.
  std::int64_t tiles_across() const { return (c_.n.extent + c_.width - 1) / c_.width; }
  std::int64_t tiles_down() const { return (c_.m.extent + c_.rows - 1) / c_.rows; }
  std::int64_t tiles() const { return c_.batch.extent * tiles_down() * tiles_across(); }
  ValueId total(std::size_t t) const;
  ValueId summed(std::size_t t) const;
  DType total_type(std::size_t t) const { return e_.kernel.type(total(t)).dtype; }
  Reduction reduction(std::size_t t) const {
    return {Opcode::sum_, summed(t), total(t), total_type(t)};
  }
  std::vector<int> fetched() const;  // buffers with an element for each of a tile's
  void fetch_row(const Part& part, llvm::Value* r, bool near);
  Point point_at(int lanes, llvm::Value* batch, llvm::Value* m, const Index& n);
  int lanes() const;
  std::vector<llvm::Value*> hand_out(Values& values, llvm::Value* mask,
                                     std::span<llvm::Value* const> sums);

  Emitter& e_;
  const Contraction& c_;
  std::vector<llvm::Value*> parts_;  // by total: of each tile
};

}  // namespace gradc
