// Owns map kernels: one loop nest over the results' axes, each element pulled from the arguments.
// Every element is computed by the same operations wherever it lies and whoever computes it.
#include <algorithm>

#include "codegen/contract.h"  // transpose
#include "codegen/elementwise.h"
#include "codegen/families.h"
#include "codegen/space.h"

namespace gradc {
namespace {

// Below this much work (elements × operations) waking the pool costs more than it brings.
constexpr double least_parallel_work = 1 << 17;
constexpr std::int64_t least_units = 64;  // so that workers' shares differ by little
constexpr std::int64_t least_run = 1024;  // elements of a unit that is cut from a longer run
constexpr std::int64_t short_run = 4096;  // bytes: before a stream is foreseen by the CPU, it is over
constexpr std::int64_t tile = 16;  // positions that share the cache lines of a transposed operand
constexpr std::int64_t tiled_run = 256;  // elements along the lanes beside them

class Map {
 public:
  explicit Map(Emitter& e) : e_(e), results_(e.kernel.body().results), space_(e, results_) {}

  Result<Done> emit() {
    const AxisList& axes = e_.kernel.type(results_[0]).axes;
    std::vector<Dimension> dims = space_.dimensions(axes);
    const int cost = work(e_, results_);
    e_.out.parallel = static_cast<double>(product(dims)) * cost >= least_parallel_work;
    base_ = make_point(e_, 1);
    set_single_axes(e_, base_, axes);
    choose_loops(std::move(dims), cost);
    units();
    return Done{};
  }

 private:
  using Invariants = std::vector<std::pair<ValueId, llvm::Value*>>;

  void choose_loops(std::vector<Dimension> dims, int cost) {
    if (dims.empty()) return;
    std::size_t best = dims.size() - 1;
    for (std::size_t i = dims.size(); i-- > 0;)
      if (space_.cost(dims, dims[i], e_.target.lanes()) <
          space_.cost(dims, dims[best], e_.target.lanes()))
        best = i;
    lane_ = dims[best];
    dims.erase(dims.begin() + static_cast<std::ptrdiff_t>(best));
    outer_ = std::move(dims);
    lanes_ = e_.target.lanes();
    for (const Op& op : e_.kernel.ops) draws_ = draws_ || op.code == Opcode::uniform_;
    // Several vectors a turn hide latencies where there is little to do for each; where there is
    // much, one vector's operations do that for themselves. Draws come in fours.
    unroll_ = cost <= 12 || (draws_ && cost <= 60) ? 4 : cost <= 40 ? 2 : 1;
    while (unroll_ > 1 && lane_.extent < 2 * unroll_ * lanes_) unroll_ /= 2;
    choose_tile();
    if (tiled_.axis.valid() || outer_.empty()) return;
    for (int b = 0; b < e_.buffer_count(); ++b) {
      const Type& type = e_.buffer_type(b);
      const auto& buffers = e_.instance.buffers;
      const bool overwritten = std::any_of(buffers.begin(), buffers.end(),
                                           [&](const auto& other) { return other.alias == b; });
      if (lane_.extent * bytes(type.dtype) <= short_run && e_.stride(b, lane_.axis) == 1 &&
          e_.kernel.type(results_[0]).axes.contains_all(type.axes) &&
          has_axis(outer_.back(), type.axes) && !overwritten)
        fetched_.push_back(b);
    }
  }

  // An operand whose neighbours in memory lie along another axis than the lanes: its cache lines
  // serve several positions along that axis, one after the other. The innermost loop walks a tile
  // of them. Where the operand is regular, a whole tile of it is loaded along memory and
  // transposed.
  void choose_tile() {
    const std::size_t l = lane_.axis.index;
    for (std::size_t i = 0; i < outer_.size(); ++i) {
      const std::size_t t = outer_[i].axis.index;
      bool crossed = false;
      std::vector<bool> irregular(e_.kernel.values.size());
      for (const Walk& w : space_.walks()) {
        if (w.buffer < 0) continue;
        const bool across = w.stride[t] == 1 && (w.stride[l] > 1 || w.irregular[l]);
        crossed = crossed || across;
        if (w.store) continue;
        if (!across || w.irregular[t] || w.irregular[l] ||
            e_.kernel.type(w.value).dtype == DType::boolean)
          irregular[w.value.index] = true;
        else
          transposed_.push_back(w.value);
      }
      if (!crossed || outer_[i].extent < 2 || lane_.extent == 0) {
        transposed_.clear();
        continue;
      }
      std::erase_if(transposed_, [&](ValueId v) { return irregular[v.index]; });
      tiled_ = outer_[i];
      outer_[i].extent = (tiled_.extent + tile - 1) / tile;
      std::rotate(outer_.begin() + static_cast<std::ptrdiff_t>(i),
                  outer_.begin() + static_cast<std::ptrdiff_t>(i) + 1, outer_.end());
      unroll_ = 1;
      return;
    }
  }

  // The space is cut into units: positions along the outermost loops and, if these are few, pieces
  // of the run along the lanes. Workers take them as they come free.
  void units() {
    if (tiled_.axis.valid()) return tiles();
    std::size_t decoded = 0;
    std::int64_t count = 1;
    while (decoded < outer_.size() && count < least_units) count *= outer_[decoded++].extent;
    std::int64_t piece = std::max<std::int64_t>(lane_.extent, 1), pieces = 1;
    if (count < least_units && piece > least_run) {
      const std::int64_t wanted = (least_units + count - 1) / std::max<std::int64_t>(count, 1);
      const std::int64_t step = std::int64_t{lanes_} * unroll_;
      piece = std::max<std::int64_t>((lane_.extent + wanted - 1) / wanted, least_run);
      piece = (piece + step - 1) / step * step;
      pieces = (lane_.extent + piece - 1) / piece;
    }
    const bool fetches = decoded == outer_.size() && pieces == 1 && !fetched_.empty();
    if (fetches) {
      const Point first = outer_point(e_.share(count).first);
      e_.loop(0, lane_.extent, lanes_, [&](llvm::Value* i) { fetch(first, i, lanes_); });
    }
    e_.take(count * pieces, [&](llvm::Value* unit) {
      llvm::Value *index = unit, *lo = e_.i64(0), *hi = e_.i64(lane_.extent);
      if (pieces > 1) {
        index = e_.ir.CreateUDiv(unit, e_.i64(pieces));
        lo = e_.mul(e_.ir.CreateURem(unit, e_.i64(pieces)), piece);
        hi = e_.min(e_.add(lo, piece), e_.i64(lane_.extent));
      }
      Point point = base_;
      set_decoded(e_, point, std::span(outer_).first(decoded), index);
      if (!fetches) return nest(point, decoded, lo, hi);
      const Point next = outer_point(e_.add(index, 1));
      run(point, lo, hi, &next);
    });
  }
  Point outer_point(llvm::Value* index) {
    Point out = base_;
    set_decoded(e_, out, outer_, index);
    return out;
  }
  // Asks for `count` elements of each short run from i on.
  void fetch(const Point& run, llvm::Value* i, std::int64_t count) {
    Point p = run;
    set_dimension(e_, p, lane_, i);
    for (int buffer : fetched_) prefetch_run(e_, buffer, p, count, buffer >= e_.argument_count());
  }

  // Blocks of some width along the lanes, tile after tile within: of either side's memory few lines
  // and pages are in use at once.
  void tiles() {
    const std::int64_t count = outer_.back().extent,
                       pieces = (lane_.extent + tiled_run - 1) / tiled_run;
    e_.take(product(outer_) * pieces, [&](llvm::Value* unit) {
      llvm::Value* rest = e_.ir.CreateUDiv(unit, e_.i64(count));
      llvm::Value* lo = e_.mul(e_.ir.CreateURem(rest, e_.i64(pieces)), tiled_run);
      llvm::Value* outer = e_.mul(e_.ir.CreateUDiv(rest, e_.i64(pieces)), count);
      Point point = base_;
      set_decoded(e_, point, outer_, e_.add(outer, e_.ir.CreateURem(unit, e_.i64(count))));
      run(point, lo, e_.min(e_.add(lo, tiled_run), e_.i64(lane_.extent)));
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

  // From lo to hi along the lanes; lo and all pieces but the last are multiples of a turn. `next`: a
  // run that is fetched meanwhile.
  void run(const Point& point, llvm::Value* lo, llvm::Value* hi, const Point* next = nullptr) {
    if (lanes_ == 1) {
      Values values(e_, point);
      for (ValueId r : results_) values.get(r);
      for (int r = 0; r < static_cast<int>(results_.size()); ++r) values.store_result(r);
      return;
    }
    if (tiled_.axis.valid()) return run_tile(point, lo, hi);
    const Invariants outside = invariants(point);
    const std::int64_t turn = std::int64_t{lanes_} * unroll_;
    llvm::Value* whole =
        e_.add(lo, e_.mul(e_.ir.CreateUDiv(e_.ir.CreateSub(hi, lo), e_.i64(turn)), turn));
    e_.loop(lo, whole, turn, [&](llvm::Value* i) {
      if (next != nullptr) fetch(*next, i, turn);
      vectors(point, outside, i, unroll_, nullptr);
    });
    if (lane_.extent % turn == 0) return;
    // The mask costs little; a loop of whole vectors besides would be as much code again.
    e_.loop(whole, hi, lanes_, [&](llvm::Value* i) { vectors(point, outside, i, 1, mask(i, hi)); });
  }

  void run_tile(const Point& point, llvm::Value* lo, llvm::Value* hi) {
    llvm::Value* first = e_.mul(point.index[tiled_.axis.index].first, tile);
    llvm::Value* end = e_.min(e_.add(first, tile), e_.i64(tiled_.extent));
    std::vector<llvm::Value*> tiles;
    for (ValueId v : transposed_) tiles.push_back(e_.stack(e_.kernel.type(v).dtype, tile * lanes_));
    const auto walk = [&](llvm::Value* i, llvm::Value* on, bool turned) {
      if (turned)
        for (std::size_t k = 0; k < tiles.size(); ++k)
          transpose(point, transposed_[k], first, i, tiles[k]);
      e_.loop(first, end, 1, [&](llvm::Value* t) {
        Point p = point;
        set_dimension(e_, p, tiled_, t);
        Invariants rows;
        for (std::size_t k = 0; turned && k < tiles.size(); ++k) {
          const DType dtype = e_.kernel.type(transposed_[k]).dtype;
          llvm::Value* at = e_.at(tiles[k], e_.mul(e_.ir.CreateSub(t, first), lanes_), dtype);
          rows.emplace_back(transposed_[k], e_.load(at, dtype, lanes_));
        }
        vectors(p, invariants(p), i, 1, on, rows);
      });
    };
    llvm::Value* whole =
        e_.add(lo, e_.mul(e_.ir.CreateUDiv(e_.ir.CreateSub(hi, lo), e_.i64(lanes_)), lanes_));
    const auto all = [&](bool turned) {
      e_.loop(lo, whole, lanes_, [&](llvm::Value* i) { walk(i, nullptr, turned); });
    };
    if (transposed_.empty()) {
      all(false);
    } else if (tiled_.extent % tile == 0) {
      all(true);
    } else {
      e_.when(
          e_.ir.CreateICmpEQ(e_.ir.CreateSub(end, first), e_.i64(tile)), [&] { all(true); },
          [&] { all(false); });
    }
    if (lane_.extent % lanes_ != 0)
      e_.loop(whole, hi, lanes_, [&](llvm::Value* i) { walk(i, mask(i, hi), false); });
  }

  // The tile of `v` at positions first … and i …, read along the tiled axis, to rows along the
  // lanes.
  void transpose(const Point& point, ValueId v, llvm::Value* first, llvm::Value* i,
                 llvm::Value* to) {
    const DType dtype = e_.kernel.type(v).dtype;
    for (std::int64_t part = 0; part < tile; part += lanes_) {
      std::vector<llvm::Value*> rows;
      for (int k = 0; k < lanes_; ++k) {
        Point p = point;
        p.lanes = lanes_;
        set_dimension(e_, p, lane_, e_.add(i, k));
        set_dimension(e_, p, tiled_, e_.add(first, part), 1, lanes_);
        rows.push_back(Values(e_, p).get(v));
      }
      gradc::transpose(e_, rows);
      for (int k = 0; k < lanes_; ++k)
        e_.store(rows[static_cast<std::size_t>(k)], e_.at(to, e_.i64((part + k) * lanes_), dtype),
                 dtype, lanes_);
    }
  }

  llvm::Value* mask(llvm::Value* i, llvm::Value* hi) {
    return lane_.extent % lanes_ == 0 ? nullptr : e_.first_lanes(e_.ir.CreateSub(hi, i), lanes_);
  }

  // What all elements along the lanes share.
  Invariants invariants(const Point& point) {
    Values outside(e_, point);
    Invariants out;
    for (ValueId v : invariant_values(e_, results_, std::span(&lane_, 1)))
      out.emplace_back(v, outside.get(v));
    return out;
  }

  // All values first, then all stores: a result may lie where an operand does.
  void vectors(const Point& point, const Invariants& outside, llvm::Value* first, int count,
               llvm::Value* on, const Invariants& known = {}) {
    std::vector<std::unique_ptr<Values>> at;
    for (int k = 0; k < count; ++k) {
      Point p = point;
      p.lanes = lanes_;
      p.mask = on;
      set_dimension(e_, p, lane_, e_.add(first, std::int64_t{k} * lanes_), 1, lanes_);
      at.push_back(std::make_unique<Values>(e_, p));
      for (const auto& [v, x] : outside) at.back()->bind_uniform(v, x);
      for (const auto& [v, x] : known) at.back()->bind(v, x);
    }
    if (count > 1 && draws_) draw_together(at);
    for (auto& values : at)
      for (ValueId r : results_) values->get(r);
    for (auto& values : at)
      for (int r = 0; r < static_cast<int>(results_.size()); ++r) values->store_result(r);
  }

  // Draws of neighbouring vectors: one block of four words fills four lanes, so that rounds on as
  // many blocks as there are lanes fill four vectors.
  void draw_together(std::vector<std::unique_ptr<Values>>& at) {
    const int count = static_cast<int>(at.size());
    for (const Op& op : e_.kernel.ops) {
      if (op.code != Opcode::uniform_) continue;
      const ValueId v = op.results[0];
      const Index index = draw_index(e_, at[0]->point(), v);
      if (!has_axis(lane_, e_.kernel.type(v).axes) || index.each != nullptr || index.step != 1 ||
          index.multiple % 4 != 0)
        continue;
      llvm::Value* scalars[3];
      for (std::size_t k = 0; k < 3; ++k) scalars[k] = at[0]->scalar(op.operands[k]);
      llvm::Value* all = emit_uniform_run(e_, scalars[0], scalars[1], scalars[2], index.first,
                                          e_.kernel.type(v).dtype, count * lanes_);
      for (int k = 0; k < count; ++k) {
        std::vector<int> part;
        for (int lane = 0; lane < lanes_; ++lane) part.push_back(k * lanes_ + lane);
        at[static_cast<std::size_t>(k)]->bind(v, e_.ir.CreateShuffleVector(all, part));
      }
    }
  }

  Emitter& e_;
  const std::vector<ValueId>& results_;
  Space space_;
  Point base_;
  Dimension lane_, tiled_;        // tiled_: its axis is invalid where there is none
  std::vector<Dimension> outer_;  // of the tiled one, tiles
  std::vector<ValueId> transposed_;
  std::vector<int> fetched_;  // buffers whose next run is fetched during one
  int lanes_ = 1, unroll_ = 1;
  bool draws_ = false;
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
