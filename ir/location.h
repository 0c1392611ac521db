// Owns where an operation comes from: a set of source lines and the part that it plays. Locations are
// interned in the program, survive every pass, and are united when operations are.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <string_view>
#include <vector>

#include "ir/ids.h"

namespace gradc {

struct SourcePos {
  FileId file;
  std::uint32_t line = 0, column = 0;  // from 1
  friend auto operator<=>(const SourcePos&, const SourcePos&) = default;
};

enum class Role : std::uint8_t { forward, gradient, update };
constexpr std::string_view name(Role role) {
  constexpr std::array<std::string_view, 3> names{"forward", "gradient", "update"};
  return names[static_cast<std::size_t>(role)];
}

struct Location {
  Role role = Role::forward;
  std::vector<SourcePos> lines;  // sorted, distinct; may be empty (made by the compiler)
  friend auto operator<=>(const Location&, const Location&) = default;
};

}  // namespace gradc
