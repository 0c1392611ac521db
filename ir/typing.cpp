// The type rules. One function a kind of operation; each returns the natural result or a fault. Those of
// views and reads stand in typing_move.cpp.
#include "ir/typing.h"

#include "ir/typing_rules.h"

namespace gradc {
namespace {

using typing::Context, typing::Inferred;

bool numeric(DType d) { return d != DType::boolean; }

Inferred unary(const Context& c) {
  const Type& x = c.type(0);
  switch (c.code) {
    case Opcode::not_:
      if (x.dtype != DType::boolean) return c.fail("takes a bool");
      return x;
    case Opcode::neg_:
    case Opcode::abs_:
      if (!numeric(x.dtype)) return c.fail("takes a number");
      return x;
    case Opcode::cast_: return std::nullopt;
    case Opcode::stop_: return x;
    default:
      if (!is_real(x.dtype)) return c.fail("takes a real");
      return x;
  }
}

Inferred binary(const Context& c) {
  const Type& a = c.type(0);
  const Type& b = c.type(1);
  if (a.dtype != b.dtype)
    return c.fail(fmt::format("operands have dtypes {} and {}", name(a.dtype), name(b.dtype)));
  AxisList axes = a.axes;
  for (AxisId x : b.axes) {
    if (axes.contains(x)) continue;
    if (axes.full()) return c.fail("result would have too many axes");
    axes.push_back(x);
  }
  switch (c.code) {
    case Opcode::and_:
    case Opcode::or_:
      if (a.dtype != DType::boolean) return c.fail("takes bools");
      return Type{DType::boolean, axes};
    case Opcode::eq_:
    case Opcode::ne_: return Type{DType::boolean, axes};
    case Opcode::lt_:
    case Opcode::le_:
      if (!numeric(a.dtype)) return c.fail("takes numbers");
      return Type{DType::boolean, axes};
    case Opcode::floordiv_:
    case Opcode::mod_:
      if (!is_integer(a.dtype)) return c.fail("takes integers");
      return Type{a.dtype, axes};
    case Opcode::div_:
    case Opcode::pow_:
      if (!is_real(a.dtype)) return c.fail("takes reals");
      return Type{a.dtype, axes};
    default:
      if (!numeric(a.dtype)) return c.fail("takes numbers");
      return Type{a.dtype, axes};
  }
}

Inferred select(const Context& c) {
  if (c.type(0).dtype != DType::boolean) return c.fail("the condition is not a bool");
  if (c.type(1).dtype != c.type(2).dtype)
    return c.fail(fmt::format("branches have dtypes {} and {}", name(c.type(1).dtype), name(c.type(2).dtype)));
  AxisList axes = c.type(0).axes;
  for (int i : {1, 2})
    for (AxisId x : c.type(static_cast<std::size_t>(i)).axes) {
      if (axes.contains(x)) continue;
      if (axes.full()) return c.fail("result would have too many axes");
      axes.push_back(x);
    }
  return Type{c.type(1).dtype, axes};
}

Inferred reduce(const Context& c) {
  const Type& x = c.type(0);
  if (c.attr.axes.empty()) return c.fail("reduces no axis");
  if (!numeric(x.dtype)) return c.fail("takes numbers");
  AxisList axes = x.axes;
  for (AxisId a : c.attr.axes) {
    if (!axes.contains(a)) return c.fail(fmt::format("operand has no axis `{}`, or it is named twice", c.axis(a)));
    axes = axes.without(a);
  }
  if (c.code != Opcode::argmax_) return Type{x.dtype, axes};
  if (c.attr.axes.size() != 1) return c.fail("takes one axis");
  return Type{DType::i32, axes};
}

// Rules for results that must be written.
std::string check_written(const Context& c, const Type& r) {
  switch (c.code) {
    case Opcode::constant_: return r.axes.empty() ? "" : "a constant has no axes";
    case Opcode::uniform_:
      for (std::size_t i = 0; i < 3; ++i)
        if (!c.scalar(i, DType::i64)) return "seed, step and site are i64 scalars";
      return is_real(r.dtype) ? "" : "is real";
    case Opcode::flags_: {
      if (!c.attr.bundle.valid()) return "names no bundle";
      const std::string_view flag = c.p.text(c.attr.flag);
      if (flag != "decay" && flag != "clip") return "flag is neither `decay` nor `clip`";
      if (r.dtype != DType::boolean || r.axes.size() != 1) return "is bool along one axis";
      return c.f.extent(r.axes[0]) == element_count(c.p, c.attr.bundle) ? "" : "extent is not the bundle's";
    }
    case Opcode::cast_: return same_set(r.axes, c.type(0).axes) ? "" : "changes axes";
    case Opcode::expand_:
      if (r.dtype != c.type(0).dtype) return "changes the dtype";
      return r.axes.contains_all(c.type(0).axes) ? "" : "loses an axis";
    case Opcode::scatter_: {
      const Type& g = c.type(0);
      const Type& i = c.type(1);
      if (!is_integer(i.dtype)) return "index is not an integer";
      if (r.dtype != g.dtype || !r.axes.contains(c.attr.to)) return "result lacks the axis or the dtype";
      const AxisList rest = r.axes.without(c.attr.to);
      // g's axes are the union of both; the union itself may be longer than a list of axes can be.
      bool matches = g.axes.contains_all(rest) && g.axes.contains_all(i.axes);
      for (AxisId x : g.axes) matches &= rest.contains(x) || i.axes.contains(x);
      if (!matches) return "operand has not the axes of the index and the result";
      if (c.operands.size() == 3 && (c.type(2).dtype != r.dtype || !same_set(c.type(2).axes, r.axes)))
        return "base has not the result's type";
      return "";
    }
    case Opcode::contract_: {
      const Type& a = c.type(0);
      const Type& b = c.type(1);
      if (a.dtype != b.dtype || !is_real(a.dtype)) return "takes two reals of one dtype";
      const DType out = a.dtype == DType::bf16 || a.dtype == DType::f16 ? DType::f32 : a.dtype;
      if (r.dtype != out) return fmt::format("gives {}", name(out));
      for (AxisId x : r.axes)
        if (!a.axes.contains(x) && !b.axes.contains(x)) return fmt::format("no operand has axis `{}`", c.axis(x));
      for (const Type* t : {&a, &b})
        for (AxisId x : t->axes)
          if (!r.axes.contains(x) && !(a.axes.contains(x) && b.axes.contains(x)))
            return fmt::format("axis `{}` is summed but only one operand has it", c.axis(x));
      return "";
    }
    case Opcode::flat_:
      if (!c.attr.bundle.valid()) return "names no bundle";
      if (r.axes.size() != 1 || r.axes[0] != c.attr.to) return "has one axis";
      if (c.f.extent(r.axes[0]) != element_count(c.p, c.attr.bundle)) return "extent is not the bundle's";
      if (static_cast<std::int64_t>(c.operands.size()) != leaf_count(c.p, c.attr.bundle))
        return "operands are not the bundle's members";
      {
        std::int64_t elements = 0;
        for (std::size_t i = 0; i < c.operands.size(); ++i) {
          if (c.type(i).dtype != r.dtype) return fmt::format("operand {} has dtype {}", i, name(c.type(i).dtype));
          elements += c.f.elements(c.type(i));
          if (elements > c.f.extent(r.axes[0])) break;   // before it overflows
        }
        if (elements != c.f.extent(r.axes[0])) return "operands have not the bundle's elements";
      }
      return "";
    default: return "";  // control: ir/verify.cpp
  }
}

}  // namespace

std::optional<Type> infer(const Program& p, const Function& f, Opcode code, std::span<const ValueId> operands,
                          const Attr& attr, std::string& fault) {
  fault.clear();
  const Context c{p, f, code, operands, attr, fault};
  const Facts& row = facts(code);
  const int n = static_cast<int>(operands.size());
  if (n < row.least || (row.most >= 0 && n > row.most)) return c.fail(fmt::format("has {} operands", n));
  switch (row.kind) {
    case Kind::unary: return unary(c);
    case Kind::binary: return binary(c);
    case Kind::ternary: return select(c);
    case Kind::view: return typing::view(c);
    case Kind::read: return typing::read(c);
    case Kind::reduce: return reduce(c);
    case Kind::contract:
    case Kind::control: return std::nullopt;
    case Kind::source:
      if (code != Opcode::position_) return std::nullopt;
      if (!c.known(attr.to)) return c.fail("names no axis");
      if (n == 1 && !c.scalar(0, DType::i64)) return c.fail("the base is not an i64 scalar");
      return Type{DType::i32, AxisList{attr.to}};
  }
  return std::nullopt;
}

std::string check_types(const Program& p, const Function& f, Opcode code, std::span<const ValueId> operands,
                        const Attr& attr, const Type& result) {
  std::string fault;
  const std::optional<Type> natural = infer(p, f, code, operands, attr, fault);
  if (!fault.empty()) return fault;
  if (!natural) return check_written({p, f, code, operands, attr, fault}, result);
  if (natural->dtype != result.dtype) return fmt::format("gives {}, not {}", name(natural->dtype), name(result.dtype));
  if (!same_set(natural->axes, result.axes))
    return fmt::format("gives {}, not {}", describe(p, f, *natural), describe(p, f, result));
  return "";
}

std::string bind_axes(const Function& callee, const Type& theirs, const Function& caller, const Type& ours,
                      std::vector<AxisId>& map) {
  if (theirs.dtype != ours.dtype) return fmt::format("dtype is {}, not {}", name(ours.dtype), name(theirs.dtype));
  if (theirs.axes.size() != ours.axes.size()) return "rank differs";
  map.resize(callee.axes.size());
  for (int i = 0; i < theirs.axes.size(); ++i) {
    const AxisId t = theirs.axes[i], o = ours.axes[i];
    if (callee.extent(t) != caller.extent(o)) return "an extent differs";
    if (map[t.index].valid() && map[t.index] != o) return "one axis of the callee stands for two";
    map[t.index] = o;
  }
  return "";
}

std::string describe(const Program& p, const Function& f, const Type& t) {
  std::string out = std::string(name(t.dtype)) + "[";
  for (int i = 0; i < t.axes.size(); ++i) {
    if (i > 0) out += ' ';
    out += p.text(f.axis(t.axes[i]).name);
  }
  return out + "]";
}

}  // namespace gradc
