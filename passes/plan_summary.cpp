// Adds up a plan: bytes by arena, what is alive at the peak, launches, kernels and their work.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <tuple>

#include "ir/text_names.h"
#include "ir/typing.h"
#include "passes/passes.h"
#include "passes/plan.h"

namespace gradc {
namespace {

std::int64_t end_of(const Function& f, ValueId v) {
  const Type& t = f.type(v);
  if (f.elements(t) == 0) return f.placed[v.index].offset;
  std::int64_t last = 0;
  for (int i = 0; i < t.axes.size(); ++i)
    last += f.placed[v.index].strides[static_cast<std::size_t>(i)] * (f.extent(t.axes[i]) - 1);
  return f.placed[v.index].offset + (last + 1) * bytes(t.dtype);
}

// ` (gpt.grad:22, gradient)`: the first line that the value comes from.
std::string origin(const Program& program, LocId at) {
  const Location& l = program.location(at);
  if (l.lines.empty()) return "";
  const std::string& path = program.files[l.lines[0].file.index];
  return fmt::format("  ({}:{}{})", path.substr(path.rfind('/') + 1), l.lines[0].line,
                     l.role == Role::gradient ? ", gradient" : "");
}

// By value: the sequence of which it is one position, itself otherwise: a `concat` of more than a
// handful of operands, each of which fills a place.
std::vector<ValueId> sequences(const Function& f) {
  std::vector<ValueId> out(f.values.size());
  for (std::uint32_t v = 0; v < out.size(); ++v) out[v] = ValueId{v};
  for (std::size_t n = f.body().ops.size(); n-- > 0;) {
    const Op& op = f.op(f.body().ops[n]);
    const bool view = facts(op.code).kind == Kind::view && op.operands.size() == 1;
    const bool places = op.code == Opcode::concat_ && op.operands.size() > 8 &&
                        std::none_of(op.attr.axes.begin(), op.attr.axes.end(),
                                     [](AxisId a) { return a.valid(); });
    const ValueId whole = op.results.empty() ? ValueId{} : out[op.results[0].index];
    // A view of a part is one; a view that is no part says nothing of what it looks at.
    if (places || (view && whole != op.results[0]))
      for (ValueId v : op.operands)
        if (out[v.index] == v) out[v.index] = whole;
  }
  return out;
}

}  // namespace

PlanSummary summarize_plan(const Program& program, FunctionId planned) {
  const Function& f = program.function(planned);
  PlanSummary s;
  if (f.placed.size() != f.values.size()) return s;
  for (std::uint32_t v = 0; v < f.values.size(); ++v)
    if (const Arena a = f.placed[v].arena; a != Arena::none) {
      std::int64_t& total = s.bytes[static_cast<std::size_t>(a)];
      total = std::max(total, end_of(f, ValueId{v}));
    }
  std::set<std::uint32_t> kernels;
  for (OpId o : f.body().ops) {
    const Op& op = f.op(o);
    if (op.code != Opcode::launch_) continue;
    const Cost cost = launch_cost(program, f, op);
    PlanSummary::Work& w =
        s.by_family[static_cast<std::size_t>(program.function(op.attr.callee).family)];
    ++w.launches;
    w.kernels += kernels.insert(op.attr.callee.index).second;
    w.cost.flop += cost.flop;
    w.cost.bytes += cost.bytes;
  }
  for (const PlanSummary::Work& w : s.by_family) {
    s.launches += w.launches;
    s.kernels += w.kernels;
    s.cost.flop += w.cost.flop;
    s.cost.bytes += w.cost.bytes;
  }

  std::vector<planning::Life> all, lent;
  for (const planning::Life& l : planning::lives(f))
    (f.placed[l.value.index].arena == Arena::activations ? all : lent).push_back(l);
  std::map<std::int64_t, std::int64_t> change;  // of the bytes alive, by time
  for (const planning::Life& l : all) {
    change[l.first] += l.bytes;
    change[l.last + 1] -= l.bytes;
  }
  std::int64_t alive = 0, peak_at = -1;
  for (const auto& [t, bytes] : change) {
    alive += bytes;
    if (alive > s.peak_live) {
      s.peak_live = alive;
      peak_at = t;
    }
  }
  for (const planning::Life& l : lent)
    if (l.first <= peak_at && peak_at <= l.last) s.lent += l.bytes;
  text::Layouts layouts(program);
  const text::ValueNames names(program, f, layouts);
  const std::vector<ValueId> whole = sequences(f);
  std::map<ValueId, std::int64_t> held;
  for (const planning::Life& l : all)
    if (l.first <= peak_at && peak_at <= l.last) held[whole[l.value.index]] += l.bytes;
  for (const auto& [v, bytes] : held) {
    const OpId def = f.value(v).def;
    s.at_peak.push_back({fmt::format("{}: {}{}", names[v], describe(program, f, f.type(v)),
                                     def.valid() ? origin(program, f.op(def).loc) : ""),
                         bytes});
  }
  std::sort(s.at_peak.begin(), s.at_peak.end(), [](const auto& a, const auto& b) {
    return std::tie(b.bytes, a.value) < std::tie(a.bytes, b.value);
  });
  return s;
}

std::string summary_text(const PlanSummary& s, std::size_t holders) {
  std::string out = fmt::format("{:<14} {:>7} {:>8} {:>15} {:>14}\n", "family", "kernels",
                                "launches", "flop", "bytes moved");
  const auto row = [&](std::string_view name, const PlanSummary::Work& w) {
    if (w.launches > 0)
      out += fmt::format("{:<14} {:>7} {:>8} {:>15.0f} {:>14}\n", name, w.kernels, w.launches,
                         w.cost.flop, w.cost.bytes);
  };
  for (int i = 1; i < family_count; ++i)
    row(name(static_cast<Family>(i)), s.by_family[static_cast<std::size_t>(i)]);
  row("all", {s.launches, s.kernels, s.cost});
  const auto activations = static_cast<std::size_t>(Arena::activations);
  out += fmt::format("activations: {} bytes, {} alive at the peak", s.bytes[activations],
                     s.peak_live);
  if (s.lent > 0) out += fmt::format(", {} more where gradients will be", s.lent);
  out += '\n';
  for (std::size_t i = 0; i < std::min(holders, s.at_peak.size()); ++i)
    out += fmt::format("{:>14} {}\n", s.at_peak[i].bytes, s.at_peak[i].value);
  return out;
}

}  // namespace gradc
