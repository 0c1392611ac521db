// Spelling of values, groups and axes.
#include "ir/text_names.h"

#include <fmt/format.h>

#include <algorithm>

#include "ir/text.h"
#include "ir/walk.h"

namespace gradc::text {

bool is_name(std::string_view text) {
  const auto letter = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
  };
  const auto digit = [](char c) { return c >= '0' && c <= '9'; };
  if (text.empty() || !letter(text[0]) || text.back() == '.') return false;
  for (std::size_t i = 1; i < text.size(); ++i)
    if (!letter(text[i]) && !digit(text[i]) && (text[i] != '.' || text[i - 1] == '.')) return false;
  return true;
}

std::string quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\')
      out += '\\', out += c;
    else if (c >= 0x20 && c < 0x7f)
      out += c;
    else
      out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
  }
  return out + '"';
}

BundleLayout bundle_layout(const Program& program, BundleId root) {
  BundleLayout out;
  out.leaves = leaves(program, root);
  struct Walk {
    BundleId bundle;
    std::string prefix;
    std::size_t turn;  // of out.turns; the root has none
    std::size_t member = 0;
    std::int64_t next = 0;
  };
  std::uint32_t at = 0;
  std::vector<Walk> stack{{root, "", 0}};
  while (!stack.empty()) {
    Walk& w = stack.back();
    const Bundle& bundle = program.bundle(w.bundle);
    if (w.member == bundle.members.size()) {
      if (stack.size() > 1) out.turns[w.turn].count = at - out.turns[w.turn].first;
      stack.pop_back();
      continue;
    }
    const Member& m = bundle.members[w.member];
    if (!m.nested.valid() || w.next == m.turns) {
      if (!m.nested.valid()) ++at;
      ++w.member;
      w.next = 0;
      continue;
    }
    std::string path = fmt::format("{}{}.{}", w.prefix, program.text(m.name), w.next++);
    std::string prefix = path + ".";
    out.turns.push_back({std::move(path), at, 0});
    stack.push_back({m.nested, std::move(prefix), out.turns.size() - 1});  // invalidates w
  }
  std::erase_if(out.turns, [](const Turn& t) { return t.count == 0; });
  out.turn_at.assign(out.leaves.size(), static_cast<std::uint32_t>(out.turns.size()));
  for (std::size_t i = out.turns.size(); i-- > 0;)
    out.turn_at[out.turns[i].first] = static_cast<std::uint32_t>(i);
  return out;
}

const BundleLayout& Layouts::operator[](BundleId bundle) {
  const auto it = made_.find(bundle.index);
  return it != made_.end()
             ? it->second
             : made_.emplace(bundle.index, bundle_layout(program_, bundle)).first->second;
}

AxisId AxisScope::find(std::string_view name) const {
  const auto it = by_name_.find(std::string(name));
  return it == by_name_.end() ? AxisId{} : it->second.axis;
}

void AxisScope::add(std::string_view name, AxisId axis, std::int64_t extent) {
  by_name_.insert_or_assign(std::string(name), Known{axis, extent});
}

AxisScope::Resolved AxisScope::resolve(std::string_view name, std::int64_t extent,
                                       const AxisList& type_so_far) const {
  const auto it = by_name_.find(std::string(name));
  if (it == by_name_.end()) return {{}, std::string(name)};
  const auto serves = [&](const Known& k) {
    return k.extent == extent && !type_so_far.contains(k.axis);
  };
  if (serves(it->second)) return {it->second.axis, {}};
  const std::string_view base = name.substr(0, name.find('.'));
  for (int n = 1;; ++n) {
    std::string other = fmt::format("{}.{}", base, n);
    const auto known = by_name_.find(other);
    if (known == by_name_.end()) return {{}, std::move(other)};
    if (serves(known->second)) return {known->second.axis, {}};
  }
}

std::string constant_text(const Attr& attr, DType dtype) {
  if (is_real(dtype)) return print_real(attr.real);
  if (dtype == DType::boolean) return attr.integer != 0 ? "true" : "false";
  return std::to_string(attr.integer);
}

std::optional<DType> literal_dtype(const Function& f, Opcode code,
                                   std::span<const ValueId> operands, std::size_t i, DType result) {
  switch (code) {
    case Opcode::cast_: return std::nullopt;
    case Opcode::not_:
    case Opcode::and_:
    case Opcode::or_: return DType::boolean;
    case Opcode::select_: return i == 0 ? DType::boolean : result;
    case Opcode::lt_:
    case Opcode::le_:
    case Opcode::eq_:
    case Opcode::ne_: {
      const ValueId other = operands[1 - i];
      if (!other.valid()) return std::nullopt;
      return f.type(other).dtype;
    }
    default: return result;
  }
}

void ValueNames::find_inline() {
  const auto constant = [&](ValueId v) {
    const OpId d = f_.value(v).def;
    return d.valid() && f_.op(d).code == Opcode::constant_;
  };
  inline_.assign(f_.values.size(), 0);
  for (const Op& op : f_.ops) {
    if (op.code != Opcode::constant_) continue;
    const ValueId v = op.results[0];
    const bool placed = !f_.placed.empty() && f_.placed[v.index].arena != Arena::none;
    inline_[v.index] = !f_.value(v).name.valid() && !placed;
  }
  std::vector<char> used(f_.values.size(), 0);
  for (const Op& op : f_.ops)
    for (std::size_t i = 0; i < op.operands.size(); ++i) {
      const ValueId v = op.operands[i];
      used[v.index] = 1;
      if (!inline_[v.index]) continue;
      // In a comparison the other operand tells, unless it is a number too.
      const bool logic = op.code == Opcode::and_ || op.code == Opcode::or_;
      const bool compares = facts(op.code).kind == Kind::binary && !logic &&
                            f_.type(op.results[0]).dtype == DType::boolean;
      const bool tells = is_elementwise(op.code) && !(compares && constant(op.operands[1 - i]));
      if (!tells || !literal_dtype(f_, op.code, op.operands, i, f_.type(op.results[0]).dtype))
        inline_[v.index] = 0;
    }
  for (const Region& r : f_.regions)
    for (ValueId v : r.results) inline_[v.index] = 0;
  for (std::size_t i = 0; i < inline_.size(); ++i) inline_[i] = inline_[i] && used[i];
}

ValueNames::ValueNames(const Program& program, const Function& f, Layouts& layouts)
    : program_(program), f_(f), group_of_(f.values.size(), none), number_(f.values.size(), none) {
  for (std::uint32_t g = 0; g < f.groups.size(); ++g) {
    const Group& group = f.groups[g];
    groups_.push_back({&layouts[group.bundle], {}});
    for (std::uint32_t i = 0; i < group.count; ++i) group_of_[group.first.index + i] = g;
  }
  find_inline();
  std::unordered_set<std::string> used;
  std::uint32_t numbers = 0;
  const auto define = [&](const std::vector<ValueId>& values) {
    for (ValueId v : values) {
      if (const std::uint32_t g = group_of_[v.index]; g != none) {
        if (f.groups[g].first == v) name_group(g, used);
      } else if (inline_[v.index]) {
        continue;
      } else if (const std::string_view own = program.text(f.value(v).name);
                 own.empty() || !used.emplace(own).second) {
        number_[v.index] = numbers++;
      }
    }
  };
  walk(
      f, [&](RegionId r, OpId) { define(f.regions[r.index].arguments); },
      [&](OpId o) { define(f.op(o).results); }, [](RegionId, OpId) {});
}

void ValueNames::name_group(std::uint32_t g, std::unordered_set<std::string>& used) {
  const BundleLayout& layout = *groups_[g].layout;
  const std::string wish(program_.text(f_.groups[g].name));
  std::string name = wish;
  for (int n = 1;; ++n) {
    const auto taken = [&](const auto& part) { return used.contains(name + "." + part.path); };
    if (!used.contains(name) && std::none_of(layout.leaves.begin(), layout.leaves.end(), taken) &&
        std::none_of(layout.turns.begin(), layout.turns.end(), taken))
      break;
    name = fmt::format("{}.{}", wish, n);
  }
  used.insert(name);
  for (const Leaf& leaf : layout.leaves) used.insert(name + "." + leaf.path);
  for (const Turn& turn : layout.turns) used.insert(name + "." + turn.path);
  groups_[g].name = std::move(name);
}

std::string ValueNames::operator[](ValueId v) const {
  if (const std::uint32_t g = group_of_[v.index]; g != none)
    return fmt::format("%{}.{}", groups_[g].name,
                       groups_[g].layout->leaves[v.index - f_.groups[g].first.index].path);
  if (number_[v.index] != none) return fmt::format("%{}", number_[v.index]);
  if (inline_[v.index]) return constant_text(f_.op(f_.value(v).def).attr, f_.type(v).dtype);
  return fmt::format("%{}", program_.text(f_.value(v).name));
}

const Group* ValueNames::group_starting_at(ValueId v) const {
  const std::uint32_t g = group_of_[v.index];
  return g != none && f_.groups[g].first == v ? &f_.groups[g] : nullptr;
}

std::string ValueNames::group_name(const Group& g) const {
  return "%" + groups_[group_of_[g.first.index]].name;
}

void ValueNames::list(std::string& out, const std::vector<ValueId>& values) const {
  // How many consecutive values begin at each place.
  std::vector<std::uint32_t> run(values.size(), 1);
  for (std::size_t i = values.size(); i-- > 1;)
    if (values[i].index == values[i - 1].index + 1) run[i - 1] = run[i] + 1;
  for (std::size_t i = 0; i < values.size();) {
    if (i > 0) out += ", ";
    const ValueId v = values[i];
    const std::uint32_t g = group_of_[v.index];
    if (g == none) {
      out += (*this)[v];
      ++i;
      continue;
    }
    const Group& group = f_.groups[g];
    const BundleLayout& layout = *groups_[g].layout;
    const std::uint32_t leaf = v.index - group.first.index;
    std::size_t length = 1;
    if (leaf == 0 && group.count <= run[i]) {
      length = group.count;
      out += group_name(group);
    } else {
      std::size_t t = layout.turn_at[leaf];
      while (t < layout.turns.size() && layout.turns[t].first == leaf &&
             layout.turns[t].count > run[i])
        ++t;
      if (t < layout.turns.size() && layout.turns[t].first == leaf) {
        length = layout.turns[t].count;
        out += fmt::format("%{}.{}", groups_[g].name, layout.turns[t].path);
      } else {
        out += (*this)[v];
      }
    }
    i += length;
  }
}

}  // namespace gradc::text
