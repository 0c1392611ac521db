// Owns what the files of the planner share: where values lie, before and after arenas have
// addresses; and `unsupported`, the one thing about planning that passes.h does not have.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ir/builder.h"
#include "ir/program.h"

namespace gradc {

// "" if every operation that `entry` reaches stands in a kernel, is a view or is placed by the
// plan; else the first one that only the interpreter runs (what was never grouped), with its
// function.
std::string unsupported(const Program& program, std::string_view entry);

// "" if the plan of a grouped `entry`, in which each turn of a scan has its launches, has at most
// 2¹⁸; else a message.
std::string too_long(const Program& program, std::string_view entry);

namespace planning {

// A stretch of an arena. Those of the activation arena get their `base` last; bytes.
struct Buffer {
  Arena arena = Arena::activations;
  std::int64_t bytes = 0, base = 0;
  bool arguments = false;  // holds what callers handed in: not to be written before its last reader
};

// Where a value lies in a buffer: bytes from its start, strides in elements by axis of the value's
// type.
struct Spot {
  static constexpr std::uint32_t none = UINT32_MAX;
  std::uint32_t buffer = none;
  std::int64_t offset = 0;
  std::array<std::int64_t, max_rank> strides{};
  bool valid() const { return buffer != none; }
};
// The same places: strides of axes of extent 1 do not count.
bool same_place(const Function& f, const Type& type, const Spot& a, const Spot& b);
// Strides without gaps, the last axis innermost.
Spot dense(const Function& f, const Type& type, std::uint32_t buffer, std::int64_t offset);
bool is_static_view(const Op& op);
inline bool is_join(const Op& op) {
  return op.code == Opcode::concat_ || op.code == Opcode::flat_;
}
// It only looks at its operands: who reads its result reads them.
inline bool passes_on(const Op& op) { return is_join(op) || is_static_view(op); }
// What stands below such views.
ValueId below_views(const Function& f, ValueId v);
// The spot of a view's result from that of its operand. False: a merge of axes that do not follow
// each other in memory.
bool view_spot(const Function& f, const Op& op, const Spot& operand, Spot& result);
// The spot of the operand that brings the result to `result`. False: none does, or it is larger.
bool invert_view(const Function& f, const Op& op, const Spot& result, Spot& operand);
// Where each operand of a concat or a flat lies within the whole.
std::vector<Spot> parts_of(const Program& p, const Function& f, const Op& op, const Spot& whole);

// A kernel may write its result `r` over its argument `a`: each element is read only where the one
// of the same index is written (a rows kernel writes it in its last pass, codegen/rows_plan.cpp).
// The kernel's axes match a's strides to r's.
bool may_overwrite(const Function& kernel, std::size_t a, std::size_t r);

// One stretch of time over which `bytes` are needed; positions in the order of launches, both
// included.
struct Interval {
  std::int64_t bytes = 0;
  std::int64_t first = 0, last = 0;
};
struct Packing {
  std::vector<std::int64_t> offsets;  // by interval
  std::int64_t bytes = 0;
};
// Places intervals that overlap in time apart, 64-byte aligned. Tries several orders and keeps the
// least.
Packing pack(std::span<const Interval> intervals);
// Bytes up to where the next value may begin: a line of the cache.
inline std::int64_t aligned(std::int64_t n) { return (n + 63) / 64 * 64; }

// A stretch of the gradients' arena that holds a gradient, or a part of one, for some time.
struct Taken {
  std::int64_t begin = 0, end = 0;
  std::int64_t first = 0, last = 0;
};
// Places for intervals where the arena is free for all their lives (passes/plan_lend.cpp); −1: none.
std::vector<std::int64_t> lend(std::span<const Interval> intervals, std::span<const Taken> taken);

// The entry with all its calls replaced by bodies, and its scans by their turns.
Function inline_calls(Program& program, std::string_view entry);
// An operation of `f` in the function that `to` writes, where `copy` maps what it reads; a call as
// the body of its callee, which has no calls any more, and a scan as its turns.
void inline_operation(const Program& program, const Function& f, OpId op, Builder& to,
                      Cloner& copy);
// A callee's result under the axes that the caller has for it: a view of it where they differ.
ValueId under_axes(Builder& to, ValueId v, const AxisList& axes);
void inline_turns(const Program& program, const Function& f, const Op& scan, Builder& to,
                  Cloner& copy);
// The function with its updates of parts of the parameters where their gradients are made, and what
// is large and waits long made late.
Function order_launches(Program& program, Function flat);
// The planned function; appends copy kernels to `program`.
Function lay_out(Program& program, const Function& flat);

// One value that a launch of a planned function writes into the activation arena, or into the
// gradients' without being one: alive from its launch to its last reader, positions of the body,
// both included; the body's length if it is a result. Where a launch writes over it, its life ends
// before that launch.
struct Life {
  ValueId value;
  std::int64_t bytes, first, last;
  bool overwritten = false;
};
std::vector<Life> lives(const Function& planned);

}  // namespace planning
}  // namespace gradc
