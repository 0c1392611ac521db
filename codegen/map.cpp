// Owns map kernels: one loop nest over the results' axes, each element pulled from the arguments. Every
// element is computed by the same operations wherever it lies and whoever computes it.
#include <algorithm>

#include "codegen/families.h"
#include "codegen/space.h"

namespace gradc {
namespace {

// Below this much work (elements × operations) waking the pool costs more than it brings.
constexpr double least_parallel_work = 1 << 17;
constexpr std::int64_t least_units = 64;   // so that workers' shares differ by little
constexpr std::int64_t least_run = 1024;   // elements of a unit that is cut from a longer run

class Map {
 public:
  explicit Map(Emitter& e) : e_(e), results_(e.kernel.body().results), space_(e, results_) {}

  Result<Done> emit() {
    const AxisList& axes = e_.kernel.type(results_[0]).axes;
    std::vector<Dimension> dims = space_.dimensions(axes);
    const int cost = work(e_, results_);
    const double elements = static_cast<double>(product(dims));
    e_.out.parallel = elements * cost >= least_parallel_work;
    choose_lanes(dims, axes, cost);
    units();
    return Done{};
  }

 private:
  void choose_lanes(std::vector<Dimension> dims, const AxisList& axes, int cost) {
    base_ = make_point(e_, 1);
    set_single_axes(e_, base_, axes);
    if (dims.empty()) return;
    std::size_t best = dims.size() - 1;
    for (std::size_t i = dims.size(); i-- > 0;)
      if (space_.cost(dims, dims[i], e_.target.lanes()) < space_.cost(dims, dims[best], e_.target.lanes())) best = i;
    lane_ = dims[best];
    dims.erase(dims.begin() + static_cast<std::ptrdiff_t>(best));
    outer_ = std::move(dims);
    lanes_ = e_.target.lanes();
    // Several vectors a turn hide latencies where there is little to do for each; where there is much, one
    // vector's operations do that for themselves.
    unroll_ = cost <= 12 ? 4 : cost <= 40 ? 2 : 1;
    while (unroll_ > 1 && lane_.extent < 2 * unroll_ * lanes_) unroll_ /= 2;
  }

  // The space is cut into units: positions along the outermost loops and, if these are few, pieces of the
  // run along the lanes. Each worker takes a stretch of them.
  void units() {
    std::size_t decoded = 0;
    std::int64_t count = 1;
    while (decoded < outer_.size() && count < least_units) count *= outer_[decoded++].extent;
    std::int64_t piece = std::max<std::int64_t>(lane_.extent, 1), pieces = 1;
    if (count < least_units && piece > least_run) {
      const std::int64_t wanted = (least_units + count - 1) / std::max<std::int64_t>(count, 1);
      const std::int64_t step = lanes_ * unroll_;
      piece = std::max<std::int64_t>((lane_.extent + wanted - 1) / wanted, least_run);
      piece = (piece + step - 1) / step * step;
      pieces = (lane_.extent + piece - 1) / piece;
    }
    const auto [from, to] = e_.share(count * pieces);
    e_.loop(from, to, 1, [&](llvm::Value* unit) {
      llvm::Value *index = unit, *lo = e_.i64(0), *hi = e_.i64(lane_.extent);
      if (pieces > 1) {
        index = e_.ir.CreateUDiv(unit, e_.i64(pieces));
        lo = e_.mul(e_.ir.CreateURem(unit, e_.i64(pieces)), piece);
        hi = e_.min(e_.add(lo, piece), e_.i64(lane_.extent));
      }
      Point point = base_;
      set_decoded(e_, point, std::span(outer_).first(decoded), index);
      nest(point, decoded, lo, hi);
    });
  }

  // The other outer loops; their depth is bounded by max_rank.
  void nest(const Point& point, std::size_t depth, llvm::Value* lo, llvm::Value* hi) {
    if (depth == outer_.size()) return run(point, lo, hi);
    e_.loop(0, outer_[depth].extent, 1, [&](llvm::Value* i) {
      Point inner = point;
      set_dimension(e_, inner, outer_[depth], i);
      nest(inner, depth + 1, lo, hi);
    });
  }

  // From lo to hi along the lanes; lo and all pieces but the last are multiples of a turn.
  void run(const Point& point, llvm::Value* lo, llvm::Value* hi) {
    if (lanes_ == 1) {
      Values values(e_, point);
      for (ValueId r : results_) values.get(r);
      for (int r = 0; r < static_cast<int>(results_.size()); ++r) values.store_result(r);
      return;
    }
    Values outside(e_, point);
    invariants_.clear();
    for (ValueId v : invariant_values(e_, results_, std::span(&lane_, 1)))
      invariants_.emplace_back(v, outside.get(v));
    const std::int64_t turn = lanes_ * unroll_;
    llvm::Value* whole = e_.add(lo, e_.mul(e_.ir.CreateUDiv(e_.ir.CreateSub(hi, lo), e_.i64(turn)), turn));
    e_.loop(lo, whole, turn, [&](llvm::Value* i) { vectors(point, i, unroll_, nullptr); });
    if (lane_.extent % turn == 0) return;
    e_.loop(whole, hi, lanes_, [&](llvm::Value* i) {
      // The mask costs little, and a separate loop for whole vectors would double the code.
      vectors(point, i, 1, lane_.extent % lanes_ == 0 ? nullptr : e_.first_lanes(e_.ir.CreateSub(hi, i), lanes_));
    });
  }

  // All values first, then all stores: a result may lie where an operand does.
  void vectors(const Point& point, llvm::Value* first, int count, llvm::Value* mask) {
    std::vector<std::unique_ptr<Values>> at;
    for (int k = 0; k < count; ++k) {
      Point p = point;
      p.lanes = lanes_;
      p.mask = mask;
      set_dimension(e_, p, lane_, e_.add(first, std::int64_t{k} * lanes_), 1, lanes_);
      at.push_back(std::make_unique<Values>(e_, p));
      for (const auto& [v, x] : invariants_) at.back()->bind_uniform(v, x);
      for (ValueId r : results_) at.back()->get(r);
    }
    for (auto& values : at)
      for (int r = 0; r < static_cast<int>(results_.size()); ++r) values->store_result(r);
  }

  Emitter& e_;
  const std::vector<ValueId>& results_;
  Space space_;
  Point base_;
  Dimension lane_;
  std::vector<Dimension> outer_;
  int lanes_ = 1, unroll_ = 1;
  std::vector<std::pair<ValueId, llvm::Value*>> invariants_;
};

}  // namespace

Result<Done> emit_map(Emitter& e) {
  if (e.kernel.body().results.empty()) {
    e.out.parallel = false;
    return Done{};
  }
  return Map(e).emit();
}

}  // namespace gradc
