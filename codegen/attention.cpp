// The attention family: softmax(map(q · k)) · u by tiles, with the maximum and the sum of the rows
// carried from tile to tile (Milakov and Gimelshein, "Online normalizer calculation for softmax",
// 2018; Dao, "FlashAttention-2", 2023, algorithm 1). The weight map is applied to the weights
// before they are divided by their sum: whoever makes a kernel of this form states that it
// multiplies each weight by what is free of the scores.
#include "codegen/attention.h"

#include <algorithm>
#include <limits>

#include "codegen/elementwise.h"
#include "codegen/families.h"
#include "codegen/math.h"

namespace gradc {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

// Blocks of keys are packed once a batch position while they take no more than this.
constexpr std::int64_t most_packed_bytes = std::int64_t{16} << 20;

class Attention {
 public:
  Attention(Emitter& e, const AttentionForm& form)
      : e_(e),
        form_(form),
        s_(plan_scores(e, e.kernel.op(form.score).results[0], form.keys, form.rows, form.batch,
                       conditions_of(e.kernel, form.softmax.x))),
        scratch_(e),
        counts_(e, scratch_, s_.batch.extent * s_.others.extent),
        mask_(e, s_, conditions_of(e.kernel, form.softmax.x), scratch_),
        strips_(e, s_, mask_, scratch_),
        products_(e, s_),
        features_(features_of(e, s_, form.q, form.q)),
        out_features_(features_of(e, s_, form.u, form.out)),
        pairs_(by_pairs(e, s_, form.q, form.k, features_) ? Blocks::of_features : Blocks::none),
        q_(e, s_, products_, form.q, s_.tiled, features_, {.pairs = pairs_}),
        k_(e, s_, products_, form.k, s_.keys, features_, {.turned = true, .pairs = pairs_}),
        u_(e, s_, products_, form.u, s_.keys, out_features_, {}),
        row_values_(e, s_, {form.softmax.x, form.weights}, {score(), form.softmax.weight}) {}

  void emit() {
    e_.out.phases = 1;
    const std::int64_t rows = s_.others.extent * s_.row_extent,
                       products = s_.batch.extent * rows * s_.key_extent *
                                  (features_.extent + out_features_.extent + 16);
    e_.out.parallel = products >= (std::int64_t{1} << 18);
    lay_out_scratch();
    counts_.reset();
    if (s_.batch.extent * rows == 0) return;
    // A unit is a plane of rows and keys, or some blocks of its rows.
    const std::int64_t blocks = s_.row_blocks(), planes = s_.batch.extent * s_.others.extent,
                       several = planes >= 32 ? blocks : (blocks + 31) / 32,
                       pieces = (blocks + several - 1) / several;
    llvm::Value* const nothing[] = {e_.i64(-1)};
    e_.take(planes * pieces, 1, nothing,
            [&](llvm::Value* unit, std::span<llvm::Value* const> packed) {
              llvm::Value* plane = e_.ir.CreateUDiv(unit, e_.i64(pieces));
              llvm::Value* from = e_.mul(e_.ir.CreateURem(unit, e_.i64(pieces)), several);
              llvm::Value* batch = e_.ir.CreateUDiv(plane, e_.i64(s_.others.extent));
              if (kept_) e_.when(e_.ir.CreateICmpNE(batch, packed[0]), [&] { pack_all(batch); });
              if (pieces == 1 && kept_) fetch(e_.add(plane, 1));
              some_rows(batch, e_.ir.CreateURem(plane, e_.i64(s_.others.extent)), from,
                        e_.min(e_.add(from, several), e_.i64(blocks)));
              return std::vector<llvm::Value*>{batch};
            });
  }

 private:
  ValueId score() const { return e_.kernel.op(form_.score).results[0]; }

  void lay_out_scratch() {
    const DType d = s_.dtype;
    kept_ =
        s_.key_blocks() * (k_.elements() + u_.elements()) * s_.element_bytes() <= most_packed_bytes;
    const std::int64_t blocks = kept_ ? s_.key_blocks() : 1;
    k_blocks_ = scratch_.take(d, blocks * k_.elements());
    u_blocks_ = scratch_.take(d, blocks * u_.elements());
    q_block_ = scratch_.take(d, q_.elements());
    tile_ = scratch_.take(d, tile_rows * s_.tile_keys);
    out_ = scratch_.take(d, tile_rows * u_.pitch());
    max_ = scratch_.take(d, tile_rows);
    most_ = scratch_.take(d, TileStrips::strip * s_.lanes);
    shifts_ = scratch_.take(d, TileStrips::strip);
    scales_ = scratch_.take(d, TileStrips::strip);
    sum_ = scratch_.take(d, tile_rows * s_.lanes);
  }

  void pack_all(llvm::Value* batch) {
    const Point plane = plane_point(e_, s_, batch, e_.i64(0), 1);
    e_.loop(0, s_.key_blocks(), 1, [&](llvm::Value* j) { pack(plane, j); });
  }
  void fetch(llvm::Value* plane) {
    if (!fetches_planes(e_, q_.plane_bytes() + k_.plane_bytes() + u_.plane_bytes())) return;
    const Point point =
        plane_point(e_, s_, e_.ir.CreateUDiv(plane, e_.i64(s_.others.extent)),
                    e_.ir.CreateURem(plane, e_.i64(s_.others.extent)), 1);
    for (Blocks* b : {&q_, &k_, &u_}) b->fetch(point);
  }
  // Blocks [from, to) of the rows of one plane.
  void some_rows(llvm::Value* batch, llvm::Value* other, llvm::Value* from, llvm::Value* to) {
    plane_ = plane_point(e_, s_, batch, other, s_.lanes);
    mask_.prepare(plane_);
    e_.loop(from, to, 1, [&](llvm::Value* i) {
      // Ends first: what a causal mask leaves to early and late rows evens out.
      llvm::Value* half = e_.ir.CreateLShr(i, std::uint64_t{1});
      llvm::Value* late = e_.ir.CreateSub(e_.i64(s_.row_blocks() - 1), half);
      rows(e_.ir.CreateSelect(e_.ir.CreateTrunc(i, e_.ir.getInt1Ty()), late, half));
    });
  }

  void pack(const Point& plane, llvm::Value* block) {
    llvm::Value* from = e_.mul(block, s_.tile_keys);
    llvm::Value* to = e_.min(e_.add(from, s_.tile_keys), e_.i64(s_.key_extent));
    k_.pack(plane, from, to, k_block(block));
    u_.pack(plane, from, to, u_block(block));
  }
  llvm::Value* k_block(llvm::Value* j) {
    return kept_ ? e_.at(k_blocks_, e_.mul(j, k_.elements()), s_.dtype) : k_blocks_;
  }
  llvm::Value* u_block(llvm::Value* j) {
    return kept_ ? e_.at(u_blocks_, e_.mul(j, u_.elements()), s_.dtype) : u_blocks_;
  }

  // A block of rows against all keys.
  void rows(llvm::Value* block) {
    const DType d = s_.dtype;
    row_ = e_.mul(block, tile_rows);
    row_count_ = e_.min(e_.i64(tile_rows), e_.ir.CreateSub(e_.i64(s_.row_extent), row_));
    q_.pack(plane_, row_, e_.add(row_, row_count_), q_block_);
    e_.loop(e_.i64(0), row_count_, 1, [&](llvm::Value* r) {
      e_.store(e_.constant(d, -infinity), e_.at(max_, r, d), d, 1);
      e_.store(e_.constant(d, 0, s_.lanes), e_.at(sum_, e_.mul(r, s_.lanes), d), d, s_.lanes);
      for_columns([&](llvm::Value* f) {
        e_.store(e_.constant(d, 0, s_.lanes), out_at(r, f), d, s_.lanes);
      });
    });
    e_.loop(0, s_.key_blocks(), 1, [&](llvm::Value* j) {
      llvm::Value* key = e_.mul(j, s_.tile_keys);
      llvm::Value* count = e_.min(e_.i64(s_.tile_keys), e_.ir.CreateSub(e_.i64(s_.key_extent), key));
      const TileMask::Tile where{.row = row_,
                                 .row_last = e_.add(e_.add(row_, row_count_), -1),
                                 .row_block = block,
                                 .key = key,
                                 .key_last = e_.add(e_.add(key, count), -1),
                                 .key_block = j};
      const TileMask::Verdict v = mask_.judge(plane_, where);
      counts_.add(e_.ir.CreateZExt(v.possible, e_.ir.getInt64Ty()), e_.i64(1));
      e_.when(v.possible, [&] { tile(j, where, count, v.certain); });
    });
    finish_rows();
  }

  void tile(llvm::Value* j, const TileMask::Tile& where, llvm::Value* count,
            llvm::Value* certain) {
    if (!kept_) pack(plane_, j);
    const bool whole = s_.key_extent % s_.tile_keys == 0;
    if (!whole) certain = e_.ir.CreateAnd(certain, e_.ir.CreateICmpEQ(count, e_.i64(s_.tile_keys)));
    const auto all = [&] {
      part(j, where.key, count, {e_.i64(0), row_count_, e_.i64(0), count}, true);
    };
    if (whole && mask_.empty()) return all();
    e_.when(certain, all, [&] {
      strips_.find(plane_, where);
      strips_.each_of_rows(row_count_, [&](const TileStrips::Strip& strip) {
        part(j, where.key, count, strip, false);
      });
    });
  }

  // Some rows of a tile and a range of its keys.
  void part(llvm::Value* j, llvm::Value* key, llvm::Value* count, const TileStrips::Strip& strip,
            bool all) {
    const auto row_of = [&](llvm::Value* base, std::int64_t pitch) {
      return all ? base : e_.at(base, e_.mul(strip.first, pitch), s_.dtype);
    };
    const Products::Range keys{strip.from, strip.to};
    llvm::Value* scores = row_of(tile_, s_.tile_keys);
    products_.multiply({row_of(q_block_, q_.pitch()), q_.pitch(), 1, pairs_ != Blocks::none}, k_block(j),
                       scores, strip.count, s_.tile_keys, e_.i64(k_.steps()), true, all ? nullptr : &keys);
    weigh(key, count, strip, all);
    const auto first_key = [&](llvm::Value* base, std::int64_t pitch) {
      return all ? base : e_.at(base, e_.mul(strip.from, pitch), s_.dtype);
    };
    products_.multiply({first_key(scores, 1), s_.tile_keys, 1}, first_key(u_block(j), u_.pitch()),
                       row_of(out_, u_.pitch()), strip.count, u_.pitch(),
                       e_.ir.CreateSub(strip.to, strip.from), false);
  }

  // Scores to weights exp(x − largest so far), in place; sums and rows of the result that stand for a
  // smaller maximum are rescaled. By strips of rows: what one row waits for, others fill.
  void weigh(llvm::Value* key, llvm::Value* count, const TileStrips::Strip& strip, bool all) {
    const DType d = s_.dtype;
    const int lanes = s_.lanes;
    llvm::Value* end = e_.add(strip.first, strip.count);
    e_.loop(strip.first, end, TileStrips::strip, [&](llvm::Value* first) {
      llvm::Value* to = e_.min(e_.add(first, TileStrips::strip), end);
      const auto each_row = [&](auto body) {
        e_.loop(first, to, 1, [&](llvm::Value* r) {
          Point point = plane_;
          if (s_.tiled.valid()) set_axis(point, s_.tiled, e_.add(row_, r));
          row_values_.compute(point);
          body(Vectors{key, count, r, point, strip, all}, e_.ir.CreateSub(r, first));
        });
      };
      each_row([&](const Vectors& row, llvm::Value* in_strip) {
        e_.store(map_scores(row), e_.at(most_, e_.mul(in_strip, lanes), d), d, lanes);
      });
      raise_maxima(first, to);
      each_row([&](const Vectors& row, llvm::Value* in_strip) {
        llvm::Value* sum = weigh_row(row, in_strip);
        llvm::Value* sum_at = e_.at(sum_, e_.mul(row.row, lanes), d);
        e_.store(e_.ir.CreateFAdd(e_.load(sum_at, d, lanes), sum), sum_at, d, lanes);
      });
    });
  }

  // The vectors of a row of a tile, or of a strip's keys: what computes values there.
  struct Vectors {
    llvm::Value *key, *count, *row;
    const Point& point;
    const TileStrips::Strip& strip;
    bool all;
  };
  // The body gets the mask of keys that exist, too; null: all.
  template <class Body>
  void values_at(const Vectors& v, llvm::Value* c, Body body) {
    Point here = v.point;
    set_axis(here, s_.keys, e_.add(v.key, c), 1, s_.lanes);
    if (!v.all && s_.key_extent % s_.tile_keys != 0)
      here.mask = e_.first_lanes(e_.ir.CreateSub(v.count, c), s_.lanes);
    Values values(e_, here);
    row_values_.bind(values);
    if (v.all) mask_.bind_kept(values);
    body(values, e_.at(e_.at(tile_, e_.mul(v.row, s_.tile_keys), s_.dtype), c, s_.dtype), here.mask);
  }
  // x in place of the scores; the largest, lane by lane.
  llvm::Value* map_scores(const Vectors& v) {
    const DType d = s_.dtype;
    const int lanes = s_.lanes;
    llvm::Value* least = e_.constant(d, -infinity, lanes);
    return for_vectors(v, least, [&](llvm::Value* c, llvm::Value* most) {
      values_at(v, c, [&](Values& values, llvm::Value* at, llvm::Value* mask) {
        values.bind(score(), e_.load(at, d, lanes));
        llvm::Value* x = values.get(form_.softmax.x);
        if (mask != nullptr) x = e_.ir.CreateSelect(mask, x, least);
        most = larger(e_, x, most);
        e_.store(x, at, d, lanes);
      });
      return most;
    });
  }
  // The maxima of a strip's rows with what map_scores found, and their shifts: rows side by side in
  // lanes. Rows that grew are rescaled.
  void raise_maxima(llvm::Value* first, llvm::Value* to) {
    const DType d = s_.dtype;
    const int lanes = s_.lanes;
    e_.loop(0, TileStrips::strip, lanes, [&](llvm::Value* r) {
      std::vector<llvm::Value*> most;
      for (int i = 0; i < lanes; ++i)
        most.push_back(e_.load(e_.at(most_, e_.mul(e_.add(r, i), lanes), d), d, lanes));
      llvm::Value* max_at = e_.at(max_, e_.add(first, r), d);
      llvm::Value* before = e_.load(max_at, d, lanes);
      llvm::Value* now = larger(e_, largest_of_each(e_, std::move(most)), before);
      llvm::Value* shift = shift_of(now, lanes);
      e_.store(now, max_at, d, lanes);
      e_.store(shift, e_.at(shifts_, r, d), d, lanes);
      llvm::Value* grew = e_.ir.CreateFCmpOGT(now, before);
      e_.when(e_.ir.CreateOrReduce(grew), [&] {
        llvm::Value* scale = e_.ir.CreateSelect(grew, exp(e_.ir.CreateFSub(before, shift)),
                                                e_.constant(d, 1, lanes));
        e_.store(scale, e_.at(scales_, r, d), d, lanes);
        llvm::Value* from = e_.add(first, r);
        e_.loop(from, e_.min(e_.add(from, lanes), to), 1, [&](llvm::Value* row) {
          llvm::Value* by = e_.load(e_.at(scales_, e_.ir.CreateSub(row, first), d), d, 1);
          e_.when(e_.ir.CreateFCmpUNE(by, e_.constant(d, 1)), [&] {
            const auto rescale = [&](llvm::Value* at) {
              e_.store(e_.ir.CreateFMul(e_.load(at, d, lanes), e_.splat(by, lanes)), at, d, lanes);
            };
            rescale(e_.at(sum_, e_.mul(row, lanes), d));
            for_columns([&](llvm::Value* f) { rescale(out_at(row, f)); });
          });
        });
      });
    });
  }
  // Weights in place of x; their sum, lane by lane.
  llvm::Value* weigh_row(const Vectors& v, llvm::Value* in_strip) {
    const DType d = s_.dtype;
    llvm::Value* shift = e_.splat(e_.load(e_.at(shifts_, in_strip, d), d, 1), s_.lanes);
    return for_vectors(v, e_.constant(d, 0, s_.lanes), [&](llvm::Value* c, llvm::Value* sum) {
      values_at(v, c, [&](Values& values, llvm::Value* at, llvm::Value*) {
        llvm::Value* weight = exp(e_.ir.CreateFSub(e_.load(at, d, s_.lanes), shift));
        sum = e_.ir.CreateFAdd(sum, weight);
        values.bind(form_.softmax.weight, weight);
        e_.store(values.get(form_.weights), at, d, s_.lanes);
      });
      return sum;
    });
  }

  // The vectors of a row, each with what the one before gave; several in a turn, so that their
  // chains overlap.
  template <class Each>
  llvm::Value* for_vectors(const Vectors& v, llvm::Value* first, Each each) {
    const std::int64_t most = (v.all ? s_.tile_keys : TileStrips::strip) / s_.lanes,
                       unroll = std::clamp<std::int64_t>(most, 1, 4);
    const auto turn = [&](llvm::Value* c, llvm::Value* state) {
      for (std::int64_t u = 0; u < unroll; ++u) state = each(e_.add(c, u * s_.lanes), state);
      return state;
    };
    if (v.all && most == unroll) return turn(e_.i64(0), first);
    llvm::Value* const begin[] = {first};
    return e_.loop(v.all ? e_.i64(0) : v.strip.from, v.all ? e_.i64(s_.tile_keys) : v.strip.to,
                   unroll * s_.lanes, begin,
                   [&](llvm::Value* c, std::span<llvm::Value* const> state) {
                     return std::vector<llvm::Value*>{turn(c, state[0])};
                   })[0];
  }
  void for_columns(Emitter::Body body) {
    if (u_.pitch() <= 8 * s_.lanes) {
      for (std::int64_t f = 0; f < u_.pitch(); f += s_.lanes) body(e_.i64(f));
    } else {
      e_.loop(0, u_.pitch(), s_.lanes, body);
    }
  }
  llvm::Value* out_at(llvm::Value* r, llvm::Value* f) {
    return e_.at(out_, e_.add(e_.mul(r, u_.pitch()), f), s_.dtype);
  }
  // Of what is not above 0.
  llvm::Value* exp(llvm::Value* x) {
    if (s_.dtype == DType::f32) return emit_exp_below(e_, x);
    llvm::Value* const operands[] = {x};
    const auto* vector = llvm::dyn_cast<llvm::FixedVectorType>(x->getType());
    return emit_elementwise(e_, Opcode::exp_, operands, s_.dtype, s_.dtype,
                            vector == nullptr ? 1 : static_cast<int>(vector->getNumElements()));
  }
  // A row that is −∞ so far has the shift 0, so that its weights are 0 and not NaN.
  llvm::Value* shift_of(llvm::Value* max, int lanes = 1) {
    llvm::Value* none = e_.ir.CreateFCmpOEQ(max, e_.constant(s_.dtype, -infinity, lanes));
    return e_.ir.CreateSelect(none, e_.constant(s_.dtype, 0, lanes), max);
  }

  // Divides by the sums; stores.
  void finish_rows() {
    const DType d = s_.dtype;
    const int lanes = s_.lanes;
    e_.loop(e_.i64(0), row_count_, 1, [&](llvm::Value* r) {
      llvm::Value* max = e_.load(e_.at(max_, r, d), d, 1);
      llvm::Value* norm =
          sum_of_lanes(e_, e_.load(e_.at(sum_, e_.mul(r, lanes), d), d, lanes), lanes);
      // Of a row that is −∞ everywhere; without keys a plain softmax sums nothing.
      llvm::Value* none = e_.ir.CreateFCmpOEQ(norm, e_.constant(d, 0));
      const double empty = form_.softmax.guarded || s_.key_extent == 0
                               ? 1
                               : std::numeric_limits<double>::quiet_NaN();
      norm = e_.ir.CreateSelect(none, e_.constant(d, empty), norm);
      Point point = plane_;
      if (s_.tiled.valid()) set_axis(point, s_.tiled, e_.add(row_, r));
      for_columns([&](llvm::Value* f) {
        Point here = point;
        set_role(e_, here, out_features_, {.first = f, .step = 1, .multiple = lanes});
        const auto put = [&](llvm::Value* mask) {
          here.mask = mask;
          llvm::Value* out =
              e_.ir.CreateFDiv(e_.load(out_at(r, f), d, lanes), e_.splat(norm, lanes));
          Values(e_, here).store_result(0, as_result(e_, s_, 0, out, lanes));
        };
        if (out_features_.extent == u_.pitch()) return put(nullptr);
        llvm::Value* left = e_.ir.CreateSub(e_.i64(out_features_.extent), f);
        e_.when(
            e_.ir.CreateICmpSGE(left, e_.i64(lanes)), [&] { put(nullptr); },
            [&] { put(e_.first_lanes(left, lanes)); });
      });
      if (!form_.lse.valid()) return;
      llvm::Value* const operands[] = {norm};
      llvm::Value* log = emit_elementwise(e_, Opcode::log_, operands, d, d, 1);
      llvm::Value* shift = form_.softmax.guarded ? shift_of(max) : max;
      Values(e_, with_lanes(point, 1)).store_result(1, e_.ir.CreateFAdd(shift, log));
    });
  }

  Emitter& e_;
  const AttentionForm& form_;
  const Scores s_;
  Scratch scratch_;
  TileCounts counts_;
  TileMask mask_;
  TileStrips strips_;
  Products products_;
  const AxisRole features_, out_features_;
  const Blocks::Pairs pairs_;  // of the scores' operands
  Blocks q_, k_, u_;
  RowValues row_values_;
  bool kept_ = true;  // all blocks of keys are packed at once
  llvm::Value *k_blocks_ = nullptr, *u_blocks_ = nullptr, *q_block_ = nullptr, *tile_ = nullptr,
              *out_ = nullptr, *max_ = nullptr, *sum_ = nullptr;
  llvm::Value *most_ = nullptr, *shifts_ = nullptr, *scales_ = nullptr;  // of a strip of rows
  Point plane_;
  llvm::Value *row_ = nullptr, *row_count_ = nullptr;
};

}  // namespace

Result<Done> emit_attention(Emitter& e) {
  AttentionForm form;
  if (std::string why = attention_form(e.kernel, e.kernel.body(), form); !why.empty())
    return failure(Exit::internal, "a kernel of attention has not its form: " + why);
  const auto dtype = [&](ValueId v) { return e.kernel.type(v).dtype; };
  const Op &score = e.kernel.op(form.score), &sum = e.kernel.op(form.sum);
  if (dtype(form.softmax.x) != dtype(score.operands[0]) ||
      dtype(sum.operands[1]) != dtype(score.operands[0]))
    return failure(Exit::usage, "within attention no second dtype of scores is compiled");
  Attention(e, form).emit();
  return Done{};
}

}  // namespace gradc
