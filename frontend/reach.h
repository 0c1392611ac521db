// Owns the question which parameters a loss depends on by a gradient (rule 20).
#pragma once

#include "frontend/graph.h"
#include "frontend/report.h"

namespace gradc {

// Warns of each trained parameter that something reads, but from which no path to `loss` passes gradients:
// reals only, through neither `stop` nor `floor`. Linear in the graph.
void warn_unreached(const Graph& graph, NodeId loss, Reporter& report);

}  // namespace gradc
