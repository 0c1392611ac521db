// Adding up of timed runs, and the table of kernels.
#include "runtime/profile.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <numeric>

namespace gradc {
namespace {

double total(const std::vector<double>& x) { return std::accumulate(x.begin(), x.end(), 0.0); }

// Products of bf16 run at another rate than the others: their share of a kernel's contractions, which are
// of one size in attention. There an operand is widened, which does not change what it is worth.
double share_of_pairs(const Function& kernel) {
  const auto is_bf16 = [&](ValueId v) {
    const Op* cast = kernel.definition(v);
    const bool widened = cast != nullptr && cast->code == Opcode::cast_ && kernel.family != Family::contract;
    return kernel.type(widened ? cast->operands[0] : v).dtype == DType::bf16;
  };
  double all = 0, pairs = 0;
  for (const Op& op : kernel.ops) {
    if (op.code != Opcode::contract_) continue;
    ++all;
    pairs += is_bf16(op.operands[0]) && is_bf16(op.operands[1]);
  }
  return all == 0 ? 0 : pairs / all;
}

}  // namespace

struct Profile::Row {
  std::string name;
  std::string_view family, role;                      // the role: of the first launch
  std::int64_t calls = 0;
  Cost cost;
  double roof = 0;                                    // seconds at the machine's rates
  Times times;
  std::int64_t computed = 0, tiles = 0, planes = 0;   // of attention's scores
  double seconds = 0, median = 0, least = 0;
};

Profile::Profile(Entry& entry) : entry_(entry) {
  const auto workers = static_cast<std::size_t>(entry.step().workers());
  sums_.resize(entry.step().launches().size(),
               {std::vector<double>(workers), std::vector<double>(workers)});
  seconds_.resize(sums_.size());
}

double Profile::Times::seconds() const {
  return (total(busy) + total(waiting)) / static_cast<double>(busy.size());
}

void Profile::add(double wall) {
  const Step& step = entry_.step();
  double longest_each = 0;
  for (std::size_t n = 0; n < sums_.size(); ++n) {
    double longest = 0, all = 0;
    for (int w = 0; w < step.workers(); ++w) {
      double busy = 0, waiting = 0;
      for (const Step::Moment& m : step.moments(w, step.launches()[n])) {
        busy += 1e-9 * static_cast<double>(m.end - m.begin);
        waiting += 1e-9 * static_cast<double>(m.released - m.end);
      }
      sums_[n].busy[static_cast<std::size_t>(w)] += busy;
      sums_[n].waiting[static_cast<std::size_t>(w)] += waiting;
      longest = std::max(longest, busy);
      all += busy + waiting;
    }
    seconds_[n].push_back(all / step.workers());
    longest_each += longest;
  }
  wall_ += wall;
  overheads_.push_back((wall - longest_each) / wall);
}

std::vector<Profile::Times> Profile::launches() const {
  const auto steps = static_cast<double>(overheads_.size());
  std::vector<Times> out = sums_;
  for (Times& t : out)
    for (std::vector<double>* part : {&t.busy, &t.waiting})
      for (double& x : *part) x /= steps;
  return out;
}

double median(std::vector<double> x) {
  std::sort(x.begin(), x.end());
  return (x[(x.size() - 1) / 2] + x[x.size() / 2]) / 2;
}

double Profile::step() const { return wall_ / static_cast<double>(overheads_.size()); }

double Profile::sum() const {
  double out = 0;
  for (const Times& t : launches()) out += t.seconds();
  return out;
}

double Profile::overhead() const { return median(overheads_); }

std::vector<Profile::Row> Profile::rows(const Roofline& machine) const {
  const Program& program = entry_.program();
  const Function& f = entry_.function();
  const std::vector<Times> times = launches();
  std::map<std::string, Row> by_name;
  std::size_t n = 0;
  for (OpId id : f.body().ops) {
    if (f.op(id).code != Opcode::launch_) continue;
    const Step::Launch& l = entry_.step().launches()[n];
    const Function& kernel = program.function(f.op(id).attr.callee);
    Row& r = by_name[l.name];
    // What a mask excludes is no work.
    Cost cost = l.cost;
    if (l.tiles > 0)
      cost.flop *= static_cast<double>(l.tiles_computed) / static_cast<double>(l.tiles);
    r.name = l.name;
    r.family = name(kernel.family);
    if (++r.calls == 1) r.role = gradc::name(program.location(f.op(id).loc).role);
    r.cost.flop += cost.flop;
    r.cost.bytes += cost.bytes;
    r.roof += machine.seconds(cost, share_of_pairs(kernel));
    r.computed += l.tiles_computed;
    r.tiles += l.tiles;
    r.planes += l.tiles > 0 ? l.kernel.tile_planes : 0;
    r.times.busy.resize(times[n].busy.size());
    r.times.waiting.resize(times[n].busy.size());
    for (std::size_t w = 0; w < times[n].busy.size(); ++w) {
      r.times.busy[w] += times[n].busy[w];
      r.times.waiting[w] += times[n].waiting[w];
    }
    r.seconds += times[n].seconds();
    r.median += gradc::median(seconds_[n]);
    r.least += *std::min_element(seconds_[n].begin(), seconds_[n].end());
    ++n;
  }
  std::vector<Row> out;
  for (auto& [name, row] : by_name) out.push_back(std::move(row));
  std::sort(out.begin(), out.end(),
            [](const Row& a, const Row& b) { return a.seconds > b.seconds; });
  return out;
}

std::string Profile::text(const Roofline& machine) const {
  std::string text =
      fmt::format("{:<28} {:>6} {:>9} {:>6} {:>9} {:>9} {:>9} {:>9} {:>6}  {}\n", "kernel", "calls",
                  "ms", "%", "GFLOP", "MB", "GFLOP/s", "GB/s", "roof%",
                  "each thread: busy + waiting, ms");
  const double all = sum();
  for (const Row& r : rows(machine)) {
    text += fmt::format("{:<28} {:>6} {:>9.3f} {:>6.1f} {:>9.3f} {:>9.3f} {:>9.1f} {:>9.1f} "
                        "{:>6.1f} ",
                        r.name, r.calls, 1e3 * r.seconds, 100 * r.seconds / all, r.cost.flop * 1e-9,
                        static_cast<double>(r.cost.bytes) * 1e-6, r.cost.flop / r.seconds * 1e-9,
                        static_cast<double>(r.cost.bytes) / r.seconds * 1e-9,
                        100 * r.roof / r.seconds);
    for (std::size_t w = 0; w < r.times.busy.size(); ++w)
      text += fmt::format(" {:.3f}+{:.3f}", 1e3 * r.times.busy[w], 1e3 * r.times.waiting[w]);
    if (r.planes > 0)
      text += fmt::format("  {:g} of {:g} tiles in each of {} planes, {} of {}",
                          static_cast<double>(r.computed) / static_cast<double>(r.planes),
                          static_cast<double>(r.tiles) / static_cast<double>(r.planes), r.planes,
                          r.computed, r.tiles);
    text += "\n";
  }
  text += fmt::format("{:<28} {:>6} {:>9.3f} {:>6.1f} % of a step\n", "sum", sums_.size(),
                      1e3 * all, 100 * all / step());
  text += fmt::format("overhead: {:.2f} % of a step beside the longest thread's time in each "
                      "launch (median of {})\n", 100 * overhead(), overheads_.size());
  text += fmt::format("machine: {:.1f} GFLOP/s f32, ", machine.f32 * 1e-9);
  if (machine.bf16 > 0) text += fmt::format("{:.1f} bf16, ", machine.bf16 * 1e-9);
  return text + fmt::format("{:.1f} GB/s read, {:.1f} copied, {:.1f} updated in place\n",
                            machine.read * 1e-9, machine.copy * 1e-9, machine.update * 1e-9);
}

void Profile::json(JsonObject& to, const Roofline& machine) const {
  to.add("peak_f32_gflops", rounded(machine.f32 * 1e-9, 10));
  if (machine.bf16 > 0) to.add("peak_bf16_gflops", rounded(machine.bf16 * 1e-9, 10));
  to.add("read_gbs", rounded(machine.read * 1e-9, 10));
  to.add("copy_gbs", rounded(machine.copy * 1e-9, 10));
  to.add("update_gbs", rounded(machine.update * 1e-9, 10));
  to.add("profile_ms", rounded(sum() * 1e3, 1000000));
  to.add("profile_share", rounded(sum() / step(), 10000));
  to.add("overhead", rounded(overhead(), 10000));
  std::vector<JsonObject> kernels;
  for (const Row& r : rows(machine)) {
    JsonObject k;
    k.add("kernel", r.name);
    k.add("family", r.family);
    k.add("role", r.role);
    k.add("calls", r.calls);
    k.add("ms", rounded(r.seconds * 1e3, 10000));
    k.add("median_ms", rounded(r.median * 1e3, 10000));
    k.add("least_ms", rounded(r.least * 1e3, 10000));
    k.add("flop", r.cost.flop);
    k.add("bytes", r.cost.bytes);
    k.add("roofline", rounded(r.roof / r.seconds, 10000));
    std::vector<JsonObject> threads;
    for (std::size_t w = 0; w < r.times.busy.size(); ++w) {
      JsonObject t;
      t.add("busy_ms", rounded(r.times.busy[w] * 1e3, 10000));
      t.add("waiting_ms", rounded(r.times.waiting[w] * 1e3, 10000));
      threads.push_back(std::move(t));
    }
    k.add("threads", threads);
    kernels.push_back(std::move(k));
  }
  to.add("profile", kernels);
}

}  // namespace gradc
