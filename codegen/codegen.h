// Owns the way from a kernel to machine code: one LLVM module a kernel, no state. No LLVM type shows here.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "ir/diagnostic.h"
#include "ir/program.h"
#include "ir/target.h"

namespace gradc {

// How one buffer of a launch lies in memory: extents and strides (in elements) of its type's axes, in order.
struct BufferLayout {
  std::vector<std::int64_t> strides;
  int alias = -1;      // a result: the index of the operand whose memory it is, at the same strides
};

// A kernel with the layouts of one launch. Buffers: the kernel's arguments, then its results.
struct KernelInstance {
  FunctionId kernel;
  std::vector<BufferLayout> buffers;
};

// Equal keys, equal machine code by one code_generator(): structure, dtypes, extents, strides, aliases,
// target; not names or lines. The first line is the processor's name and features.
std::string key_of(const Program& program, const KernelInstance& instance, const Target& target);
// The same from the kernel's structure_key(), which all launches of a kernel share.
std::string key_of(std::string_view structure, const KernelInstance& instance, const Target& target);

// What decides machine code beside the key: LLVM's version, the architecture, a hash of the sources of
// this room and of those that it sees. For caches that outlive the process.
const std::string& code_generator();

// The entry of a compiled kernel. Every worker of the pool calls it for phase 0, 1, …, phases − 1, with a
// barrier between phases. `buffers` are base addresses (≥ the dtype's alignment). `shared` is one scratch
// for all workers, `local` one for each, both 64-byte aligned. `taken` is a line for each worker, whose first
// eight bytes count what was taken of its share: 0 when a phase begins. Results never depend on `workers`.
struct alignas(64) Taken {
  std::int64_t count = 0;
};
using KernelFn = void (*)(std::byte* const* buffers, std::int64_t worker, std::int64_t workers, std::int64_t phase,
                          std::byte* shared, std::byte* local, Taken* taken);

struct Compiled {
  std::string symbol;                // of the entry
  std::vector<char> object;          // a relocatable object file
  int phases = 1;
  std::int64_t shared_bytes = 0, local_bytes = 0;
  bool parallel = true;              // false: too small to wake the pool; worker 0 of 1 runs it
  // Attention and its gradient: where each worker's local scratch holds, after the last phase, two i64: tiles
  // of scores that it computed, and all that it looked at; what the mask excludes is skipped. Over all workers
  // the sums are those of `tile_planes` planes (rows × keys). −1: the kernel has no tiles.
  std::int64_t tiles_at = -1, tile_planes = 0;
};

// Thread-safe; each call has an LLVM context of its own. Fails with exit 2 on what the target cannot do
// yet (the message names the operation), with 70 if LLVM rejects the module.
Result<Compiled> compile(const Program& program, const KernelInstance& instance, const Target& target);

// For `dump --stage=llvm` and `--stage=asm`.
Result<std::string> llvm_text(const Program& program, const KernelInstance& instance, const Target& target);
Result<std::string> asm_text(const Program& program, const KernelInstance& instance, const Target& target);

}  // namespace gradc
