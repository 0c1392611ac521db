// Wrong programs and their exact messages (tests/golden/diagnostics), and what each rule of the
// language accepts and refuses (tests/golden/rules).
#include <doctest/doctest.h>

#include "unit/frontend/answer.h"

using namespace gradc;

TEST_CASE("a wrong program gets exactly this message") { golden::run("diagnostics", test::answer); }

TEST_CASE("each rule of the language accepts what it should, as this IR, and refuses the rest") {
  golden::run("rules", test::answer);
}
