// Owns the meaning of the IR: a plain interpreter in float64, the oracle for everything else. It is
// written to be obviously right, not fast. f32 and f64 values are held as doubles; only an explicit
// cast to bf16 or f16 rounds (to nearest even). Integers are int64, wrapping at their dtype's width.
//
// Where ops.def leaves a case open: a cast from real to integer gives the nearest end of the range
// beyond it, and 0 for NaN; max and amax take +0 over −0, min and amin −0 over +0; argmax never takes
// a NaN, and gives 0 where nothing is above −inf.
#pragma once

#include <bit>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "ir/diagnostic.h"
#include "ir/program.h"

namespace gradc {

// Elements in row-major order of the type's axes. Reals in `real`, integers and bools in `integer`.
struct Array {
  DType dtype = DType::f32;
  std::vector<std::int64_t> extents;
  std::vector<double> real;
  std::vector<std::int64_t> integer;

  std::int64_t size() const;
  static Array zeros(DType dtype, std::vector<std::int64_t> extents);
  static Array scalar(double x, DType dtype = DType::f32);
  static Array scalar(std::int64_t x, DType dtype);
};

// The results of `stop` in the order in which they arise: recorded by one run, given instead by the
// next ones. Finite differences need it: they must not see what no gradient flows through.
struct StopTape {
  bool replay = false;
  std::size_t next = 0;
  std::vector<Array> values;
};

// Runs function `f` on arguments that match its types (dtype and extents; checked: exit 2). `fused`
// runs its region, `launch` the kernel's body, `call` the callee. Fails (exit 3) when more than
// `max_elements` elements would be alive at once.
Result<std::vector<Array>> evaluate(const Program& program, FunctionId f,
                                    std::span<const Array> arguments,
                                    std::int64_t max_elements = std::int64_t{1} << 31,
                                    StopTape* stops = nullptr);

// The nearest number of the dtype, ties to even; f64 as it is. Casts to bf16 and f16 round with it.
double round_to(double x, DType dtype);
// The bits of x rounded to bf16, to nearest even; a NaN stays one.
inline std::uint16_t bf16_bits(float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  const std::uint32_t up = bits + 0x7fff + (bits >> 16 & 1);
  return static_cast<std::uint16_t>((x != x ? bits | 0x400000 : up) >> 16);
}

}  // namespace gradc
