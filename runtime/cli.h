// Owns the command line: `gradc VERB …`.
#pragma once

namespace gradc {

// Gives the process's exit code.
int run_command_line(int argc, char** argv);

}  // namespace gradc
