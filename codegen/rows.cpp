// The choice between the ways of running a rows kernel, by what its loads cost.
#include "codegen/rows.h"

#include "codegen/families.h"

namespace gradc {
namespace {

constexpr std::int64_t least_long = 256 << 10;   // from here on a row is long …
constexpr std::int64_t few_rows = 8;             // … if there are fewer than this
constexpr double least_parallel_work = 1 << 17;  // below, waking the pool costs more than it brings

}  // namespace

Result<Done> emit_rows(Emitter& e) {
  const std::vector<ValueId>& results = e.kernel.body().results;
  RowsKernel k{.e = e, .plan = plan_rows(e, true)};
  if (k.plan.reductions.empty())
    return failure(Exit::internal, "a rows kernel without a reduction");
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
  e.out.parallel =
      static_cast<double>(k.rows) * static_cast<double>(k.length) * k.cost >= least_parallel_work;

  // The axis along the lanes: what loads cost, and for a reduced one the merging of lanes, row by
  // row.
  constexpr double merging = 10;
  const int lanes = e.target.lanes();
  std::vector<Dimension> all(k.kept);
  all.insert(all.end(), k.reduced.begin(), k.reduced.end());
  const Dimension *best = nullptr, *kept = nullptr;
  double least = 0;
  for (std::size_t i = 0; i < all.size(); ++i) {
    const bool is_kept = i < k.kept.size();
    double c = space.cost(all, all[i], lanes);
    if (!is_kept)
      c += static_cast<double>(k.rows) * merging * static_cast<double>(k.plan.reductions.size());
    if (best != nullptr && c >= least) continue;
    best = &all[i];
    kept = is_kept ? best : nullptr;
    least = c;
  }
  constexpr std::int64_t least_streamed = 17;  // rows: fewer are read side by side
  if (best == nullptr || kept != nullptr) {
    const bool streams = kept != nullptr && k.plan.passes.size() == 1 &&
                         k.length >= least_streamed && !k.plan.guarded;
    streams ? emit_streamed_columns(k, *kept) : emit_columns(k, kept);
  } else {
    k.rows < few_rows&& k.length >= least_long && !k.plan.guarded ? emit_long_rows(k, *best)
                                                                  : emit_row_by_row(k, *best);
  }
  return Done{};
}

}  // namespace gradc
