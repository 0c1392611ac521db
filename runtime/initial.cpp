// Draws for initial values.
#include "runtime/initial.h"

#include <array>
#include <cmath>
#include <numbers>

#include "ir/philox.h"

namespace gradc {
namespace {

std::array<std::uint32_t, 4> words(std::uint64_t seed, std::uint64_t hash, std::uint64_t block) {
  const auto low = [](std::uint64_t x) { return static_cast<std::uint32_t>(x); };
  return philox({low(block), low(block >> 32), low(hash), low(hash >> 32)}, low(seed),
                low(seed >> 32));
}

}  // namespace

std::array<double, 4> initial_normals(std::uint64_t seed, std::uint64_t hash, std::uint64_t block) {
  const auto w = words(seed, hash, block);
  std::array<double, 4> out;
  for (std::size_t pair = 0; pair < 4; pair += 2) {
    const double radius =
        std::sqrt(-2 * std::log((w[pair] + 1.0) * 0x1p-32));  // of a number in (0, 1]
    const double angle = 2 * std::numbers::pi * (w[pair + 1] * 0x1p-32);
    out[pair] = radius * std::cos(angle);
    out[pair + 1] = radius * std::sin(angle);
  }
  return out;
}

double initial_normal(std::uint64_t seed, std::uint64_t hash, std::uint64_t element) {
  return initial_normals(seed, hash, element / 4)[element % 4];
}

double initial_uniform(std::uint64_t seed, std::uint64_t hash, std::uint64_t element) {
  return (words(seed, hash, element / 4)[element % 4] >> 8) * 0x1p-23 - 1;
}

}  // namespace gradc
