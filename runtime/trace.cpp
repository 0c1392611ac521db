// Writing of the trace event format: complete events ("X"), and names of the rows.
#include "runtime/trace.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "runtime/json.h"

namespace gradc {
namespace {

// `gpt.grad:9 gpt.grad:10`, each line once.
std::string lines_of(const Program& p, LocId at) {
  std::string out;
  const SourcePos* before = nullptr;
  for (const SourcePos& l : p.location(at).lines) {
    if (before == nullptr || before->file != l.file || before->line != l.line)
      out += fmt::format("{}{}:{}", out.empty() ? "" : " ", p.files[l.file.index], l.line);
    before = &l;
  }
  return out;
}

}  // namespace

std::string trace_text(Entry& entry) {
  const Program& p = entry.program();
  const Function& f = entry.function();
  const Step& step = entry.step();
  std::string out = "{\"displayTimeUnit\": \"ms\", \"traceEvents\": [\n";
  for (int w = 0; w < step.workers(); ++w)
    out += fmt::format("{{\"name\": \"thread_name\", \"ph\": \"M\", \"pid\": 1, \"tid\": {}, "
                       "\"args\": {{\"name\": \"thread {}\"}}}},\n", w, w);
  std::int64_t start = INT64_MAX;
  if (!step.launches().empty())
    for (int w = 0; w < step.workers(); ++w)
      start = std::min(start, step.moments(w, step.launches()[0])[0].begin);
  const auto event = [&](std::string_view name, std::string_view category, int worker,
                         std::int64_t from, std::int64_t to, std::string_view arguments) {
    if (to <= from) return;
    fmt::format_to(std::back_inserter(out),
                   "{{\"name\": {}, \"cat\": \"{}\", \"ph\": \"X\", \"pid\": 1, \"tid\": {}, "
                   "\"ts\": {:.3f}, \"dur\": {:.3f}, \"args\": {{{}}}}},\n",
                   json_text(name), category, worker, 1e-3 * static_cast<double>(from - start),
                   1e-3 * static_cast<double>(to - from), arguments);
  };
  std::size_t n = 0;
  for (OpId id : f.body().ops) {
    const Op& op = f.op(id);
    if (op.code != Opcode::launch_) continue;
    const Step::Launch& l = step.launches()[n];
    const std::string where =
        fmt::format("\"role\": \"{}\", \"lines\": {}", name(p.location(op.loc).role),
                    json_text(lines_of(p, op.loc)));
    for (int w = 0; w < step.workers(); ++w)
      for (std::size_t phase = 0; phase < step.moments(w, l).size(); ++phase) {
        const Step::Moment& m = step.moments(w, l)[phase];
        const std::string arguments =
            fmt::format("\"launch\": {}, \"phase\": {}, {}", n, phase, where);
        // A launch that is too small for two has nothing to show on the others.
        if (l.kernel.parallel || w == 0)
          event(l.name, name(p.function(op.attr.callee).family), w, m.begin, m.end, arguments);
        event("wait", "wait", w, m.end, m.released,
              fmt::format("\"launch\": {}, \"phase\": {}, \"behind\": {}", n, phase, json_text(l.name)));
      }
    ++n;
  }
  if (out.ends_with(",\n")) out.resize(out.size() - 2);
  return out + "\n]}\n";
}

}  // namespace gradc
