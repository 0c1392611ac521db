// Elements of files against arrays: every dtype both ways, what does not fit refused.
#include "runtime/stored.h"

#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

using namespace gradc;

namespace {

constexpr double inf = std::numeric_limits<double>::infinity();

StoredTensor tensor(StoredDType d, const std::vector<unsigned char>& bytes_) {
  const auto n = static_cast<std::int64_t>(bytes_.size()) / bytes(d);
  return {"x", d, {n}, bytes_.data(), n};
}
template <class T>
std::vector<unsigned char> packed(std::initializer_list<T> values) {
  std::vector<unsigned char> out(values.size() * sizeof(T));
  std::size_t i = 0;
  for (const T v : values) std::memcpy(&out[i++ * sizeof v], &v, sizeof v);
  return out;
}
std::vector<double> reals(StoredDType d, const std::vector<unsigned char>& b) {
  const StoredTensor t = tensor(d, b);
  std::vector<double> out(static_cast<std::size_t>(t.elements));
  read_reals(t, std::span(out));
  return out;
}
std::string fault(const StoredTensor& t, DType d) {
  Result<Array> r = to_array(t, d);
  return r.ok() ? "" : r.failure().diagnostics[0].message;
}

}  // namespace

TEST_CASE("stored dtypes have names that parse back, and sizes") {
  for (int i = 0; i <= static_cast<int>(StoredDType::f64); ++i) {
    StoredDType d;
    REQUIRE(parse_stored_dtype(name(static_cast<StoredDType>(i)), d));
    CHECK(d == static_cast<StoredDType>(i));
  }
  StoredDType d;
  CHECK(!parse_stored_dtype("F8_E4M3", d));
  CHECK(!parse_stored_dtype("f32", d));
  CHECK(bytes(StoredDType::boolean) == 1);
  CHECK(bytes(StoredDType::bf16) == 2);
  CHECK(bytes(StoredDType::f64) == 8);
}

TEST_CASE("every stored dtype reads as reals") {
  using R = std::vector<double>;
  CHECK(reals(StoredDType::u8, {1, 255}) == R{1, 255});
  CHECK(reals(StoredDType::i8, {1, 255}) == R{1, -1});
  CHECK(reals(StoredDType::u16, packed<std::uint16_t>({65535})) == R{65535});
  CHECK(reals(StoredDType::i16, packed<std::int16_t>({-3})) == R{-3});
  CHECK(reals(StoredDType::u32, packed<std::uint32_t>({4000000000u})) == R{4e9});
  CHECK(reals(StoredDType::i32, packed<std::int32_t>({-4})) == R{-4});
  CHECK(reals(StoredDType::u64, packed<std::uint64_t>({1ull << 63})) == R{0x1p63});
  CHECK(reals(StoredDType::i64, packed<std::int64_t>({-5})) == R{-5});
  CHECK(reals(StoredDType::f32, packed<float>({0.1f})) == R{static_cast<double>(0.1f)});
  CHECK(reals(StoredDType::f64, packed<double>({0.1, -0.0})) == R{0.1, 0});
  CHECK(reals(StoredDType::bf16, packed<std::uint16_t>({0x3f80, 0xc000, 0x7f80, 0x0001})) ==
        R{1, -2, inf, 0x1p-133});
  // 1, −2, the greatest, the least normal, the least of all, −inf
  CHECK(reals(StoredDType::f16,
              packed<std::uint16_t>({0x3c00, 0xc000, 0x7bff, 0x0400, 0x0001, 0xfc00})) ==
        R{1, -2, 65504, 0x1p-14, 0x1p-24, -inf});
  CHECK(std::isnan(reals(StoredDType::f16, packed<std::uint16_t>({0x7c01}))[0]));
}

TEST_CASE("reals pack to every real dtype, rounded to nearest even, and come back") {
  Array a{DType::f32, {7}, {1, -2.5, 0, 65504, 0x1p-24, inf, 1 + 0x1p-11}, {}};
  for (const StoredDType d :
       {StoredDType::f64, StoredDType::f32, StoredDType::f16, StoredDType::bf16}) {
    const std::vector<unsigned char> b = to_bytes(a, d);
    const std::vector<double> back = reals(d, b);
    const DType as = d == StoredDType::f64   ? DType::f64
                     : d == StoredDType::f32 ? DType::f32
                     : d == StoredDType::f16 ? DType::f16
                                             : DType::bf16;
    for (std::size_t i = 0; i < back.size(); ++i) CHECK(back[i] == round_to(a.real[i], as));
    CHECK(stored_dtype(as) == d);
  }
  // All 16-bit patterns that are numbers come back as they were.
  for (const auto& [stored, dtype] :
       {std::pair{StoredDType::f16, DType::f16}, std::pair{StoredDType::bf16, DType::bf16}}) {
    std::vector<unsigned char> all;
    for (int i = 0; i < 65536; ++i) {
      all.push_back(static_cast<unsigned char>(i & 255));
      all.push_back(static_cast<unsigned char>(i >> 8));
    }
    Result<Array> x = to_array(tensor(stored, all), dtype);
    REQUIRE(x.ok());
    const std::vector<unsigned char> again = to_bytes(*x, stored);
    int differ = 0;
    for (std::size_t i = 0; i < 65536; ++i)
      if (!std::isnan(x->real[i]))
        differ += again[2 * i] != all[2 * i] || again[2 * i + 1] != all[2 * i + 1];
    CHECK(differ == 0);
  }
}

TEST_CASE("integers and bools become arrays where their values fit, and are refused where not") {
  const auto i64 = packed<std::int64_t>({1, -1, std::int64_t{1} << 31});
  const auto u64 = packed<std::uint64_t>({~0ull});
  const std::vector<unsigned char> b{0, 1}, two{2};
  CHECK(to_array(tensor(StoredDType::i64, i64), DType::i64)->integer ==
        std::vector<std::int64_t>{1, -1, std::int64_t{1} << 31});
  CHECK(fault(tensor(StoredDType::i64, i64), DType::i32) ==
        "holds 2147483648 at element 2, which is no i32");
  CHECK(fault(tensor(StoredDType::u64, u64), DType::i64) ==
        "holds 18446744073709551615 at element 0, which is no i64");
  CHECK(to_array(tensor(StoredDType::boolean, b), DType::boolean)->integer ==
        std::vector<std::int64_t>{0, 1});
  CHECK(fault(tensor(StoredDType::boolean, two), DType::boolean) ==
        "holds 2 at element 0, which is no bool");
  CHECK(to_array(tensor(StoredDType::boolean, b), DType::i32)->integer ==
        std::vector<std::int64_t>{0, 1});
  CHECK(fault(tensor(StoredDType::boolean, b), DType::f32) == "holds BOOL, not reals");
  CHECK(fault(tensor(StoredDType::u8, b), DType::boolean) == "holds U8, not BOOL");
  CHECK(fault(tensor(StoredDType::f32, packed<float>({1})), DType::i32) ==
        "holds F32, not integers");
  CHECK(to_array(tensor(StoredDType::u8, b))->dtype == DType::i32);
  CHECK(to_array(tensor(StoredDType::i64, i64))->dtype == DType::i64);
  CHECK(to_array(tensor(StoredDType::f64, packed<double>({1})))->dtype == DType::f64);
  const Array n{DType::i32, {2}, {}, {-1, 7}};
  CHECK(to_bytes(n, StoredDType::i32) == packed<std::int32_t>({-1, 7}));
  CHECK(to_bytes(n, StoredDType::i64) == packed<std::int64_t>({-1, 7}));
  CHECK(to_bytes(n, StoredDType::f32) == packed<float>({-1, 7}));
}
