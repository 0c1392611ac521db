// Owns making a failing model small: statements dropped, expressions replaced by their parts or by
// numbers, extents shrunk, as long as it fails in the same way.
#pragma once

#include <functional>
#include <string>

namespace gradc::fuzz {

// `fails`: whether a text fails as the first one did. At most `tries` texts are asked for.
std::string reduced(const std::string& text, const std::function<bool(const std::string&)>& fails,
                    int tries = 4000);

}  // namespace gradc::fuzz
