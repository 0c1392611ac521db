// JSON through nlohmann's library.
#include "runtime/json.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace gradc {
namespace {

constexpr auto replace = nlohmann::ordered_json::error_handler_t::replace;

}  // namespace

std::string json_text(std::string_view text) {
  return nlohmann::ordered_json(std::string(text)).dump(-1, ' ', true, replace);
}

struct JsonObject::Data {
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
};

JsonObject::JsonObject() : data_(std::make_unique<Data>()) {}
JsonObject::~JsonObject() = default;
JsonObject::JsonObject(JsonObject&&) noexcept = default;

void JsonObject::add(std::string_view name, double value) { data_->json[std::string(name)] = value; }
void JsonObject::add(std::string_view name, std::string_view value) {
  data_->json[std::string(name)] = std::string(value);
}
void JsonObject::add(std::string_view name, const JsonObject& value) {
  data_->json[std::string(name)] = value.data_->json;
}
void JsonObject::add(std::string_view name, const std::vector<JsonObject>& values) {
  auto& list = data_->json[std::string(name)] = nlohmann::ordered_json::array();
  for (const JsonObject& v : values) list.push_back(v.data_->json);
}
void JsonObject::add(std::string_view name, const std::vector<std::string>& values) {
  data_->json[std::string(name)] = values;
}
void JsonObject::add_signed(std::string_view name, std::int64_t value) {
  data_->json[std::string(name)] = value;
}
void JsonObject::add_unsigned(std::string_view name, std::uint64_t value) {
  data_->json[std::string(name)] = value;
}

std::string JsonObject::line() const { return data_->json.dump(-1, ' ', true, replace); }
std::string JsonObject::indented() const { return data_->json.dump(2, ' ', true, replace); }

std::vector<std::pair<std::string, std::string>> JsonObject::members() const {
  std::vector<std::pair<std::string, std::string>> out;
  for (const auto& [name, value] : data_->json.items())
    out.emplace_back(name, value.is_string() ? value.get<std::string>() : value.dump());
  return out;
}

Result<std::vector<JsonNumber>> json_numbers(std::string_view text, std::string_view member) {
  const auto json = nlohmann::ordered_json::parse(text, nullptr, false);
  const auto object = json.is_object() ? json.find(member) : json.end();
  if (!json.is_object() || object == json.end() || !object->is_object())
    return failure(Exit::file, "is not a run's description");
  std::vector<JsonNumber> out;
  for (const auto& [name, value] : object->items()) {
    if (!value.is_number()) return failure(Exit::file, fmt::format("`{}` is not a number", name));
    out.push_back({name, value.get<double>(), value.dump()});
  }
  return out;
}

}  // namespace gradc
