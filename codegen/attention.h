// Owns what kernels of attention and of its gradient share: the roles of the scores' axes, tiles of
// scores in padded scratch, products of such blocks, and which tiles a mask leaves out. Shapes of
// blocks are facts of operation and target, so that every sum's tree follows from them.
#pragma once

#include <map>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "codegen/contract.h"
#include "ir/attention.h"

namespace gradc {

// A tile: rows × keys (Scores::tile_keys) of one batch position and one position of the other row
// axes.
inline constexpr std::int64_t tile_rows = 64;

// The next plane's arguments are fetched during one if all fit into a quarter of the L2: their rows
// are some lines long and far apart, which no CPU foresees.
bool fetches_planes(const Emitter& e, std::int64_t bytes);

// x = select(value, …, −inf), or with `keeps` false select(value, −inf, …).
struct Condition {
  ValueId value;
  bool keeps = true;
};
// The conditions that must all hold where x is not −inf: its outermost selects.
std::vector<Condition> conditions_of(const Function& f, ValueId x);

// The axes of the scores by role. One of the row axes is tiled: the one whose position or data the
// conditions use, among several the longest; the others are loops around the tiles, as the batch.
struct Scores {
  DType dtype = DType::f32;
  int lanes = 16;
  AxisList axes;           // of a score
  AxisId keys, tiled;      // tiled: invalid where there are no rows
  AxisRole batch, others;  // others: row axes that are not tiled
  std::int64_t row_extent = 1, key_extent = 1;
  // 32 where there are no more: half of each tile would be computed in vain.
  std::int64_t tile_keys = 64;

  std::int64_t row_blocks() const { return (row_extent + tile_rows - 1) / tile_rows; }
  std::int64_t key_blocks() const { return (key_extent + tile_keys - 1) / tile_keys; }
  std::int64_t element_bytes() const { return bytes(dtype); }
  bool is_row(AxisId a) const;
};
Scores plan_scores(const Emitter& e, ValueId score, AxisId keys, const AxisList& rows,
                   const AxisList& batch, const std::vector<Condition>& conditions);
AxisRole role_of(const Emitter& e, const std::vector<AxisId>& axes);
// Axes of an argument that the scores lack, in the order of `order`'s type.
AxisRole features_of(const Emitter& e, const Scores& s, ValueId argument, ValueId order);

// A point of the scores with every axis at 0, but those of the batch and the other rows.
Point plane_point(Emitter& e, const Scores& s, llvm::Value* batch, llvm::Value* other, int lanes);
// The same positions for other lanes.
Point with_lanes(const Point& point, int lanes);

// A worker's local scratch, handed out in pieces.
class Scratch {
 public:
  explicit Scratch(Emitter& e) : e_(e) {}
  llvm::Value* take(DType dtype, std::int64_t elements);

 private:
  Emitter& e_;
};

// Products of blocks in scratch, whose rows and columns may be computed beyond what exists. Every
// element is one ascending chain of fma.
class Products {
 public:
  Products(Emitter& e, const Scores& s);
  // Columns of a block that has n: a multiple of the vectors that one microkernel computes.
  std::int64_t padded(std::int64_t n) const;
  struct Factor {  // element (r, k) at r · row + k · along
    llvm::Value* base;
    std::int64_t row, along;
    bool pairs = false;  // a step of k is two bf16 of both factors, in 32 bits
  };
  // c[rows × columns] = a · b, or += where it is not fresh; b[k][column] and c[row][column] lie at
  // a pitch of `columns`, which is padded. c and a have rows up to the next multiple of 16. With
  // `wanted`, only those of the columns [first, second) and what a microkernel computes beside them.
  using Range = std::pair<llvm::Value*, llvm::Value*>;
  void multiply(const Factor& a, llvm::Value* b, llvm::Value* c, llvm::Value* rows,
                std::int64_t columns, llvm::Value* count, bool fresh,
                const Range* wanted = nullptr);

 private:
  int vectors(std::int64_t columns) const;
  Emitter& e_;
  const Scores& s_;
  std::map<std::tuple<int, int, std::int64_t, std::int64_t, std::int64_t, bool>, llvm::Function*>
      micro_;
};

// Whether the scores of two arguments can be multiplied by pairs of features: both lie in memory in
// bf16, `rows` with an even number of features side by side, and the target has such products. What
// they are exact in f32 anyway; only their sums are rounded at other places.
bool by_pairs(const Emitter& e, const Scores& s, ValueId rows, ValueId keys,
              const AxisRole& features);

// Blocks of an argument in scratch, in the scores' dtype: positions of one axis of the scores and
// the argument's features.
class Blocks {
 public:
  // `turned`: element (feature, position) at feature · tile_keys + position, else (position, feature) at
  // position · padded features + feature. Pairs (of bf16, in 32 bits) stand for two neighbours along
  // features, which are not padded then, or along positions. `axis` may be invalid: one position.
  enum Pairs : char { none, of_features, of_positions };
  struct Layout {
    bool turned = false;
    Pairs pairs = none;
    friend bool operator==(const Layout&, const Layout&) = default;
  };
  Blocks(Emitter& e, const Scores& s, const Products& products, ValueId argument, AxisId axis,
         const AxisRole& features, Layout layout);
  std::int64_t pitch() const { return pitch_; }
  std::int64_t steps() const { return steps_; }  // of k in a product over the features
  std::int64_t elements() const { return elements_; }  // of one block of 64 positions
  // Fills a block with positions from … to − 1 at a plane's point.
  void pack(const Point& plane, llvm::Value* from, llvm::Value* to, llvm::Value* block);
  std::int64_t plane_bytes() const;  // what a plane has of the argument
  // Asks for all of that, into the L2. The plane need not exist.
  void fetch(const Point& plane);

 private:
  Point first_of(const Point& plane) const;
  llvm::Function* emit_copy_of_pairs(const AxisRole& positions);
  Emitter& e_;
  const Scores& s_;
  int buffer_;
  AxisId axis_;
  AxisRole features_;
  Layout layout_;
  std::int64_t pitch_, steps_, elements_;
  llvm::Function* function_;
};

// A tile in bf16 for products by pairs, as far as there are places for it: pairs of keys row by row,
// pairs of rows key by key.
struct RoundedTile {
  llvm::Value *along_keys = nullptr, *along_rows = nullptr;
};
// Rounds the tile's first `rows`. What does not exist beside the last row or key is 0; `keys`: how many
// there are; null: an even number.
void round_tile(Emitter& e, const Scores& s, llvm::Value* tile, const RoundedTile& to,
                llvm::Value* rows, llvm::Value* keys);

// Values without the keys' axis that a map needs: computed once a row and not in every vector.
class RowValues {
 public:
  // What the `roots` need; `bound` values are given.
  RowValues(Emitter& e, const Scores& s, const std::vector<ValueId>& roots,
            const std::vector<ValueId>& bound);
  // Computes them at a row; `bind` gives them to the values of a vector of that row.
  void compute(const Point& row);
  void bind(Values& values) const;

 private:
  Emitter& e_;
  std::vector<ValueId> values_;
  std::vector<llvm::Value*> computed_;
};

// Which tiles the conditions leave something of: integers as intervals, truths as (possible,
// certain), over the positions of a tile. Data that has one of a tile's two axes is known by its
// least and greatest value in each block; what has both and is not computed from positions and such
// data is unknown.
class TileMask {
 public:
  TileMask(Emitter& e, const Scores& s, std::vector<Condition> conditions, Scratch& scratch);
  bool empty() const { return conditions_.empty(); }
  // The bounds of data, for a plane.
  void prepare(const Point& plane);
  struct Verdict {
    llvm::Value *possible, *certain;  // i1: some score of the tile is kept; all are
  };
  // Rows and keys from … last, of blocks `row_block` and `key_block`.
  struct Tile {
    llvm::Value *row, *row_last, *row_block, *key, *key_last, *key_block;
  };
  Verdict judge(const Point& plane, const Tile& tile);
  // Gives `values` the conditions of a tile where all scores are kept.
  void bind_kept(Values& values) const;

 private:
  friend class TileBounds;
  enum class Known : char { no, rule, leaf, uniform };
  Known classify(ValueId v) const;
  bool has(ValueId v, AxisId axis) const;
  Emitter& e_;
  const Scores& s_;
  std::vector<Condition> conditions_;
  std::vector<ValueId> order_;      // what is needed, operands first
  std::vector<Known> known_;        // by ValueId.index, of what is needed
  std::vector<char> positional_;    // by ValueId.index: made of positions and uniform values alone
  std::vector<llvm::Value*> leaf_;  // by ValueId.index: pairs of i64 by block
};

// Of a tile that a mask leaves in part (on the diagonal of a causal one, say): strips of 16 rows
// with the keys that reach from the first to the last 16 of which something is kept, and strips of
// keys with such rows. What lies outside need not be computed.
class TileStrips {
 public:
  static constexpr std::int64_t strip = 16, strips = tile_rows / strip;
  TileStrips(Emitter& e, const Scores& s, TileMask& mask, Scratch& scratch);
  void find(const Point& plane, const TileMask::Tile& tile);
  // `count` positions from `first` on within the tile, and the range of the other side's [from, to).
  struct Strip {
    llvm::Value *first, *count, *from, *to;
  };
  using Body = llvm::function_ref<void(const Strip&)>;
  void each_of_rows(llvm::Value* row_count, Body body) const { each(rows_, row_count, body); }
  void each_of_keys(llvm::Value* key_count, Body body) const { each(keys_, key_count, body); }
  // Zeros where a row of the tile at `base` has nothing.
  void clear_rest(llvm::Value* base, DType dtype) const;

 private:
  struct Side {
    llvm::Value *from = nullptr, *to = nullptr;  // i64 by strip, in scratch
  };
  void each(const Side& side, llvm::Value* count, Body body) const;
  llvm::Value* get(llvm::Value* of, llvm::Value* i) const;
  void put(llvm::Value* of, llvm::Value* i, llvm::Value* x) const;
  Emitter& e_;
  const Scores& s_;
  TileMask& mask_;
  Side rows_, keys_;
};

// Tiles computed and tiles in all, kept at the head of a worker's local scratch
// (Compiled::tiles_at).
class TileCounts {
 public:
  TileCounts(Emitter& e, Scratch& scratch, std::int64_t planes);
  void reset();
  void add(llvm::Value* computed, llvm::Value* all);

 private:
  Emitter& e_;
  llvm::Value* at_;
};

// x, which has the scores' dtype, as result r holds it: that may be a cast of what is computed.
llvm::Value* as_result(Emitter& e, const Scores& s, int r, llvm::Value* x, int lanes);

// max(a, b) where b is not NaN, one instruction.
llvm::Value* larger(Emitter& e, llvm::Value* a, llvm::Value* b);
// Of as many vectors as lanes, a power of two: lane i is the largest lane of vector i (NaN passed
// over).
llvm::Value* largest_of_each(Emitter& e, std::vector<llvm::Value*> x);
// By halves.
llvm::Value* sum_of_lanes(Emitter& e, llvm::Value* x, int lanes);

}  // namespace gradc
