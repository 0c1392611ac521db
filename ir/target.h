// Owns the facts of a target, as data: what passes and codegen need to know, and nothing of its code.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace gradc {

struct Target {
  std::string name;            // "avx512_bf16", "avx512", "avx2", "portable"
  std::string cpu;             // LLVM's name: "znver4", "x86-64-v3", "generic"
  std::string features;        // LLVM's feature string; may be empty
  int vector_bytes = 64;       // of one register
  int registers = 32;
  // contract: rows × vectors of a register tile; rows·vectors + vectors ≤ registers − 2 stays spill-free. The
  // second where the first operand is read along its columns.
  int tile_rows = 6, tile_vectors = 4;
  int column_rows = 12, column_vectors = 2;
  std::int64_t l1_bytes = 32 << 10, l2_bytes = 1 << 20;
  // One instruction multiplies pairs of bf16 and adds both products to an f32 lane; one rounds f32
  // to bf16.
  bool bf16_dot = false;

  int lanes() const { return vector_bytes / 4; }   // of f32
};

Target avx512_bf16_target();
Target avx512_target();
Target avx2_target();
Target portable_target();      // 128-bit vectors, any LLVM target
// The best of the above that this machine runs (CPUID); by name for --target.
Target host_target();
bool target_by_name(std::string_view name, Target& out);

}  // namespace gradc
