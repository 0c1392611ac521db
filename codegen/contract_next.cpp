// The panel of b that is wanted next, packed by the microkernel between its products: loads, stores
// and shuffles that find their units idle, where a function that packs has to wait for memory.
#include <algorithm>

#include "codegen/contract.h"

namespace gradc {
namespace {

constexpr std::int64_t line = 64;
// Turns from asking for a line to loading it: a turn's products take some tens of cycles.
constexpr std::int64_t distance = 24;

// Steps of k that stay together: as many as a fast pace copies in a turn.
std::int64_t steps_at_once(const Contraction& c, std::int64_t pace) {
  return std::max<std::int64_t>(1, pace / c.vectors);
}

// The first column and the first step of the four columns × as many steps as lanes that a turn turns:
// all columns before the next steps.
std::pair<llvm::Value*, llvm::Value*> square(Emitter& e, const Contraction& c, llvm::Value* turn) {
  const std::int64_t fours = c.width / 4;
  llvm::Value* number = e.ir.CreateUDiv(turn, e.i64(c.next.every));
  return {e.mul(e.ir.CreateURem(number, e.i64(fours)), 4),
          e.mul(e.ir.CreateUDiv(number, e.i64(fours)), c.lanes)};
}

// Where step `step` behind a share's first stands.
llvm::Value* at_step(Emitter& e, const Contraction& c, const Share& share, llvm::Value* step) {
  llvm::Value* k = e.mul(e.add(share.first, step), c.elements_a_step());
  return e.at(share.from, level_offset(e, levels_of(e, c.k, c.b.buffer), k), stored_dtype(e, c.b));
}

// Of turn `turn` the i-th vector to copy: its step of k.
llvm::Value* step_of(Emitter& e, const Contraction& c, llvm::Value* turn, std::int64_t i) {
  const std::int64_t parts = c.vectors / c.next.pace;  // of a step, or 0
  return parts > 0 ? e.ir.CreateUDiv(turn, e.i64(parts))
                   : e.add(e.mul(turn, c.next.pace / c.vectors), i / c.vectors);
}

// The same, or the i-th column of the four to turn: where it lies.
llvm::Value* source(Emitter& e, const Contraction& c, const Share& share, llvm::Value* turn,
                    std::int64_t i) {
  const NextPanel& next = c.next;
  llvm::Value *step, *offset;
  if (next.way == NextPanel::Way::copied) {
    const std::int64_t parts = c.vectors / next.pace;
    step = step_of(e, c, turn, i);
    offset = e.i64(i % c.vectors * c.lanes);
    if (parts > 1)
      offset = e.add(offset, e.mul(e.ir.CreateURem(turn, e.i64(parts)), next.pace * c.lanes));
  } else {
    const auto [column, first] = square(e, c, turn);
    step = first;
    offset = e.mul(e.add(column, i), next.apart);
  }
  return e.at(at_step(e, c, share, step), offset, stored_dtype(e, c.b));
}

void fetch(Emitter& e, const Contraction& c, const Share& share, llvm::Value* turn) {
  const NextPanel& next = c.next;
  const DType stored = stored_dtype(e, c.b);
  const bool copied = next.way == NextPanel::Way::copied;
  const std::int64_t vectors = copied ? next.pace : 4, rows = copied ? c.elements_a_step() : 1,
                     run = copied ? c.lanes : c.lanes * c.elements_a_step();
  const bool aligned = (copied ? next.step : next.apart) * bytes(stored) % line == 0;
  for (std::int64_t i = 0; i < vectors; ++i)
    for (std::int64_t p = 0; p < rows; ++p) {
      llvm::Value* at = source(e, c, share, turn, i);
      if (p > 0) at = e.at(at, e.i64(next.step / 2), stored);
      e.prefetch_run(at, run * bytes(stored), false, false);
      if (!aligned) e.prefetch(e.at(at, e.i64(run - 1), stored), false, false);  // its other line
    }
}

// The two elements of a pair are neighbours in one stretch of k; the second may lack at the very end.
bool pairs_together(const Contraction& c, const std::vector<Level>& along) {
  return !c.pairs || along.size() == 1 || along.back().extent % 2 == 0;
}

}  // namespace

std::int64_t steps_meanwhile(const Contraction& c, const NextPanel& next, std::int64_t count) {
  const std::int64_t turns = count / turn_steps;
  if (next.way == NextPanel::Way::turned)
    return turns / next.every / (c.width / 4) * c.lanes;
  const std::int64_t at_once = steps_at_once(c, next.pace);
  return turns * next.pace / c.vectors / at_once * at_once;
}

NextPanel plan_next_panel(const Emitter& e, const Contraction& c) {
  NextPanel next;
  const std::vector<Level> n = levels_of(e, c.n, c.b.buffer), k = levels_of(e, c.k, c.b.buffer);
  if (c.direct_b || c.k.extent == 0) return next;
  // Of a single panel all rows are done before the next is wanted, of several those of a block.
  const std::int64_t unit = std::min(c.tiles_down() / c.units_down() * c.rows, c.m.extent),
                     rows = c.nc <= c.width ? unit : std::min(c.mc, unit),
                     tiles = std::max<std::int64_t>(1, rows / c.rows),
                     last = c.last_steps();
  next.step = k.back().stride * c.elements_a_step();
  next.apart = n.back().stride;
  const bool regular = even(n, c.width) && pairs_together(c, k);
  const auto fits = [&](std::int64_t at_once) {
    const std::int64_t steps = steps_meanwhile(c, next, last);
    if (steps == 0 || c.kc % at_once != 0 || last % at_once != 0) return false;
    next.tiles = (c.kc + steps - 1) / steps;
    return next.tiles <= tiles;
  };
  if (next.apart == 1 && regular) {
    next.way = NextPanel::Way::copied;
    for (next.pace = 1; next.pace <= 2 * c.vectors; ++next.pace)
      if ((c.vectors % next.pace == 0 || next.pace % c.vectors == 0) &&
          fits(steps_at_once(c, next.pace)))
        return next;
    return {};
  }
  if (k.back().stride != 1) return {};
  next.way = NextPanel::Way::turned;
  if (regular && k.size() == 1 && c.element_bytes() == 4 && c.lanes >= 16 &&
      !(c.pairs && c.k.extent % 2 != 0))
    for (next.every = 4; next.every > 0; next.every /= 2)
      if (fits(c.lanes)) return next;
  next.way = NextPanel::Way::fetched;
  const std::int64_t shares = std::min<std::int64_t>(tiles, 16);
  next.columns = (c.width + shares - 1) / shares;
  return next.columns <= 8 ? next : NextPanel{};
}

void emit_next_turn(Emitter& e, const Contraction& c, const Share& share, llvm::Value* turn) {
  const NextPanel& next = c.next;
  const DType stored = stored_dtype(e, c.b), panel = c.panel_dtype();
  if (next.way == NextPanel::Way::fetched) {
    llvm::Value* from =
        e.at(at_step(e, c, share, e.i64(0)), e.mul(turn, line / bytes(stored)), stored);
    for (std::int64_t i = 0; i < next.columns; ++i)
      e.prefetch(e.at(from, e.i64(i * next.apart), stored), false, false);
    return;
  }
  if (next.way == NextPanel::Way::copied) {
    for (std::int64_t i = 0; i < next.pace; ++i) {
      llvm::Value* step = e.add(share.first, step_of(e, c, turn, i));
      llvm::Value* x = load_step(e, c, c.b, source(e, c, share, turn, i), step,
                                 e.i64(next.step / 2), c.lanes);
      llvm::Value* to = e.add(e.mul(turn, next.pace * c.lanes), i * c.lanes);
      e.store(x, e.at(share.place, to, panel), panel, c.lanes);
    }
    fetch(e, c, share, e.add(turn, distance));
    return;
  }
  const auto turn_four = [&] {
    llvm::Value* four[4];
    for (std::int64_t i = 0; i < 4; ++i) {
      llvm::Value* at = source(e, c, share, turn, i);
      four[i] = c.pairs ? load_pairs(e, c.b, at, c.lanes) : load_operand(e, c.b, at, c.lanes);
    }
    transpose_fours(e, four, c.lanes);
    const auto [column, step] = square(e, c, turn);
    llvm::Value* to = e.add(column, e.mul(step, c.width));
    for (int k = 0; k < c.lanes; ++k) {
      const int lanes[] = {k / 4 * 4, k / 4 * 4 + 1, k / 4 * 4 + 2, k / 4 * 4 + 3};
      llvm::Value* part = e.ir.CreateShuffleVector(four[k % 4], lanes);
      e.store(part, e.at(share.place, e.add(to, k * c.width), panel), panel, 4);
    }
    fetch(e, c, share, e.add(turn, distance));
  };
  if (next.every == 1) return turn_four();
  llvm::Value* rest = e.ir.CreateURem(turn, e.i64(next.every));
  e.when(e.ir.CreateICmpEQ(rest, e.i64(0)), turn_four);
}

void emit_next_first(Emitter& e, const Contraction& c, const Share& share) {
  const bool turned = c.next.way == NextPanel::Way::turned;
  e.loop(0, distance, turned ? c.next.every : 1,
         [&](llvm::Value* turn) { fetch(e, c, share, turn); });
}

}  // namespace gradc
