// Owns the safetensors format: a little-endian length, a JSON header of names, dtypes, shapes and
// offsets, then the elements. Strict: a file is read only if every byte of it is accounted for.
#pragma once

#include <map>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "runtime/data.h"
#include "runtime/stored.h"

namespace gradc {

using Metadata = std::vector<std::pair<std::string, std::string>>;

// The header's meaning. Tensors point into the bytes that were parsed, in the order of their
// offsets.
struct SafetensorsHeader {
  std::vector<StoredTensor> tensors;
  Metadata metadata;
};
// Any bytes are safe to hand in. Refused, with exit 3 and `path` in front of what is wrong: a
// header that is longer than 100 MB or than the file, is not JSON of the form, names a tensor or a
// key twice, or a dtype that is unknown; sizes that do not match shapes; offsets that overlap,
// leave a hole or do not end where the file ends.
Result<SafetensorsHeader> parse_safetensors(std::span<const unsigned char> bytes,
                                            const std::string& path);

// A file, mapped while this lives.
class Safetensors {
 public:
  static Result<Safetensors> open(const std::string& path);
  const std::string& path() const { return path_; }
  const std::vector<StoredTensor>& tensors() const { return header_.tensors; }
  const StoredTensor* find(std::string_view name) const;  // null if there is none
  const Metadata& metadata() const { return header_.metadata; }

 private:
  std::string path_;
  MappedFile file_;
  SafetensorsHeader header_;
  std::unordered_map<std::string, std::size_t> by_name_;
};

// Written beside, synced, renamed. Names are distinct and not `__metadata__` (else exit 3).
Result<Done> write_safetensors(const std::string& path, std::span<const StoredTensor> tensors,
                               const Metadata& metadata);

}  // namespace gradc
