// Protects the lines that messages show, at the edges of a text.
#include "ir/diagnostic.h"

#include <doctest/doctest.h>

using namespace gradc;

TEST_CASE("lines of a text: the first, the last with and without newline, none behind") {
  Sources sources;
  const std::uint32_t none = sources.add("none", ""), open = sources.add("open", "\na\n\nlast"),
                      closed = sources.add("closed", "a\nlast\n");
  CHECK(sources.line(none, 1) == "");
  CHECK(sources.line(open, 1) == "");
  CHECK(sources.line(open, 2) == "a");
  CHECK(sources.line(open, 3) == "");
  CHECK(sources.line(open, 4) == "last");
  CHECK(sources.line(open, 5) == "");
  CHECK(sources.line(closed, 2) == "last");
  CHECK(sources.line(closed, 3) == "");
  for (const std::uint32_t s : {none, open, closed})
    for (const std::uint32_t line : {0u, 6u, UINT32_MAX}) CHECK(sources.line(s, line) == "");
}
