// Mixed precision: the operands of contractions are rounded to bf16, each rounding a cast to be
// seen. Sums stay f32 (`contract` of bf16 gives f32), and so does all that is no operand of a
// contraction: parameters, their moments, norms, softmaxes, losses, what attention keeps to itself.
//
// A value is rounded once, where it is made, and then read through the views that the contraction
// reads it through: so grouping can put the cast into the kernel that makes the value. An argument
// is rounded behind its views: there the cast joins the kernel that reads it. Of a value that
// contractions read and else only sums (a bias gradient's), the sums take the rounded elements: no
// one keeps it in f32 then.
//
// Left in f32: contractions of other dtypes, those in regions, and those that read an element of an
// operand fewer than `least` times: rounding it would cost as much as it spares.
#include <algorithm>

#include "ir/builder.h"
#include "passes/passes.h"

namespace gradc {
namespace {

constexpr std::int64_t least = 8;

bool worth_it(const Function& f, const Op& op) {
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

class Rounding {
 public:
  Rounding(Program& program, const Function& from, Function& out)
      : from_(from),
        to_(program, out),
        copy_(from, to_),
        rounded_(from.values.size()),
        only_rounded_(from.values.size(), 0) {
    enum Reader : char { none, sums, product, other };
    const auto note = [&](ValueId v, Reader reader) {
      only_rounded_[v.index] = std::max<char>(only_rounded_[v.index], reader);
    };
    for (const Op& op : from.ops)
      for (ValueId v : op.operands)
        note(v, op.code == Opcode::sum_ ? sums : is_rounded(op) ? product : other);
    for (const Region& r : from.regions)
      for (ValueId v : r.results) note(v, other);
    for (ValueId v : from.body().arguments) note(v, other);
    for (char& reader : only_rounded_) reader = reader == product;
  }

  void run() {
    copy_.arguments();
    for (OpId id : from_.body().ops) {
      const Op& op = from_.op(id);
      if (is_rounded(op))
        contract(op);
      else if (op.code == Opcode::sum_ && only_rounded_[op.operands[0].index])
        sum(op);
      else
        copy_.clone(id);
    }
    std::vector<ValueId> results;
    for (ValueId v : from_.body().results) results.push_back(copy_(v));
    to_.finish(results, from_.result_names);
  }

 private:
  bool is_rounded(const Op& op) const {
    return op.code == Opcode::contract_ && worth_it(from_, op);
  }

  void sum(const Op& op) {
    to_.at = op.loc;
    const ValueId x = to_.cast(rounded(op.operands[0]), DType::f32);
    replace(op, to_.add(op.code, {x}, copy_(op.attr), copy_(from_.type(op.results[0]))));
  }
  void contract(const Op& op) {
    to_.at = op.loc;
    const ValueId a = rounded(op.operands[0]);
    const ValueId b = rounded(op.operands[1]);
    replace(op, to_.add(op.code, {a, b}, {}, copy_(from_.type(op.results[0]))));
  }
  void replace(const Op& op, ValueId made) {
    copy_.map(op.results[0], made);
    to_.name(made, to_.program().text(from_.value(op.results[0]).name));
  }

  // The value in bf16: a cast of what stands below views, and the views again.
  ValueId rounded(ValueId v) {
    std::vector<ValueId> through{v};
    while (!rounded_[through.back().index].valid()) {
      const OpId def = from_.value(through.back()).def;
      const Opcode code = def.valid() ? from_.op(def).code : Opcode::constant_;
      if (code != Opcode::relabel_ && code != Opcode::split_ && code != Opcode::merge_) break;
      through.push_back(from_.op(def).operands[0]);
    }
    if (!from_.value(through.back()).def.valid()) through.resize(1);
    const ValueId root = through.back();
    if (!rounded_[root.index].valid())
      define(root, to_.cast(copy_(root), DType::bf16));
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

  const Function& from_;
  Builder to_;
  Cloner copy_;
  std::vector<ValueId> rounded_;    // by value
  std::vector<char> only_rounded_;  // by value: read by contractions, and else by sums alone
};

}  // namespace

Program lower_precision(const Program& program) {
  Program out = program;
  for (std::size_t i = 0; i < out.functions.size(); ++i) {
    if (out.functions[i].family != Family::none) continue;
    const Function from = std::move(out.functions[i]);
    Function to{.name = from.name};
    Rounding(out, from, to).run();
    out.functions[i] = std::move(to);
  }
  return out;
}

}  // namespace gradc
