// Owns the replacing of a file in one piece: written beside under a temporary name, synced,
// renamed, and the folder synced. Until commit() the old file is untouched; without it the
// temporary one is removed.
#pragma once

#include <span>
#include <string>

#include "ir/diagnostic.h"

namespace gradc {

class ReplacedFile {
 public:
  static Result<ReplacedFile> create(const std::string& path);  // exit 3, as all failures here
  ReplacedFile(ReplacedFile&& other) noexcept;
  ReplacedFile& operator=(ReplacedFile&&) = delete;
  ~ReplacedFile();
  Result<Done> write(std::span<const unsigned char> bytes);
  Result<Done> commit();

 private:
  ReplacedFile() = default;
  Failure fault(const char* what);
  std::string path_, temporary_;
  int descriptor_ = -1;
};

}  // namespace gradc
