// The type rules. One function a kind of operation; each returns the natural result or a fault.
#include "ir/typing.h"

#include <fmt/format.h>

#include "ir/diagnostic.h"

namespace gradc {
namespace {

struct Context {
  const Program& p;
  const Function& f;
  Opcode code;
  std::span<const ValueId> operands;
  const Attr& attr;
  std::string& fault;

  const Type& type(std::size_t i) const { return f.type(operands[i]); }
  std::string axis(AxisId a) const {
    return a.valid() && a.index < f.axes.size() ? std::string(p.text(f.axis(a).name)) : "?";
  }
  std::nullopt_t fail(std::string why) const {
    fault = std::move(why);
    return std::nullopt;
  }
  bool scalar(std::size_t i, DType d) const { return type(i).dtype == d && type(i).axes.empty(); }
  bool known(AxisId a) const { return a.valid() && a.index < f.axes.size(); }
};
using Inferred = std::optional<Type>;

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

// The axis `from` of operand 0 must exist; `to`, where it replaces it, must not stand beside it.
bool replaceable(const Context& c, const Type& x, AxisId from, AxisId to) {
  if (!x.axes.contains(from)) {
    c.fault = fmt::format("operand has no axis `{}`", c.axis(from));
    return false;
  }
  if (!c.known(to) || (to != from && x.axes.contains(to))) {
    c.fault = fmt::format("axis `{}` is there already", c.axis(to));
    return false;
  }
  return true;
}

bool run_time_offset(const Context& c, std::size_t at) {
  if (c.operands.size() <= at || c.scalar(at, DType::i64)) return true;
  c.fault = "the offset is not an i64 scalar";
  return false;
}

// k + m·(n − 1) within 0 … size − 1, without overflow.
bool affine_inside(std::int64_t k, std::int64_t m, std::int64_t n, std::int64_t size) {
  if (n == 0) return true;
  if (m < 1 || k < 0 || k >= size) return false;
  return (n - 1) <= (size - 1 - k) / m;
}

Inferred view(const Context& c) {
  const Type& x = c.type(0);
  const Attr& a = c.attr;
  switch (c.code) {
    case Opcode::expand_: return std::nullopt;
    case Opcode::relabel_:
      if (!replaceable(c, x, a.from, a.to)) return std::nullopt;
      if (c.f.extent(a.from) != c.f.extent(a.to)) return c.fail("relabelled axes differ in extent");
      return Type{x.dtype, x.axes.replaced(a.from, a.to)};
    case Opcode::pick_:
      if (!x.axes.contains(a.from)) return c.fail(fmt::format("operand has no axis `{}`", c.axis(a.from)));
      if (!run_time_offset(c, 1)) return std::nullopt;
      if (c.operands.size() == 1 && (a.integer < 0 || a.integer >= c.f.extent(a.from)))
        return c.fail("position is outside the axis");
      return Type{x.dtype, x.axes.without(a.from)};
    case Opcode::slice_:
      if (!replaceable(c, x, a.from, a.to) || !run_time_offset(c, 1)) return std::nullopt;
      if (a.from == a.to && c.operands.size() == 1 && (a.integer != 0 || a.stride != 1))
        return c.fail("a slice needs a new axis");
      if (a.stride < 1) return c.fail("stride is less than 1");
      if (c.operands.size() == 1 && !affine_inside(a.integer, a.stride, c.f.extent(a.to), c.f.extent(a.from)))
        return c.fail("slice reaches outside the axis");
      return Type{x.dtype, x.axes.replaced(a.from, a.to)};
    case Opcode::split_: {
      if (a.axes.size() != 2 || a.axes[0] == a.axes[1]) return c.fail("needs two axes");
      if (!replaceable(c, x, a.from, a.axes[0]) || !replaceable(c, x, a.from, a.axes[1])) return std::nullopt;
      if (c.f.extent(a.axes[0]) * c.f.extent(a.axes[1]) != c.f.extent(a.from))
        return c.fail("extents do not multiply to the axis that is split");
      AxisList axes;
      for (AxisId y : x.axes) {
        if (y != a.from) {
          if (axes.full()) return c.fail("result would have too many axes");
          axes.push_back(y);
          continue;
        }
        for (AxisId s : a.axes) {
          if (axes.full()) return c.fail("result would have too many axes");
          axes.push_back(s);
        }
      }
      return Type{x.dtype, axes};
    }
    case Opcode::merge_: {
      if (a.axes.size() != 2 || a.axes[0] == a.axes[1]) return c.fail("needs two axes");
      for (AxisId s : a.axes)
        if (!x.axes.contains(s)) return c.fail(fmt::format("operand has no axis `{}`", c.axis(s)));
      const bool reused = a.to == a.axes[0] || a.to == a.axes[1];
      if (!c.known(a.to) || (!reused && x.axes.contains(a.to)))
        return c.fail(fmt::format("axis `{}` is there already", c.axis(a.to)));
      if (c.f.extent(a.axes[0]) * c.f.extent(a.axes[1]) != c.f.extent(a.to))
        return c.fail("extents do not multiply to the merged axis");
      AxisList axes;
      for (AxisId y : x.axes)
        if (y == a.axes[0])
          axes.push_back(a.to);
        else if (y != a.axes[1])
          axes.push_back(y);
      return Type{x.dtype, axes};
    }
    default: internal_error("view without a type rule");
  }
}

Inferred read(const Context& c) {
  const Type& x = c.type(0);
  const Attr& a = c.attr;
  switch (c.code) {
    case Opcode::shift_:
      if (!x.axes.contains(a.from)) return c.fail(fmt::format("operand has no axis `{}`", c.axis(a.from)));
      return x;
    case Opcode::pad_:  // `to` is the short axis of the operand, `from` the long one of the result
      if (!replaceable(c, x, a.to, a.from)) return std::nullopt;
      if (a.stride < 1) return c.fail("stride is less than 1");
      if (!affine_inside(a.integer, a.stride, c.f.extent(a.to), c.f.extent(a.from)))
        return c.fail("pad reaches outside the axis");
      return Type{x.dtype, x.axes.replaced(a.to, a.from)};
    case Opcode::place_:
      if (!c.known(a.to) || x.axes.contains(a.to)) return c.fail(fmt::format("axis `{}` is there already", c.axis(a.to)));
      if (x.axes.full()) return c.fail("result would have too many axes");
      if (a.integer < 0 || a.integer >= c.f.extent(a.to)) return c.fail("position is outside the axis");
      return Type{x.dtype, x.axes.with(a.to)};
    case Opcode::concat_: {
      if (!c.known(a.to) || a.axes.size() != c.operands.size()) return c.fail("needs an axis, or `_`, an operand");
      std::int64_t total = 0;
      AxisList rest;
      for (std::size_t i = 0; i < c.operands.size(); ++i) {
        const Type& t = c.type(i);
        const AxisId u = a.axes[i];
        if (t.dtype != x.dtype) return c.fail("operands differ in dtype");
        if (u.valid() && !t.axes.contains(u)) return c.fail(fmt::format("operand {} has no axis `{}`", i, c.axis(u)));
        const AxisList others = u.valid() ? t.axes.without(u) : t.axes;
        if (others.contains(a.to)) return c.fail(fmt::format("axis `{}` is there already", c.axis(a.to)));
        if (i == 0)
          rest = others;
        else if (!same_set(rest, others))
          return c.fail("operands differ in their other axes");
        total += u.valid() ? c.f.extent(u) : 1;
      }
      if (total != c.f.extent(a.to)) return c.fail("stretches do not add up to the axis");
      if (a.axes[0].valid()) return Type{x.dtype, x.axes.replaced(a.axes[0], a.to)};
      if (x.axes.full()) return c.fail("result would have too many axes");
      return Type{x.dtype, x.axes.with(a.to)};
    }
    case Opcode::gather_: {
      const Type& i = c.type(1);
      if (!is_integer(i.dtype)) return c.fail("index is not an integer");
      if (!x.axes.contains(a.from)) return c.fail(fmt::format("operand has no axis `{}`", c.axis(a.from)));
      const AxisList rest = x.axes.without(a.from);
      AxisList axes;
      const auto push = [&](AxisId y) {
        if (axes.contains(y)) return true;
        if (axes.full()) return false;
        axes.push_back(y);
        return true;
      };
      for (AxisId y : x.axes) {
        if (y != a.from) {
          if (!push(y)) return c.fail("result would have too many axes");
          continue;
        }
        for (AxisId z : i.axes)
          if (!rest.contains(z) && !push(z)) return c.fail("result would have too many axes");
      }
      return Type{x.dtype, axes};
    }
    case Opcode::scatter_: return std::nullopt;
    case Opcode::update_: {
      const Type& y = c.type(1);
      if (!c.scalar(2, DType::i64)) return c.fail("the position is not an i64 scalar");
      if (y.dtype != x.dtype || !x.axes.contains(a.to) || !y.axes.contains(a.from) ||
          !same_set(x.axes.without(a.to), y.axes.without(a.from)))
        return c.fail("operands differ in more than the axis that is written");
      return x;
    }
    case Opcode::bound_:
      if (!x.axes.contains(a.from)) return c.fail(fmt::format("operand has no axis `{}`", c.axis(a.from)));
      if (!c.scalar(1, DType::i64)) return c.fail("the bound is not an i64 scalar");
      return x;
    default: internal_error("read without a type rule");
  }
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
    case Kind::view: return view(c);
    case Kind::read: return read(c);
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
