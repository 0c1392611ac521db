// Owns the arenas' memory: one mapping each, zeroed, page-aligned, in huge pages where the system gives
// them. Nothing is allocated during a step.
#pragma once

#include <array>
#include <cstddef>

#include "ir/diagnostic.h"
#include "ir/program.h"

namespace gradc {

class Mapping {
 public:
  Mapping() = default;
  ~Mapping();
  Mapping(Mapping&& other) noexcept;
  Mapping& operator=(Mapping&& other) noexcept;
  static Result<Mapping> allocate(std::size_t bytes);   // no memory: exit 3 with the size
  std::byte* data() const { return data_; }
  std::size_t size() const { return size_; }

 private:
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

// The base address of each arena, by Arena.
using Bases = std::array<std::byte*, arena_count>;
constexpr std::size_t index(Arena a) { return static_cast<std::size_t>(a); }

}  // namespace gradc
