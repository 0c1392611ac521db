// What decides a kernel's machine code: the kernel as a text, and the compiler's own identity.
#include <llvm-c/Core.h>
#include <llvm/TargetParser/Host.h>

#include <fmt/format.h>

#include <iterator>

#include "codegen/codegen.h"
#include "ir/structure.h"

namespace gradc {

std::string key_of(std::string_view structure, const KernelInstance& instance,
                   const Target& target) {
  std::string key =
      fmt::format("{} {}\n{}/{}/{}/{}/{}/{}/{}/{} ", target.cpu, target.features, target.name,
                  target.vector_bytes, target.registers, target.tile_rows, target.tile_vectors,
                  target.l1_bytes, target.l2_bytes, target.bf16_dot);
  key += structure;
  for (const BufferLayout& b : instance.buffers) {
    fmt::format_to(std::back_inserter(key), "\n{}", b.alias);
    for (std::int64_t s : b.strides) fmt::format_to(std::back_inserter(key), " {}", s);
  }
  return key;
}

std::string key_of(const Program& program, const KernelInstance& instance, const Target& target) {
  return key_of(structure_key(program, program.function(instance.kernel)), instance, target);
}

const std::string& code_generator() {
  static const std::string identity = [] {
    // The library that runs, which need not be the one that the headers came with.
    unsigned major = 0, minor = 0, patch = 0;
    LLVMGetVersion(&major, &minor, &patch);
    constexpr std::string_view sources =
#include "codegen_sources.inc"
        ;
    return fmt::format("LLVM {}.{}.{}, {}, gradc {:.16}", major, minor, patch,
                       llvm::sys::getProcessTriple(), sources);
  }();
  return identity;
}

}  // namespace gradc
