// Owns the strong index types of the program. An id indexes one flat array of its owner; it is never
// a pointer, so a program can be copied and rebuilt freely.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>

namespace gradc {

template <class Of>
struct Id {
  std::uint32_t index = UINT32_MAX;
  constexpr bool valid() const { return index != UINT32_MAX; }
  friend constexpr auto operator<=>(Id, Id) = default;
};

using NameId = Id<struct NameTag>;          // Program::names
using FileId = Id<struct FileTag>;          // Program::files
using LocId = Id<struct LocationTag>;       // Program::locations
using BundleId = Id<struct BundleTag>;      // Program::bundles
using FunctionId = Id<struct FunctionTag>;  // Program::functions
using AxisId = Id<struct AxisTag>;          // Function::axes (or Bundle::axes)
using ValueId = Id<struct ValueTag>;        // Function::values
using OpId = Id<struct OpTag>;              // Function::ops
using RegionId = Id<struct RegionTag>;      // Function::regions

}  // namespace gradc

template <class Of>
struct std::hash<gradc::Id<Of>> {
  std::size_t operator()(gradc::Id<Of> id) const { return std::hash<std::uint32_t>()(id.index); }
};
