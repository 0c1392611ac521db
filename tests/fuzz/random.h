// Owns the random numbers of the fuzz: the same ones for a seed, everywhere.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace gradc::fuzz {

// splitmix64 (Steele, Lea and Flood 2014).
class Random {
 public:
  // The state is mixed first: streams of neighbouring seeds would be one, shifted.
  explicit Random(std::uint64_t seed) : state_(seed) { state_ = next() ^ 0x632be59bd9b4e019; }
  std::uint64_t next() {
    std::uint64_t z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
  }
  int below(int n) { return n <= 0 ? 0 : static_cast<int>(next() % static_cast<std::uint64_t>(n)); }
  int between(int low, int high) { return low + below(high - low + 1); }
  double real() { return static_cast<double>(next() >> 11) * 0x1p-53; }
  bool chance(double p) { return real() < p; }
  template <class T>
  const T& of(const std::vector<T>& all) {
    return all[static_cast<std::size_t>(below(static_cast<int>(all.size())))];
  }
  template <class T>
  void shuffle(std::vector<T>& all) {
    for (int i = static_cast<int>(all.size()) - 1; i > 0; --i)
      std::swap(all[static_cast<std::size_t>(i)], all[static_cast<std::size_t>(below(i + 1))]);
  }

 private:
  std::uint64_t state_;
};

}  // namespace gradc::fuzz
