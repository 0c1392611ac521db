// Reading and writing of safetensors. The header is read by events, so that a key given twice is
// seen and no depth of nesting needs a stack; nlohmann's parser raises nothing here.
#include "runtime/safetensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <unordered_set>

#include "runtime/file.h"

namespace gradc {
namespace {

using nlohmann::json;
constexpr std::uint64_t most_header = 100'000'000;
constexpr std::string_view metadata_key = "__metadata__";

struct Entry {
  std::string name;
  std::optional<StoredDType> dtype;
  std::optional<std::vector<std::uint64_t>> shape, offsets;
};

// Takes the parser's events: {"name": {"dtype": "F32", "shape": [..], "data_offsets": [a, b]}, …,
// "__metadata__": {"key": "value"}}. Anything else stops it with `fault` set.
class HeaderEvents final : public nlohmann::json_sax<json> {
 public:
  std::vector<Entry> entries;
  Metadata metadata;
  std::string fault;

  bool start_object(std::size_t) override {
    if (depth_ == 0) return ++depth_;
    if (depth_ != 1) return unexpected("an object");
    in_metadata_ = key_ == metadata_key;
    keys_.clear();
    if (!in_metadata_) entries.push_back({key_, {}, {}, {}});
    return ++depth_;
  }
  bool key(string_t& k) override {
    if (!(depth_ == 1 ? names_ : keys_).insert(k).second)
      return stop(fmt::format("`{}` stands twice in the header", shown(k)));
    key_ = k;
    return true;
  }
  bool end_object() override {
    if (--depth_ == 1 && !in_metadata_) {
      const Entry& e = entries.back();
      if (!e.dtype || !e.shape || !e.offsets)
        return stop(fmt::format("tensor `{}` lacks dtype, shape or data_offsets", shown(e.name)));
    }
    return true;
  }
  bool start_array(std::size_t) override {
    if (depth_ != 2 || in_metadata_ || list_ != nullptr) return unexpected("a list");
    Entry& e = entries.back();
    if (key_ == "shape") list_ = &e.shape.emplace();
    if (key_ == "data_offsets") list_ = &e.offsets.emplace();
    return list_ != nullptr || unexpected("a list");
  }
  bool end_array() override {
    list_ = nullptr;
    return true;
  }
  bool string(string_t& s) override {
    if (depth_ != 2 || list_ != nullptr) return unexpected("a string");
    if (in_metadata_) {
      metadata.emplace_back(key_, s);
      return true;
    }
    if (key_ != "dtype") return unexpected("a string");
    StoredDType d;
    if (!parse_stored_dtype(s, d))
      return stop(fmt::format("tensor `{}` has dtype {}, which is not read",
                              shown(entries.back().name), shown(s)));
    entries.back().dtype = d;
    return true;
  }
  bool number_unsigned(number_unsigned_t x) override {
    if (list_ == nullptr) return unexpected("a number");
    list_->push_back(x);
    return true;
  }
  bool null() override { return unexpected("null"); }
  bool boolean(bool) override { return unexpected("a boolean"); }
  bool number_integer(number_integer_t) override { return unexpected("a negative number"); }
  bool number_float(number_float_t, const string_t&) override { return unexpected("a fraction"); }
  bool binary(binary_t&) override { return unexpected("binary data"); }
  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception&) override {
    return stop(fmt::format("the header is not JSON at its byte {}", position));
  }

  // A name for a message: printable, not endless.
  static std::string shown(std::string_view text) {
    std::string out;
    for (const unsigned char c : text.substr(0, 100))
      out += c >= 0x20 && c < 0x7f ? std::string(1, static_cast<char>(c))
                                   : fmt::format("\\x{:02x}", c);
    return text.size() > 100 ? out + "…" : out;
  }

 private:
  bool stop(std::string why) {
    if (fault.empty()) fault = std::move(why);
    return false;
  }
  bool unexpected(std::string_view what) {
    if (depth_ == 0) return stop(fmt::format("the header is {}, not an object", what));
    return stop(fmt::format("the header has {} at `{}`, where none belongs", what, shown(key_)));
  }
  int depth_ = 0;
  bool in_metadata_ = false;
  std::string key_;
  std::vector<std::uint64_t>* list_ = nullptr;
  std::unordered_set<std::string> names_, keys_;
};

// "" or what is wrong with one tensor; fills it.
std::string tensor_of(const Entry& e, std::span<const unsigned char> data, StoredTensor& out) {
  const std::string who = fmt::format("tensor `{}`", HeaderEvents::shown(e.name));
  std::uint64_t elements = 1, size = 0;
  const bool empty = std::find(e.shape->begin(), e.shape->end(), 0) != e.shape->end();
  for (const std::uint64_t n : *e.shape) {
    if (n > INT64_MAX) return who + " has an extent beyond any file";
    out.shape.push_back(static_cast<std::int64_t>(n));
    if (!empty && __builtin_mul_overflow(elements, n, &elements))
      return who + " has more elements than fit a file";
  }
  if (empty) elements = 0;
  if (__builtin_mul_overflow(elements, static_cast<std::uint64_t>(bytes(*e.dtype)), &size))
    return who + " has more elements than fit a file";
  if (e.offsets->size() != 2)
    return fmt::format("{} has {} offsets, not 2", who, e.offsets->size());
  const std::uint64_t begin = (*e.offsets)[0], end = (*e.offsets)[1];
  if (begin > end || end > data.size())
    return fmt::format("{} has offsets {} to {}, outside the file's {} bytes of data", who, begin,
                       end, data.size());
  if (end - begin != size)
    return fmt::format("{} has {} bytes, but its shape {} of {} takes {}", who, end - begin,
                       shape_text(out.shape), name(*e.dtype), size);
  out.name = e.name;
  out.dtype = *e.dtype;
  out.elements = static_cast<std::int64_t>(elements);
  out.data = data.data() + begin;
  return "";
}

}  // namespace

Result<SafetensorsHeader> parse_safetensors(std::span<const unsigned char> file,
                                            const std::string& path) {
  const auto fail = [&](std::string_view why) {
    return failure(Exit::file, fmt::format("{}: is not safetensors: {}", path, why));
  };
  std::uint64_t length = 0;
  if (file.size() < sizeof length)
    return fail("it is shorter than the 8 bytes of a header's length");
  std::memcpy(&length, file.data(), sizeof length);
  if (length > most_header)
    return fail(fmt::format("its header would take {} bytes, more than {}", length, most_header));
  if (length > file.size() - sizeof length)
    return fail(fmt::format("its header would take {} bytes, but {} are left in the file", length,
                            file.size() - sizeof length));
  const auto header = file.subspan(sizeof length, length);
  const auto data = file.subspan(sizeof length + length);
  if (header.empty() || header[0] != '{') return fail("its header does not begin with `{`");
  HeaderEvents events;
  if (!json::sax_parse(header.begin(), header.end(), &events))
    return fail(events.fault.empty() ? "the header is not JSON" : events.fault);

  SafetensorsHeader out;
  out.metadata = std::move(events.metadata);
  for (const Entry& e : events.entries) {
    StoredTensor t;
    if (const std::string why = tensor_of(e, data, t); !why.empty()) return fail(why);
    out.tensors.push_back(std::move(t));
  }
  std::sort(out.tensors.begin(), out.tensors.end(), [](const StoredTensor& a, const StoredTensor& b) {
    if (a.data != b.data) return a.data < b.data;
    if ((a.elements == 0) != (b.elements == 0)) return a.elements == 0;  // before what begins there
    return a.name < b.name;
  });
  const unsigned char* next = data.data();
  for (const StoredTensor& t : out.tensors) {
    if (t.data != next)
      return fail(fmt::format("tensor `{}` {} the one before it", HeaderEvents::shown(t.name),
                              t.data < next ? "overlaps" : "leaves a hole behind"));
    next += t.elements * bytes(t.dtype);
  }
  if (const auto rest = data.data() + data.size() - next; rest != 0)
    return fail(fmt::format("{} bytes behind its last tensor belong to none", rest));
  return out;
}

Result<Safetensors> Safetensors::open(const std::string& path) {
  Result<MappedFile> file = MappedFile::open(path);
  if (!file) return file.failure();
  Result<SafetensorsHeader> header = parse_safetensors(file->bytes(), path);
  if (!header) return header.failure();
  Safetensors out;
  out.path_ = path;
  out.file_ = std::move(*file);
  out.header_ = std::move(*header);
  for (std::size_t i = 0; i < out.header_.tensors.size(); ++i)
    out.by_name_.emplace(out.header_.tensors[i].name, i);
  return out;
}

const StoredTensor* Safetensors::find(std::string_view name) const {
  const auto it = by_name_.find(std::string(name));
  return it == by_name_.end() ? nullptr : &header_.tensors[it->second];
}

Result<Done> write_safetensors(const std::string& path, std::span<const StoredTensor> tensors,
                               const Metadata& metadata) {
  const auto quoted = [](const std::string& s) {
    return json(s).dump(-1, ' ', true, json::error_handler_t::replace);
  };
  std::unordered_set<std::string_view> names{metadata_key};
  std::string header = "{";
  if (!metadata.empty()) {
    header += fmt::format("\"{}\":{{", metadata_key);
    for (const auto& [key, value] : metadata)
      header += fmt::format("{}{}:{}", header.back() == '{' ? "" : ",", quoted(key), quoted(value));
    header += "}";
  }
  std::int64_t offset = 0;
  for (const StoredTensor& t : tensors) {
    if (!names.insert(t.name).second)
      return failure(Exit::file,
                     fmt::format("{}: tensor `{}` would stand in it twice", path, t.name));
    const std::int64_t end = offset + t.elements * bytes(t.dtype);
    header += fmt::format("{}{}:{{\"dtype\":\"{}\",\"shape\":[{}],\"data_offsets\":[{},{}]}}",
                          header.size() > 1 ? "," : "", quoted(t.name), name(t.dtype),
                          fmt::join(t.shape, ","), offset, end);
    offset = end;
  }
  header += "}";
  header.resize((header.size() + 7) / 8 * 8, ' ');  // the elements begin at a multiple of 8

  Result<ReplacedFile> file = ReplacedFile::create(path);
  if (!file) return file.failure();
  const std::uint64_t length = header.size();
  std::string head(reinterpret_cast<const char*>(&length), sizeof length);
  head += header;
  if (Result<Done> r =
          file->write({reinterpret_cast<const unsigned char*>(head.data()), head.size()});
      !r)
    return r;
  for (const StoredTensor& t : tensors)
    if (Result<Done> r = file->write({t.data, static_cast<std::size_t>(t.elements) *
                                                  static_cast<std::size_t>(bytes(t.dtype))});
        !r)
      return r;
  return file->commit();
}

}  // namespace gradc
