// The contract family: a batched, packed, register-blocked matrix product with what stands behind
// it. The loops are those of Goto and van de Geijn, "Anatomy of high-performance matrix
// multiplication" (ACM TOMS 34, 2008): columns, then k, then rows, then tiles; each worker packs
// what it needs for itself.
#include "codegen/contract.h"

#include <algorithm>
#include <array>
#include <tuple>

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
    if (!c_.direct_b) plan_ahead(strides);
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
    const std::int64_t across = (c_.n.extent + c_.nc - 1) / c_.nc,
                       down = (c_.m.extent + c_.mb - 1) / c_.mb;
    // What a worker has packed of b, by number among the columns of all products: those it packed
    // last, and the next ones, if they were packed behind the tiles of these.
    llvm::Value* const nothing[] = {e_.i64(-1), e_.i64(-1)};
    e_.take(c_.batch.extent * across * down, c_.grain, nothing,
            [&](llvm::Value* unit, std::span<llvm::Value* const> packed) {
              llvm::Value* columns = down == 1 ? unit : e_.ir.CreateUDiv(unit, e_.i64(down));
              llvm::Value* batch =
                  across == 1 ? columns : e_.ir.CreateUDiv(columns, e_.i64(across));
              llvm::Value* rows = e_.ir.CreateSub(unit, e_.mul(columns, down));
              llvm::Value* number = e_.ir.CreateSub(columns, e_.mul(batch, across));
              packs_ = c_.k_blocks > 1 ? static_cast<llvm::Value*>(e_.ir.getTrue())
                                       : e_.ir.CreateICmpNE(columns, packed[0]);
              spreads_ = packs_;
              llvm::Value* ahead = packed[1];
              if (takes_turns()) {
                // Only the first rows have all the tiles that it takes.
                spreads_ = e_.ir.CreateAnd(
                    packs_, e_.ir.CreateAnd(e_.ir.CreateICmpEQ(rows, e_.i64(0)),
                                            e_.ir.CreateICmpSLT(number, e_.i64(across - 1))));
                ahead = e_.ir.CreateSelect(packs_, e_.i64(-1), ahead);
                ahead = e_.ir.CreateSelect(spreads_, e_.add(columns, 1), ahead);
                packs_ = e_.ir.CreateAnd(packs_, e_.ir.CreateICmpNE(columns, packed[1]));
                slot_ = e_.ir.CreateAnd(columns, e_.i64(1));
              }
              product(batch, rows, number);
              return std::vector<llvm::Value*>{columns, ahead};
            });
  }
  // Single panels of b lie in two places in turn, so that the next is packed meanwhile.
  bool takes_turns() const { return alone_ && ahead_steps_ > 0; }

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
    if (!c_.direct_b) panels_b_ = scratch((takes_turns() ? 2 : 1) * c_.nc * c_.kc);
    if (c_.k_blocks > 1) sums_ = scratch(c_.mb * c_.nc);
    behind_.lay_out();
  }
  void emit_functions(MicroStrides strides) {
    if (c_.direct_a) {
      strides.a_row = levels_of(e_, c_.m, c_.a.buffer).back().stride;
      strides.a_k = levels_of(e_, c_.k, c_.a.buffer).back().stride * (c_.pairs ? 2 : 1);
    } else {
      pack_a_ = emit_pack(e_, c_, c_.a, c_.m, c_.rows, true, "pack_a", a_gap());
    }
    if (c_.direct_b)
      strides.b_k = levels_of(e_, c_.k, c_.b.buffer).back().stride;
    else
      pack_b_ = emit_pack(e_, c_, c_.b, c_.n, c_.width, !fetches_next_, "pack_b");
    Contraction seen = c_;
    if (c_.crossed) {
      seen.direct_a = true;
      seen.rows = c_.across;
      strides = {.a_row = levels_of(e_, c_.n, c_.b.buffer).back().stride, .a_k = 1, .b_k = c_.rows};
    }
    micro_ = emit_micro(e_, seen, strides);
  }

  std::int64_t elements_a_step() const { return c_.pairs ? 2 : 1; }
  // While the first block of rows meets a panel of b, the next one comes. Where b's columns are
  // contiguous it is packed, some steps of k behind each tile, which are fetched into the L2 while
  // the tile is computed: a row of k apart, lines that lay there for longer would push each other
  // out. Where k is contiguous some columns are only fetched with each tile.
  void plan_ahead(MicroStrides& strides) {
    const std::int64_t line = 64 / bytes(stored_dtype(e_, c_.b)), kc = c_.kc * elements_a_step();
    // Of a single panel all rows are done before the next is wanted, of several those of a block.
    alone_ = c_.nc <= c_.width && c_.k_blocks == 1;
    const auto share = [&](std::int64_t of, std::int64_t rows) {
      const std::int64_t tiles = std::max<std::int64_t>(1, rows / c_.rows);
      return (of + tiles - 1) / tiles;
    };
    const std::int64_t block = std::min({c_.mc, c_.mb, c_.m.extent});
    const Level n = levels_of(e_, c_.n, c_.b.buffer).back(),
                k = levels_of(e_, c_.k, c_.b.buffer).back();
    if (n.stride == 1) {
      const std::int64_t rows = alone_ ? std::min(c_.mb, c_.m.extent) : block;
      ahead_steps_ = (share(c_.kc, rows) + 15) / 16 * 16;
      ahead_rows_ = (c_.kc + ahead_steps_ - 1) / ahead_steps_ * c_.rows;
      ahead_turns_ = ahead_steps_ * elements_a_step();
      strides.lines = (c_.width + line - 1) / line + (k.stride % line != 0);
      strides.step = k.stride;
      strides.apart = line;
      strides.into =
          (ahead_steps_ * c_.width * c_.element_bytes() / 64 + ahead_turns_ - 1) / ahead_turns_;
    } else if (k.stride == 1) {
      ahead_columns_ = share(c_.width, alone_ ? std::min(c_.m.extent, 16 * std::int64_t{c_.rows})
                                              : block);
      ahead_turns_ = (kc + line - 1) / line;
      strides.lines = ahead_columns_;
      strides.step = line;
      strides.apart = n.stride;
    }
    if (strides.lines > 8) strides.lines = ahead_steps_ = 0;  // too few tiles to hide it behind
    fetches_next_ = strides.lines > 0;
  }

  llvm::Value* batch_base(int buffer, llvm::Value* batch) {
    return e_.at(e_.buffer(buffer), level_offset(e_, levels_of(e_, c_.batch, buffer), batch),
                 e_.buffer_type(buffer).dtype);
  }

  // A unit of one product: its rows and columns by number.
  void product(llvm::Value* batch, llvm::Value* rows, llvm::Value* columns) {
    batch_ = batch;
    a_ = batch_base(c_.a.buffer, batch);
    b_ = batch_base(c_.b.buffer, batch);
    out_ = batch_base(e_.argument_count() + c_.result, batch);
    const auto range = [&](llvm::Value* number, std::int64_t of, std::int64_t extent) {
      llvm::Value* from = extent <= of ? e_.i64(0) : e_.mul(number, of);
      llvm::Value* to = extent <= of ? e_.i64(extent) : e_.min(e_.add(from, of), e_.i64(extent));
      return std::pair(from, to);
    };
    const auto [i, i_end] = range(rows, c_.mb, c_.m.extent);
    const auto [j, j_end] = range(columns, c_.nc, c_.n.extent);
    // The last rows may be too few tiles for all shares of a panel.
    if (ahead_steps_ > 0)
      spreads_ = e_.ir.CreateAnd(
          spreads_, e_.ir.CreateICmpSGE(e_.ir.CreateSub(i_end, i), e_.i64(ahead_rows_)));
    if (c_.k_blocks == 1) return with_k(i, i_end, j, j_end, e_.i64(0));
    e_.loop(e_.i64(0), e_.i64(c_.steps()), c_.kc,
            [&, i = i, i_end = i_end, j = j, j_end = j_end](llvm::Value* k) {
              with_k(i, i_end, j, j_end, k);
            });
  }

  // One block of steps of k: packs b, then a block of rows of a at a time.
  void with_k(llvm::Value* i, llvm::Value* i_end, llvm::Value* j, llvm::Value* j_end,
              llvm::Value* k) {
    llvm::Value* k_end = c_.k_blocks == 1 ? static_cast<llvm::Value*>(e_.i64(c_.steps()))
                                          : e_.min(e_.add(k, c_.kc), e_.i64(c_.steps()));
    const bool empty = c_.k.extent == 0;
    e_.loop(i, i_end, c_.mc, [&](llvm::Value* ii) {
      llvm::Value* ii_end = e_.min(e_.add(ii, c_.mc), i_end);
      if (!c_.direct_a && !empty) e_.ir.CreateCall(pack_a_, {a_, panels_a_, ii, ii_end, k, k_end});
      e_.loop(j, j_end, c_.width, [&](llvm::Value* jj) {
        // A panel of b is packed when the first rows want it, unless it was behind the last one's.
        if (!c_.direct_b && !empty) {
          llvm::Value* wanted = e_.ir.CreateAnd(e_.ir.CreateICmpEQ(ii, i), packs_);
          if (ahead_steps_ > 0)
            wanted = e_.ir.CreateAnd(
                wanted, e_.ir.CreateOr(e_.ir.CreateICmpEQ(jj, j), e_.ir.CreateNot(spreads_)));
          e_.when(wanted, [&] { pack_columns(jj, j, j_end, k, k_end, k, k_end); });
        }
        e_.loop(ii, ii_end, c_.rows, [&](llvm::Value* r) {
          const At at{i, ii, r, ii_end, j, jj, j_end, k, k_end};
          tile(at);
          if (!empty && ahead_steps_ > 0) pack_ahead(at);
        });
      });
    });
  }
  // Steps from … to of the panel of b at jj, of a block of k.
  void pack_columns(llvm::Value* jj, llvm::Value* j, llvm::Value* j_end, llvm::Value* k,
                    llvm::Value* k_end, llvm::Value* from, llvm::Value* to) {
    llvm::Value* end = e_.min(e_.add(jj, c_.width), j_end);
    e_.ir.CreateCall(pack_b_, {b_, place_of(jj, j, k, k_end, from), jj, end, from, to});
  }
  llvm::Value* place_of(llvm::Value* jj, llvm::Value* j, llvm::Value* k, llvm::Value* k_end,
                        llvm::Value* from) {
    llvm::Value* panel = in_panel(panels(jj, j), jj, j, e_.ir.CreateSub(k_end, k));
    return e_.at(panel, e_.mul(e_.ir.CreateSub(from, k), c_.width), c_.dtype);
  }

  // Where a tile stands: rows from r within the block from ii, within the sums from i; columns
  // likewise.
  struct At {
    llvm::Value *i, *ii, *r, *ii_end, *j, *jj, *j_end, *k, *k_end;
  };
  void tile(const At& at) {
    llvm::Value* count = e_.ir.CreateSub(at.k_end, at.k);
    // Rows that are read in place must exist: the last tile begins earlier and computes some once
    // more.
    const bool overlaps = c_.direct_a && c_.m.extent % c_.rows != 0;
    llvm::Value* first = overlaps ? e_.min(at.r, e_.i64(c_.m.extent - c_.rows)) : at.r;
    llvm::Value* a = c_.direct_a ? in_place(c_.a, c_.m, a_, first, at.k)
                                 : in_panel(panels_a_, at.r, at.ii, count, a_gap());
    llvm::Value* b = c_.direct_b ? in_place(c_.b, c_.n, b_, at.jj, at.k)
                                 : in_panel(panels(at.jj, at.j), at.jj, at.j, count);
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
      if (fetches_next_) {
        const std::vector<llvm::Value*> next = next_panel(at);
        arguments.insert(arguments.end(), next.begin(), next.end());
      }
      e_.ir.CreateCall(micro_, arguments);
    };
    llvm::Value* rows = e_.min(e_.i64(c_.rows), e_.ir.CreateSub(at.ii_end, at.r));
    llvm::Value* columns = e_.min(e_.i64(c_.width), e_.ir.CreateSub(at.j_end, at.jj));
    const auto through = [&](llvm::Value* to) {
      const auto last = [&](Emitter::Block body) {
        if (c_.k_blocks == 1) return body();
        e_.when(e_.ir.CreateICmpEQ(at.k_end, e_.i64(c_.steps())), body);
      };
      const Behind::Part part{batch_, at.r, rows, at.jj, columns};
      last([&] { behind_.fetch(part, false); });
      run(to, e_.i64(c_.width));
      last([&] {
        behind_.fetch(part, true);
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
  // The share of the next panel of b that is packed behind this tile: its first step of k, and
  // whether there is any.
  std::pair<llvm::Value*, llvm::Value*> next_share(const At& at) {
    llvm::Value* from = e_.add(at.k, e_.mul(tiles_before(at), ahead_steps_));
    llvm::Value* wanted =
        alone_ ? spreads_ : e_.ir.CreateAnd(spreads_, e_.ir.CreateICmpEQ(at.ii, at.i));
    wanted = e_.ir.CreateAnd(wanted, e_.ir.CreateICmpSLT(from, at.k_end));
    return {from, e_.ir.CreateAnd(wanted, next_exists(at))};
  }
  llvm::Value* next_exists(const At& at) {
    return e_.ir.CreateICmpSLT(e_.add(at.jj, c_.width), e_.i64(c_.n.extent));
  }
  // What is fetched of the next panel with this tile: where it begins in memory, for how many turns
  // it is asked for, and where it goes.
  std::vector<llvm::Value*> next_panel(const At& at) {
    llvm::Value *next = e_.add(at.jj, c_.width), *column = next, *step = at.k, *wanted = nullptr,
                *place = panels_b_;
    if (ahead_steps_ > 0) {
      std::tie(step, wanted) = next_share(at);
      place = place_of(next, at.j, at.k, at.k_end, step);
    } else {
      llvm::Value* done = e_.mul(tiles_before(at), ahead_columns_);
      column = e_.add(next, done);
      wanted = e_.ir.CreateAnd(next_exists(at), e_.ir.CreateICmpSLT(done, e_.i64(c_.width)));
      if (!alone_) wanted = e_.ir.CreateAnd(wanted, packs_);
    }
    llvm::Value* offset =
        e_.add(level_offset(e_, levels_of(e_, c_.n, c_.b.buffer), column),
               level_offset(e_, levels_of(e_, c_.k, c_.b.buffer), e_.mul(step, elements_a_step())));
    return {e_.at(b_, offset, stored_dtype(e_, c_.b)),
            e_.ir.CreateSelect(wanted, e_.i64(ahead_turns_), e_.i64(0)), place};
  }
  void pack_ahead(const At& at) {
    auto [from, wanted] = next_share(at);
    llvm::Value* next = e_.add(at.jj, c_.width);
    if (!alone_) wanted = e_.ir.CreateAnd(wanted, e_.ir.CreateICmpSLT(next, at.j_end));
    e_.when(wanted, [&, from = from] {
      pack_columns(next, at.j, alone_ ? static_cast<llvm::Value*>(e_.i64(c_.n.extent)) : at.j_end,
                   at.k, at.k_end, from, e_.min(e_.add(from, ahead_steps_), at.k_end));
    });
  }

  // Where the unit's packed panels begin, or would if the one at jj were not in the other place.
  llvm::Value* panels(llvm::Value* jj, llvm::Value* j) {
    if (!takes_turns()) return panels_b_;
    llvm::Value* other = e_.ir.CreateZExt(e_.ir.CreateICmpNE(jj, j), e_.ir.getInt64Ty());
    llvm::Value* place = e_.mul(e_.ir.CreateXor(slot_, other), c_.width);
    return e_.at(panels_b_, e_.mul(e_.add(place, e_.ir.CreateSub(j, jj)), c_.kc), c_.dtype);
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
        levels_of(e_, c_.k, operand.buffer).back().stride * (c_.pairs ? 2 : 1);
    return e_.at(e_.at(base, offset, stored), e_.mul(k, step), stored);
  }

  Emitter& e_;
  const Contraction& c_;
  Behind behind_;
  bool fetches_next_ = false, alone_ = false;
  // Of the next panel: steps of k that are packed behind a tile and the rows of tiles that all of it
  // takes, or columns that are fetched with a tile; turns that ask for them.
  std::int64_t ahead_steps_ = 0, ahead_rows_ = 0, ahead_columns_ = 0, ahead_turns_ = 0;
  llvm::Function *pack_a_ = nullptr, *pack_b_ = nullptr, *micro_ = nullptr;
  llvm::Value *tile_ = nullptr, *across_ = nullptr;  // across_: a tile that is to be transposed
  llvm::Value *panels_a_ = nullptr, *panels_b_ = nullptr, *sums_ = nullptr;
  // i1: this unit finds other columns of b packed, or none; packs the next ones behind its tiles.
  llvm::Value *packs_ = nullptr, *spreads_ = nullptr;
  llvm::Value* slot_ = nullptr;  // of two: where this unit's single panel is
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
