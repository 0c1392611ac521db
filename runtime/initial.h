// Owns the numbers that parameters start from: a function of (seed, stored name, element) alone.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace gradc {

// FNV-1a of 64 bits (Fowler, Noll, Vo; RFC 9923).
constexpr std::uint64_t fnv1a(std::string_view text) {
  std::uint64_t h = 0xcbf29ce484222325;
  for (const char c : text) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return h;
}

// Philox4x32-10 with key = seed and counter = (element / 4, fnv1a(stored name)): four words a
// block. normal: mean 0, deviation 1; pairs of words by Box and Muller ("A note on the generation
// of random normal deviates", 1958), never beyond 6.7. uniform: in [−1, 1), a multiple of 2⁻²³.
std::array<double, 4> initial_normals(std::uint64_t seed, std::uint64_t name_hash,
                                      std::uint64_t block);  // of elements 4 · block …
double initial_normal(std::uint64_t seed, std::uint64_t name_hash, std::uint64_t element);
double initial_uniform(std::uint64_t seed, std::uint64_t name_hash, std::uint64_t element);

}  // namespace gradc
