// Which tiles a mask leaves out: interval arithmetic on positions and three-valued logic, emitted
// as code that runs once a tile (Moore, "Interval Analysis", 1966; Kleene's strong logic of three
// values).
#include <llvm/IR/Intrinsics.h>

#include <algorithm>
#include <functional>
#include <utility>

#include "codegen/attention.h"

namespace gradc {
namespace {

bool whole(DType d) { return is_integer(d) || d == DType::boolean; }

std::int64_t least(DType d) { return d == DType::i32 ? INT32_MIN : INT64_MIN; }
std::int64_t most(DType d) { return d == DType::i32 ? INT32_MAX : INT64_MAX; }

// Operations that bounds of operands give bounds of.
bool has_rule(const Function& f, const Op& op) {
  if (!whole(f.type(op.results[0]).dtype)) return false;
  for (ValueId v : op.operands)
    if (!whole(f.type(v).dtype)) return false;
  switch (op.code) {
    case Opcode::constant_:
    case Opcode::position_:
    case Opcode::expand_:
    case Opcode::stop_:
    case Opcode::cast_:
    case Opcode::select_:
    case Opcode::neg_:
    case Opcode::abs_:
    case Opcode::add_:
    case Opcode::sub_:
    case Opcode::mul_:
    case Opcode::max_:
    case Opcode::min_:
    case Opcode::floordiv_:
    case Opcode::mod_:
    case Opcode::lt_:
    case Opcode::le_:
    case Opcode::eq_:
    case Opcode::ne_:
    case Opcode::and_:
    case Opcode::or_:
    case Opcode::not_:
      return true;
    default:
      return false;
  }
}

}  // namespace

// Bounds of every value that the conditions need, at one tile. A truth is (certain, possible).
class TileBounds {
 public:
  struct Bounds {
    llvm::Value *lo = nullptr, *hi = nullptr;  // i64, or i1 for truths
  };
  TileBounds(TileMask& mask, const Point& plane, const TileMask::Tile& tile)
      : m_(mask),
        e_(mask.e_),
        f_(mask.e_.kernel),
        tile_(tile),
        uniform_(e_, with_lanes(plane, 1)),
        bounds_(f_.values.size()) {
    for (ValueId v : m_.order_) bounds_[v.index] = of(v);
  }
  const Bounds& operator[](ValueId v) const { return bounds_[v.index]; }

 private:
  llvm::IRBuilder<>& ir() { return e_.ir; }
  llvm::Value* both(llvm::Value* a, llvm::Value* b) { return e_.ir.CreateAnd(a, b); }
  llvm::Value* either(llvm::Value* a, llvm::Value* b) { return e_.ir.CreateOr(a, b); }
  llvm::Value* no(llvm::Value* a) { return e_.ir.CreateNot(a); }

  Bounds unknown(DType d) {
    if (d == DType::boolean) return {ir().getFalse(), ir().getTrue()};
    return {e_.i64(least(d)), e_.i64(most(d))};
  }
  // Of arithmetic on i64 that is exact where `exact` holds: what wraps around may be anything.
  Bounds fitted(DType d, Bounds b, llvm::Value* exact) {
    if (d == DType::i32)
      exact = both(exact, both(ir().CreateICmpSGE(b.lo, e_.i64(INT32_MIN)),
                               ir().CreateICmpSLE(b.hi, e_.i64(INT32_MAX))));
    const Bounds all = unknown(d);
    return {ir().CreateSelect(exact, b.lo, all.lo), ir().CreateSelect(exact, b.hi, all.hi)};
  }
  llvm::Value* smaller_than(const Bounds& b, std::int64_t size) {
    return both(ir().CreateICmpSGT(b.lo, e_.i64(-size)), ir().CreateICmpSLT(b.hi, e_.i64(size)));
  }
  Bounds united(llvm::Value* choice_certain, llvm::Value* choice_possible, const Bounds& a,
                const Bounds& b, bool truth) {
    llvm::Value* lo = truth ? both(a.lo, b.lo) : e_.min(a.lo, b.lo);
    llvm::Value* hi = truth ? either(a.hi, b.hi) : e_.max(a.hi, b.hi);
    const auto pick = [&](llvm::Value* x, llvm::Value* y, llvm::Value* z) {
      return ir().CreateSelect(choice_certain, x, ir().CreateSelect(choice_possible, z, y));
    };
    return {pick(a.lo, b.lo, lo), pick(a.hi, b.hi, hi)};
  }

  Bounds of(ValueId v) {
    const DType d = f_.type(v).dtype;
    switch (m_.known_[v.index]) {
      case TileMask::Known::no:
        return unknown(d);
      case TileMask::Known::uniform: {
        llvm::Value* x = uniform_.get(v);
        if (d != DType::boolean) x = ir().CreateSExt(x, e_.type(DType::i64));
        return {x, x};
      }
      case TileMask::Known::leaf: {
        llvm::Value* block = m_.has(v, m_.s_.keys) ? tile_.key_block : tile_.row_block;
        llvm::Value* at = e_.at(m_.leaf_[v.index], e_.mul(block, 2), DType::i64);
        llvm::Value* lo = e_.load(at, DType::i64, 1);
        llvm::Value* hi = e_.load(e_.at(at, e_.i64(1), DType::i64), DType::i64, 1);
        if (d != DType::boolean) return {lo, hi};
        return {ir().CreateTrunc(lo, ir().getInt1Ty()), ir().CreateTrunc(hi, ir().getInt1Ty())};
      }
      case TileMask::Known::rule:
        return by_rule(f_.op(f_.value(v).def), d);
    }
    return unknown(d);
  }

  Bounds by_rule(const Op& op, DType d) {
    const auto at = [&](std::size_t i) { return bounds_[op.operands[i].index]; };
    const bool truths = !op.operands.empty() && f_.type(op.operands.back()).dtype == DType::boolean;
    switch (op.code) {
      case Opcode::constant_: {
        llvm::Value* x = d == DType::boolean
                             ? static_cast<llvm::Value*>(ir().getInt1(op.attr.integer != 0))
                             : e_.i64(op.attr.integer);
        return {x, x};
      }
      case Opcode::position_: {
        const bool key = op.attr.to == m_.s_.keys;
        Bounds b{key ? tile_.key : tile_.row, key ? tile_.key_last : tile_.row_last};
        if (op.operands.empty()) return b;
        llvm::Value* base = uniform_.get(op.operands[0]);
        const Bounds moved{e_.ir.CreateAdd(b.lo, base), e_.ir.CreateAdd(b.hi, base)};
        return fitted(d, moved, smaller_than({base, base}, std::int64_t{1} << 40));
      }
      case Opcode::expand_:
      case Opcode::stop_:
        return at(0);
      case Opcode::cast_: {
        const DType from = f_.type(op.operands[0]).dtype;
        const Bounds a = at(0);
        if (from == d) return a;
        if (from == DType::boolean)
          return {ir().CreateZExt(a.lo, ir().getInt64Ty()),
                  ir().CreateZExt(a.hi, ir().getInt64Ty())};
        if (d == DType::boolean) {
          llvm::Value* zero =
              both(ir().CreateICmpEQ(a.lo, e_.i64(0)), ir().CreateICmpEQ(a.hi, e_.i64(0)));
          llvm::Value* spans =
              both(ir().CreateICmpSLE(a.lo, e_.i64(0)), ir().CreateICmpSGE(a.hi, e_.i64(0)));
          return {no(spans), no(zero)};
        }
        return fitted(d, a, ir().getTrue());
      }
      case Opcode::select_: {
        const Bounds c = at(0);
        return united(c.lo, c.hi, at(1), at(2), d == DType::boolean);
      }
      case Opcode::not_:
        return {no(at(0).hi), no(at(0).lo)};
      case Opcode::and_:
        return {both(at(0).lo, at(1).lo), both(at(0).hi, at(1).hi)};
      case Opcode::or_:
        return {either(at(0).lo, at(1).lo), either(at(0).hi, at(1).hi)};
      case Opcode::eq_:
      case Opcode::ne_: {
        const Bounds same = truths ? same_truth(at(0), at(1)) : same_number(at(0), at(1));
        return op.code == Opcode::eq_ ? same : Bounds{no(same.hi), no(same.lo)};
      }
      case Opcode::lt_:
        return {ir().CreateICmpSLT(at(0).hi, at(1).lo), ir().CreateICmpSLT(at(0).lo, at(1).hi)};
      case Opcode::le_:
        return {ir().CreateICmpSLE(at(0).hi, at(1).lo), ir().CreateICmpSLE(at(0).lo, at(1).hi)};
      default:
        return arithmetic(op, d);
    }
  }
  Bounds same_truth(const Bounds& a, const Bounds& b) {
    llvm::Value* certain = either(both(a.lo, b.lo), both(no(a.hi), no(b.hi)));
    return {certain, no(either(both(a.lo, no(b.hi)), both(no(a.hi), b.lo)))};
  }
  Bounds same_number(const Bounds& a, const Bounds& b) {
    llvm::Value* meet = both(ir().CreateICmpSLE(a.lo, b.hi), ir().CreateICmpSLE(b.lo, a.hi));
    llvm::Value* point = both(ir().CreateICmpEQ(a.lo, a.hi), ir().CreateICmpEQ(b.lo, b.hi));
    return {both(meet, point), meet};
  }

  Bounds arithmetic(const Op& op, DType d) {
    const Bounds a = bounds_[op.operands[0].index];
    const Bounds b = op.operands.size() > 1 ? bounds_[op.operands[1].index] : Bounds{};
    const std::int64_t wide = std::int64_t{1} << 61;
    auto& i = ir();
    switch (op.code) {
      case Opcode::neg_:
        return fitted(d, {i.CreateNeg(a.hi), i.CreateNeg(a.lo)}, smaller_than(a, wide));
      case Opcode::abs_: {
        llvm::Value *low = i.CreateNeg(a.lo), *zero = e_.i64(0);
        const Bounds b2{e_.max(e_.max(a.lo, i.CreateNeg(a.hi)), zero), e_.max(a.hi, low)};
        return fitted(d, b2, smaller_than(a, wide));
      }
      case Opcode::add_:
        return fitted(d, {i.CreateAdd(a.lo, b.lo), i.CreateAdd(a.hi, b.hi)},
                      both(smaller_than(a, wide), smaller_than(b, wide)));
      case Opcode::sub_:
        return fitted(d, {i.CreateSub(a.lo, b.hi), i.CreateSub(a.hi, b.lo)},
                      both(smaller_than(a, wide), smaller_than(b, wide)));
      case Opcode::mul_: {
        llvm::Value* corners[4] = {i.CreateMul(a.lo, b.lo), i.CreateMul(a.lo, b.hi),
                                   i.CreateMul(a.hi, b.lo), i.CreateMul(a.hi, b.hi)};
        llvm::Value *lo = corners[0], *hi = corners[0];
        for (llvm::Value* c : corners) {
          lo = e_.min(lo, c);
          hi = e_.max(hi, c);
        }
        const std::int64_t half = (std::int64_t{1} << 31) + 1;
        return fitted(d, {lo, hi}, both(smaller_than(a, half), smaller_than(b, half)));
      }
      case Opcode::max_:
        return {e_.max(a.lo, b.lo), e_.max(a.hi, b.hi)};
      case Opcode::min_:
        return {e_.min(a.lo, b.lo), e_.min(a.hi, b.hi)};
      case Opcode::floordiv_:
      case Opcode::mod_: {
        const OpId def = f_.value(op.operands[1]).def;
        const std::int64_t by =
            def.valid() && f_.op(def).code == Opcode::constant_ ? f_.op(def).attr.integer : 0;
        if (by <= 0) return unknown(d);
        const auto [q_lo, r_lo] = floor_divided(a.lo, by);
        const auto [q_hi, r_hi] = floor_divided(a.hi, by);
        if (op.code == Opcode::floordiv_) return {q_lo, q_hi};
        llvm::Value* same = i.CreateICmpEQ(q_lo, q_hi);
        return {i.CreateSelect(same, r_lo, e_.i64(0)), i.CreateSelect(same, r_hi, e_.i64(by - 1))};
      }
      default:
        internal_error("a mask's operation has no rule");
    }
  }
  std::pair<llvm::Value*, llvm::Value*> floor_divided(llvm::Value* x, std::int64_t by) {
    llvm::Value* q = ir().CreateSDiv(x, e_.i64(by));
    llvm::Value* r = ir().CreateSub(x, ir().CreateMul(q, e_.i64(by)));
    llvm::Value* below = ir().CreateICmpSLT(r, e_.i64(0));
    return {ir().CreateSub(q, ir().CreateZExt(below, ir().getInt64Ty())),
            ir().CreateSelect(below, ir().CreateAdd(r, e_.i64(by)), r)};
  }

  TileMask& m_;
  Emitter& e_;
  const Function& f_;
  const TileMask::Tile& tile_;
  Values uniform_;
  std::vector<Bounds> bounds_;
};

TileMask::TileMask(Emitter& e, const Scores& s, std::vector<Condition> conditions, Scratch& scratch)
    : e_(e),
      s_(s),
      conditions_(std::move(conditions)),
      known_(e.kernel.values.size(), Known::no),
      positional_(e.kernel.values.size(), 0),
      leaf_(e.kernel.values.size(), nullptr) {
  const Function& f = e.kernel;
  const auto is_uniform = [&](ValueId v) { return !has(v, s.keys) && !has(v, s.tiled); };
  for (ValueId v : f.body().arguments) positional_[v.index] = is_uniform(v);
  for (OpId o : f.body().ops) {
    const Op& op = f.op(o);
    const ValueId r = op.results[0];
    bool all = has_rule(f, op);
    for (ValueId x : op.operands) all = all && positional_[x.index];
    positional_[r.index] = all || is_uniform(r);
  }
  std::vector<char> needed(f.values.size());
  std::vector<ValueId> stack;
  for (const Condition& c : conditions_) stack.push_back(c.value);
  while (!stack.empty()) {
    const ValueId v = stack.back();
    stack.pop_back();
    if (std::exchange(needed[v.index], 1)) continue;
    known_[v.index] = classify(v);
    if (known_[v.index] == Known::leaf)
      leaf_[v.index] =
          scratch.take(DType::i64, 2 * (has(v, s.keys) ? s.key_blocks() : s.row_blocks()));
    if (known_[v.index] != Known::rule) continue;
    const Op& op = f.op(f.value(v).def);
    if (op.code != Opcode::position_)
      stack.insert(stack.end(), op.operands.begin(), op.operands.end());
  }
  for (ValueId v : f.body().arguments)
    if (needed[v.index]) order_.push_back(v);
  for (OpId o : f.body().ops)
    if (needed[f.op(o).results[0].index]) order_.push_back(f.op(o).results[0]);
}

bool TileMask::has(ValueId v, AxisId axis) const {
  return axis.valid() && e_.kernel.type(v).axes.contains(axis);
}

TileMask::Known TileMask::classify(ValueId v) const {
  const bool key = has(v, s_.keys), row = has(v, s_.tiled);
  if (!key && !row) return Known::uniform;
  if (key != row && !positional_[v.index]) return Known::leaf;
  const OpId def = e_.kernel.value(v).def;
  return def.valid() && has_rule(e_.kernel, e_.kernel.op(def)) ? Known::rule : Known::no;
}

void TileMask::prepare(const Point& plane) {
  const int lanes = s_.lanes;
  auto& ir = e_.ir;
  for (ValueId v : order_) {
    if (leaf_[v.index] == nullptr) continue;
    const AxisId axis = has(v, s_.keys) ? s_.keys : s_.tiled;
    const std::int64_t extent = e_.kernel.extent(axis);
    const DType d = e_.kernel.type(v).dtype;
    const bool truth = d == DType::boolean;
    llvm::Value* const first[] = {
        truth ? static_cast<llvm::Value*>(e_.integer(d, 1, lanes)) : e_.integer(d, most(d), lanes),
        truth ? static_cast<llvm::Value*>(e_.integer(d, 0, lanes))
              : e_.integer(d, least(d), lanes)};
    const std::int64_t size = axis == s_.keys ? s_.tile_keys : tile_rows;
    e_.loop(0, (extent + size - 1) / size, 1, [&](llvm::Value* block) {
      llvm::Value* begin = e_.mul(block, size);
      llvm::Value* end = e_.min(e_.add(begin, size), e_.i64(extent));
      const std::vector<llvm::Value*> found = e_.loop(
          begin, end, lanes, first, [&](llvm::Value* at, std::span<llvm::Value* const> state) {
            Point point = with_lanes(plane, lanes);
            set_axis(point, axis, at, 1, lanes);
            if (extent % lanes != 0) point.mask = e_.first_lanes(ir.CreateSub(end, at), lanes);
            llvm::Value* x = Values(e_, point).get(v);
            const auto or_else = [&](llvm::Value* neutral) {
              return point.mask == nullptr ? x : ir.CreateSelect(point.mask, x, neutral);
            };
            llvm::Value *low = or_else(first[0]), *high = or_else(first[1]);
            if (truth)
              return std::vector<llvm::Value*>{ir.CreateAnd(state[0], low),
                                               ir.CreateOr(state[1], high)};
            return std::vector<llvm::Value*>{e_.min(state[0], low), e_.max(state[1], high)};
          });
      llvm::Value* lo =
          truth ? ir.CreateAndReduce(found[0]) : ir.CreateIntMinReduce(found[0], true);
      llvm::Value* hi = truth ? ir.CreateOrReduce(found[1]) : ir.CreateIntMaxReduce(found[1], true);
      llvm::Value* at = e_.at(leaf_[v.index], e_.mul(block, 2), DType::i64);
      const auto wide = [&](llvm::Value* x) {
        return truth ? ir.CreateZExt(x, ir.getInt64Ty()) : ir.CreateSExt(x, ir.getInt64Ty());
      };
      e_.store(wide(lo), at, DType::i64, 1);
      e_.store(wide(hi), e_.at(at, e_.i64(1), DType::i64), DType::i64, 1);
    });
  }
}

TileMask::Verdict TileMask::judge(const Point& plane, const Tile& tile) {
  Verdict out{e_.ir.getTrue(), e_.ir.getTrue()};
  if (empty()) return out;
  const TileBounds bounds(*this, plane, tile);
  for (const Condition& c : conditions_) {
    const TileBounds::Bounds& b = bounds[c.value];
    out.possible = e_.ir.CreateAnd(out.possible, c.keeps ? b.hi : e_.ir.CreateNot(b.lo));
    out.certain = e_.ir.CreateAnd(out.certain, c.keeps ? b.lo : e_.ir.CreateNot(b.hi));
  }
  return out;
}

void TileMask::bind_kept(Values& values) const {
  for (const Condition& c : conditions_)
    values.bind(c.value, e_.integer(DType::boolean, c.keeps, values.point().lanes));
}

}  // namespace gradc
