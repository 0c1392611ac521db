// The .npy reader: both versions, every dtype; what it does not read has a message; no bytes make
// it crash.
#include "runtime/npy.h"

#include <doctest/doctest.h>

#include "unit/runtime/scratch.h"

using namespace gradc;
using namespace gradc::runtime_test;

namespace {

std::string file(int version, const std::string& header, const std::string& data) {
  std::string out = "\x93NUMPY";
  out += static_cast<char>(version);
  out += '\0';
  const std::size_t n = header.size();
  for (int i = 0; i < (version == 1 ? 2 : 4); ++i) out += static_cast<char>(n >> 8 * i & 255);
  return out + header + data;
}
std::string header(const std::string& descr, const std::string& shape,
                   const std::string& fortran = "False") {
  return "{'descr': '" + descr + "', 'fortran_order': " + fortran + ", 'shape': " + shape + ", }\n";
}
std::string fault(const std::string& content) {
  Result<StoredTensor> r = parse_npy(bytes_of(content), "F");
  if (r.ok()) return "";
  CHECK(r.failure().exit == Exit::file);
  return r.failure().diagnostics[0].message;
}

}  // namespace

TEST_CASE("versions 1 and 2, shapes of any rank, keys in any order") {
  for (int version : {1, 2}) {
    const std::string text =
        file(version, header("<i4", "(2, 1)"), std::string("\x01\0\0\0\xff\xff\xff\xff", 8));
    Result<StoredTensor> r = parse_npy(bytes_of(text), "F");
    REQUIRE(r.ok());
    CHECK(r->shape == std::vector<std::int64_t>{2, 1});
    CHECK(to_array(*r)->integer == std::vector<std::int64_t>{1, -1});
  }
  CHECK(fault(file(1, header("<f4", "()"), "xxxx")) == "");
  CHECK(fault(file(1, header("<f8", "(1,)"), "xxxxxxxx")) == "");
  CHECK(fault(file(1, header("<f8", "(0, 5)"), "")) == "");
  CHECK(fault(file(1, "{\"shape\":(2,),\"fortran_order\":False,\"descr\":\"|b1\"}", "xx")) == "");
}

TEST_CASE("what is not read has a message") {
  CHECK(fault("") == "F: is not an .npy file");
  CHECK(fault("PK\x03\x04 and more of a zip") == "F: is not an .npy file");
  CHECK(fault(file(3, header("<f4", "()"), "xxxx")) ==
        "F: is .npy of version 3, which is not read");
  CHECK(fault(file(1, header("<f4", "(2, 2)", "True"), std::string(16, 'x'))) ==
        "F: is in Fortran order; save numpy.ascontiguousarray of it");
  CHECK(fault(file(1, header(">f4", "()"), "xxxx")) ==
        "F: is big-endian (>f4); save it as little-endian");
  CHECK(fault(file(1, header("<c8", "()"), "xxxxxxxx"))
            .starts_with("F: has a dtype that is not read"));
  CHECK(fault(file(1, header("<f4", "(2,)"), "xxxx")) ==
        "F: holds 4 bytes of elements, which is not what shape [2] of <f4 takes");
  CHECK(fault(file(1, header("<f4", "(9223372036854775807, 9)"), "xxxx"))
            .starts_with("F: holds 4 bytes of elements"));
  CHECK(
      fault(file(1, header("<f4", "(99999999999999999999,)"), "")).starts_with("F: has a header"));
  for (const char* h : {"", "{", "{}", "{'descr': '<f4', 'fortran_order': False}",
                        "{'descr': '<f4', 'descr': '<f4', 'shape': ()}",
                        "{'descr': '<f4', 'fortran_order': 0, 'shape': ()}",
                        "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': ()}",
                        "{'descr': '<f4', 'fortran_order': False, 'shape': (2)}",
                        "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}",
                        "{'descr': '<f4', 'fortran_order': False, 'shape': ()} x",
                        "{'descr': '<f4', 'fortran_order': False, 'shape': (1 2)}"})
    CHECK(fault(file(1, h, "xxxx")) == "F: has a header that is not that of one array");
}

TEST_CASE("no prefix and no changed byte crashes") {
  const std::string good = file(1, header("<i2", "(2, 2)"), "12345678");
  REQUIRE(fault(good) == "");
  for (std::size_t n = 0; n < good.size(); ++n) CHECK(!fault(good.substr(0, n)).empty());
  for (std::size_t i = 0; i < good.size(); ++i)
    for (int b = 0; b < 256; ++b) {
      std::string bad = good;
      bad[i] = static_cast<char>(b);
      Result<StoredTensor> r = parse_npy(bytes_of(bad), "F");
      if (r.ok()) CHECK(r->elements * bytes(r->dtype) == 8);
    }
}

TEST_CASE("what is written reads back, aligned as NumPy does") {
  const Scratch scratch;
  const std::string path = scratch.path("x.npy");
  const double x[3] = {1, 2, 3};
  for (const std::vector<std::int64_t>& shape : {std::vector<std::int64_t>{3}, {1, 3}, {3, 1, 1}}) {
    REQUIRE(
        write_npy(path, {"", StoredDType::f64, shape, reinterpret_cast<const unsigned char*>(x), 3})
            .ok());
    Result<Npy> r = Npy::open(path);
    REQUIRE(r.ok());
    CHECK(r->tensor().shape == shape);
    CHECK(to_array(r->tensor())->real == std::vector<double>{1, 2, 3});
    CHECK((scratch.read("x.npy").size() - 24) % 64 == 0);
  }
  REQUIRE(write_npy(path, {"", StoredDType::f32, {}, reinterpret_cast<const unsigned char*>(x), 1})
              .ok());
  CHECK(Npy::open(path)->tensor().shape.empty());
  CHECK(!write_npy(path, {"", StoredDType::bf16, {}, reinterpret_cast<const unsigned char*>(x), 1})
             .ok());
  CHECK(scratch.files() == 1);
}
