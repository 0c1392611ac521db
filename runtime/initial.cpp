// Draws for initial values.
#include "runtime/initial.h"

#include <array>
#include <cmath>
#include <numbers>

#include "ir/philox.h"

namespace gradc {
namespace {

std::array<std::uint32_t, 4> words(std::uint64_t seed, std::uint64_t hash, std::uint64_t element) {
  const std::uint64_t block = element / 4;
  const auto low = [](std::uint64_t x) { return static_cast<std::uint32_t>(x); };
  return philox({low(block), low(block >> 32), low(hash), low(hash >> 32)}, low(seed),
                low(seed >> 32));
}

}  // namespace

double initial_normal(std::uint64_t seed, std::uint64_t hash, std::uint64_t element) {
  const auto w = words(seed, hash, element);
  const std::size_t pair = element % 4 / 2 * 2;
  const double radius =
      std::sqrt(-2 * std::log((w[pair] + 1.0) * 0x1p-32));  // of a number in (0, 1]
  const double angle = 2 * std::numbers::pi * (w[pair + 1] * 0x1p-32);
  return radius * (element % 2 == 0 ? std::cos(angle) : std::sin(angle));
}

double initial_uniform(std::uint64_t seed, std::uint64_t hash, std::uint64_t element) {
  return (words(seed, hash, element)[element % 4] >> 8) * 0x1p-23 - 1;
}

}  // namespace gradc
