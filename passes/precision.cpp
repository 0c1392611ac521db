// Mixed precision: the operands of products are rounded to bf16, each rounding a cast to be seen.
// Products are contractions and what attention multiplies: q, k, the values, and their cotangents.
// Sums stay f32 (`contract` of bf16 gives f32), and so does all that is no operand of a product:
// parameters, their moments, norms, softmaxes, losses. In attention's gradient the weights and the
// cotangents of the scores are operands, too, and rounded within the region; in attention itself a
// weight is not: its kernel multiplies before it knows the row's largest score, so that a rounding
// would stand at another number than the one that the definition has.
//
// A value is rounded once, where it is made, and then read through the views that the product reads
// it through: so grouping can put the cast into the kernel that makes the value. An argument is
// rounded behind its views: there the cast joins the kernel that reads it. Of a value that products
// read and else only sums (a bias gradient's, the row sums of attention's gradient), the sums take
// the rounded elements: no one keeps it in f32 then. What forward saves for backward may be saved
// rounded (precision_saved.cpp).
//
// Left in f32: contractions of other dtypes, those in regions of other kinds, and those that read
// an element of an operand fewer than `least` times: rounding it would cost as much as it spares.
#include "passes/precision.h"

#include <algorithm>
#include <array>
#include <map>

#include "ir/attention.h"
#include "ir/builder.h"
#include "passes/passes.h"
#include "passes/plan.h"

namespace gradc {
namespace rounding {
namespace {

bool worth_it(const Function& f, const Op& op, std::int64_t least) {
  const AxisList &a = f.type(op.operands[0]).axes, &b = f.type(op.operands[1]).axes,
                 &out = f.type(op.results[0]).axes;
  if (f.type(op.operands[0]).dtype != DType::f32) return false;
  std::int64_t rows = 1, columns = 1, summed = 1;
  for (AxisId x : a) {
    if (!out.contains(x))
      summed *= f.extent(x);
    else if (!b.contains(x))
      rows *= f.extent(x);
  }
  for (AxisId x : b)
    if (!a.contains(x)) columns *= f.extent(x);
  return rows >= least && columns >= least && summed >= least;
}

bool is_attention(const Op& op) {
  return op.code == Opcode::fused_ &&
         (op.attr.claim == Claim::attention || op.attr.claim == Claim::attention_grad);
}

// The region reads the argument as an operand of contractions alone.
bool only_multiplied(const Function& f, const Region& region, ValueId argument) {
  bool read = false;
  for (OpId o : region.ops)
    for (ValueId v : f.op(o).operands) {
      if (v != argument) continue;
      if (f.op(o).code != Opcode::contract_) return false;
      read = true;
    }
  return read;
}

// A product of few elements: it reads them as a sum does.
bool sums(const Op& op) { return op.code == Opcode::sum_ || op.code == Opcode::contract_; }

}  // namespace

bool is_widened(const Function& f, ValueId v) {
  const OpId def = f.value(v).def;
  return def.valid() && f.op(def).code == Opcode::cast_ &&
         f.type(f.op(def).operands[0]).dtype == DType::bf16;
}

bool rounds(const Function& f, const Op& op, std::size_t i, std::int64_t least) {
  if (op.code == Opcode::contract_) return worth_it(f, op, least);
  if (!is_attention(op) || f.type(op.operands[i]).dtype != DType::f32) return false;
  const Region& region = f.regions[op.regions[0].index];
  for (std::size_t k = 0; k < op.operands.size(); ++k)
    if (op.operands[k] == op.operands[i] && !only_multiplied(f, region, region.arguments[k]))
      return false;
  return !is_widened(f, op.operands[i]);
}

std::vector<Reader> readers(const Program& program, const Function& f,
                            const std::vector<Border>& borders, const Border& own,
                            std::int64_t least) {
  std::vector<Reader> out(f.values.size(), Reader::none);
  const auto note = [&](ValueId v, Reader r) { out[v.index] = std::max(out[v.index], r); };
  const Region& body = f.body();
  for (std::size_t i = 0; i < body.results.size(); ++i)
    if (!own.results[i]) note(body.results[i], Reader::other);
  for (ValueId v : body.arguments)
    if (!own.born[v.index]) note(v, Reader::other);
  for (auto o = body.ops.rbegin(); o != body.ops.rend(); ++o) {
    const Op& op = f.op(*o);
    for (std::size_t i = 0; i < op.operands.size(); ++i) {
      const ValueId v = op.operands[i];
      if (f.type(v).dtype != DType::f32)
        note(v, Reader::other);
      else if (planning::is_static_view(op) || op.code == Opcode::concat_)
        note(v, out[op.results[0].index]);
      else if (op.code == Opcode::call_)
        note(v, takes_bf16(program, borders, op, i) ? Reader::product : Reader::other);
      else
        note(v, rounds(f, op, i, least) ? Reader::product
                : sums(op)              ? Reader::sums
                                        : Reader::other);
    }
  }
  // Sums read what is rounded through views, too.
  for (OpId o : body.ops)
    if (const Op& op = f.op(o); planning::is_static_view(op) &&
                                out[op.operands[0].index] == Reader::product &&
                                out[op.results[0].index] == Reader::sums)
      out[op.results[0].index] = Reader::product;
  return out;
}

bool takes_bf16(const Program& program, const std::vector<Border>& borders, const Op& call,
                std::size_t i) {
  const FunctionId callee = call.attr.callee;
  return borders[callee.index].born[program.function(callee).body().arguments[i].index] != 0;
}

}  // namespace rounding

namespace {

using rounding::Border;
using rounding::Reader;

class Rounding {
 public:
  Rounding(const Program& program, FunctionId id, const std::vector<Border>& borders,
           std::int64_t least, Program& made, Function& out)
      : program_(program),
        least_(least),
        from_(program.function(id)),
        borders_(borders),
        own_(borders[id.index]),
        to_(made, out),
        copy_(from_, to_),
        readers_(rounding::readers(program, from_, borders, own_, least)),
        rounded_(from_.values.size()),
        widened_(from_.values.size()) {
    for (std::uint32_t i = 0; i < from_.groups.size(); ++i)
      group_at_[from_.groups[i].first.index].push_back(i);
  }

  void run() {
    arguments();
    for (OpId id : from_.body().ops) {
      const Op& op = from_.op(id);
      to_.at = op.loc;
      const bool in_bf16 = op.results.size() == 1 && only_rounded(op.results[0]);
      if (in_bf16 && planning::is_static_view(op)) continue;  // made where it is read
      if (op.code == Opcode::call_)
        call(op);
      else if (in_bf16 && op.code == Opcode::concat_)
        concat(op);
      else if (op.code == Opcode::contract_ && rounding::rounds(from_, op, 0, least_))
        contract(op);
      else
        other(id);
    }
    std::vector<ValueId> results;
    for (std::size_t i = 0; i < from_.body().results.size(); ++i) {
      const ValueId v = from_.body().results[i];
      results.push_back(own_.results[i] ? rounded(v) : f32(v));
    }
    to_.finish(results, from_.result_names);
  }

 private:
  bool only_rounded(ValueId v) const {
    return from_.type(v).dtype == DType::f32 && readers_[v.index] == Reader::product;
  }
  Type bordering(ValueId v) {
    Type type = copy_(from_.type(v));
    if (own_.born[v.index]) type.dtype = DType::bf16;
    return type;
  }
  void born(ValueId v, ValueId made) {
    if (own_.born[v.index])
      rounded_[v.index] = made;
    else
      copy_.map(v, made);
    to_.name(made, to_.program().text(from_.value(v).name));
  }
  void groups(ValueId v, ValueId made) {
    const auto at = group_at_.find(v.index);
    if (at == group_at_.end()) return;
    for (std::uint32_t i : at->second) {
      const Group& g = from_.groups[i];
      to_.group(std::string(to_.program().text(g.name)), g.bundle, made, g.count);
    }
  }

  void arguments() {
    std::vector<ValueId> made;
    for (ValueId v : from_.body().arguments) {
      made.push_back(to_.argument(bordering(v)));
      born(v, made.back());
    }
    for (std::size_t i = 0; i < made.size(); ++i) groups(from_.body().arguments[i], made[i]);
  }
  void call(const Op& op) {
    std::vector<ValueId> operands;
    for (std::size_t i = 0; i < op.operands.size(); ++i)
      operands.push_back(rounding::takes_bf16(program_, borders_, op, i) ? rounded(op.operands[i])
                                                                         : f32(op.operands[i]));
    std::vector<Type> types;
    for (ValueId v : op.results) types.push_back(bordering(v));
    const std::vector<ValueId> made = to_.add_multi(op.code, operands, copy_(op.attr), types);
    for (std::size_t i = 0; i < made.size(); ++i) born(op.results[i], made[i]);
    for (std::size_t i = 0; i < made.size(); ++i) groups(op.results[i], made[i]);
  }
  void concat(const Op& op) {
    std::vector<ValueId> parts;
    for (ValueId v : op.operands) parts.push_back(rounded(v));
    Type type = copy_(from_.type(op.results[0]));
    type.dtype = DType::bf16;
    define(op.results[0], to_.add(op.code, parts, copy_(op.attr), type));
  }
  void contract(const Op& op) {
    const ValueId a = rounded(op.operands[0]);
    const ValueId b = rounded(op.operands[1]);
    const ValueId made = to_.add(op.code, {a, b}, {}, copy_(from_.type(op.results[0])));
    copy_.map(op.results[0], made);
    to_.name(made, to_.program().text(from_.value(op.results[0]).name));
  }
  // Operands that are rounded elsewhere are read as what they were rounded to.
  void other(OpId id) {
    const Op& op = from_.op(id);
    std::map<std::uint32_t, ValueId> f32_of;
    for (std::size_t i = 0; i < op.operands.size(); ++i) {
      const ValueId v = op.operands[i];
      const ValueId x = rounding::rounds(from_, op, i, least_) ? widened(v) : f32(v);
      if (!copy_.mapped(v) || copy_(v) != x) {
        f32_of.emplace(v.index, copy_.mapped(v) ? copy_(v) : ValueId{});
        copy_.map(v, x);
      }
    }
    op.code == Opcode::fused_ && op.attr.claim == Claim::attention_grad ? gradient(op)
                                                                        : copy_.clone(id);
    for (const auto& [v, before] : f32_of) copy_.map(ValueId{v}, before);
  }
  // Attention's gradient with the tiles rounded that are multiplied with a rounded argument.
  void gradient(const Op& op) {
    const Region& region = from_.regions[op.regions[0].index];
    const RegionId made = to_.open();
    for (ValueId v : region.arguments)
      copy_.map(v, to_.argument(copy_(from_.type(v)), to_.program().text(from_.value(v).name)));
    std::map<std::uint32_t, ValueId> tiles;
    for (OpId o : region.ops) {
      const Op& inner = from_.op(o);
      to_.at = inner.loc;
      const ValueId tile = inner.code == Opcode::contract_ ? inner.operands[0] : ValueId{};
      if (!tile.valid() || !rounds_tile(op, region, inner)) {
        copy_.clone(o);
        continue;
      }
      const ValueId exact = copy_(tile);
      ValueId& tile_in_bf16 = tiles[tile.index];
      if (!tile_in_bf16.valid())
        tile_in_bf16 = to_.cast(to_.cast(exact, DType::bf16), DType::f32);
      copy_.map(tile, tile_in_bf16);
      copy_.clone(o);
      copy_.map(tile, exact);
    }
    std::vector<ValueId> yields, operands;
    for (ValueId v : region.results) yields.push_back(copy_(v));
    to_.close(yields);
    for (ValueId v : op.operands) operands.push_back(copy_(v));
    std::vector<Type> types;
    for (ValueId v : op.results) types.push_back(copy_(from_.type(v)));
    to_.at = op.loc;
    const std::vector<ValueId> results =
        to_.add_multi(op.code, operands, copy_(op.attr), types, std::array{made});
    for (std::size_t i = 0; i < results.size(); ++i) born(op.results[i], results[i]);
    for (std::size_t i = 0; i < results.size(); ++i) groups(op.results[i], results[i]);
  }
  // A contraction of a tile with an argument that is bf16, each element of the tile often enough.
  bool rounds_tile(const Op& op, const Region& region, const Op& product) const {
    const ValueId argument = argument_of(from_, region, product.operands[1]);
    if (!argument.valid() || argument_of(from_, region, product.operands[0]).valid() ||
        rounding::is_widened(from_, product.operands[0]) ||
        from_.type(product.operands[0]).dtype != DType::f32)
      return false;
    std::int64_t reads = 1;
    for (AxisId a : from_.type(argument).axes)
      if (!from_.type(product.operands[0]).axes.contains(a)) reads *= from_.extent(a);
    if (reads < least_) return false;
    for (std::size_t i = 0; i < region.arguments.size(); ++i)
      if (region.arguments[i] == argument)
        return rounding::rounds(from_, op, i, least_) || rounding::is_widened(from_, op.operands[i]);
    return false;
  }

  // ---- a value in one of its forms

  ValueId widened(ValueId v) {
    if (!widened_[v.index].valid()) widened_[v.index] = to_.cast(rounded(v), DType::f32);
    return widened_[v.index];
  }
  ValueId f32(ValueId v) { return only_rounded(v) ? widened(v) : original(v); }
  // As it was before, through views that have not been made yet.
  ValueId original(ValueId v) {
    std::vector<OpId> views;
    ValueId x = v;
    for (; !copy_.mapped(x); x = from_.op(views.back()).operands[0]) {
      const OpId def = from_.value(x).def;
      if (def.valid() && planning::is_static_view(from_.op(def))) {
        views.push_back(def);
        continue;
      }
      copy_.map(x, widened(x));
      break;
    }
    for (auto view = views.rbegin(); view != views.rend(); ++view) copy_.clone(*view, true);
    return copy_(v);
  }
  // In bf16: a cast of what stands below views, and the views again. An element is picked from a
  // value, or sliced, before it is rounded, if the value is read in f32 as well.
  ValueId rounded(ValueId v) {
    std::vector<ValueId> through{v};
    while (!rounded_[through.back().index].valid()) {
      const OpId def = from_.value(through.back()).def;
      if (!def.valid() || !planning::is_static_view(from_.op(def))) break;
      const Op& view = from_.op(def);
      if ((view.code == Opcode::pick_ || view.code == Opcode::slice_) &&
          !only_rounded(view.operands[0]))
        break;
      through.push_back(view.operands[0]);
    }
    const ValueId below = through.back();
    if (!rounded_[below.index].valid() && !from_.value(below).def.valid()) through.resize(1);
    const ValueId root = through.back();
    if (!rounded_[root.index].valid()) define(root, to_.cast(original(root), DType::bf16));
    for (std::size_t i = through.size() - 1; i-- > 0;) {
      const Op& view = from_.op(from_.value(through[i]).def);
      Type type = copy_(from_.type(through[i]));
      type.dtype = DType::bf16;
      define(through[i],
             to_.add(view.code, {rounded_[through[i + 1].index]}, copy_(view.attr), type));
    }
    return rounded_[v.index];
  }
  void define(ValueId v, ValueId made) {
    rounded_[v.index] = made;
    to_.name(made, to_.program().text(from_.value(v).name));
  }

  const Program& program_;
  const std::int64_t least_;
  const Function& from_;
  const std::vector<Border>& borders_;
  const Border& own_;
  Builder to_;
  Cloner copy_;
  const std::vector<Reader> readers_;
  std::vector<ValueId> rounded_, widened_;  // by value
  std::map<std::uint32_t, std::vector<std::uint32_t>> group_at_;  // by first value
};

}  // namespace

Program lower_precision(const Program& program, std::int64_t least) {
  Program out = program;
  const std::vector<Border> borders = rounding::narrow_saved(program, least, out);
  for (std::uint32_t i = 0; i < out.functions.size(); ++i) {
    const Function& from = program.functions[i];
    if (from.family != Family::none) continue;
    Function to{.name = from.name};
    Rounding(program, FunctionId{i}, borders, least, out, to).run();
    out.functions[i] = std::move(to);
  }
  return out;
}

}  // namespace gradc
