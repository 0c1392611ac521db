// Conversions between stored elements and arrays. Elements are copied byte by byte: a mapped file
// aligns nothing. The host is little-endian, as everything that LLVM's targets here run on.
#include "runtime/stored.h"

#include <fmt/format.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <iterator>
#include <limits>

namespace gradc {
namespace {

static_assert(std::endian::native == std::endian::little);

struct Row {
  std::string_view name;
  int bytes;
};
constexpr Row rows[] = {{"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"U16", 2}, {"I16", 2},
                        {"U32", 4},  {"I32", 4}, {"U64", 8}, {"I64", 8}, {"F16", 2},
                        {"BF16", 2}, {"F32", 4}, {"F64", 8}};

template <class T>
T load(const unsigned char* at) {
  T x;
  std::memcpy(&x, at, sizeof x);
  return x;
}

float from_f16(std::uint16_t h) {
  const int exponent = h >> 10 & 31, fraction = h & 1023;
  float x = exponent == 0    ? std::ldexp(static_cast<float>(fraction), -24)
            : exponent == 31 ? (fraction == 0 ? std::numeric_limits<float>::infinity()
                                              : std::numeric_limits<float>::quiet_NaN())
                             : std::ldexp(static_cast<float>(1024 + fraction), exponent - 25);
  return h >> 15 ? -x : x;
}
float from_bf16(std::uint16_t h) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(h) << 16);
}

// `x` is representable in f16 (round_to) or not finite.
std::uint16_t to_f16(double x) {
  const auto sign = static_cast<std::uint16_t>(std::signbit(x) ? 0x8000 : 0);
  if (std::isnan(x)) return sign | 0x7e00;
  if (std::isinf(x)) return sign | 0x7c00;
  const double a = std::abs(x);
  if (a < 0x1p-14) return sign | static_cast<std::uint16_t>(std::ldexp(a, 24));
  const int e = std::ilogb(a);
  return static_cast<std::uint16_t>(sign | (e + 15) << 10 |
                                    (static_cast<int>(std::ldexp(a, 10 - e)) - 1024));
}

// f(pointer to element i as T) for every element.
template <class T, class F>
void each(const StoredTensor& t, F f) {
  for (std::int64_t i = 0; i < t.elements; ++i)
    f(static_cast<std::size_t>(i), load<T>(t.data + i * static_cast<std::int64_t>(sizeof(T))));
}

// f(index, value) with the element as a double or, for integers, as the widest type of its sign.
template <class F>
void visit(const StoredTensor& t, F f) {
  switch (t.dtype) {
    case StoredDType::boolean:
    case StoredDType::u8:
      return each<std::uint8_t>(t, [&](std::size_t i, auto x) { f(i, std::uint64_t{x}); });
    case StoredDType::i8:
      return each<std::int8_t>(t, [&](std::size_t i, auto x) { f(i, std::int64_t{x}); });
    case StoredDType::u16:
      return each<std::uint16_t>(t, [&](std::size_t i, auto x) { f(i, std::uint64_t{x}); });
    case StoredDType::i16:
      return each<std::int16_t>(t, [&](std::size_t i, auto x) { f(i, std::int64_t{x}); });
    case StoredDType::u32:
      return each<std::uint32_t>(t, [&](std::size_t i, auto x) { f(i, std::uint64_t{x}); });
    case StoredDType::i32:
      return each<std::int32_t>(t, [&](std::size_t i, auto x) { f(i, std::int64_t{x}); });
    case StoredDType::u64:
      return each<std::uint64_t>(t, [&](std::size_t i, auto x) { f(i, std::uint64_t{x}); });
    case StoredDType::i64:
      return each<std::int64_t>(t, [&](std::size_t i, auto x) { f(i, std::int64_t{x}); });
    case StoredDType::f16:
      return each<std::uint16_t>(t, [&](std::size_t i, auto x) { f(i, double{from_f16(x)}); });
    case StoredDType::bf16:
      return each<std::uint16_t>(t, [&](std::size_t i, auto x) { f(i, double{from_bf16(x)}); });
    case StoredDType::f32: return each<float>(t, [&](std::size_t i, auto x) { f(i, double{x}); });
    case StoredDType::f64: return each<double>(t, [&](std::size_t i, auto x) { f(i, x); });
  }
}

template <class Real>
void read(const StoredTensor& t, std::span<Real> out) {
  if (static_cast<std::int64_t>(out.size()) != t.elements)
    internal_error("a stored tensor is read into another size");
  visit(t, [&](std::size_t i, auto x) { out[i] = static_cast<Real>(x); });
}

}  // namespace

std::string_view name(StoredDType dtype) { return rows[static_cast<int>(dtype)].name; }
int bytes(StoredDType dtype) { return rows[static_cast<int>(dtype)].bytes; }

bool parse_stored_dtype(std::string_view text, StoredDType& out) {
  for (std::size_t i = 0; i < std::size(rows); ++i)
    if (rows[i].name == text) {
      out = static_cast<StoredDType>(i);
      return true;
    }
  return false;
}

StoredDType stored_dtype(DType dtype) {
  switch (dtype) {
    case DType::f32: return StoredDType::f32;
    case DType::f64: return StoredDType::f64;
    case DType::bf16: return StoredDType::bf16;
    case DType::f16: return StoredDType::f16;
    case DType::i32: return StoredDType::i32;
    case DType::i64: return StoredDType::i64;
    case DType::boolean: return StoredDType::boolean;
  }
  internal_error("a dtype without a stored form");
}

std::string shape_text(std::span<const std::int64_t> shape) {
  return fmt::format("[{}]", fmt::join(shape, " "));
}

void read_reals(const StoredTensor& tensor, std::span<double> out) { read(tensor, out); }
void read_reals(const StoredTensor& tensor, std::span<float> out) { read(tensor, out); }

Result<Array> to_array(const StoredTensor& t, DType dtype) {
  Array out = Array::zeros(dtype, t.shape);
  if (is_real(dtype)) {
    if (t.dtype == StoredDType::boolean) return failure(Exit::file, "holds BOOL, not reals");
    read(t, std::span(out.real));
    return out;
  }
  if (dtype == DType::boolean && t.dtype != StoredDType::boolean)
    return failure(Exit::file, fmt::format("holds {}, not BOOL", name(t.dtype)));
  if (is_real(t.dtype))
    return failure(Exit::file, fmt::format("holds {}, not integers", name(t.dtype)));
  const std::int64_t low = dtype == DType::i32 ? INT32_MIN : dtype == DType::i64 ? INT64_MIN : 0;
  const std::int64_t high = dtype == DType::i32 ? INT32_MAX : dtype == DType::i64 ? INT64_MAX : 1;
  std::string fault;
  visit(t, [&](std::size_t i, auto x) {
    if constexpr (!std::is_same_v<decltype(x), double>) {
      if (std::cmp_less(x, low) || std::cmp_greater(x, high)) {
        if (fault.empty())
          fault = fmt::format("holds {} at element {}, which is no {}", x, i, name(dtype));
        return;
      }
      out.integer[i] = static_cast<std::int64_t>(x);
    }
  });
  if (!fault.empty()) return failure(Exit::file, std::move(fault));
  return out;
}

Result<Array> to_array(const StoredTensor& t) {
  switch (t.dtype) {
    case StoredDType::boolean: return to_array(t, DType::boolean);
    case StoredDType::u32:
    case StoredDType::u64:
    case StoredDType::i64: return to_array(t, DType::i64);
    case StoredDType::f16: return to_array(t, DType::f16);
    case StoredDType::bf16: return to_array(t, DType::bf16);
    case StoredDType::f32: return to_array(t, DType::f32);
    case StoredDType::f64: return to_array(t, DType::f64);
    default: return to_array(t, DType::i32);
  }
}

std::vector<unsigned char> to_bytes(const Array& a, StoredDType dtype) {
  const auto n = static_cast<std::size_t>(a.size()), width = static_cast<std::size_t>(bytes(dtype));
  std::vector<unsigned char> out(n * width);
  for (std::size_t i = 0; i < n; ++i) {
    const std::int64_t k = is_real(a.dtype) ? 0 : a.integer[i];
    const double x = is_real(a.dtype) ? a.real[i] : static_cast<double>(k);
    const auto put = [&](const auto& value) { std::memcpy(&out[i * width], &value, width); };
    switch (dtype) {
      case StoredDType::f64: put(x); break;
      case StoredDType::f32: put(static_cast<float>(x)); break;
      case StoredDType::f16: put(to_f16(round_to(x, DType::f16))); break;
      case StoredDType::bf16: put(bf16_bits(static_cast<float>(round_to(x, DType::bf16)))); break;
      default:
        if (is_real(a.dtype)) internal_error("reals are written as integers");
        put(k);  // the low bytes
    }
  }
  return out;
}

}  // namespace gradc
