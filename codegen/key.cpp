// What decides a kernel's machine code, as a text: its structure, layouts, aliases and the target's facts.
#include <fmt/format.h>

#include <iterator>

#include "codegen/codegen.h"
#include "ir/structure.h"

namespace gradc {

std::string key_of(const Program& program, const KernelInstance& instance, const Target& target) {
  std::string key = fmt::format(
      "{}/{}/{}/{}/{}/{}/{}/{}/{}/{} ", target.name, target.cpu, target.features,
      target.vector_bytes, target.registers, target.tile_rows, target.tile_vectors, target.l1_bytes, target.l2_bytes,
      target.bf16_dot);
  key += structure_key(program, program.function(instance.kernel));
  for (const BufferLayout& b : instance.buffers) {
    fmt::format_to(std::back_inserter(key), "\n{}", b.alias);
    for (std::int64_t s : b.strides) fmt::format_to(std::back_inserter(key), " {}", s);
  }
  return key;
}

}  // namespace gradc
