// Lays out one flat function: which buffer each value lies in, what is written in place, where a copy is
// needed, and at last the addresses. See passes/plan.cpp.
#include <algorithm>
#include <unordered_map>

#include <fmt/format.h>

#include "ir/diagnostic.h"
#include "ir/structure.h"
#include "passes/plan.h"

namespace gradc::planning {
namespace {

constexpr std::int64_t at_end = INT64_MAX;   // the time at which results are read

bool is_join(Opcode c) { return c == Opcode::concat_ || c == Opcode::flat_; }

std::int64_t aligned(std::int64_t n) { return (n + 63) / 64 * 64; }

class Layout {
 public:
  Layout(Program& program, const Function& f, Function& out)
      : program_(program), f_(f), to_(program, out), copy_(f, to_), spots_(f.values.size()),
        last_use_(f.values.size(), -1), alive_(f.ops.size(), 0), joined_(f.values.size(), 0), stays_(f.ops.size(), 0),
        parts_(f.ops.size()) {}

  void run() {
    liveness();
    place_arguments();
    known_places();
    place_results();
    for (std::size_t t = f_.body().ops.size(); t-- > 0;)
      if (alive_[op_at(t).index]) place(static_cast<std::int64_t>(t));
    write();
    assign_addresses();
  }

 private:
  OpId op_at(std::size_t t) const { return f_.body().ops[t]; }
  std::string_view text(NameId n) const { return program_.text(n); }
  std::int64_t bytes_of(ValueId v) const { return f_.elements(f_.type(v)) * bytes(f_.type(v).dtype); }

  // Positions of last use; a view, a concat or a flat passes its own on to its operands.
  void liveness() {
    for (ValueId v : f_.body().results) last_use_[v.index] = at_end;
    position_.assign(f_.ops.size(), -1);
    for (std::size_t t = f_.body().ops.size(); t-- > 0;) {
      const OpId id = op_at(t);
      const Op& op = f_.op(id);
      position_[id.index] = static_cast<std::int64_t>(t);
      std::int64_t use = -1;
      for (ValueId v : op.results) use = std::max(use, last_use_[v.index]);
      if (use < 0) continue;                     // nobody wants it
      alive_[id.index] = 1;
      const bool passes_on = is_static_view(op) || is_join(op.code);
      for (ValueId v : op.operands) {
        last_use_[v.index] = std::max(last_use_[v.index], passes_on ? use : static_cast<std::int64_t>(t));
        if (is_join(op.code)) joined_[v.index] = 1;
        if (is_static_view(op)) joined_[v.index] |= joined_[op.results[0].index];
      }
    }
  }

  // ---- what callers decide

  std::uint32_t new_buffer(Arena arena, std::int64_t size, bool arguments = false) {
    buffers_.push_back({arena, size, 0, arguments});
    return static_cast<std::uint32_t>(buffers_.size() - 1);
  }
  // The one buffer of an arena whose layout callers know.
  std::uint32_t arena_buffer(Arena arena) {
    std::uint32_t& b = of_arena_[static_cast<std::size_t>(arena)];
    if (b == Spot::none) b = new_buffer(arena, 0);
    return b;
  }
  void place_arguments() {
    of_arena_.fill(Spot::none);
    const std::vector<ValueId>& arguments = f_.body().arguments;
    for (const Group& g : f_.groups) {
      if (f_.value(g.first).def.valid() || (text(g.name) != "p" && text(g.name) != "f")) continue;
      const std::uint32_t b = arena_buffer(text(g.name) == "p" ? Arena::parameters : Arena::fixed);
      if (text(g.name) == "p") parameters_ = g.bundle;
      std::uint32_t i = 0;
      for (const Leaf& leaf : leaves(program_, g.bundle)) {
        const ValueId v{g.first.index + i++};
        set_argument(v, dense(f_, f_.type(v), b, leaf.offset * bytes(f_.type(v).dtype)));
      }
    }
    for (ValueId v : arguments) {
      if (spots_[v.index].valid()) continue;
      if (const Arena a = state_arena(text(f_.value(v).name), f_.type(v)); a != Arena::none) {
        set_argument(v, dense(f_, f_.type(v), arena_buffer(a), 0));
        continue;
      }
      set_argument(v, dense(f_, f_.type(v), arena_buffer(Arena::input), inputs_));
      inputs_ += aligned(bytes_of(v));
    }
  }
  void set_argument(ValueId v, const Spot& s) {
    spots_[v.index] = s;
    buffers_[s.buffer].arguments = true;
    argument_list_.push_back(v);
  }
  // Flat values of a step: all parameters, gradients or moments in one axis.
  Arena state_arena(std::string_view name, const Type& type) const {
    if (type.axes.size() != 1) return Arena::none;
    const bool ours = text(f_.name) == "update" ||
                      (parameters_.valid() && element_count(program_, parameters_) == f_.extent(type.axes[0]));
    if (!ours) return Arena::none;
    return name == "p" ? Arena::parameters : name == "g" ? Arena::gradients
         : name == "m" ? Arena::moment1    : name == "v" ? Arena::moment2 : Arena::none;
  }

  // Views of arguments, and `flat` of arguments that lie as it wants them: nothing moves.
  void known_places() {
    for (OpId id : f_.body().ops) {
      const Op& op = f_.op(id);
      if (is_static_view(op)) {
        const Spot& x = spots_[op.operands[0].index];
        Spot y;
        if (x.valid() && view_spot(f_, op, x, y)) spots_[op.results[0].index] = y;
      } else if (op.code == Opcode::flat_ && !op.operands.empty()) {
        const Spot& first = spots_[op.operands[0].index];
        if (!first.valid()) continue;
        const Spot whole = dense(f_, f_.type(op.results[0]), first.buffer, first.offset);
        const std::vector<Spot> parts = parts_of(program_, f_, op, whole);
        bool all = true;
        for (std::size_t i = 0; i < parts.size() && all; ++i)
          all = same_place(f_, f_.type(op.operands[i]), spots_[op.operands[i].index], parts[i]);
        if (!all) continue;
        spots_[op.results[0].index] = whole;
        stays_[id.index] = 1;
      }
    }
  }

  void place_results() {
    const Function& f = f_;
    std::vector<Leaf> members;
    if (parameters_.valid()) members = leaves(program_, parameters_);
    std::size_t gradient = 0;
    for (std::size_t i = 0; i < f.body().results.size(); ++i) {
      const ValueId v = f.body().results[i];
      const std::string_view name = i < f.result_names.size() ? text(f.result_names[i]) : std::string_view();
      Spot target;
      if (name.starts_with("g.") && gradient < members.size())
        target = dense(f, f.type(v), arena_buffer(Arena::gradients), members[gradient++].offset * bytes(f.type(v).dtype));
      else if (const Arena a = state_arena(name, f.type(v)); a != Arena::none)
        target = dense(f, f.type(v), arena_buffer(a), 0);
      else {
        target = dense(f, f.type(v), arena_buffer(Arena::output), outputs_);
        outputs_ += aligned(bytes_of(v));
      }
      if (!bring_result(v, target)) late_.push_back({i, target});
    }
  }
  // Makes `v` be written at the target by whoever makes it, if nobody needs what the target holds until then.
  bool bring_result(ValueId v, const Spot& target) {
    if (spots_[v.index].valid() && same_place(f_, f_.type(v), spots_[v.index], target)) return true;
    return (!buffers_[target.buffer].arguments || overwrites_safely(v, target)) && bring(v, target);
  }
  bool overwrites_safely(ValueId v, const Spot& target) const {
    const OpId def = f_.value(root(v)).def;
    if (!def.valid() || f_.op(def).code != Opcode::launch_) return false;
    const Op& launch = f_.op(def);
    const std::int64_t now = position_[def.index];
    const std::int64_t begin = target.offset, end = begin + bytes_of(v);
    for (ValueId a : argument_list_) {
      const Spot& s = spots_[a.index];
      const bool apart = s.buffer != target.buffer || s.offset >= end || s.offset + bytes_of(a) <= begin;
      if (!apart && last_use_[a.index] > now) return false;
    }
    if (root(v) != v) return false;
    const std::size_t r = result_index(launch, v);
    for (std::size_t i = 0; i < launch.operands.size(); ++i) {
      const ValueId x = launch.operands[i];
      if (spots_[x.index].buffer != target.buffer) continue;
      if (!may_overwrite(program_.function(launch.attr.callee), i, r) || !agree(launch, i, r, spots_[x.index], target))
        return false;
    }
    return true;
  }
  static std::size_t result_index(const Op& op, ValueId v) {
    return static_cast<std::size_t>(std::find(op.results.begin(), op.results.end(), v) - op.results.begin());
  }
  // Argument i of a kernel, at `a`, lies as result r at `b` does: axis for axis of the kernel.
  bool agree(const Op& launch, std::size_t i, std::size_t r, const Spot& a, const Spot& b) const {
    return a.buffer == b.buffer && same_place(f_, f_.type(launch.operands[i]), a, turned(launch, i, r, b));
  }
  // The place of result r, with its strides in the order of argument i's axes.
  Spot turned(const Op& launch, std::size_t i, std::size_t r, const Spot& of_result) const {
    const Function& k = program_.function(launch.attr.callee);
    const AxisList& from = k.type(k.body().results[r]).axes;
    const AxisList& to = k.type(k.body().arguments[i]).axes;
    Spot s{of_result.buffer, of_result.offset, {}};
    for (int x = 0; x < to.size(); ++x)
      s.strides[static_cast<std::size_t>(x)] = of_result.strides[static_cast<std::size_t>(from.index_of(to[x]))];
    return s;
  }

  // ---- backward: readers say where a value is to lie

  ValueId root(ValueId v) const {
    for (OpId d = f_.value(v).def; d.valid() && is_static_view(f_.op(d)); d = f_.value(v).def) v = f_.op(d).operands[0];
    return v;
  }
  // Puts `v` at the place by placing what it is a view of. False: that lies elsewhere already, or cannot.
  bool bring(ValueId v, Spot place) {
    for (OpId d = f_.value(v).def; d.valid() && is_static_view(f_.op(d)); d = f_.value(v).def) {
      Spot x;
      if (!invert_view(f_, f_.op(d), place, x)) return false;
      place = x;
      v = f_.op(d).operands[0];
    }
    Spot& s = spots_[v.index];
    if (s.valid()) return same_place(f_, f_.type(v), s, place);
    s = place;
    return true;
  }
  void place(std::int64_t t) {
    const OpId id = op_at(static_cast<std::size_t>(t));
    const Op& op = f_.op(id);
    if (op.code == Opcode::merge_) {
      // Ask for axes that follow each other; where that fails, write() copies.
      const ValueId v = op.results[0];
      if (const ValueId x = root(v); !spots_[x.index].valid() && f_.value(x).def.valid()) {
        const std::uint32_t b = new_buffer(Arena::activations, bytes_of(v));
        bring(v, dense(f_, f_.type(v), b, 0));
      }
      return;
    }
    if (is_static_view(op)) return;
    if (is_join(op.code)) return join(id);
    for (ValueId v : op.results)
      if (!spots_[v.index].valid())
        spots_[v.index] = dense(f_, f_.type(v), new_buffer(Arena::activations, bytes_of(v)), 0);
    if (op.code == Opcode::launch_) reuse(op, t);
  }
  void join(OpId id) {
    const Op& op = f_.op(id);
    const ValueId v = op.results[0];
    Spot& whole = spots_[v.index];
    if (stays_[id.index]) return;
    if (!whole.valid()) {
      // The gradients of a step are the flat of the parameters' bundle that is not the parameters.
      const bool gradients = op.code == Opcode::flat_ && op.attr.bundle == parameters_ &&
                             of_arena_[static_cast<std::size_t>(Arena::gradients)] == Spot::none;
      whole = dense(f_, f_.type(v), gradients ? arena_buffer(Arena::gradients) : new_buffer(Arena::activations, bytes_of(v)), 0);
    }
    std::vector<Part>& parts = parts_[id.index];
    for (const Spot& place : parts_of(program_, f_, op, whole)) {
      const ValueId x = op.operands[parts.size()];
      parts.push_back({place, bring_part(x, place)});
    }
  }
  // As bring(), but an operand that stands twice in one join is copied the second time.
  bool bring_part(ValueId x, const Spot& place) {
    const bool here = f_.value(root(x)).def.valid() && !spots_[root(x).index].valid();
    return here && bring(x, place);
  }
  bool argument_root(ValueId v) const { return !f_.value(root(v)).def.valid(); }

  // Results written over operands that die here: the operand gets the result's place.
  void reuse(const Op& op, std::int64_t t) {
    const Function& kernel = program_.function(op.attr.callee);
    std::vector<char> taken(op.operands.size(), 0);
    for (std::size_t r = 0; r < op.results.size(); ++r) {
      const Spot& place = spots_[op.results[r].index];
      if (buffers_[place.buffer].arguments) continue;
      for (std::size_t i = 0; i < op.operands.size(); ++i) {
        const ValueId x = root(op.operands[i]);
        const OpId def = f_.value(x).def;
        if (taken[i] || !def.valid() || is_join(f_.op(def).code) || joined_[x.index] || spots_[x.index].valid() ||
            last_use_[x.index] != t || bytes_of(x) != bytes_of(op.results[r]) || read_twice(op, x) ||
            !may_overwrite(kernel, i, r))
          continue;
        if (!bring(op.operands[i], turned(op, i, r, place))) continue;
        taken[i] = 1;
        break;
      }
    }
  }
  bool read_twice(const Op& op, ValueId x) const {
    return std::count_if(op.operands.begin(), op.operands.end(), [&](ValueId o) { return root(o) == x; }) > 1;
  }

  // ---- forward: the function with its copies

  void define(ValueId made, const Spot& s) {
    if (placed_.size() <= made.index) placed_.resize(made.index + 1);
    placed_[made.index] = s;
  }
  void write() {
    copy_.arguments();
    for (ValueId v : f_.body().arguments) define(copy_(v), spots_[v.index]);
    for (OpId id : f_.body().ops) {
      if (!alive_[id.index]) continue;
      const Op& op = f_.op(id);
      to_.at = op.loc;
      if (is_static_view(op)) {
        view(id);
        continue;
      }
      if (is_join(op.code))
        for (std::size_t i = 0; i < parts_[id.index].size(); ++i)
          if (const Part& part = parts_[id.index][i]; !part.there) again_.emplace_back(i, copied(copy_(op.operands[i]), part.place));
      if (again_.empty()) {
        copy_.clone(id);
      } else {
        std::vector<ValueId> operands;
        for (ValueId v : op.operands) operands.push_back(copy_(v));
        for (const auto& [i, v] : again_) operands[i] = v;
        again_.clear();
        to_.at = op.loc;
        join_copies(op, operands);
      }
      for (ValueId v : op.results) define(copy_(v), spots_[v.index]);
    }
    finish();
  }
  void join_copies(const Op& op, const std::vector<ValueId>& operands) {
    const Type type = copy_(f_.type(op.results[0]));
    const ValueId made = to_.add(op.code, operands, copy_(op.attr), type);
    copy_.map(op.results[0], made);
    to_.name(made, text(f_.value(op.results[0]).name));
  }
  void view(OpId id) {
    const Op& op = f_.op(id);
    const ValueId source = op.operands[0];
    Spot y;
    // Places of views follow from those of their operands, which may be copies.
    Spot x = placed_[copy_(source).index];
    if (!view_spot(f_, op, x, y)) {
      const ValueId original = copy_(source);
      const Type type = f_.type(source);
      Type order{type.dtype, {}};                // the inner axis of the merge right behind the outer one
      for (AxisId a : type.axes) {
        if (a == op.attr.axes[1]) continue;
        order.axes.push_back(a);
        if (a == op.attr.axes[0]) order.axes.push_back(op.attr.axes[1]);
      }
      x = dense(f_, order, new_buffer(Arena::activations, bytes_of(source)), 0);
      const ValueId made = copied(original, copy_(order), x);
      copy_.map(source, made);
      copy_.clone(id);
      copy_.map(source, original);
      Spot in_order = x;                         // as view_spot wants it: in the order of the source's type
      for (int i = 0; i < type.axes.size(); ++i)
        in_order.strides[static_cast<std::size_t>(i)] = x.strides[static_cast<std::size_t>(order.axes.index_of(type.axes[i]))];
      view_spot(f_, op, in_order, y);
    } else {
      copy_.clone(id);
    }
    define(copy_(op.results[0]), y);
  }

  ValueId copied(ValueId v, const Spot& place) { return copied(v, to_.type(v), place); }
  ValueId copied(ValueId v, const Type& type, const Spot& place) {
    const FunctionId kernel = copy_kernel(to_.type(v), type);
    const std::vector<Type> types{type};
    const std::vector<ValueId> operands{v};
    const ValueId made = to_.add_multi(Opcode::launch_, operands, {.callee = kernel}, types)[0];
    define(made, place);
    return made;
  }
  FunctionId copy_kernel(const Type& from, const Type& to) {
    Function k;
    k.family = Family::map;
    {
      Builder b(program_, k);
      Cloner axes(to_.function(), b);
      const ValueId x = b.argument(axes(from), "x");
      const ValueId y = b.add(Opcode::stop_, {x}, {}, axes(to));   // the identity
      const std::vector<ValueId> results{y};
      b.finish(results);
    }
    const auto [it, fresh] = copies_.try_emplace(structure_key(program_, k));
    if (fresh) {
      k.name = program_.intern(program_.unique_function_name("copy"));
      it->second = FunctionId{static_cast<std::uint32_t>(program_.functions.size())};
      program_.functions.push_back(std::move(k));
    }
    return it->second;
  }

  // Results that nobody could write where callers expect them. Copies into places that hold arguments come
  // last, and what such a copy reads is saved first if it is an argument itself.
  void finish() {
    std::vector<ValueId> results;
    for (ValueId v : f_.body().results) results.push_back(copy_(v));
    to_.at = {};
    std::stable_partition(late_.begin(), late_.end(), [&](const Late& l) { return !buffers_[l.target.buffer].arguments; });
    for (const Late& l : late_) {
      const ValueId v = f_.body().results[l.result];
      if (buffers_[l.target.buffer].arguments && argument_root(v))
        results[l.result] = copied(results[l.result], dense(f_, f_.type(v), new_buffer(Arena::activations, bytes_of(v)), 0));
    }
    for (const Late& l : late_) results[l.result] = copied(results[l.result], l.target);
    to_.finish(results, f_.result_names);
  }

  // ---- addresses

  void assign_addresses() {
    Function& out = to_.function();
    placed_.resize(out.values.size());
    std::vector<Interval> life(buffers_.size(), {0, INT64_MAX, -1});
    const auto touch = [&](ValueId v, std::int64_t t) {
      if (!placed_[v.index].valid()) return;
      Interval& i = life[placed_[v.index].buffer];
      i.first = std::min(i.first, t);
      i.last = std::max(i.last, t);
    };
    const std::int64_t n = static_cast<std::int64_t>(out.body().ops.size());
    for (std::int64_t t = 0; t < n; ++t) {
      const Op& op = out.op(out.body().ops[static_cast<std::size_t>(t)]);
      for (ValueId v : op.operands) touch(v, t);
      for (ValueId v : op.results) touch(v, t);
    }
    for (ValueId v : out.body().results) touch(v, n);
    std::vector<Interval> intervals;
    std::vector<std::size_t> which;
    for (std::size_t b = 0; b < buffers_.size(); ++b) {
      if (buffers_[b].arena != Arena::activations || life[b].last < 0) continue;
      life[b].bytes = buffers_[b].bytes;
      intervals.push_back(life[b]);
      which.push_back(b);
    }
    const Packing packing = pack(intervals);
    for (std::size_t i = 0; i < which.size(); ++i) buffers_[which[i]].base = packing.offsets[i];
    out.placed.assign(out.values.size(), {});
    for (std::size_t v = 0; v < out.values.size(); ++v)
      if (const Spot& s = placed_[v]; s.valid())
        out.placed[v] = {buffers_[s.buffer].arena, buffers_[s.buffer].base + s.offset, s.strides};
  }

  struct Part {
    Spot place;
    bool there;              // its maker writes it there; else a copy does
  };
  struct Late {
    std::size_t result;
    Spot target;
  };
  Program& program_;
  const Function& f_;
  Builder to_;
  Cloner copy_;
  std::vector<Spot> spots_;                  // by value of f_: arguments, views of them, results of operations
  std::vector<std::int64_t> last_use_, position_;
  std::vector<char> alive_, joined_;         // joined_: some concat or flat wants it inside
  std::vector<char> stays_;                  // by operation: a flat of arguments that lie as it wants them
  std::vector<std::vector<Part>> parts_;     // by operation
  std::vector<Buffer> buffers_;
  std::array<std::uint32_t, 9> of_arena_{};
  std::vector<ValueId> argument_list_;
  BundleId parameters_;
  std::int64_t inputs_ = 0, outputs_ = 0;
  std::vector<Late> late_;
  std::vector<std::pair<std::size_t, ValueId>> again_;
  std::vector<Spot> placed_;                 // by value of the new function
  std::unordered_map<std::string, FunctionId> copies_;
};

}  // namespace

Function lay_out(Program& program, const Function& flat) {
  Function out;
  out.name = flat.name;
  Layout(program, flat, out).run();
  return out;
}

}  // namespace gradc::planning
