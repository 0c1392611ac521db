// The targets' facts and which of them this machine runs.
#include "ir/target.h"

namespace gradc {

Target avx512_bf16_target() {
  Target t = avx512_target();
  t.name = "avx512_bf16";
  t.features = "+avx512bf16";
  t.bf16_dot = true;
  return t;
}
Target avx512_target() {
  return {.name = "avx512", .cpu = "x86-64-v4", .features = "", .vector_bytes = 64, .registers = 32, .tile_rows = 6,
          .tile_vectors = 4, .column_rows = 12, .column_vectors = 2, .l1_bytes = 32 << 10, .l2_bytes = 1 << 20};
}
Target avx2_target() {
  return {.name = "avx2", .cpu = "x86-64-v3", .features = "", .vector_bytes = 32, .registers = 16, .tile_rows = 4,
          .tile_vectors = 3, .column_rows = 4, .column_vectors = 3, .l1_bytes = 32 << 10, .l2_bytes = 512 << 10};
}
Target portable_target() {
  return {.name = "portable", .cpu = "", .features = "", .vector_bytes = 16, .registers = 16, .tile_rows = 4,
          .tile_vectors = 2, .column_rows = 4, .column_vectors = 2, .l1_bytes = 32 << 10, .l2_bytes = 512 << 10};
}

Target host_target() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl"))
    return __builtin_cpu_supports("avx512bf16") ? avx512_bf16_target() : avx512_target();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return avx2_target();
#endif
  return portable_target();
}

bool target_by_name(std::string_view name, Target& out) {
  for (const Target& t : {avx512_bf16_target(), avx512_target(), avx2_target(), portable_target()})
    if (t.name == name) {
      out = t;
      return true;
    }
  return false;
}

}  // namespace gradc
