// Owns the remark: what a pass decided about a place in the source, or why it did not.
#pragma once

#include <cstdint>
#include <string>

#include "ir/op.h"

namespace gradc {

struct Remark {
  LocId at;                   // of the program that the pass gives; may be invalid
  Claim claim = Claim::none;  // of a candidate for fusion: as what
  bool fused = false;
  std::string function;       // where it stands; may be empty
  std::string text;           // a sentence without a full stop, or (of a candidate) what it is over
  std::string advice;         // what to change; may be empty
};

// "12.3 MB", "1.20 GB": powers of ten, as plans are stated.
std::string human_bytes(std::int64_t bytes);

}  // namespace gradc
