// Owns the textual IR: every stage prints, parses back and prints the same text again. The syntax is in
// ir/README.md.
#pragma once

#include "ir/diagnostic.h"
#include "ir/program.h"

namespace gradc {

struct PrintOptions {
  bool locations = true;      // --brief: without, and members of bundles and bodies of `fused` as `{ … }`
  bool bodies = true;
  std::vector<std::string> functions;  // only these and what they reach; empty: all, callees first
};
std::string print(const Program& program, const PrintOptions& options = {});
std::string print_function(const Program& program, FunctionId f, const PrintOptions& options = {});
// One operation on one line, for messages of the verifier and of remarks.
std::string print_op(const Program& program, const Function& f, OpId op);

// Shortest text that reads back to the same double; `inf`, `-inf`, `nan`, `-0.0`; always with a `.`, an
// `e` or a letter, so that it is not an integer.
std::string print_real(double x);

// Parses and checks types as it goes (each operation's rule); does not verify: callers do. Any text is
// safe to hand in. The failure's diagnostics point into `source`.
Result<Program> parse_ir(const Sources& sources, std::uint32_t source);

}  // namespace gradc
