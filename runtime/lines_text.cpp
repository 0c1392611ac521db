// How the profile of lines is shown.
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "runtime/lines.h"

namespace gradc {
namespace {

constexpr std::size_t widest_text = 96;     // of a line that the margin still stands aligned behind
constexpr std::size_t shown_kernels = 6;

std::vector<std::string> kernels_of(const LineWork& w) {
  std::vector<std::pair<double, std::string>> sorted;
  for (const auto& [name, seconds] : w.kernels) sorted.emplace_back(-seconds, name);
  std::sort(sorted.begin(), sorted.end());
  std::vector<std::string> out;
  for (auto& [seconds, name] : sorted) out.push_back(std::move(name));
  return out;
}

// What is nothing at three digits stays blank.
std::string cell(double x) {
  return x < 0.0005 ? std::string(9, ' ') : fmt::format("{:>9.3f}", x);
}
std::string cells(const LineWork& w) {
  return cell(1e3 * w.forward) + cell(1e3 * w.backward) + cell(1e-6 * w.kept);
}

std::size_t columns(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(
      text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

std::string one_source(const LineProfile& profile, const Sources& sources, std::uint32_t source) {
  std::string out = fmt::format("  forward backward     kept  {}\n", sources.name(source));
  std::vector<std::string_view> text;
  for (std::string_view rest = sources.text(source); !rest.empty();) {
    const std::size_t end = std::min(rest.find('\n'), rest.size());
    text.push_back(rest.substr(0, end));
    while (text.back().ends_with('\r') || text.back().ends_with(' ')) text.back().remove_suffix(1);
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  const auto work = [&](std::size_t n) {
    return profile.lines.find({source, static_cast<std::uint32_t>(n + 1)});
  };
  std::size_t margin = 0;
  for (std::size_t n = 0; n < text.size(); ++n)
    if (work(n) != profile.lines.end() && columns(text[n]) <= widest_text)
      margin = std::max(margin, columns(text[n]));
  for (std::size_t n = 0; n < text.size(); ++n) {
    const auto it = work(n);
    if (it == profile.lines.end()) {
      out += std::string(text[n].empty() ? 0 : 29, ' ') + std::string(text[n]) + "\n";
      continue;
    }
    out += cells(it->second) + "  " + std::string(text[n]);
    out += std::string(margin - std::min(margin, columns(text[n])), ' ') + "  |";
    const std::vector<std::string> kernels = kernels_of(it->second);
    for (std::size_t i = 0; i < std::min(kernels.size(), shown_kernels); ++i) out += " " + kernels[i];
    if (kernels.size() > shown_kernels) out += fmt::format(" +{}", kernels.size() - shown_kernels);
    out += "\n";
  }
  return out + "\n";
}

}  // namespace

std::string lines_text(const LineProfile& profile, const Sources& sources, double step_seconds) {
  std::set<std::uint32_t> shown{0};
  LineWork all;
  for (const auto& [at, w] : profile.lines) {
    shown.insert(at.first);
    all.forward += w.forward;
    all.backward += w.backward;
    all.kept += w.kept;
  }
  std::string out = "milliseconds of a step forward and backward, megabytes kept for backward\n";
  for (std::uint32_t source : shown)
    if (source < sources.size()) out += one_source(profile, sources, source);
  out += cells(all) + "  all lines\n";
  out += cells(profile.nowhere) + "  of no line\n";
  const auto one = [](double seconds, std::string_view what) {
    return fmt::format("{:>18.3f}{:>9}  {}\n", 1e3 * seconds, "", what);
  };
  return out + one(profile.update, "the optimizer") +
         one(step_seconds - profile.launches(), "between kernels, around the step") +
         one(step_seconds, "the step: all of these");
}

void lines_json(JsonObject& to, const LineProfile& profile, const Sources& sources) {
  std::vector<JsonObject> list;
  const auto add = [&](const LineWork& w, std::string_view file, std::uint32_t line) {
    JsonObject o;
    o.add("file", file);
    o.add("line", line);
    o.add("forward_ms", rounded(1e3 * w.forward, 1000000));
    o.add("backward_ms", rounded(1e3 * w.backward, 1000000));
    o.add("kept_mb", rounded(1e-6 * w.kept, 10000));
    o.add("kernels", kernels_of(w));
    list.push_back(std::move(o));
  };
  for (const auto& [at, w] : profile.lines)
    if (at.first < sources.size()) add(w, sources.name(at.first), at.second);
  to.add("lines", list);
  to.add("no_line_ms", rounded(1e3 * (profile.nowhere.forward + profile.nowhere.backward), 1000000));
  to.add("optimizer_ms", rounded(1e3 * profile.update, 1000000));
}

}  // namespace gradc
