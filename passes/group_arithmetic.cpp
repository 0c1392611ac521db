// The last step of grouping: a kernel's sums and products of elements in fewer operations.
//
// Here everything is known that reads a value, recognition is over and derivatives are taken, so that the
// form of an expression no longer has to be what somebody looks for:
//
//   - 1 + tanh x and 1 − tanh² x, of which GELU, SiLU and gates with their derivatives are made, become a
//     sigmoid of 2x where tanh is for nothing else: 1 + t = 2s, and 1 − t² = 4s(1 − s). It is one exponential
//     without the polynomial that tanh has near 0, and exact where tanh nears −1.
//   - Factors that terms of a sum share are taken out of it: x·c + x·x·x·d becomes x·(c + x·x·d), Horner's
//     scheme for what stands in the kernel.
//   - Constants meet.
//
// Sums, differences and products whose values nothing but others of them read form a tree, whose root
// something else reads. A tree is read as a sum of products (products of sums stay), factored, and written
// anew if that takes fewer operations of the root's axes; else it stays as it is, bit for bit. A product
// that is read several times within one tree alone is part of each, since factors that all its readers have
// are taken out again.
#include <algorithm>
#include <bit>
#include <cmath>
#include <map>
#include <optional>
#include <unordered_map>
#include <unordered_set>

#include "ir/builder.h"
#include "passes/group.h"
#include "passes/group_factor.h"

namespace gradc::grouping {
namespace {

class Arithmetic {
 public:
  Arithmetic(Program& program, const Function& f, Function& out)
      : program_(program), f_(f), to_(program, out), copy_(f, to_) {}

  void run() {
    readers_.resize(f_.values.size());
    for (OpId o : f_.body().ops)
      for (ValueId v : f_.op(o).operands) readers_[v.index].push_back(o);
    kept_.assign(f_.values.size(), 0);
    for (ValueId v : f_.body().results) kept_[v.index] = 1;
    find_sigmoids();
    find_trees();
    copy_.arguments();
    for (OpId o : f_.body().ops) write(o);
    std::vector<ValueId> results;
    for (ValueId v : f_.body().results) results.push_back(written(v));
    to_.finish(results, f_.result_names);
  }

 private:
  // ---- what forms trees

  bool is_arithmetic(const Op& op) const {
    if (op.code != Opcode::add_ && op.code != Opcode::sub_ && op.code != Opcode::mul_ &&
        op.code != Opcode::neg_)
      return false;
    const DType dtype = f_.type(op.results[0]).dtype;
    return dtype == DType::f32 || dtype == DType::f64;
  }
  // Infinity and NaN are values like any other: they have no place in a product's constant.
  std::optional<double> constant_of(ValueId v) const {
    const Op* const op = f_.definition(v);
    if (op == nullptr || op->code != Opcode::constant_ || !is_real(f_.type(v).dtype) ||
        !std::isfinite(op->attr.real))
      return std::nullopt;
    return op->attr.real;
  }
  bool is_square(const Op& op) const {
    return op.code == Opcode::mul_ && op.operands[0] == op.operands[1];
  }

  // Values of tanh that only 1 + t and 1 − t·t read.
  void find_sigmoids() {
    sigmoid_.assign(f_.values.size(), 0);
    const auto is_one = [&](ValueId v) { return constant_of(v) == 1; };
    for (OpId o : f_.body().ops) {
      const Op& op = f_.op(o);
      if (op.code != Opcode::tanh_) continue;
      const ValueId t = op.results[0];
      const auto serves = [&](OpId r) {
        const Op& reader = f_.op(r);
        if (!is_arithmetic(reader)) return false;
        if (reader.code == Opcode::add_)
          return is_one(reader.operands[0]) || is_one(reader.operands[1]);
        if (!is_square(reader)) return false;
        const ValueId square = reader.results[0];
        const std::vector<OpId>& of_square = readers_[square.index];
        return kept_[square.index] == 0 &&
               std::all_of(of_square.begin(), of_square.end(), [&](OpId d) {
                 const Op& difference = f_.op(d);
                 return is_arithmetic(difference) && difference.code == Opcode::sub_ &&
                        is_one(difference.operands[0]);
               });
      };
      const std::vector<OpId>& of_t = readers_[t.index];
      sigmoid_[t.index] = kept_[t.index] == 0 && !of_t.empty() &&
                          std::all_of(of_t.begin(), of_t.end(), serves);
    }
  }

  // Which values are parts of their readers' trees.
  void find_trees() {
    constexpr std::uint32_t several = UINT32_MAX - 1, none = UINT32_MAX;
    part_.assign(f_.values.size(), 0);
    std::vector<std::uint32_t> wanted(f_.values.size(), none);
    const auto want = [&](ValueId v, std::uint32_t tree) {
      std::uint32_t& w = wanted[v.index];
      w = w == none || w == tree ? tree : several;
    };
    for (ValueId v : f_.body().results) want(v, several);
    for (std::size_t n = f_.body().ops.size(); n-- > 0;) {
      const Op& op = f_.op(f_.body().ops[n]);
      std::uint32_t tree = several;
      if (is_arithmetic(op)) {
        const ValueId v = op.results[0];
        tree = wanted[v.index];
        const bool once = readers_[v.index].size() == 1;
        if (tree < several && (once || (op.code == Opcode::mul_ && !is_square_of_sigmoid(op))))
          part_[v.index] = 1;
        else
          tree = v.index;
      }
      for (ValueId x : op.operands) want(x, tree);
    }
    // Of products that several read, none within another: each is read as often as the outer ones are.
    std::vector<char> holds_shared(f_.values.size(), 0);
    for (OpId o : f_.body().ops) {
      const Op& op = f_.op(o);
      const ValueId v = op.results[0];
      if (!is_arithmetic(op)) continue;
      const bool shared = part_[v.index] != 0 && readers_[v.index].size() > 1;
      bool below = false;
      for (ValueId x : op.operands) below = below || holds_shared[x.index] != 0;
      if (shared && below)
        for (ValueId x : op.operands) keep_apart(x);
      holds_shared[v.index] = part_[v.index] != 0 && (shared || below);
    }
  }
  void keep_apart(ValueId v) {
    if (part_[v.index] == 0) return;
    if (readers_[v.index].size() > 1) {
      part_[v.index] = 0;
      return;
    }
    for (ValueId x : f_.definition(v)->operands) keep_apart(x);
  }
  bool is_square_of_sigmoid(const Op& op) const {
    return is_square(op) && sigmoid_[op.operands[0].index] != 0;
  }

  // ---- reading a tree

  Sum sum_of(ValueId v, Factoring& in) {
    if (const auto c = constant_of(v)) return {{*c, {}}};
    if (sigmoid_[v.index] != 0) return {{2, {copy_(v).index}}, {-1, {}}};
    if (part_[v.index] != 0) return sum_of(*f_.definition(v), in);
    if (const auto it = multiples_.find(v); it != multiples_.end()) return {it->second};
    return value_of(copy_(v));
  }
  Sum sum_of(const Op& op, Factoring& in) {
    const Sum a = sum_of(op.operands[0], in);
    if (op.code == Opcode::neg_) return scaled(a, -1);
    if (is_square_of_sigmoid(op)) {  // (2s − 1)² = 1 − 4s·(1 − s), which is subtracted from 1
      const Sum one{{1, {}}}, s = value_of(copy_(op.operands[0]));
      const Sum slope = in.multiplied(added(one, scaled(s, -1)), s);
      return added(one, scaled(slope, -4));
    }
    const Sum b = sum_of(op.operands[1], in);
    if (op.code == Opcode::mul_) return in.multiplied(a, b);
    return added(a, op.code == Opcode::sub_ ? scaled(b, -1) : b);
  }

  // ---- writing

  // The operations of the tree of `root`, in order.
  std::vector<OpId> tree_of(ValueId root) const {
    std::vector<OpId> ops;
    std::vector<ValueId> work{root};
    while (!work.empty()) {
      const OpId o = f_.value(work.back()).def;
      work.pop_back();
      ops.push_back(o);
      for (ValueId x : f_.op(o).operands)
        if (part_[x.index] != 0) work.push_back(x);
    }
    std::sort(ops.begin(), ops.end(), [](OpId a, OpId b) { return a.index < b.index; });
    ops.erase(std::unique(ops.begin(), ops.end()), ops.end());
    return ops;
  }

  void write(OpId id) {
    const Op& op = f_.op(id);
    const ValueId v = op.results[0];
    if (part_[v.index] != 0) return;               // its root's turn
    if (constant_of(v)) return;                    // where it is read
    if (is_arithmetic(op)) return write_tree(v);
    if (sigmoid_[v.index] == 0) return clone(id);
    to_.at = op.loc;
    ValueId x = written(op.operands[0]);
    if (!is_doubled(op.operands[0]))
      x = to_.binary(Opcode::mul_, x, constant(2, f_.type(v).dtype));
    copy_.map(v, to_.add(Opcode::sigmoid_, {x}, {}, copy_(f_.type(v))));
  }
  void clone(OpId id) {
    for (ValueId x : f_.op(id).operands) written(x);
    copy_.clone(id);
  }
  ValueId written(ValueId v) {
    if (!copy_.mapped(v)) copy_.clone(f_.value(v).def);  // a constant
    return copy_(v);
  }
  ValueId constant(double c, DType dtype) {
    const auto [it, fresh] = constants_.try_emplace({std::bit_cast<std::uint64_t>(c), dtype});
    if (fresh) it->second = to_.constant(c, dtype);
    return it->second;
  }

  void write_tree(ValueId root) {
    const std::vector<OpId> ops = tree_of(root);
    const Type& type = f_.type(root);
    const auto is_full = [&](const AxisList& axes) { return axes.size() == type.axes.size(); };
    const bool doubled = is_doubled(root);
    bool must = doubled;  // what stood there before is no longer there to be read
    bool of_sigmoid = false;
    int before = 0;
    for (OpId o : ops) {
      if (is_full(f_.type(f_.op(o).results[0]).axes)) ++before;
      for (ValueId x : f_.op(o).operands) {
        of_sigmoid = of_sigmoid || sigmoid_[x.index] != 0;
        must = must || of_sigmoid || multiples_.contains(x);
      }
    }
    Factoring expression(to_.function());
    const Sum s = scaled(sum_of(*f_.definition(root), expression), doubled ? 2 : 1);
    if (of_sigmoid && s.size() == 1 && s[0].factors.size() == 1 && s[0].factors[0] >= 0 &&
        read_by_arithmetic(root)) {
      multiples_[root] = s[0];
      return;
    }
    const std::vector<Step>& steps = expression.steps(s);
    const auto after = std::count_if(steps.begin(), steps.end(), [&](const Step& n) {
      return n.kind == Step::operation && is_full(n.axes);
    });
    if (!must && after >= before) {
      for (OpId o : ops) clone(o);
      return;
    }
    to_.at = f_.definition(root)->loc;  // whose role it has
    for (OpId o : ops) to_.at = program_.unite(to_.at, f_.op(o).loc);
    if (steps.back().kind == Step::leaf) return write_as(root, steps.back().value);
    std::vector<ValueId> made;
    for (const Step& step : steps) {
      const bool last = &step == &steps.back();
      if (step.kind == Step::leaf)
        made.push_back(step.value);
      else if (step.kind == Step::constant)
        made.push_back(constant(step.number, type.dtype));
      else
        made.push_back(add(step, made, last ? copy_(type) : Type{type.dtype, step.axes}));
    }
    copy_.map(root, made.back());
    to_.name(made.back(), program_.text(f_.value(root).name));
  }
  // The value is another one. A result is itself only if it is a sigmoid that no other result is, and has
  // its own order of axes.
  void write_as(ValueId root, ValueId same) {
    const Op* const made = to_.function().definition(same);
    const bool hands_out = made != nullptr && made->code == Opcode::sigmoid_;
    const Type type = copy_(f_.type(root));
    if (to_.type(same) == type &&
        (kept_[root.index] == 0 || (hands_out && handed_out_.insert(same).second)))
      return copy_.map(root, same);
    const ValueId one = constant(1, type.dtype);
    copy_.map(root, to_.add(Opcode::mul_, {same, one}, {}, type));
    to_.name(copy_(root), program_.text(f_.value(root).name));
  }
  ValueId add(const Step& step, const std::vector<ValueId>& made, const Type& type) {
    const ValueId a = made[static_cast<std::size_t>(step.a)];
    if (step.b < 0) return to_.add(step.code, {a}, {}, type);
    return to_.add(step.code, {a, made[static_cast<std::size_t>(step.b)]}, {}, type);
  }
  // Whether the value is written twice as large, for the sigmoid that alone reads it.
  bool is_doubled(ValueId v) const {
    const std::vector<OpId>& readers = readers_[v.index];
    const Op* const op = f_.definition(v);
    return op != nullptr && is_arithmetic(*op) && kept_[v.index] == 0 && readers.size() == 1 &&
           f_.op(readers[0]).code == Opcode::tanh_ &&
           sigmoid_[f_.op(readers[0]).results[0].index] != 0;
  }
  bool read_by_arithmetic(ValueId v) const {
    const std::vector<OpId>& readers = readers_[v.index];
    return kept_[v.index] == 0 && std::all_of(readers.begin(), readers.end(), [&](OpId o) {
             return is_arithmetic(f_.op(o));
           });
  }

  Program& program_;
  const Function& f_;
  Builder to_;
  Cloner copy_;
  std::vector<std::vector<OpId>> readers_;  // by value, as those below
  std::vector<char> kept_;                  // a result
  std::vector<char> sigmoid_;               // a tanh that becomes one
  std::vector<char> part_;                  // of its readers' tree
  std::unordered_map<ValueId, Product> multiples_;  // of one factor, written where they are read
  std::map<std::pair<std::uint64_t, DType>, ValueId> constants_;  // by bits
  std::unordered_set<ValueId> handed_out_;  // sigmoids that are a result
};

}  // namespace

Function in_fewer_operations(Program& program, const Function& kernel) {
  Function out;
  out.name = kernel.name;
  out.family = kernel.family;
  Arithmetic(program, kernel, out).run();
  return out;
}

}  // namespace gradc::grouping
