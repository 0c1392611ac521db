// Attribution of launches to lines. The rules are in lines.h.
#include "runtime/lines.h"

#include <algorithm>
#include <set>

#include "passes/cost.h"
#include "passes/plan.h"

namespace gradc {
namespace {

using Line = std::pair<std::uint32_t, std::uint32_t>;

std::vector<Line> lines_at(const Program& p, LocId at) {
  std::vector<Line> out;
  for (const SourcePos& l : p.location(at).lines)
    if (const Line line{l.file.index, l.line}; out.empty() || out.back() != line)
      out.push_back(line);
  return out;   // sorted, as positions are
}

// The launches that the loss depends on, by position in the body.
std::vector<bool> before_loss(const Program& p, const Function& f) {
  const std::vector<OpId>& ops = f.body().ops;
  std::vector<bool> needed(f.values.size(), false), out(ops.size(), false);
  for (std::size_t r = 0; r < f.result_names.size(); ++r)
    if (p.text(f.result_names[r]) == "loss") needed[f.body().results[r].index] = true;
  for (std::size_t n = ops.size(); n-- > 0;) {
    const Op& op = f.op(ops[n]);
    if (std::none_of(op.results.begin(), op.results.end(),
                     [&](ValueId v) { return needed[v.index]; }))
      continue;
    out[n] = true;
    for (ValueId v : op.operands) needed[v.index] = true;
  }
  return out;
}

class Attribution {
 public:
  Attribution(const Program& p, FunctionId planned)
      : p_(p), f_(p.function(planned)), forward_(before_loss(p, f_)) {}

  LineProfile run(std::span<const double> seconds) {
    const std::vector<OpId>& ops = f_.body().ops;
    std::size_t launch = 0;
    for (std::size_t n = 0; n < ops.size(); ++n)
      if (f_.op(ops[n]).code == Opcode::launch_) time(n, seconds[launch++]);
    for (const planning::Life& l : planning::lives(f_)) keep(l);
    return std::move(out_);
  }

 private:
  const Function& kernel_of(const Op& launch) const { return p_.function(launch.attr.callee); }

  // Whether the kernel's body was written for these lines.
  bool at_home(const Op& launch) const {
    std::set<Line> body;
    const Function& k = kernel_of(launch);
    for (OpId o : k.body().ops)
      for (const Line& l : lines_at(p_, k.op(o).loc)) body.insert(l);
    const std::vector<Line> own = lines_at(p_, launch.loc);
    return std::all_of(own.begin(), own.end(), [&](const Line& l) { return body.contains(l); });
  }
  void put(const std::vector<Line>& lines, bool backward, double seconds, std::string_view kernel) {
    const auto one = [&](LineWork& w, double part) {
      (backward ? w.backward : w.forward) += part;
      w.kernels[std::string(kernel)] += part;
    };
    if (lines.empty()) one(out_.nowhere, seconds);
    for (const Line& l : lines) one(out_.lines[l], seconds / static_cast<double>(lines.size()));
  }
  void time(std::size_t n, double seconds) {
    const Op& launch = f_.op(f_.body().ops[n]);
    const Location& at = p_.location(launch.loc);
    if (at.role == Role::update) {
      out_.update += seconds;
      return;
    }
    const Function& k = kernel_of(launch);
    double all = 0;
    for (OpId o : k.body().ops)
      if (!p_.location(k.op(o).loc).lines.empty()) all += operation_cost(k, k.op(o));
    if (all == 0 || !at_home(launch)) {
      put(lines_at(p_, launch.loc), !forward_[n], seconds, p_.text(k.name));
      return;
    }
    for (OpId o : k.body().ops) {
      const Op& op = k.op(o);
      const std::vector<Line> lines = lines_at(p_, op.loc);
      const double cost = operation_cost(k, op);
      if (lines.empty() || cost == 0) continue;
      const bool backward = !forward_[n] || p_.location(op.loc).role == Role::gradient;
      put(lines, backward, seconds * cost / all, p_.text(k.name));
    }
  }
  void keep(const planning::Life& life) {
    const std::vector<OpId>& ops = f_.body().ops;
    const auto first = static_cast<std::size_t>(life.first);
    // A launch that writes over what it reads is behind the life that it ends.
    const auto last = static_cast<std::size_t>(life.last + (life.overwritten ? 1 : 0));
    if (last >= ops.size() || !forward_[first] || forward_[last] ||
        f_.op(ops[last]).code != Opcode::launch_ || f_.op(ops[first]).code != Opcode::launch_)
      return;
    const Op& launch = f_.op(ops[first]);
    const Function& k = kernel_of(launch);
    const auto r = std::find(launch.results.begin(), launch.results.end(), life.value);
    const ValueId made = k.body().results[static_cast<std::size_t>(r - launch.results.begin())];
    const OpId def = k.value(made).def;
    const LocId at = def.valid() && at_home(launch) ? k.op(def).loc : launch.loc;
    if (p_.location(at).role != Role::forward) return;
    const std::vector<Line> lines = lines_at(p_, at);
    const auto bytes = static_cast<double>(life.bytes);
    if (lines.empty()) out_.nowhere.kept += bytes;
    for (const Line& l : lines) out_.lines[l].kept += bytes / static_cast<double>(lines.size());
  }

  const Program& p_;
  const Function& f_;
  const std::vector<bool> forward_;
  LineProfile out_;
};

}  // namespace

double LineProfile::launches() const {
  double out = update + nowhere.forward + nowhere.backward;
  for (const auto& [at, w] : lines) out += w.forward + w.backward;
  return out;
}

LineProfile lines_of(const Program& program, FunctionId planned, std::span<const double> seconds) {
  return Attribution(program, planned).run(seconds);
}

}  // namespace gradc
