// Owns the picture of one step in time: a Chrome trace (chrome://tracing, Perfetto), a row a thread.
#pragma once

#include <string>

#include "runtime/entry.h"

namespace gradc {

// Of the entry's last run_timed(), as JSON in the trace event format: for each worker and phase an
// event of the kernel's name with launch, phase, role and source lines, and one `wait` behind it.
// Times are microseconds from the step's beginning.
std::string trace_text(Entry& entry);

}  // namespace gradc
