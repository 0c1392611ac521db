// Rows kernels of one pass with the lanes along a kept axis: blocks of rows are walked in memory's
// order, with a state for every column in cache, and then the columns' blocks are summed.
#include <algorithm>

#include "codegen/rows.h"

namespace gradc {
namespace {

// Blocks of rows × pieces of columns, a state of every column of every block in shared scratch;
// then the columns' blocks in order.
class Streamed {
 public:
  Streamed(RowsKernel& k, const Dimension& lane)
      : k_(k), e_(k.e), pass_(k.plan.passes[0]), lane_(lane), lanes_(e_.target.lanes()) {
    for (const Dimension& d : k.kept)
      if (d.axis != lane.axis) outer_.push_back(d);
    outer_count_ = product(outer_);
    blocks_ = (k.length + row_block - 1) / row_block;
    padded_ = (lane.extent + lanes_ - 1) / lanes_ * lanes_;
    together_ = k.cost <= 24 ? 4 : k.cost <= 60 ? 2 : 1;
    for (int i : pass_.reductions) {
      const Reduction& r = k.plan.reductions[static_cast<std::size_t>(i)];
      for (int part = 0; part < Reducer::parts(r); ++part) {
        const DType dtype = Reducer::part_type(r, part);
        parts_.push_back({e_.at_byte(e_.shared, e_.out.shared_bytes), dtype});
        e_.out.shared_bytes += (blocks_ * outer_count_ * padded_ * bytes(dtype) + 63) / 64 * 64;
      }
    }
  }

  void blocks() const {
    const std::int64_t pieces = std::max<std::int64_t>((lane_.extent + piece - 1) / piece, 1);
    const auto [from, to] = e_.share(blocks_ * outer_count_ * pieces);
    e_.loop(from, to, 1, [&](llvm::Value* unit) {
      llvm::Value* first = e_.mul(e_.ir.CreateURem(unit, e_.i64(pieces)), piece);
      llvm::Value* end = e_.min(e_.add(first, piece), e_.i64(lane_.extent));
      llvm::Value* which = e_.ir.CreateUDiv(unit, e_.i64(pieces));  // block · outer
      llvm::Value* states = e_.mul(which, padded_);
      llvm::Value* block = e_.ir.CreateUDiv(which, e_.i64(outer_count_));
      Point point = k_.base;
      set_decoded(e_, point, outer_, e_.ir.CreateURem(which, e_.i64(outer_count_)));
      const Accumulators none(k_, pass_, 1, lanes_);
      e_.loop(first, end, lanes_, [&](llvm::Value* c) { store(none, e_.add(states, c)); });
      llvm::Value* lo = e_.mul(block, row_block);
      llvm::Value* hi = e_.min(e_.add(lo, row_block), e_.i64(k_.length));
      llvm::Value* whole = e_.add(
          lo, e_.mul(e_.ir.CreateUDiv(e_.ir.CreateSub(hi, lo), e_.i64(together_)), together_));
      e_.loop(lo, whole, together_,
              [&](llvm::Value* r) { rows(point, r, together_, first, end, states); });
      if (together_ > 1 && k_.length % together_ != 0)
        e_.loop(whole, hi, 1, [&](llvm::Value* r) { rows(point, r, 1, first, end, states); });
    });
  }

  void sums() const {
    const std::int64_t vectors = padded_ / lanes_;
    const auto [from, to] = e_.share(outer_count_ * vectors);
    e_.loop(from, to, 1, [&](llvm::Value* unit) {
      llvm::Value* outer = e_.ir.CreateUDiv(unit, e_.i64(vectors));
      llvm::Value* c = e_.mul(e_.ir.CreateURem(unit, e_.i64(vectors)), lanes_);
      Accumulators total =
          loop(k_, e_.i64(0), e_.i64(blocks_), 1, Accumulators(k_, pass_, 1, lanes_),
               [&](llvm::Value* b, Accumulators& state) {
                 llvm::Value* states = e_.mul(e_.add(e_.mul(b, outer_count_), outer), padded_);
                 state.merge(load(e_.add(states, c)));
               });
      Point point = k_.base;
      set_decoded(e_, point, outer_, outer);
      Values values(e_, along(point, c));
      for (int r = 0; r < k_.reductions_in(pass_); ++r) {
        const Reduction& reduction = k_.reduction(pass_, static_cast<std::size_t>(r));
        values.bind(reduction.result, Reducer::result(reduction, total.state(r, 0)));
      }
      store_row_results(k_, values);
    });
  }

 private:
  static constexpr std::int64_t piece =
      1024;  // columns: states of a few reductions stay in the first cache

  Point along(const Point& point, llvm::Value* c) const {
    Point p = point;
    p.lanes = lanes_;
    set_dimension(e_, p, lane_, c, 1, lanes_);
    if (lane_.extent % lanes_ != 0)
      p.mask = e_.first_lanes(e_.ir.CreateSub(e_.i64(lane_.extent), c), lanes_);
    return p;
  }

  Accumulators load(llvm::Value* index) const {
    std::vector<llvm::Value*> flat;
    for (const auto& [base, dtype] : parts_)
      flat.push_back(e_.load(e_.at(base, index, dtype), dtype, lanes_));
    return Accumulators(Accumulators(k_, pass_, 1, lanes_), flat);
  }
  void store(const Accumulators& state, llvm::Value* index) const {
    const std::vector<llvm::Value*> flat = state.flat();
    for (std::size_t i = 0; i < flat.size(); ++i)
      e_.store(flat[i], e_.at(parts_[i].first, index, parts_[i].second), parts_[i].second, lanes_);
  }

  // Rows r … r + count − 1 into the states of columns first … end − 1.
  void rows(const Point& point, llvm::Value* r, int count, llvm::Value* first, llvm::Value* end,
            llvm::Value* states) const {
    // What a row's columns share, and what does not change at all.
    std::vector<Bound> bound(static_cast<std::size_t>(count));
    std::vector<Point> at;
    for (int i = 0; i < count; ++i) {
      Point p = point;
      set_decoded(e_, p, k_.reduced, e_.add(r, i));
      at.push_back(p);
      Values values(e_, p);
      for (ValueId v : invariant_values(e_, pass_.roots, std::span(&lane_, 1)))
        bound[static_cast<std::size_t>(i)].uniform.emplace_back(v, values.get(v));
    }
    // Masks cost; only columns that may lie beyond the end have them.
    const auto columns = [&](llvm::Value* c, bool masked) {
      Values common(e_, masked ? along(point, c) : unmasked(point, c));
      std::vector<std::pair<ValueId, llvm::Value*>> each;
      for (ValueId v : invariant_values(e_, pass_.roots, k_.reduced))
        if (has_axis(lane_, e_.kernel.type(v).axes)) each.emplace_back(v, common.get(v));
      Accumulators state = load(e_.add(states, c));
      std::vector<At> vectors;
      for (int i = 0; i < count; ++i) {
        const Point& p = at[static_cast<std::size_t>(i)];
        At a;
        a.values = std::make_unique<Values>(e_, masked ? along(p, c) : unmasked(p, c));
        a.position = e_.splat(e_.ir.CreateTrunc(e_.add(r, i), e_.type(DType::i32)), lanes_);
        bound[static_cast<std::size_t>(i)].bind(*a.values);
        for (const auto& [v, x] : each) a.values->bind(v, x);
        for (ValueId root : pass_.roots) a.values->get(root);
        vectors.push_back(std::move(a));
      }
      for (At& a : vectors) run_pass(k_, pass_, std::span(&a, 1), Saved(k_, 0), state);
      store(state, e_.add(states, c));
    };
    if (lane_.extent % lanes_ == 0)
      return e_.loop(first, end, lanes_, [&](llvm::Value* c) { columns(c, false); });
    llvm::Value* whole = e_.add(
        first, e_.mul(e_.ir.CreateUDiv(e_.ir.CreateSub(end, first), e_.i64(lanes_)), lanes_));
    e_.loop(first, whole, lanes_, [&](llvm::Value* c) { columns(c, false); });
    e_.loop(whole, end, lanes_, [&](llvm::Value* c) { columns(c, true); });
  }

  Point unmasked(const Point& point, llvm::Value* c) const {
    Point p = point;
    p.lanes = lanes_;
    set_dimension(e_, p, lane_, c, 1, lanes_);
    return p;
  }

  const RowsKernel& k_;
  Emitter& e_;
  const Pass& pass_;
  const Dimension lane_;
  std::vector<Dimension> outer_;
  std::int64_t outer_count_, blocks_, padded_;
  int lanes_, together_;
  std::vector<std::pair<llvm::Value*, DType>> parts_;
};

}  // namespace

void emit_streamed_columns(RowsKernel& k, const Dimension& lane) {
  const Streamed way(k, lane);
  const auto blocks = [&] { way.blocks(); };
  const auto sums = [&] { way.sums(); };
  const Emitter::Block phases[] = {blocks, sums};
  k.e.in_phases(phases);
}

}  // namespace gradc
