// The forms of kernels.
#include "ir/kernel.h"

#include <fmt/format.h>

#include <algorithm>

#include "ir/attention.h"
#include "ir/typing.h"

namespace gradc {
namespace {

bool can_address(Opcode code) {
  const Kind k = facts(code).kind;
  return (k == Kind::view || k == Kind::read) && code != Opcode::expand_ &&
         code != Opcode::scatter_ && code != Opcode::update_;
}

class KernelCheck {
 public:
  KernelCheck(const Program& p, const Function& f) : p_(p), f_(f) {}

  KernelFault run() {
    if (f_.body().results.empty()) return fail({}, "a kernel has results");
    for (OpId o : f_.body().ops)
      if (facts(f_.op(o).code).kind == Kind::control) return fail(o, "stands in a kernel");
    switch (f_.family) {
      case Family::none: return fail({}, "is no kernel");
      case Family::map: return map();
      case Family::rows: return rows();
      case Family::contract: return contract();
      case Family::read: return read();
      case Family::attention: return attention();
      case Family::attention_grad: return attention_grad();
    }
    return {};
  }

 private:
  KernelFault fail(OpId o, std::string why) const {
    return {o, fmt::format("{}: {}", name(f_.family), why)};
  }
  const AxisList& axes(ValueId v) const { return f_.type(v).axes; }

  // Sources, elementwise operations, `expand` and address operations, in the anchor's axes;
  // `others` are left to the caller.
  template <class Others>
  KernelFault members(const AxisList& anchor, Others&& others) const {
    for (OpId o : f_.body().ops) {
      const Op& op = f_.op(o);
      const Kind kind = facts(op.code).kind;
      if (others(o)) continue;
      if (can_address(op.code)) {
        if (!is_address(f_, op)) return fail(o, "a view or read of what is no argument");
        if (op.code == Opcode::gather_ && f_.value(op.operands[1]).def.valid() &&
            facts(f_.op(f_.value(op.operands[1]).def).code).kind == Kind::reduce)
          return fail(o, "the index is a reduction");
        continue;
      }
      if (!is_elementwise(kind) && kind != Kind::source && op.code != Opcode::expand_)
        return fail(o, fmt::format("`{}` has no place in this family", facts(op.code).name));
      if (!anchor.contains_all(axes(op.results[0])))
        return fail(o, fmt::format("has axes beyond the anchor's {}",
                                   describe(p_, f_, {DType::f32, anchor}).substr(3)));
    }
    return {};
  }

  KernelFault results_have(const AxisList& a, const AxisList& b) const {
    for (ValueId v : f_.body().results)
      if (!same_set(axes(v), a) && !same_set(axes(v), b))
        return fail(f_.value(v).def, "a result has not the anchor's axes");
    return {};
  }

  KernelFault map() const {
    const AxisList anchor = axes(f_.body().results[0]);
    if (KernelFault k = members(anchor, [](OpId) { return false; }); !k.why.empty()) return k;
    return results_have(anchor, anchor);
  }

  KernelFault rows() const {
    OpId first;
    const auto is_reduction = [&](OpId o) { return facts(f_.op(o).code).kind == Kind::reduce; };
    for (OpId o : f_.body().ops)
      if (is_reduction(o) && !first.valid()) first = o;
    if (!first.valid()) return fail({}, "there is no reduction");
    const AxisList all = axes(f_.op(first).operands[0]), kept = axes(f_.op(first).results[0]);
    for (OpId o : f_.body().ops)
      if (is_reduction(o) && (!same_set(axes(f_.op(o).operands[0]), all) ||
                              !same_set(axes(f_.op(o).results[0]), kept)))
        return fail(o, "reductions differ in their axes");
    if (KernelFault k = members(all, is_reduction); !k.why.empty()) return k;
    return results_have(all, kept);
  }

  KernelFault contract() const {
    OpId anchor;
    for (OpId o : f_.body().ops) {
      if (f_.op(o).code != Opcode::contract_) continue;
      if (anchor.valid()) return fail(o, "a second contraction");
      anchor = o;
    }
    if (!anchor.valid()) return fail({}, "there is no contraction");
    // A cast of an argument stands before the contraction and has the argument's axes.
    const auto is_cast = [&](OpId o) {
      const Op& op = f_.op(o);
      return op.code == Opcode::cast_ && !f_.value(op.operands[0]).def.valid();
    };
    for (ValueId v : f_.op(anchor).operands)
      if (f_.value(v).def.valid() && !is_cast(f_.value(v).def))
        return fail(anchor, "an operand is neither an argument nor a cast of one");
    const AxisList axes_of = axes(f_.op(anchor).results[0]);
    const auto others = [&](OpId o) { return o == anchor || is_cast(o) || is_total(f_, f_.op(o)); };
    if (KernelFault k = members(axes_of, others); !k.why.empty()) return k;
    for (const Op& op : f_.ops)
      for (ValueId v : op.operands)
        if (const OpId def = f_.value(v).def; def.valid() && is_total(f_, f_.op(def)))
          return fail(def, "a total is only handed out");
    bool whole = false;
    for (ValueId v : f_.body().results) {
      const OpId def = f_.value(v).def;
      const bool total = def.valid() && is_total(f_, f_.op(def));
      whole |= !total;
      if (total && !same_set(axes(f_.op(def).operands[0]), axes_of))
        return fail(def, "a total is not over all of the anchor's axes");
      if (!total && !same_set(axes(v), axes_of))
        return fail(def, "a result has not the anchor's axes");
    }
    return whole ? KernelFault{} : fail(anchor, "has totals alone");
  }

  KernelFault read() const {
    const Region& body = f_.body();
    if (body.ops.size() != 1) return fail({}, "has one operation");
    const Op& op = f_.op(body.ops[0]);
    if (op.code != Opcode::scatter_ && op.code != Opcode::update_)
      return fail(body.ops[0], "is `scatter` or `update`");
    for (ValueId v : op.operands)
      if (f_.value(v).def.valid()) return fail(body.ops[0], "an operand is no argument");
    if (body.results != op.results) return fail(body.ops[0], "its result is the kernel's");
    return {};
  }

  KernelFault attention() const {
    AttentionForm form;
    const std::string why = attention_form(f_, f_.body(), form);
    return why.empty() ? KernelFault{} : fail({}, why);
  }

  KernelFault attention_grad() const {
    AttentionGradForm form;
    const std::string why = attention_grad_form(f_, f_.body(), form);
    return why.empty() ? KernelFault{} : fail({}, why);
  }

  const Program& p_;
  const Function& f_;
};

}  // namespace

bool is_total(const Function& kernel, const Op& op) {
  return op.code == Opcode::sum_ && kernel.type(op.results[0]).axes.empty();
}

bool is_address(const Function& f, const Op& op) {
  if (!can_address(op.code)) return false;
  const auto addressed = [&](ValueId v) {
    const OpId def = f.value(v).def;
    return !def.valid() ||
           can_address(f.op(def).code);  // by induction: def was checked where it stands
  };
  const std::size_t tensors = op.code == Opcode::concat_ ? op.operands.size() : 1;
  return std::all_of(op.operands.begin(),
                     op.operands.begin() + static_cast<std::ptrdiff_t>(tensors), addressed);
}

KernelFault check_kernel(const Program& program, const Function& kernel) {
  return KernelCheck(program, kernel).run();
}

}  // namespace gradc
