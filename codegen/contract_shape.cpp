// Axes of a contraction by role, their layouts, and the choice of tile, blocks and split.
#include <algorithm>
#include <cstdlib>
#include <tuple>
#include <utility>

#include "codegen/contract.h"
#include "ir/kernel.h"

namespace gradc {
namespace {

constexpr std::int64_t page = 4096;

std::int64_t round_up(std::int64_t x, std::int64_t to) { return (x + to - 1) / to * to; }
std::int64_t round_down(std::int64_t x, std::int64_t to) { return x / to * to; }
std::int64_t parts(std::int64_t x, std::int64_t of) { return (x + of - 1) / of; }

Operand find_operand(const Emitter& e, ValueId v) {
  Operand out;
  for (;;) {
    const OpId def = e.kernel.value(v).def;
    if (!def.valid()) break;
    const Op& op = e.kernel.op(def);
    if (op.code != Opcode::cast_)
      internal_error("a contraction's operand is neither an argument nor a cast of one");
    out.casts.insert(out.casts.begin(), e.kernel.type(v).dtype);
    v = op.operands[0];
  }
  out.buffer = e.buffer_of(v);
  return out;
}

// Outer to inner by the stride in `first`, then in `second`, else as the type lists them.
void order(const Emitter& e, std::vector<AxisId>& axes, int first, int second) {
  std::vector<std::tuple<std::int64_t, std::int64_t, std::size_t>> keys;
  for (std::size_t i = 0; i < axes.size(); ++i)
    keys.emplace_back(-std::abs(e.stride(first, axes[i])), -std::abs(e.stride(second, axes[i])), i);
  std::sort(keys.begin(), keys.end());
  std::vector<AxisId> sorted;
  for (const auto& key : keys) sorted.push_back(axes[std::get<2>(key)]);
  axes = std::move(sorted);
}

// The smallest stride of a role in a buffer: 1 where its axes are what is contiguous there.
std::int64_t nearest(const Emitter& e, const AxisRole& role, int buffer) {
  std::int64_t least = INT64_MAX;
  for (AxisId a : role.axes) least = std::min(least, std::abs(e.stride(buffer, a)));
  return least;
}

// Work of the register tile that suits m × n × k best, in vector instructions a k: accumulators,
// plus what loading a row or a vector costs beside them (twice as much for a panel of b that the L1
// does not hold), plus a call; last rows that are fewer cost a little more. Fewer than 8
// chains cannot hide the latency of an fma, and fewer than 12 seldom do. `along_m`: a is read along its
// columns, a line of it for every step of k, so that a tile of more rows reads fewer lines of a and b.
struct Tile {
  int rows = 1, vectors = 1;
  double cost = 0;
};
Tile best_tile(const Target& target, int lanes, std::int64_t m, std::int64_t n, std::int64_t k,
               bool along_m = false) {
  Tile best{.cost = -1};
  // What LLVM 19 keeps in registers with four k unrolled: some are taken by the broadcast and by
  // loads that it moves up, and by products where there is no fma. tests/unit/codegen/contract.cpp
  // watches it.
  const bool fused = target.name != "portable";
  const int free = target.registers - target.registers / 8 - (fused ? 0 : 3);
  for (int rows = 1; rows <= target.registers / 2; ++rows)
    for (int vectors = 1; vectors <= 8; ++vectors) {
      if (rows * vectors + vectors > free) continue;
      if (rows > 1 && rows > m) continue;
      if (vectors > 1 && vectors > parts(n, lanes)) continue;
      const bool far =
          std::min<std::int64_t>(k, 1024) * vectors * target.vector_bytes > target.l1_bytes * 3 / 4;
      const auto step = [&](int of) {
        return std::max(of * vectors, 8) + 0.15 * of + (far ? 0.3 : 0.15) * vectors +
               30.0 / static_cast<double>(std::max<std::int64_t>(k, 1));
      };
      const double down = static_cast<double>(m / rows) * step(rows) +
                          (m % rows == 0 ? 0 : step(static_cast<int>(m % rows)));
      const bool preferred =
          along_m ? rows == target.column_rows && vectors == target.column_vectors
                  : rows == target.tile_rows && vectors == target.tile_vectors;
      const double cost = down * static_cast<double>(parts(n, vectors * lanes)) *
                          (!preferred ? 1.0 : along_m ? 0.94 : 0.98) *
                          (rows * vectors < 12 ? 1.08 : 1.0) * (m % rows == 0 ? 1.0 : 1.01);
      if (best.cost < 0 || cost < best.cost) best = {rows, vectors, cost};
    }
  return best;
}

// Whether so many lines, `stride` bytes apart, push each other out of the L2 while as many are
// fetched ahead: a multiple of a power of two meets few of its sets.
bool crowd_l2(const Target& target, std::int64_t stride, std::int64_t lines) {
  return 2 * lines >= target.l2_bytes / std::max<std::int64_t>(stride & -stride, 64);
}

// The products of a step of k, as many as a tile has vectors, hide where its lines of a come from.
bool hides_lines(const Contraction& c) { return c.rows * c.vectors >= 24; }

// Lines `stride` bytes apart, as many as there are rows to a tile, that are read along: whether
// they push each other out. Pages apart they also meet in a single set of the L1, of which b's panel
// takes two ways meanwhile; a small tile has too few products to wait for any that it loses.
bool conflicts(const Target& target, const Contraction& c, std::int64_t stride) {
  const bool pages = stride != 0 && stride % page == 0;
  return (pages && (!hides_lines(c) || c.rows + 2 > target.l1_bytes / page)) ||
         crowd_l2(target, stride, c.rows);
}

// Whether an a that is read along its columns wants packing: a line of it for every step of k, `apart`
// bytes behind the one before, beyond what the processor fetches ahead by itself. The products of
// a large tile hide where it comes from, up to some pages.
bool far_apart(const Target& target, const Contraction& c, std::int64_t apart) {
  if (c.k.extent <= 32) return false;
  if (hides_lines(c)) return apart > 2 * page;
  return apart >= page || crowd_l2(target, apart, c.kc);
}

void choose_roles(const Emitter& e, Contraction& c, AxisRole only_a, AxisRole only_b) {
  const int out = e.argument_count() + c.result;
  const auto exchange = [&] {
    std::swap(c.a, c.b);
    std::swap(only_a, only_b);
  };
  // Columns are what lies contiguously in the result, unless vectors would stay mostly empty.
  if (nearest(e, only_a, out) < nearest(e, only_b, out)) exchange();
  const Tile as_is = best_tile(e.target, c.lanes, only_a.extent, only_b.extent, c.steps());
  const Tile other = best_tile(e.target, c.lanes, only_b.extent, only_a.extent, c.steps());
  if (other.cost * 2 < as_is.cost) exchange();
  c.m = std::move(only_a);
  c.n = std::move(only_b);
}

// The kernel computes nothing behind the contraction: it is the only result.
bool plain(const Emitter& e, const Contraction& c) {
  return e.kernel.body().results.size() == 1 && e.kernel.body().results[0] == c.value;
}

// Units for workers to take: small enough that they end together, large enough that what each packs
// is little beside what it computes. The estimates are for two workers, in vector operations.
void choose_units(const Emitter& e, Contraction& c) {
  const std::int64_t size = c.element_bytes(), m = c.m.extent, n = c.n.extent;
  const std::int64_t column = c.kc * size, panels = parts(n, c.width);
  // Columns that a worker may hold packed.
  const std::int64_t b_bytes = m <= c.mc ? e.target.l2_bytes / 2 : (std::int64_t{5} << 19);
  const std::int64_t most =
      std::clamp(round_down(b_bytes / column, c.width), c.width, panels * c.width);
  const std::int64_t batch = std::max<std::int64_t>(c.batch.extent, 1),
                     products = std::max<std::int64_t>(m * n * c.k.extent, 1),
                     wanted = std::clamp<std::int64_t>(products >> 18, 1, parts(64, batch));
  // At least `least` rows, and if all units are few then an even number of them.
  const auto rows_of = [&](std::int64_t units, std::int64_t least) {
    std::int64_t down = std::clamp<std::int64_t>(m / least, 1, units);
    const std::int64_t all = batch * parts(n, c.nc) * down;
    if (all % 2 != 0 && all < 16 && wanted > 1 && m >= 4 * c.rows) down += down == 1 ? 1 : -1;
    return round_up(parts(m, down), c.rows);
  };
  if (c.direct_a) {
    // All of a streams by for every unit of columns: a single panel while the L2 has it, more from
    // farther away.
    const std::int64_t a_bytes = m * c.k.extent * bytes(stored_dtype(e, c.a));
    const std::int64_t together = a_bytes <= (std::int64_t{16} << 20) ? 1 : 8;
    c.nc = std::min({most, together * c.width, parts(panels, 2) * c.width});
    c.mb = rows_of(c.k_blocks > 1 ? 1 : parts(wanted, parts(n, c.nc)),
                   (c.nc > c.width ? 16 : 8) * c.rows);
    // Rows in place come from farther caches as well, and a long block of them has many tiles between
    // whose products the next panel is packed.
    c.mc = std::max(c.mc, round_down((std::int64_t{2} << 20) / column, c.rows));
  } else {
    // Packing a for every unit of columns against packing all of b by every worker.
    const auto shared = [](std::int64_t extent, std::int64_t unit, std::int64_t other) {
      const double mine = static_cast<double>(parts(parts(extent, unit), 2) * unit),
                   all = static_cast<double>(other);
      return mine * (all + 5) + 5 * all;
    };
    const bool by_columns = shared(n, c.width, m) < shared(m, c.rows, n);
    c.nc = std::min(most, (by_columns ? parts(panels, 2) : panels) * c.width);
    c.mb = rows_of(parts(wanted, parts(n, c.nc)), c.k_blocks > 1 ? 192 : 8 * c.rows);
  }
  if (c.k_blocks > 1)
    c.mb = std::min(c.mb, std::max(round_down((std::int64_t{4} << 20) / (c.nc * size), c.rows),
                                   std::int64_t{c.rows}));
  c.mc = std::min(c.mc, c.mb);
  c.grain = std::clamp<std::int64_t>((std::int64_t{1} << 17) / products, 1, parts(batch, 16));
}

// How often a b that is not packed may be read, a tile of rows each time. With few registers more
// often: a tile then has less than all rows of a recurrence, if it is to read whole lines.
std::int64_t turns_in_place(const Target& target, std::int64_t m) {
  return target.registers < 32 && m <= 16 ? 4 : 2;
}

// A step of a recurrence has a few rows, for which b would be packed anew at every step: it is read
// in place where a tile goes evenly into its columns, or, where its k is contiguous, across.
void choose_for_few_rows(const Emitter& e, Contraction& c) {
  const std::int64_t m = c.m.extent, n = c.n.extent;
  const std::vector<Level> lies = levels_of(e, c.n, c.b.buffer),
                           along = levels_of(e, c.k, c.b.buffer);
  if (m > 16 || m < 2 || c.pairs || !c.b.casts.empty() || stored_dtype(e, c.b) != c.dtype ||
      along.size() != 1)
    return;
  if (along[0].stride == 1 && lies.back().stride != 1) {
    c.crossed = m <= 2 * c.lanes && 2 * m > c.lanes && c.lanes >= 8 && n % c.lanes == 0 &&
                even(lies, c.lanes) && c.k_blocks == 1 && c.k.extent > 0;
    if (!c.crossed) return;
    // Eight chains at least; of columns that lie pages apart no more than a set of the L1 keeps.
    c.vectors = static_cast<int>(parts(m, c.lanes));
    c.across = c.vectors == 1 ? c.lanes : 8 / c.vectors;
    c.rows = c.vectors * c.lanes;
    c.width = c.lanes;
    c.mc = c.rows;
    c.direct_a = c.direct_c = false;
    c.direct_b = true;
    return;
  }
  if (lies.back().stride != 1) return;
  const int free = e.target.registers - e.target.registers / 8;
  double least = 1e9;  // products and loads for a step of k, a vector of columns
  for (int rows = 4; rows <= 16; ++rows)
    for (int vectors = 1; vectors <= 4; ++vectors) {
      const double work = static_cast<double>(parts(m, rows)) *
                          (rows * vectors + 0.5 * (rows + vectors)) / vectors;
      if (rows * vectors < 8 || rows * vectors + vectors > free || rows > m ||
          parts(m, rows) > turns_in_place(e.target, m) || n % (vectors * c.lanes) != 0 ||
          vectors * c.lanes * c.element_bytes() < 64 || work >= least)
        continue;
      least = work;
      c.rows = rows;
      c.vectors = vectors;
      c.width = static_cast<std::int64_t>(vectors) * c.lanes;
    }
  c.mc = std::max<std::int64_t>(round_down(c.mc, c.rows), c.rows);
}

void choose_blocks(const Emitter& e, Contraction& c) {
  const std::int64_t size = c.element_bytes(), m = c.m.extent, n = c.n.extent, k = c.steps();
  const int out = e.argument_count() + c.result;
  const bool along_m = m > 1 && levels_of(e, c.m, c.a.buffer).back().stride == 1;
  const Tile tile = best_tile(e.target, c.lanes, m, n, k, along_m);
  c.rows = tile.rows;
  c.vectors = tile.vectors;
  c.width = static_cast<std::int64_t>(c.vectors) * c.lanes;

  // k in one block while a panel of a stays near the L1, longer where its rows are read in place;
  // else even blocks, partial sums kept in scratch.
  const std::vector<Level> a_lies = levels_of(e, c.m, c.a.buffer),
                           a_along = levels_of(e, c.k, c.a.buffer);
  const std::int64_t a_bytes = bytes(stored_dtype(e, c.a));
  const bool clash = m > 4 * c.rows && conflicts(e.target, c, a_lies.back().stride * a_bytes);
  const bool rows_in_place = a_along.size() == 1 && a_along[0].stride == 1 && !clash;
  const std::int64_t whole = (rows_in_place ? 8192 : 4096) / size;
  c.k_blocks = k <= whole ? 1 : parts(k, whole * 3 / 4);
  c.kc = c.k_blocks == 1 ? std::max<std::int64_t>(k, 1) : round_up(parts(k, c.k_blocks), 4);
  c.k_blocks = parts(std::max<std::int64_t>(k, 1), c.kc);
  const std::int64_t column = c.kc * size;
  c.mc = std::clamp(round_down(e.target.l2_bytes / 4 / column, c.rows), std::int64_t{c.rows},
                    round_up(m, c.rows));

  choose_for_few_rows(e, c);
  if (c.crossed) return choose_units(e, c);

  // Where strides are constant, rows of a are read in place: broadcasts do not care how far apart
  // they lie; pairs must be neighbours. The last rows may then overlap those before
  // them (Product::tile). b must be packed to be streamed, but for a few rows and where its steps
  // are so few lines apart that panels do not lie much farther apart than packed.
  const std::vector<Level> b_lies = levels_of(e, c.n, c.b.buffer);
  const bool as_is = c.a.casts.empty() && !c.a.rounds &&
                     (c.pairs ? a_along.back().stride == 1 && c.k.extent % 2 == 0
                              : stored_dtype(e, c.a) == c.dtype);
  c.direct_a = as_is && a_along.size() == 1 &&
               (a_lies.size() == 1 || (m % c.rows == 0 && even(a_lies, c.rows)));
  if (clash || far_apart(e.target, c, a_along.back().stride * a_bytes)) c.direct_a = false;
  const std::vector<Level> b_along = levels_of(e, c.k, c.b.buffer);
  const bool narrow = b_along.back().stride * size <= 512;
  c.direct_b = (narrow || parts(m, c.rows) <= turns_in_place(e.target, m)) &&
               c.b.casts.empty() && !c.pairs && stored_dtype(e, c.b) == c.dtype &&
               b_along.size() == 1 && n % c.width == 0 &&
               even(b_lies, c.width) && b_lies.back().stride == 1;
  const std::vector<Level> across = levels_of(e, c.n, out);
  c.direct_c = plain(e, c) && c.k_blocks == 1 && across.back().stride == 1 &&
               even(across, c.width) && even(levels_of(e, c.m, out), c.rows);

  choose_units(e, c);
  // Last rows get a microkernel of their own where it spares some thousandths.
  const std::int64_t rest = m % c.rows;
  if (m > c.rows && rest != 0 && (c.rows - rest) * 200 >= m) c.last_rows = static_cast<int>(rest);
}

// A short contraction over many batches does better with a dot product a lane. Costs in vector
// instructions: packing, a call and a tile for each batch against loads for every product.
void choose_along_batch(const Emitter& e, Contraction& c) {
  const double m = static_cast<double>(c.m.extent), n = static_cast<double>(c.n.extent),
               k = static_cast<double>(c.k.extent);
  const Tile tile = best_tile(e.target, c.lanes, c.m.extent, c.n.extent, c.k.extent);
  const double tiled = tile.cost * k + (m + n) * k * 0.4 + 120;
  const double lanes = m * n * k * 12 / c.lanes;
  // Pairs: a lane's chain would have another order than a tile's.
  c.along_batch = !c.pairs && c.batch.extent >= c.lanes && lanes < tiled && c.totals.empty();
}

}  // namespace

std::vector<Level> levels_of(const Emitter& e, const AxisRole& role, int buffer) {
  std::vector<Level> out;
  for (AxisId a : role.axes) {
    const std::int64_t extent = e.kernel.extent(a), stride = e.stride(buffer, a);
    if (!out.empty() && out.back().stride == stride * extent)
      out.back() = {out.back().extent * extent, stride};
    else
      out.push_back({extent, stride});
  }
  if (out.empty()) out.push_back({1, 1});
  return out;
}

bool even(const std::vector<Level>& levels, std::int64_t count) {
  return levels.size() == 1 || levels.back().extent % count == 0;
}

Contraction plan_contraction(const Emitter& e) {
  Contraction c;
  for (OpId o : e.kernel.body().ops)
    if (e.kernel.op(o).code == Opcode::contract_) c.op = o;
  const Op& op = e.kernel.op(c.op);
  c.value = op.results[0];
  c.dtype = e.kernel.type(c.value).dtype;
  c.lanes = e.target.vector_bytes / bytes(c.dtype);
  c.a = find_operand(e, op.operands[0]);
  c.b = find_operand(e, op.operands[1]);
  c.pairs = e.target.bf16_dot && e.kernel.type(op.operands[0]).dtype == DType::bf16;
  for (Operand* o : {&c.a, &c.b})
    if (c.pairs && !o->casts.empty()) {
      o->casts.pop_back();
      o->rounds = true;
    }
  const std::vector<ValueId>& results = e.kernel.body().results;
  int whole = -1;
  for (std::size_t r = 0; r < results.size(); ++r) {
    const OpId def = e.kernel.value(results[r]).def;
    if (def.valid() && is_total(e.kernel, e.kernel.op(def)))
      c.totals.push_back(static_cast<int>(r));
    else if (whole < 0 || results[r] == c.value)
      whole = static_cast<int>(r);
  }
  c.result = whole;

  const Type &a = e.kernel.type(op.operands[0]), &b = e.kernel.type(op.operands[1]),
             &out = e.kernel.type(c.value);
  AxisRole only_a, only_b;
  const auto put = [&](AxisRole& role, AxisId axis) {
    role.extent *= e.kernel.extent(axis);
    if (e.kernel.extent(axis) != 1) role.axes.push_back(axis);
  };
  // The order of k is the operation's, not the layout's: it decides the bits.
  for (AxisId x : a.axes)
    put(!out.axes.contains(x) ? c.k : b.axes.contains(x) ? c.batch : only_a, x);
  for (AxisId x : b.axes)
    if (!a.axes.contains(x)) put(only_b, x);
  choose_roles(e, c, std::move(only_a), std::move(only_b));
  const int to = e.argument_count() + c.result;
  order(e, c.batch.axes, to, c.a.buffer);
  order(e, c.m.axes, c.a.buffer, to);
  order(e, c.n.axes, to, c.b.buffer);
  choose_blocks(e, c);
  c.next = plan_next_panel(e, c);
  choose_along_batch(e, c);
  return c;
}

llvm::Value* level_offset(Emitter& e, const std::vector<Level>& levels, llvm::Value* index) {
  llvm::Value* sum = nullptr;
  for (std::size_t i = levels.size(); i-- > 0;) {
    const Level& level = levels[i];
    llvm::Value* here = index;
    if (i > 0) {
      here = e.ir.CreateURem(index, e.i64(level.extent));
      index = e.ir.CreateUDiv(index, e.i64(level.extent));
    }
    llvm::Value* term = e.mul(here, level.stride);
    sum = sum == nullptr ? term : e.add(sum, term);
  }
  return sum;
}

void for_stretches(Emitter& e, const std::vector<Level>& levels, llvm::Value* lo, llvm::Value* hi,
                   Stretch body) {
  const Level inner = levels.back();
  if (levels.size() == 1) return body(lo, hi, e.i64(0), inner.stride);
  const std::vector<Level> outer(levels.begin(), levels.end() - 1);
  llvm::Value* first = e.ir.CreateUDiv(lo, e.i64(inner.extent));
  e.loop(first, e.ceil_div(hi, inner.extent), 1, [&](llvm::Value* o) {
    llvm::Value* begin = e.mul(o, inner.extent);
    llvm::Value* base = e.ir.CreateSub(level_offset(e, outer, o), e.mul(begin, inner.stride));
    body(e.max(lo, begin), e.min(hi, e.add(begin, inner.extent)), base, inner.stride);
  });
}

void set_role(Emitter& e, Point& point, const AxisRole& role, const Index& index) {
  Index rest = index;
  std::int64_t extent = role.extent;
  for (std::size_t i = role.axes.size(); i-- > 0;) {
    const std::int64_t here = e.kernel.extent(role.axes[i]);
    if (i == 0) {
      point.index[role.axes[i].index] = rest;
      break;
    }
    const auto [outer, inner] = divide(e, rest, here, extent, point.lanes);
    point.index[role.axes[i].index] = inner;
    rest = outer;
    extent /= here;
  }
}

}  // namespace gradc
