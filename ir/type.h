// Owns tensor types: a dtype and named axes. The order of the axes is the order for printing and for
// files; it never carries meaning.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <string_view>

#include "ir/ids.h"

namespace gradc {

enum class DType : std::uint8_t { f32, f64, bf16, f16, i32, i64, boolean };

std::string_view name(DType dtype);                // "f32" … "bool"
bool parse_dtype(std::string_view text, DType& out);
int bytes(DType dtype);                            // as stored; a bool takes one byte
constexpr bool is_real(DType d) { return d <= DType::f16; }
constexpr bool is_integer(DType d) { return d == DType::i32 || d == DType::i64; }

// More axes than this in one value is an error that the frontend reports.
inline constexpr int max_rank = 12;

// An ordered list of distinct axes with a fixed capacity.
class AxisList {
 public:
  AxisList() = default;
  AxisList(std::initializer_list<AxisId> axes) {
    for (AxisId a : axes) push_back(a);
  }
  int size() const { return size_; }
  bool empty() const { return size_ == 0; }
  bool full() const { return size_ == max_rank; }
  AxisId operator[](int i) const { return axes_[static_cast<std::size_t>(i)]; }
  AxisId& operator[](int i) { return axes_[static_cast<std::size_t>(i)]; }
  const AxisId* begin() const { return axes_.data(); }
  const AxisId* end() const { return axes_.data() + size_; }
  void push_back(AxisId a);                        // aborts when full: check full() on outside input
  int index_of(AxisId a) const;                    // −1 if absent
  bool contains(AxisId a) const { return index_of(a) >= 0; }
  bool contains_all(const AxisList& other) const;
  AxisList without(AxisId a) const;
  AxisList with(AxisId a) const;                   // appended unless present
  AxisList replaced(AxisId from, AxisId to) const; // `to` stands where `from` stood
  friend bool operator==(const AxisList& a, const AxisList& b);

 private:
  std::uint8_t size_ = 0;
  std::array<AxisId, max_rank> axes_{};
};

// The union in order: all of a, then what b adds. Aborts beyond max_rank.
AxisList unite(const AxisList& a, const AxisList& b);
bool same_set(const AxisList& a, const AxisList& b);

struct Axis {
  NameId name;               // unique in its function: `d`, `d.1`
  std::int64_t extent = 0;   // ≥ 0
};

struct Type {
  DType dtype = DType::f32;
  AxisList axes;
  friend bool operator==(const Type&, const Type&) = default;
};

}  // namespace gradc
