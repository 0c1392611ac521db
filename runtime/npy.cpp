// Reading and writing of .npy. The header is a Python literal with three known keys; no more of
// Python is understood.
#include "runtime/npy.h"

#include <fmt/format.h>

#include <cstring>
#include <iterator>

#include "runtime/file.h"

namespace gradc {
namespace {

constexpr std::string_view magic = "\x93NUMPY";

struct Row {
  std::string_view descr;
  StoredDType dtype;
};
constexpr Row rows[] = {
    {"|b1", StoredDType::boolean}, {"|u1", StoredDType::u8},  {"|i1", StoredDType::i8},
    {"<u2", StoredDType::u16},     {"<i2", StoredDType::i16}, {"<u4", StoredDType::u32},
    {"<i4", StoredDType::i32},     {"<u8", StoredDType::u64}, {"<i8", StoredDType::i64},
    {"<f2", StoredDType::f16},     {"<f4", StoredDType::f32}, {"<f8", StoredDType::f64}};

// The literal, front to back. Each step gives false where the text is something else.
class Literal {
 public:
  explicit Literal(std::string_view text) : rest_(text) {}
  void blanks() {
    while (!rest_.empty() && (rest_[0] == ' ' || rest_[0] == '\n')) rest_.remove_prefix(1);
  }
  bool take(std::string_view what) {
    blanks();
    if (!rest_.starts_with(what)) return false;
    rest_.remove_prefix(what.size());
    return true;
  }
  bool quoted(std::string_view& out) {
    blanks();
    if (rest_.empty() || (rest_[0] != '\'' && rest_[0] != '"')) return false;
    const std::size_t end = rest_.find(rest_[0], 1);
    if (end == std::string_view::npos) return false;
    out = rest_.substr(1, end - 1);
    rest_.remove_prefix(end + 1);
    return true;
  }
  bool number(std::int64_t& out) {
    blanks();
    std::size_t n = 0;
    out = 0;
    while (n < rest_.size() && rest_[n] >= '0' && rest_[n] <= '9') {
      if (__builtin_mul_overflow(out, std::int64_t{10}, &out) ||
          __builtin_add_overflow(out, rest_[n] - '0', &out))
        return false;
      ++n;
    }
    rest_.remove_prefix(n);
    return n > 0;
  }
  // (2, 3)  (2,)  ()
  bool tuple(std::vector<std::int64_t>& out) {
    if (!take("(")) return false;
    while (!take(")")) {
      std::int64_t n;
      if (!number(n)) return false;
      out.push_back(n);
      if (!take(",") && !(out.size() > 1 && peek() == ')')) return false;
    }
    return true;
  }
  char peek() {
    blanks();
    return rest_.empty() ? '\0' : rest_[0];
  }
  bool ended() {
    blanks();
    return rest_.empty();
  }

 private:
  std::string_view rest_;
};

struct Header {
  std::string_view descr;
  bool fortran = false;
  std::vector<std::int64_t> shape;
};

bool parse_header(std::string_view text, Header& out) {
  Literal l(text);
  int seen = 0;  // a bit a key: each stands once
  if (!l.take("{")) return false;
  while (!l.take("}")) {
    std::string_view key;
    if (!l.quoted(key) || !l.take(":")) return false;
    const int bit = key == "descr" ? 1 : key == "fortran_order" ? 2 : key == "shape" ? 4 : 0;
    if (bit == 0 || (seen & bit) != 0) return false;
    seen |= bit;
    if (bit == 1 && !l.quoted(out.descr)) return false;
    if (bit == 2) {
      out.fortran = l.take("True");
      if (!out.fortran && !l.take("False")) return false;
    }
    if (bit == 4 && !l.tuple(out.shape)) return false;
    if (!l.take(",") && l.peek() != '}') return false;
  }
  return seen == 7 && l.ended();
}

}  // namespace

Result<StoredTensor> parse_npy(std::span<const unsigned char> file, const std::string& path) {
  const auto fail = [&](std::string_view why) {
    return failure(Exit::file, fmt::format("{}: {}", path, why));
  };
  const std::string_view text(reinterpret_cast<const char*>(file.data()), file.size());
  if (!text.starts_with(magic) || file.size() < 10) return fail("is not an .npy file");
  const int version = file[6];
  if (version != 1 && version != 2)
    return fail(fmt::format("is .npy of version {}, which is not read", version));
  const std::size_t fore = version == 1 ? 10 : 12;
  if (file.size() < fore) return fail("ends within its header");
  std::size_t length = 0;
  std::memcpy(&length, file.data() + 8, fore - 8);
  if (length > file.size() - fore) return fail("ends within its header");
  Header h;
  if (!parse_header(text.substr(fore, length), h))
    return fail("has a header that is not that of one array");
  if (h.fortran) return fail("is in Fortran order; save numpy.ascontiguousarray of it");
  if (h.descr.starts_with(">"))
    return fail(fmt::format("is big-endian ({}); save it as little-endian", h.descr));
  StoredTensor out;
  bool known = false;
  for (const Row& r : rows)
    if (r.descr == h.descr) {
      out.dtype = r.dtype;
      known = true;
    }
  if (!known) return fail("has a dtype that is not read: numbers of 1 to 8 bytes and bool are");
  std::int64_t size = bytes(out.dtype);
  bool fits = true, empty = false;
  for (const std::int64_t n : h.shape) {
    empty = empty || n == 0;
    fits = fits && !__builtin_mul_overflow(size, n, &size);
  }
  if (empty) size = 0;
  const std::size_t held = file.size() - fore - length;
  if ((!fits && !empty) || static_cast<std::uint64_t>(size) != held)
    return fail(fmt::format("holds {} bytes of elements, which is not what shape {} of {} takes",
                            held, shape_text(h.shape), h.descr));
  out.shape = std::move(h.shape);
  out.elements = size / bytes(out.dtype);
  out.data = file.data() + fore + length;
  return out;
}

Result<Npy> Npy::open(const std::string& path) {
  Result<MappedFile> file = MappedFile::open(path);
  if (!file) return file.failure();
  Result<StoredTensor> tensor = parse_npy(file->bytes(), path);
  if (!tensor) return tensor.failure();
  Npy out;
  out.file_ = std::move(*file);
  out.tensor_ = std::move(*tensor);
  return out;
}

Result<Done> write_npy(const std::string& path, const StoredTensor& t) {
  std::string_view descr;
  for (const Row& r : rows)
    if (r.dtype == t.dtype) descr = r.descr;
  if (descr.empty())
    return failure(Exit::usage,
                   fmt::format("{}: .npy has no dtype {}; write safetensors", path, name(t.dtype)));
  std::string header = fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({}{}), }}",
                                   descr, fmt::join(t.shape, ", "), t.shape.size() == 1 ? "," : "");
  while ((10 + header.size() + 1) % 64 != 0) header += ' ';
  header += '\n';
  std::string head(magic);
  head += {'\x01', '\x00', static_cast<char>(header.size() & 255),
           static_cast<char>(header.size() >> 8)};
  head += header;
  Result<ReplacedFile> file = ReplacedFile::create(path);
  if (!file) return file.failure();
  if (Result<Done> r =
          file->write({reinterpret_cast<const unsigned char*>(head.data()), head.size()});
      !r)
    return r;
  if (Result<Done> r = file->write({t.data, static_cast<std::size_t>(t.elements) *
                                                static_cast<std::size_t>(bytes(t.dtype))});
      !r)
    return r;
  return file->commit();
}

}  // namespace gradc
