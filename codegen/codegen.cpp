// From a kernel to an object file: what the target supports, the family's emitter, the module's
// end.
#include "codegen/codegen.h"

#include <llvm/Support/xxhash.h>

#include <fmt/format.h>

#include "codegen/families.h"
#include "codegen/module.h"
#include "codegen/space.h"
#include "ir/text.h"

namespace gradc {
namespace {

// Equal keys give equal symbols, so that an object from the cache can be looked up by it.
std::string symbol_of(const std::string& key) {
  const llvm::XXH128_hash_t h =
      llvm::xxh3_128bits({reinterpret_cast<const std::uint8_t*>(key.data()), key.size()});
  return fmt::format("gradc_{:016x}{:016x}", h.high64, h.low64);
}

// A bf16 is only moved, multiplied in contractions, and cast from and to f32: rounding of its own
// it has none.
bool takes_bf16(const Function& kernel, const Op& op) {
  bool any = false;
  for (const std::vector<ValueId>* values : {&op.operands, &op.results})
    for (ValueId v : *values) any = any || kernel.type(v).dtype == DType::bf16;
  if (!any || op.code == Opcode::contract_ || op.code == Opcode::expand_ || is_address_op(op.code))
    return true;
  const auto single = [&](ValueId v) {
    const DType d = kernel.type(v).dtype;
    return d == DType::bf16 || d == DType::f32;
  };
  return op.code == Opcode::cast_ && single(op.operands[0]) && single(op.results[0]);
}

// What no family compiles yet, found before LLVM is asked.
Result<Done> check_supported(const Program& program, const Function& kernel, const Target& target) {
  const auto refuse = [&](DType dtype, std::string_view what) {
    return failure(Exit::usage,
                   fmt::format("{} is not compiled for the target {} yet, only interpreted: {}",
                               name(dtype), target.name, what));
  };
  const bool halves = kernel.family != Family::read;
  const auto held = [&](DType d) { return d != DType::f16 && (d != DType::bf16 || halves); };
  for (ValueId a : kernel.body().arguments)
    if (!held(kernel.type(a).dtype))
      return refuse(kernel.type(a).dtype,
                    fmt::format("an argument of kernel @{}", program.text(kernel.name)));
  for (OpId o : kernel.body().ops) {
    const Op& op = kernel.op(o);
    for (ValueId r : op.results)
      if (!held(kernel.type(r).dtype))
        return refuse(kernel.type(r).dtype, print_op(program, kernel, o));
    if (!takes_bf16(kernel, op)) return refuse(DType::bf16, print_op(program, kernel, o));
  }
  return Done{};
}

Result<std::unique_ptr<Emitter>> emit_kernel(const Program& program, const KernelInstance& instance,
                                             const Target& target) {
  const Function& kernel = program.function(instance.kernel);
  if (Result<Done> ok = check_supported(program, kernel, target); !ok.ok()) return ok.failure();
  auto e = std::make_unique<Emitter>(program, instance, target,
                                     symbol_of(key_of(program, instance, target)));
  if (static_cast<int>(instance.buffers.size()) != e->buffer_count())
    return failure(Exit::internal, fmt::format("kernel @{} is launched with {} buffers, not {}",
                                               program.text(kernel.name), instance.buffers.size(),
                                               e->buffer_count()));
  Result<Done> done = Done{};
  switch (kernel.family) {
    case Family::none:
      return failure(Exit::internal, fmt::format("@{} is not a kernel", program.text(kernel.name)));
    case Family::map:
      done = emit_map(*e);
      break;
    case Family::rows:
      done = emit_rows(*e);
      break;
    case Family::contract:
      done = emit_contract(*e);
      break;
    case Family::read:
      done = emit_read(*e);
      break;
    case Family::attention:
      done = emit_attention(*e);
      break;
    case Family::attention_grad:
      done = emit_attention_grad(*e);
      break;
  }
  if (done.ok()) done = e->finish();
  if (!done.ok()) return done.failure();
  return e;
}

}  // namespace

Result<Compiled> compile(const Program& program, const KernelInstance& instance,
                         const Target& target) {
  Result<std::unique_ptr<Emitter>> e = emit_kernel(program, instance, target);
  if (!e.ok()) return e.failure();
  Result<std::vector<char>> object = (*e)->object();
  if (!object.ok()) return object.failure();
  Compiled out = std::move((*e)->out);
  out.symbol = (*e)->entry->getName().str();
  out.object = std::move(*object);
  return out;
}

Result<std::string> llvm_text(const Program& program, const KernelInstance& instance,
                              const Target& target) {
  Result<std::unique_ptr<Emitter>> e = emit_kernel(program, instance, target);
  if (!e.ok()) return e.failure();
  return (*e)->text();
}

Result<std::string> asm_text(const Program& program, const KernelInstance& instance,
                             const Target& target) {
  Result<std::unique_ptr<Emitter>> e = emit_kernel(program, instance, target);
  if (!e.ok()) return e.failure();
  return (*e)->assembly();
}

}  // namespace gradc
