// The contract family: a batched, packed, register-blocked matrix product with what stands behind
// it. The loops are those of Goto and van de Geijn, "Anatomy of high-performance matrix
// multiplication" (ACM TOMS 34, 2008): columns, then k, then rows, then tiles; each worker packs
// what it needs for itself.
#include "codegen/contract.h"

#include <algorithm>
#include <array>

#include "codegen/contract_behind.h"
#include "codegen/families.h"

namespace gradc {
namespace {

// The emission of one kernel: what its loops share.
class Product {
 public:
  Product(Emitter& e, const Contraction& c) : e_(e), c_(c), behind_(e, c) {}

  void emit() {
    MicroStrides strides{.a_row = 1, .a_k = c_.rows, .b_k = c_.width};
    lay_out_scratch();
    emit_functions(strides);
    if (c_.totals.empty()) return products();
    const auto first = [&] { products(); };
    const auto second = [&] { behind_.add_totals(); };
    const std::array<Emitter::Block, 2> blocks{first, second};
    e_.in_phases(blocks);
  }

 private:
  void products() {
    const std::int64_t across = (c_.n.extent + c_.nc - 1) / c_.nc, down = c_.units_down();
    // What a worker has packed of b, by number: what it packed last, and what of the next it packed
    // meanwhile; and the slot of the first panel of what it packed last.
    llvm::Value* const nothing[] = {e_.i64(-1), e_.i64(-1), e_.i64(0)};
    e_.take(c_.batch.extent * across * down, c_.grain, nothing,
            [&](llvm::Value* unit, std::span<llvm::Value* const> packed) {
              llvm::Value* columns = down == 1 ? unit : e_.ir.CreateUDiv(unit, e_.i64(down));
              llvm::Value* batch =
                  across == 1 ? columns : e_.ir.CreateUDiv(columns, e_.i64(across));
              llvm::Value* rows = e_.ir.CreateSub(unit, e_.mul(columns, down));
              llvm::Value* number = e_.ir.CreateSub(columns, e_.mul(batch, across));
              // With several blocks of k each unit packs them anew.
              llvm::Value* id = c_.k_blocks > 1 ? unit : columns;
              more_rows_ = e_.ir.CreateICmpSLT(rows, e_.i64(down - 1));
              packs_ = e_.ir.CreateICmpNE(id, packed[0]);
              llvm::Value* ready = e_.ir.CreateAnd(packs_, e_.ir.CreateICmpEQ(id, packed[1]));
              const auto [slot, next] = product(batch, rows, number, packed[2], ready);
              llvm::Value* ahead = e_.ir.CreateSelect(packs_, e_.i64(-1), packed[1]);
              ahead = e_.ir.CreateSelect(next, e_.add(id, 1), ahead);
              return std::vector<llvm::Value*>{id, ahead, slot};
            });
  }

  llvm::Value* scratch(std::int64_t elements) {
    llvm::Value* out = e_.at_byte(e_.local, e_.out.local_bytes);
    // A page between panels of a power of two keeps them in different sets of the L1.
    e_.out.local_bytes += (elements * c_.element_bytes() + 63) / 64 * 64 + 64;
    return out;
  }
  void lay_out_scratch() {
    tile_ = scratch(c_.rows * c_.width);
    if (c_.crossed) across_ = scratch(c_.rows * c_.width);
    // Panels of a are written side by side, a step of k of each in turn: without a line between them
    // all of these places fall into one or two sets of the L1.
    if (!c_.direct_a) panels_a_ = scratch(c_.mc * c_.kc + (c_.mc + c_.rows - 1) / c_.rows * a_gap());
    if (!c_.direct_b) panels_b_ = scratch(slots() * c_.width * c_.kc);
    if (c_.k_blocks > 1) sums_ = scratch(c_.mb * c_.nc);
    behind_.lay_out();
  }
  void emit_functions(MicroStrides strides) {
    if (c_.direct_a) {
      strides.a_row = levels_of(e_, c_.m, c_.a.buffer).back().stride;
      strides.a_k = levels_of(e_, c_.k, c_.a.buffer).back().stride * c_.elements_a_step();
    } else {
      pack_a_ = emit_pack(e_, c_, c_.a, c_.m, c_.rows, true, "pack_a", a_gap());
    }
    if (c_.direct_b)
      strides.b_k = levels_of(e_, c_.k, c_.b.buffer).back().stride;
    else
      pack_b_ = emit_pack(e_, c_, c_.b, c_.n, c_.width, c_.next.way != NextPanel::Way::fetched,
                          "pack_b");
    Contraction seen = c_;
    if (c_.crossed) {
      seen.direct_a = true;
      seen.rows = c_.across;
      strides = {.a_row = levels_of(e_, c_.n, c_.b.buffer).back().stride, .a_k = 1, .b_k = c_.rows};
    }
    micro_ = emit_micro(e_, seen, strides);
    if (c_.last_rows == 0) return;
    seen.rows = c_.last_rows;
    last_micro_ = emit_micro(e_, seen, strides, "last_micro");
  }

  // Panels of a unit lie in slots, one behind the other and around; where the next panel is packed
  // meanwhile there is one more, in which the first panel of what comes next stands already.
  std::int64_t panels_a_unit() const { return (c_.nc + c_.width - 1) / c_.width; }
  std::int64_t slots() const { return panels_a_unit() + (c_.next.packs() ? 1 : 0); }
  bool alone() const { return panels_a_unit() == 1; }
  llvm::Value* slot_of(llvm::Value* index) {
    if (!c_.next.packs()) return e_.at(panels_b_, e_.mul(index, c_.width * c_.kc), c_.dtype);
    llvm::Value* slot = e_.ir.CreateAdd(first_slot_, index);
    llvm::Value* around = e_.add(slot, -slots());
    slot = e_.ir.CreateSelect(e_.ir.CreateICmpSGE(around, e_.i64(0)), around, slot);
    return e_.at(panels_b_, e_.mul(slot, c_.width * c_.kc), c_.dtype);
  }

  // The rows of a unit: its share of the tiles.
  std::pair<llvm::Value*, llvm::Value*> rows_of(llvm::Value* unit) {
    const std::int64_t down = c_.units_down();
    if (down == 1) return {e_.i64(0), e_.i64(c_.m.extent)};
    const auto from = [&](llvm::Value* u) {
      return e_.mul(e_.ir.CreateUDiv(e_.mul(u, c_.tiles_down()), e_.i64(down)), c_.rows);
    };
    return {from(unit), e_.min(from(e_.add(unit, 1)), e_.i64(c_.m.extent))};
  }

  std::pair<llvm::Value*, llvm::Value*> columns_of(llvm::Value* unit) {
    if (c_.n.extent <= c_.nc) return {e_.i64(0), e_.i64(c_.n.extent)};
    llvm::Value* from = e_.mul(unit, c_.nc);
    return {from, e_.min(e_.add(from, c_.nc), e_.i64(c_.n.extent))};
  }

  llvm::Value* batch_base(int buffer, llvm::Value* batch) {
    return e_.at(e_.buffer(buffer), level_offset(e_, levels_of(e_, c_.batch, buffer), batch),
                 e_.buffer_type(buffer).dtype);
  }

  // A unit of one product: its rows and columns by number. `slot`: where what was packed last begins;
  // `ready`: the slot behind it has the first panel that this unit wants. Gives both for the next unit.
  std::pair<llvm::Value*, llvm::Value*> product(llvm::Value* batch, llvm::Value* rows,
                                                llvm::Value* columns, llvm::Value* slot,
                                                llvm::Value* ready) {
    batch_ = batch;
    a_ = batch_base(c_.a.buffer, batch);
    b_ = batch_base(c_.b.buffer, batch);
    out_ = batch_base(e_.argument_count() + c_.result, batch);
    const auto [i, i_end] = rows_of(rows);
    const auto [j, j_end] = columns_of(columns);
    spreads_ = e_.ir.getFalse();
    if (c_.next.packs())  // the last rows may be too few tiles for all shares of a panel
      spreads_ = e_.ir.CreateAnd(packs_, e_.ir.CreateICmpSGE(e_.ir.CreateSub(i_end, i),
                                                             e_.i64(c_.next.tiles * c_.rows)));
    const auto with = [&, i = i, i_end = i_end, j = j, j_end = j_end](
                          llvm::Value* k, std::span<llvm::Value* const> state) {
      llvm::Value* last = e_.add(state[0], -1);  // the slot behind the others, around
      last = e_.ir.CreateSelect(e_.ir.CreateICmpSLT(last, e_.i64(0)), e_.i64(slots() - 1), last);
      first_slot_ = e_.ir.CreateSelect(packs_, last, state[0]);
      ready_ = state[1];
      llvm::Value* k_end = c_.k_blocks == 1 ? static_cast<llvm::Value*>(e_.i64(c_.steps()))
                                            : e_.min(e_.add(k, c_.kc), e_.i64(c_.steps()));
      look_behind(j, j_end, k_end);
      with_k(i, i_end, j, j_end, k, k_end);
      return std::vector<llvm::Value*>{
          first_slot_, e_.ir.CreateAnd(spreads_, is_whole(first_column_))};
    };
    llvm::Value* const state[] = {slot, ready};
    const std::vector<llvm::Value*> then =
        c_.k_blocks == 1 ? with(e_.i64(0), state)
                         : e_.loop(e_.i64(0), e_.i64(c_.steps()), c_.kc, state, with);
    return {then[0], then[1]};
  }
  // What comes behind a block of k: the next one, or the next unit's first.
  void look_behind(llvm::Value* j, llvm::Value* j_end, llvm::Value* k_end) {
    first_column_ = j_end;
    first_step_ = e_.i64(0);
    if (c_.k_blocks == 1) return;
    llvm::Value* more_k = e_.ir.CreateICmpSLT(k_end, e_.i64(c_.steps()));
    first_column_ = e_.ir.CreateSelect(e_.ir.CreateOr(more_k, more_rows_), j, j_end);
    first_step_ = e_.ir.CreateSelect(more_k, k_end, first_step_);
  }
  llvm::Value* is_whole(llvm::Value* column) {
    return e_.ir.CreateICmpSLE(e_.add(column, c_.width), e_.i64(c_.n.extent));
  }

  // One block of steps of k: packs b, then a block of rows of a at a time.
  void with_k(llvm::Value* i, llvm::Value* i_end, llvm::Value* j, llvm::Value* j_end,
              llvm::Value* k, llvm::Value* k_end) {
    const bool empty = c_.k.extent == 0;
    e_.loop(i, i_end, c_.mc, [&](llvm::Value* ii) {
      llvm::Value* ii_end = e_.min(e_.add(ii, c_.mc), i_end);
      if (!c_.direct_a && !empty) e_.ir.CreateCall(pack_a_, {a_, panels_a_, ii, ii_end, k, k_end});
      e_.loop(j, j_end, c_.width, [&](llvm::Value* jj) {
        // A panel of b is packed when the first rows want it, unless it was meanwhile.
        if (!c_.direct_b && !empty) {
          llvm::Value* there = e_.ir.CreateAnd(
              e_.ir.CreateICmpNE(jj, j), e_.ir.CreateAnd(spreads_, is_whole(jj)));
          there = e_.ir.CreateOr(there, e_.ir.CreateAnd(e_.ir.CreateICmpEQ(jj, j), ready_));
          llvm::Value* wanted = e_.ir.CreateAnd(e_.ir.CreateICmpEQ(ii, i), packs_);
          e_.when(e_.ir.CreateAnd(wanted, e_.ir.CreateNot(there)), [&] {
            llvm::Value* end = e_.min(e_.add(jj, c_.width), j_end);
            e_.ir.CreateCall(pack_b_, {b_, panel_at(jj, j), jj, end, k, k_end});
          });
        }
        e_.loop(ii, ii_end, c_.rows, [&](llvm::Value* r) {
          tile(At{i, ii, r, ii_end, j, jj, j_end, k, k_end});
        });
      });
    });
  }
  llvm::Value* panel_at(llvm::Value* jj, llvm::Value* j) {
    return slot_of(e_.ir.CreateUDiv(e_.ir.CreateSub(jj, j), e_.i64(c_.width)));
  }

  // Where a tile stands: rows from r within the block from ii, within the sums from i; columns
  // likewise.
  struct At {
    llvm::Value *i, *ii, *r, *ii_end, *j, *jj, *j_end, *k, *k_end;
  };
  void tile(const At& at) {
    llvm::Value* count = e_.ir.CreateSub(at.k_end, at.k);
    // Rows that are read in place must exist: the last tile has a microkernel of its own, or begins
    // earlier and computes some once more.
    const bool overlaps = c_.direct_a && c_.m.extent % c_.rows != 0 && c_.last_rows == 0;
    llvm::Value* first = overlaps ? e_.min(at.r, e_.i64(c_.m.extent - c_.rows)) : at.r;
    llvm::Value* a = c_.direct_a ? in_place(c_.a, c_.m, a_, first, at.k)
                                 : in_panel(panels_a_, at.r, at.ii, count, a_gap());
    llvm::Value* b = c_.direct_b ? in_place(c_.b, c_.n, b_, at.jj, at.k)
                                 : panel_at(at.jj, at.j);
    const auto run = [&](llvm::Value* to, llvm::Value* pitch) {
      llvm::Value* fresh =
          e_.ir.CreateZExt(e_.ir.CreateICmpEQ(at.k, e_.i64(0)), e_.ir.getInt64Ty());
      if (c_.crossed) {
        const std::int64_t apart = levels_of(e_, c_.n, c_.b.buffer).back().stride;
        for (int n = 0; n < c_.width; n += c_.across)
          e_.ir.CreateCall(micro_, {e_.at(b, e_.i64(n * apart), c_.dtype), a,
                                    e_.at(across_, e_.i64(n * c_.rows), c_.dtype),
                                    e_.i64(c_.rows), count, fresh});
        return turn_across(to);
      }
      std::vector<llvm::Value*> arguments{a, b, to, pitch, count, fresh};
      if (c_.next.way != NextPanel::Way::none) {
        const Share s = c_.next.packs() ? packed_share(at) : fetched_share(at);
        arguments.insert(arguments.end(), {s.turns, s.from, s.first, s.place});
      }
      const auto call = [&](llvm::Function* micro) { e_.ir.CreateCall(micro, arguments); };
      if (c_.last_rows == 0) return call(micro_);
      e_.when(e_.ir.CreateICmpSLE(e_.add(at.r, c_.rows), e_.i64(c_.m.extent)),
              [&] { call(micro_); }, [&] { call(last_micro_); });
    };
    llvm::Value* rows = e_.min(e_.i64(c_.rows), e_.ir.CreateSub(at.ii_end, at.r));
    llvm::Value* columns = e_.min(e_.i64(c_.width), e_.ir.CreateSub(at.j_end, at.jj));
    const auto through = [&](llvm::Value* to) {
      const auto last = [&](Emitter::Block body) {
        if (c_.k_blocks == 1) return body();
        e_.when(e_.ir.CreateICmpEQ(at.k_end, e_.i64(c_.steps())), body);
      };
      const Behind::Part part{batch_, at.r, rows, at.jj, columns};
      last([&] { behind_.fetch(part); });
      run(to, e_.i64(c_.width));
      last([&] {
        llvm::Value* skipped = e_.mul(e_.ir.CreateSub(at.r, first), c_.width);
        behind_.apply(e_.at(to, skipped, c_.dtype), part);
      });
    };
    if (c_.k_blocks > 1) {
      // Tiles of partial sums stand one behind the other, rows of them by column panels.
      llvm::Value* row = e_.mul(e_.ir.CreateSub(at.r, at.i), c_.nc);
      return through(
          e_.at(sums_, e_.add(row, e_.mul(e_.ir.CreateSub(at.jj, at.j), c_.rows)), c_.dtype));
    }
    if (!c_.direct_c) return through(tile_);
    const int buffer = e_.argument_count() + c_.result;
    const std::vector<Level> down = levels_of(e_, c_.m, buffer),
                             across = levels_of(e_, c_.n, buffer);
    llvm::Value* offset = e_.add(level_offset(e_, down, at.r), level_offset(e_, across, at.jj));
    const auto straight = [&] { run(e_.at(out_, offset, c_.dtype), e_.i64(down.back().stride)); };
    if (c_.m.extent % c_.rows == 0 && c_.n.extent % c_.width == 0) return straight();
    llvm::Value* whole = e_.ir.CreateAnd(e_.ir.CreateICmpEQ(rows, e_.i64(c_.rows)),
                                         e_.ir.CreateICmpEQ(columns, e_.i64(c_.width)));
    e_.when(whole, straight, [&] { through(tile_); });
  }

  // A tile that was computed with columns down and rows across, a square of it at a time.
  void turn_across(llvm::Value* to) {
    const auto at = [&](llvm::Value* base, std::int64_t i) {
      return e_.at(base, e_.i64(i), c_.dtype);
    };
    for (int first = 0; first < c_.rows; first += c_.lanes) {
      std::vector<llvm::Value*> square;
      for (int n = 0; n < c_.lanes; ++n)
        square.push_back(e_.load(at(across_, n * c_.rows + first), c_.dtype, c_.lanes));
      transpose(e_, square);
      for (int r = 0; r < c_.lanes; ++r)
        e_.store(square[static_cast<std::size_t>(r)], at(to, (first + r) * c_.width), c_.dtype,
                 c_.lanes);
    }
  }

  llvm::Value* tiles_before(const At& at) {
    return e_.ir.CreateUDiv(e_.ir.CreateSub(at.r, at.i), e_.i64(c_.rows));
  }
  llvm::Value* column_of_b(llvm::Value* column) {
    return e_.at(b_, level_offset(e_, levels_of(e_, c_.n, c_.b.buffer), column),
                 stored_dtype(e_, c_.b));
  }
  // A tile's share of the next panel of b, which is only fetched: some columns.
  Share fetched_share(const At& at) {
    const std::int64_t turns =
        (c_.kc * c_.elements_a_step() * bytes(stored_dtype(e_, c_.b)) + 63) / 64;
    llvm::Value* beside = e_.add(at.jj, c_.width);
    llvm::Value* done = e_.mul(tiles_before(at), c_.next.columns);
    llvm::Value* wanted = e_.ir.CreateAnd(e_.ir.CreateICmpSLT(beside, e_.i64(c_.n.extent)),
                                          e_.ir.CreateICmpSLT(done, e_.i64(c_.width)));
    if (!alone()) wanted = e_.ir.CreateAnd(wanted, packs_);
    return {e_.ir.CreateSelect(wanted, e_.i64(turns), e_.i64(0)),
            column_of_b(e_.add(beside, done)), at.k, panels_b_};
  }
  // Of a block of k, all of it or the last, so many steps of the next panel are packed by each tile.
  llvm::Value* steps_a_tile(const At& at) {
    return e_.ir.CreateSelect(e_.ir.CreateICmpEQ(e_.ir.CreateSub(at.k_end, at.k), e_.i64(c_.kc)),
                              e_.i64(steps_meanwhile(c_, c_.next, c_.kc)),
                              e_.i64(steps_meanwhile(c_, c_.next, c_.last_steps())));
  }
  // A tile's share of the next panel of b, which is packed: some steps.
  Share packed_share(const At& at) {
    llvm::Value *beside = e_.add(at.jj, c_.width), *none = e_.i64(0);
    // The next of the same columns, or the first of what comes behind them.
    llvm::Value* same = e_.ir.CreateICmpSLT(beside, at.j_end);
    llvm::Value* column = e_.ir.CreateSelect(same, beside, first_column_);
    llvm::Value* step = e_.ir.CreateSelect(same, at.k, first_step_);
    llvm::Value* steps = c_.k_blocks == 1
                             ? static_cast<llvm::Value*>(e_.i64(c_.kc))
                             : e_.min(e_.i64(c_.kc), e_.ir.CreateSub(e_.i64(c_.steps()), step));
    llvm::Value* index = e_.ir.CreateUDiv(e_.ir.CreateSub(beside, at.j), e_.i64(c_.width));
    llvm::Value* panel = slot_of(e_.ir.CreateSelect(same, index, e_.i64(panels_a_unit())));
    llvm::Value* wanted = e_.ir.CreateAnd(spreads_, is_whole(column));
    if (!alone()) wanted = e_.ir.CreateAnd(wanted, e_.ir.CreateICmpEQ(at.ii, at.i));
    llvm::Value* share = steps_a_tile(at);
    llvm::Value *tiles = tiles_before(at), *done = e_.ir.CreateMul(tiles, share);
    llvm::Value* left = e_.min(share, e_.max(e_.ir.CreateSub(steps, done), none));
    llvm::Value* turns =
        c_.next.way == NextPanel::Way::copied
            ? e_.ir.CreateUDiv(e_.mul(left, c_.vectors), e_.i64(c_.next.pace))
            : e_.mul(e_.ir.CreateUDiv(left, e_.i64(c_.lanes)), c_.width / 4 * c_.next.every);
    const Share out{e_.ir.CreateSelect(wanted, turns, none), column_of_b(column), e_.add(step, done),
                    e_.at(panel, e_.mul(done, c_.width), c_.dtype)};
    e_.when(e_.ir.CreateAnd(wanted, e_.ir.CreateICmpEQ(tiles, none)),
            [&] { emit_next_first(e_, c_, out); });
    return out;
  }

  // Elements between packed panels of a.
  std::int64_t a_gap() const { return 64 / c_.element_bytes(); }
  llvm::Value* in_panel(llvm::Value* panels, llvm::Value* position, llvm::Value* from,
                        llvm::Value* count, std::int64_t gap = 0) {
    llvm::Value* behind = e_.ir.CreateSub(position, from);
    llvm::Value* at = e_.ir.CreateMul(behind, count);
    if (gap != 0) at = e_.add(at, e_.mul(e_.ir.CreateUDiv(behind, e_.i64(c_.rows)), gap));
    return e_.at(panels, at, c_.dtype);
  }
  llvm::Value* in_place(const Operand& operand, const AxisRole& role, llvm::Value* base,
                        llvm::Value* position, llvm::Value* k) {
    llvm::Value* offset = level_offset(e_, levels_of(e_, role, operand.buffer), position);
    const DType stored = stored_dtype(e_, operand);
    const std::int64_t step =
        levels_of(e_, c_.k, operand.buffer).back().stride * c_.elements_a_step();
    return e_.at(e_.at(base, offset, stored), e_.mul(k, step), stored);
  }

  Emitter& e_;
  const Contraction& c_;
  Behind behind_;
  llvm::Function *pack_a_ = nullptr, *pack_b_ = nullptr, *micro_ = nullptr, *last_micro_ = nullptr;
  llvm::Value *tile_ = nullptr, *across_ = nullptr;  // across_: a tile that is to be transposed
  llvm::Value *panels_a_ = nullptr, *panels_b_ = nullptr, *sums_ = nullptr;
  // i1: this unit packs b; packs the next panels meanwhile; finds its first packed; has others with
  // the same columns behind it.
  llvm::Value *packs_ = nullptr, *spreads_ = nullptr, *ready_ = nullptr, *more_rows_ = nullptr;
  llvm::Value* first_slot_ = nullptr;  // of a block of k
  llvm::Value *first_column_ = nullptr, *first_step_ = nullptr;  // of what comes behind it
  llvm::Value *batch_ = nullptr, *a_ = nullptr, *b_ = nullptr, *out_ = nullptr;
};

}  // namespace

Result<Done> emit_contract(Emitter& e) {
  const Contraction c = plan_contraction(e);
  e.out.phases = c.totals.empty() ? 1 : 2;
  // Below some tens of microseconds of work, waking another thread costs more than it gives.
  e.out.parallel = c.products() >= (std::int64_t{1} << 18);
  if (c.batch.extent == 0 || c.m.extent == 0 || c.n.extent == 0) {
    for (int r : c.totals) {
      const DType dtype = e.buffer_type(e.argument_count() + r).dtype;
      e.store(e.constant(dtype, 0), e.buffer(e.argument_count() + r), dtype, 1);
    }
    return Done{};
  }
  if (c.along_batch)
    emit_along_batch(e, c);
  else
    Product(e, c).emit();
  return Done{};
}

}  // namespace gradc
