// Packing of panels from any layout: copies where the panel's positions are contiguous, square
// blocks transposed in registers where k is, and gathers else.
#include <algorithm>

#include "codegen/contract.h"
#include "codegen/elementwise.h"

namespace gradc {
namespace {

llvm::Value* cast_up(Emitter& e, const Operand& operand, llvm::Value* x, int lanes) {
  DType from = stored_dtype(e, operand);
  for (DType to : operand.casts) {
    llvm::Value* const operands[] = {x};
    x = emit_elementwise(e, Opcode::cast_, operands, from, to, lanes);
    from = to;
  }
  return x;
}

// lanes l of a where (l & s) == 0 and of b moved up by s where not; or, for the other half, of a
// moved down and of b.
std::pair<llvm::Value*, llvm::Value*> exchange(Emitter& e, llvm::Value* a, llvm::Value* b, int s,
                                               int n) {
  std::vector<int> low, high;
  for (int l = 0; l < n; ++l) {
    low.push_back((l & s) == 0 ? l : n + l - s);
    high.push_back((l & s) == 0 ? l + s : n + l);
  }
  return {e.ir.CreateShuffleVector(a, b, low), e.ir.CreateShuffleVector(a, b, high)};
}

int power_of_two(std::int64_t x) {
  int p = 1;
  while (p < x) p *= 2;
  return p;
}

// Of the pair of step k the second exists; null: always.
llvm::Value* whole_pair(Emitter& e, const Contraction& c, llvm::Value* k) {
  return c.k.extent % 2 == 0 ? nullptr : e.ir.CreateICmpNE(k, e.i64(c.k.extent / 2));
}
llvm::Value* second_of(Emitter& e, const Operand& operand, llvm::Value* first, llvm::Value* apart,
                       llvm::Value* both) {
  if (both != nullptr) apart = e.ir.CreateSelect(both, apart, e.i64(0));
  return e.at(first, apart, stored_dtype(e, operand));
}

// One function's worth of packing; `size` positions a panel.
class Packer {
 public:
  Packer(Emitter& e, const Contraction& c, const Operand& operand, const AxisRole& role,
         std::int64_t size, bool fetches, std::int64_t gap)
      : e_(e),
        c_(c),
        operand_(operand),
        size_(size),
        fetches_(fetches),
        gap_(gap),
        extent_(role.extent),
        stored_(stored_dtype(e, operand)),
        lies_(levels_of(e, role, operand.buffer)),
        along_k_(levels_of(e, c.k, operand.buffer)) {
    if (c.pairs) by_pairs();
  }

  void emit(std::span<llvm::Value* const> arguments) {
    source_ = arguments[0];
    panels_ = arguments[1];
    from_ = arguments[2];
    to_ = arguments[3];
    k_from_ = arguments[4];
    k_count_ = e_.ir.CreateSub(arguments[5], k_from_);
    const auto along_k = [&](Stretch body) {
      if (!scattered_) return for_stretches(e_, along_k_, k_from_, arguments[5], body);
      e_.loop(k_from_, arguments[5], 1, [&](llvm::Value* k) { one_pair(k, body); });
    };
    llvm::Value* rest = from_;
    if (side_by_side()) {
      // All whole panels k by k, so that memory is read in its own order. Panels narrower than a
      // vector are filled some at a time, so that a line of memory is read once.
      const std::int64_t group = size_ < c_.lanes && c_.lanes % size_ == 0 ? c_.lanes / size_ : 1,
                         unit = group * size_;
      rest =
          e_.add(from_, e_.mul(e_.ir.CreateUDiv(e_.ir.CreateSub(to_, from_), e_.i64(unit)), unit));
      const int wide = power_of_two(size_);
      along_k([&](llvm::Value* lo, llvm::Value* hi, llvm::Value* base, std::int64_t stride) {
        const auto rows = [&](llvm::Value* first, llvm::Value* last, int lanes) {
          e_.loop(first, last, 1, [&](llvm::Value* k) {
            fetch_ahead(rest, k, base, stride);
            e_.loop(from_, rest, unit, [&](llvm::Value* p) {
              for (std::int64_t g = 0; g < group; ++g)
                copy(e_.add(p, g * size_), k, base, stride, true, lanes);
            });
          });
        };
        // A panel that no vectors fill evenly (six rows) is copied by the next wider vector: what a
        // step writes too much the next one overwrites, and what it reads too much lies before the
        // next one's end. The last step of a stretch is exact.
        const bool overlaps = size_ < c_.lanes && group == 1 && wide > size_ && wide <= c_.lanes &&
                              !scattered_ && stride >= 2 * (wide - size_);
        if (!overlaps) return rows(lo, hi, 0);
        llvm::Value* most = e_.max(lo, e_.add(hi, -1));
        rows(lo, most, wide);
        rows(most, hi, 0);
      });
    }
    e_.loop(rest, to_, size_, [&](llvm::Value* p) {
      along_k([&](llvm::Value* lo, llvm::Value* hi, llvm::Value* base, std::int64_t stride) {
        if (side_by_side())
          return e_.loop(lo, hi, 1, [&](llvm::Value* k) { copy(p, k, base, stride, false); });
        contiguous_ ? turn(p, lo, hi, base) : collect(p, lo, hi, base, stride);
      });
    });
  }

 private:
  // Levels by steps of two k: `next_` elements lie between the two. Where pairs span two stretches
  // (an inner extent that is odd), each pair is a stretch of its own.
  void by_pairs() {
    Level& inner = along_k_.back();
    next_ = e_.i64(inner.stride);
    scattered_ = along_k_.size() > 1 && inner.extent % 2 != 0;
    contiguous_ = contiguous_ && !scattered_;
    if (!scattered_) inner = {(inner.extent + 1) / 2, 2 * inner.stride};
  }
  void one_pair(llvm::Value* k, Stretch body) {
    llvm::Value* first = e_.mul(k, 2);
    llvm::Value* offset = level_offset(e_, along_k_, first);
    next_ = e_.ir.CreateSub(
        level_offset(e_, along_k_, e_.min(e_.add(first, 1), e_.i64(c_.k.extent - 1))), offset);
    body(k, e_.add(k, 1), offset, 0);
  }
  // Beyond a mask anything.
  llvm::Value* load(llvm::Value* from, llvm::Value* k, int lanes, llvm::Value* mask) {
    return load_step(e_, c_, operand_, from, k, next_, lanes, mask);
  }
  // Each vector of a panel is contiguous in memory.
  bool side_by_side() const {
    const std::int64_t inner = lies_.back().extent;
    const bool even =
        lies_.size() == 1 || inner % size_ == 0 || (size_ % c_.lanes == 0 && inner % c_.lanes == 0);
    return lies_.back().stride == 1 && even;
  }
  // Where position p + i of the panel that starts at p stands for k.
  llvm::Value* target(llvm::Value* p, llvm::Value* k, llvm::Value* i) {
    llvm::Value* behind = e_.ir.CreateSub(p, from_);
    llvm::Value* panel = e_.ir.CreateMul(behind, k_count_);
    if (gap_ != 0)
      panel = e_.add(panel, e_.mul(e_.ir.CreateUDiv(behind, e_.i64(size_)), gap_));
    return e_.at(panels_, e_.add(e_.add(panel, e_.mul(e_.ir.CreateSub(k, k_from_), size_)), i),
                 c_.panel_dtype());
  }
  llvm::Value* address(llvm::Value* offset, llvm::Value* base, llvm::Value* k,
                       std::int64_t stride) {
    return e_.at(e_.at(source_, e_.add(offset, base), stored_), e_.mul(k, stride), stored_);
  }
  // Offset of position p; beyond the end, of the last one.
  llvm::Value* offset_of(llvm::Value* p) {
    return level_offset(e_, lies_, extent_ % size_ == 0 ? p : e_.min(p, e_.add(to_, -1)));
  }
  // The panel's positions by as many at a time as `most`, a power of two or the panel's whole size.
  using Part = llvm::function_ref<void(llvm::Value* first, int count)>;
  void in_parts(int most, Part body) {
    const std::int64_t whole = size_ / most * most;
    if (whole == most)
      body(e_.i64(0), most);
    else if (whole > 0)
      e_.loop(0, whole, most, [&](llvm::Value* first) { body(first, most); });
    if (whole < size_) body(e_.i64(whole), static_cast<int>(size_ - whole));
  }

  // Asks for what will be copied some steps of k later.
  void fetch_ahead(llvm::Value* rest, llvm::Value* k, llvm::Value* base, std::int64_t stride) {
    constexpr std::int64_t distance = 6;
    if (!fetches_) return;
    const std::int64_t line = 64 / bytes(stored_), by = std::min(line, lies_.back().extent);
    e_.loop(from_, rest, by, [&](llvm::Value* p) {
      llvm::Value* ahead =
          address(level_offset(e_, lies_, p), base, e_.add(k, distance), stride);
      e_.prefetch(ahead);
      if (c_.pairs && !scattered_) e_.prefetch(e_.at(ahead, next_, stored_));
    });
  }

  // One k of one panel whose vectors are contiguous, of which all positions exist or only those
  // before the end; by vectors of `wide` if that is not 0.
  void copy(llvm::Value* p, llvm::Value* k, llvm::Value* base, std::int64_t stride, bool whole,
            int wide = 0) {
    const bool at_once = lies_.size() == 1 || lies_.back().extent % size_ == 0;
    llvm::Value* start = level_offset(e_, lies_, p);
    for (std::int64_t i = 0; i < size_; i += c_.lanes) {
      const int lanes =
          wide != 0 ? wide : static_cast<int>(std::min<std::int64_t>(c_.lanes, size_ - i));
      llvm::Value* mask =
          whole ? nullptr : e_.first_lanes(e_.ir.CreateSub(to_, e_.add(p, i)), lanes);
      llvm::Value* from = address(
          at_once ? e_.add(start, i) : level_offset(e_, lies_, e_.add(p, i)), base, k, stride);
      e_.store(load(from, k, lanes, mask), target(p, k, e_.i64(i)), c_.panel_dtype(), lanes);
    }
  }

  void turn(llvm::Value* p, llvm::Value* lo, llvm::Value* hi, llvm::Value* base) {
    const int block = std::min(c_.lanes, power_of_two(size_));
    in_parts(block, [&](llvm::Value* first, int count) {
      std::vector<llvm::Value*> offsets;
      for (int r = 0; r < count; ++r) offsets.push_back(offset_of(e_.add(e_.add(p, first), r)));
      const std::int64_t stride = c_.pairs ? 2 : 1;
      const DType panel = c_.panel_dtype();
      const auto row = [&](int r, llvm::Value* k, int lanes) {
        llvm::Value* from =
            address(offsets[static_cast<std::size_t>(std::min(r, count - 1))], base, k, stride);
        if (lanes == 1) return load(from, k, 1, nullptr);
        return c_.pairs ? load_pairs(e_, operand_, from, lanes)
                        : load_operand(e_, operand_, from, lanes);
      };
      const auto column = [&](llvm::Value* x) {  // the lanes that the panel has
        std::vector<int> lanes;
        for (int l = 0; l < count; ++l) lanes.push_back(l);
        return count == block ? x
               : count == 1   ? e_.ir.CreateExtractElement(x, std::uint64_t{0})
                              : e_.ir.CreateShuffleVector(x, lanes);
      };
      // A single row is copied by whole vectors.
      const int step = block == 1 ? c_.lanes : block;
      const bool odd = c_.pairs && c_.k.extent % 2 != 0;
      llvm::Value* end = odd ? e_.min(hi, e_.i64(c_.k.extent / 2)) : hi;
      llvm::Value* whole = e_.add(lo, e_.ir.CreateAnd(e_.ir.CreateSub(end, lo), e_.i64(-step)));
      e_.loop(lo, whole, step, [&](llvm::Value* k) {
        if (block == 1) return e_.store(row(0, k, step), target(p, k, first), panel, step);
        std::vector<llvm::Value*> rows;
        for (int r = 0; r < block; ++r) {
          rows.push_back(row(r, k, block));
          if (r < count && fetches_)
            e_.prefetch(
                address(offsets[static_cast<std::size_t>(r)], base, e_.add(k, 2 * step), stride));
        }
        transpose(e_, rows);
        for (int i = 0; i < block; ++i)
          e_.store(column(rows[static_cast<std::size_t>(i)]), target(p, e_.add(k, i), first), panel,
                   count);
      });
      e_.loop(whole, hi, 1, [&](llvm::Value* k) {
        for (int r = 0; r < count; ++r)
          e_.store(row(r, k, 1), target(p, k, e_.add(first, r)), panel, 1);
      });
    });
  }

  void collect(llvm::Value* p, llvm::Value* lo, llvm::Value* hi, llvm::Value* base,
               std::int64_t stride) {
    in_parts(static_cast<int>(std::min<std::int64_t>(c_.lanes, size_)), [&](llvm::Value* first,
                                                                            int count) {
      llvm::Value* offsets = llvm::PoisonValue::get(e_.type(DType::i64, count));
      for (int r = 0; r < count; ++r) {
        llvm::Value* offset = e_.add(offset_of(e_.add(e_.add(p, first), r)), base);
        offsets = count == 1
                      ? offset
                      : e_.ir.CreateInsertElement(offsets, offset, static_cast<std::uint64_t>(r));
      }
      e_.loop(lo, hi, 1, [&](llvm::Value* k) {
        llvm::Value* from = e_.at(source_, e_.mul(k, stride), stored_);
        llvm::Value* x = gather_operand(e_, operand_, from, offsets, count);
        if (c_.pairs) {
          llvm::Value* both = whole_pair(e_, c_, k);
          llvm::Value* second = gather_operand(
              e_, operand_, second_of(e_, operand_, from, next_, both), offsets, count);
          x = pair_up(e_, operand_, x, second, count, both);
        }
        e_.store(x, target(p, k, first), c_.panel_dtype(), count);
      });
    });
  }

  Emitter& e_;
  const Contraction& c_;
  const Operand& operand_;
  const std::int64_t size_;
  const bool fetches_;
  const std::int64_t gap_;
  const std::int64_t extent_;
  const DType stored_;
  const std::vector<Level> lies_;
  std::vector<Level> along_k_;  // by steps of k, unless pairs are scattered
  bool contiguous_ = along_k_.back().stride == 1, scattered_ = false;
  llvm::Value* next_ = nullptr;  // pairs: from the first to the second, in elements
  llvm::Value *source_ = nullptr, *panels_ = nullptr, *from_ = nullptr, *to_ = nullptr;
  llvm::Value *k_from_ = nullptr, *k_count_ = nullptr;
};

}  // namespace

DType stored_dtype(const Emitter& e, const Operand& operand) {
  return e.buffer_type(operand.buffer).dtype;
}

llvm::Value* load_operand(Emitter& e, const Operand& operand, llvm::Value* address, int lanes,
                          llvm::Value* mask) {
  return cast_up(e, operand, e.load(address, stored_dtype(e, operand), lanes, mask), lanes);
}

llvm::Value* load_step(Emitter& e, const Contraction& c, const Operand& operand,
                       llvm::Value* address, llvm::Value* k, llvm::Value* apart, int lanes,
                       llvm::Value* mask) {
  llvm::Value* first = load_operand(e, operand, address, lanes, mask);
  if (!c.pairs) return first;
  llvm::Value* both = whole_pair(e, c, k);
  llvm::Value* second =
      load_operand(e, operand, second_of(e, operand, address, apart, both), lanes, mask);
  return pair_up(e, operand, first, second, lanes, both);
}

llvm::Value* gather_operand(Emitter& e, const Operand& operand, llvm::Value* base,
                            llvm::Value* index, int lanes) {
  llvm::Value* all = lanes == 1 ? nullptr : e.integer(DType::boolean, 1, lanes);
  return cast_up(e, operand, e.gather(base, index, stored_dtype(e, operand), lanes, all), lanes);
}

// 4 × 4 blocks of 32-bit lanes by two stages of unpacking, each one instruction on x86.
void transpose_fours(Emitter& e, llvm::Value** row, int n) {
  const auto unpack = [&](llvm::Value* a, llvm::Value* b, int width, int half) {
    std::vector<int> lanes;
    for (int l = 0; l < n; l += 4)
      for (int i = 0; i < 4; ++i) {
        const int within = width == 1 ? half * 2 + i / 2 : half * 2 + i % 2;
        const bool from_b = width == 1 ? i % 2 == 1 : i >= 2;
        lanes.push_back((from_b ? n : 0) + l + within);
      }
    return e.ir.CreateShuffleVector(a, b, lanes);
  };
  llvm::Value* t[4] = {unpack(row[0], row[1], 1, 0), unpack(row[0], row[1], 1, 1),
                       unpack(row[2], row[3], 1, 0), unpack(row[2], row[3], 1, 1)};
  row[0] = unpack(t[0], t[2], 2, 0);
  row[1] = unpack(t[0], t[2], 2, 1);
  row[2] = unpack(t[1], t[3], 2, 0);
  row[3] = unpack(t[1], t[3], 2, 1);
}

// Rows and columns of ever larger blocks are exchanged (Eklundh, "A fast computer method for matrix
// transposing", 1972); the first two stages of 32-bit lanes by unpacking.
void transpose(Emitter& e, std::vector<llvm::Value*>& rows) {
  const int n = static_cast<int>(rows.size());
  int s = 1;
  if (n >= 4 && rows[0]->getType()->getScalarSizeInBits() == 32) {
    for (int i = 0; i < n; i += 4) transpose_fours(e, &rows[static_cast<std::size_t>(i)], n);
    s = 4;
  }
  for (; s < n; s *= 2)
    for (int i = 0; i < n; ++i) {
      if ((i & s) != 0) continue;
      llvm::Value *&a = rows[static_cast<std::size_t>(i)],
                  *&b = rows[static_cast<std::size_t>(i + s)];
      std::tie(a, b) = exchange(e, a, b, s, n);
    }
}

llvm::Function* emit_pack(Emitter& e, const Contraction& c, const Operand& operand,
                          const AxisRole& role, std::int64_t size, bool fetches,
                          std::string_view name, std::int64_t gap) {
  llvm::Type* i = e.ir.getInt64Ty();
  llvm::Type* const parameters[] = {e.ptr(), e.ptr(), i, i, i, i};
  return e.function(name, parameters, [&](std::span<llvm::Value* const> arguments) {
    Packer(e, c, operand, role, size, fetches, gap).emit(arguments);
  });
}

}  // namespace gradc
