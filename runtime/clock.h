// Owns the clock that everything here is timed by.
#pragma once

#include <chrono>

namespace gradc {

using Clock = std::chrono::steady_clock;

inline double seconds(Clock::time_point begin, Clock::time_point end) {
  return std::chrono::duration<double>(end - begin).count();
}
inline double seconds_since(Clock::time_point begin) { return seconds(begin, Clock::now()); }

}  // namespace gradc
