// What values are called.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>

#include "passes/math_print.h"

namespace gradc::math {
namespace {

using namespace std::string_view_literals;

constexpr std::array reserved = {
    "abs"sv,           "and"sv,   "argmax"sv, "as"sv,        "axis"sv,  "block"sv,    "cos"sv,
    "cross_entropy"sv, "erf"sv,   "exp"sv,    "expect"sv,    "false"sv, "floor"sv,    "in"sv,
    "inf"sv,           "input"sv, "log"sv,    "logsumexp"sv, "max"sv,   "mean"sv,     "min"sv,
    "model"sv,         "nan"sv,   "not"sv,    "or"sv,        "param"sv, "pow"sv,      "repeat"sv,
    "return"sv,        "rsqrt"sv, "scan"sv,   "select"sv,    "sin"sv,   "size"sv,     "softmax"sv,
    "sqrt"sv,          "stop"sv,  "sum"sv,    "tanh"sv,      "train"sv, "training"sv, "true"sv,
    "uniform"sv,       "use"sv,   "where"sv};

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_letter(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; }

}  // namespace

bool is_reserved(std::string_view word) {
  return std::find(reserved.begin(), reserved.end(), word) != reserved.end();
}

std::string plain(std::string_view name) {
  std::string out(name);
  std::replace(out.begin(), out.end(), '.', '_');
  return out;
}

Sheet::Sheet(const Program& program, text::Layouts& layouts, const Function& function,
             Constants& constants, std::unordered_set<std::string>& invented)
    : f(function),
      terms(function.values.size()),
      uses(function.values.size(), 0),
      summed(function.values.size(), 0),
      program_(program),
      names_(program, function, layouts),
      constants_(constants),
      invented_(invented) {
  for (const Axis& a : f.axes) taken_.insert(plain(program.text(a.name)));
  for (const Op& op : f.ops) {
    const Kind kind = facts(op.code).kind;
    for (ValueId v : op.operands) {
      ++uses[v.index];
      summed[v.index] |= kind == Kind::reduce || kind == Kind::contract;
    }
  }
  for (const Region& r : f.regions)
    for (ValueId v : r.results) ++uses[v.index];
}

std::string Sheet::own_name(ValueId v, bool stem) const {
  std::string name = names_[v].substr(1);
  // A constant that stands inline prints as its number, as do values without a name.
  if (!f.value(v).name.valid() &&
      (name.empty() || !std::isalpha(static_cast<unsigned char>(name[0]))))
    return "";
  std::string before;
  for (std::string_view prefix : {"d_p.", "d_f.", "g.", "p.", "f.", "s."}) {
    // %p.1 is a second %p, not a member.
    if (!name.starts_with(prefix) || is_digit(name[prefix.size()])) continue;
    before = prefix.size() == 4 || prefix == "g." ? "d_" : "";
    name.erase(0, prefix.size());
    break;
  }
  if (is_digit(name[0])) return "";
  if (const std::size_t end = name.find_last_not_of("0123456789");
      stem && end + 1 < name.size() && name[end] == '.')
    name.resize(end);
  return before + plain(name);
}

std::string Sheet::fresh(std::string wish) {
  if (is_reserved(wish)) wish += "_1";
  if (taken_.insert(wish).second) return wish;
  // x_2 beside x_1, not x_1_1.
  std::string stem = wish;
  while (!stem.empty() && is_digit(stem.back())) stem.pop_back();
  stem = stem.size() > 1 && stem.size() < wish.size() && stem.back() == '_' ? stem : wish + "_";
  for (int n = 1;; ++n)
    if (std::string next = fmt::format("{}{}", stem, n); taken_.insert(next).second) return next;
}

void Sheet::reserve(const std::string& text) {
  for (std::size_t i = 0; i < text.size();) {
    std::size_t end = i;
    while (end < text.size() && is_letter(text[end])) ++end;
    if (end > i) taken_.insert(text.substr(i, end - i));
    i = std::max(end, i + 1);
  }
}

std::string Sheet::invented(const Op& op) {
  std::string base(facts(op.code).name);
  if (program_.location(op.loc).role == Role::gradient)
    base = "g";
  else if (op.code == Opcode::contract_)
    base = "dot";
  else if (op.code == Opcode::amax_ || op.code == Opcode::amin_)
    base = base.substr(1);
  else if (op.code == Opcode::fused_)
    base = name(op.attr.claim);
  for (int n = 1;; ++n) {
    const std::string wish = fmt::format("{}_{}", base, n);
    if (!taken_.contains(wish) && invented_.insert(wish).second) return fresh(wish);
  }
}

std::string Sheet::axes(const AxisList& list) const {
  std::string out;
  for (AxisId a : list) out += (out.empty() ? "" : " ") + axis(a);
  return out;
}
std::string Sheet::axes(const std::vector<AxisId>& list) const {
  std::string out;
  for (AxisId a : list) out += (out.empty() ? "" : " ") + axis(a);
  return out;
}

}  // namespace gradc::math
