// Owns what `check` prints: the model's text with what each line binds in the margin, then the tree
// of its parameters. Of a block that is called more than once the margin shows the first call.
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "frontend/frontend.h"
#include "frontend/lowerer.h"
#include "ir/text.h"

namespace gradc {
namespace {

constexpr std::size_t widest_text = 96;  // of a line that the margin still stands aligned behind

std::string with_commas(std::int64_t n) {
  std::string digits = std::to_string(n);
  for (std::ptrdiff_t i = static_cast<std::ptrdiff_t>(digits.size()) - 3; i > 0; i -= 3)
    digits.insert(static_cast<std::size_t>(i), ",");
  return digits;
}

std::string padded(std::string text, std::size_t width) {
  std::size_t columns = 0;  // `…` is one
  for (char c : text) columns += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  if (columns < width) text.append(width - columns, ' ');
  return text;
}

std::string margin(const Sources& sources, std::uint32_t source,
                   const std::vector<BoundLine>& lines) {
  std::map<std::uint32_t, std::string> notes;
  for (const BoundLine& l : lines)
    if (l.source == source) notes[l.line] += (notes[l.line].empty() ? "" : ", ") + l.text;
  std::vector<std::string_view> text;
  for (std::string_view rest = sources.text(source); !rest.empty();) {
    const std::size_t end = std::min(rest.find('\n'), rest.size());
    std::string_view line = rest.substr(0, end);
    while (!line.empty() && (line.back() == '\r' || line.back() == ' ' || line.back() == '\t'))
      line.remove_suffix(1);
    text.push_back(line);
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  std::size_t column = 0;
  for (const auto& [line, note] : notes)
    if (line <= text.size() && text[line - 1].size() <= widest_text)
      column = std::max(column, text[line - 1].size());
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto it = notes.find(static_cast<std::uint32_t>(i + 1));
    out += it == notes.end() ? std::string(text[i])
                             : padded(std::string(text[i]), column) + "  | " + it->second;
    out += '\n';
  }
  return out;
}

std::string starts(const Program& p, const Initial& initial) {
  switch (initial.kind) {
    case Initial::none: return "";
    case Initial::number: return print_real(initial.value);
    case Initial::normal: return fmt::format("normal({})", print_real(initial.value));
    case Initial::uniform: return fmt::format("uniform({})", print_real(initial.value));
    case Initial::computed:
      return fmt::format("@{}, fixed", p.text(p.function(initial.function).name));
  }
  return "";
}

struct Row {
  int depth = 0;
  std::string name, shape, starts, count;
};

// One bundle's rows; turns are shown once, as deep as repeats nest.
class Tree {
 public:
  explicit Tree(const Program& p) : p_(p) {}
  std::vector<Row> rows;

  void bundle(BundleId id, int depth, const std::string& around,
              const std::vector<std::int64_t>& turns) {
    const Bundle& b = p_.bundle(id);
    for (const Member& m : b.members) {
      if (m.nested.valid()) {
        nested(m, depth, around, turns);
        continue;
      }
      std::int64_t n = 1;
      std::string shape = "[";
      for (AxisId a : m.type.axes) {
        n *= b.axes[a.index].extent;
        shape += fmt::format("{}{}={}", shape.size() > 1 ? " " : "", p_.text(b.axes[a.index].name),
                             b.axes[a.index].extent);
      }
      rows.push_back({depth, shown(m.stored.substr(around.size()), turns), shape + "]",
                      starts(p_, m.initial), with_commas(n)});
    }
  }

 private:
  void nested(const Member& m, int depth, const std::string& around,
              std::vector<std::int64_t> turns) {
    turns.push_back(m.turns);
    // What all names begin with, up to a dot, is said once.
    std::string common = first_stored(m.nested);
    for (const std::string& s : all_stored(m.nested)) {
      const auto [a, b] = std::mismatch(common.begin(), common.end(), s.begin(), s.end());
      common.erase(a, common.end());
    }
    common.erase(common.find_last_of('.') == std::string::npos ? 0 : common.find_last_of('.') + 1);
    const std::string deeper = outward(around);
    if (common.size() < deeper.size()) common = deeper;
    const std::string head = common.substr(deeper.size());
    rows.push_back({depth,
                    head.empty() ? fmt::format("{} turns", m.turns)
                                 : shown(head.substr(0, head.size() - 1), turns),
                    "", "",
                    fmt::format("{} x {}", m.turns, with_commas(element_count(p_, m.nested)))});
    bundle(m.nested, depth + 1, common, turns);
  }

  // A name as it is said one repeat further in: each turn counts one more outwards.
  static std::string outward(const std::string& stored) {
    std::string out;
    for (char c : stored) {
      out += c;
      if (c == '@') out += '^';
    }
    return out;
  }
  std::string first_stored(BundleId id) const { return all_stored(id).front(); }
  // Of a bundle and of those within it, all said from its own turn.
  std::vector<std::string> all_stored(BundleId id) const {
    std::vector<std::string> out;
    for (const Member& m : p_.bundle(id).members) {
      if (!m.nested.valid()) {
        out.push_back(m.stored);
        continue;
      }
      for (const std::string& s : all_stored(m.nested)) out.push_back(inward(s));
    }
    return out;
  }
  static std::string inward(const std::string& stored) {
    std::string out;
    for (std::size_t i = 0; i < stored.size(); ++i) {
      out += stored[i];
      if (stored[i] != '@') continue;
      if (i + 1 < stored.size() && stored[i + 1] == '^')
        ++i;
      else
        out.back() = '\x01';  // a turn within: no name outside begins with it
    }
    return out;
  }
  static std::string shown(const std::string& stored, const std::vector<std::int64_t>& turns) {
    std::string out;
    for (std::size_t i = 0; i < stored.size(); ++i) {
      if (stored[i] != '@') {
        out += stored[i];
        continue;
      }
      std::size_t level = 0;
      while (i + 1 < stored.size() && stored[i + 1] == '^') ++i, ++level;
      const std::int64_t n = turns[turns.size() - 1 - level];
      out += n == 1 ? "0" : fmt::format("0 … {}", n - 1);
    }
    return out;
  }

  const Program& p_;
};

BundleId find_bundle(const Program& p, std::string_view name) {
  for (std::uint32_t i = 0; i < p.bundles.size(); ++i)
    if (p.text(p.bundles[i].name) == name) return BundleId{i};
  return {};
}

std::string tree(const Program& p) {
  Tree t(p);
  std::int64_t total = 0;
  for (const char* name : {"params", "fixed"})
    if (const BundleId b = find_bundle(p, name); b.valid()) {
      t.bundle(b, 0, "", {});
      total += element_count(p, b);
    }
  std::size_t name = 0, shape = 0, starts = 0, count = 0;
  for (const Row& r : t.rows) {
    name = std::max(name, padded(r.name, 0).size() + static_cast<std::size_t>(2 * r.depth));
    shape = std::max(shape, r.shape.size());
    starts = std::max(starts, r.starts.size());
    count = std::max(count, r.count.size());
  }
  const std::string sum = with_commas(total);
  count = std::max(count, sum.size());
  std::string out;
  for (const Row& r : t.rows) {
    const std::string left =
        padded(std::string(static_cast<std::size_t>(2 * r.depth), ' ') + r.name, name);
    out += fmt::format("{}  {:<{}}  {:<{}}  {:>{}}\n", left, r.shape, shape, r.starts, starts,
                       r.count, count);
  }
  const BundleId fixed = find_bundle(p, "fixed");
  const std::string note = fixed.valid() ? fmt::format("parameters, {} of them fixed",
                                                       with_commas(element_count(p, fixed)))
                                         : "parameters";
  out += fmt::format("{}  {:>{}}\n", padded(note, name + 2 + shape + 2 + starts), sum, count);
  return out;
}

}  // namespace

Result<std::string> annotate(Sources& sources, const ast::File& file, const LowerOptions& options) {
  std::vector<BoundLine> lines;
  Result<Model> m = lower(sources, file, options, lines);
  if (!m) return m.failure();
  return margin(sources, file.source, lines) + "\n" + tree(m->program);
}

}  // namespace gradc
