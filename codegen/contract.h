// Owns what the parts of the contract family share: a contraction seen as batched matrix products,
// and the decisions of blocking. out[batch m n] = Σ_k a[batch m k] · b[batch n k]; every k is added
// in ascending order by one fma chain an element, whatever the tile, the blocks and the number of
// workers. With `pairs` a step of k is two bf16 of each operand, whose products one instruction
// adds to the chain; then panels hold pairs, 32 bits wide, where they else hold elements.
#pragma once

#include <vector>

#include "codegen/values.h"

namespace gradc {

// Axes of one role, outer to inner, those of extent 1 left out; positions in them are one number.
struct AxisRole {
  std::vector<AxisId> axes;
  std::int64_t extent = 1;
};

// How a role lies in one buffer: outer to inner, neighbours that compose merged. At least one.
struct Level {
  std::int64_t extent, stride;
};

struct Operand {
  int buffer = 0;
  std::vector<DType> casts;  // from the buffer's dtype, step by step, to the contraction's
  bool rounds = false;  // pairs: what the casts give is f32 and rounded as it is paired
};

// What a microkernel does between its products about the panel of b that is wanted next. Four steps of
// k make a turn; the first tiles of a block of rows do a share each until it is done.
struct NextPanel {
  enum class Way {
    none,
    copied,   // columns are contiguous: `pace` vectors a turn
    turned,   // k is contiguous: four columns × as many steps as lanes in one of `every` turns
    fetched,  // k is contiguous: only asked for, `columns` a tile
  };
  Way way = Way::none;
  std::int64_t pace = 0, every = 1, columns = 0;
  std::int64_t tiles = 0;  // that it takes
  std::int64_t step = 0, apart = 0;  // of b, in elements: between neighbouring steps of k, columns
  bool packs() const { return way == Way::copied || way == Way::turned; }
};
inline constexpr std::int64_t turn_steps = 4;

struct Contraction {
  OpId op;
  ValueId value;  // the contraction's result
  int result = 0;  // the kernel's result (a buffer) whose layout decides who is n
  std::vector<int> totals;  // results that are sums over all axes of a value behind the contraction
  DType dtype = DType::f32;  // of the result and of sums
  int lanes = 16;
  bool pairs = false;
  Operand a, b;
  AxisRole batch, m, n, k;

  // Register tile: rows × vectors of accumulators; width = vectors · lanes columns.
  int rows = 8, vectors = 3;
  std::int64_t width = 48;
  int last_rows = 0;  // of a microkernel of its own for the last rows; 0: these overlap or are padded
  // Blocks: kc steps of k, mc rows of a. Workers take units of mb rows (at most: tiles are shared out
  // evenly) × nc columns of one product, `grain` at a time, rows first; their partial sums and the
  // packed columns of b are what a worker holds.
  std::int64_t kc = 0, mc = 0, nc = 0, mb = 0, k_blocks = 1;
  bool direct_a = false, direct_b = false;  // read in place rather than packed
  // Few rows against a b whose k is contiguous: b is read in place by rows, `across` columns of the
  // result a call, and a's packed rows lie along the lanes; the tile is transposed behind it.
  bool crossed = false;
  int across = 0;
  bool direct_c = false;  // whole tiles are written by the microkernel itself
  std::int64_t grain = 1;
  NextPanel next;
  bool along_batch = false;  // vectors run along the batch: codegen/contract_lanes.cpp

  std::int64_t element_bytes() const { return bytes(dtype); }  // a pair is as wide as an f32
  std::int64_t elements_a_step() const { return pairs ? 2 : 1; }  // of k
  std::int64_t steps() const { return pairs ? (k.extent + 1) / 2 : k.extent; }
  std::int64_t last_steps() const { return steps() - (k_blocks - 1) * kc; }  // of the last block
  std::int64_t tiles_down() const { return (m.extent + rows - 1) / rows; }
  std::int64_t units_down() const { return m.extent <= mb ? 1 : (m.extent + mb - 1) / mb; }
  DType panel_dtype() const { return pairs ? DType::i32 : dtype; }
  std::int64_t products() const { return batch.extent * m.extent * n.extent * k.extent; }
};

// The kernel's one contraction with every decision made. Pure: a function of kernel, layouts and
// target.
Contraction plan_contraction(const Emitter& e);

std::vector<Level> levels_of(const Emitter& e, const AxisRole& role, int buffer);
// A role's positions p … p + count − 1 with p a multiple of count lie at one stride.
bool even(const std::vector<Level>& levels, std::int64_t count);
// Offset in elements of position `index` (i64) of a role.
llvm::Value* level_offset(Emitter& e, const std::vector<Level>& levels, llvm::Value* index);
// Positions lo … hi − 1 in stretches with one stride: the body gets the stretch [from, to) and
// `base`, so that position p lies at base + p · stride.
using Stretch = llvm::function_ref<void(llvm::Value* from, llvm::Value* to, llvm::Value* base,
                                        std::int64_t stride)>;
void for_stretches(Emitter& e, const std::vector<Level>& levels, llvm::Value* lo, llvm::Value* hi,
                   Stretch body);
// Every axis of the role in `point` at position `index` of the role.
void set_role(Emitter& e, Point& point, const AxisRole& role, const Index& index);

// ---- contract_pack.cpp: void pack(source, panels, from, to, first step of k, last)
// Panels of `size` positions of `role`, each step by step with its positions side by side.
// Positions beyond `to` hold anything: they only reach elements of a tile that are thrown away. Of
// a pair beyond an odd k the second is 0. With `fetches` what lies ahead is asked for; without, the
// caller did. `gap`: elements between panels.
llvm::Function* emit_pack(Emitter& e, const Contraction& c, const Operand& operand,
                          const AxisRole& role, std::int64_t size, bool fetches,
                          std::string_view name, std::int64_t gap = 0);
// Loads of an operand's elements as the contraction reads them.
llvm::Value* load_operand(Emitter& e, const Operand& operand, llvm::Value* address, int lanes,
                          llvm::Value* mask = nullptr);
// Step k at `lanes` positions beside each other, as panels hold it: of a pair the second element lies `apart`
// elements behind the first.
llvm::Value* load_step(Emitter& e, const Contraction& c, const Operand& operand,
                       llvm::Value* address, llvm::Value* k, llvm::Value* apart, int lanes,
                       llvm::Value* mask = nullptr);
llvm::Value* gather_operand(Emitter& e, const Operand& operand, llvm::Value* base,
                            llvm::Value* index, int lanes);
DType stored_dtype(const Emitter& e, const Operand& operand);
// A square block of vectors, as many as lanes (a power of two), with rows and columns exchanged in
// place.
void transpose(Emitter& e, std::vector<llvm::Value*>& rows);
// Four vectors of n 32-bit lanes: in every four lanes, the 4 × 4 block there.
void transpose_fours(Emitter& e, llvm::Value** row, int n);

// ---- contract_pairs.cpp: bf16 by pairs, the first in the lower half of 32 bits
// `lanes` pairs of what load_operand (which then does not round) or a buffer of bf16 gave; the
// second is 0 where `both` (i1; null: everywhere) is off.
llvm::Value* pair_up(Emitter& e, const Operand& operand, llvm::Value* first, llvm::Value* second,
                     int lanes, llvm::Value* both);
// `lanes` pairs from 2 · lanes elements, contiguous in memory.
llvm::Value* load_pairs(Emitter& e, const Operand& operand, llvm::Value* address, int lanes);
// Two vectors of floats, rounded: their pairs of neighbours, those of `low` first.
llvm::Value* neighbours(Emitter& e, llvm::Value* low, llvm::Value* high);
// sum + the products of both pairs, the second pair's first. What is below 2⁻¹²⁶ counts as 0.
llvm::Value* add_pairs(Emitter& e, llvm::Value* a, llvm::Value* b, llvm::Value* sum);

// ---- contract_micro.cpp: void micro(a, b, tile, pitch, steps, fresh)
// tile[r · pitch + j] += Σ_k a[k][r] · b[k][j], or = where fresh is not 0. Strides of a and b in
// elements; of an `a` in place as it is stored. If c.next has a way there are four more parameters, a
// share of the next panel.
struct MicroStrides {
  std::int64_t a_row = 1, a_k, b_k;
};
llvm::Function* emit_micro(Emitter& e, const Contraction& c, const MicroStrides& strides,
                           std::string_view name = "micro");

// ---- contract_next.cpp
NextPanel plan_next_panel(const Emitter& e, const Contraction& c);
// Steps of k that are packed during `count` steps of products.
std::int64_t steps_meanwhile(const Contraction& c, const NextPanel& next, std::int64_t count);
// A tile's share: how many turns, where its columns begin in b, its first step of k, and where it stands
// in its panel.
struct Share {
  llvm::Value *turns, *from, *first, *place;
};
// Turn `turn` of a share; what comes some turns later is fetched into the L2.
void emit_next_turn(Emitter& e, const Contraction& c, const Share& share, llvm::Value* turn);
// Fetches what the first turns of a panel want.
void emit_next_first(Emitter& e, const Contraction& c, const Share& share);

// ---- contract_lanes.cpp: a dot product a lane, lanes along the batch
void emit_along_batch(Emitter& e, const Contraction& c);

}  // namespace gradc
