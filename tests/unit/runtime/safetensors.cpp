// The safetensors reader is strict: each way to be wrong has its message, and no bytes make it
// crash.
#include "runtime/safetensors.h"

#include <doctest/doctest.h>

#include <cstring>

#include "unit/runtime/scratch.h"

using namespace gradc;
using namespace gradc::runtime_test;

namespace {

std::string file(const std::string& header, const std::string& data) {
  const std::uint64_t n = header.size();
  std::string out(sizeof n, '\0');
  std::memcpy(out.data(), &n, sizeof n);
  return out + header + data;
}
std::string fault(const std::string& content) {
  Result<SafetensorsHeader> r = parse_safetensors(bytes_of(content), "F");
  if (r.ok()) return "";
  CHECK(r.failure().exit == Exit::file);
  const std::string prefix = "F: is not safetensors: ";
  REQUIRE(r.failure().diagnostics[0].message.starts_with(prefix));
  return r.failure().diagnostics[0].message.substr(prefix.size());
}
std::string entry(const std::string& name, const std::string& dtype, const std::string& shape,
                  const std::string& offsets) {
  return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape +
         ",\"data_offsets\":" + offsets + "}";
}
const std::string eight(8, 'x');

}  // namespace

TEST_CASE(
    "a well-formed file: tensors in order of offsets, scalars, empty ones, metadata, padding") {
  const std::string text = file(
      "{" + entry("b", "I32", "[]", "[4,8]") + "," + entry("none", "F64", "[0,3]", "[4,4]") +
          ",\"__metadata__\":{\"format\":\"pt\"}," + entry("a", "BF16", "[2,1]", "[0,4]") + "}   ",
      std::string("\x80\x3f\x00\xc0\x07\x00\x00\x00", 8));
  Result<SafetensorsHeader> r = parse_safetensors(bytes_of(text), "F");
  REQUIRE(r.ok());
  REQUIRE(r->tensors.size() == 3);
  CHECK(r->tensors[0].name == "a");
  CHECK(r->tensors[0].shape == std::vector<std::int64_t>{2, 1});
  CHECK(to_array(r->tensors[0], DType::f32)->real == std::vector<double>{1, -2});
  CHECK(r->tensors[1].name == "none");
  CHECK(r->tensors[1].elements == 0);
  CHECK(r->tensors[2].shape.empty());
  CHECK(to_array(r->tensors[2], DType::i32)->integer == std::vector<std::int64_t>{7});
  CHECK(r->metadata == Metadata{{"format", "pt"}});
  CHECK(fault(file("{}", "")) == "");
}

TEST_CASE("each way to be wrong has its message") {
  CHECK(fault("") == "it is shorter than the 8 bytes of a header's length");
  CHECK(fault(std::string(8, '\xff')) ==
        "its header would take 18446744073709551615 bytes, more than 100000000");
  CHECK(fault(file("{}", "").substr(0, 9)) ==
        "its header would take 2 bytes, but 1 are left in the file");
  CHECK(fault(file("", "")) == "its header does not begin with `{`");
  CHECK(fault(file(" {}", "")) == "its header does not begin with `{`");
  CHECK(fault(file("[]", "")) == "its header does not begin with `{`");
  CHECK(fault(file("{", "")).starts_with("the header is not JSON at its byte"));
  CHECK(fault(file("{} {}", "")).starts_with("the header is not JSON at its byte"));
  CHECK(fault(file("{\"\xff\":{}}", "")).starts_with("the header is not JSON at its byte"));
  CHECK(fault(file("{\"a\":1e999}", "")).starts_with("the header is not JSON at its byte"));
  CHECK(fault(file("{\"a\":3}", "")) == "the header has a number at `a`, where none belongs");
  CHECK(fault(file("{\"a\":null}", "")) == "the header has null at `a`, where none belongs");
  CHECK(fault(file("{\"a\":[]}", "")) == "the header has a list at `a`, where none belongs");
  CHECK(fault(file("{\"a\":{}}", "")) == "tensor `a` lacks dtype, shape or data_offsets");
  CHECK(fault(file("{\"a\":{\"b\":{}}}", "")) ==
        "the header has an object at `b`, where none belongs");
  CHECK(fault(file("{\"a\":{\"strides\":[1]}}", "")) ==
        "the header has a list at `strides`, where none belongs");
  CHECK(fault(file("{\"a\":{\"name\":\"x\"}}", "")) ==
        "the header has a string at `name`, where none belongs");
  CHECK(fault(file("{\"a\":{\"shape\":[-1]}}", "")) ==
        "the header has a negative number at `shape`, where none belongs");
  CHECK(fault(file("{\"a\":{\"shape\":[1.0]}}", "")) ==
        "the header has a fraction at `shape`, where none belongs");
  CHECK(fault(file("{\"a\":{\"shape\":[[1]]}}", "")) ==
        "the header has a list at `shape`, where none belongs");
  CHECK(fault(file("{\"a\":{\"shape\":[true]}}", "")) ==
        "the header has a boolean at `shape`, where none belongs");
  CHECK(fault(file("{\"a\":{\"shape\":[{}]}}", "")) ==
        "the header has an object at `shape`, where none belongs");
  CHECK(fault(file("{\"__metadata__\":{\"k\":1}}", "")) ==
        "the header has a number at `k`, where none belongs");
  CHECK(fault(file("{\"__metadata__\":\"k\"}", "")) ==
        "the header has a string at `__metadata__`, where none belongs");
  CHECK(fault(file("{" + entry("a", "F8_E4M3", "[1]", "[0,1]") + "}", "x")) ==
        "tensor `a` has dtype F8_E4M3, which is not read");
  const std::string a = entry("a", "F32", "[1]", "[0,4]");
  CHECK(fault(file("{" + a + "," + a + "}", "xxxx")) == "`a` stands twice in the header");
  CHECK(fault(file("{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\"}}", "")) ==
        "`dtype` stands twice in the header");
  CHECK(fault(file("{" + entry("a", "F32", "[1]", "[0]") + "}", "xxxx")) ==
        "tensor `a` has 1 offsets, not 2");
  CHECK(fault(file("{" + entry("a", "F32", "[1]", "[0,4]") + "}", "xxx")) ==
        "tensor `a` has offsets 0 to 4, outside the file's 3 bytes of data");
  CHECK(fault(file("{" + entry("a", "F32", "[1]", "[4,0]") + "}", "xxxx")) ==
        "tensor `a` has offsets 4 to 0, outside the file's 4 bytes of data");
  CHECK(fault(file("{" + entry("a", "F32", "[2]", "[0,4]") + "}", "xxxx")) ==
        "tensor `a` has 4 bytes, but its shape [2] of F32 takes 8");
  CHECK(fault(file("{" + entry("a", "F32", "[4294967296,4294967296]", "[0,4]") + "}", "xxxx")) ==
        "tensor `a` has more elements than fit a file");
  CHECK(fault(file("{" + entry("a", "F64", "[2305843009213693952]", "[0,0]") + "}", "")) ==
        "tensor `a` has more elements than fit a file");
  CHECK(fault(file("{" + entry("a", "F32", "[18446744073709551615]", "[0,4]") + "}", "xxxx")) ==
        "tensor `a` has an extent beyond any file");
  CHECK(fault(file("{" + a + "," + entry("b", "F32", "[1]", "[0,4]") + "}", "xxxx")) ==
        "tensor `b` overlaps the one before it");
  CHECK(fault(file("{" + a + "," + entry("b", "F32", "[1]", "[2,6]") + "}", eight)) ==
        "tensor `b` overlaps the one before it");
  CHECK(fault(file("{" + entry("b", "F32", "[1]", "[4,8]") + "}", eight)) ==
        "tensor `b` leaves a hole behind the one before it");
  CHECK(fault(file("{" + a + "}", eight)) == "4 bytes behind its last tensor belong to none");
  // Messages never carry raw bytes.
  CHECK(fault(file("{\"a\\u001b[31m\":3}", "")) ==
        "the header has a number at `a\\x1b[31m`, where none belongs");
}

TEST_CASE("a hundred thousand brackets end in a message") {
  CHECK(fault(file("{\"a\":" + std::string(100000, '['), "")) ==
        "the header has a list at `a`, where none belongs");
  CHECK(!fault(file(std::string(100000, '{'), "")).empty());
}

TEST_CASE("no prefix and no changed byte crashes or passes for more than it is") {
  const std::string good =
      file("{" + entry("a", "F32", "[2]", "[0,8]") + "," + entry("b", "BOOL", "[1]", "[8,9]") + "}",
           "12345678\x01");
  REQUIRE(fault(good) == "");
  for (std::size_t n = 0; n < good.size(); ++n) CHECK(!fault(good.substr(0, n)).empty());
  CHECK(!fault(good + "x").empty());
  int accepted = 0;
  for (std::size_t i = 0; i < good.size(); ++i)
    for (int b = 0; b < 256; ++b) {
      std::string bad = good;
      bad[i] = static_cast<char>(b);
      Result<SafetensorsHeader> r = parse_safetensors(bytes_of(bad), "F");
      if (!r.ok()) continue;
      ++accepted;
      std::int64_t total = 0;
      for (const StoredTensor& t : r->tensors) total += t.elements * bytes(t.dtype);
      CHECK(total == 9);
    }
  CHECK(accepted > 0);
}

TEST_CASE("what is written reads back; the file is replaced in one piece") {
  const Scratch scratch;
  const std::string path = scratch.write("w.safetensors", "old");
  const float x[6] = {1, 2, 3, 4, 5, 6};
  const std::int64_t n = -7;
  const std::vector<StoredTensor> tensors{
      {"layer \"0\"\n\xc3\xa9",
       StoredDType::f32,
       {2, 3},
       reinterpret_cast<const unsigned char*>(x),
       6},
      {"none", StoredDType::f32, {0}, nullptr, 0},
      {"n", StoredDType::i64, {}, reinterpret_cast<const unsigned char*>(&n), 1}};
  REQUIRE(write_safetensors(path, tensors, {{"format", "gradc"}, {"note", "a\\b"}}).ok());
  CHECK(scratch.files() == 1);
  Result<Safetensors> r = Safetensors::open(path);
  REQUIRE(r.ok());
  CHECK(r->metadata() == Metadata{{"format", "gradc"}, {"note", "a\\b"}});
  const StoredTensor* t = r->find("layer \"0\"\n\xc3\xa9");
  REQUIRE(t != nullptr);
  CHECK(t->shape == std::vector<std::int64_t>{2, 3});
  CHECK(to_array(*t)->real == std::vector<double>{1, 2, 3, 4, 5, 6});
  CHECK(to_array(*r->find("n"))->integer == std::vector<std::int64_t>{-7});
  CHECK(r->find("none")->elements == 0);
  CHECK(r->find("m") == nullptr);

  const std::vector<StoredTensor> twice{tensors[2], tensors[2]};
  CHECK(!write_safetensors(path, twice, {}).ok());
  CHECK(Safetensors::open(path).ok());  // the old one stands
  CHECK(!write_safetensors(scratch.path("no/such/folder"), tensors, {}).ok());
  CHECK(!Safetensors::open(scratch.path("absent")).ok());
  CHECK(scratch.files() == 1);
}
