// Contractions of a few products over many batches (a dot product of rows, say): each lane is one
// batch and adds its own k in ascending order, as the tiles of the packed form do.
#include "codegen/contract.h"

namespace gradc {
namespace {

// One operand of a block of lanes: how its elements at a position of k are loaded.
class Lanes {
 public:
  Lanes(Emitter& e, const Contraction& c, const Operand& operand, const Point& point)
      : e_(e),
        operand_(operand),
        lanes_(c.lanes),
        stored_(stored_dtype(e, operand)),
        base_(e.buffer(operand.buffer)),
        offset_(buffer_offset(e, operand.buffer, point.index, c.lanes)) {}

  bool side_by_side() const { return offset_.each == nullptr && offset_.step == 1; }
  bool same() const { return offset_.each == nullptr && offset_.step == 0; }
  // Worth loading a square block of lanes and k: neither of the above, and k contiguous.
  bool turned(std::int64_t stride) const { return !side_by_side() && !same() && stride == 1; }

  llvm::Value* at(llvm::Value* k, llvm::Value* base, std::int64_t stride) {
    llvm::Value* from = e_.at(base_, e_.add(base, e_.mul(k, stride)), stored_);
    if (same())
      return e_.splat(load_operand(e_, operand_, e_.at(from, offset_.first, stored_), 1), lanes_);
    if (side_by_side())
      return load_operand(e_, operand_, e_.at(from, offset_.first, stored_), lanes_);
    return gather_operand(e_, operand_, from, every_lane(e_, offset_, lanes_), lanes_);
  }
  // For k … k + lanes − 1 at once.
  std::vector<llvm::Value*> block(llvm::Value* k, llvm::Value* base, std::int64_t stride) {
    std::vector<llvm::Value*> out;
    if (!turned(stride)) {
      for (int i = 0; i < lanes_; ++i) out.push_back(at(e_.add(k, i), base, stride));
      return out;
    }
    llvm::Value* from = e_.at(base_, e_.add(base, k), stored_);
    llvm::Value* offsets = every_lane(e_, offset_, lanes_);
    for (int i = 0; i < lanes_; ++i) {
      llvm::Value* offset = e_.ir.CreateExtractElement(offsets, static_cast<std::uint64_t>(i));
      if (offset_.each == nullptr) offset = e_.add(offset_.first, offset_.step * i);
      llvm::Value* row = e_.at(from, offset, stored_);
      out.push_back(load_operand(e_, operand_, row, lanes_));
      e_.prefetch(e_.at(row, e_.i64(2 * lanes_), stored_));
    }
    transpose(e_, out);
    return out;
  }

 private:
  Emitter& e_;
  const Operand& operand_;
  const int lanes_;
  const DType stored_;
  llvm::Value* base_;
  Index offset_;
};

// Σ_k of every lane, at a point whose batch runs along the lanes.
llvm::Value* dot(Emitter& e, const Contraction& c, Point point) {
  for (AxisId x : c.k.axes) set_axis(point, x, e.i64(0));
  Lanes a(e, c, c.a, point), b(e, c, c.b, point);
  llvm::Value* sum = e.stack(c.dtype, c.lanes);
  e.store(e.constant(c.dtype, 0, c.lanes), sum, c.dtype, c.lanes);
  if (c.k.extent == 0) return e.load(sum, c.dtype, c.lanes);
  const auto add = [&](llvm::Value* x, llvm::Value* y) {
    e.store(e.fma(x, y, e.load(sum, c.dtype, c.lanes)), sum, c.dtype, c.lanes);
  };
  const std::vector<Level> along_a = levels_of(e, c.k, c.a.buffer),
                           along_b = levels_of(e, c.k, c.b.buffer);
  for_stretches(
      e, along_a, e.i64(0), e.i64(c.k.extent),
      [&](llvm::Value* from, llvm::Value* to, llvm::Value* base_a, std::int64_t stride_a) {
        for_stretches(
            e, along_b, from, to,
            [&](llvm::Value* lo, llvm::Value* hi, llvm::Value* base_b, std::int64_t stride_b) {
              llvm::Value* whole = lo;
              if (a.turned(stride_a) || b.turned(stride_b)) {
                whole = e.add(lo, e.ir.CreateAnd(e.ir.CreateSub(hi, lo), e.i64(-c.lanes)));
                e.loop(lo, whole, c.lanes, [&](llvm::Value* k) {
                  const std::vector<llvm::Value*> x = a.block(k, base_a, stride_a),
                                                  y = b.block(k, base_b, stride_b);
                  for (std::size_t i = 0; i < x.size(); ++i) add(x[i], y[i]);
                });
              }
              e.loop(whole, hi, 1, [&](llvm::Value* k) {
                add(a.at(k, base_a, stride_a), b.at(k, base_b, stride_b));
              });
            });
      });
  return e.load(sum, c.dtype, c.lanes);
}

}  // namespace

void emit_along_batch(Emitter& e, const Contraction& c) {
  const int lanes = c.lanes;
  const std::vector<ValueId>& results = e.kernel.body().results;
  // Lanes beyond the batch repeat its last product and are not stored.
  const auto block = [&](llvm::Value* first, llvm::Value* mask) {
    Index batch{.first = first, .step = 1, .multiple = lanes};
    if (mask != nullptr) {
      llvm::Value* each = every_lane(e, batch, lanes);
      batch = {.each = e.min(each, e.integer(DType::i64, c.batch.extent - 1, lanes))};
    }
    e.loop(0, c.m.extent, 1, [&](llvm::Value* m) {
      e.loop(0, c.n.extent, 1, [&](llvm::Value* n) {
        Point point = make_point(e, lanes);
        point.mask = mask;
        for (ValueId v : {e.kernel.op(c.op).operands[0], e.kernel.op(c.op).operands[1]})
          for (AxisId x : e.kernel.type(v).axes) set_axis(point, x, e.i64(0));
        set_role(e, point, c.batch, batch);
        set_role(e, point, c.m, {.first = m});
        set_role(e, point, c.n, {.first = n});
        Values values(e, point);
        values.bind(c.value, dot(e, c, point));
        for (ValueId r : results) values.get(r);
        for (std::size_t k = 0; k < results.size(); ++k) values.store_result(static_cast<int>(k));
      });
    });
  };
  const auto [lo, hi] = e.share((c.batch.extent + lanes - 1) / lanes);
  e.loop(lo, hi, 1, [&](llvm::Value* unit) {
    llvm::Value* first = e.mul(unit, lanes);
    if (c.batch.extent % lanes == 0) return block(first, nullptr);
    llvm::Value* left = e.ir.CreateSub(e.i64(c.batch.extent), first);
    e.when(
        e.ir.CreateICmpSGE(left, e.i64(lanes)), [&] { block(first, nullptr); },
        [&] { block(first, e.first_lanes(left, lanes)); });
  });
}

}  // namespace gradc
