// What stands behind the tiles of a contraction.
#include "codegen/contract_behind.h"

#include <algorithm>

namespace gradc {

ValueId Behind::total(std::size_t t) const {
  return e_.kernel.body().results[static_cast<std::size_t>(c_.totals[t])];
}

ValueId Behind::summed(std::size_t t) const {
  return e_.kernel.op(e_.kernel.value(total(t)).def).operands[0];
}

void Behind::lay_out() {
  for (std::size_t t = 0; t < c_.totals.size(); ++t) {
    parts_.push_back(e_.at_byte(e_.shared, e_.out.shared_bytes));
    e_.out.shared_bytes += (tiles() * bytes(total_type(t)) + 63) / 64 * 64;
  }
}

void Behind::add_totals() {
  e_.when(e_.ir.CreateICmpEQ(e_.worker, e_.i64(0)), [&] {
    for (std::size_t t = 0; t < c_.totals.size(); ++t) {
      const Reduction r = reduction(t);
      const Reducer reducer(e_, r, c_.lanes);
      const Reducer::State sum = e_.loop(
          e_.i64(0), e_.i64(tiles()), c_.lanes, reducer.identity(),
          [&](llvm::Value* i, std::span<llvm::Value* const> state) {
            llvm::Value* mask = e_.first_lanes(e_.ir.CreateSub(e_.i64(tiles()), i), c_.lanes);
            llvm::Value* part = e_.load(e_.at(parts_[t], i, r.dtype), r.dtype, c_.lanes, mask);
            return reducer.take(Reducer::State(state.begin(), state.end()), part, nullptr, mask);
          });
      e_.store(reducer.across_lanes(sum)[0], e_.buffer(e_.argument_count() + c_.totals[t]),
               r.dtype, 1);
    }
  });
}

Point Behind::point_at(int lanes, llvm::Value* batch, llvm::Value* m, const Index& n) {
  Point point = make_point(e_, lanes);
  for (AxisId a : e_.kernel.type(c_.value).axes) set_axis(point, a, e_.i64(0));
  set_role(e_, point, c_.batch, {.first = batch});
  set_role(e_, point, c_.m, {.first = m});
  set_role(e_, point, c_.n, n);
  return point;
}

std::vector<int> Behind::fetched() const {
  std::vector<int> out;
  for (int b = 0; b < e_.buffer_count(); ++b) {
    bool whole =
        b != c_.a.buffer && b != c_.b.buffer && levels_of(e_, c_.n, b).back().stride == 1;
    for (const AxisRole* role : {&c_.m, &c_.n})
      for (AxisId a : role->axes) whole = whole && e_.buffer_type(b).axes.contains(a);
    // Along an axis that the contraction lacks (a table's, that an index chooses from) there is no place.
    for (AxisId a : e_.buffer_type(b).axes)
      whole = whole && e_.kernel.type(c_.value).axes.contains(a);
    const int alias = e_.instance.buffers[static_cast<std::size_t>(b)].alias;
    if (whole && std::find(out.begin(), out.end(), alias) == out.end()) out.push_back(b);
  }
  return out;
}

void Behind::fetch_row(const Part& part, llvm::Value* r, bool near) {
  const Point point = point_at(1, part.batch, e_.add(part.m, r), {.first = part.n});
  for (int b : fetched()) prefetch_run(e_, b, point, c_.width, near);
}

void Behind::fetch(const Part& part) {
  if (fetched().empty()) return;
  e_.loop(e_.i64(0), part.rows, 1, [&](llvm::Value* r) { fetch_row(part, r, false); });
}

// Several vectors a turn where they go evenly, also into the innermost axis: the chains of one alone
// leave units idle.
int Behind::lanes() const {
  const std::int64_t inner = c_.n.axes.empty() ? 1 : e_.kernel.extent(c_.n.axes.back());
  for (int vectors : {4, 2}) {
    const int lanes = vectors * c_.lanes;
    if (c_.width % lanes == 0 && c_.n.extent % lanes == 0 &&
        (vectors == 2 || (inner % lanes == 0 && e_.target.registers >= 32)))
      return lanes;
  }
  return c_.lanes;
}

void Behind::apply(llvm::Value* tile, const Part& part) {
  using State = std::vector<llvm::Value*>;
  const int lanes = this->lanes();
  State first;
  for (std::size_t t = 0; t < c_.totals.size(); ++t)
    first.push_back(e_.constant(total_type(t), 0, lanes));
  const auto vector = [&](llvm::Value* r, llvm::Value* j, std::span<llvm::Value* const> state) {
    llvm::Value* sum =
        e_.load(e_.at(tile, e_.add(e_.mul(r, c_.width), j), c_.dtype), c_.dtype, lanes);
    const auto behind = [&](llvm::Value* mask) {
      Point point = point_at(lanes, part.batch, e_.add(part.m, r),
                             {.first = e_.add(part.n, j), .step = 1, .multiple = lanes});
      point.mask = mask;
      Values values(e_, point);
      values.bind(c_.value, sum);
      return hand_out(values, mask, state);
    };
    if (c_.n.extent % lanes == 0) return behind(nullptr);
    llvm::Value* left = e_.ir.CreateSub(part.columns, j);
    return e_.choose(
        e_.ir.CreateICmpSGE(left, e_.i64(lanes)), [&] { return behind(nullptr); },
        [&] { return behind(e_.first_lanes(left, lanes)); });
  };
  fetch_row(part, e_.i64(0), true);
  const State sums = e_.loop(
      e_.i64(0), part.rows, 1, first, [&](llvm::Value* r, std::span<llvm::Value* const> state) {
        fetch_row(part, e_.add(r, 1), true);
        return e_.loop(e_.i64(0), part.columns, lanes, state,
                       [&](llvm::Value* j, std::span<llvm::Value* const> in_row) {
                         return vector(r, j, in_row);
                       });
      });
  for (std::size_t t = 0; t < c_.totals.size(); ++t) {
    const Reduction r = reduction(t);
    const Reducer reducer(e_, r, lanes);
    llvm::Value* row = e_.add(e_.mul(part.batch, tiles_down()),
                              e_.ir.CreateUDiv(part.m, e_.i64(c_.rows)));
    llvm::Value* place =
        e_.add(e_.mul(row, tiles_across()), e_.ir.CreateUDiv(part.n, e_.i64(c_.width)));
    e_.store(reducer.across_lanes({sums[t]})[0], e_.at(parts_[t], place, total_type(t)),
             total_type(t), 1);
  }
}

// Results at one point: all are computed before the first is stored, since one may lie in the
// place of an operand. Gives the totals' sums with what is added here.
std::vector<llvm::Value*> Behind::hand_out(Values& values, llvm::Value* mask,
                                           std::span<llvm::Value* const> sums) {
  const std::vector<ValueId>& results = e_.kernel.body().results;
  const auto is_total_result = [&](std::size_t k) {
    return std::find(c_.totals.begin(), c_.totals.end(), static_cast<int>(k)) != c_.totals.end();
  };
  for (std::size_t k = 0; k < results.size(); ++k)
    if (!is_total_result(k)) values.get(results[k]);
  std::vector<llvm::Value*> next;
  for (std::size_t t = 0; t < c_.totals.size(); ++t) {
    const Reduction r = reduction(t);
    const Reducer reducer(e_, r, lanes());
    next.push_back(reducer.take({sums[t]}, values.get(summed(t)), nullptr, mask)[0]);
  }
  for (std::size_t k = 0; k < results.size(); ++k)
    if (!is_total_result(k)) values.store_result(static_cast<int>(k));
  return next;
}

}  // namespace gradc
