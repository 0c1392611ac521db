// Rows kernels with the lanes along a kept axis: the states of some neighbouring columns stay in
// registers for all passes. A column's sum goes down the rows in blocks of 64, blocks in order.
#include <algorithm>

#include "codegen/rows.h"

namespace gradc {
namespace {

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
    const std::int64_t turn = std::int64_t{tracks_} * lanes_, whole = extent_ / turn,
                       rest = extent_ % turn;
    const std::int64_t outer = product(outer_);
    if (whole > 0) {
      const auto [from, to] = e_.share(outer * whole);
      e_.loop(from, to, 1, [&](llvm::Value* unit) {
        group(e_.ir.CreateUDiv(unit, e_.i64(whole)),
              e_.mul(e_.ir.CreateURem(unit, e_.i64(whole)), turn), turn);
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
          g.columns[t]->bind(reduction.result,
                             Reducer::result(reduction, state.state(r, static_cast<int>(t))));
        }
    }
    for (auto& values : g.columns) store_row_results(k_, *values);
  }

  Accumulators sweep(const Pass& pass, const Group& g, const std::vector<Bound>& bound,
                     const Saved& saved) const {
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
  void take_row(const Pass& pass, const Group& g, std::vector<At>& row,
                const std::vector<Bound>& bound, const Saved& saved, Accumulators& state) const {
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
  if (way.straight() || saved_bytes(k, way.saved_elements()) > most_saved_bytes)
    k.plan = plan_rows(k.e, false);
  k.e.out.local_bytes = saved_bytes(k, way.saved_elements());
  way.emit();
}

}  // namespace gradc
