// The first step of grouping: attention becomes launches of kernels; other `fused` operations give
// way to their regions, which elementwise and rows kernels then take in; `stop` has said what it
// had to say; and scatters take one of two forms. A scatter whose index runs over axes of the
// result sums nothing: it is select(position = index, g, 0), which fuses like any elementwise
// operation. The others read, add and write; one that is added to a value which nobody else wants
// takes that value as its base. A gather along rows that are reduced anyway (the right answer's
// logit beside the sum of all) is a sum over the row likewise: it then reads nothing but its own
// row's elements in order, so that the gradient of the logits, the largest value of a step, may be
// written over them.
#include <map>

#include "ir/builder.h"
#include "passes/group.h"

namespace gradc::grouping {
namespace {

class Preparation {
 public:
  Preparation(Program& program, const Function& from, Function& out, KernelTable& kernels)
      : kernels_(kernels),
        from_(from),
        to_(program, out),
        copy_(from, to_),
        uses_(from.values.size()),
        readers_(from.values.size()),
        late_(from.ops.size()),
        reduced_(from.values.size()) {
    for (std::uint32_t o = 0; o < from.ops.size(); ++o)
      for (ValueId v : from.ops[o].operands) {
        ++uses_[v.index];
        readers_[v.index].push_back(OpId{o});
      }
    for (const Region& r : from.regions)
      for (ValueId v : r.results) {
        ++uses_[v.index];
        readers_[v.index].push_back({});
      }
  }

  void run() {
    copy_.arguments();
    mark_late();
    mark_reduced();
    struct Frame {
      RegionId region;
      std::size_t next = 0;
      OpId owner;
    };
    std::vector<Frame> stack{{RegionId{0}}};
    while (!stack.empty()) {
      Frame& top = stack.back();
      const Region& region = from_.regions[top.region.index];
      if (top.next == region.ops.size()) {
        if (top.owner.valid()) leave(region, from_.op(top.owner));
        stack.pop_back();
        continue;
      }
      const OpId id = region.ops[top.next++];
      const Op& op = from_.op(id);
      if (is_attention(op)) {
        launch(op);
      } else if (op.code == Opcode::cast_ && copy_.mapped(op.results[0])) {
        // attention hands it out
      } else if (op.code == Opcode::fused_) {
        const Region& inner = from_.regions[op.regions[0].index];
        for (std::size_t i = 0; i < op.operands.size(); ++i)
          copy_.map(inner.arguments[i], copy_(op.operands[i]));
        stack.push_back({op.regions[0], 0, id});
      } else {
        operation(id);
      }
    }
    std::vector<ValueId> results;
    for (ValueId v : from_.body().results) results.push_back(copy_(v));
    to_.finish(results, from_.result_names);
  }

 private:
  void leave(const Region& region, const Op& owner) {
    for (std::size_t i = 0; i < owner.results.size(); ++i)
      copy_.map(owner.results[i], copy_(region.results[i]));
  }

  static bool is_attention(const Op& op) {
    return op.code == Opcode::fused_ &&
           (op.attr.claim == Claim::attention || op.attr.claim == Claim::attention_grad);
  }
  // The region as a kernel, without arguments that it does not read. An operand of products that is
  // a cast of a narrower value is cast while it is packed, and a result that is read as a narrower
  // value alone is handed out so.
  void launch(const Op& op) {
    const Region& region = from_.regions[op.regions[0].index];
    Function kernel;
    kernel.family = op.attr.claim == Claim::attention ? Family::attention : Family::attention_grad;
    Builder to(to_.program(), kernel);
    Cloner copy(from_, to);
    std::vector<char> read(from_.values.size(), 0), multiplied(from_.values.size(), 0);
    for (OpId o : region.ops)
      for (ValueId v : from_.op(o).operands) {
        const bool product = from_.op(o).code == Opcode::contract_;
        multiplied[v.index] = product && (!read[v.index] || multiplied[v.index]);
        read[v.index] = 1;
      }
    std::vector<ValueId> operands, results;
    for (std::size_t i = 0; i < op.operands.size(); ++i) {
      const ValueId v = region.arguments[i];
      if (read[v.index] == 0) continue;
      const std::string_view name = to_.program().text(from_.value(v).name);
      Type type = copy(from_.type(v));
      ValueId operand = copy_(op.operands[i]);
      if (const ValueId narrow = widened(operand); narrow.valid() && multiplied[v.index]) {
        operand = narrow;
        type.dtype = to_.type(narrow).dtype;
      }
      copy.map(v, to.cast(to.argument(type, name), from_.type(v).dtype));
      operands.push_back(operand);
    }
    for (OpId o : region.ops) copy.clone(o);
    std::vector<Type> types;
    for (std::size_t i = 0; i < op.results.size(); ++i) {
      const ValueId v = region.results[i];
      const OpId def = from_.value(v).def;
      Type type = copy_(from_.type(op.results[i]));
      if (from_.op(def).code == Opcode::contract_) type.dtype = read_as(op.results[i]);
      results.push_back(to.cast(copy(v), type.dtype));
      types.push_back(type);
    }
    to.finish(results);
    to_.at = op.loc;
    const FunctionId callee = grouping::define(to_.program(), kernels_, std::move(kernel));
    const std::vector<ValueId> made =
        to_.add_multi(Opcode::launch_, operands, {.callee = callee}, types);
    for (std::size_t i = 0; i < made.size(); ++i) {
      const ValueId v = op.results[i];
      if (types[i].dtype == from_.type(v).dtype)
        copy_.map(v, made[i]);
      else
        for (OpId reader : readers_[v.index]) copy_.map(from_.op(reader).results[0], made[i]);
      to_.name(made[i], to_.program().text(from_.value(v).name));
    }
  }
  // What the value is a cast of, if that takes less memory.
  ValueId widened(ValueId v) {
    const Function& made = to_.function();
    const OpId def = made.value(v).def;
    if (!def.valid() || made.op(def).code != Opcode::cast_) return {};
    const ValueId x = made.op(def).operands[0];
    const DType from = made.type(x).dtype;
    return is_real(from) && bytes(from) < bytes(made.type(v).dtype) ? x : ValueId{};
  }
  // The narrower dtype that all readers cast the value to, or its own.
  DType read_as(ValueId v) const {
    const DType own = from_.type(v).dtype;
    DType all = own;
    for (OpId reader : readers_[v.index]) {
      if (!reader.valid() || from_.op(reader).code != Opcode::cast_) return own;
      const DType to = from_.type(from_.op(reader).results[0]).dtype;
      if (!is_real(to) || bytes(to) >= bytes(own) || (all != own && to != all)) return own;
      all = to;
    }
    return all;
  }

  // No element of the result gets two contributions.
  bool sums_nothing(const Op& op) const {
    const Type& index = from_.type(op.operands[1]);
    const Type& result = from_.type(op.results[0]);
    return result.axes.contains_all(index.axes) && !index.axes.contains(op.attr.to);
  }
  bool defined_by(ValueId v, Opcode code) const {
    const OpId def = from_.value(v).def;
    return def.valid() && from_.op(def).code == code;
  }
  // The operand of an addition that is a scatter without a base whose sum can start from the other
  // operand.
  int scatter_operand(const Op& op) const {
    if (op.code != Opcode::add_) return -1;
    for (int i : {0, 1}) {
      const ValueId s = op.operands[static_cast<std::size_t>(i)],
                    x = op.operands[static_cast<std::size_t>(1 - i)];
      if (s == x || !defined_by(s, Opcode::scatter_)) continue;
      const OpId def = from_.value(s).def;
      if (from_.op(def).operands.size() != 2 || sums_nothing(from_.op(def))) continue;
      const bool own = from_.value(x).def.valid() && uses_[x.index] == 1;
      if (uses_[s.index] == 1 && own && same_set(from_.type(x).axes, from_.type(s).axes)) return i;
    }
    return -1;
  }
  void mark_late() {
    for (const Op& op : from_.ops)
      if (const int i = scatter_operand(op); i >= 0)
        late_[from_.value(op.operands[static_cast<std::size_t>(i)]).def.index] = 1;
  }

  // Values whose rows some reduction over one axis takes in, perhaps through elementwise
  // operations.
  void mark_reduced() {
    for (std::size_t i = from_.ops.size(); i-- > 0;) {
      const Op& op = from_.ops[i];
      if (facts(op.code).kind == Kind::reduce && op.attr.axes.size() == 1) {
        reduced_[op.operands[0].index] = op.attr.axes[0];
      } else if (is_elementwise(op.code) && reduced_[op.results[0].index].valid()) {
        for (ValueId x : op.operands)
          if (same_set(from_.type(x).axes, from_.type(op.results[0]).axes))
            reduced_[x.index] = reduced_[op.results[0].index];
      }
    }
  }
  bool is_row_gather(const Op& op) const {
    if (op.code != Opcode::gather_ || reduced_[op.operands[0].index] != op.attr.from) return false;
    const ValueId x = op.operands[0];
    const AxisList rest = from_.type(x).axes.without(op.attr.from);
    return is_real(from_.type(x).dtype) && from_.value(x).def.valid() &&
           rest.contains_all(from_.type(op.operands[1]).axes);
  }

  void operation(OpId id) {
    const Op& op = from_.op(id);
    if (late_[id.index]) return;
    if (op.code == Opcode::stop_) return copy_.map(op.results[0], copy_(op.operands[0]));
    to_.at = op.loc;
    if (const int i = scatter_operand(op); i >= 0) {
      const Op& s = from_.op(from_.value(op.operands[static_cast<std::size_t>(i)]).def);
      const ValueId base = op.operands[static_cast<std::size_t>(1 - i)];
      to_.at = to_.program().unite(op.loc, s.loc);
      define(op,
             to_.add(Opcode::scatter_, {copy_(s.operands[0]), copy_(s.operands[1]), copy_(base)},
                     copy_(s.attr), copy_(from_.type(op.results[0]))));
    } else if (op.code == Opcode::scatter_ && sums_nothing(op)) {
      define(op, as_select(op));
    } else if (is_row_gather(op)) {
      define(op, as_sum(op));
    } else {
      copy_.clone(id);
    }
  }
  ValueId index_is_position(const Op& op, AxisId along) {
    const ValueId index = copy_(op.operands[1]);
    ValueId& here = here_[{index.index, along.index}];
    if (here.valid()) return here;
    const ValueId position = to_.add(Opcode::position_, {}, {.to = copy_(along)});
    here = to_.binary(Opcode::eq_, to_.cast(position, to_.type(index).dtype),
                      index);  // a wide index keeps its high bits
    return here;
  }
  ValueId as_sum(const Op& op) {
    const Type& x = from_.type(op.operands[0]);
    const ValueId here = index_is_position(op, op.attr.from);
    const ValueId only = to_.add(
        Opcode::select_, {here, copy_(op.operands[0]), to_.constant(0, x.dtype)}, {}, copy_(x));
    return to_.add(Opcode::sum_, {only}, {.axes = {copy_(op.attr.from)}},
                   copy_(from_.type(op.results[0])));
  }
  ValueId as_select(const Op& op) {
    const Type result = copy_(from_.type(op.results[0]));
    const ValueId here = index_is_position(op, op.attr.to);
    const ValueId zero =
        is_real(result.dtype) ? to_.constant(0, result.dtype) : to_.integer(0, result.dtype);
    const ValueId placed =
        to_.add(Opcode::select_, {here, copy_(op.operands[0]), zero}, {}, result);
    if (op.operands.size() == 2) return placed;
    return to_.add(Opcode::add_, {copy_(op.operands[2]), placed}, {}, result);
  }
  void define(const Op& op, ValueId made) {
    copy_.map(op.results[0], made);
    to_.name(made, to_.program().text(from_.value(op.results[0]).name));
  }

  KernelTable& kernels_;
  const Function& from_;
  Builder to_;
  Cloner copy_;
  std::vector<std::uint32_t> uses_;
  std::vector<std::vector<OpId>> readers_;  // by value; invalid: a region's end
  std::vector<char> late_;       // scatters that are written where they are added
  std::vector<AxisId> reduced_;  // by value
  std::map<std::pair<std::uint32_t, std::uint32_t>, ValueId>
      here_;  // position = index, by index and axis
};

}  // namespace

Function prepare(Program& program, const Function& f, KernelTable& kernels) {
  Function out;
  out.name = f.name;
  out.family = f.family;
  Preparation(program, f, out, kernels).run();
  return out;
}

}  // namespace gradc::grouping
