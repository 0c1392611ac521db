// The entry of the binary.
#include "runtime/cli.h"

int main(int argc, char** argv) { return gradc::run_command_line(argc, argv); }
