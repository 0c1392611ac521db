// Owns what the files of the interpreter share: one operation with its operands' arrays, walks over
// index spaces with strides, and the evaluation of everything but control (evaluate_machine.h).
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "ir/evaluate.h"
#include "ir/program.h"

namespace gradc::interpreter {

// One operation with one result. Operands lie row-major in the order of their types' axes.
struct Evaluation {
  const Program& program;
  const Function& function;
  const Op& op;
  std::span<const Array* const> operands;

  const Array& operand(std::size_t i) const { return *operands[i]; }
  const Type& type(std::size_t i) const { return function.type(op.operands[i]); }
  const Type& result() const { return function.type(op.results[0]); }
  std::int64_t scalar(std::size_t i) const {
    return operands[i]->integer[0];
  }  // of an integer scalar
};

// Wrapping arithmetic; defined for all operands. (Strides of an empty array may be beyond any
// number.)
constexpr std::int64_t wrapping_add(std::int64_t a, std::int64_t b) {
  return static_cast<std::int64_t>(static_cast<std::uint64_t>(a) + static_cast<std::uint64_t>(b));
}
constexpr std::int64_t wrapping_mul(std::int64_t a, std::int64_t b) {
  return static_cast<std::int64_t>(static_cast<std::uint64_t>(a) * static_cast<std::uint64_t>(b));
}

// Elements from one position of `axis` to the next in a row-major array of the type; 0 without the
// axis.
std::int64_t stride_of(const Function& f, const Type& type, AxisId axis);

// An index space, outermost axis first, with a stride and a start for each of N arrays. Axes that
// one stride can cross are merged, so that the rows of a walk are long.
template <std::size_t N>
struct Grid {
  using Offsets = std::array<std::int64_t, N>;
  int rank = 0;
  std::array<std::int64_t, max_rank + 1> extent{};
  std::array<Offsets, max_rank + 1> stride{};
  Offsets start{};

  void axis(std::int64_t n, const Offsets& strides) {
    if (n == 1) return;
    if (rank > 0) {
      bool continues = true;
      for (std::size_t i = 0; i < N; ++i)
        continues = continues && stride[last()][i] == wrapping_mul(n, strides[i]);
      if (continues) {
        extent[last()] = wrapping_mul(extent[last()], n);
        stride[last()] = strides;
        return;
      }
    }
    ++rank;
    extent[last()] = n;
    stride[last()] = strides;
  }
  std::size_t last() const { return static_cast<std::size_t>(rank - 1); }
};

// Calls row(count, offsets, strides) for each innermost row, in row-major order of the grid.
template <std::size_t N, class Row>
void walk(const Grid<N>& grid, Row&& row) {
  using Offsets = typename Grid<N>::Offsets;
  for (int d = 0; d < grid.rank; ++d)
    if (grid.extent[static_cast<std::size_t>(d)] == 0) return;
  Offsets at = grid.start;
  if (grid.rank == 0) return row(std::int64_t{1}, at, Offsets{});
  std::array<std::int64_t, max_rank + 1> index{};
  while (true) {
    row(grid.extent[grid.last()], at, grid.stride[grid.last()]);
    int d = grid.rank - 2;
    for (; d >= 0; --d) {
      const auto u = static_cast<std::size_t>(d);
      const bool carry = ++index[u] == grid.extent[u];
      for (std::size_t i = 0; i < N; ++i)
        at[i] += grid.stride[u][i] * (carry ? 1 - grid.extent[u] : 1);
      if (!carry) break;
      index[u] = 0;
    }
    if (d < 0) return;
  }
}

// Copies along a grid of (to, from), reals or integers by dtype.
void copy(Array& to, const Array& from, const Grid<2>& grid);
// `from` of type `t` into `to` of the same axes in the order of type `wanted`.
void permute(const Function& f, const Array& from, const Type& t, Array& to, const Type& wanted);

// An integer at its dtype's width: wraps around; a bool is 0 or 1.
std::int64_t wrap(std::int64_t x, DType dtype);
// The larger and smaller of two reals: NaN if either is, and +0 above −0, so that both commute bit
// for bit.
double larger(double a, double b);
double smaller(double a, double b);

// Each fills `out`, which has the result's type and holds zeros.
void evaluate_source(const Evaluation& e, Array& out);
void evaluate_elementwise(const Evaluation& e, Array& out);
void evaluate_move(const Evaluation& e, Array& out);  // views, reads, flat
void evaluate_reduce(const Evaluation& e, Array& out);
void evaluate_contract(const Evaluation& e, Array& out);

}  // namespace gradc::interpreter
