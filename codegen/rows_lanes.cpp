// One row, vector by vector.
#include "codegen/rows_lanes.h"

namespace gradc {
namespace {

constexpr std::int64_t lane_block = 4096;  // elements of a run summed on their own
constexpr std::int64_t least_apart = 256;  // a run so long is summed on its own, too
constexpr int most_straight_vectors = 8;
constexpr int most_straight_work = 800;

}  // namespace

ByLanes::ByLanes(RowsKernel& k, const Dimension& lane)
    : k_(k), e_(k.e), lane_(lane), lanes_(e_.target.lanes()) {
  for (const Dimension& d : k.reduced)
    if (d.axis != lane.axis) outer_.push_back(d);
  outer_count_ = product(outer_);
  padded_ = (lane.extent + lanes_ - 1) / lanes_ * lanes_;
  tracks_ = k.cost <= 24 ? 4 : 2;
  while (tracks_ > 1 && lane.extent < 2 * tracks_ * lanes_) tracks_ /= 2;
  const std::int64_t vectors = padded_ / lanes_;
  straight_ =
      outer_.empty() && vectors <= most_straight_vectors && vectors * k.cost <= most_straight_work;
}

// The kept axes at the row; one lane.
Point ByLanes::row_point(llvm::Value* row) const {
  Point p = k_.base;
  set_decoded(e_, p, k_.kept, row);
  return p;
}

// One whole row.
void ByLanes::row(llvm::Value* index) const {
  const Point point = row_point(index);
  Values row(e_, point);
  const Saved saved(k_, saved_elements());
  std::vector<At> vectors;
  if (straight_)
    for (std::int64_t i = 0; i < lane_.extent; i += lanes_)
      vectors.push_back(
          at(point, e_.i64(i), lane_.extent - i < lanes_ ? e_.i64(lane_.extent - i) : nullptr, {}));
  for (std::size_t p = 0; p < k_.plan.passes.size(); ++p) {
    const Pass& pass = k_.plan.passes[p];
    read_for_row(k_, p, row);
    const Bound bound = invariants(pass, row);
    if (straight_) {
      for (At& a : vectors) bound.bind(*a.values);
      Accumulators state(k_, pass, static_cast<int>(vectors.size()), lanes_);
      run_pass(k_, pass, vectors, saved, state);
      finish(pass, state, row);
      continue;
    }
    finish(pass, sweep(pass, point, bound, {e_.i64(0), e_.i64(outer_count_)}, nullptr, saved), row);
  }
  store_row_results(k_, row);
}

Bound ByLanes::invariants(const Pass& pass, Values& row) const {
  Bound out;
  for (ValueId v : invariant_values(e_, pass.roots, k_.reduced))
    out.uniform.emplace_back(v, row.get(v));
  return out;
}

// A pass over a range of the outer reduced positions and the whole run, or (there being no outer
// ones) over a range of the run, which starts at a multiple of a turn.
Accumulators ByLanes::sweep(const Pass& pass, const Point& row, const Bound& bound, Range outer,
                            const Range* part, const Saved& saved) const {
  const Accumulators none(k_, pass, tracks_, lanes_);
  if (part != nullptr) return in_blocks(pass, row, bound, *part, e_.i64(0), none, saved);
  if (outer_.empty())
    return in_blocks(pass, row, bound, {e_.i64(0), e_.i64(lane_.extent)}, e_.i64(0), none, saved);
  return loop(k_, outer.lo, outer.hi, 1, none, [&](llvm::Value* o, Accumulators& state) {
    Point p = row;
    set_decoded(e_, p, outer_, o);
    const bool apart = lane_.extent >= least_apart;  // shorter chains of additions err less
    const Accumulators run = in_blocks(pass, p, bound, {e_.i64(0), e_.i64(lane_.extent)},
                                       e_.mul(o, padded_), apart ? none : state, saved);
    if (apart)
      state.merge(run);
    else
      state = run;
  });
}

// The row's results of a pass, from all its vectors.
void ByLanes::finish(const Pass& pass, const Accumulators& state, Values& row) const {
  for (int r = 0; r < k_.reductions_in(pass); ++r) {
    const Reduction& reduction = k_.reduction(pass, static_cast<std::size_t>(r));
    row.bind(reduction.result,
             Reducer::result(reduction, state.reducer(r).across_lanes(state.merged(r))));
  }
}

// One vector of the run from `first` on; `left`: how many lanes exist, or null.
At ByLanes::at(const Point& row, llvm::Value* first, llvm::Value* left, const Bound& bound) const {
  Point p = row;
  p.lanes = lanes_;
  if (left != nullptr) p.mask = e_.first_lanes(left, lanes_);
  set_dimension(e_, p, lane_, first, 1, lanes_);
  At a;
  a.values = std::make_unique<Values>(e_, p);
  bound.bind(*a.values);
  a.position = e_.ir.CreateTrunc(every_lane(e_, {.first = first, .step = 1}, lanes_),
                                 e_.type(DType::i32, lanes_));
  return a;
}

// A range of the run; a long run is summed in blocks.
Accumulators ByLanes::in_blocks(const Pass& pass, const Point& row, const Bound& bound, Range range,
                                llvm::Value* saved_at, const Accumulators& from,
                                const Saved& saved) const {
  if (from.empty() || lane_.extent <= 2 * lane_block)
    return run(pass, row, bound, range, saved_at, from, saved);
  return loop(k_, range.lo, range.hi, lane_block, from, [&](llvm::Value* i, Accumulators& state) {
    const Accumulators none(k_, pass, tracks_, lanes_);
    state.merge(
        run(pass, row, bound, {i, e_.min(e_.add(i, lane_block), range.hi)}, saved_at, none, saved));
  });
}

Accumulators ByLanes::run(const Pass& pass, const Point& row, const Bound& bound, Range range,
                          llvm::Value* saved_at, const Accumulators& from,
                          const Saved& saved) const {
  const auto [lo, hi] = range;
  const std::int64_t turn = std::int64_t{tracks_} * lanes_;
  const bool keeps = !k_.plan.saved.empty();
  const auto vector = [&](llvm::Value* i, llvm::Value* left) {
    At a = at(row, i, left, bound);
    if (keeps) a.saved = e_.add(saved_at, i);
    return a;
  };
  llvm::Value* whole =
      e_.add(lo, e_.mul(e_.ir.CreateUDiv(e_.ir.CreateSub(hi, lo), e_.i64(turn)), turn));
  const Accumulators most =
      loop(k_, lo, whole, turn, from, [&](llvm::Value* i, Accumulators& state) {
        std::vector<At> vectors;
        for (int t = 0; t < tracks_; ++t)
          vectors.push_back(vector(e_.add(i, std::int64_t{t} * lanes_), nullptr));
        run_pass(k_, pass, vectors, saved, state);
      });
  if (lane_.extent % turn == 0) return most;
  return loop(k_, whole, hi, lanes_, most, [&](llvm::Value* i, Accumulators& state) {
    At a = vector(i, lane_.extent % lanes_ == 0 ? nullptr : e_.ir.CreateSub(hi, i));
    run_pass(k_, pass, std::span(&a, 1), saved, state);
  });
}

void emit_row_by_row(RowsKernel& k, const Dimension& lane) {
  Emitter& e = k.e;
  ByLanes way(k, lane);
  if (way.straight() || saved_bytes(k, way.saved_elements()) > most_saved_bytes)
    k.plan = plan_rows(e, false);
  e.out.local_bytes = saved_bytes(k, way.saved_elements());
  e.take(k.rows, [&](llvm::Value* row) { way.row(row); });
}

}  // namespace gradc
