// One row, vector by vector.
#include "codegen/rows_lanes.h"

#include <algorithm>

namespace gradc {
namespace {

constexpr std::int64_t lane_block = 4096;  // elements of a run summed on their own
constexpr std::int64_t least_apart = 256;  // a run so long is summed on its own, too
constexpr int most_straight_vectors = 8;
constexpr int most_straight_work = 800;
constexpr std::int64_t least_fetched = 16 << 10;  // bytes of a row

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
  k.notes_nans = e_.target.vector_bytes == 64;
  if (straight_ || !outer_.empty() || k.plan.passes.size() < 2) return;
  const AxisList all = unite(k.plan.kept, k.plan.reduced);
  for (int b = 0; b < e_.buffer_count(); ++b) {
    const Type& type = e_.buffer_type(b);
    const std::int64_t row = lane.extent * bytes(type.dtype);
    if (type.axes.size() != all.size() || !all.contains_all(type.axes) ||
        e_.stride(b, lane.axis) != 1 || row > e_.target.l2_bytes / 4)
      continue;
    const bool in_place = e_.instance.buffers[static_cast<std::size_t>(b)].alias >= 0;
    if (b >= e_.argument_count() && !in_place) stored_.push_back(b);
    if (b < e_.argument_count() && row >= least_fetched) fetched_.push_back(b);
  }
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
  const Point next = fetched_.empty() ? Point{} : row_point(e_.add(index, 1));
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
    read_terms(pass, row);
    const Bound bound = invariants(pass, row);
    if (straight_) {
      for (At& a : vectors) bound.bind(*a.values);
      Accumulators state(k_, pass, static_cast<int>(vectors.size()), lanes_);
      run_pass(k_, pass, vectors, saved, state);
      finish(pass, state, row);
      continue;
    }
    const bool fetches = p == 1 && !fetched_.empty();
    const Sweep s{pass, point, bound, saved, fetches ? &next : nullptr};
    if (around_one_position(s)) continue;
    finish(pass, sweep(s, {e_.i64(0), e_.i64(outer_count_)}, nullptr), row);
  }
  store_row_results(k_, row);
}

// Sums of one term: the term, or 0 where there is none.
void ByLanes::read_terms(const Pass& pass, Values& row) const {
  for (const SingleTerm& t : pass.terms) {
    const Reduction& r = k_.plan.reductions[static_cast<std::size_t>(t.reduction)];
    llvm::Value* at = e_.ir.CreateSExt(row.get(t.at), e_.type(DType::i64));
    llvm::Value* inside = e_.ir.CreateICmpULT(at, e_.i64(lane_.extent));
    Point p = row.point();
    set_dimension(e_, p, lane_, e_.ir.CreateSelect(inside, at, e_.i64(0)));
    llvm::Value* zero = e_.constant(r.dtype, 0);
    llvm::Value* x = e_.ir.CreateSelect(inside, Values(e_, p).get(t.x), zero);
    row.bind(r.result, is_real(r.dtype) ? e_.ir.CreateFAdd(zero, x) : x);
  }
}

Bound ByLanes::invariants(const Pass& pass, Values& row) const {
  Bound out;
  for (ValueId v : invariant_values(e_, pass.roots, k_.reduced))
    out.uniform.emplace_back(v, row.get(v));
  return out;
}

// A pass over a range of the outer reduced positions and the whole run, or (there being no outer
// ones) over a range of the run, which starts at a multiple of a turn.
Accumulators ByLanes::sweep(const Sweep& s, Range outer, const Range* part) const {
  const Accumulators none(k_, s.pass, tracks_, lanes_);
  if (part != nullptr) return in_blocks(s, *part, e_.i64(0), none);
  if (outer_.empty()) return in_blocks(s, {e_.i64(0), e_.i64(lane_.extent)}, e_.i64(0), none);
  return loop(k_, outer.lo, outer.hi, 1, none, [&](llvm::Value* o, Accumulators& state) {
    Point p = s.row;
    set_decoded(e_, p, outer_, o);
    const Sweep here{s.pass, p, s.bound, s.saved};
    const bool apart = lane_.extent >= least_apart;  // shorter chains of additions err less
    const Accumulators run = in_blocks(here, {e_.i64(0), e_.i64(lane_.extent)},
                                       e_.mul(o, padded_), apart ? none : state);
    if (apart)
      state.merge(run);
    else
      state = run;
  });
}

// A pass that only stores, and marks one position of the row: the condition is judged in that
// position's turn alone. False: it is no such pass.
bool ByLanes::around_one_position(const Sweep& s) const {
  const Accumulators none(k_, s.pass, tracks_, lanes_);
  if (!none.empty() || !outer_.empty()) return false;
  const OnePosition one = one_position(e_, s.pass, k_.plan, lane_.axis);
  const auto place =
      std::find_if(s.bound.uniform.begin(), s.bound.uniform.end(),
                   [&](const auto& known) { return known.first == one.place; });
  if (!one.condition.valid() || place == s.bound.uniform.end()) return false;
  Bound elsewhere = s.bound;
  elsewhere.each.emplace_back(one.condition, e_.integer(DType::boolean, 0, lanes_));
  const Sweep other{s.pass, s.row, elsewhere, s.saved, s.next};
  const std::int64_t turn = std::int64_t{tracks_} * lanes_;
  llvm::Value* at = e_.max(e_.ir.CreateSExt(place->second, e_.type(DType::i64)), e_.i64(0));
  llvm::Value* before = e_.min(e_.mul(e_.ir.CreateUDiv(at, e_.i64(turn)), turn),
                               e_.i64(lane_.extent / turn * turn));
  llvm::Value *behind = e_.min(e_.add(before, turn), e_.i64(lane_.extent)), *zero = e_.i64(0);
  run(other, {zero, before}, zero, none);
  run(s, {before, behind}, zero, none);
  run(other, {behind, e_.i64(lane_.extent)}, zero, none);
  return true;
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
Accumulators ByLanes::in_blocks(const Sweep& s, Range range, llvm::Value* saved_at,
                                const Accumulators& from) const {
  if (from.empty() || lane_.extent <= 2 * lane_block) return run(s, range, saved_at, from);
  return loop(k_, range.lo, range.hi, lane_block, from, [&](llvm::Value* i, Accumulators& state) {
    const Accumulators none(k_, s.pass, tracks_, lanes_);
    state.merge(run(s, {i, e_.min(e_.add(i, lane_block), range.hi)}, saved_at, none));
  });
}

Accumulators ByLanes::run(const Sweep& s, Range range, llvm::Value* saved_at,
                          const Accumulators& from) const {
  const auto [lo, hi] = range;
  const std::int64_t turn = std::int64_t{tracks_} * lanes_;
  const bool keeps = !k_.plan.saved.empty();
  const auto vector = [&](llvm::Value* i, llvm::Value* left) {
    At a = at(s.row, i, left, s.bound);
    if (keeps) a.saved = e_.add(saved_at, i);
    return a;
  };
  llvm::Value* whole =
      e_.add(lo, e_.mul(e_.ir.CreateUDiv(e_.ir.CreateSub(hi, lo), e_.i64(turn)), turn));
  const Accumulators most =
      loop(k_, lo, whole, turn, from, [&](llvm::Value* i, Accumulators& state) {
        if (s.next != nullptr) fetch(fetched_, *s.next, i, false);
        if (&s.pass == &k_.plan.passes[0]) fetch(stored_, s.row, i, true);
        std::vector<At> vectors;
        for (int t = 0; t < tracks_; ++t)
          vectors.push_back(vector(e_.add(i, std::int64_t{t} * lanes_), nullptr));
        run_pass(k_, s.pass, vectors, s.saved, state);
      });
  if (lane_.extent % turn == 0) return most;
  return loop(k_, whole, hi, lanes_, most, [&](llvm::Value* i, Accumulators& state) {
    At a = vector(i, lane_.extent % lanes_ == 0 ? nullptr : e_.ir.CreateSub(hi, i));
    run_pass(k_, s.pass, std::span(&a, 1), s.saved, state);
  });
}

// A turn from i on.
void ByLanes::fetch(const std::vector<int>& buffers, const Point& row, llvm::Value* i,
                    bool near) const {
  Point p = row;
  set_dimension(e_, p, lane_, i);
  for (int buffer : buffers) prefetch_run(e_, buffer, p, std::int64_t{tracks_} * lanes_, near);
}

void emit_row_by_row(RowsKernel& k, const Dimension& lane) {
  Emitter& e = k.e;
  ByLanes way(k, lane);
  if (way.straight() || saved_bytes(k, way.saved_elements()) > most_saved_bytes)
    k.plan = plan_rows(e, false);
  if (way.outer_count() == 1 && lane.members.size() == 1) {
    pick_single_terms(e, k.plan, lane.axis);
    save_in_results(e, k.plan, lane.axis);
  }
  e.out.local_bytes = saved_bytes(k, way.saved_elements());
  e.take(k.rows, [&](llvm::Value* row) { way.row(row); });
}

}  // namespace gradc
