// spread_norm: the norm of all gradients without a pass over them.
//
// @update begins with Σ g² over the flat gradient: four bytes a parameter read again, long after
// they were written. Here each function from @grad down also gives a vector of sums of squares that
// add up to that, computed where a gradient is made, so that grouping can put them into the kernel
// that makes it (the totals of a contract kernel, ir/README.md):
//
//   - a gradient that a call gives is the callee's matter, if all its calls ask for the same and it
//     is not small;
//   - one that is small, and no contraction's, is added to others of the same axes, those of as
//     many turns of a `repeat` together as divide their number: so the kernels that do it are as
//     many for any depth;
//   - any other has a sum of its own: if @grad itself makes it, in @update, which reads it anyway.
//
// A turn of a `repeat` has its vector once a call. The order of all additions follows from the
// program. Nothing changes where @update has no such sum: members that do not clip, no @update.
#include <algorithm>
#include <iterator>
#include <map>
#include <set>

#include "ir/builder.h"
#include "passes/passes.h"

namespace gradc {
namespace {

constexpr std::int64_t small = std::int64_t{1} << 16;  // elements; more deserve their own kernel

constexpr std::size_t most = 32;  // such gradients in one sum: a kernel has a bound

// Σ g² of @update: the sum, and where the gradients stand among the arguments.
struct NormSum {
  OpId sum;
  std::size_t first = 0, count = 0;
};
bool find_sum(const Function& update, NormSum& out) {
  const std::vector<ValueId>& arguments = update.body().arguments;
  for (OpId id : update.body().ops) {
    const Op& sum = update.op(id);
    if (sum.code != Opcode::sum_ || !update.type(sum.results[0]).axes.empty()) continue;
    const OpId square = update.value(sum.operands[0]).def;
    if (!square.valid() || update.op(square).code != Opcode::mul_) continue;
    const std::vector<ValueId>& factors = update.op(square).operands;
    const OpId flat = update.value(factors[0]).def;
    if (factors[0] != factors[1] || !flat.valid() || update.op(flat).code != Opcode::flat_)
      continue;
    const std::vector<ValueId>& members = update.op(flat).operands;
    const auto at = std::search(arguments.begin(), arguments.end(), members.begin(), members.end());
    if (members.empty() || at == arguments.end()) continue;
    out = {id, static_cast<std::size_t>(at - arguments.begin()), members.size()};
    return true;
  }
  return false;
}

// `count` squares, as many from each of `turns`, in stretches of at most `most`: all alike, whole
// turns each, unless those of one turn are too many already.
std::vector<std::pair<std::size_t, std::size_t>> stretches(std::size_t count, std::size_t turns) {
  if (count % turns != 0) turns = 1;
  const std::size_t each = count / turns;
  std::size_t together = std::clamp<std::size_t>(most / each, 1, turns);
  while (turns % together != 0) --together;
  std::vector<std::pair<std::size_t, std::size_t>> out;
  for (std::size_t begin = 0; begin < count; begin += together * each)
    for (std::size_t i = begin; i < begin + together * each; i += most)
      out.emplace_back(i, std::min(i + most, begin + together * each));
  return out;
}

// What a function's value is made from by views that keep all elements.
ValueId source(const Function& f, ValueId v) {
  for (;;) {
    const OpId def = f.value(v).def;
    if (!def.valid()) return v;
    const Op& op = f.op(def);
    if (op.code != Opcode::relabel_ && op.code != Opcode::split_ && op.code != Opcode::merge_)
      return v;
    v = op.operands[0];
  }
}

class Spread {
 public:
  explicit Spread(Program& program) : p_(program) {}

  // Whether something changed.
  bool run() {
    const FunctionId grad = p_.find("grad"), update = p_.find("update"), step = p_.find("step");
    NormSum norm;
    if (!grad.valid() || !update.valid() || !step.valid()) return false;
    if (!find_sum(p_.function(update), norm) || !passes_all(grad, update, step, norm)) return false;
    std::vector<std::size_t> all(norm.count);
    for (std::size_t i = 0; i < all.size(); ++i) all[i] = i;
    ask(grad, all);
    grad_ = grad;
    const std::vector<FunctionId> order = reachable(p_, {grad});  // callees first
    for (std::size_t i = order.size(); i-- > 0;) ask_callees(order[i]);
    for (FunctionId f : order)
      if (wanted(f) != nullptr) rewrite(f);
    take_in_update(update, norm);
    hand_over(step, grad, update);
    return true;
  }

 private:
  // @step gives all gradients, in order, from @grad to @update.
  bool passes_all(FunctionId grad, FunctionId update, FunctionId step, const NormSum& norm) const {
    const Op *made = nullptr, *taken = nullptr;
    for (const Op& op : p_.function(step).ops) {
      if (op.code != Opcode::call_) continue;
      if (op.attr.callee == grad) made = &op;
      if (op.attr.callee == update) taken = &op;
    }
    return made != nullptr && taken != nullptr && made->results.size() >= norm.count &&
           std::equal(made->results.begin(),
                      made->results.begin() + static_cast<std::ptrdiff_t>(norm.count),
                      taken->operands.begin() + static_cast<std::ptrdiff_t>(norm.first));
  }

  // ---- which results of which functions are asked for, callers first
  using Asked = std::vector<std::size_t>;
  // A call that asks for less leaves the rest to its callers.
  void ask(FunctionId f, const Asked& results) {
    const auto [it, fresh] = asked_.try_emplace(f.index, results);
    if (fresh) return;
    Asked both;
    std::set_intersection(it->second.begin(), it->second.end(), results.begin(), results.end(),
                          std::back_inserter(both));
    it->second = both;
  }
  const Asked* wanted(FunctionId f) const {
    const auto it = asked_.find(f.index);
    return it == asked_.end() || it->second.empty() ? nullptr : &it->second;
  }
  void ask_callees(FunctionId id) {
    const Function& f = p_.function(id);
    if (f.family != Family::none) return;
    std::set<std::uint32_t> sources;
    if (const Asked* asked = wanted(id))
      for (std::size_t r : *asked) sources.insert(source(f, f.body().results[r]).index);
    for (const Op& op : f.ops) {
      if (op.code != Opcode::call_) continue;
      Asked results;
      for (std::size_t r = 0; r < op.results.size(); ++r)
        if (sources.contains(op.results[r].index) && worth_its_own(op.attr.callee, r))
          results.push_back(r);
      ask(op.attr.callee, results);
    }
  }

  bool worth_its_own(FunctionId id, std::size_t result) const {
    const Function& f = p_.function(id);
    const ValueId v = source(f, f.body().results[result]);
    const OpId def = f.value(v).def;
    return def.valid() && (f.op(def).code == Opcode::contract_ || f.op(def).code == Opcode::call_ ||
                           f.elements(f.type(v)) > small);
  }

  // ---- the functions anew

  // Squares of one function in the making: terms of the vector that it gives.
  struct Squares {
    std::vector<ValueId> parts;
    std::vector<AxisId> axes;  // invalid: a single one
  };
  static ValueId sum_of(Builder& to, ValueId squares) {
    return to.sum(squares, to.type(squares).axes);
  }
  static void add(Squares& squares, ValueId one) {
    squares.parts.push_back(one);
    squares.axes.push_back({});
  }

  void rewrite(FunctionId id) {
    const Function from = p_.function(id);
    Function made{.name = from.name};
    Builder to(p_, made);
    Cloner copy(from, to);
    copy.arguments();
    std::map<std::uint32_t, Asked> open;  // the results for which a value's squares are still asked
    for (std::size_t r : *wanted(id))
      open[source(from, from.body().results[r]).index].push_back(r);
    Squares squares;
    struct Few {
      std::vector<ValueId> squares;
      std::size_t turns = 1;  // that they come from, in order
    };
    std::map<std::pair<std::uint32_t, std::set<AxisId>>, Few> few;  // by callee and axes
    std::map<std::uint32_t, std::size_t> calls;
    for (const Op& op : from.ops)
      if (op.code == Opcode::call_) ++calls[op.attr.callee.index];
    const auto take = [&](ValueId v, bool product) {
      const auto it = open.find(v.index);
      if (it == open.end()) return;
      for (const std::size_t r : it->second) {
        const ValueId x = copy(v);
        const AxisList axes = to.type(x).axes;  // types move as values are made
        const bool large = made.elements(to.type(x)) > small;
        if (large && !product && id == grad_) {
          left_.push_back(r);
          continue;
        }
        const ValueId square = to.binary(Opcode::mul_, x, x);
        if (product || large)
          add(squares, sum_of(to, square));
        else if (const OpId def = from.value(v).def;
                 def.valid() && from.op(def).code == Opcode::call_) {
          const std::uint32_t callee = from.op(def).attr.callee.index;
          Few& list = few[{callee, {axes.begin(), axes.end()}}];
          list.squares.push_back(square);
          list.turns = calls[callee];
        } else {
          few[{UINT32_MAX, {axes.begin(), axes.end()}}].squares.push_back(square);
        }
      }
      it->second.clear();
    };
    // A gradient may be an argument: in a product of two parameters it is the other one.
    for (ValueId v : from.body().arguments) take(v, false);
    for (OpId o : from.body().ops) {
      const Op& op = from.op(o);
      to.at = op.loc;
      if (op.code == Opcode::call_ && wanted(op.attr.callee) != nullptr) {
        call(from, op, to, copy, squares);
        for (std::size_t r : *wanted(op.attr.callee))
          if (const auto it = open.find(op.results[r].index); it != open.end()) it->second.clear();
      } else {
        copy.clone(o);
      }
      for (ValueId v : op.results) take(v, op.code == Opcode::contract_);
    }
    for (const auto& [from_where, list] : few)
      for (const auto& [begin, end] : stretches(list.squares.size(), list.turns)) {
        ValueId all = list.squares[begin];
        for (std::size_t k = begin + 1; k < end; ++k)
          all = to.binary(Opcode::add_, all, list.squares[k]);
        add(squares, sum_of(to, all));
      }
    if (squares.parts.empty()) {  // the vector has one at least
      const ValueId x = copy(from.body().results[left_.back()]);
      left_.pop_back();
      add(squares, sum_of(to, to.binary(Opcode::mul_, x, x)));
    }
    std::vector<ValueId> results;
    for (ValueId v : from.body().results) results.push_back(copy(v));
    results.push_back(vector_of(to, squares));
    std::vector<NameId> names = from.result_names;
    if (!names.empty()) names.push_back(p_.intern("squares"));
    to.finish(results, names);
    p_.functions[id.index] = std::move(made);
  }
  static ValueId vector_of(Builder& to, const Squares& squares) {
    std::int64_t count = 0;
    for (AxisId a : squares.axes) count += a.valid() ? to.function().extent(a) : 1;
    const AxisId all = to.fresh_axis("part", count);
    const ValueId out = to.add(Opcode::concat_, squares.parts, {.to = all, .axes = squares.axes},
                               Type{to.type(squares.parts[0]).dtype, {all}});
    to.name(out, "squares");
    return out;
  }
  // A call whose callee gives its squares, too.
  void call(const Function& from, const Op& op, Builder& to, Cloner& copy, Squares& squares) {
    const Function& callee = p_.function(op.attr.callee);
    const Type& theirs = callee.type(callee.body().results.back());
    const AxisId axis = to.fresh_axis("part", callee.extent(theirs.axes[0]));
    const std::vector<ValueId> made = widened(from, op, to, copy, Type{theirs.dtype, {axis}});
    squares.parts.push_back(made.back());
    squares.axes.push_back(axis);
  }
  // The call with one more result; names and groups are those that it had.
  static std::vector<ValueId> widened(const Function& from, const Op& op, Builder& to, Cloner& copy,
                                      const Type& more) {
    std::vector<ValueId> operands;
    for (ValueId v : op.operands) operands.push_back(copy(v));
    std::vector<Type> types;
    for (ValueId v : op.results) types.push_back(copy(from.type(v)));
    types.push_back(more);
    const std::vector<ValueId> made = to.add_multi(Opcode::call_, operands, op.attr, types);
    const std::string_view none;
    for (std::size_t r = 0; r < op.results.size(); ++r) {
      copy.map(op.results[r], made[r]);
      const NameId name = from.value(op.results[r]).name;
      to.name(made[r], name.valid() ? to.program().text(name) : none);
    }
    for (const Group& g : from.groups)
      if (const auto at = std::find(op.results.begin(), op.results.end(), g.first);
          at != op.results.end())
        to.group(to.program().text(g.name), g.bundle, copy(g.first), g.count);
    return made;
  }

  void take_in_update(FunctionId id, const NormSum& norm) {
    const Function from = p_.function(id);
    const Function& grad = p_.function(p_.find("grad"));
    const Type theirs = grad.type(grad.body().results.back());
    Function made{.name = from.name};
    Builder to(p_, made);
    Cloner copy(from, to);
    copy.arguments();
    const AxisId part = to.fresh_axis("part", grad.extent(theirs.axes[0]));
    const ValueId squares = to.argument({theirs.dtype, {part}}, "squares");
    const ValueId square = from.op(norm.sum).operands[0];
    const auto readers = std::count_if(from.ops.begin(), from.ops.end(), [&](const Op& op) {
      return std::find(op.operands.begin(), op.operands.end(), square) != op.operands.end();
    });
    for (OpId o : from.body().ops) {
      to.at = from.op(o).loc;
      if (o == norm.sum) {
        ValueId all = to.sum(squares, {part});
        for (const std::size_t r : left_) {
          const ValueId x = copy(from.body().arguments[norm.first + r]);
          const ValueId own = sum_of(to, to.binary(Opcode::mul_, x, x));
          all = to.binary(Opcode::add_, all, own);
        }
        copy.map(from.op(o).results[0], all);
      } else if (o != from.value(square).def || readers > 1)
        copy.clone(o);
    }
    std::vector<ValueId> results;
    for (ValueId v : from.body().results) results.push_back(copy(v));
    to.finish(results, from.result_names);
    p_.functions[id.index] = std::move(made);
  }

  void hand_over(FunctionId step, FunctionId grad, FunctionId update) {
    const Function from = p_.function(step);
    const Function& maker = p_.function(grad);
    const Type theirs = maker.type(maker.body().results.back());
    const std::int64_t parts = maker.extent(theirs.axes[0]);
    Function made{.name = from.name};
    Builder to(p_, made);
    Cloner copy(from, to);
    copy.arguments();
    ValueId squares;
    for (OpId o : from.body().ops) {
      const Op& op = from.op(o);
      to.at = op.loc;
      if (op.code == Opcode::call_ && op.attr.callee == grad) {
        const Type type{theirs.dtype, {to.fresh_axis("part", parts)}};
        squares = widened(from, op, to, copy, type).back();
        to.name(squares, "squares");
      } else if (op.code == Opcode::call_ && op.attr.callee == update) {
        std::vector<ValueId> operands;
        for (ValueId v : op.operands) operands.push_back(copy(v));
        operands.push_back(squares);
        std::vector<Type> types;
        for (ValueId v : op.results) types.push_back(copy(from.type(v)));
        const std::vector<ValueId> results = to.add_multi(Opcode::call_, operands, op.attr, types);
        for (std::size_t r = 0; r < results.size(); ++r) {
          copy.map(op.results[r], results[r]);
          to.name(results[r], p_.text(from.value(op.results[r]).name));
        }
      } else {
        copy.clone(o);
      }
    }
    std::vector<ValueId> results;
    for (ValueId v : from.body().results) results.push_back(copy(v));
    to.finish(results, from.result_names);
    p_.functions[step.index] = std::move(made);
  }

  Program& p_;
  std::map<std::uint32_t, Asked> asked_;  // by function: results whose squares all its calls want
  FunctionId grad_;
  Asked left_;  // results of @grad whose squares @update adds up
};

}  // namespace

Program spread_norm(const Program& program) {
  Program out = program;
  return Spread(out).run() ? out : program;
}

}  // namespace gradc
