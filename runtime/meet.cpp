// One pass over the launches: each joins those before it, back to the last meeting, if it can.
#include "runtime/meet.h"

#include <algorithm>

namespace gradc {
namespace {

// Keeps the work linear; longer runs of launches that do not depend on each other gain nothing.
constexpr std::size_t longest_run = 16;

Extent::Stretch stretch_of(const Function& f, ValueId v, const Bases& bases) {
  const Placement& at = f.placed[v.index];
  const Type& type = f.type(v);
  std::int64_t last = 0;
  for (int i = 0; i < type.axes.size(); ++i)
    last += at.strides[static_cast<std::size_t>(i)] * (f.extent(type.axes[i]) - 1);
  const std::byte* const begin = bases[index(at.arena)] + at.offset;
  return {begin, f.elements(type) == 0 ? begin : begin + (last + 1) * bytes(type.dtype)};
}

bool overlap(const std::vector<Extent::Stretch>& a, const std::vector<Extent::Stretch>& b) {
  return std::any_of(a.begin(), a.end(), [&](const Extent::Stretch& x) {
    return std::any_of(b.begin(), b.end(), [&](const Extent::Stretch& y) {
      return x.begin < y.end && y.begin < x.end;
    });
  });
}

bool ordered(const Extent& a, const Extent& b) {
  if (a.serial && b.serial) return false;  // the first worker keeps the order
  return (a.shared && b.shared) || overlap(a.written, b.written) || overlap(a.written, b.read) ||
         overlap(a.read, b.written);
}

}  // namespace

std::vector<Extent> extents_of(const Function& f, const Bases& bases) {
  std::vector<Extent> out;
  for (OpId id : f.body().ops) {
    const Op& op = f.op(id);
    if (op.code != Opcode::launch_) continue;
    Extent e;
    for (ValueId v : op.operands) e.read.push_back(stretch_of(f, v, bases));
    for (ValueId v : op.results) e.written.push_back(stretch_of(f, v, bases));
    out.push_back(std::move(e));
  }
  return out;
}

std::vector<bool> meetings(const std::vector<Extent>& launches) {
  std::vector<bool> out(launches.size(), false);
  std::size_t first = 0;  // behind the last meeting
  for (std::size_t n = 0; n < launches.size(); ++n) {
    bool meet = n - first >= longest_run;
    for (std::size_t i = first; i < n && !meet; ++i) meet = ordered(launches[i], launches[n]);
    if (!meet) continue;
    out[n - 1] = true;
    first = n;
  }
  if (!out.empty()) out.back() = true;  // what waits at the end of a step shows in a profile
  return out;
}

}  // namespace gradc
