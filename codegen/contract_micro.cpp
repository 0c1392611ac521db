// The register-blocked inner product of two panels. Nothing but it stands in its function, so that
// the accumulators keep their registers: rows · vectors accumulators, one vector of b for each
// column of them, one broadcast.
#include "codegen/contract.h"

namespace gradc {

llvm::Function* emit_micro(Emitter& e, const Contraction& c, const MicroStrides& strides,
                           std::string_view name) {
  constexpr int unroll = turn_steps;
  const bool looks_ahead = c.next.way != NextPanel::Way::none;
  const DType dtype = c.dtype;
  const auto rows = static_cast<std::size_t>(c.rows), vectors = static_cast<std::size_t>(c.vectors);
  llvm::Type* i = e.ir.getInt64Ty();
  std::vector<llvm::Type*> parameters{e.ptr(), e.ptr(), e.ptr(), i, i, i};
  if (looks_ahead) parameters.insert(parameters.end(), {i, e.ptr(), i, e.ptr()});
  const auto body = [&](std::span<llvm::Value* const> arguments) {
    llvm::Value *a = arguments[0], *b = arguments[1], *tile = arguments[2], *pitch = arguments[3],
                *count = arguments[4];
    const auto place = [&](std::size_t r, std::size_t v) {
      llvm::Value* row = e.at(tile, e.mul(pitch, static_cast<std::int64_t>(r)), dtype);
      return e.at(row, e.i64(static_cast<std::int64_t>(v) * c.lanes), dtype);
    };
    const auto zeros = [&] {
      return std::vector<llvm::Value*>(rows * vectors, e.constant(dtype, 0, c.lanes));
    };
    const auto sums = [&] {
      std::vector<llvm::Value*> out;
      for (std::size_t r = 0; r < rows; ++r)
        for (std::size_t v = 0; v < vectors; ++v)
          out.push_back(e.load(place(r, v), dtype, c.lanes));
      return out;
    };
    const DType panel = c.panel_dtype(), stored = c.pairs && c.direct_a ? DType::bf16 : panel;
    // One step of k: the vectors of b first, then row by row a broadcast and its products.
    const auto step = [&](llvm::Value* k, std::vector<llvm::Value*>& sum) {
      llvm::Value* column = e.at(b, e.mul(k, strides.b_k), panel);
      llvm::Value* row = e.at(a, e.mul(k, strides.a_k), stored);
      std::vector<llvm::Value*> right;
      for (std::size_t v = 0; v < vectors; ++v)
        right.push_back(e.load(e.at(column, e.i64(static_cast<std::int64_t>(v) * c.lanes), panel),
                               panel, c.lanes));
      for (std::size_t r = 0; r < rows; ++r) {
        llvm::Value* at =
            e.at(row, e.i64(static_cast<std::int64_t>(r) * strides.a_row), stored);
        // A pair in place is aligned as one bf16 is.
        const llvm::Align align(static_cast<std::uint64_t>(bytes(stored)));
        llvm::Value* x = e.ir.CreateAlignedLoad(e.type(panel), at, align);
        llvm::Value* left = e.splat(x, c.lanes);
        for (std::size_t v = 0; v < vectors; ++v) {
          llvm::Value*& s = sum[r * vectors + v];
          s = c.pairs ? add_pairs(e, left, right[v], s) : e.fma(left, right[v], s);
        }
      }
    };
    // Of an a that is read in place, what the next tile reads most likely: its rows along k, or the
    // next line of columns where those are contiguous and a is read but once or twice. Lines that
    // meet in one set of the L1 would push each other out.
    const std::int64_t line = 64 / c.element_bytes(), below = strides.a_row * c.rows;
    const bool far = strides.a_row * bytes(stored) % 4096 == 0;
    const bool along = strides.a_k == c.elements_a_step();
    const auto ahead = [&](llvm::Value* k) {
      if (!c.direct_a) return;
      llvm::Value* row = e.at(a, e.mul(k, strides.a_k), stored);
      for (int r = 0; r < c.rows && along; ++r)
        e.prefetch(e.at(row, e.i64(below + r * strides.a_row), stored), false, !far);
      for (int u = 0; u < unroll && strides.a_row == 1 && !c.pairs; ++u)
        e.prefetch(e.at(row, e.i64(line + u * strides.a_k), stored), false, false);
    };
    const auto do_next = [&](llvm::Value* k) {
      emit_next_turn(e, c, {arguments[6], arguments[7], arguments[8], arguments[9]},
                     e.ir.CreateUDiv(k, e.i64(unroll)));
    };
    const auto turns = [&](llvm::Value* from, llvm::Value* to, int by,
                           std::span<llvm::Value* const> first, bool with_next = false) {
      return e.loop(from, to, by, first, [&](llvm::Value* k, std::span<llvm::Value* const> state) {
        std::vector<llvm::Value*> sum(state.begin(), state.end());
        if (by > 1) ahead(k);
        if (with_next) do_next(k);
        for (int u = 0; u < by; ++u) step(e.add(k, u), sum);
        return sum;
      });
    };
    const auto fetch_tile = [&](bool near) {
      if (!c.direct_c) return;
      for (std::size_t r = 0; r < rows; ++r)
        for (std::size_t v = 0; v < vectors; ++v) e.prefetch(place(r, v), true, near);
    };
    fetch_tile(false);
    std::vector<llvm::Value*> sum =
        c.k_blocks == 1 ? zeros()
                        : e.choose(e.ir.CreateICmpNE(arguments[5], e.i64(0)), zeros, sums);
    llvm::Value* most = e.ir.CreateAnd(count, e.i64(-unroll));
    llvm::Value* begin = e.i64(0);
    if (looks_ahead) {
      llvm::Value* until = e.min(e.mul(arguments[6], unroll), most);
      sum = turns(begin, until, unroll, sum, true);
      begin = until;
    }
    sum = turns(begin, most, unroll, sum);
    sum = turns(most, count, 1, sum);
    fetch_tile(true);
    for (std::size_t r = 0; r < rows; ++r)
      for (std::size_t v = 0; v < vectors; ++v)
        e.store(sum[r * vectors + v], place(r, v), dtype, c.lanes);
  };
  return e.function(name, parameters, body);
}

}  // namespace gradc
