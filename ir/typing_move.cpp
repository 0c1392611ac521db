// The type rules of what moves values: views and reads.
#include "ir/diagnostic.h"
#include "ir/typing_rules.h"

namespace gradc::typing {
namespace {

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

}  // namespace

Inferred view(const Context& c) {
  const Type& x = c.type(0);
  const Attr& a = c.attr;
  switch (c.code) {
    case Opcode::expand_:
      return std::nullopt;
    case Opcode::relabel_:
      if (!replaceable(c, x, a.from, a.to)) return std::nullopt;
      if (c.f.extent(a.from) != c.f.extent(a.to)) return c.fail("relabelled axes differ in extent");
      return Type{x.dtype, x.axes.replaced(a.from, a.to)};
    case Opcode::pick_:
      if (!x.axes.contains(a.from))
        return c.fail(fmt::format("operand has no axis `{}`", c.axis(a.from)));
      if (!run_time_offset(c, 1)) return std::nullopt;
      if (c.operands.size() == 1 && (a.integer < 0 || a.integer >= c.f.extent(a.from)))
        return c.fail("position is outside the axis");
      return Type{x.dtype, x.axes.without(a.from)};
    case Opcode::slice_:
      if (!replaceable(c, x, a.from, a.to) || !run_time_offset(c, 1)) return std::nullopt;
      if (a.from == a.to && c.operands.size() == 1 && (a.integer != 0 || a.stride != 1))
        return c.fail("a slice needs a new axis");
      if (a.stride < 1) return c.fail("stride is less than 1");
      if (c.operands.size() == 1 &&
          !affine_inside(a.integer, a.stride, c.f.extent(a.to), c.f.extent(a.from)))
        return c.fail("slice reaches outside the axis");
      return Type{x.dtype, x.axes.replaced(a.from, a.to)};
    case Opcode::split_: {
      if (a.axes.size() != 2 || a.axes[0] == a.axes[1]) return c.fail("needs two axes");
      if (!replaceable(c, x, a.from, a.axes[0]) || !replaceable(c, x, a.from, a.axes[1]))
        return std::nullopt;
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
    default:
      internal_error("view without a type rule");
  }
}

Inferred read(const Context& c) {
  const Type& x = c.type(0);
  const Attr& a = c.attr;
  switch (c.code) {
    case Opcode::shift_:
      if (!x.axes.contains(a.from))
        return c.fail(fmt::format("operand has no axis `{}`", c.axis(a.from)));
      return x;
    case Opcode::pad_:  // `to` is the short axis of the operand, `from` the long one of the result
      if (!replaceable(c, x, a.to, a.from)) return std::nullopt;
      if (a.stride < 1) return c.fail("stride is less than 1");
      if (!affine_inside(a.integer, a.stride, c.f.extent(a.to), c.f.extent(a.from)))
        return c.fail("pad reaches outside the axis");
      return Type{x.dtype, x.axes.replaced(a.to, a.from)};
    case Opcode::place_:
      if (!c.known(a.to) || x.axes.contains(a.to))
        return c.fail(fmt::format("axis `{}` is there already", c.axis(a.to)));
      if (x.axes.full()) return c.fail("result would have too many axes");
      if (a.integer < 0 || a.integer >= c.f.extent(a.to))
        return c.fail("position is outside the axis");
      return Type{x.dtype, x.axes.with(a.to)};
    case Opcode::concat_: {
      if (!c.known(a.to) || a.axes.size() != c.operands.size())
        return c.fail("needs an axis, or `_`, an operand");
      std::int64_t total = 0;
      AxisList rest;
      for (std::size_t i = 0; i < c.operands.size(); ++i) {
        const Type& t = c.type(i);
        const AxisId u = a.axes[i];
        if (t.dtype != x.dtype) return c.fail("operands differ in dtype");
        if (u.valid() && !t.axes.contains(u))
          return c.fail(fmt::format("operand {} has no axis `{}`", i, c.axis(u)));
        const AxisList others = u.valid() ? t.axes.without(u) : t.axes;
        if (others.contains(a.to))
          return c.fail(fmt::format("axis `{}` is there already", c.axis(a.to)));
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
      if (!x.axes.contains(a.from))
        return c.fail(fmt::format("operand has no axis `{}`", c.axis(a.from)));
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
    case Opcode::scatter_:
      return std::nullopt;
    case Opcode::update_: {
      const Type& y = c.type(1);
      if (!c.scalar(2, DType::i64)) return c.fail("the position is not an i64 scalar");
      if (y.dtype != x.dtype || !x.axes.contains(a.to) || !y.axes.contains(a.from) ||
          !same_set(x.axes.without(a.to), y.axes.without(a.from)))
        return c.fail("operands differ in more than the axis that is written");
      return x;
    }
    case Opcode::bound_:
      if (!x.axes.contains(a.from))
        return c.fail(fmt::format("operand has no axis `{}`", c.axis(a.from)));
      if (!c.scalar(1, DType::i64)) return c.fail("the bound is not an i64 scalar");
      return x;
    default:
      internal_error("read without a type rule");
  }
}

}  // namespace gradc::typing
