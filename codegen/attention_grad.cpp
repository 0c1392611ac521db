#include "codegen/attention.h"
#include "codegen/families.h"
namespace gradc {
Result<Done> emit_attention_grad(Emitter&) { return failure(Exit::usage, "not yet"); }
}  // namespace gradc
