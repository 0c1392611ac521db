// Roles of the scores' axes, blocks in scratch and their products.
#include <algorithm>
#include <limits>

#include "codegen/attention.h"
#include "codegen/elementwise.h"

namespace gradc {
namespace {

std::int64_t round_up(std::int64_t x, std::int64_t to) { return (x + to - 1) / to * to; }
std::int64_t parts(std::int64_t x, std::int64_t of) { return (x + of - 1) / of; }

bool is_lowest(const Function& f, ValueId v) {
  const Op* op = f.definition(v);
  while (op != nullptr && op->code == Opcode::expand_) op = f.definition(op->operands[0]);
  return op != nullptr && op->code == Opcode::constant_ && is_real(f.type(v).dtype) &&
         op->attr.real == -std::numeric_limits<double>::infinity();
}

// Rows of a microkernel with so many vectors that stays free of spills (contract_shape.cpp has the
// rule), a divisor of 16.
int rows_of(const Emitter& e, int vectors) {
  const int free = e.target.registers - e.target.registers / 8 - (e.has_fma() ? 0 : 3);
  int rows = 16;
  while (rows > 1 && rows * vectors + vectors > free) rows /= 2;
  return rows;
}

}  // namespace

std::vector<Condition> conditions_of(const Function& f, ValueId x) {
  std::vector<Condition> out;
  for (;;) {
    const Op* op = f.definition(x);
    if (op == nullptr) return out;
    if (op->code == Opcode::expand_ || op->code == Opcode::stop_) {
      x = op->operands[0];
    } else if (op->code == Opcode::select_ && is_lowest(f, op->operands[2])) {
      out.push_back({op->operands[0], true});
      x = op->operands[1];
    } else if (op->code == Opcode::select_ && is_lowest(f, op->operands[1])) {
      out.push_back({op->operands[0], false});
      x = op->operands[2];
    } else {
      return out;
    }
  }
}

bool Scores::is_row(AxisId a) const {
  return (tiled.valid() && a == tiled) ||
         std::find(others.axes.begin(), others.axes.end(), a) != others.axes.end();
}

AxisRole role_of(const Emitter& e, const std::vector<AxisId>& axes) {
  AxisRole out;
  for (AxisId a : axes) {
    out.extent *= e.kernel.extent(a);
    if (e.kernel.extent(a) != 1) out.axes.push_back(a);
  }
  return out;
}

Scores plan_scores(const Emitter& e, ValueId score, AxisId keys, const AxisList& rows,
                   const AxisList& batch, const std::vector<Condition>& conditions) {
  Scores s;
  s.dtype = e.kernel.type(score).dtype;
  s.lanes = e.target.vector_bytes / bytes(s.dtype);
  s.axes = e.kernel.type(score).axes;
  s.keys = keys;
  s.key_extent = e.kernel.extent(keys);
  if (s.key_extent <= 32) s.tile_keys = 32;
  const auto rank = [&](AxisId a) {
    bool used = false;
    for (const Condition& c : conditions) used = used || e.kernel.type(c.value).axes.contains(a);
    return std::pair(used && e.kernel.extent(a) > 1, e.kernel.extent(a));
  };
  for (AxisId a : rows)
    if (!s.tiled.valid() || rank(a) > rank(s.tiled)) s.tiled = a;
  if (s.tiled.valid()) s.row_extent = e.kernel.extent(s.tiled);
  std::vector<AxisId> others;
  for (AxisId a : rows)
    if (a != s.tiled) others.push_back(a);
  s.others = role_of(e, others);
  s.batch = role_of(e, {batch.begin(), batch.end()});
  return s;
}

AxisRole features_of(const Emitter& e, const Scores& s, ValueId argument, ValueId order) {
  std::vector<AxisId> axes;
  for (AxisId a : e.kernel.type(order).axes)
    if (!s.axes.contains(a) && e.kernel.type(argument).axes.contains(a)) axes.push_back(a);
  return role_of(e, axes);
}

Point plane_point(Emitter& e, const Scores& s, llvm::Value* batch, llvm::Value* other, int lanes) {
  Point point = make_point(e, lanes);
  for (AxisId a : s.axes) set_axis(point, a, e.i64(0));
  set_role(e, point, s.batch, {.first = batch});
  set_role(e, point, s.others, {.first = other});
  return point;
}

Point with_lanes(const Point& point, int lanes) {
  Point out = point;
  out.lanes = lanes;
  return out;
}

llvm::Value* Scratch::take(DType dtype, std::int64_t elements) {
  llvm::Value* out = e_.at_byte(e_.local, e_.out.local_bytes);
  // A line between blocks of a power of two keeps them in different sets of the L1.
  e_.out.local_bytes += round_up(elements * bytes(dtype), 64) + 64;
  return out;
}

// ---- products

Products::Products(Emitter& e, const Scores& s) : e_(e), s_(s) {}

// Even panels of as many vectors as leave at least four rows to the registers.
std::int64_t Products::padded(std::int64_t n) const {
  const std::int64_t count = std::max<std::int64_t>(parts(n, s_.lanes), 1);
  int most = 8;
  while (most > 1 && rows_of(e_, most) < 4) --most;
  const std::int64_t panels = parts(count, most);
  return panels * parts(count, panels) * s_.lanes;
}

int Products::vectors(std::int64_t columns) const {
  const std::int64_t count = columns / s_.lanes;
  for (int v = 8; v > 1; --v)
    if (count % v == 0 && rows_of(e_, v) >= 4) return v;
  return 1;
}

void Products::multiply(const Factor& a, llvm::Value* b, llvm::Value* c, llvm::Value* rows,
                        std::int64_t columns, llvm::Value* count, bool fresh,
                        const Range* wanted) {
  const int v = vectors(columns), r = rows_of(e_, v);
  llvm::Function*& micro = micro_[{r, v, a.row, a.along, columns, a.pairs}];
  if (micro == nullptr) {
    Contraction shape;
    shape.dtype = s_.dtype;
    shape.lanes = s_.lanes;
    shape.pairs = a.pairs;
    shape.rows = r;
    shape.vectors = v;
    shape.k_blocks = 2;  // it may add to what is there
    micro = emit_micro(e_, shape, {.a_row = a.row, .a_k = a.along, .b_k = columns});
  }
  const std::int64_t width = v * s_.lanes;
  const auto panel = [&](llvm::Value* j) {
    e_.loop(e_.i64(0), rows, r, [&](llvm::Value* i) {
      e_.ir.CreateCall(micro, {e_.at(a.base, e_.mul(i, a.row), s_.dtype), e_.at(b, j, s_.dtype),
                               e_.at(c, e_.add(e_.mul(i, columns), j), s_.dtype), e_.i64(columns),
                               count, e_.i64(fresh)});
    });
  };
  if (columns == width) return panel(e_.i64(0));
  if (wanted == nullptr) return e_.loop(0, columns, width, panel);
  llvm::Value* from = e_.mul(e_.ir.CreateUDiv(wanted->first, e_.i64(width)), width);
  e_.loop(from, wanted->second, width, panel);
}

// ---- blocks

bool by_pairs(const Emitter& e, const Scores& s, ValueId rows, ValueId keys,
              const AxisRole& features) {
  if (!e.target.bf16_dot || s.dtype != DType::f32 || features.extent < 2) return false;
  for (ValueId v : {rows, keys})
    if (e.buffer_type(e.buffer_of(v)).dtype != DType::bf16) return false;
  const std::vector<Level> lie = levels_of(e, features, e.buffer_of(rows));
  return lie.size() == 1 && lie[0].stride == 1 && features.extent % 2 == 0;
}

Blocks::Blocks(Emitter& e, const Scores& s, const Products& products, ValueId argument, AxisId axis,
               const AxisRole& features, Layout layout)
    : e_(e),
      s_(s),
      buffer_(e.buffer_of(argument)),
      axis_(axis),
      features_(features),
      layout_(layout) {
  steps_ = layout.pairs == of_features ? (features.extent + 1) / 2 : features.extent;
  pitch_ = layout.turned                 ? s_.tile_keys
           : layout.pairs == of_features ? steps_
                                         : products.padded(features.extent);
  elements_ = layout.turned                  ? std::max<std::int64_t>(steps_, 1) * s_.tile_keys
              : layout.pairs == of_positions ? tile_rows / 2 * pitch_
                                             : tile_rows * pitch_;
  const AxisRole positions =
      role_of(e, axis.valid() ? std::vector<AxisId>{axis} : std::vector<AxisId>{});
  if (layout.pairs == of_features && !layout.turned) {
    function_ = emit_copy_of_pairs(positions);
    return;
  }
  Contraction shape;
  shape.dtype = s.dtype;
  shape.lanes = s.lanes;
  shape.pairs = layout.pairs != none;
  shape.k = layout.turned ? features : positions;
  Operand operand{.buffer = buffer_};
  if (layout.pairs == none && stored_dtype(e, operand) != s.dtype) operand.casts = {s.dtype};
  function_ = emit_pack(e, shape, operand, layout.turned ? positions : features, pitch_, true,
                        layout.turned ? "pack_turned" : "pack");
}

// void copy(source, block, -, -, from, to): rows of pairs as they lie in memory.
llvm::Function* Blocks::emit_copy_of_pairs(const AxisRole& positions) {
  llvm::Type* i = e_.ir.getInt64Ty();
  llvm::Type* const parameters[] = {e_.ptr(), e_.ptr(), i, i, i, i};
  return e_.function("copy_pairs", parameters, [&](std::span<llvm::Value* const> arguments) {
    const std::vector<Level> lie = levels_of(e_, positions, buffer_);
    const int lanes = s_.lanes;
    e_.loop(arguments[4], arguments[5], 1, [&](llvm::Value* p) {
      llvm::Value* from = e_.at(arguments[0], level_offset(e_, lie, p), DType::bf16);
      llvm::Value* to = e_.at(
          arguments[1], e_.mul(e_.ir.CreateSub(p, arguments[4]), pitch_), DType::i32);
      const auto copy = [&](std::int64_t at, int n) {
        llvm::Value* x = e_.ir.CreateAlignedLoad(
            e_.type(DType::i32, n), e_.at(from, e_.i64(2 * at), DType::bf16), llvm::Align(2));
        e_.store(x, e_.at(to, e_.i64(at), DType::i32), DType::i32, n);
      };
      std::int64_t at = 0;
      for (int n = lanes; n >= 1; n /= 2)
        for (; at + n <= steps_; at += n) copy(at, n);
    });
  });
}

// A plane's first position and feature.
Point Blocks::first_of(const Point& plane) const {
  Point first = plane;
  for (AxisId a : e_.buffer_type(buffer_).axes)
    if (!s_.axes.contains(a) || (axis_.valid() && a == axis_)) set_axis(first, a, e_.i64(0));
  return first;
}

bool fetches_planes(const Emitter& e, std::int64_t bytes) {
  return 4 * bytes <= e.target.l2_bytes;
}

std::int64_t Blocks::plane_bytes() const {
  return (axis_.valid() ? e_.kernel.extent(axis_) : 1) * features_.extent *
         bytes(e_.buffer_type(buffer_).dtype);
}

void Blocks::fetch(const Point& plane) {
  const std::vector<Level> lie = levels_of(e_, features_, buffer_);
  if (lie.size() != 1 || lie[0].stride != 1) return;
  e_.loop(0, axis_.valid() ? e_.kernel.extent(axis_) : 1, 1, [&](llvm::Value* p) {
    Point at = first_of(plane);
    if (axis_.valid()) set_axis(at, axis_, p);
    prefetch_run(e_, buffer_, at, features_.extent, false);
  });
}

void Blocks::pack(const Point& plane, llvm::Value* from, llvm::Value* to, llvm::Value* block) {
  if (features_.extent == 0) return;
  llvm::Value* source =
      e_.at(e_.buffer(buffer_),
            every_lane(e_, buffer_offset(e_, buffer_, first_of(plane).index, 1), 1),
            e_.buffer_type(buffer_).dtype);
  llvm::Value* all = e_.i64(steps_);
  if (layout_.pairs == of_positions) {
    from = e_.ir.CreateLShr(from, std::uint64_t{1});
    to = e_.ceil_div(to, 2);
  }
  if (layout_.turned)
    e_.ir.CreateCall(function_, {source, block, from, to, e_.i64(0), all});
  else
    e_.ir.CreateCall(function_, {source, block, e_.i64(0), all, from, to});
}

// ---- tiles in bf16

void round_tile(Emitter& e, const Scores& s, llvm::Value* tile, const RoundedTile& to,
                llvm::Value* rows, llvm::Value* keys) {
  if (to.along_keys == nullptr && to.along_rows == nullptr) return;
  const DType d = s.dtype;
  const int lanes = s.lanes;
  const Operand rounds{.rounds = true};
  llvm::Value* const zero = e.constant(d, 0, lanes);
  e.loop(e.i64(0), rows, 2, [&](llvm::Value* r) {
    const auto load = [&](llvm::Value* row, std::int64_t c) {
      llvm::Value* x = e.load(e.at(tile, e.add(e.mul(row, s.tile_keys), c), d), d, lanes);
      if (keys == nullptr) return x;
      return e.ir.CreateSelect(e.first_lanes(e.add(keys, -c), lanes), x, zero);
    };
    llvm::Value* next = e.add(r, 1);
    llvm::Value* both = s.row_extent % 2 == 0 ? nullptr : e.ir.CreateICmpSLT(next, rows);
    for (std::int64_t c = 0; c < s.tile_keys; c += 2 * lanes) {
      llvm::Value *x[2], *y[2];
      for (int i = 0; i < 2; ++i) {
        x[i] = load(r, c + i * lanes);
        y[i] = load(next, c + i * lanes);
        if (both != nullptr) y[i] = e.ir.CreateSelect(both, y[i], zero);
      }
      for (int i = 0; i < 2 && to.along_rows != nullptr; ++i) {
        llvm::Value* pair = e.ir.CreateLShr(r, std::uint64_t{1});
        e.store(pair_up(e, rounds, x[i], y[i], lanes, nullptr),
                e.at(to.along_rows, e.add(e.mul(pair, s.tile_keys), c + i * lanes), DType::i32),
                DType::i32, lanes);
      }
      if (to.along_keys == nullptr) continue;
      const auto put = [&](llvm::Value* row, llvm::Value* const* of) {
        e.store(neighbours(e, of[0], of[1]),
                e.at(to.along_keys, e.add(e.mul(row, s.tile_keys / 2), c / 2), DType::i32),
                DType::i32, lanes);
      };
      put(r, x);
      put(next, y);
    }
  });
}

// ---- values of a row

RowValues::RowValues(Emitter& e, const Scores& s, const std::vector<ValueId>& roots,
                     const std::vector<ValueId>& bound)
    : e_(e) {
  const Function& f = e.kernel;
  const AxisList axes = s.axes.without(s.keys);
  std::vector<char> seen(f.values.size());
  for (ValueId v : bound) seen[v.index] = 1;
  std::vector<ValueId> stack;
  const auto need = [&](ValueId v) {
    if (seen[v.index]) return;
    seen[v.index] = 1;
    const Op* op = f.definition(v);
    if (op != nullptr && op->code == Opcode::constant_) return;
    if (axes.contains_all(f.type(v).axes))
      values_.push_back(v);
    else if (op != nullptr)
      stack.push_back(v);
  };
  for (ValueId v : roots) need(v);
  while (!stack.empty()) {
    const Op* op = f.definition(stack.back());
    stack.pop_back();
    const Kind kind = facts(op->code).kind;
    // Of an address operation only the index is a value; its tensors are read elsewhere.
    const bool reads = (kind == Kind::view || kind == Kind::read) && op->code != Opcode::expand_;
    if (op->code == Opcode::concat_) continue;
    for (std::size_t i = reads ? 1 : 0; i < op->operands.size(); ++i) need(op->operands[i]);
    // An index may stand further back in a chain of address operations.
    if (reads && f.value(op->operands[0]).def.valid() && !seen[op->operands[0].index]) {
      seen[op->operands[0].index] = 1;
      stack.push_back(op->operands[0]);
    }
  }
}

void RowValues::compute(const Point& row) {
  Values values(e_, with_lanes(row, 1));
  computed_.clear();
  for (ValueId v : values_) computed_.push_back(values.get(v));
}

void RowValues::bind(Values& values) const {
  for (std::size_t i = 0; i < values_.size(); ++i) values.bind_uniform(values_[i], computed_[i]);
}

// ---- counts

TileCounts::TileCounts(Emitter& e, Scratch& scratch, std::int64_t planes) : e_(e) {
  e.out.tiles_at = e.out.local_bytes;
  e.out.tile_planes = planes;
  at_ = scratch.take(DType::i64, 2);
}

void TileCounts::reset() {
  for (int i = 0; i < 2; ++i) e_.store(e_.i64(0), e_.at(at_, e_.i64(i), DType::i64), DType::i64, 1);
}

void TileCounts::add(llvm::Value* computed, llvm::Value* all) {
  llvm::Value* const more[] = {computed, all};
  for (int i = 0; i < 2; ++i) {
    llvm::Value* at = e_.at(at_, e_.i64(i), DType::i64);
    e_.store(e_.add(e_.load(at, DType::i64, 1), more[i]), at, DType::i64, 1);
  }
}

// ---- lanes

llvm::Value* as_result(Emitter& e, const Scores& s, int r, llvm::Value* x, int lanes) {
  const DType to = e.kernel.type(e.kernel.body().results[static_cast<std::size_t>(r)]).dtype;
  if (to == s.dtype) return x;
  llvm::Value* const operands[] = {x};
  return emit_elementwise(e, Opcode::cast_, operands, s.dtype, to, lanes);
}

llvm::Value* larger(Emitter& e, llvm::Value* a, llvm::Value* b) {
  return e.ir.CreateSelect(e.ir.CreateFCmpOGT(a, b), a, b);
}

// Vectors i and i + s share a register once each has halved what it must look at: bit s of a lane
// says whose it is.
llvm::Value* largest_of_each(Emitter& e, std::vector<llvm::Value*> x) {
  const int lanes = static_cast<int>(x.size());
  for (int s = lanes / 2; s >= 1; s /= 2) {
    std::vector<int> kept, moved;
    for (int l = 0; l < lanes; ++l) {
      const bool second = (l & s) != 0;
      kept.push_back(second ? lanes + l : l);
      moved.push_back(second ? lanes + (l ^ s) : l ^ s);
    }
    for (int i = 0; i < s; ++i) {
      llvm::Value *a = x[static_cast<std::size_t>(i)], *b = x[static_cast<std::size_t>(i + s)];
      x[static_cast<std::size_t>(i)] = larger(e, e.ir.CreateShuffleVector(a, b, kept),
                                              e.ir.CreateShuffleVector(a, b, moved));
    }
  }
  return x[0];
}
llvm::Value* sum_of_lanes(Emitter& e, llvm::Value* x, int lanes) {
  for (int half = lanes / 2; half >= 1; half /= 2) {
    std::vector<int> low, high;
    for (int k = 0; k < half; ++k) {
      low.push_back(k);
      high.push_back(half + k);
    }
    const auto part = [&](const std::vector<int>& which) -> llvm::Value* {
      if (half > 1) return e.ir.CreateShuffleVector(x, which);
      return e.ir.CreateExtractElement(x, static_cast<std::uint64_t>(which[0]));
    };
    llvm::Value* a = part(low);
    x = e.ir.CreateFAdd(a, part(high));
  }
  return x;
}

}  // namespace gradc
