// Rows kernels with the lanes along a kept axis. A column's sum goes down the rows in blocks of 64, blocks
// in order. Streaming walks each block of rows once, in memory's order, with a state for every column in
// cache; the other way keeps some columns' states in registers for all passes.
#include <algorithm>

#include "codegen/rows.h"

namespace gradc {
namespace {

constexpr std::int64_t row_block = 64;             // rows summed on their own
constexpr int most_straight_rows = 8;
constexpr int most_straight_work = 800;

// Columns in registers: `tracks` vectors of neighbours.
class Columns {
 public:
  Columns(RowsKernel& k, const Dimension* lane) : k_(k), e_(k.e), lane_(lane) {
    for (const Dimension& d : k.kept)
      if (lane == nullptr || d.axis != lane->axis) outer_.push_back(d);
    lanes_ = lane == nullptr ? 1 : e_.target.lanes();
    extent_ = lane == nullptr ? 1 : lane->extent;
    tracks_ = k.cost <= 24 ? 4 : k.cost <= 60 ? 2 : 1;
    while (tracks_ > 1 && extent_ < std::int64_t{tracks_} * lanes_) tracks_ /= 2;
    straight_ = k.length <= most_straight_rows && k.length * tracks_ * k.cost <= most_straight_work;
  }

  bool straight() const { return straight_; }
  std::int64_t saved_elements() const { return k_.length * tracks_ * lanes_; }

  void emit() const {
    const std::int64_t turn = std::int64_t{tracks_} * lanes_, whole = extent_ / turn, rest = extent_ % turn;
    const std::int64_t outer = product(outer_);
    if (whole > 0) {
      const auto [from, to] = e_.share(outer * whole);
      e_.loop(from, to, 1, [&](llvm::Value* unit) {
        group(e_.ir.CreateUDiv(unit, e_.i64(whole)), e_.mul(e_.ir.CreateURem(unit, e_.i64(whole)), turn), turn);
      });
    }
    if (rest > 0) {
      const auto [from, to] = e_.share(outer);
      e_.loop(from, to, 1, [&](llvm::Value* unit) { group(unit, e_.i64(whole * turn), rest); });
    }
  }

 private:
  struct Group {
    Point outer;                                   // one lane, without the columns
    std::vector<Point> at;                         // by track
    std::vector<std::unique_ptr<Values>> columns;  // values without reduced axes
    std::unique_ptr<Values> common;                // those that have no axis of the columns either
  };

  void group(llvm::Value* outer, llvm::Value* first, std::int64_t count) const {
    Group g{.outer = k_.base};
    set_decoded(e_, g.outer, outer_, outer);
    g.common = std::make_unique<Values>(e_, g.outer);
    for (std::int64_t c = 0; c < count; c += lanes_) {
      Point p = g.outer;
      p.lanes = lanes_;
      if (lane_ != nullptr) set_dimension(e_, p, *lane_, e_.add(first, c), 1, lanes_);
      if (count - c < lanes_) p.mask = e_.first_lanes(e_.i64(count - c), lanes_);
      g.at.push_back(p);
      g.columns.push_back(std::make_unique<Values>(e_, p));
    }
    const Saved saved(k_, saved_elements());
    std::vector<std::vector<At>> rows;
    if (straight_)
      for (std::int64_t r = 0; r < k_.length; ++r) rows.push_back(row(g, e_.i64(r)));
    for (std::size_t p = 0; p < k_.plan.passes.size(); ++p) {
      const Pass& pass = k_.plan.passes[p];
      for (auto& values : g.columns) read_for_row(k_, p, *values);
      const std::vector<Bound> bound = invariants(pass, g);
      Accumulators state(k_, pass, static_cast<int>(g.at.size()), lanes_);
      if (straight_) {
        for (std::vector<At>& row : rows) take_row(pass, g, row, bound, saved, state);
      } else {
        state = sweep(pass, g, bound, saved);
      }
      for (int r = 0; r < k_.reductions_in(pass); ++r)
        for (std::size_t t = 0; t < g.at.size(); ++t) {
          const Reduction& reduction = k_.reduction(pass, static_cast<std::size_t>(r));
          g.columns[t]->bind(reduction.result, Reducer::result(reduction, state.state(r, static_cast<int>(t))));
        }
    }
    for (auto& values : g.columns) store_row_results(k_, *values);
  }

  Accumulators sweep(const Pass& pass, const Group& g, const std::vector<Bound>& bound, const Saved& saved) const {
    return in_blocks(k_, pass, static_cast<int>(g.at.size()), lanes_, k_.length, row_block,
                     [&](llvm::Value* lo, llvm::Value* hi, const Accumulators& from) {
                       return loop(k_, lo, hi, 1, from, [&](llvm::Value* r, Accumulators& state) {
                         std::vector<At> vectors = row(g, r);
                         take_row(pass, g, vectors, bound, saved, state);
                       });
                     });
  }

  std::vector<At> row(const Group& g, llvm::Value* r) const {
    std::vector<At> out;
    for (std::size_t t = 0; t < g.at.size(); ++t) {
      Point p = g.at[t];
      set_decoded(e_, p, k_.reduced, r);
      At a;
      a.values = std::make_unique<Values>(e_, p);
      a.position = e_.splat(e_.ir.CreateTrunc(r, e_.type(DType::i32)), lanes_);
      if (!k_.plan.saved.empty())
        a.saved = e_.mul(e_.add(e_.mul(r, tracks_), static_cast<std::int64_t>(t)), lanes_);
      out.push_back(std::move(a));
    }
    return out;
  }

  // Of each track: what does not change from row to row.
  std::vector<Bound> invariants(const Pass& pass, const Group& g) const {
    std::vector<Bound> out(g.at.size());
    for (ValueId v : invariant_values(e_, pass.roots, k_.reduced)) {
      const bool common = lane_ != nullptr && !has_axis(*lane_, e_.kernel.type(v).axes);
      llvm::Value* x = common ? g.common->get(v) : nullptr;
      for (std::size_t t = 0; t < g.at.size(); ++t)
        if (common)
          out[t].uniform.emplace_back(v, x);
        else
          out[t].each.emplace_back(v, g.columns[t]->get(v));
    }
    return out;
  }

  // What all columns of the row share is computed once, in one lane.
  void take_row(const Pass& pass, const Group& g, std::vector<At>& row, const std::vector<Bound>& bound,
                const Saved& saved, Accumulators& state) const {
    Bound shared;
    if (lane_ != nullptr) {
      Point p = g.outer;
      for (const Dimension& d : k_.reduced)
        for (AxisId a : d.members) p.index[a.index] = row[0].values->point().index[a.index];
      Values values(e_, p);
      std::vector<bool> known(e_.kernel.values.size());
      for (const auto& [v, x] : bound[0].uniform) known[v.index] = true;
      for (ValueId v : invariant_values(e_, pass.roots, std::span(lane_, 1)))
        if (!known[v.index]) shared.uniform.emplace_back(v, values.get(v));
    }
    for (std::size_t t = 0; t < row.size(); ++t) {
      bound[t].bind(*row[t].values);
      shared.bind(*row[t].values);
    }
    run_pass(k_, pass, row, saved, state);
  }

  const RowsKernel& k_;
  Emitter& e_;
  const Dimension* lane_;
  std::vector<Dimension> outer_;
  std::int64_t extent_;
  int lanes_, tracks_;
  bool straight_;
};

}  // namespace

void emit_columns(RowsKernel& k, const Dimension* lane) {
  const Columns way(k, lane);
  if (way.straight() || saved_bytes(k, way.saved_elements()) > most_saved_bytes) k.plan = plan_rows(k.e, false);
  k.e.out.local_bytes = saved_bytes(k, way.saved_elements());
  way.emit();
}

namespace {

// Blocks of rows × pieces of columns, a state of every column of every block in shared scratch; then the
// columns' blocks in order.
class Streamed {
 public:
  Streamed(RowsKernel& k, const Dimension& lane) : k_(k), e_(k.e), pass_(k.plan.passes[0]), lane_(lane), lanes_(e_.target.lanes()) {
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
      llvm::Value* which = e_.ir.CreateUDiv(unit, e_.i64(pieces));   // block · outer
      llvm::Value* states = e_.mul(which, padded_);
      llvm::Value* block = e_.ir.CreateUDiv(which, e_.i64(outer_count_));
      Point point = k_.base;
      set_decoded(e_, point, outer_, e_.ir.CreateURem(which, e_.i64(outer_count_)));
      const Accumulators none(k_, pass_, 1, lanes_);
      e_.loop(first, end, lanes_, [&](llvm::Value* c) { store(none, e_.add(states, c)); });
      llvm::Value* lo = e_.mul(block, row_block);
      llvm::Value* hi = e_.min(e_.add(lo, row_block), e_.i64(k_.length));
      llvm::Value* whole = e_.add(lo, e_.mul(e_.ir.CreateUDiv(e_.ir.CreateSub(hi, lo), e_.i64(together_)), together_));
      e_.loop(lo, whole, together_, [&](llvm::Value* r) { rows(point, r, together_, first, end, states); });
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
      Accumulators total = loop(k_, e_.i64(0), e_.i64(blocks_), 1, Accumulators(k_, pass_, 1, lanes_), [&](llvm::Value* b, Accumulators& state) {
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
  static constexpr std::int64_t piece = 1024;   // columns: states of a few reductions stay in the first cache

  Point along(const Point& point, llvm::Value* c) const {
    Point p = point;
    p.lanes = lanes_;
    set_dimension(e_, p, lane_, c, 1, lanes_);
    if (lane_.extent % lanes_ != 0) p.mask = e_.first_lanes(e_.ir.CreateSub(e_.i64(lane_.extent), c), lanes_);
    return p;
  }

  Accumulators load(llvm::Value* index) const {
    std::vector<llvm::Value*> flat;
    for (const auto& [base, dtype] : parts_) flat.push_back(e_.load(e_.at(base, index, dtype), dtype, lanes_));
    return Accumulators(Accumulators(k_, pass_, 1, lanes_), flat);
  }
  void store(const Accumulators& state, llvm::Value* index) const {
    const std::vector<llvm::Value*> flat = state.flat();
    for (std::size_t i = 0; i < flat.size(); ++i)
      e_.store(flat[i], e_.at(parts_[i].first, index, parts_[i].second), parts_[i].second, lanes_);
  }

  // Rows r … r + count − 1 into the states of columns first … end − 1.
  void rows(const Point& point, llvm::Value* r, int count, llvm::Value* first, llvm::Value* end, llvm::Value* states) const {
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
    if (lane_.extent % lanes_ == 0) return e_.loop(first, end, lanes_, [&](llvm::Value* c) { columns(c, false); });
    llvm::Value* whole = e_.add(first, e_.mul(e_.ir.CreateUDiv(e_.ir.CreateSub(end, first), e_.i64(lanes_)), lanes_));
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
