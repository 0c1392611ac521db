// Owns the laying out of one flat function: which buffer each value lies in, what is written in
// place, where a copy is needed, and at last the addresses; passes/plan.cpp tells of it. Its parts:
// plan_boundary.cpp knows what callers expect, plan_layout.cpp goes backward, plan_write.cpp writes
// the planned function.
#pragma once

#include <algorithm>
#include <string>
#include <unordered_map>
#include <vector>

#include "passes/plan.h"

namespace gradc::planning {

inline constexpr std::int64_t at_end = INT64_MAX;  // the time at which results are read

class Layout {
 public:
  Layout(Program& program, const Function& f, Function& out)
      : program_(program),
        f_(f),
        to_(program, out),
        copy_(f, to_),
        spots_(f.values.size()),
        last_use_(f.values.size(), -1),
        alive_(f.ops.size(), 0),
        joined_(f.values.size(), 0),
        stays_(f.ops.size(), 0),
        parts_(f.ops.size()) {}

  void run();

 private:
  struct Part {  // an operand of a concat or flat
    Spot place;
    bool there;  // its maker writes it there; else a copy does
  };
  struct Late {  // a result that is copied to its place at the end
    std::size_t result;
    Spot target;
  };
  struct Read {  // of bytes of a buffer that holds arguments
    std::int64_t begin, end, time;
    std::int64_t reach;  // the greatest end up to here
  };
  OpId op_at(std::size_t t) const { return f_.body().ops[t]; }
  std::string_view text(NameId n) const { return program_.text(n); }
  std::int64_t bytes_of(ValueId v) const {
    return f_.elements(f_.type(v)) * bytes(f_.type(v).dtype);
  }

  // Positions of last use; a view, a concat or a flat passes its own on to its operands.
  void liveness();

  // ---- what callers decide (plan_boundary.cpp)
  std::uint32_t new_buffer(Arena arena, std::int64_t size, bool arguments = false);
  // The one buffer of an arena whose layout callers know.
  std::uint32_t arena_buffer(Arena arena);
  void place_arguments();
  void set_argument(ValueId v, const Spot& s);
  static Arena bundle_arena(std::string_view name) {
    if (name == "p") return Arena::parameters;
    if (name == "f") return Arena::fixed;
    if (name == "g") return Arena::gradients;
    return name == "rounded" ? Arena::rounded : Arena::none;
  }
  // Flat values of a step: all parameters, gradients or moments in one axis.
  Arena state_arena(std::string_view name, const Type& type) const;
  // Views of arguments, and `flat` of arguments that lie as it wants them: nothing moves.
  void known_places();
  void place_results();
  // Makes `v` be written at the target by whoever makes it, if nobody needs what the target holds
  // until then.
  bool bring_result(ValueId v, const Spot& target);
  bool overwrites_safely(ValueId v, const Spot& target) const;
  // Which bytes of arguments are read when, through whatever views.
  void find_reads();
  bool read_behind(std::int64_t time, std::uint32_t buffer, std::int64_t begin,
                   std::int64_t end) const;
  static std::size_t result_index(const Op& op, ValueId v) {
    return static_cast<std::size_t>(std::find(op.results.begin(), op.results.end(), v) -
                                    op.results.begin());
  }
  // Argument i of a kernel, at `a`, lies as result r at `b` does: axis for axis of the kernel.
  bool agree(const Op& launch, std::size_t i, std::size_t r, const Spot& a, const Spot& b) const;
  // The place of result r, with its strides in the order of argument i's axes.
  Spot turned(const Op& launch, std::size_t i, std::size_t r, const Spot& of_result) const;

  // ---- backward (plan_layout.cpp): readers say where a value is to lie
  // What a value looks at, through static views.
  ValueId root(ValueId v) const { return below_views(f_, v); }
  // Puts `v` at the place by placing what it is a view of. False: that lies elsewhere already, or
  // cannot.
  bool bring(ValueId v, Spot place);
  void place(std::int64_t t);
  void join(OpId id);
  // As bring(), but an operand that stands twice in one join is copied the second time.
  bool bring_part(ValueId x, const Spot& place);
  bool lies_in_arguments(ValueId v) const {
    const Spot& s = spots_[root(v).index];
    return s.valid() && buffers_[s.buffer].arguments;
  }

  // Results written over operands that die here: the operand gets the result's place.
  void reuse(const Op& op, std::int64_t t);
  bool waits_long(ValueId x, std::int64_t t, const Spot& place) const;
  bool read_twice(const Op& op, ValueId x) const;

  // ---- forward (plan_write.cpp): the function with its copies
  void define(ValueId made, const Spot& s);
  void write();
  void join_with_copies(OpId id);
  void view(OpId id);
  // A copy at a place, its axes in the order of `type`.
  ValueId copied(ValueId v, const Spot& place) { return copied(v, to_.type(v), place); }
  ValueId copied(ValueId v, const Type& type, const Spot& place);
  FunctionId copy_kernel(const Type& from, const Type& to);

  // Results that nobody could write where callers expect them. Copies into places that hold
  // arguments come last, and what such a copy reads is saved first if it is an argument itself.
  void finish();

  // ---- addresses (plan_write.cpp)
  std::vector<Taken> gradients_taken();
  void assign_addresses();

  Program& program_;
  const Function& f_;
  Builder to_;
  Cloner copy_;
  std::vector<Spot> spots_;  // by value of f_: arguments, views of them, results of operations
  std::vector<std::int64_t> last_use_, position_;
  std::vector<char> alive_, joined_;  // joined_: some concat or flat wants it inside
  std::vector<char> stays_;           // by operation: a flat of arguments that lie as it wants them
  std::vector<std::vector<Part>> parts_;  // by operation
  std::vector<Buffer> buffers_;
  std::array<std::uint32_t, arena_count> of_arena_{};
  std::vector<std::vector<Read>> reads_;  // by buffer, by begin
  BundleId parameters_;
  std::int64_t inputs_ = 0, outputs_ = 0;
  std::vector<Late> late_;
  std::vector<Spot> placed_;  // by value of the new function
  std::unordered_map<std::string, FunctionId> copies_;
};

}  // namespace gradc::planning
