// Owns tensors as files hold them: little-endian elements, row-major, of a stored dtype; and the
// ways between them and arrays. The formats around them are safetensors.h and npy.h.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ir/diagnostic.h"
#include "ir/evaluate.h"

namespace gradc {

enum class StoredDType : std::uint8_t {
  boolean,
  u8,
  i8,
  u16,
  i16,
  u32,
  i32,
  u64,
  i64,
  f16,
  bf16,
  f32,
  f64
};
std::string_view name(StoredDType dtype);  // as safetensors writes it: "F32", "BOOL"
bool parse_stored_dtype(std::string_view text, StoredDType& out);
int bytes(StoredDType dtype);
constexpr bool is_real(StoredDType d) { return d >= StoredDType::f16; }
StoredDType stored_dtype(DType dtype);  // the same format in files

// A tensor in memory that somebody else owns (a mapped file). `data` may have any alignment.
struct StoredTensor {
  std::string name;
  StoredDType dtype = StoredDType::f32;
  std::vector<std::int64_t> shape;
  const unsigned char* data = nullptr;
  std::int64_t elements = 0;
};
std::string shape_text(std::span<const std::int64_t> shape);  // "[4 64 128]"

// Elements as reals, exactly; `out` has `elements` of them. float: rounded to nearest even.
void read_reals(const StoredTensor& tensor, std::span<double> out);
void read_reals(const StoredTensor& tensor, std::span<float> out);

// As an array of the dtype. Reals from any real or integer, integers from integers and bools whose
// values fit, bools from bools. Otherwise a message that begins with what is wrong ("holds F32, not
// integers").
Result<Array> to_array(const StoredTensor& tensor, DType dtype);
// In the dtype that lies nearest: i32 from integers of up to 32 bits, i64, bool, f32, f64, bf16,
// f16.
Result<Array> to_array(const StoredTensor& tensor);

// An array's elements as a file holds them: reals rounded to nearest even, integers as they are.
std::vector<unsigned char> to_bytes(const Array& array, StoredDType dtype);

}  // namespace gradc
