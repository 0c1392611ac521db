// Owns the remark: what a pass decided about a place in the source, or why it did not.
#pragma once

#include <cstdint>
#include <string>

#include "ir/ids.h"

namespace gradc {

struct Remark {
  LocId at;             // of the program that the pass gives; may be invalid
  std::string message;  // a sentence without a full stop
};

// "12.3 MB", "1.20 GB": powers of ten, as plans are stated.
std::string human_bytes(std::int64_t bytes);

}  // namespace gradc
