// Owns the bytes of one cached kernel: a text that decides its machine code, and the code. It knows
// nothing of files; runtime/cache.h keeps these.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "codegen/codegen.h"

namespace gradc {

// 128 bits in two lanes of invertible steps: one changed word of the text changes both lanes for
// certain, several with odds of 2⁻¹²⁸ to be missed. Against accidents only; whoever may write to the
// directory may run code as its owner anyway.
using Fingerprint = std::array<std::uint64_t, 2>;
Fingerprint fingerprint(std::string_view bytes);

// An entry, in the machine's own byte order (`maker` names the machine), numbers in 64 bits and texts
// behind their length:
//   magic   8 bytes, the format's version among them
//   check   the fingerprint of all that follows
//   maker   code_generator(): LLVM's version, the architecture, a hash of this compiler's sources
//   key     key_of(), its first line the processor
//   symbol, phases, shared_bytes, local_bytes, parallel, tiles_at, tile_planes, object: Compiled
std::string entry_bytes(std::string_view maker, std::string_view key, const Compiled& compiled);

// What an entry holds, if it is whole, of this maker and of this key. Else `why` says what is wrong.
std::optional<Compiled> read_entry(std::string_view bytes, std::string_view maker,
                                   std::string_view key, std::string& why);

}  // namespace gradc
