// Few long rows: cut into blocks that all workers share, with a state for every block in shared
// scratch.
#include <algorithm>
#include <functional>

#include "codegen/rows_lanes.h"

namespace gradc {

// Elements of a block.
static constexpr std::int64_t long_block = 64 << 10;

// Phase i runs pass i over all blocks, from the results of the earlier passes, which each worker
// sums for itself out of their blocks' states; the last phase stores.
void emit_long_rows(RowsKernel& k, const Dimension& lane) {
  Emitter& e = k.e;
  k.plan = plan_rows(e, false);
  const ByLanes way(k, lane);
  const bool whole_runs = way.outer_count() > 1;
  const std::int64_t step =
      whole_runs ? std::max<std::int64_t>(long_block / lane.extent, 1) : long_block;
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
    const DType dtype =
        Reducer::part_type(k.plan.reductions[static_cast<std::size_t>(reduction)], part);
    return e.at(space[static_cast<std::size_t>(reduction)][static_cast<std::size_t>(part)],
                e.add(e.mul(row, blocks), block), dtype);
  };
  // Binds the results of the passes before `end`.
  const auto bind_results = [&](std::size_t end, llvm::Value* row, Values& values) {
    for (std::size_t p = 0; p < end; ++p)
      for (int index : k.plan.passes[p].reductions) {
        const Reduction& r = k.plan.reductions[static_cast<std::size_t>(index)];
        const Reducer reducer(e, r, 1);
        const Reducer::State last = e.loop(
            e.i64(0), e.i64(blocks), 1, reducer.identity(),
            [&](llvm::Value* b, std::span<llvm::Value* const> state) {
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
        Accumulators state =
            way.sweep({pass, point, bound, none}, range, whole_runs ? nullptr : &range);
        for (int r = 0; r < k.reductions_in(pass); ++r) {
          const Reducer::State done = state.reducer(r).across_lanes(state.merged(r));
          const int index = pass.reductions[static_cast<std::size_t>(r)];
          for (std::size_t part = 0; part < done.size(); ++part)
            e.store(done[part], place(index, static_cast<int>(part), row, b),
                    Reducer::part_type(k.reduction(pass, static_cast<std::size_t>(r)),
                                       static_cast<int>(part)),
                    1);
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

}  // namespace gradc
