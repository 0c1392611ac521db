// Owns the loops by which a machine's rates are measured, emitted and optimised as kernels are:
// chains of multiply-adds in registers, and streams through memory. Whoever calls them has the
// clock.
#pragma once

#include "codegen/codegen.h"

namespace gradc {

struct RateLoop {
  Compiled kernel;     // each worker calls it once, in phase 0
  double work = 0;     // FLOP (two a multiply-add) of one call, or bytes of all workers' calls
};

// Every worker does all of the work; takes no buffers. dtype: of the factors; sums are f32. f32 for
// all targets; bf16 where vectors are as wide as AVX512_BF16's products of pairs (whether this machine
// has them is for the caller to know); else exit 2.
Result<RateLoop> multiply_add_loop(const Target& target, DType dtype);

// Workers share the elements, each a stretch. Buffers: f32[elements] at 64-byte boundaries, one of
// them, or two where it copies. Bytes count once for reading and once for writing.
enum class Stream : std::uint8_t {
  read,           // sums
  update,         // scales in place
  copy,           // to the second buffer
  copy_past,      // the same by stores that go past the caches
};
Result<RateLoop> stream_loop(const Target& target, Stream stream, std::int64_t elements);

}  // namespace gradc
