// The library's files, as they stood in frontend/lib when this was built.
#include <string_view>

#include "frontend/frontend.h"

namespace gradc {

const std::vector<Embedded>& library() {
  static const std::vector<Embedded> files = {
#include "frontend_library.inc"
  };
  return files;
}

}  // namespace gradc
