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

namespace gradc::grouping {
namespace {

// Values of the new function, and, counted down from −1, sums that stand as factors.
using Factor = std::int64_t;
struct Product {
  double constant = 1;
  std::vector<Factor> factors;  // sorted
};
using Sum = std::vector<Product>;

// An operation, or a leaf: a factor or a constant.
struct Node {
  enum Kind : std::uint8_t { leaf, constant, operation } kind = leaf;
  Opcode code = Opcode::add_;
  int a = -1, b = -1;  // nodes; b −1: unary
  ValueId value;       // leaf
  double number = 0;   // constant
  AxisList axes;
};

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
  const Op* arithmetic(ValueId v) const {
    const Op* const op = f_.definition(v);
    return op != nullptr && is_arithmetic(*op) ? op : nullptr;
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

  Sum sum_of(ValueId v) {
    if (const auto c = constant_of(v)) return {{*c, {}}};
    if (sigmoid_[v.index] != 0) return {{2, {factor(copy_(v))}}, {-1, {}}};
    if (part_[v.index] != 0) return sum_of(*f_.definition(v));
    if (const auto it = multiples_.find(v); it != multiples_.end()) return {it->second};
    return {{1, {factor(copy_(v))}}};
  }
  Sum sum_of(const Op& op) {
    const Sum a = sum_of(op.operands[0]);
    if (op.code == Opcode::neg_) return scaled(a, -1);
    if (is_square_of_sigmoid(op)) {  // (2s − 1)² = 1 − 4s·(1 − s), which is subtracted from 1
      const Factor s = factor(copy_(op.operands[0]));
      return {{1, {}}, {-4, {nested({{1, {}}, {-1, {s}}}), s}}};
    }
    const Sum b = sum_of(op.operands[1]);
    if (op.code != Opcode::mul_) {
      Sum all = a;
      const Sum more = op.code == Opcode::sub_ ? scaled(b, -1) : b;
      all.insert(all.end(), more.begin(), more.end());
      return with_one_constant(all);
    }
    if (is_constant(a)) return scaled(b, a[0].constant);
    if (is_constant(b)) return scaled(a, b[0].constant);
    return {times(as_product(a), as_product(b))};
  }
  static Factor factor(ValueId v) { return v.index; }
  static bool is_constant(const Sum& s) { return s.size() == 1 && s[0].factors.empty(); }
  static Sum scaled(Sum s, double c) {
    for (Product& p : s) p.constant *= c;
    return s;
  }
  // Terms without factors as one, where the first of them stood; none if several are 0 together.
  static Sum with_one_constant(const Sum& s) {
    Sum out;
    double constant = 0;
    std::ptrdiff_t at = 0, met = 0;
    for (const Product& p : s) {
      if (!p.factors.empty()) {
        out.push_back(p);
        continue;
      }
      if (met++ == 0) at = std::ssize(out);
      constant += p.constant;
    }
    if (met > 0 && (met == 1 || constant != 0 || out.empty())) out.insert(out.begin() + at, {constant, {}});
    return out;
  }
  static Product times(Product a, const Product& b) {
    a.constant *= b.constant;
    a.factors.insert(a.factors.end(), b.factors.begin(), b.factors.end());
    std::sort(a.factors.begin(), a.factors.end());
    return a;
  }
  static std::vector<Factor> without(const std::vector<Factor>& from,
                                     const std::vector<Factor>& what) {
    std::vector<Factor> rest;
    std::set_difference(from.begin(), from.end(), what.begin(), what.end(),
                        std::back_inserter(rest));
    return rest;
  }
  static std::vector<Factor> common(const Sum& s) {
    std::vector<Factor> all = s[0].factors;
    for (const Product& p : s) {
      std::vector<Factor> both;
      std::set_intersection(all.begin(), all.end(), p.factors.begin(), p.factors.end(),
                            std::back_inserter(both));
      all = std::move(both);
    }
    return all;
  }
  // A sum as a product: what all its terms share, and what is left as one factor.
  Product as_product(const Sum& s) {
    if (s.size() == 1) return s[0];
    Product out{1, common(s)};
    const double size = std::abs(s[0].constant);
    const bool alike = std::all_of(
        s.begin(), s.end(), [&](const Product& p) { return std::abs(p.constant) == size; });
    if (alike) out.constant = size;
    Sum rest;
    for (const Product& p : s)
      rest.push_back({p.constant / out.constant, without(p.factors, out.factors)});
    out.factors.push_back(nested(rest));
    std::sort(out.factors.begin(), out.factors.end());
    return out;
  }
  // The factor that stands for a sum: the same for the same.
  Factor nested(const Sum& s) {
    std::vector<std::pair<std::uint64_t, std::vector<Factor>>> key;
    for (const Product& p : s) key.emplace_back(std::bit_cast<std::uint64_t>(p.constant), p.factors);
    const auto [it, fresh] = nested_.try_emplace(key, -1 - static_cast<Factor>(sums_.size()));
    if (fresh) sums_.push_back(s);
    return it->second;
  }

  // ---- factoring: nodes, which become operations only if they are fewer

  AxisList axes_of(Factor x) const {
    if (x < 0) return axes_of(sums_[static_cast<std::size_t>(-1 - x)]);
    return to_.type(ValueId{static_cast<std::uint32_t>(x)}).axes;
  }
  AxisList axes_of(const Sum& s) const {
    AxisList out;
    for (const Product& p : s)
      for (Factor y : p.factors) out = unite(out, axes_of(y));
    return out;
  }
  int number(double c) {
    nodes_.push_back({.kind = Node::constant, .number = c});
    return static_cast<int>(nodes_.size()) - 1;
  }
  int operation(Opcode code, int a, int b = -1) {
    AxisList axes = nodes_[static_cast<std::size_t>(a)].axes;
    if (b >= 0) axes = unite(axes, nodes_[static_cast<std::size_t>(b)].axes);
    nodes_.push_back({.kind = Node::operation, .code = code, .a = a, .b = b, .axes = axes});
    return static_cast<int>(nodes_.size()) - 1;
  }
  int node_of(Factor x) {
    const auto it = node_of_.find(x);
    if (it != node_of_.end()) return it->second;
    int n = 0;
    if (x < 0) {
      n = node_of_sum(sums_[static_cast<std::size_t>(-1 - x)]);
    } else {
      const ValueId v{static_cast<std::uint32_t>(x)};
      nodes_.push_back({.kind = Node::leaf, .value = v, .axes = to_.type(v).axes});
      n = static_cast<int>(nodes_.size()) - 1;
    }
    return node_of_[x] = n;
  }
  // Factors of fewer axes first: their products are computed less often.
  int node_of_product(const Product& p, int last = -1) {
    std::vector<int> factors;
    for (Factor x : p.factors) factors.push_back(node_of(x));
    if (last >= 0) factors.push_back(last);
    if (factors.empty()) return number(p.constant);
    const auto rank = [&](int n) { return nodes_[static_cast<std::size_t>(n)].axes.size(); };
    std::stable_sort(factors.begin(), factors.end(),
                     [&](int a, int b) { return rank(a) < rank(b); });
    const bool scales = p.constant != 1 && p.constant != -1;
    const bool early = rank(factors.front()) < rank(factors.back());
    int out = factors[0];
    if (scales && early) out = operation(Opcode::mul_, out, number(p.constant));
    for (std::size_t k = 1; k < factors.size(); ++k)
      out = operation(Opcode::mul_, out, factors[k]);
    if (scales && !early) out = operation(Opcode::mul_, out, number(p.constant));
    return p.constant == -1 ? operation(Opcode::neg_, out) : out;
  }
  int node_of_sum(const Sum& s) {
    if (s.size() == 1) return node_of_product(s[0]);
    // The factor that most terms have, unless what it multiplies has fewer axes: 1 − rate · decay of a
    // parameter is rounded to a parameter's size less well by itself.
    const auto rank = axes_of(s).size();
    std::map<Factor, int> terms;
    for (const Product& p : s)
      for (std::size_t k = 0; k < p.factors.size(); ++k)
        if (k == 0 || p.factors[k] != p.factors[k - 1]) ++terms[p.factors[k]];
    Sum with, rest;
    std::vector<Factor> shared;
    int most = 1;
    for (const auto& [x, count] : terms) {
      if (count <= most) continue;
      Sum having, others;
      for (const Product& p : s)
        (std::binary_search(p.factors.begin(), p.factors.end(), x) ? having : others).push_back(p);
      const std::vector<Factor> out = common(having);
      for (Product& p : having) p.factors = without(p.factors, out);
      if (axes_of(having).size() < rank) continue;
      most = count;
      with = std::move(having);
      rest = std::move(others);
      shared = out;
    }
    if (most == 1) return node_of_terms(s);
    const int product = node_of_product({1, shared}, node_of_sum(with));
    if (rest.empty()) return product;
    if (rest.size() == 1 && rest[0].constant < 0)
      return operation(Opcode::sub_, product, node_of_product({-rest[0].constant, rest[0].factors}));
    return operation(Opcode::add_, product, node_of_sum(rest));
  }
  // One by one, in order, a positive one first.
  int node_of_terms(const Sum& s) {
    auto first = std::find_if(s.begin(), s.end(), [](const Product& p) { return p.constant > 0; });
    if (first == s.end()) first = s.begin();
    int out = node_of_product(*first);
    for (auto p = s.begin(); p != s.end(); ++p) {
      if (p == first) continue;
      const bool minus = p->constant < 0;
      const int term = node_of_product({minus ? -p->constant : p->constant, p->factors});
      out = operation(minus ? Opcode::sub_ : Opcode::add_, out, term);
    }
    return out;
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
    if (!is_doubled(op.operands[0])) x = to_.binary(Opcode::mul_, x, constant(2, f_.type(v).dtype));
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
    sums_.clear();
    nested_.clear();
    nodes_.clear();
    node_of_.clear();
    bool must = is_doubled(root);  // what stood there before is no longer there to be read
    bool of_sigmoid = false;
    int before = 0;
    for (OpId o : ops) {
      if (is_full(f_.type(f_.op(o).results[0]).axes)) ++before;
      for (ValueId x : f_.op(o).operands) {
        of_sigmoid = of_sigmoid || sigmoid_[x.index] != 0;
        must = must || of_sigmoid || multiples_.contains(x);
      }
    }
    const Sum s = scaled(sum_of(*f_.definition(root)), is_doubled(root) ? 2 : 1);
    if (of_sigmoid && s.size() == 1 && s[0].factors.size() == 1 && s[0].factors[0] >= 0 &&
        read_by_arithmetic(root)) {
      multiples_[root] = s[0];
      return;
    }
    node_of_sum(s);
    int after = 0;
    for (const Node& n : nodes_)
      if (n.kind == Node::operation && is_full(n.axes)) ++after;
    if (!must && after >= before) {
      for (OpId o : ops) clone(o);
      return;
    }
    to_.at = f_.definition(root)->loc;  // whose role it has
    for (OpId o : ops) to_.at = program_.unite(to_.at, f_.op(o).loc);
    if (const ValueId only = nodes_.back().value; nodes_.back().kind == Node::leaf) {
      const Op* const made = to_.function().definition(only);
      const bool hands_out = made != nullptr && made->code == Opcode::sigmoid_;
      if (to_.type(only) == copy_(type) &&
          (kept_[root.index] == 0 || (hands_out && handed_out_.insert(only).second)))
        return copy_.map(root, only);
      const int leaf = static_cast<int>(nodes_.size()) - 1, one = number(1);
      operation(Opcode::mul_, leaf, one);
    }
    std::vector<ValueId> made;
    for (const Node& node : nodes_) {
      const bool last = &node == &nodes_.back();
      if (node.kind == Node::leaf)
        made.push_back(node.value);
      else if (node.kind == Node::constant)
        made.push_back(constant(node.number, type.dtype));
      else
        made.push_back(add(node, made, last ? copy_(type) : Type{type.dtype, node.axes}));
    }
    copy_.map(root, made.back());
    to_.name(made.back(), program_.text(f_.value(root).name));
  }
  ValueId add(const Node& node, const std::vector<ValueId>& made, const Type& type) {
    const ValueId a = made[static_cast<std::size_t>(node.a)];
    if (node.b < 0) return to_.add(node.code, {a}, {}, type);
    return to_.add(node.code, {a, made[static_cast<std::size_t>(node.b)]}, {}, type);
  }
  // Whether the value is written twice as large, for the sigmoid that alone reads it.
  bool is_doubled(ValueId v) const {
    const std::vector<OpId>& readers = readers_[v.index];
    return arithmetic(v) != nullptr && kept_[v.index] == 0 && readers.size() == 1 &&
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
  // Of the tree that is being written:
  std::vector<Sum> sums_;
  std::map<std::vector<std::pair<std::uint64_t, std::vector<Factor>>>, Factor> nested_;
  std::vector<Node> nodes_;
  std::unordered_map<Factor, int> node_of_;
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
