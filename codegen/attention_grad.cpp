// The family of attention's gradient: for each tile of scores the products of queries and keys (and
// of cotangents and values), the maps on them, and what results take from it (Dao,
// "FlashAttention-2", 2023, algorithm 2, for any maps). Nothing here knows which argument is what.
#include "codegen/attention_grad.h"

#include <algorithm>
#include <memory>

#include "codegen/families.h"
#include "codegen/math.h"

namespace gradc {
namespace {

// Blocks of rows are packed once a plane while they take no more than this.
constexpr std::int64_t most_packed_bytes = std::int64_t{16} << 20;

class Gradient {
 public:
  Gradient(Emitter& e, GradPlan& plan)
      : e_(e),
        plan_(plan),
        s_(plan.scores),
        scratch_(e),
        counts_(e, scratch_, s_.batch.extent * s_.others.extent),
        mask_(e, s_, plan.conditions, scratch_),
        strips_(e, s_, mask_, scratch_),
        products_(e, s_),
        sums_(e, plan, products_, scratch_),
        row_values_(e, s_, roots(plan), score_values()) {
    find_weights();
  }

  void emit() {
    std::int64_t features = 16;
    const auto add = [&](const AxisRole& role) { features += role.extent; };
    plan_blocks(add);
    const std::int64_t tiles = s_.batch.extent * s_.others.extent * s_.row_extent * s_.key_extent;
    e_.out.parallel = tiles * features >= (std::int64_t{1} << 18);
    const auto first = [&] {
      counts_.reset();
      e_.take(plan_.outer.extent * plan_.chunks, [&](llvm::Value* u) { unit(u); });
    };
    const auto second = [&] { sums_.add_slots(); };
    const Emitter::Block phases[] = {first, second};
    e_.in_phases(std::span(phases, sums_.has_second_phase() ? 2 : 1));
  }

 private:
  static std::vector<ValueId> roots(const GradPlan& plan) {
    std::vector<ValueId> out;
    for (const GradSum& sum : plan.sums) {
      out.push_back(sum.tile);
      if (sum.index.valid()) out.push_back(sum.index);
    }
    return out;
  }
  std::vector<ValueId> score_values() const {
    std::vector<ValueId> out;
    for (OpId o : plan_.form.scores) out.push_back(e_.kernel.op(o).results[0]);
    return out;
  }

  // Exponentials of a score less what its row has: weights, since forward gave the logarithm of the
  // row's sum. They are not above 1 but for rounding.
  void find_weights() {
    const Function& f = e_.kernel;
    const auto has_keys = [&](ValueId v) { return f.type(v).axes.contains(s_.keys); };
    for (OpId o : f.body().ops) {
      const Op& op = f.op(o);
      const Op* less = op.code == Opcode::exp_ ? f.definition(op.operands[0]) : nullptr;
      if (less != nullptr && less->code == Opcode::sub_ && s_.dtype == DType::f32 &&
          f.type(op.results[0]).dtype == DType::f32 && has_keys(less->operands[0]) &&
          !has_keys(less->operands[1]))
        weights_.push_back(o);
    }
  }

  // ---- blocks of arguments, each packed once however many products read it

  struct Packed {
    ValueId argument;
    Blocks::Layout layout;
    bool by_key = false;
    AxisRole features;
    std::unique_ptr<Blocks> blocks;
    llvm::Value* base = nullptr;
  };
  std::size_t packed(ValueId argument, bool by_key, Blocks::Layout layout,
                     const AxisRole& features) {
    for (std::size_t i = 0; i < packed_.size(); ++i) {
      const Packed& p = packed_[i];
      if (p.argument == argument && p.layout == layout && p.features.axes == features.axes)
        return i;
    }
    packed_.push_back({argument, layout, by_key, features,
                       std::make_unique<Blocks>(e_, s_, products_, argument,
                                                by_key ? s_.keys : s_.tiled, features, layout)});
    return packed_.size() - 1;
  }

  template <class Add>
  void plan_blocks(Add add) {
    const auto has_keys = [&](ValueId v) { return e_.kernel.type(v).axes.contains(s_.keys); };
    for (OpId o : plan_.form.scores) {
      const Op& op = e_.kernel.op(o);
      const Region& body = e_.kernel.body();
      const ValueId a = argument_of(e_.kernel, body, op.operands[0]),
                    b = argument_of(e_.kernel, body, op.operands[1]);
      const AxisRole features = features_of(e_, s_, a, a);
      const ValueId row_side = has_keys(a) ? b : a, key_side = has_keys(a) ? a : b;
      const Blocks::Pairs pairs =
          by_pairs(e_, s_, row_side, key_side, features) ? Blocks::of_features : Blocks::none;
      scores_.push_back({packed(row_side, false, {.pairs = pairs}, features),
                         packed(key_side, true, {.turned = true, .pairs = pairs}, features)});
      add(features);
    }
    for (const GradSum& sum : plan_.sums) {
      tile_sums_.push_back(by_tile(sum) ? scratch_.take(s_.dtype, s_.tile_keys) : nullptr);
      if (!sum.argument.valid()) {
        factor_.push_back(0);
        tile_of_.push_back(0);
        continue;
      }
      factor_.push_back(packed(sum.argument, sum.kind == GradSum::over_keys,
                               {.pairs = sum.pairs ? Blocks::of_positions : Blocks::none},
                               sum.features));
      add(sum.features);
      auto at = std::find(tiles_.begin(), tiles_.end(), sum.tile);
      tile_of_.push_back(static_cast<std::size_t>(at - tiles_.begin()));
      if (at == tiles_.end()) tiles_.push_back(sum.tile);
    }
    std::int64_t row_bytes = 0;
    for (const Packed& p : packed_)
      if (!p.by_key) row_bytes += p.blocks->elements() * s_.element_bytes();
    rows_kept_ = row_bytes * s_.row_blocks() <= most_packed_bytes;
    for (Packed& p : packed_)
      p.base = scratch_.take(
          s_.dtype, p.blocks->elements() * (!p.by_key && rows_kept_ ? s_.row_blocks() : 1));
    rounded_.resize(tiles_.size());
    for (std::size_t n = 0; n < plan_.sums.size(); ++n) {
      if (!plan_.sums[n].pairs) continue;
      RoundedTile& r = rounded_[tile_of_[n]];
      llvm::Value*& to = plan_.sums[n].kind == GradSum::over_keys ? r.along_keys : r.along_rows;
      if (to == nullptr) to = scratch_.take(DType::i32, tile_rows * s_.tile_keys / 2);
    }
    // Scores make room for the tiles that are multiplied, vector by vector.
    for (std::size_t i = 0; i < std::max(tiles_.size(), scores_.size()); ++i)
      buffers_.push_back(scratch_.take(s_.dtype, tile_rows * s_.tile_keys));
  }
  llvm::Value* block_of(const Packed& p, llvm::Value* row_block) {
    if (p.by_key || !rows_kept_) return p.base;
    return e_.at(p.base, e_.mul(row_block, p.blocks->elements()), s_.dtype);
  }
  void pack(bool by_key, llvm::Value* block, llvm::Value* from, llvm::Value* count) {
    for (const Packed& p : packed_)
      if (p.by_key == by_key) p.blocks->pack(plane_, from, e_.add(from, count), block_of(p, block));
  }
  void fetch(const Point& plane) {
    std::vector<Blocks*> arguments;
    std::int64_t bytes = 0;
    for (auto p = packed_.begin(); p != packed_.end(); ++p)
      if (std::none_of(packed_.begin(), p,
                       [&](const Packed& q) { return q.argument == p->argument; })) {
        arguments.push_back(p->blocks.get());
        bytes += arguments.back()->plane_bytes();
      }
    if (plan_.chunks * plan_.inner.extent * s_.others.extent > 1 || !fetches_planes(e_, bytes))
      return;
    for (Blocks* b : arguments) b->fetch(plane);
  }
  llvm::Value* rows_in(llvm::Value* row) {
    return e_.min(e_.i64(tile_rows), e_.ir.CreateSub(e_.i64(s_.row_extent), row));
  }

  // ---- loops

  void unit(llvm::Value* unit) {
    unit_ = unit;
    chunk_ = e_.ir.CreateURem(unit, e_.i64(plan_.chunks));
    const auto point = [&](llvm::Value* inner, llvm::Value* other) {
      Point out = plane_point(e_, s_, e_.i64(0), other, s_.lanes);
      set_role(e_, out, plan_.outer, {.first = e_.ir.CreateUDiv(unit_, e_.i64(plan_.chunks))});
      set_role(e_, out, plan_.inner, {.first = inner});
      return out;
    };
    const Point whole = point(e_.i64(0), e_.i64(0));
    Point next = whole;
    set_role(e_, next, plan_.outer, {.first = e_.add(unit_, 1)});
    sums_.clear(whole, unit, chunk_, true);
    e_.loop(0, plan_.inner.extent, 1, [&](llvm::Value* inner) {
      const Point turn = point(inner, e_.i64(0));
      sums_.clear(turn, unit, chunk_, false);
      e_.loop(0, s_.others.extent, 1, [&](llvm::Value* other) {
        plane_ = point(inner, other);
        plane(next);
      });
      sums_.store(turn, chunk_, false);
    });
    sums_.store(whole, chunk_, true);
  }

  // `next`: the plane of the next unit, if units are planes.
  void plane(const Point& next) {
    mask_.prepare(plane_);
    if (rows_kept_)
      e_.loop(0, s_.row_blocks(), 1, [&](llvm::Value* i) {
        llvm::Value* row = e_.mul(i, tile_rows);
        pack(false, i, row, rows_in(row));
      });
    fetch(next);
    e_.loop(chunk_, e_.i64(s_.key_blocks()), plan_.chunks, [&](llvm::Value* j) {
      key_ = e_.mul(j, s_.tile_keys);
      key_count_ = e_.min(e_.i64(s_.tile_keys), e_.ir.CreateSub(e_.i64(s_.key_extent), key_));
      pack(true, j, key_, key_count_);
      e_.loop(0, s_.row_blocks(), 1, [&](llvm::Value* i) {
        row_ = e_.mul(i, tile_rows);
        row_count_ = rows_in(row_);
        const TileMask::Tile where{.row = row_,
                                   .row_last = e_.add(e_.add(row_, row_count_), -1),
                                   .row_block = i,
                                   .key = key_,
                                   .key_last = e_.add(e_.add(key_, key_count_), -1),
                                   .key_block = j};
        const TileMask::Verdict v = mask_.judge(plane_, where);
        counts_.add(e_.ir.CreateZExt(v.possible, e_.ir.getInt64Ty()), e_.i64(1));
        e_.when(v.possible, [&] { tile(i, where, v.certain); });
      });
    });
  }

  void tile(llvm::Value* i, const TileMask::Tile& where, llvm::Value* certain) {
    if (!rows_kept_) pack(false, i, row_, row_count_);
    const DType d = s_.dtype;
    for_tile_sums([&](const GradSum&, llvm::Value* at, llvm::Value*) {
      e_.store(e_.constant(d, 0, s_.lanes), at, d, s_.lanes);
    });
    const bool whole = s_.key_extent % s_.tile_keys == 0;
    if (!whole)
      certain = e_.ir.CreateAnd(certain, e_.ir.CreateICmpEQ(key_count_, e_.i64(s_.tile_keys)));
    const auto all = [&] {
      const TileStrips::Strip rows{e_.i64(0), row_count_, e_.i64(0), key_count_};
      score(i, rows, true);
      map(rows, true);
      round_tiles(nullptr);
      for (std::size_t n = 0; n < plan_.sums.size(); ++n) {
        const TileStrips::Strip keys{e_.i64(0), key_count_, e_.i64(0), row_count_};
        add_product(n, i, plan_.sums[n].kind == GradSum::over_keys ? rows : keys);
      }
    };
    if (whole && mask_.empty())
      all();
    else
      e_.when(certain, all, [&] { in_strips(i, where); });
    for_tile_sums([&](const GradSum& sum, llvm::Value* from, llvm::Value* c) {
      sums_.add_vector(sum, plane_, unit_, row_, e_.add(key_, c), e_.load(from, d, s_.lanes));
    });
  }

  void in_strips(llvm::Value* i, const TileMask::Tile& where) {
    strips_.find(plane_, where);
    strips_.each_of_rows(row_count_, [&](const TileStrips::Strip& rows) {
      score(i, rows, false);
      map(rows, false);
    });
    for (std::size_t n = 0; n < tiles_.size(); ++n) strips_.clear_rest(buffers_[n], s_.dtype);
    round_tiles(s_.key_extent % 2 == 0 ? nullptr : key_count_);
    for (std::size_t n = 0; n < plan_.sums.size(); ++n) {
      const auto add = [&](const TileStrips::Strip& strip) { add_product(n, i, strip); };
      if (!plan_.sums[n].argument.valid()) continue;
      if (plan_.sums[n].kind == GradSum::over_keys)
        strips_.each_of_rows(row_count_, add);
      else
        strips_.each_of_keys(key_count_, add);
    }
  }

  // Scores of some rows and a range of keys.
  void score(llvm::Value* i, const TileStrips::Strip& rows, bool all) {
    const Products::Range keys{rows.from, rows.to};
    for (std::size_t n = 0; n < scores_.size(); ++n) {
      const Packed &a = packed_[scores_[n].row_side], &b = packed_[scores_[n].key_side];
      const std::int64_t pitch = a.blocks->pitch();
      products_.multiply({e_.at(block_of(a, i), e_.mul(rows.first, pitch), s_.dtype), pitch, 1,
                          a.layout.pairs != Blocks::none},
                         block_of(b, i),
                         e_.at(buffers_[n], e_.mul(rows.first, s_.tile_keys), s_.dtype), rows.count,
                         s_.tile_keys, e_.i64(b.blocks->steps()), true, all ? nullptr : &keys);
    }
  }

  // What some rows (or keys) take of a range of keys (or rows).
  void add_product(std::size_t n, llvm::Value* i, const TileStrips::Strip& strip) {
    const GradSum& sum = plan_.sums[n];
    if (!sum.argument.valid()) return;
    const bool over_keys = sum.kind == GradSum::over_keys;
    const Packed& packed = packed_[factor_[n]];
    llvm::Value* to = e_.at(sums_.at(sum, plane_, unit_, row_, key_),
                            e_.mul(strip.first, sum.columns), s_.dtype);
    if (sum.pairs) {
      // Strips begin at even positions.
      llvm::Value* step = e_.ir.CreateLShr(strip.from, std::uint64_t{1});
      llvm::Value* steps = e_.ceil_div(e_.ir.CreateSub(strip.to, strip.from), 2);
      const RoundedTile& tile = rounded_[tile_of_[n]];
      const Products::Factor from =
          over_keys
              ? Products::Factor{e_.at(tile.along_keys,
                                       e_.add(e_.mul(strip.first, s_.tile_keys / 2), step),
                                       DType::i32),
                                 s_.tile_keys / 2, 1, true}
              : Products::Factor{e_.at(tile.along_rows,
                                       e_.add(e_.mul(step, s_.tile_keys), strip.first), DType::i32),
                                 1, s_.tile_keys, true};
      llvm::Value* factor =
          e_.at(block_of(packed, i), e_.mul(step, packed.blocks->pitch()), DType::i32);
      products_.multiply(from, factor, to, strip.count, sum.columns, steps, false);
      return;
    }
    llvm::Value* factor = e_.at(block_of(packed, i),
                                e_.mul(strip.from, packed.blocks->pitch()), s_.dtype);
    llvm::Value *row = over_keys ? strip.first : strip.from,
                *key = over_keys ? strip.from : strip.first;
    llvm::Value* from =
        e_.at(buffers_[tile_of_[n]], e_.add(e_.mul(row, s_.tile_keys), key), s_.dtype);
    const Products::Factor tile{from, over_keys ? s_.tile_keys : 1, over_keys ? 1 : s_.tile_keys};
    products_.multiply(tile, factor, to, strip.count, sum.columns,
                       e_.ir.CreateSub(strip.to, strip.from), false);
  }

  // `keys`: how many there are; null: an even number.
  void round_tiles(llvm::Value* keys) {
    for (std::size_t n = 0; n < tiles_.size(); ++n)
      round_tile(e_, s_, buffers_[n], rounded_[n], row_count_, keys);
  }

  // ---- the maps, and sums that are no contractions

  void map(const TileStrips::Strip& strip, bool all) {
    const DType d = s_.dtype;
    const int lanes = s_.lanes;
    const std::int64_t vectors = (all ? s_.tile_keys : TileStrips::strip) / lanes,
                       unroll = std::clamp<std::int64_t>(vectors, 1, 4);
    const std::vector<ValueId> scores = score_values();
    e_.loop(strip.first, e_.add(strip.first, strip.count), 1, [&](llvm::Value* r) {
      Point point = plane_;
      if (s_.tiled.valid()) set_axis(point, s_.tiled, e_.add(row_, r));
      row_values_.compute(point);
      llvm::Value* row = e_.add(row_, r);
      // Sums that keep no keys grow in registers along a row.
      std::vector<std::size_t> across;
      for (std::size_t n = 0; n < plan_.sums.size(); ++n)
        if (plan_.sums[n].kind == GradSum::summed && !plan_.sums[n].keys) across.push_back(n);
      const auto vector = [&](llvm::Value* c, std::vector<llvm::Value*>& state) {
        Point here = point;
        llvm::Value* key = e_.add(key_, c);
        set_axis(here, s_.keys, key, 1, lanes);
        if (!all && s_.key_extent % s_.tile_keys != 0)
          here.mask = e_.first_lanes(e_.ir.CreateSub(key_count_, c), lanes);
        Values values(e_, here);
        row_values_.bind(values);
        if (all) mask_.bind_kept(values);
        const auto at = [&](std::size_t n) {
          return e_.at(buffers_[n], e_.add(e_.mul(r, s_.tile_keys), c), d);
        };
        for (std::size_t n = 0; n < scores.size(); ++n)
          values.bind(scores[n], e_.load(at(n), d, lanes));
        for (OpId o : weights_) {
          const Op& weight = e_.kernel.op(o);
          values.bind(weight.results[0], emit_exp_below(e_, values.get(weight.operands[0])));
        }
        for (ValueId v : roots(plan_)) values.get(v);
        for (std::size_t n = 0; n < tiles_.size(); ++n)
          e_.store(values.get(tiles_[n]), at(n), d, lanes);
        std::size_t k = 0;
        for (std::size_t n = 0; n < plan_.sums.size(); ++n) {
          const GradSum& sum = plan_.sums[n];
          if (sum.argument.valid()) continue;
          const bool along = sum.kind == GradSum::summed && !sum.keys;
          llvm::Value* x = counted(sum, values.get(sum.tile), here, key, along);
          if (along) {
            state[k] = e_.ir.CreateFAdd(state[k], x);
            ++k;
          } else if (by_tile(sum)) {
            add_to(e_.at(tile_sums_[n], c, d), x);
          } else if (sum.kind == GradSum::summed) {
            sums_.add_vector(sum, here, unit_, row, key, x);
          } else {
            llvm::Value* index =
                e_.ir.CreateSExtOrTrunc(values.get(sum.index), e_.type(DType::i64, lanes));
            sums_.add_scattered(sum, here, unit_, row, key, x, index);
          }
        }
      };
      std::vector<llvm::Value*> state(across.size(), e_.constant(d, 0, lanes));
      const auto turn = [&](llvm::Value* c, std::vector<llvm::Value*> now) {
        for (std::int64_t u = 0; u < unroll; ++u) vector(e_.add(c, u * lanes), now);
        return now;
      };
      if (all && vectors == unroll)
        state = turn(e_.i64(0), state);
      else
        state = e_.loop(all ? e_.i64(0) : strip.from, all ? e_.i64(s_.tile_keys) : strip.to,
                        unroll * lanes, state,
                        [&](llvm::Value* c, std::span<llvm::Value* const> now) {
                          return turn(c, {now.begin(), now.end()});
                        });
      for (std::size_t k = 0; k < across.size(); ++k) {
        if (by_tile(plan_.sums[across[k]]))
          add_to(tile_sums_[across[k]], state[k]);
        else
          sums_.add_vector(plan_.sums[across[k]], point, unit_, row, key_, state[k]);
      }
    });
  }

  // Sums that keep no rows take those of a tile first, so that their chains stay short.
  static bool by_tile(const GradSum& sum) { return sum.kind == GradSum::summed && !sum.rows; }
  template <class Each>
  void for_tile_sums(Each each) {
    for (std::size_t n = 0; n < plan_.sums.size(); ++n)
      if (by_tile(plan_.sums[n]))
        e_.loop(0, plan_.sums[n].keys ? s_.tile_keys : s_.lanes, s_.lanes,
                [&](llvm::Value* c) { each(plan_.sums[n], e_.at(tile_sums_[n], c, s_.dtype), c); });
  }
  void add_to(llvm::Value* at, llvm::Value* x) {
    e_.store(e_.ir.CreateFAdd(e_.load(at, s_.dtype, s_.lanes), x), at, s_.dtype, s_.lanes);
  }

  // What a sum takes of a vector of a tile: nothing where keys do not exist (`masked`), and of a
  // value that lacks some of the scores' axes only at the first position along them.
  llvm::Value* counted(const GradSum& sum, llvm::Value* x, const Point& here, llvm::Value* key,
                       bool masked) {
    const AxisList& axes = e_.kernel.type(sum.tile).axes;
    llvm::Value* on = masked ? here.mask : nullptr;
    for (AxisId a : s_.axes) {
      if (axes.contains(a)) continue;
      const Index at = a == s_.keys ? Index{.first = key, .step = 1} : here.index[a.index];
      on = both(e_, on, within(e_, at, 0, 1, s_.lanes));
    }
    return on == nullptr ? x : e_.ir.CreateSelect(on, x, e_.constant(s_.dtype, 0, s_.lanes));
  }

  Emitter& e_;
  GradPlan& plan_;
  const Scores& s_;
  Scratch scratch_;
  TileCounts counts_;
  TileMask mask_;
  TileStrips strips_;
  Products products_;
  GradSums sums_;
  RowValues row_values_;
  struct Score {
    std::size_t row_side, key_side;  // in packed_
  };
  std::vector<Score> scores_;
  std::vector<Packed> packed_;
  std::vector<OpId> weights_;
  std::vector<ValueId> tiles_;                 // that are multiplied
  std::vector<std::size_t> factor_, tile_of_;  // by sum: in packed_, in tiles_
  std::vector<llvm::Value*> tile_sums_;        // by sum: of one tile, or null
  std::vector<llvm::Value*> buffers_;          // scores, then tiles in their places
  std::vector<RoundedTile> rounded_;           // by tile
  bool rows_kept_ = true;
  Point plane_;
  llvm::Value *unit_ = nullptr, *chunk_ = nullptr, *row_ = nullptr, *row_count_ = nullptr,
              *key_ = nullptr, *key_count_ = nullptr;
};

}  // namespace

Result<Done> emit_attention_grad(Emitter& e) {
  Result<GradPlan> plan = plan_grad(e);
  if (!plan.ok()) return plan.failure();
  Gradient(e, *plan).emit();
  return Done{};
}

}  // namespace gradc
