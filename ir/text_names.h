// Owns the spelling of values, groups and axes in text, where printer and parser must agree.
#pragma once

#include <span>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "ir/program.h"

namespace gradc::text {

// What the text can carry; the verifier asks for it, the parser refuses more.
inline constexpr std::int64_t max_extent = INT32_MAX;                // positions are i32
inline constexpr std::int64_t max_elements = std::int64_t{1} << 48;  // of one value, of one bundle
inline constexpr std::int64_t max_members = 1 << 16;      // leaves and turns of one bundle
inline constexpr std::int64_t max_all_members = 1 << 18;  // of all bundles together
inline constexpr std::int64_t max_grouped = 1 << 20;      // members of all groups of a program
inline constexpr std::size_t max_axes = 4096;             // of one function
inline constexpr int max_depth = 64;                      // of regions, and of bundles

// Letters, digits and `_` in segments joined by dots; the first character is no digit. `_` alone is
// no axis: `concat` prints it where an operand lacks one.
bool is_name(std::string_view text);

// A string as it stands between quotes: `\"`, `\\`, and bytes outside printable ASCII as `\xNN`.
std::string quoted(std::string_view text);

// Where the turns of a bundle's nested bundles lie among its leaves; empty ones are left out.
struct Turn {
  std::string path;                    // `h.3`
  std::uint32_t first = 0, count = 0;  // leaves
};
struct BundleLayout {
  std::vector<Leaf> leaves;
  std::vector<Turn> turns;             // outer before inner, by `first`
  std::vector<std::uint32_t> turn_at;  // by leaf: the first turn that begins there, or turns.size()
};
BundleLayout bundle_layout(const Program& program, BundleId bundle);

// Layouts as they are asked for.
class Layouts {
 public:
  explicit Layouts(const Program& program) : program_(program) {}
  const BundleLayout& operator[](BundleId bundle);

 private:
  const Program& program_;
  std::unordered_map<std::uint32_t, BundleLayout> made_;
};

// The axes that have occurred so far in a function's text. A bundle's members carry its axes by
// name and extent; `resolve` is the rule for what they are called in the function (that of
// Builder::axis): the axis of that name, or else the first of `d.1`, `d.2`, … that has the extent;
// or else a new one.
class AxisScope {
 public:
  struct Resolved {
    AxisId axis;        // valid: has occurred
    std::string fresh;  // else: the name of the new axis
  };
  bool knows(std::string_view name) const { return by_name_.contains(std::string(name)); }
  AxisId find(std::string_view name) const;
  void add(std::string_view name, AxisId axis, std::int64_t extent);
  void remove(std::string_view name) { by_name_.erase(std::string(name)); }
  // `type_so_far` keeps a type's axes distinct.
  Resolved resolve(std::string_view name, std::int64_t extent, const AxisList& type_so_far) const;

 private:
  struct Known {
    AxisId axis;
    std::int64_t extent;
  };
  std::unordered_map<std::string, Known> by_name_;
};

// A constant's number as it is written: `0.5`, `3`, `true`.
std::string constant_text(const Attr& attr, DType dtype);

// The dtype that a literal at place `i` of an elementwise operation has: that of the result, or of
// the other operand where the result is a bool; nullopt where nothing tells.
std::optional<DType> literal_dtype(const Function& f, Opcode code,
                                   std::span<const ValueId> operands, std::size_t i, DType result);

// What each value of a function is called: a group's member by its path, a value by its name if
// nothing before it has that name, else a number. Groups whose names would clash get a suffix.
class ValueNames {
 public:
  ValueNames(const Program& program, const Function& f, Layouts& layouts);
  std::string operator[](
      ValueId v) const;  // with its `%`; a constant that stands inline: the number
  // An unnamed constant whose uses are all operands of elementwise operations stands there as a
  // number and has no line of its own.
  bool stands_inline(const Op& op) const {
    return op.code == Opcode::constant_ && inline_[op.results[0].index];
  }
  const Group* group_starting_at(ValueId v) const;
  std::string group_name(const Group& g) const;  // with its `%`
  // Operands with groups and turns as one name each, the longest first.
  void list(std::string& out, const std::vector<ValueId>& values) const;

 private:
  void name_group(std::uint32_t g, std::unordered_set<std::string>& used);
  void find_inline();
  static constexpr std::uint32_t none = UINT32_MAX;
  const Program& program_;
  const Function& f_;
  struct Known {
    const BundleLayout* layout;
    std::string name;
  };
  std::vector<Known> groups_;
  std::vector<std::uint32_t> group_of_, number_;  // by value
  std::vector<char> inline_;                      // by value
};

}  // namespace gradc::text
