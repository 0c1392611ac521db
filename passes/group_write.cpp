// The third step of grouping: writes kernels as functions and the launches of them. See
// passes/group.cpp.
#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>

#include "ir/builder.h"
#include "ir/diagnostic.h"
#include "ir/structure.h"
#include "passes/group.h"

namespace gradc::grouping {
namespace {

// Everything that one kernel computes: its own operations and the clones that they want, in order.
struct Body {
  std::vector<OpId> ops;
  std::vector<ValueId> arguments, results;
};

class Writer {
 public:
  Writer(Program& program, const Function& f, const Clusters& c, KernelTable& kernels,
         Function& out)
      : program_(program),
        f_(f),
        c_(c),
        kernels_(kernels),
        to_(program, out),
        copy_(f, to_),
        in_body_(f.ops.size(), 0),
        argument_(f.values.size(), 0),
        from_memory_(f.values.size(), 0),
        inside_(f.values.size()) {}

  void run() {
    copy_.arguments();
    for (std::size_t n = c_.nodes.size(); n-- > 0;) {
      const Node& node = c_.nodes[n];
      if (node.moved_to != UINT32_MAX) continue;
      if (node.family == Family::none)
        stand_alone(node.ops[0]);
      else
        kernel(static_cast<std::uint32_t>(n));
    }
    std::vector<ValueId> results;
    for (ValueId v : f_.body().results) results.push_back(in_memory(v));
    to_.finish(results, f_.result_names);
  }

 private:
  // The value in the new function; views on the way to it are written when first asked for.
  ValueId in_memory(ValueId v) {
    std::vector<OpId> views;
    for (ValueId x = v; !copy_.mapped(x);) {
      const OpId def = f_.value(x).def;
      if (!def.valid() || c_.fate[def.index] != Fate::view)
        internal_error("a kernel reads what no kernel has made");
      views.push_back(def);
      x = f_.op(def).operands[0];
    }
    while (!views.empty()) {
      copy_.clone(views.back());
      views.pop_back();
    }
    return copy_(v);
  }
  void stand_alone(OpId id) {
    for (ValueId v : f_.op(id).operands) in_memory(v);
    copy_.clone(id);
  }

  // ---- what a kernel holds

  bool clones(const Op& op, std::size_t i, ValueId x) const {
    const OpId def = f_.value(x).def;
    if (!def.valid()) return false;
    if (op.code == Opcode::contract_) return is_absorbed_cast(f_, c_, x);
    if (op.code == Opcode::scatter_ || op.code == Opcode::update_) return false;
    if (reads_memory(f_, c_, op, i)) return false;
    return c_.fate[def.index] == Fate::clone;
  }
  void enter(OpId id, Body& body, std::vector<OpId>& work) {
    if (in_body_[id.index] == stamp_) return;
    in_body_[id.index] = stamp_;
    body.ops.push_back(id);
    work.push_back(id);
  }
  // One try. False: a value is wanted from memory by one reader and as a clone by another; it is
  // then marked, and read from memory by both at the next try.
  bool collect(std::uint32_t node, Body& body) {
    ++stamp_;
    std::vector<OpId> work;
    for (OpId o : c_.nodes[node].ops) enter(o, body, work);
    while (!work.empty()) {
      const OpId id = work.back();
      work.pop_back();
      const Op& op = f_.op(id);
      for (std::size_t i = 0; i < op.operands.size(); ++i) {
        const ValueId x = op.operands[i];
        const OpId def = f_.value(x).def;
        if (def.valid() && c_.owner[def.index] != Clusters::none &&
            c_.find(c_.owner[def.index]) == node)
          continue;
        if (clones(op, i, x) && from_memory_[x.index] != node + 1)
          enter(def, body, work);
        else
          argument_[x.index] = stamp_;
      }
    }
    bool agreed = true;
    for (OpId o : body.ops)
      for (ValueId v : f_.op(o).results)
        if (argument_[v.index] == stamp_) {
          from_memory_[v.index] = node + 1;
          agreed = false;
        }
    return agreed;
  }
  Body body_of(std::uint32_t node) {
    Body body;
    while (!collect(node, body)) body = {};
    std::sort(body.ops.begin(), body.ops.end(), [&](OpId a, OpId b) { return a.index < b.index; });
    for (OpId o : body.ops)
      for (ValueId x : f_.op(o).operands)
        if (argument_[x.index] == stamp_) {
          argument_[x.index] = 0;
          body.arguments.push_back(x);
        }
    for (OpId o : body.ops) {
      if (c_.owner[o.index] == Clusters::none || c_.find(c_.owner[o.index]) != node) continue;
      for (ValueId v : f_.op(o).results)
        if (leaves(v, node, c_.free_source[o.index] != 0)) body.results.push_back(v);
    }
    return body;
  }
  bool leaves(ValueId v, std::uint32_t node, bool others_clone) const {
    const Uses& u = c_.uses[v.index];
    if (u.kept) return true;
    if (others_clone) return false;
    return std::any_of(u.inside.begin(), u.inside.end(),
                       [&](std::uint32_t n) { return c_.find(n) != node; });
  }

  // ---- its definition and its launch

  // As a Cloner would write it, but in time that is the kernel's, not the function's.
  Function definition(Family family, const Body& body) {
    Function k;
    k.family = family;
    Builder b(program_, k);
    std::unordered_map<AxisId, AxisId> axes;
    const auto axis = [&](AxisId a) {
      if (!a.valid()) return a;
      const auto [it, fresh] = axes.try_emplace(a);
      if (fresh) it->second = b.axis(program_.text(f_.axis(a).name), f_.extent(a));
      return it->second;
    };
    const auto type = [&](ValueId v) {
      Type t{f_.type(v).dtype, {}};
      for (AxisId a : f_.type(v).axes) t.axes.push_back(axis(a));
      return t;
    };
    for (ValueId v : body.arguments)
      inside_[v.index] = b.argument(type(v), program_.text(f_.value(v).name));
    for (OpId o : body.ops) {
      const Op& op = f_.op(o);
      const ValueId v = op.results[0];
      std::vector<ValueId> operands;
      for (ValueId x : op.operands) operands.push_back(inside_[x.index]);
      Attr attr = op.attr;
      attr.from = axis(attr.from);
      attr.to = axis(attr.to);
      for (AxisId& a : attr.axes) a = axis(a);
      b.at = op.loc;
      const Type result = type(v);
      inside_[v.index] = b.add(op.code, operands, attr, result);
      b.name(inside_[v.index], program_.text(f_.value(v).name));
    }
    std::vector<ValueId> results;
    for (ValueId v : body.results) results.push_back(inside_[v.index]);
    b.finish(results);
    return k;
  }
  LocId location(std::uint32_t node) {
    Location at;
    for (OpId o : c_.nodes[node].ops) {
      const Location& l = program_.location(f_.op(o).loc);
      at.lines.insert(at.lines.end(), l.lines.begin(), l.lines.end());
      at.role = std::max(at.role, l.role);
    }
    std::sort(at.lines.begin(), at.lines.end());
    at.lines.erase(std::unique(at.lines.begin(), at.lines.end()), at.lines.end());
    return at.lines.empty() && at.role == Role::forward ? LocId{} : program_.intern(at);
  }
  void kernel(std::uint32_t node) {
    const Body body = body_of(node);
    const Family family = c_.nodes[node].family;
    Function written = definition(family, body);
    if (family != Family::read) written = in_fewer_operations(program_, written);
    const FunctionId callee = define(program_, kernels_, std::move(written));
    std::vector<ValueId> operands;
    for (ValueId v : body.arguments) operands.push_back(in_memory(v));
    std::vector<Type> types;
    for (ValueId v : body.results) types.push_back(copy_(f_.type(v)));
    to_.at = location(node);
    const std::vector<ValueId> made =
        to_.add_multi(Opcode::launch_, operands, {.callee = callee}, types);
    for (std::size_t i = 0; i < made.size(); ++i) {
      copy_.map(body.results[i], made[i]);
      to_.name(made[i], program_.text(f_.value(body.results[i]).name));
    }
  }

  Program& program_;
  const Function& f_;
  const Clusters& c_;
  KernelTable& kernels_;
  Builder to_;
  Cloner copy_;
  std::uint32_t stamp_ = 0;
  std::vector<std::uint32_t>
      in_body_;  // by operation: the stamp of the body that it was entered in
  std::vector<std::uint32_t> argument_;     // by value: likewise
  std::vector<std::uint32_t> from_memory_;  // by value: node + 1 that reads it from memory only
  std::vector<ValueId> inside_;             // by value: in the kernel that is being written
};

}  // namespace

FunctionId define(Program& program, KernelTable& kernels, Function kernel) {
  const auto [it, fresh] = kernels.by_key.try_emplace(structure_key(program, kernel));
  if (fresh) {
    std::string wish;
    do
      wish = fmt::format("{}.{}", name(kernel.family),
                         ++kernels.count[static_cast<int>(kernel.family)]);
    while (kernels.names.contains(wish));
    kernel.name = program.intern(wish);
    it->second = FunctionId{static_cast<std::uint32_t>(program.functions.size())};
    program.functions.push_back(std::move(kernel));
  }
  return it->second;
}

Function write_out(Program& program, const Function& f, const Clusters& clusters,
                   KernelTable& kernels) {
  Function out;
  out.name = f.name;
  out.family = f.family;
  Writer(program, f, clusters, kernels, out).run();
  return out;
}

}  // namespace gradc::grouping
