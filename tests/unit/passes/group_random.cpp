// Random programs: small values over a few axes, joined by operations of every kind.
#include "ir/builder.h"
#include "ir/philox.h"
#include "unit/passes/group_support.h"

namespace gradc::plan_test {
namespace {

class Generator {
 public:
  Generator(Program& p, Function& f, std::uint64_t seed) : b_(p, f), f_(f), seed_(seed) {}

  void run() {
    for (const auto& [name, extent] :
         {std::pair{"i", 3}, {"j", 4}, {"k", 4}, {"l", 1}, {"n", 12}, {"r", 16}})
      axes_.push_back(b_.axis(name, extent));
    const int arguments = 3 + pick(4);
    for (int i = 0; i < arguments; ++i) keep(b_.argument({DType::f32, some_axes(3)}, "x"));
    index_ = b_.argument({DType::i32, some_axes(2)}, "index");
    const int count = 10 + pick(50);
    for (int i = 0; i < count; ++i) step();
    std::vector<ValueId> results;
    const int wanted = 1 + pick(5);
    for (int i = 0; i < wanted; ++i) results.push_back(i == 0 ? values_.back() : any());
    b_.finish(results);
  }

 private:
  int pick(int n) { return static_cast<int>(philox_uniform(seed_, 0, 0, next_++) * n); }
  bool chance(double p) { return philox_uniform(seed_, 0, 0, next_++) < p; }
  // Late values more often: chains rather than stars.
  ValueId any() {
    const int n = static_cast<int>(values_.size());
    return values_[static_cast<std::size_t>(chance(0.6) ? n - 1 - pick(std::min(n, 6)) : pick(n))];
  }
  AxisId axis() {
    if (chance(0.01)) return b_.axis("none", 0);
    return axes_[static_cast<std::size_t>(pick(static_cast<int>(axes_.size())))];
  }
  AxisList some_axes(int most) {
    AxisList out;
    const int n = pick(most + 1);
    for (int i = 0; i < n; ++i) out = out.with(axis());
    return out;
  }
  const AxisList& axes(ValueId v) const { return f_.type(v).axes; }
  AxisId one_of(const AxisList& a) { return a[pick(a.size())]; }
  bool small(const AxisList& a) const {
    return a.size() <= 5 && f_.elements({DType::f32, a}) <= 800;
  }
  void keep(ValueId v) { values_.push_back(v); }
  // Of one extent and not among `used`; invalid if there is none.
  AxisId like(AxisId a, const AxisList& used) {
    for (AxisId x : axes_)
      if (x != a && f_.extent(x) == f_.extent(a) && !used.contains(x)) return x;
    return {};
  }
  AxisId of(std::int64_t extent, const AxisList& used) {
    for (AxisId x : axes_)
      if (f_.extent(x) == extent && !used.contains(x)) return x;
    const AxisId a = b_.fresh_axis("o", extent);
    axes_.push_back(a);
    return a;
  }

  void step() {
    const ValueId x = any();
    switch (pick(24)) {
      case 0:
      case 1:
      case 2: return unary(x);
      case 3:
      case 4:
      case 5:
      case 6:
      case 7: return binary(x, any());
      case 8: return select(x, any());
      case 9:
      case 10:
      case 11: return reduce(x);
      case 12:
      case 13: return contract(x, any());
      case 14:
        if (const AxisList a = axes(x).with(axis()); small(a)) keep(b_.expand(x, a));
        return;
      case 15: return relabel(x);
      case 16: return cut(x);
      case 17: return fold(x);
      case 18: return move(x);
      case 19: return gather(x);
      case 20: return concat(x);
      case 21: return scatter(x);
      case 22: return mask(x);
      default: return residual(x, any());
    }
  }
  void unary(ValueId x) {
    static constexpr Opcode codes[] = {Opcode::neg_, Opcode::tanh_, Opcode::sin_,
                                       Opcode::abs_, Opcode::cos_,  Opcode::stop_};
    keep(b_.unary(codes[pick(6)], x));
  }
  void binary(ValueId x, ValueId y) {
    static constexpr Opcode codes[] = {Opcode::add_, Opcode::sub_, Opcode::mul_, Opcode::max_,
                                       Opcode::min_};
    if (!small(unite(axes(x), axes(y)))) return;
    const ValueId r = b_.binary(codes[pick(5)], x, y);
    keep(chance(0.3) ? b_.unary(Opcode::sin_, r) : r);
  }
  void select(ValueId x, ValueId y) {
    if (!small(unite(axes(x), axes(y)))) return;
    const ValueId c = b_.binary(Opcode::lt_, x, y);
    keep(b_.add(Opcode::select_, {c, x, y}));
  }
  void reduce(ValueId x) {
    if (axes(x).empty()) return;
    AxisList over;
    for (AxisId a : axes(x))
      if (chance(0.4)) over.push_back(a);
    if (over.empty()) over.push_back(one_of(axes(x)));
    const ValueId r = b_.reduce(chance(0.6) ? Opcode::sum_ : Opcode::amax_, x, over);
    keep(r);
    if (chance(0.5))
      keep(b_.unary(Opcode::sin_, b_.binary(Opcode::sub_, x, r)));  // as in a softmax
  }
  void contract(ValueId x, ValueId y) {
    AxisList out;
    for (AxisId a : unite(axes(x), axes(y)))
      if (!(axes(x).contains(a) && axes(y).contains(a)) || chance(0.4)) out.push_back(a);
    if (!small(out)) return;
    const ValueId r = b_.contract(x, y, out);
    keep(r);
    for (int i = pick(4); i > 0; --i) residual(values_.back(), any());
  }
  void residual(ValueId x, ValueId y) {
    if (!axes(x).contains_all(axes(y))) return;
    keep(b_.unary(Opcode::sin_, b_.binary(Opcode::add_, x, y)));
  }
  void relabel(ValueId x) {
    if (axes(x).empty()) return;
    const AxisId a = one_of(axes(x)), to = like(a, axes(x));
    if (to.valid()) keep(b_.add(Opcode::relabel_, {x}, {.from = a, .to = to}));
  }
  void cut(ValueId x) {
    if (axes(x).empty()) return;
    const AxisId a = one_of(axes(x));
    const std::int64_t n = f_.extent(a);
    if (n == 0) return;
    if (chance(0.5))
      return keep(b_.add(Opcode::pick_, {x}, {.integer = pick(static_cast<int>(n)), .from = a}));
    const std::int64_t start = pick(static_cast<int>(n)), stride = 1 + pick(2),
                       m = (n - 1 - start) / stride + 1;
    const AxisId to = of(m, axes(x).with(a));
    keep(b_.add(Opcode::slice_, {x}, {.integer = start, .stride = stride, .from = a, .to = to}));
  }
  void fold(ValueId x) {
    const AxisList& a = axes(x);
    for (AxisId i : a)
      for (AxisId j : a)
        if (i != j && f_.extent(i) * f_.extent(j) <= 48) {
          const AxisId to = of(f_.extent(i) * f_.extent(j), a);
          return keep(b_.add(Opcode::merge_, {x}, {.to = to, .axes = {i, j}}));
        }
    for (AxisId n : a)
      if (f_.extent(n) == 12 && !a.contains(axes_[0]) && !a.contains(axes_[1]))
        return keep(b_.add(Opcode::split_, {x}, {.from = n, .axes = {axes_[0], axes_[1]}}));
  }
  void move(ValueId x) {
    if (axes(x).empty()) return;
    const AxisId a = one_of(axes(x));
    const int way = pick(3);
    if (way == 0) return keep(b_.add(Opcode::shift_, {x}, {.integer = pick(5) - 2, .from = a}));
    if (way == 1) {
      const std::int64_t before = pick(2), n = before + f_.extent(a) + pick(2);
      const AxisId wide = of(n, axes(x));
      const AxisList all = axes(x).replaced(a, wide);
      if (small(all)) keep(b_.add(Opcode::pad_, {x}, {.integer = before, .from = wide, .to = a}));
      return;
    }
    const AxisId to = of(3, axes(x));
    if (small(axes(x).with(to))) keep(b_.add(Opcode::place_, {x}, {.integer = pick(3), .to = to}));
  }
  void gather(ValueId x) {
    if (axes(x).empty()) return;
    const AxisId a = one_of(axes(x));
    if (axes(index_).contains(a) || !small(unite(axes(x), axes(index_)))) return;
    ValueId i = index_;
    if (chance(0.4)) i = b_.binary(Opcode::max_, i, b_.integer(1));
    keep(b_.add(Opcode::gather_, {x, i}, {.from = a}));
  }
  void concat(ValueId x) {
    const AxisId to = of(2 + pick(2), axes(x));
    if (!small(axes(x).with(to))) return;
    std::vector<ValueId> parts;
    for (std::int64_t i = 0; i < f_.extent(to); ++i)
      parts.push_back(chance(0.4) && i > 0 ? x
                                           : b_.unary(chance(0.5) ? Opcode::sin_ : Opcode::neg_,
                                                      parts.empty() ? x : parts.back()));
    keep(b_.add(Opcode::concat_, parts, {.to = to, .axes = std::vector<AxisId>(parts.size())}));
  }
  void scatter(ValueId x) {
    if (!axes(x).contains_all(axes(index_))) return;
    AxisList rest;
    for (AxisId a : axes(x))
      if (!axes(index_).contains(a) || chance(0.3)) rest.push_back(a);
    const AxisId to = of(4, unite(axes(x), axes(index_)));
    const AxisList all = rest.with(to);
    if (!small(all)) return;
    const ValueId s = b_.add(Opcode::scatter_, {x, index_}, {.to = to}, Type{DType::f32, all});
    keep(s);
    if (chance(0.5))
      for (ValueId v : values_)
        if (same_set(axes(v), all) && v != s)
          return keep(b_.binary(Opcode::add_, b_.unary(Opcode::sin_, v), s));
  }
  void mask(ValueId x) {
    if (axes(x).empty()) return;
    const ValueId p = b_.add(Opcode::position_, {}, {.to = one_of(axes(x))});
    const ValueId q = b_.add(Opcode::position_, {}, {.to = axis()});
    const ValueId m = b_.binary(Opcode::le_, p, q);
    if (small(unite(axes(x), axes(m)))) keep(b_.add(Opcode::select_, {m, x, b_.constant(0.25)}));
  }

  Builder b_;
  Function& f_;
  std::uint64_t seed_, next_ = 0;
  std::vector<AxisId> axes_;
  std::vector<ValueId> values_;
  ValueId index_;
};

}  // namespace

Program random_program(std::uint64_t seed) {
  Program p;
  Function f;
  f.name = p.intern("f");
  Generator(p, f, seed).run();
  p.functions.push_back(std::move(f));
  return p;
}

}  // namespace gradc::plan_test
