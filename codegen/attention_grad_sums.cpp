// The accumulators of attention's gradient. An element of one lies at
// ((inner · others + other) · rows + row) · keys + key, times its columns, plus the column; axes
// that the sum lacks count as one.
#include <llvm/IR/Intrinsics.h>

#include <algorithm>

#include "codegen/attention_grad.h"

namespace gradc {

GradSums::GradSums(Emitter& e, GradPlan& plan, const Products& products, Scratch& scratch)
    : e_(e), plan_(plan), s_(plan.scores) {
  bool scattered = false;
  const std::int64_t units = plan.outer.extent * plan.chunks;
  for (GradSum& sum : plan.sums) {
    if (sum.argument.valid()) sum.columns = products.padded(sum.features.extent);
    scattered = scattered || sum.kind == GradSum::scattered;
    if (sum.direct) continue;
    if (!sum.partial) {
      sum.base = scratch.take(s_.dtype, sum.elements(s_));
      continue;
    }
    sum.base = e.at_byte(e.shared, e.out.shared_bytes);
    e.out.shared_bytes += (units * sum.elements(s_) * s_.element_bytes() + 127) / 64 * 64;
  }
  if (!scattered) return;
  lane_values_ = scratch.take(s_.dtype, s_.lanes);
  lane_indices_ = scratch.take(DType::i64, s_.lanes);
}

bool GradSums::has_second_phase() const {
  return std::any_of(plan_.sums.begin(), plan_.sums.end(),
                     [](const GradSum& sum) { return sum.partial; });
}

llvm::Value* GradSums::slot(const GradSum& sum, llvm::Value* unit) {
  return sum.partial ? e_.at(sum.base, e_.mul(unit, sum.elements(s_)), s_.dtype) : sum.base;
}

llvm::Value* GradSums::at(const GradSum& sum, const Point& point, llvm::Value* unit,
                          llvm::Value* row, llvm::Value* key) {
  llvm::Value* offset = position_in(e_, sum.inner, point);
  offset = e_.add(e_.mul(offset, sum.others.extent), position_in(e_, sum.others, point));
  if (sum.rows) offset = e_.add(e_.mul(offset, sum.row_extent(s_)), row);
  if (sum.keys) offset = e_.add(e_.mul(offset, sum.key_extent(s_)), key);
  return e_.at(slot(sum, unit), e_.mul(offset, sum.columns), s_.dtype);
}

// ---- clearing

void GradSums::fill_zero(llvm::Value* base, std::int64_t elements) {
  const int lanes = s_.lanes;
  const std::int64_t whole = elements / lanes * lanes;
  e_.loop(0, whole, lanes, [&](llvm::Value* i) {
    e_.store(e_.constant(s_.dtype, 0, lanes), e_.at(base, i, s_.dtype), s_.dtype, lanes);
  });
  e_.loop(whole, elements, 1, [&](llvm::Value* i) {
    e_.store(e_.constant(s_.dtype, 0), e_.at(base, i, s_.dtype), s_.dtype, 1);
  });
}

void GradSums::clear(const Point& point, llvm::Value* unit, llvm::Value* chunk, bool whole) {
  for (const GradSum& sum : plan_.sums) {
    if (sum.whole != whole) continue;
    if (sum.direct)
      put_lines(sum, point, e_.i64(0), e_.i64(sum.inner.extent * sum.others.extent * s_.row_extent),
                chunk, plan_.chunks,
                [&](llvm::Value*, int lanes) { return e_.constant(s_.dtype, 0, lanes); });
    else
      fill_zero(slot(sum, unit), sum.elements(s_));
  }
}

// ---- adding

void GradSums::add_vector(const GradSum& sum, const Point& point, llvm::Value* unit,
                          llvm::Value* row, llvm::Value* key, llvm::Value* x) {
  const DType d = s_.dtype;
  const int lanes = s_.lanes;
  auto& ir = e_.ir;
  if (!sum.direct) {
    llvm::Value* to = at(sum, point, unit, row, key);
    return e_.store(ir.CreateFAdd(e_.load(to, d, lanes), x), to, d, lanes);
  }
  const int buffer = e_.argument_count() + sum.result;
  const Index offset = buffer_offset(e_, buffer, point.index, lanes);
  llvm::Value* base = e_.buffer(buffer);
  llvm::Value* before = nullptr;
  if (linear(offset) && offset.step == 1) {
    before = e_.load(e_.at(base, offset.first, d), d, lanes, point.mask);
  } else {
    llvm::Value* mask = point.mask != nullptr ? point.mask : e_.integer(DType::boolean, 1, lanes);
    before = e_.gather(base, every_lane(e_, offset, lanes), d, lanes, mask);
  }
  Values(e_, point).store_result(sum.result, ir.CreateFAdd(before, x));
}

// Where the index runs along the lanes, up or down, by whole vectors; else lane by lane.
void GradSums::add_scattered(const GradSum& sum, const Point& point, llvm::Value* unit,
                             llvm::Value* row, llvm::Value* key, llvm::Value* x,
                             llvm::Value* index) {
  const DType d = s_.dtype;
  const int lanes = s_.lanes;
  auto& ir = e_.ir;
  llvm::Value* base = at(sum, point, unit, row, key);
  const auto add_at = [&](llvm::Value* to, llvm::Value* more, int n) {
    e_.store(ir.CreateFAdd(e_.load(to, d, n), more), to, d, n);
  };
  const auto one_by_one = [&] {
    e_.store(x, lane_values_, d, lanes);
    e_.store(index, lane_indices_, DType::i64, lanes);
    llvm::Value* count = e_.i64(lanes);
    if (point.mask != nullptr) {
      llvm::Value* bits = ir.CreateBitCast(point.mask, ir.getIntNTy(static_cast<unsigned>(lanes)));
      llvm::Value* ones = ir.CreateUnaryIntrinsic(llvm::Intrinsic::ctpop, bits);
      count = ir.CreateZExt(ones, ir.getInt64Ty());
    }
    e_.loop(e_.i64(0), count, 1, [&](llvm::Value* lane) {
      llvm::Value* at = e_.load(e_.at(lane_indices_, lane, DType::i64), DType::i64, 1);
      llvm::Value* inside = ir.CreateICmpULT(at, e_.i64(sum.columns));
      e_.when(inside, [&] {
        if (sum.keys) at = e_.add(at, e_.mul(lane, sum.columns));
        add_at(e_.at(base, at, d), e_.load(e_.at(lane_values_, lane, d), d, 1), 1);
      });
    });
  };
  if (sum.keys || sum.columns < lanes) return one_by_one();
  llvm::Value* first = ir.CreateExtractElement(index, std::uint64_t{0});
  llvm::Value* last = ir.CreateExtractElement(index, static_cast<std::uint64_t>(lanes - 1));
  const auto runs = [&](int step) {
    llvm::Value* line = every_lane(e_, {.first = first, .step = step}, lanes);
    llvm::Value* all = ir.CreateAndReduce(ir.CreateICmpEQ(index, line));
    const auto inside = [&](llvm::Value* i) { return ir.CreateICmpULT(i, e_.i64(sum.columns)); };
    all = ir.CreateAnd(all, ir.CreateAnd(inside(first), inside(last)));
    // Lanes that are off have an index, but nothing to add.
    return point.mask == nullptr ? all : ir.CreateAnd(all, ir.CreateAndReduce(point.mask));
  };
  e_.when(
      runs(1), [&] { add_at(e_.at(base, first, d), x, lanes); },
      [&] {
        e_.when(
            runs(-1),
            [&] {
              std::vector<int> turned;
              for (int k = lanes; k-- > 0;) turned.push_back(k);
              add_at(e_.at(base, last, d), ir.CreateShuffleVector(x, turned), lanes);
            },
            one_by_one);
      });
}

// ---- storing

void GradSums::for_own_keys(llvm::Value* chunk, std::int64_t chunks, std::int64_t step,
                            Emitter::Body body) {
  e_.loop(chunk, e_.i64(s_.key_blocks()), chunks, [&](llvm::Value* j) {
    llvm::Value* begin = e_.mul(j, s_.tile_keys);
    e_.loop(begin, e_.min(e_.add(begin, s_.tile_keys), e_.i64(s_.key_extent)), step, body);
  });
}

// Lines (inner, other, row) lo … hi − 1 of a result: what `read` gives for vectors at offsets into
// a slot, or for one element.
void GradSums::put_lines(const GradSum& sum, const Point& plane, llvm::Value* lo, llvm::Value* hi,
                         llvm::Value* chunk, std::int64_t chunks, Read read) {
  const int lanes = s_.lanes;
  const std::int64_t rows = sum.rows ? s_.row_extent : 1;
  e_.loop(lo, hi, 1, [&](llvm::Value* line) {
    const auto [rest_of, row_of] = divide(e_, {.first = line}, rows, 0, 1);
    llvm::Value *rest = rest_of.first, *row = row_of.first;
    const auto [inner, other] = divide(e_, {.first = rest}, sum.others.extent, 0, 1);
    Point point = plane;
    set_role(e_, point, sum.others, other);
    if (sum.whole) set_role(e_, point, sum.inner, inner);
    if (sum.rows && s_.tiled.valid()) set_axis(point, s_.tiled, row);
    llvm::Value* base = e_.add(e_.mul(rest, sum.row_extent(s_)), row);
    base = e_.mul(base, sum.key_extent(s_) * sum.columns);
    const auto put = [&](Point here, llvm::Value* offset, llvm::Value* left) {
      const auto one = [&](llvm::Value* mask) {
        here.mask = mask;
        Values(e_, here).store_result(
            sum.result, as_result(e_, s_, sum.result, read(offset, lanes), lanes));
      };
      e_.when(
          e_.ir.CreateICmpSGE(left, e_.i64(lanes)), [&] { one(nullptr); },
          [&] { one(e_.first_lanes(left, lanes)); });
    };
    const auto columns = [&](const Point& at, llvm::Value* offset) {
      e_.loop(0, sum.features.extent, lanes, [&](llvm::Value* c) {
        Point here = at;
        set_role(e_, here, sum.features, {.first = c, .step = 1, .multiple = lanes});
        put(here, e_.add(offset, c), e_.ir.CreateSub(e_.i64(sum.features.extent), c));
      });
    };
    if (sum.kind != GradSum::summed) {
      if (!sum.keys) return columns(point, base);
      return for_own_keys(chunk, chunks, 1, [&](llvm::Value* key) {
        Point here = point;
        set_axis(here, s_.keys, key);
        columns(here, e_.add(base, e_.mul(key, sum.columns)));
      });
    }
    if (sum.keys)
      return for_own_keys(chunk, chunks, lanes, [&](llvm::Value* key) {
        Point here = point;
        set_axis(here, s_.keys, key, 1, lanes);
        put(here, e_.add(base, key), e_.ir.CreateSub(e_.i64(s_.key_extent), key));
      });
    Values(e_, with_lanes(point, 1)).store_result(sum.result, read(base, 1));
  });
}

void GradSums::store(const Point& point, llvm::Value* chunk, bool whole) {
  for (const GradSum& sum : plan_.sums) {
    if (sum.whole != whole || sum.direct || sum.partial) continue;
    const std::int64_t rows = sum.rows ? s_.row_extent : 1;
    put_lines(sum, point, e_.i64(0), e_.i64(sum.inner.extent * sum.others.extent * rows), chunk,
              plan_.chunks, [&](llvm::Value* offset, int n) {
                llvm::Value* x = e_.load(e_.at(sum.base, offset, s_.dtype), s_.dtype, s_.lanes);
                return n == 1 ? sum_of_lanes(e_, x, s_.lanes) : x;
              });
  }
}

void GradSums::add_slots() {
  const DType d = s_.dtype;
  for (const GradSum& sum : plan_.sums) {
    if (!sum.partial) continue;
    const std::int64_t rows = sum.rows ? s_.row_extent : 1,
                       lines = sum.inner.extent * sum.others.extent * rows;
    const auto [lo, hi] = e_.share(sum.outer.extent * lines);
    if (lines == 0) continue;
    e_.loop(e_.ir.CreateUDiv(lo, e_.i64(lines)), e_.ceil_div(hi, lines), 1,
            [&, lo = lo, hi = hi](llvm::Value* outer) {
              llvm::Value* begin = e_.mul(outer, lines);
              Point point = plane_point(e_, s_, e_.i64(0), e_.i64(0), s_.lanes);
              set_role(e_, point, sum.outer, {.first = outer});
              const auto added = [&](llvm::Value* offset, int n) {
                llvm::Value* const zero[] = {e_.constant(d, 0, s_.lanes)};
                llvm::Value* x = e_.loop(
                    e_.i64(0), e_.i64(sum.missing.extent * plan_.chunks), 1, zero,
                    [&](llvm::Value* k, std::span<llvm::Value* const> state) {
                      Point at = point;
                      llvm::Value* chunks = e_.i64(plan_.chunks);
                      set_role(e_, at, sum.missing, {.first = e_.ir.CreateUDiv(k, chunks)});
                      llvm::Value* unit = e_.mul(position_in(e_, plan_.outer, at), plan_.chunks);
                      unit = e_.add(unit, e_.ir.CreateURem(k, chunks));
                      llvm::Value* from = e_.at(slot(sum, unit), offset, d);
                      return std::vector<llvm::Value*>{
                          e_.ir.CreateFAdd(state[0], e_.load(from, d, s_.lanes))};
                    })[0];
                return n == 1 ? sum_of_lanes(e_, x, s_.lanes) : x;
              };
              put_lines(sum, point, e_.ir.CreateSub(e_.max(lo, begin), begin),
                        e_.ir.CreateSub(e_.min(hi, e_.add(begin, lines)), begin), e_.i64(0), 1,
                        added);
            });
  }
}

}  // namespace gradc
