// The interpreter's views, reads and their adjoints: elements moved from one index space to
// another. All but gather, scatter and flat are one copy along a grid of (result, operand); what
// lies outside stays 0.
#include <algorithm>

#include "ir/evaluate_ops.h"

namespace gradc::interpreter {
namespace {

// The u in 0 … n − 1 with 0 ≤ k + m·u < size, as first and count. m ≥ 1; k may be any integer.
struct Stretch {
  std::int64_t first = 0, count = 0;
};
Stretch inside(__int128 k, std::int64_t m, std::int64_t n, std::int64_t size) {
  const __int128 first = k < 0 ? (-k + m - 1) / m : 0;
  const __int128 end = k >= size ? 0 : (size - 1 - k) / m + 1;  // first u beyond
  if (first >= std::min<__int128>(end, n)) return {};
  return {static_cast<std::int64_t>(first),
          static_cast<std::int64_t>(std::min<__int128>(end, n) - first)};
}

struct Move {
  const Evaluation& e;
  Array& out;
  const Type& x = e.type(0);
  const Type& y = e.result();

  std::int64_t to(AxisId a) const { return stride_of(e.function, y, a); }
  std::int64_t from(AxisId a) const { return stride_of(e.function, x, a); }
  std::int64_t extent(AxisId a) const { return e.function.extent(a); }
  // The grid over all axes of the result but `special`, which the caller handles: its elements in
  // the result go with those of `read` in the operand, from the starts on.
  void run(AxisId special, std::int64_t count, std::int64_t to_stride, std::int64_t from_stride,
           std::int64_t to_start, std::int64_t from_start) const {
    Grid<2> grid;
    bool met = false;
    for (AxisId a : y.axes)
      if (a == special) {
        grid.axis(count, {to_stride, from_stride});
        met = true;
      } else {
        grid.axis(extent(a), {to(a), from(a)});
      }
    if (!met && count == 0) return;
    grid.start = {to_start, from_start};
    copy(out, e.operand(0), grid);
  }
};

__int128 offset(const Evaluation& e) {
  return static_cast<__int128>(e.op.attr.integer) + (e.operands.size() > 1 ? e.scalar(1) : 0);
}

// y at u is x at k + m·u along `from`; the result's axis is `to`.
void slice(const Move& v, AxisId from, AxisId to, __int128 k, std::int64_t m) {
  const Stretch s = inside(k, m, v.extent(to), v.extent(from));
  if (s.count == 0) return;
  const auto start = static_cast<std::int64_t>(k + static_cast<__int128>(m) * s.first);
  v.run(to, s.count, v.to(to), m * v.from(from), s.first * v.to(to), start * v.from(from));
}

void split(const Move& v) {
  const Attr& a = v.e.op.attr;
  Grid<2> grid;
  for (AxisId y : v.y.axes)
    if (y == a.axes[0])
      grid.axis(v.extent(y), {v.to(y), v.from(a.from) * v.extent(a.axes[1])});
    else if (y == a.axes[1])
      grid.axis(v.extent(y), {v.to(y), v.from(a.from)});
    else
      grid.axis(v.extent(y), {v.to(y), v.from(y)});
  copy(v.out, v.e.operand(0), grid);
}

void merge(const Move& v) {  // over the operand's axes
  const Attr& a = v.e.op.attr;
  Grid<2> grid;
  for (AxisId x : v.x.axes)
    if (x == a.axes[0])
      grid.axis(v.extent(x), {v.to(a.to) * v.extent(a.axes[1]), v.from(x)});
    else if (x == a.axes[1])
      grid.axis(v.extent(x), {v.to(a.to), v.from(x)});
    else
      grid.axis(v.extent(x), {v.to(x), v.from(x)});
  copy(v.out, v.e.operand(0), grid);
}

void concat(const Evaluation& e, Array& out) {
  const Attr& attr = e.op.attr;
  const Type& y = e.result();
  const std::int64_t along = stride_of(e.function, y, attr.to);
  std::int64_t done = 0;
  for (std::size_t i = 0; i < e.operands.size(); ++i) {
    const AxisId u = attr.axes[i];
    Grid<2> grid;
    for (AxisId a : e.type(i).axes)
      grid.axis(e.function.extent(a), {a == u ? along : stride_of(e.function, y, a),
                                       stride_of(e.function, e.type(i), a)});
    grid.start = {done * along, 0};
    copy(out, e.operand(i), grid);
    done += u.valid() ? e.function.extent(u) : 1;
  }
}

// x with y over t = p … p + size(u) − 1, as far as that is inside.
void update(const Evaluation& e, Array& out) {
  const Attr& attr = e.op.attr;
  const Type& r = e.result();
  permute(e.function, e.operand(0), e.type(0), out, r);
  const __int128 p = e.scalar(2);
  const Stretch s = inside(p, 1, e.function.extent(attr.from), e.function.extent(attr.to));
  if (s.count == 0) return;
  const std::int64_t to = stride_of(e.function, r, attr.to),
                     from = stride_of(e.function, e.type(1), attr.from);
  Grid<2> grid;
  for (AxisId a : e.type(1).axes)
    if (a == attr.from)
      grid.axis(s.count, {to, from});
    else
      grid.axis(e.function.extent(a),
                {stride_of(e.function, r, a), stride_of(e.function, e.type(1), a)});
  grid.start = {static_cast<std::int64_t>(p + s.first) * to, s.first * from};
  copy(out, e.operand(1), grid);
}

template <class T>
void gather(const Evaluation& e, std::vector<T>& out, const std::vector<T>& x) {
  const AxisId v = e.op.attr.from;
  const Function& f = e.function;
  Grid<3> grid;  // result, x, index; in the result an axis v is the index's
  for (AxisId a : e.result().axes)
    grid.axis(f.extent(a), {stride_of(f, e.result(), a), a == v ? 0 : stride_of(f, e.type(0), a),
                            stride_of(f, e.type(1), a)});
  const std::int64_t size = f.extent(v), along = stride_of(f, e.type(0), v);
  const std::vector<std::int64_t>& index = e.operand(1).integer;
  walk(grid, [&](std::int64_t n, const auto& at, const auto& step) {
    for (std::int64_t i = 0; i < n; ++i) {
      const std::int64_t k = index[static_cast<std::size_t>(at[2] + i * step[2])];
      if (k < 0 || k >= size) continue;
      out[static_cast<std::size_t>(at[0] + i * step[0])] =
          x[static_cast<std::size_t>(at[1] + i * step[1] + k * along)];
    }
  });
}

template <class T, class Add>
void scatter(const Evaluation& e, std::vector<T>& out, const std::vector<T>& g, Add add) {
  const AxisId v = e.op.attr.to;
  const Function& f = e.function;
  // The index's axes outside, in order, so that each place gets its terms in the order of the
  // index.
  Grid<3> grid;  // result, g, index; in g an axis v is the index's
  const auto axis = [&](AxisId a) {
    grid.axis(f.extent(a), {a == v ? 0 : stride_of(f, e.result(), a), stride_of(f, e.type(0), a),
                            stride_of(f, e.type(1), a)});
  };
  for (AxisId a : e.type(1).axes) axis(a);
  for (AxisId a : e.type(0).axes)
    if (!e.type(1).axes.contains(a)) axis(a);
  const std::int64_t size = f.extent(v), along = stride_of(f, e.result(), v);
  const std::vector<std::int64_t>& index = e.operand(1).integer;
  walk(grid, [&](std::int64_t n, const auto& at, const auto& step) {
    for (std::int64_t i = 0; i < n; ++i) {
      const std::int64_t k = index[static_cast<std::size_t>(at[2] + i * step[2])];
      if (k < 0 || k >= size) continue;
      T& place = out[static_cast<std::size_t>(at[0] + i * step[0] + k * along)];
      place = add(place, g[static_cast<std::size_t>(at[1] + i * step[1])]);
    }
  });
}

void flat(const Evaluation& e, Array& out) {
  std::size_t done = 0;
  for (const Array* a : e.operands) {
    if (is_real(out.dtype))
      std::copy(a->real.begin(), a->real.end(),
                out.real.begin() + static_cast<std::ptrdiff_t>(done));
    else
      std::copy(a->integer.begin(), a->integer.end(),
                out.integer.begin() + static_cast<std::ptrdiff_t>(done));
    done += is_real(out.dtype) ? a->real.size() : a->integer.size();
  }
}

}  // namespace

std::int64_t stride_of(const Function& f, const Type& type, AxisId axis) {
  std::int64_t stride = 1;
  for (int i = type.axes.size() - 1; i >= 0; --i) {
    if (type.axes[i] == axis) return stride;
    stride = wrapping_mul(stride, f.extent(type.axes[i]));
  }
  return 0;
}

void copy(Array& to, const Array& from, const Grid<2>& grid) {
  const auto run = [&](auto* o, const auto* x) {
    walk(grid, [&](std::int64_t n, const auto& at, const auto& step) {
      for (std::int64_t i = 0; i < n; ++i) o[at[0] + i * step[0]] = x[at[1] + i * step[1]];
    });
  };
  if (is_real(to.dtype))
    run(to.real.data(), from.real.data());
  else
    run(to.integer.data(), from.integer.data());
}

void permute(const Function& f, const Array& from, const Type& t, Array& to, const Type& wanted) {
  Grid<2> grid;
  for (AxisId a : wanted.axes)
    grid.axis(f.extent(a), {stride_of(f, wanted, a), stride_of(f, t, a)});
  copy(to, from, grid);
}

void evaluate_move(const Evaluation& e, Array& out) {
  const Attr& a = e.op.attr;
  const Move v{e, out};
  switch (e.op.code) {
    case Opcode::expand_: return permute(e.function, e.operand(0), e.type(0), out, e.result());
    case Opcode::relabel_: return slice(v, a.from, a.to, 0, 1);
    case Opcode::slice_: return slice(v, a.from, a.to, offset(e), a.stride);
    case Opcode::shift_: return slice(v, a.from, a.from, a.integer, 1);
    case Opcode::bound_: {
      const std::int64_t n = std::clamp<std::int64_t>(e.scalar(1), 0, v.extent(a.from));
      return v.run(a.from, n, v.to(a.from), v.from(a.from), 0, 0);
    }
    case Opcode::pick_: {
      const Stretch s = inside(offset(e), 1, 1, v.extent(a.from));
      if (s.count == 1)
        v.run({}, 1, 0, 0, 0, static_cast<std::int64_t>(offset(e)) * v.from(a.from));
      return;
    }
    case Opcode::split_: return split(v);
    case Opcode::merge_: return merge(v);
    case Opcode::pad_:  // `from` is the result's long axis, `to` the operand's short one
      return v.run(a.from, v.extent(a.to), a.stride * v.to(a.from), v.from(a.to),
                   a.integer * v.to(a.from), 0);
    case Opcode::place_: return v.run(a.to, 1, 0, 0, a.integer * v.to(a.to), 0);
    case Opcode::concat_: return concat(e, out);
    case Opcode::update_: return update(e, out);
    case Opcode::gather_:
      return is_real(out.dtype) ? gather(e, out.real, e.operand(0).real)
                                : gather(e, out.integer, e.operand(0).integer);
    case Opcode::scatter_:
      if (e.operands.size() == 3) permute(e.function, e.operand(2), e.type(2), out, e.result());
      if (is_real(out.dtype))
        return scatter(e, out.real, e.operand(0).real, [](double p, double g) { return p + g; });
      return scatter(e, out.integer, e.operand(0).integer, [&](std::int64_t p, std::int64_t g) {
        return wrap(wrapping_add(p, g), out.dtype);
      });
    case Opcode::flat_: return flat(e, out);
    default: internal_error("the interpreter lacks a view or read");
  }
}

}  // namespace gradc::interpreter
