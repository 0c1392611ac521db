// The interpreter's sources and elementwise operations, and the rounding of casts.
#include <algorithm>
#include <cmath>
#include <limits>

#include "ir/evaluate_ops.h"
#include "ir/philox.h"

namespace gradc {

// To a significand of `digits` bits with exponents from `least`: x is scaled so that the last bit
// kept is the integer's, rounded to nearest even (the default mode) and scaled back, all exact but
// the rounding.
static double round_significand(double x, int digits, int least, double greatest) {
  if (x == 0 || !std::isfinite(x)) return x;
  const int exponent = std::max(std::ilogb(x), least);
  const int shift = digits - 1 - exponent;
  const double r = std::ldexp(std::nearbyint(std::ldexp(x, shift)), -shift);
  return std::abs(r) > greatest ? std::copysign(std::numeric_limits<double>::infinity(), x) : r;
}

double round_to(double x, DType dtype) {
  switch (dtype) {
    case DType::bf16: return round_significand(x, 8, -126, 0x1.fep127);
    case DType::f16: return round_significand(x, 11, -14, 65504);
    // The processor's own conversion, in the range where C++ defines it: initial values are rounded
    // one by one.
    case DType::f32:
      return std::abs(x) <= 0x1.fffffep127 ? static_cast<double>(static_cast<float>(x))
                                           : round_significand(x, 24, -126, 0x1.fffffep127);
    default: return x;
  }
}

namespace interpreter {
namespace {

template <std::size_t N>
Grid<N + 1> aligned(const Evaluation& e) {
  Grid<N + 1> grid;
  for (AxisId a : e.result().axes) {
    std::array<std::int64_t, N + 1> strides{stride_of(e.function, e.result(), a)};
    for (std::size_t i = 0; i < N; ++i) strides[i + 1] = stride_of(e.function, e.type(i), a);
    grid.axis(e.function.extent(a), strides);
  }
  return grid;
}

template <class Out, class A, class F>
void map1(const Evaluation& e, std::vector<Out>& out, const std::vector<A>& a, F f) {
  walk(aligned<1>(e), [&](std::int64_t n, const auto& at, const auto& step) {
    Out* o = out.data() + at[0];
    const A* x = a.data() + at[1];
    for (std::int64_t i = 0; i < n; ++i) o[i * step[0]] = static_cast<Out>(f(x[i * step[1]]));
  });
}

template <class Out, class A, class F>
void map2(const Evaluation& e, std::vector<Out>& out, const std::vector<A>& a,
          const std::vector<A>& b, F f) {
  walk(aligned<2>(e), [&](std::int64_t n, const auto& at, const auto& step) {
    Out* o = out.data() + at[0];
    const A* x = a.data() + at[1];
    const A* y = b.data() + at[2];
    for (std::int64_t i = 0; i < n; ++i)
      o[i * step[0]] = static_cast<Out>(f(x[i * step[1]], y[i * step[2]]));
  });
}

template <class T>
void choose(const Evaluation& e, std::vector<T>& out, const std::vector<T>& a,
            const std::vector<T>& b) {
  const std::vector<std::int64_t>& c = e.operand(0).integer;
  walk(aligned<3>(e), [&](std::int64_t n, const auto& at, const auto& step) {
    for (std::int64_t i = 0; i < n; ++i) {
      const bool first = c[static_cast<std::size_t>(at[1] + i * step[1])] != 0;
      const T& x = a[static_cast<std::size_t>(at[2] + i * step[2])];
      const T& y = b[static_cast<std::size_t>(at[3] + i * step[3])];
      out[static_cast<std::size_t>(at[0] + i * step[0])] = first ? x : y;
    }
  });
}

std::int64_t floor_divide(std::int64_t a, std::int64_t b) {
  if (b == 0) return 0;
  if (b == -1)
    return static_cast<std::int64_t>(-static_cast<std::uint64_t>(a));  // also of the least integer
  return a / b - (a % b != 0 && (a < 0) != (b < 0) ? 1 : 0);
}
std::int64_t floor_modulo(std::int64_t a, std::int64_t b) {
  if (b == 0 || b == -1) return 0;
  const std::int64_t r = a % b;
  return r != 0 && (r < 0) != (b < 0) ? r + b : r;
}

// Truncates; beyond the dtype's range the nearest end of it, of NaN 0.
std::int64_t to_integer(double x, DType dtype) {
  if (std::isnan(x)) return 0;
  if (dtype == DType::boolean) return x != 0;
  const bool wide = dtype == DType::i64;
  const double low = wide ? -0x1p63 : -0x1p31, high = wide ? 0x1p63 : 0x1p31 - 1;
  if (x <= low) return wide ? INT64_MIN : INT32_MIN;
  if (x >= high) return wide ? INT64_MAX : INT32_MAX;
  return static_cast<std::int64_t>(x);
}

void cast(const Evaluation& e, Array& out) {
  const Array& x = e.operand(0);
  const DType to = out.dtype;
  // f32 is held as it comes: the oracle carries more digits than the compiled program.
  const bool rounds = to == DType::bf16 || to == DType::f16;
  if (is_real(x.dtype) && is_real(to))
    map1(e, out.real, x.real, [&](double v) { return rounds ? round_to(v, to) : v; });
  else if (is_real(x.dtype))
    map1(e, out.integer, x.real,
         [&](double v) { return to == DType::boolean ? std::int64_t{v != 0} : to_integer(v, to); });
  else if (is_real(to))
    map1(e, out.real, x.integer, [&](std::int64_t v) {
      return rounds ? round_to(static_cast<double>(v), to) : static_cast<double>(v);
    });
  else
    map1(e, out.integer, x.integer, [&](std::int64_t v) { return wrap(v, to); });
}

void unary_real(const Evaluation& e, Array& out) {
  const std::vector<double>& x = e.operand(0).real;
  const auto run = [&](auto f) { map1(e, out.real, x, f); };
  switch (e.op.code) {
    case Opcode::neg_: return run([](double v) { return -v; });
    case Opcode::abs_: return run([](double v) { return std::abs(v); });
    case Opcode::floor_: return run([](double v) { return std::floor(v); });
    case Opcode::exp_: return run([](double v) { return std::exp(v); });
    case Opcode::log_: return run([](double v) { return std::log(v); });
    case Opcode::sqrt_: return run([](double v) { return std::sqrt(v); });
    case Opcode::rsqrt_: return run([](double v) { return 1 / std::sqrt(v); });
    case Opcode::sin_: return run([](double v) { return std::sin(v); });
    case Opcode::cos_: return run([](double v) { return std::cos(v); });
    case Opcode::tanh_: return run([](double v) { return std::tanh(v); });
    case Opcode::sigmoid_: return run([](double v) { return 1 / (1 + std::exp(-v)); });
    case Opcode::erf_: return run([](double v) { return std::erf(v); });
    case Opcode::stop_: return run([](double v) { return v; });
    default: internal_error("the interpreter lacks a unary operation of reals");
  }
}

void unary_integer(const Evaluation& e, Array& out) {
  const std::vector<std::int64_t>& x = e.operand(0).integer;
  const auto run = [&](auto f) {
    map1(e, out.integer, x, [&](std::int64_t v) { return wrap(f(v), out.dtype); });
  };
  const auto negate = [](std::int64_t v) {
    return static_cast<std::int64_t>(-static_cast<std::uint64_t>(v));
  };
  switch (e.op.code) {
    case Opcode::neg_: return run(negate);
    case Opcode::abs_: return run([&](std::int64_t v) { return v < 0 ? negate(v) : v; });
    case Opcode::not_: return run([](std::int64_t v) { return std::int64_t{v == 0}; });
    case Opcode::stop_: return run([](std::int64_t v) { return v; });
    default: internal_error("the interpreter lacks a unary operation of integers");
  }
}

void binary_real(const Evaluation& e, Array& out) {
  const std::vector<double>&a = e.operand(0).real, &b = e.operand(1).real;
  const auto run = [&](auto f) { map2(e, out.real, a, b, f); };
  const auto test = [&](auto f) { map2(e, out.integer, a, b, f); };
  switch (e.op.code) {
    case Opcode::add_: return run([](double x, double y) { return x + y; });
    case Opcode::sub_: return run([](double x, double y) { return x - y; });
    case Opcode::mul_: return run([](double x, double y) { return x * y; });
    case Opcode::div_: return run([](double x, double y) { return x / y; });
    case Opcode::pow_: return run([](double x, double y) { return std::pow(x, y); });
    case Opcode::max_: return run(larger);
    case Opcode::min_: return run(smaller);
    case Opcode::lt_: return test([](double x, double y) { return x < y; });
    case Opcode::le_: return test([](double x, double y) { return x <= y; });
    case Opcode::eq_: return test([](double x, double y) { return x == y; });
    case Opcode::ne_: return test([](double x, double y) { return x != y; });
    default: internal_error("the interpreter lacks a binary operation of reals");
  }
}

void binary_integer(const Evaluation& e, Array& out) {
  using I = std::int64_t;
  const std::vector<I>&a = e.operand(0).integer, &b = e.operand(1).integer;
  const auto run = [&](auto f) {
    map2(e, out.integer, a, b, [&](I x, I y) { return wrap(f(x, y), out.dtype); });
  };
  const auto bits = [](I x) { return static_cast<std::uint64_t>(x); };
  switch (e.op.code) {
    case Opcode::add_: return run(wrapping_add);
    case Opcode::sub_: return run([&](I x, I y) { return static_cast<I>(bits(x) - bits(y)); });
    case Opcode::mul_: return run([&](I x, I y) { return static_cast<I>(bits(x) * bits(y)); });
    case Opcode::max_: return run([](I x, I y) { return x > y ? x : y; });
    case Opcode::min_: return run([](I x, I y) { return x < y ? x : y; });
    case Opcode::floordiv_: return run(floor_divide);
    case Opcode::mod_: return run(floor_modulo);
    case Opcode::lt_: return run([](I x, I y) { return I{x < y}; });
    case Opcode::le_: return run([](I x, I y) { return I{x <= y}; });
    case Opcode::eq_: return run([](I x, I y) { return I{x == y}; });
    case Opcode::ne_: return run([](I x, I y) { return I{x != y}; });
    case Opcode::and_: return run([](I x, I y) { return I{x != 0 && y != 0}; });
    case Opcode::or_: return run([](I x, I y) { return I{x != 0 || y != 0}; });
    default: internal_error("the interpreter lacks a binary operation of integers");
  }
}

void flags(const Evaluation& e, Array& out) {
  const bool decay = e.program.text(e.op.attr.flag) == "decay";
  for (const Leaf& leaf : leaves(e.program, e.op.attr.bundle))
    for (std::int64_t i = 0; i < leaf.elements; ++i)
      out.integer[static_cast<std::size_t>(leaf.offset + i)] =
          decay ? leaf.member->decay : leaf.member->clip;
}

}  // namespace

std::int64_t wrap(std::int64_t x, DType dtype) {
  switch (dtype) {
    case DType::i32: return static_cast<std::int32_t>(static_cast<std::uint32_t>(x));
    case DType::boolean: return x != 0;
    default: return x;
  }
}

double larger(double a, double b) {
  if (std::isnan(a) || std::isnan(b)) return std::numeric_limits<double>::quiet_NaN();
  if (a == b) return std::signbit(a) ? b : a;
  return a > b ? a : b;
}
double smaller(double a, double b) {
  if (std::isnan(a) || std::isnan(b)) return std::numeric_limits<double>::quiet_NaN();
  if (a == b) return std::signbit(a) ? a : b;
  return a < b ? a : b;
}

void evaluate_source(const Evaluation& e, Array& out) {
  switch (e.op.code) {
    case Opcode::constant_:
      if (is_real(out.dtype))
        out.real[0] = e.op.attr.real;
      else
        out.integer[0] = wrap(e.op.attr.integer, out.dtype);
      return;
    case Opcode::position_: {
      const std::int64_t base = e.operands.empty() ? 0 : e.scalar(0);
      for (std::size_t i = 0; i < out.integer.size(); ++i)
        out.integer[i] = wrap(wrapping_add(base, static_cast<std::int64_t>(i)), out.dtype);
      return;
    }
    case Opcode::uniform_:
      for (std::size_t i = 0; i < out.real.size(); ++i)
        out.real[i] = philox_uniform(static_cast<std::uint64_t>(e.scalar(0)),
                                     static_cast<std::uint64_t>(e.scalar(1)),
                                     static_cast<std::uint64_t>(e.scalar(2)), i);
      return;
    case Opcode::flags_: return flags(e, out);
    default: internal_error("the interpreter lacks a source");
  }
}

void evaluate_elementwise(const Evaluation& e, Array& out) {
  const bool real = is_real(e.operand(0).dtype);
  switch (facts(e.op.code).kind) {
    case Kind::unary:
      if (e.op.code == Opcode::cast_) return cast(e, out);
      return real ? unary_real(e, out) : unary_integer(e, out);
    case Kind::binary: return real ? binary_real(e, out) : binary_integer(e, out);
    case Kind::ternary:
      if (is_real(out.dtype)) return choose(e, out.real, e.operand(1).real, e.operand(2).real);
      return choose(e, out.integer, e.operand(1).integer, e.operand(2).integer);
    default: internal_error("not an elementwise operation");
  }
}

}  // namespace interpreter
}  // namespace gradc
