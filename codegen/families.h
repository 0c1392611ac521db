// Owns the list of kernel families. Each emitter fills in the entry of a fresh Emitter and sets out.phases,
// out.shared_bytes, out.local_bytes and out.parallel; codegen.cpp does the rest.
#pragma once

#include "codegen/module.h"

namespace gradc {

Result<Done> emit_contract(Emitter& e);  // contract.cpp
Result<Done> emit_map(Emitter& e);  // map.cpp
Result<Done> emit_rows(Emitter& e);  // rows.cpp
Result<Done> emit_read(Emitter& e);  // read.cpp
Result<Done> emit_attention(Emitter& e);  // attention.cpp
Result<Done> emit_attention_grad(Emitter& e);  // attention_grad.cpp

}  // namespace gradc
