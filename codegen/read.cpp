// Owns read kernels: scatter (sums into places that an index names) and update (a stretch written
// over). Each element of the result belongs to one worker, which takes its terms in the order of
// the index, so sums have the same bits for any number of workers. Workers share the columns, what
// lies beside the axis that is written; where these are few, they share its places.
#include <algorithm>

#include "codegen/families.h"
#include "codegen/values.h"

namespace gradc {
namespace {

constexpr std::int64_t least_column_vectors = 4;
constexpr double least_parallel_work = 1 << 16;  // elements touched

// One loop and how far each buffer moves in it, in elements.
struct Loop {
  std::int64_t extent, operand, index, base, result;
};

class Read {
 public:
  explicit Read(Emitter& e)
      : e_(e), op_(e.kernel.op(e.kernel.body().ops[0])), scatter_(op_.code == Opcode::scatter_) {
    const Attr& a = op_.attr;
    result_ = e.argument_count();
    dtype_ = e.buffer_type(result_).dtype;
    written_ = e.kernel.extent(a.to);
    stride_ = e.stride(result_, a.to);
    operand_ = e_.buffer_of(op_.operands[scatter_ ? 0 : 1]);
    if (scatter_) index_ = e_.buffer_of(op_.operands[1]);
    if (!scatter_)
      base_ = e_.buffer_of(op_.operands[0]);
    else if (op_.operands.size() > 2)
      base_ = e_.buffer_of(op_.operands[2]);
    const int alias = e.instance.buffers[static_cast<std::size_t>(result_)].alias;
    in_place_ = alias >= 0 && alias == base_;
    if (base_ >= 0) base_stride_ = e.stride(base_, a.to);
    choose_loops();
  }

  void emit() {
    const std::int64_t terms = count(terms_), columns = count(columns_);
    e_.out.parallel = static_cast<double>(terms * columns +
                                          (in_place_ ? 0 : count(shared_) * written_ * columns)) >=
                      least_parallel_work;
    Range places{e_.i64(0), e_.i64(written_)}, vectors{e_.i64(0), e_.i64(vectors_)};
    (vectors_ >= least_column_vectors ? vectors : places) =
        share(vectors_ >= least_column_vectors ? vectors_ : written_);
    if (!in_place_) start(places, vectors);
    e_.loop(0, terms, 1, [&](llvm::Value* n) { term(n, places, vectors); });
  }

 private:
  struct Range {
    llvm::Value *lo, *hi;
  };
  struct Offsets {
    llvm::Value *operand, *index, *base, *result;
  };

  Range share(std::int64_t units) {
    const auto [lo, hi] = e_.share(units);
    return {lo, hi};
  }
  static std::int64_t count(const std::vector<Loop>& loops) {
    std::int64_t n = 1;
    for (const Loop& l : loops) n *= l.extent;
    return n;
  }

  // terms_: along the index (of update: along what is written), in its order. shared_: those of
  // them that the result has, too. columns_: the other axes of the result, merged where all buffers
  // allow it; the last runs along the lanes.
  void choose_loops() {
    const AxisId to = op_.attr.to;
    const AxisList& result = e_.buffer_type(result_).axes;
    const AxisList index = scatter_ ? e_.buffer_type(index_).axes : AxisList{op_.attr.from};
    const auto loop = [&](AxisId a, bool column) {
      // An axis of the index may be the one that is written; in the result it then stands for
      // nothing.
      const bool in_result = result.contains(a) && a != to;
      return Loop{.extent = e_.kernel.extent(a),
                  .operand = e_.stride(operand_, a),
                  .index = index_ < 0 || column ? 0 : e_.stride(index_, a),
                  .base = base_ < 0 || !in_result ? 0 : e_.stride(base_, a),
                  .result = in_result ? e_.stride(result_, a) : 0};
    };
    for (AxisId a : index) {
      terms_.push_back(loop(a, false));
      if (result.contains(a) && a != to) shared_.push_back(terms_.back());
    }
    std::vector<Loop> columns;
    for (AxisId a : result) {
      if (a == to || index.contains(a) || e_.kernel.extent(a) == 1) continue;
      const Loop column = loop(a, true);
      const auto smaller = [&](const Loop& l) { return l.result < column.result; };
      columns.insert(std::find_if(columns.begin(), columns.end(), smaller), column);
    }
    for (const Loop& l : columns) {
      const auto follows = [&](std::int64_t outer, std::int64_t inner) {
        return outer == inner * l.extent;
      };
      if (!columns_.empty() && follows(columns_.back().operand, l.operand) &&
          follows(columns_.back().result, l.result) && follows(columns_.back().base, l.base)) {
        const std::int64_t outer = columns_.back().extent;
        columns_.back() = l;
        columns_.back().extent *= outer;
      } else {
        columns_.push_back(l);
      }
    }
    lanes_ = columns_.empty() ? 1 : e_.target.lanes();
    run_ = columns_.empty() ? 1 : (columns_.back().extent + lanes_ - 1) / lanes_;
    vectors_ = run_;
    for (std::size_t i = 0; i + 1 < columns_.size(); ++i) vectors_ *= columns_[i].extent;
  }

  Offsets zero() { return {e_.i64(0), e_.i64(0), e_.i64(0), e_.i64(0)}; }
  Offsets moved(const Offsets& o, const Loop& l, llvm::Value* i) {
    return {e_.add(o.operand, e_.mul(i, l.operand)), e_.add(o.index, e_.mul(i, l.index)),
            e_.add(o.base, e_.mul(i, l.base)), e_.add(o.result, e_.mul(i, l.result))};
  }
  // At position n of the loops' joint row-major index.
  Offsets decoded(Offsets o, std::span<const Loop> loops, llvm::Value* n) {
    for (std::size_t i = loops.size(); i-- > 0;) {
      llvm::Value* extent = e_.i64(std::max<std::int64_t>(loops[i].extent, 1));
      o = moved(o, loops[i], i == 0 ? n : e_.ir.CreateURem(n, extent));
      if (i != 0) n = e_.ir.CreateUDiv(n, extent);
    }
    return o;
  }

  // For each vector of columns: `body` with the offsets of its first element and its mask.
  template <class Body>
  void over_columns(const Offsets& at, Range vectors, Body body) {
    if (columns_.empty()) {
      e_.loop(vectors.lo, vectors.hi, 1, [&](llvm::Value*) { body(at, nullptr); });
      return;
    }
    const Loop& lane = columns_.back();
    e_.loop(vectors.lo, vectors.hi, 1, [&](llvm::Value* v) {
      llvm::Value* within = columns_.size() == 1 ? v : e_.ir.CreateURem(v, e_.i64(run_));
      llvm::Value* first = e_.mul(within, lanes_);
      const std::span<const Loop> outer = std::span(columns_).first(columns_.size() - 1);
      const Offsets o = outer.empty() ? at : decoded(at, outer, e_.ir.CreateUDiv(v, e_.i64(run_)));
      const bool whole = lane.extent % lanes_ == 0;
      body(moved(o, lane, first),
           whole ? nullptr : e_.first_lanes(e_.ir.CreateSub(e_.i64(lane.extent), first), lanes_));
    });
  }

  llvm::Value* load(int buffer, llvm::Value* offset, std::int64_t stride, llvm::Value* mask) {
    if (lanes_ == 1) return e_.load(e_.at(e_.buffer(buffer), offset, dtype_), dtype_, 1);
    if (stride == 1) return e_.load(e_.at(e_.buffer(buffer), offset, dtype_), dtype_, lanes_, mask);
    return e_.gather(e_.buffer(buffer), every_lane(e_, {.first = offset, .step = stride}, lanes_),
                     dtype_, lanes_, all(mask));
  }
  void store(llvm::Value* x, llvm::Value* offset, std::int64_t stride, llvm::Value* mask) {
    if (lanes_ == 1) return e_.store(x, e_.at(e_.buffer(result_), offset, dtype_), dtype_, 1);
    if (stride == 1)
      return e_.store(x, e_.at(e_.buffer(result_), offset, dtype_), dtype_, lanes_, mask);
    e_.scatter(x, e_.buffer(result_), every_lane(e_, {.first = offset, .step = stride}, lanes_),
               dtype_, lanes_, all(mask));
  }
  llvm::Value* all(llvm::Value* mask) {
    return mask != nullptr ? mask : e_.integer(DType::boolean, 1, lanes_);
  }
  std::int64_t lane_stride(std::int64_t Loop::* of) const {
    return columns_.empty() ? 0 : columns_.back().*of;
  }

  // The base, or zeros, in this worker's places.
  void start(Range places, Range vectors) {
    e_.loop(0, count(shared_), 1, [&](llvm::Value* s) {
      const Offsets outer = decoded(zero(), shared_, s);
      e_.loop(places.lo, places.hi, 1, [&](llvm::Value* v) {
        Offsets at = outer;
        at.base = e_.add(at.base, e_.mul(v, base_stride_));
        at.result = e_.add(at.result, e_.mul(v, stride_));
        over_columns(at, vectors, [&](const Offsets& o, llvm::Value* mask) {
          llvm::Value* x = base_ < 0 ? e_.integer(dtype_, 0, lanes_)
                                     : load(base_, o.base, lane_stride(&Loop::base), mask);
          store(x, o.result, lane_stride(&Loop::result), mask);
        });
      });
    });
  }

  // Term n into its place, if that is this worker's.
  void term(llvm::Value* n, Range places, Range vectors) {
    Offsets at = decoded(zero(), terms_, n);
    llvm::Value* place = nullptr;
    if (scatter_) {
      const DType d = e_.buffer_type(index_).dtype;
      place = e_.ir.CreateSExtOrTrunc(e_.load(e_.at(e_.buffer(index_), at.index, d), d, 1),
                                      e_.type(DType::i64));
    } else {
      // Beyond the largest integer the sum wraps to a place that does not exist either.
      place = e_.ir.CreateAdd(e_.load(e_.buffer(e_.buffer_of(op_.operands[2])), DType::i64, 1), n);
    }
    llvm::Value* mine = e_.ir.CreateAnd(e_.ir.CreateICmpSGE(place, places.lo),
                                        e_.ir.CreateICmpSLT(place, places.hi));
    e_.when(mine, [&] {
      at.result = e_.add(at.result, e_.mul(place, stride_));
      over_columns(at, vectors, [&](const Offsets& o, llvm::Value* mask) {
        llvm::Value* x = load(operand_, o.operand, lane_stride(&Loop::operand), mask);
        if (scatter_) x = sum(load(result_, o.result, lane_stride(&Loop::result), mask), x);
        store(x, o.result, lane_stride(&Loop::result), mask);
      });
    });
  }

  llvm::Value* sum(llvm::Value* a, llvm::Value* b) {
    if (dtype_ == DType::boolean) return e_.ir.CreateOr(a, b);
    return is_real(dtype_) ? e_.ir.CreateFAdd(a, b) : e_.ir.CreateAdd(a, b);
  }

  Emitter& e_;
  const Op& op_;
  const bool scatter_;
  int operand_ = -1, index_ = -1, base_ = -1, result_ = -1;  // buffers
  bool in_place_ = false;
  DType dtype_ = DType::f32;
  std::int64_t written_ = 0, stride_ = 0, base_stride_ = 0;  // places along the written axis
  std::vector<Loop> terms_, shared_, columns_;
  std::int64_t run_ = 1, vectors_ = 1;  // vectors of the lanes' loop; of all columns
  int lanes_ = 1;
};

}  // namespace

Result<Done> emit_read(Emitter& e) {
  Read(e).emit();
  return Done{};
}

}  // namespace gradc
