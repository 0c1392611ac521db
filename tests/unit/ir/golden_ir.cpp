// Goldens of the text: what is printed, what is refused and how.
#include <doctest/doctest.h>

#include "ir/structure.h"
#include "ir/text.h"
#include "ir/verify.h"
#include "support/golden.h"

using namespace gradc;

namespace {

// `print`: the program as it prints, which must print the same again. `brief`: likewise, with
// --brief, which does not parse back where bodies were left out. `refuse`: the message.
std::string text_case(const golden::Case& c) {
  Sources sources;
  const golden::Section& in = c.sections[0];
  const std::uint32_t source = sources.add("x.ir", in.text);
  const Result<Program> parsed = parse_ir(sources, source);
  if (in.name == "refuse")
    return parsed.ok() ? "was accepted\n" : render(sources, parsed.failure().diagnostics[0]);
  if (!parsed.ok()) return render(sources, parsed.failure().diagnostics[0]);
  for (const Fault& f : verify(*parsed)) return "fault: " + f.message + "\n";
  PrintOptions options;
  if (in.name == "brief") options.locations = options.bodies = false;
  if (!in.args.empty()) options.functions = {in.args};
  const std::string once = print(*parsed, options);
  if (in.name == "brief") return once;
  Sources again;
  const Result<Program> second = parse_ir(again, again.add("again.ir", once));
  if (!second.ok())
    return once + "does not parse: " + render(again, second.failure().diagnostics[0]);
  CHECK(print(*second) == once);
  return once;
}

}  // namespace

TEST_CASE("IR text prints, parses and prints the same") { golden::run("ir", text_case); }
