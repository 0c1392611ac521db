// Owns the program: functions, bundles of values that travel together, inputs, training settings. Plain
// data; ir/builder.h makes it, ir/text.h prints and parses it, ir/verify.h says what is well-formed.
#pragma once

#include <array>
#include <deque>
#include <optional>
#include <string>
#include <unordered_map>

#include "ir/location.h"
#include "ir/op.h"

namespace gradc {

// What a function is for codegen: none is an ordinary function, the others are kernels. Each family's
// form is checked by the verifier (ir/verify.h):
//   map       elementwise operations; views and reads only of arguments (they become addressing)
//   rows      at least one reduction, all over the same axes; elementwise before, between and behind
//   contract  one contraction; before it casts only; behind it elementwise operations in its axes,
//             and sums of them over all axes
//   read      one scatter or update
//   attention, attention_grad   the forms of ir/attention.h
enum class Family : std::uint8_t { none, map, rows, contract, read, attention, attention_grad };
inline constexpr int family_count = 7;
std::string_view name(Family family);
bool parse_family(std::string_view text, Family& out);

enum class Arena : std::uint8_t { none, parameters, fixed, gradients, moment1, moment2, rounded, activations, input, output };
inline constexpr std::size_t arena_count = 10;
std::string_view name(Arena arena);  // "p" "f" "g" "m" "v" "rounded" "act" "in" "out"
bool parse_arena(std::string_view text, Arena& out);

// Where a value lies: bytes from the arena's start, and for each axis of its type, in order, the
// distance in elements. arena none: no memory of its own (a value inside a kernel).
struct Placement {
  Arena arena = Arena::none;
  std::int64_t offset = 0;
  std::array<std::int64_t, max_rank> strides{};
};

// Consecutive values of a function that are the members of a bundle, in order: %p, members %p.wq, a
// turn's sub-bundle %p.h.3.
struct Group {
  NameId name;
  BundleId bundle;
  ValueId first;
  std::uint32_t count = 0;
};

struct Function {
  NameId name;
  Family family = Family::none;
  std::vector<Axis> axes;
  std::vector<Value> values;
  std::vector<Op> ops;
  std::vector<Region> regions;            // regions[0]: the body
  std::vector<NameId> result_names;       // as many as the body's results, or none
  std::vector<Group> groups;
  std::vector<Placement> placed;          // by value; empty before the plan

  const Region& body() const { return regions[0]; }
  const Value& value(ValueId v) const { return values[v.index]; }
  const Type& type(ValueId v) const { return values[v.index].type; }
  const Op& op(OpId o) const { return ops[o.index]; }
  // The operation whose result a value is; null: an argument.
  const Op* definition(ValueId v) const {
    const OpId o = value(v).def;
    return o.valid() ? &op(o) : nullptr;
  }
  const Axis& axis(AxisId a) const { return axes[a.index]; }
  std::int64_t extent(AxisId a) const { return axes[a.index].extent; }
  std::int64_t elements(const Type& t) const;   // the product of the extents
};

// How a parameter starts. normal: mean 0 and deviation `value`; uniform: in [−value, value); number: all
// `value`; computed: the result of `function`, which has no arguments, and never trained.
struct Initial {
  enum Kind : std::uint8_t { none, number, normal, uniform, computed } kind = none;
  double value = 0;
  FunctionId function;
  friend bool operator==(const Initial&, const Initial&) = default;
};

// One tensor, or `turns` copies of a nested bundle. `stored` is the name in files: `@` stands for the
// turn of the innermost bundle with turns that encloses it, `@^` for the next one out, and so on.
struct Member {
  NameId name;                 // `wq`, or a path within its block: `ln_1.gain`; a nested bundle: `h`
  Type type;                   // axes of the bundle
  std::string stored;
  Initial initial;
  BundleId nested;             // valid: a nested bundle; the fields above but `name` do not count
  std::int64_t turns = 0;
  bool decay = true;           // weight decay
  bool clip = true;            // counts in the gradient's norm and is clipped
};

struct Bundle {
  NameId name;
  std::vector<Axis> axes;
  std::vector<Member> members;
};

// A batch's tensor, fed by name. Its type's axes are those of every entry function's argument.
struct Input {
  NameId name;
  DType dtype = DType::i32;
  std::vector<Axis> axes;
  bool bounded = false;        // integers in low … high − 1, checked before the step
  std::int64_t low = 0, high = 0;
};

struct Schedule {
  enum Kind : std::uint8_t { constant, cosine, linear } kind = constant;
  double peak = 3e-4;
  double warmup = 0;           // steps; at most a tenth of the run
};
struct Training {
  enum Kind : std::uint8_t { adamw, sgd } kind = adamw;
  Schedule lr;
  double beta1 = 0.9, beta2 = 0.95, eps = 1e-8, weight_decay = 0.1, clip = 1, momentum = 0;
  std::string except;          // `*`-patterns of stored names without decay, separated by spaces or commas
  std::int64_t steps = 1000;
};

// Entry functions by name: @loss, @eval, then @grad, @update, @step (passes/README.md). Arguments of
// @loss and @eval: the group %p (trained parameters), the group %f (fixed ones, if any), the inputs in
// order, then %step and %seed: i64 scalars.
struct Program {
  std::deque<std::string> names;   // what text() points to stays where it is, however many follow
  std::vector<std::string> files;
  std::vector<Location> locations;
  std::vector<Bundle> bundles;
  std::vector<Input> inputs;
  Training training;
  std::vector<Function> functions;

  NameId intern(std::string_view text);
  std::string_view text(NameId id) const { return id.valid() ? std::string_view(names[id.index]) : std::string_view(); }
  LocId intern(const Location& location);
  const Location& location(LocId id) const;                 // an empty one for an invalid id
  LocId unite(LocId a, LocId b);                            // lines of both, role of a
  LocId with_role(LocId a, Role role);
  FunctionId find(std::string_view function_name) const;    // invalid if absent
  std::string unique_function_name(std::string_view wish) const;
  Function& function(FunctionId f) { return functions[f.index]; }
  const Function& function(FunctionId f) const { return functions[f.index]; }
  const Bundle& bundle(BundleId b) const { return bundles[b.index]; }

 private:
  std::unordered_map<std::string, std::uint32_t> name_index_;
  std::unordered_map<std::string, std::uint32_t> location_index_;
};

// A bundle's tensors in order, nested turns unrolled.
struct Leaf {
  std::string path;            // as the group's member prints: `h.3.attn.wq`
  std::string stored;          // with the turns filled in
  BundleId bundle;             // that declares it
  const Member* member = nullptr;
  std::vector<std::int64_t> extents;
  std::int64_t elements = 0;
  std::int64_t offset = 0;     // in elements, in the flat order
};
std::vector<Leaf> leaves(const Program& program, BundleId bundle);
std::int64_t leaf_count(const Program& program, BundleId bundle);
std::int64_t element_count(const Program& program, BundleId bundle);

// The functions that `roots` reach through call, launch and initialisers, callees first. Linear.
std::vector<FunctionId> reachable(const Program& program, const std::vector<FunctionId>& roots);
// Drops what no root reaches and renumbers callees.
void drop_unreachable(Program& program, const std::vector<std::string>& roots);

}  // namespace gradc
