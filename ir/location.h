// Owns where an operation comes from: a set of source lines and the part that it plays. Locations are
// interned in the program, survive every pass, and are united when operations are.
#pragma once

#include <compare>
#include <cstdint>
#include <vector>

#include "ir/ids.h"

namespace gradc {

struct SourcePos {
  FileId file;
  std::uint32_t line = 0, column = 0;  // from 1
  friend auto operator<=>(const SourcePos&, const SourcePos&) = default;
};

enum class Role : std::uint8_t { forward, gradient, update };

struct Location {
  Role role = Role::forward;
  std::vector<SourcePos> lines;  // sorted, distinct; may be empty (made by the compiler)
  friend auto operator<=>(const Location&, const Location&) = default;
};

}  // namespace gradc
