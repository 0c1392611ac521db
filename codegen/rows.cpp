// Rows kernels with the lanes along the reduced axes, and the choice between the ways. A row's sum: vectors
// in turn to four tracks (fewer for short rows or heavy elements), in blocks of 4096 elements where the run
// is longer than that, tracks and then lanes merged in pairs.
#include "codegen/rows.h"

#include <algorithm>
#include <functional>

#include "codegen/families.h"

namespace gradc {
namespace {

constexpr std::int64_t lane_block = 4096;          // elements of a run summed on their own
constexpr std::int64_t least_apart = 256;          // a run so long is summed on its own, too
constexpr std::int64_t long_block = 64 << 10;      // elements of a piece of a long row
constexpr std::int64_t least_long = 256 << 10;     // from here on a row is long …
constexpr std::int64_t few_rows = 8;               // … if there are fewer than this
constexpr int most_straight_vectors = 8;           // a row of so many vectors is emitted without loops
constexpr int most_straight_work = 800;            // and so much work
constexpr double least_parallel_work = 1 << 17;    // below, waking the pool costs more than it brings

class ByLanes {
 public:
  ByLanes(RowsKernel& k, const Dimension& lane) : k_(k), e_(k.e), lane_(lane), lanes_(e_.target.lanes()) {
    for (const Dimension& d : k.reduced)
      if (d.axis != lane.axis) outer_.push_back(d);
    outer_count_ = product(outer_);
    padded_ = (lane.extent + lanes_ - 1) / lanes_ * lanes_;
    tracks_ = k.cost <= 24 ? 4 : 2;
    while (tracks_ > 1 && lane.extent < 2 * tracks_ * lanes_) tracks_ /= 2;
    const std::int64_t vectors = padded_ / lanes_;
    straight_ = outer_.empty() && vectors <= most_straight_vectors && vectors * k.cost <= most_straight_work;
  }

  bool straight() const { return straight_; }
  std::int64_t saved_elements() const { return outer_count_ * padded_; }
  std::int64_t outer_count() const { return outer_count_; }

  // The kept axes at the row; one lane.
  Point row_point(llvm::Value* row) const {
    Point p = k_.base;
    set_decoded(e_, p, k_.kept, row);
    return p;
  }

  // One whole row.
  void row(llvm::Value* index) const {
    const Point point = row_point(index);
    Values row(e_, point);
    const Saved saved(k_, saved_elements());
    std::vector<At> vectors;
    if (straight_)
      for (std::int64_t i = 0; i < lane_.extent; i += lanes_)
        vectors.push_back(at(point, e_.i64(i), lane_.extent - i < lanes_ ? e_.i64(lane_.extent - i) : nullptr, {}));
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

  Bound invariants(const Pass& pass, Values& row) const {
    Bound out;
    for (ValueId v : invariant_values(e_, pass.roots, k_.reduced)) out.uniform.emplace_back(v, row.get(v));
    return out;
  }

  struct Range {
    llvm::Value *lo, *hi;
  };
  // A pass over a range of the outer reduced positions and the whole run, or (there being no outer ones)
  // over a range of the run, which starts at a multiple of a turn.
  Accumulators sweep(const Pass& pass, const Point& row, const Bound& bound, Range outer, const Range* part,
                     const Saved& saved) const {
    const Accumulators none(k_, pass, tracks_, lanes_);
    if (part != nullptr) return in_blocks(pass, row, bound, *part, e_.i64(0), none, saved);
    if (outer_.empty()) return in_blocks(pass, row, bound, {e_.i64(0), e_.i64(lane_.extent)}, e_.i64(0), none, saved);
    return loop(k_, outer.lo, outer.hi, 1, none, [&](llvm::Value* o, Accumulators& state) {
      Point p = row;
      set_decoded(e_, p, outer_, o);
      const bool apart = lane_.extent >= least_apart;   // shorter chains of additions err less
      const Accumulators run = in_blocks(pass, p, bound, {e_.i64(0), e_.i64(lane_.extent)}, e_.mul(o, padded_),
                                         apart ? none : state, saved);
      if (apart)
        state.merge(run);
      else
        state = run;
    });
  }

  // The row's results of a pass, from all its vectors.
  void finish(const Pass& pass, Accumulators state, Values& row) const {
    for (int r = 0; r < k_.reductions_in(pass); ++r) {
      const Reduction& reduction = k_.reduction(pass, static_cast<std::size_t>(r));
      row.bind(reduction.result, Reducer::result(reduction, state.reducer(r).across_lanes(state.merged(r))));
    }
  }

 private:
  // One vector of the run from `first` on; `left`: how many lanes exist, or null.
  At at(const Point& row, llvm::Value* first, llvm::Value* left, const Bound& bound) const {
    Point p = row;
    p.lanes = lanes_;
    if (left != nullptr) p.mask = e_.first_lanes(left, lanes_);
    set_dimension(e_, p, lane_, first, 1, lanes_);
    At a;
    a.values = std::make_unique<Values>(e_, p);
    bound.bind(*a.values);
    a.position = e_.ir.CreateTrunc(every_lane(e_, {.first = first, .step = 1}, lanes_), e_.type(DType::i32, lanes_));
    return a;
  }

  // A range of the run; a long run is summed in blocks.
  Accumulators in_blocks(const Pass& pass, const Point& row, const Bound& bound, Range range, llvm::Value* saved_at,
                         const Accumulators& from, const Saved& saved) const {
    if (from.empty() || lane_.extent <= 2 * lane_block) return run(pass, row, bound, range, saved_at, from, saved);
    return loop(k_, range.lo, range.hi, lane_block, from, [&](llvm::Value* i, Accumulators& state) {
      const Accumulators none(k_, pass, tracks_, lanes_);
      state.merge(run(pass, row, bound, {i, e_.min(e_.add(i, lane_block), range.hi)}, saved_at, none, saved));
    });
  }

  Accumulators run(const Pass& pass, const Point& row, const Bound& bound, Range range, llvm::Value* saved_at,
                   const Accumulators& from, const Saved& saved) const {
    const auto [lo, hi] = range;
    const std::int64_t turn = std::int64_t{tracks_} * lanes_;
    const bool keeps = !k_.plan.saved.empty();
    const auto vector = [&](llvm::Value* i, llvm::Value* left) {
      At a = at(row, i, left, bound);
      if (keeps) a.saved = e_.add(saved_at, i);
      return a;
    };
    llvm::Value* whole = e_.add(lo, e_.mul(e_.ir.CreateUDiv(e_.ir.CreateSub(hi, lo), e_.i64(turn)), turn));
    const Accumulators most = loop(k_, lo, whole, turn, from, [&](llvm::Value* i, Accumulators& state) {
      std::vector<At> vectors;
      for (int t = 0; t < tracks_; ++t) vectors.push_back(vector(e_.add(i, std::int64_t{t} * lanes_), nullptr));
      run_pass(k_, pass, vectors, saved, state);
    });
    if (lane_.extent % turn == 0) return most;
    return loop(k_, whole, hi, lanes_, most, [&](llvm::Value* i, Accumulators& state) {
      At a = vector(i, lane_.extent % lanes_ == 0 ? nullptr : e_.ir.CreateSub(hi, i));
      run_pass(k_, pass, std::span(&a, 1), saved, state);
    });
  }

  const RowsKernel& k_;
  Emitter& e_;
  const Dimension lane_;
  std::vector<Dimension> outer_;
  std::int64_t outer_count_, padded_;
  int lanes_, tracks_;
  bool straight_;
};

}  // namespace

void emit_row_by_row(RowsKernel& k, const Dimension& lane) {
  Emitter& e = k.e;
  ByLanes way(k, lane);
  if (way.straight() || saved_bytes(k, way.saved_elements()) > most_saved_bytes) k.plan = plan_rows(e, false);
  e.out.local_bytes = saved_bytes(k, way.saved_elements());
  const auto [from, to] = e.share(k.rows);
  e.loop(from, to, 1, [&](llvm::Value* row) { way.row(row); });
}

// Phase i runs pass i over all blocks, from the results of the earlier passes, which each worker sums for
// itself out of their blocks' states; the last phase stores.
void emit_long_rows(RowsKernel& k, const Dimension& lane) {
  Emitter& e = k.e;
  k.plan = plan_rows(e, false);
  const ByLanes way(k, lane);
  const bool whole_runs = way.outer_count() > 1;
  const std::int64_t step = whole_runs ? std::max<std::int64_t>(long_block / lane.extent, 1) : long_block;
  const std::int64_t extent = whole_runs ? way.outer_count() : lane.extent;
  const std::int64_t blocks = (extent + step - 1) / step;
  // Each part of each reduction: [row][block].
  std::vector<std::vector<llvm::Value*>> space;
  for (const Reduction& r : k.plan.reductions) {
    space.emplace_back();
    for (int part = 0; part < Reducer::parts(r); ++part) {
      space.back().push_back(e.at_byte(e.shared, e.out.shared_bytes));
      e.out.shared_bytes += (k.rows * blocks * bytes(Reducer::part_type(r, part)) + 63) / 64 * 64;
    }
  }
  const auto place = [&](int reduction, int part, llvm::Value* row, llvm::Value* block) {
    const DType dtype = Reducer::part_type(k.plan.reductions[static_cast<std::size_t>(reduction)], part);
    return e.at(space[static_cast<std::size_t>(reduction)][static_cast<std::size_t>(part)], e.add(e.mul(row, blocks), block), dtype);
  };
  // Binds the results of the passes before `end`.
  const auto bind_results = [&](std::size_t end, llvm::Value* row, Values& values) {
    for (std::size_t p = 0; p < end; ++p)
      for (int index : k.plan.passes[p].reductions) {
        const Reduction& r = k.plan.reductions[static_cast<std::size_t>(index)];
        const Reducer reducer(e, r, 1);
        const Reducer::State last = e.loop(e.i64(0), e.i64(blocks), 1, reducer.identity(), [&](llvm::Value* b, std::span<llvm::Value* const> state) {
          Reducer::State next;
          for (int part = 0; part < Reducer::parts(r); ++part)
            next.push_back(e.load(place(index, part, row, b), Reducer::part_type(r, part), 1));
          return reducer.merge(Reducer::State(state.begin(), state.end()), next);
        });
        values.bind(r.result, Reducer::result(r, last));
      }
  };
  const auto run_phase = [&](std::size_t p) {
    const Pass& pass = k.plan.passes[p];
    e.loop(0, k.rows, 1, [&](llvm::Value* row) {
      const Point point = way.row_point(row);
      Values values(e, point);
      bind_results(p, row, values);
      const Bound bound = way.invariants(pass, values);
      const Saved none(k, 0);
      const auto [from, to] = e.share(blocks);
      e.loop(from, to, 1, [&](llvm::Value* b) {
        llvm::Value* lo = e.mul(b, step);
        const ByLanes::Range range{lo, e.min(e.add(lo, step), e.i64(extent))};
        Accumulators state = way.sweep(pass, point, bound, range, whole_runs ? nullptr : &range, none);
        for (int r = 0; r < k.reductions_in(pass); ++r) {
          const Reducer::State done = state.reducer(r).across_lanes(state.merged(r));
          const int index = pass.reductions[static_cast<std::size_t>(r)];
          for (std::size_t part = 0; part < done.size(); ++part)
            e.store(done[part], place(index, static_cast<int>(part), row, b),
                    Reducer::part_type(k.reduction(pass, static_cast<std::size_t>(r)), static_cast<int>(part)), 1);
        }
      });
    });
  };
  const auto store_phase = [&] {
    e.when(e.ir.CreateICmpEQ(e.worker, e.i64(0)), [&] {
      e.loop(0, k.rows, 1, [&](llvm::Value* row) {
        Values values(e, way.row_point(row));
        bind_results(k.plan.passes.size(), row, values);
        store_row_results(k, values);
      });
    });
  };
  std::vector<std::function<void()>> phases;
  for (std::size_t p = 0; p < k.plan.passes.size(); ++p) phases.push_back([&, p] { run_phase(p); });
  if (!k.plan.row_results.empty()) phases.push_back(store_phase);
  e.in_phases(std::vector<Emitter::Block>(phases.begin(), phases.end()));
}

Result<Done> emit_rows(Emitter& e) {
  const std::vector<ValueId>& results = e.kernel.body().results;
  RowsKernel k{.e = e, .plan = plan_rows(e, true)};
  if (k.plan.reductions.empty()) return failure(Exit::internal, "a rows kernel without a reduction");
  std::vector<ValueId> read(results);
  for (const Reduction& r : k.plan.reductions) read.push_back(r.operand);
  const Space space(e, read);
  k.kept = space.dimensions(k.plan.kept);
  k.reduced = space.dimensions(k.plan.reduced);
  k.rows = product(k.kept);
  k.length = product(k.reduced);
  k.cost = work(e, read);
  k.base = make_point(e, 1);
  set_single_axes(e, k.base, unite(k.plan.kept, k.plan.reduced));
  e.out.parallel = static_cast<double>(k.rows) * static_cast<double>(k.length) * k.cost >= least_parallel_work;

  // The axis along the lanes: what loads cost, and for a reduced one the merging of lanes, row by row.
  constexpr double merging = 10;
  const int lanes = e.target.lanes();
  std::vector<Dimension> all(k.kept);
  all.insert(all.end(), k.reduced.begin(), k.reduced.end());
  const Dimension *best = nullptr, *kept = nullptr;
  double least = 0;
  for (std::size_t i = 0; i < all.size(); ++i) {
    const bool is_kept = i < k.kept.size();
    double c = space.cost(all, all[i], lanes);
    if (!is_kept) c += static_cast<double>(k.rows) * merging * static_cast<double>(k.plan.reductions.size());
    if (best != nullptr && c >= least) continue;
    best = &all[i];
    kept = is_kept ? best : nullptr;
    least = c;
  }
  constexpr std::int64_t least_streamed = 17;  // rows: fewer are read side by side
  if (best == nullptr || kept != nullptr) {
    const bool streams = kept != nullptr && k.plan.passes.size() == 1 && k.length >= least_streamed && !k.plan.guarded;
    streams ? emit_streamed_columns(k, *kept) : emit_columns(k, kept);
  } else {
    k.rows < few_rows && k.length >= least_long && !k.plan.guarded ? emit_long_rows(k, *best) : emit_row_by_row(k, *best);
  }
  return Done{};
}

}  // namespace gradc
