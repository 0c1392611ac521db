// Owns operations and their facts, read off ir/ops.def.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "ir/type.h"

namespace gradc {

// Enumerators are spelled as in the IR with a trailing `_`, since `not`, `and`, `or` are C++ tokens.
enum class Opcode : std::uint8_t {
#define OP(name, ...) name##_,
#include "ir/ops.def"
#undef OP
};
inline constexpr int opcode_count = 0
#define OP(...) +1
#include "ir/ops.def"
#undef OP
    ;

enum class Kind : std::uint8_t { source, unary, binary, ternary, view, read, reduce, contract, control };

// Which fields of Attr an operation uses, and how they print (ir/README.md has the syntax).
enum class AttrForm : std::uint8_t {
  none, axis, bundle, from_to, from_at, from_to_affine, from_axes, axes_to, to_at, concat, from, to, axes,
  bundle_to, callee, claim, scan,
};

struct Facts {
  std::string_view name;
  int least, most;             // operands
  Kind kind;
  AttrForm attr;
  int cost = 0;
  bool commutes = false;
  double unit = std::numeric_limits<double>::quiet_NaN();
  int regions = 0;
};
const Facts& facts(Opcode code);
bool parse_opcode(std::string_view text, Opcode& out);
constexpr bool is_elementwise(Kind k) { return k == Kind::unary || k == Kind::binary || k == Kind::ternary; }
inline bool is_elementwise(Opcode c) { return is_elementwise(facts(c).kind); }

// What a `fused` claims to be; passes/fused.def gives each a matcher. `none`: a group without a claim.
enum class Claim : std::uint8_t {
  none, softmax, attention, attention_grad, layernorm, rmsnorm, cross_entropy, gelu, silu, optimizer,
};
inline constexpr int claim_count = 10;
std::string_view name(Claim claim);
bool parse_claim(std::string_view text, Claim& out);

// One plain struct for all; the operation's AttrForm says which fields count, the others keep their
// defaults (so that equality and hash are those of the whole struct).
struct Attr {
  double real = 0;                 // constant of a real dtype
  std::int64_t integer = 0;        // constant of another dtype; k of pick, slice, shift, pad, place
  std::int64_t stride = 1;         // m of slice and pad
  AxisId from, to;                 // see the rows' comments
  std::vector<AxisId> axes;        // reduced axes; i j of split and merge; concat: one an operand, invalid for `_`
  BundleId bundle;                 // flags, flat
  NameId flag;                     // flags: `decay`, `clip`
  FunctionId callee;               // call, launch
  Claim claim = Claim::none;       // fused
  std::uint32_t carried = 0, sliced = 0;  // scan: operands are `carried` states, `sliced` sequences, the rest invariant
  bool reverse = false;            // scan from the last position to the first
  friend bool operator==(const Attr& a, const Attr& b);  // reals by bits
};

struct Op {
  Opcode code = Opcode::constant_;
  LocId loc;
  std::vector<ValueId> operands, results;
  std::vector<RegionId> regions;
  Attr attr;
};

struct Value {
  Type type;
  NameId name;   // invalid: prints as a number
  OpId def;      // invalid: an argument of a region
};

// Arguments, operations and results of a block. regions[0] of a function is its body. In `fused` the
// arguments stand for the operands one to one; in `scan` for (states, slices at t, invariants), and the
// results are (next states, then what is collected along t). A region sees its own values only.
struct Region {
  std::vector<ValueId> arguments;
  std::vector<OpId> ops;
  std::vector<ValueId> results;
};

}  // namespace gradc
