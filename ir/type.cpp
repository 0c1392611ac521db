// Tensor types: names of dtypes and the algebra of axis lists.
#include "ir/type.h"

#include <algorithm>
#include <cstdlib>

namespace gradc {
namespace {

struct DTypeRow {
  DType dtype;
  std::string_view name;
  int bytes;
};
constexpr DTypeRow dtypes[] = {
    {DType::f32, "f32", 4},  {DType::f64, "f64", 8},  {DType::bf16, "bf16", 2}, {DType::f16, "f16", 2},
    {DType::i32, "i32", 4},  {DType::i64, "i64", 8},  {DType::boolean, "bool", 1},
};

}  // namespace

std::string_view name(DType dtype) { return dtypes[static_cast<int>(dtype)].name; }
int bytes(DType dtype) { return dtypes[static_cast<int>(dtype)].bytes; }

bool parse_dtype(std::string_view text, DType& out) {
  for (const DTypeRow& row : dtypes)
    if (row.name == text) {
      out = row.dtype;
      return true;
    }
  return false;
}

void AxisList::push_back(AxisId a) {
  if (full()) std::abort();
  axes_[size_++] = a;
}

int AxisList::index_of(AxisId a) const {
  const AxisId* it = std::find(begin(), end(), a);
  return it == end() ? -1 : static_cast<int>(it - begin());
}

bool AxisList::contains_all(const AxisList& other) const {
  return std::all_of(other.begin(), other.end(), [&](AxisId a) { return contains(a); });
}

AxisList AxisList::without(AxisId a) const {
  AxisList out;
  for (AxisId x : *this)
    if (x != a) out.push_back(x);
  return out;
}

AxisList AxisList::with(AxisId a) const {
  AxisList out = *this;
  if (!contains(a)) out.push_back(a);
  return out;
}

AxisList AxisList::replaced(AxisId from, AxisId to) const {
  AxisList out;
  for (AxisId x : *this) out.push_back(x == from ? to : x);
  return out;
}

bool operator==(const AxisList& a, const AxisList& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end());
}

AxisList unite(const AxisList& a, const AxisList& b) {
  AxisList out = a;
  for (AxisId x : b)
    if (!out.contains(x)) out.push_back(x);
  return out;
}

bool same_set(const AxisList& a, const AxisList& b) {
  return a.size() == b.size() && a.contains_all(b);
}

}  // namespace gradc
