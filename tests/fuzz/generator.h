// Owns random models: well-typed `.grad` texts of a few to some forty operations, over axes of 1 to
// 7 places, whose values stay in the domains of their functions and within about ±10. Every fused
// form occurs in many spellings, embedded in the rest.
#pragma once

#include <cstdint>
#include <string>

namespace gradc::fuzz {

std::string random_model(std::uint64_t seed);

}  // namespace gradc::fuzz
