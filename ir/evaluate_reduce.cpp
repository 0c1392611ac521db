// The interpreter's reductions and contractions: for each element of the result, one loop over the
// offsets of what is summed, in row-major order of the (first) operand.
#include <algorithm>
#include <cmath>
#include <limits>

#include "ir/evaluate_ops.h"

namespace gradc::interpreter {
namespace {

// Offsets into N arrays of all positions along `axes`, row-major.
template <std::size_t N>
std::vector<std::array<std::int64_t, N>> offsets(const Grid<N>& grid) {
  std::vector<std::array<std::int64_t, N>> out;
  walk(grid, [&](std::int64_t n, const auto& at, const auto& step) {
    for (std::int64_t i = 0; i < n; ++i) {
      auto o = at;
      for (std::size_t j = 0; j < N; ++j) o[j] += i * step[j];
      out.push_back(o);
    }
  });
  return out;
}

// out = fold over the reduced positions of f(accumulator, element), from `start`.
template <class Out, class A, class F>
void fold(const Evaluation& e, std::vector<Out>& out, const std::vector<A>& x, const Out start,
          F f) {
  Grid<1> reduced;
  for (AxisId a : e.type(0).axes)
    if (!e.result().axes.contains(a))
      reduced.axis(e.function.extent(a), {stride_of(e.function, e.type(0), a)});
  const auto inner = offsets(reduced);
  if (inner.empty()) return std::fill(out.begin(), out.end(), start);  // `x` has no memory
  Grid<2> kept;
  for (AxisId a : e.result().axes)
    kept.axis(e.function.extent(a),
              {stride_of(e.function, e.result(), a), stride_of(e.function, e.type(0), a)});
  walk(kept, [&](std::int64_t n, const auto& at, const auto& step) {
    for (std::int64_t i = 0; i < n; ++i) {
      const A* from = x.data() + at[1] + i * step[1];
      Out r = start;
      for (const auto& k : inner) r = f(r, from[k[0]]);
      out[static_cast<std::size_t>(at[0] + i * step[0])] = r;
    }
  });
}

// The first of the largest; a NaN is never larger. Of nothing, or of nothing but NaN and −inf: 0.
template <class T>
void argmax(const Evaluation& e, Array& out, const std::vector<T>& x, T least) {
  struct Best {
    T value;
    std::int64_t at, next;
  };
  std::vector<Best> best(out.integer.size());
  fold(e, best, x, Best{least, 0, 0}, [](Best b, T v) {
    if (v > b.value) b = {v, b.next, b.next};
    ++b.next;
    return b;
  });
  for (std::size_t i = 0; i < best.size(); ++i) out.integer[i] = best[i].at;
}

}  // namespace

void evaluate_reduce(const Evaluation& e, Array& out) {
  constexpr double inf = std::numeric_limits<double>::infinity();
  const Array& x = e.operand(0);
  const bool real = is_real(x.dtype), wide = x.dtype == DType::i64;
  const std::int64_t least = wide ? INT64_MIN : INT32_MIN, greatest = wide ? INT64_MAX : INT32_MAX;
  using I = std::int64_t;
  switch (e.op.code) {
    case Opcode::sum_:
      if (real) return fold(e, out.real, x.real, 0.0, [](double a, double b) { return a + b; });
      return fold(e, out.integer, x.integer, I{0},
                  [&](I a, I b) { return wrap(wrapping_add(a, b), out.dtype); });
    case Opcode::amax_:
      if (real) return fold(e, out.real, x.real, -inf, larger);
      return fold(e, out.integer, x.integer, least, [](I a, I b) { return a > b ? a : b; });
    case Opcode::amin_:
      if (real) return fold(e, out.real, x.real, inf, smaller);
      return fold(e, out.integer, x.integer, greatest, [](I a, I b) { return a < b ? a : b; });
    case Opcode::argmax_:
      return real ? argmax(e, out, x.real, -inf) : argmax(e, out, x.integer, INT64_MIN);
    default: internal_error("the interpreter lacks a reduction");
  }
}

void evaluate_contract(const Evaluation& e, Array& out) {
  const Function& f = e.function;
  const Type &ta = e.type(0), &tb = e.type(1), &tr = e.result();
  Grid<2> summed;
  for (AxisId x : ta.axes)
    if (!tr.axes.contains(x)) summed.axis(f.extent(x), {stride_of(f, ta, x), stride_of(f, tb, x)});
  const auto inner = offsets(summed);
  if (inner.empty()) return;  // sums of nothing: zeros
  Grid<3> kept;
  for (AxisId x : tr.axes)
    kept.axis(f.extent(x), {stride_of(f, tr, x), stride_of(f, ta, x), stride_of(f, tb, x)});
  // Eight elements at a time: each still adds its terms in order, but the chains overlap.
  constexpr std::int64_t together = 8;
  walk(kept, [&](std::int64_t n, const auto& at, const auto& step) {
    double* r = out.real.data() + at[0];
    const double *a = e.operand(0).real.data() + at[1], *b = e.operand(1).real.data() + at[2];
    std::int64_t i = 0;
    for (; i + together <= n; i += together) {
      double s[together] = {};
      for (const auto& k : inner)
        for (std::int64_t j = 0; j < together; ++j)
          s[j] += a[k[0] + (i + j) * step[1]] * b[k[1] + (i + j) * step[2]];
      for (std::int64_t j = 0; j < together; ++j) r[(i + j) * step[0]] = s[j];
    }
    for (; i < n; ++i) {
      double s = 0;
      for (const auto& k : inner) s += a[k[0] + i * step[1]] * b[k[1] + i * step[2]];
      r[i * step[0]] = s;
    }
  });
}

}  // namespace gradc::interpreter
