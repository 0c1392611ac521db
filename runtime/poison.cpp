// Which bytes are dead, and when.
#include "runtime/poison.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>

#include "passes/plan.h"

namespace gradc {
namespace {

Fill fill_of(const Function& f, ValueId v, const Bases& bases) {
  const Placement& at = f.placed[v.index];
  const Type& type = f.type(v);
  Fill out{bases[index(at.arena)] + at.offset, bytes(type.dtype), {}};
  for (int i = 0; i < type.axes.size(); ++i)
    out.axes.push_back(
        {f.extent(type.axes[i]), at.strides[static_cast<std::size_t>(i)] * bytes(type.dtype)});
  std::erase_if(out.axes, [](const Fill::Along& a) { return a.extent == 1; });
  std::sort(out.axes.begin(), out.axes.end(),
            [](const Fill::Along& a, const Fill::Along& b) { return a.stride > b.stride; });
  while (!out.axes.empty() && out.axes.back().stride == out.run) {
    out.run *= out.axes.back().extent;
    out.axes.pop_back();
  }
  return out;
}

struct Stretch {
  Arena arena;
  std::int64_t begin, end;
};
Stretch stretch_of(const Function& f, ValueId v) {
  const Placement& at = f.placed[v.index];
  std::int64_t last = 0;
  for (int i = 0; i < f.type(v).axes.size(); ++i)
    last += at.strides[static_cast<std::size_t>(i)] * (f.extent(f.type(v).axes[i]) - 1);
  return {at.arena, at.offset, at.offset + (last + 1) * bytes(f.type(v).dtype)};
}

}  // namespace

void poison(const std::vector<Fill>& fills) {
  for (const Fill& fill : fills) {
    std::vector<std::int64_t> at(fill.axes.size(), 0);
    std::byte* to = fill.at;
    if (std::any_of(fill.axes.begin(), fill.axes.end(),
                    [](const auto& a) { return a.extent == 0; }))
      continue;
    for (bool more = true; more;) {
      std::memset(to, 0xFF, static_cast<std::size_t>(fill.run));
      more = false;
      for (std::size_t i = at.size(); i-- > 0 && !more;) {
        to += fill.axes[i].stride;
        more = ++at[i] < fill.axes[i].extent;
        if (!more) {
          to -= fill.axes[i].stride * fill.axes[i].extent;
          at[i] = 0;
        }
      }
    }
  }
}

bool poison_wanted() {
  const char* const set = std::getenv("GRADC_POISON");
  return set != nullptr && *set != '\0' && std::strcmp(set, "0") != 0;
}

Poison Poison::of(const Function& f, const Bases& bases) {
  Poison out;
  const std::vector<OpId>& ops = f.body().ops;
  std::map<std::int64_t, std::size_t> launch_at;  // by position
  for (std::size_t t = 0; t < ops.size(); ++t) {
    const Op& op = f.op(ops[t]);
    if (op.code != Opcode::launch_) continue;
    launch_at[static_cast<std::int64_t>(t)] = launch_at.size();
    for (ValueId v : op.results)
      if (const Arena a = f.placed[v.index].arena;
          a == Arena::activations || a == Arena::gradients || a == Arena::output)
        out.before.push_back(fill_of(f, v, bases));
  }
  out.behind.resize(launch_at.size());
  for (const planning::Life& l : planning::lives(f)) {
    const auto launch = launch_at.find(l.last);
    if (l.overwritten || launch == launch_at.end()) continue;
    // A result may lie over an operand that it was read through a view.
    const Stretch own = stretch_of(f, l.value);
    const std::vector<ValueId>& written = f.op(ops[static_cast<std::size_t>(l.last)]).results;
    const bool covered = std::any_of(written.begin(), written.end(), [&](ValueId v) {
      const Stretch s = stretch_of(f, v);
      return v != l.value && s.arena == own.arena && s.begin < own.end && own.begin < s.end;
    });
    if (!covered) out.behind[launch->second].push_back(fill_of(f, l.value, bases));
  }
  return out;
}

}  // namespace gradc
