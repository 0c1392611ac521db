// Owns NumPy's .npy format, versions 1 and 2: one array, little-endian, in C order. (NumPy
// Enhancement Proposal 1.) Other byte orders, Fortran order and structured types are refused with a
// message.
#pragma once

#include <string>

#include "runtime/data.h"
#include "runtime/stored.h"

namespace gradc {

// Any bytes are safe to hand in; the tensor points into them. Exit 3, with `path` in front.
Result<StoredTensor> parse_npy(std::span<const unsigned char> bytes, const std::string& path);

// A file, mapped while this lives.
class Npy {
 public:
  static Result<Npy> open(const std::string& path);
  const StoredTensor& tensor() const { return tensor_; }

 private:
  MappedFile file_;
  StoredTensor tensor_;
};

// Written beside, synced, renamed. The dtype cannot be BF16, which NumPy does not know (exit 2).
Result<Done> write_npy(const std::string& path, const StoredTensor& tensor);

}  // namespace gradc
