// Owns JSON as gradc writes and reads it, apart from the header of weights: objects, lists of them,
// behind an interface of a few lines, since the library's header takes longer to compile than most files here.
#pragma once

#include <cmath>
#include <concepts>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ir/diagnostic.h"

namespace gradc {

// x to a part of one, 100 for two digits; as a quotient, the number with the fewest digits.
inline double rounded(double x, double parts) { return std::round(x * parts) / parts; }

// A text as JSON writes it, with its quotes; ASCII.
std::string json_text(std::string_view text);

// Members in the order in which they were added. Reals print in the shortest form that reads back;
// what is no UTF-8 in a text prints as the replacement character.
class JsonObject {
 public:
  JsonObject();
  ~JsonObject();
  JsonObject(JsonObject&&) noexcept;
  void add(std::string_view name, double value);
  void add(std::string_view name, std::string_view value);
  void add(std::string_view name, const JsonObject& value);
  void add(std::string_view name, const std::vector<JsonObject>& values);
  void add(std::string_view name, const std::vector<std::string>& values);
  template <std::integral T>
  void add(std::string_view name, T value) {
    std::is_signed_v<T> ? add_signed(name, static_cast<std::int64_t>(value))
                        : add_unsigned(name, static_cast<std::uint64_t>(value));
  }
  std::string line() const;                                         // ASCII, no newline
  std::string indented() const;
  std::vector<std::pair<std::string, std::string>> members() const; // texts without quotes

 private:
  void add_signed(std::string_view name, std::int64_t value);
  void add_unsigned(std::string_view name, std::uint64_t value);
  struct Data;
  std::unique_ptr<Data> data_;
};

struct JsonNumber {
  std::string name;
  double value = 0;
  std::string text;   // as it would be printed
};
// The members of the object `member` of the object in `text`, which must be numbers; exit 3.
Result<std::vector<JsonNumber>> json_numbers(std::string_view text, std::string_view member);

}  // namespace gradc
