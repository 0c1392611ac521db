// Owns the walk backward through one region. Internal to differentiation: passes/derive.cpp
// drives it, functions and inner regions first.
//
// A cotangent has exactly the type of its value; one that is absent is zero and is never built.
// What a `select` excluded stays excluded: its condition travels beside the cotangent (Guard) past
// elementwise operations, sums, expansions and relabellings, and is applied where something else
// needs the value or where its own axes are summed; so an infinite or undefined factor on the way
// cannot turn the 0 into NaN. Cotangents that land side by side along an axis are held apart until
// they are needed, and become one `concat` if they fill it.
#pragma once

#include <compare>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "ir/attention.h"
#include "ir/builder.h"
#include "passes/activity.h"
#include "passes/derivatives.h"

namespace gradc {

// The derivative of a region or a function: from some of its arguments, what it saved, and the
// cotangents of some results (`slots`) to the cotangents of some arguments (`gives`). Indices,
// ascending.
struct Derived {
  std::vector<std::uint32_t> arguments, slots, gives;
  // A region: takes the cotangents, then the arguments, then what is kept, then the rest below. An
  // axis of the enclosing function is the one of its name here.
  Function body;
  // The region of a fused operation: values of it that forward hands over, as results that it has
  // or as further ones (reverse_fused.cpp); of a scan: those that it collects. Of attention also the logarithm of the softmax's sum,
  // and, as an operand of its backward, the products of its result and cotangent summed by row.
  std::vector<ValueId> kept;
  bool lse = false, delta = false;
  std::vector<char> inner;        // of `attention`, by operation of `body`: stands in its region
  std::vector<ValueId> handed;    // of `attention`: values of `body` that the region yields,
  std::vector<NameId> names;      // and their names outside
  // A function: `forward` returns the results, then what it saves; `backward` takes (arguments,
  // saved, cotangents). `saved` is invalid if that is nothing.
  FunctionId forward, backward;
  BundleId saved;

  std::size_t states_read(
      const Op& scan) const;  // how many of `arguments` are states of the region's scan
};

// For the backward body of an attention: sets `inner` and `handed` if it has the form
// `attention_grad` but for what stands behind its sums (passes/reverse_fused.cpp).
void split_attention_grad(Derived& derived);

// What the walks of one gradient share.
struct Gradient {
  Program& program;
  FunctionId root;
  const Activity activity;
  // Cotangents of the group of this name are named `g.…`, others `d_…`; empty: none.
  std::string gradients_of;
  std::map<std::pair<FunctionId, RegionId>, Derived> derived;

  const Derived& of(FunctionId f,
                    const Op& op) const;  // of a call's callee, or of an operation's region
};

class Reverse {
 public:
  // Where values of the forward direction come from.
  enum class Values : std::uint8_t {
    copied,    // all were copied before (copy_forward)
    asked,     // a rehearsal: each that is asked for becomes an argument and is noted in asked()
    taken,     // an argument is taken when it is asked for (taken()), the rest is computed again
    given,     // what was mapped before, else computed again from that
  };
  Reverse(Gradient& gradient, FunctionId from, RegionId region, Builder& to, Values values);

  Cloner& map() { return map_; }
  void map_all_axes();                       // axis i of `from` becomes axis i of an empty `to`
  // The operation as the forward direction of a gradient has it: calls also return what they save,
  // scans also collect the states that their derivative reads (these are the operation's extras).
  void copy_forward(OpId op);
  // Maps an operation's extras, as arguments of `to`, or as the values of copy_forward.
  void take_extras(OpId op);
  const std::vector<ValueId>& extras(OpId op);
  bool has_extras(OpId op) const;

  void seed(std::size_t slot, ValueId cotangent);
  void walk();
  // The cotangent of an argument of the region; invalid: none arrived. `any` also accepts one that
  // a called function returns without its depending on what is asked for.
  ValueId cotangent(ValueId v, bool any = false);
  ValueId zeros(const Type& type);           // a type of `to`
  LocId gradient_of(LocId at) { return gradient_.program.with_role(at, Role::gradient); }
  std::string cotangent_name(ValueId v);

  const std::vector<ValueId>& asked() const { return asked_; }
  const std::vector<OpId>& asked_extras() const { return asked_extras_; }
  // What was taken, in the order of need.
  struct Taken {
    enum What : std::uint8_t { argument, kept, lse, delta } what = argument;
    std::uint32_t index = 0;                 // of an argument its position, of what is kept its value
    friend auto operator<=>(const Taken&, const Taken&) = default;
  };
  const std::vector<Taken>& taken() const { return taken_; }
  // For the region of a fused operation, before anything else: what its claim saves.
  void set_claim(const Op& owner, const Derived& d);
  void keep_products(const Op& scan);        // for the region of a scan, likewise

 private:
  struct Condition {
    ValueId value;                           // of `to`, with axes of the cotangent only
    bool where = true;                       // the cotangent is kept where the condition is this
    friend bool operator==(const Condition&, const Condition&) = default;
  };
  using Guard = std::vector<Condition>;      // kept where all hold; empty: everywhere
  struct Cotangent {
    ValueId value;
    Guard guard;
  };
  // A cotangent that lies along `axis` of its value at `at`: `stretch` is its axis there, or it
  // lacks it.
  struct Placed {
    ValueId value;
    AxisId axis, stretch;
    std::int64_t at = 0, length = 1;
  };
  struct Slot {
    Cotangent sum;
    std::vector<Placed> placed;
    bool empty() const { return !sum.value.valid() && placed.empty(); }
  };

  // ---- values of the forward direction
  ValueId primal(ValueId v);
  void recompute(OpId op);
  void copy_call(OpId op);
  void copy_scan(OpId op);
  void copy_fused(OpId op);
  void copy_from_kept(OpId op);
  std::vector<Type> extra_types(OpId op);

  // ---- cotangents
  bool flows(const Op& op, std::size_t k) const;
  Cotangent finish(ValueId v);               // all that arrived, as one
  ValueId solid(const Cotangent& c);         // with the guard applied
  ValueId incoming(ValueId result);          // exact and solid, zeros if absent
  void contribute(ValueId v, Cotangent c);   // of any axes, dtype and order
  Cotangent narrowed(Cotangent c, const Type& want);
  void contribute_at(ValueId v, const Placed& p);
  void add_to(Slot& slot, const Cotangent& c);
  void gather_placed(Slot& slot, const Type& type);
  ValueId conjunction(const Guard& guard, bool& where);
  void relabel_guard(const Op& op, Guard& guard);
  ValueId constant(double x, DType dtype);
  void name_cotangent(ValueId value, ValueId of);

  // ---- rows: passes/reverse_rows.cpp
  void visit(OpId op);
  void apply_row(const Op& op);
  struct Row {
    const Op& op;
    Cotangent g;
    std::map<std::pair<Opcode, std::vector<ValueId>>, ValueId>
        made;  // elementwise applications so far
  };
  void apply_formula(Row& row, std::size_t k);
  int sum_early(const Row& row, const Formula& formula, const Type& want);
  bool contribute_in_place(const Op& op, Opcode code, std::size_t k, ValueId value);
  ValueId apply_node(Row& row, Opcode code, const std::vector<ValueId>& parts, const Type* want);
  ValueId turned(const Op& op, Opcode code, const std::vector<ValueId>& parts, const Type& want);
  ValueId write_at(const Op& op, ValueId g, const Type& want);

  // ---- walkers: passes/reverse_control.cpp, passes/reverse_scan.cpp
  void walk_concat(const Op& op);
  void walk_flat(const Op& op);
  void walk_call(OpId op);
  void walk_fused(OpId op);
  struct BackwardScan;
  void walk_scan(OpId op);
  void scan_operands(OpId op, BackwardScan& back);
  RegionId scan_region(const BackwardScan& back);
  std::vector<ValueId> embed(const Derived& d, std::span<const ValueId> cotangents,
                             std::span<const ValueId> arguments);
  void map_axes_of(const Function& body, Cloner& copy);
  std::string_view formal_name(const Derived& d, std::size_t i) const;
  const std::string& path(ValueId v);

  // ---- fused regions: passes/reverse_fused.cpp
  bool is_taken(ValueId v) const {
    return argument_.contains(v.index) || (!keepable_.empty() && keepable_[v.index] != 0) ||
           (softmax_ && from_lse_ && v == softmax_->weight);
  }
  std::vector<ValueId> further(const Op& op, const Derived& d) const;
  Type lse_type(const Op& op) const;
  std::string extra_name(const Op& op, std::size_t n) const;
  // The type that cotangents of `v` are brought to: its own. Within an attention, where only the
  // arguments' cotangents are summed, it has all axes of the scores: a sum over some of them would
  // be a value in the others.
  Type cotangent_type(ValueId v);
  bool walks_in_tiles() const;
  ValueId take(Taken what, const Type& type, std::string_view name);
  void walk_softmax();
  std::vector<ValueId> attention_grad(const Derived& d,
                                      std::span<const ValueId> operands, LocId at);

  Gradient& gradient_;
  const Activity& activity_;
  FunctionId from_id_;
  const Function& from_;
  const Region& region_;
  Builder& to_;
  Values values_;
  Cloner map_;
  std::vector<Slot> slots_;                                   // by value of `from`
  std::unordered_set<std::uint32_t> grouped_;                 // values of `to` that a group names
  std::unordered_map<std::uint32_t, ValueId>
      unasked_;  // returned by calls, though no gradient flows
  std::unordered_map<std::uint32_t, std::uint32_t> argument_; // position of the region's arguments
  std::unordered_map<std::uint32_t, std::vector<ValueId>> extras_;
  std::map<std::pair<std::uint64_t, DType>, ValueId> constants_;
  std::vector<std::string> paths_;  // names of groups' members; made when needed
  std::vector<ValueId> asked_;
  std::vector<OpId> asked_extras_;
  std::vector<Taken> taken_;
  std::vector<char> keepable_;                                // by value of the region
  std::optional<SoftmaxForm> softmax_;                        // differentiated as one operation
  bool from_lse_ = false;  // attention: the weight is exp(x − lse), and its row sums are given
  ValueId lse_;                                               // of `from`, if it is a result there
  AxisList batch_;                                            // of its scores
};

}  // namespace gradc
