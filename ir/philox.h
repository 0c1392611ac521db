// Owns random bits: Philox4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1,
// 2, 3", SC 2011, §3.3). Counter-based: a draw is a function of (seed, site, step, index) alone, so it is
// the same for any layout, thread count, fusion, recomputation or resumed run.
#pragma once

#include <array>
#include <cstdint>

namespace gradc {

inline constexpr std::uint32_t philox_m0 = 0xD2511F53, philox_m1 = 0xCD9E8D57;
inline constexpr std::uint32_t philox_w0 = 0x9E3779B9, philox_w1 = 0xBB67AE85;

constexpr std::array<std::uint32_t, 4> philox(std::array<std::uint32_t, 4> c, std::uint32_t k0, std::uint32_t k1) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p0 = std::uint64_t{philox_m0} * c[0], p1 = std::uint64_t{philox_m1} * c[2];
    c = {static_cast<std::uint32_t>(p1 >> 32) ^ c[1] ^ k0, static_cast<std::uint32_t>(p1),
         static_cast<std::uint32_t>(p0 >> 32) ^ c[3] ^ k1, static_cast<std::uint32_t>(p0)};
    k0 += philox_w0;
    k1 += philox_w1;
  }
  return c;
}

// Counter = (index / 4 low word, index / 4 high word xor site's high word, site low word, step low word);
// word index % 4; (word >> 8) · 2⁻²⁴, in [0, 1), exact in f32.
constexpr double philox_uniform(std::uint64_t seed, std::uint64_t step, std::uint64_t site, std::uint64_t index) {
  const std::uint64_t block = index / 4;
  const auto words = philox({static_cast<std::uint32_t>(block), static_cast<std::uint32_t>(block >> 32) ^ static_cast<std::uint32_t>(site >> 32),
                             static_cast<std::uint32_t>(site), static_cast<std::uint32_t>(step)},
                            static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32));
  return static_cast<double>(words[index % 4] >> 8) * 0x1p-24;
}

}  // namespace gradc
