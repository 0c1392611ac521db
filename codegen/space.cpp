// Reading strides off a kernel's body, and what follows from them for loops.
#include "codegen/space.h"

#include <algorithm>

namespace gradc {

bool is_address_op(Opcode code) {
  switch (code) {
    case Opcode::relabel_:
    case Opcode::pick_:
    case Opcode::slice_:
    case Opcode::split_:
    case Opcode::merge_:
    case Opcode::shift_:
    case Opcode::pad_:
    case Opcode::place_:
    case Opcode::concat_:
    case Opcode::gather_:
    case Opcode::bound_:
      return true;
    default:
      return false;
  }
}

namespace {

bool is_read(const Emitter& e, ValueId v) {
  const Op* op = e.kernel.definition(v);
  return op == nullptr || is_address_op(op->code);
}

}  // namespace

// The position along one axis of an operand as a linear form in the positions of the space's axes.
struct Space::Form {
  std::vector<std::int64_t> coefficient;
  std::vector<bool> irregular;
  explicit Form(std::size_t axes) : coefficient(axes), irregular(axes) {}

  void add(const Form& f, std::int64_t times) {
    for (std::size_t a = 0; a < coefficient.size(); ++a) {
      coefficient[a] += times * f.coefficient[a];
      irregular[a] = irregular[a] || f.irregular[a];
    }
  }
  void make_irregular(const Form& f) {
    for (std::size_t a = 0; a < coefficient.size(); ++a)
      irregular[a] = irregular[a] || f.irregular[a] || f.coefficient[a] != 0;
  }
};

Space::Space(const Emitter& e, std::span<const ValueId> roots)
    : e_(e), pinned_(e.kernel.axes.size()) {
  std::vector<bool> met(e.kernel.values.size());
  std::vector<ValueId> pending;
  const auto push = [&](ValueId v) {
    if (met[v.index]) return;
    met[v.index] = true;
    pending.push_back(v);
  };
  for (ValueId r : roots) push(r);
  const std::size_t n = e.kernel.axes.size();
  while (!pending.empty()) {
    const ValueId v = pending.back();
    pending.pop_back();
    const Op* op = e.kernel.definition(v);
    const AxisList& axes = e.kernel.type(v).axes;
    if (is_read(e, v)) {
      std::vector<Form> forms(n, Form(n));
      for (AxisId a : axes) forms[a.index].coefficient[a.index] = 1;
      std::vector<ValueId> scalars;
      trace(v, v, std::move(forms), scalars);
      for (ValueId s : scalars) push(s);
    } else if (op->code == Opcode::uniform_) {
      Walk w{.value = v,
             .axes = axes,
             .stride = std::vector<std::int64_t>(n),
             .irregular = std::vector<bool>(n)};
      std::int64_t stride = 1;
      for (int i = axes.size() - 1; i >= 0; --i) {
        w.stride[axes[i].index] = stride;
        stride *= e.kernel.extent(axes[i]);
      }
      walks_.push_back(std::move(w));
    } else if (op->code == Opcode::position_ || op->code == Opcode::flags_) {
      for (AxisId a : axes) pinned_[a.index] = true;
    } else {
      for (ValueId x : op->operands) push(x);
    }
  }
  for (int b = e.argument_count(); b < e.buffer_count(); ++b) {
    const ValueId v = e.buffer_value(b);
    if (std::find(roots.begin(), roots.end(), v) == roots.end()) continue;
    Walk w{.buffer = b,
           .store = true,
           .value = v,
           .axes = e.kernel.type(v).axes,
           .stride = std::vector<std::int64_t>(n),
           .irregular = std::vector<bool>(n)};
    for (AxisId a : w.axes) w.stride[a.index] = e.stride(b, a);
    walks_.push_back(std::move(w));
  }
}

// Follows address operations from `v`, at positions `forms` along its axes, to the arguments that
// `read` comes from. Index values and run-time scalars go to `pending`.
void Space::trace(ValueId v, ValueId read, std::vector<Form> forms, std::vector<ValueId>& pending) {
  const std::size_t n = forms.size();
  const auto pin = [&](AxisId a) {
    for (std::size_t k = 0; k < n; ++k)
      if (forms[a.index].coefficient[k] != 0 || forms[a.index].irregular[k]) pinned_[k] = true;
  };
  for (;;) {
    const Op* op = e_.kernel.definition(v);
    if (op == nullptr) break;
    const Attr& a = op->attr;
    const auto at = [&](AxisId x) -> Form& { return forms[x.index]; };
    switch (op->code) {
      case Opcode::relabel_: {
        const Form f = at(a.to);
        at(a.from) = f;
        break;
      }
      case Opcode::pick_:
        at(a.from) = Form(n);
        break;
      case Opcode::slice_: {
        if (op->operands.size() > 1) pin(a.to);
        Form f(n);
        f.add(at(a.to), a.stride);
        at(a.from) = f;
        break;
      }
      case Opcode::split_: {
        Form f(n);
        f.add(at(a.axes[0]), e_.kernel.extent(a.axes[1]));
        f.add(at(a.axes[1]), 1);
        at(a.from) = f;
        break;
      }
      case Opcode::merge_: {
        pin(a.to);
        const Form f = at(a.to);
        at(a.axes[0]) = Form(n);
        at(a.axes[1]) = Form(n);
        // Lanes stay within one run of the inner axis if it is a multiple of any vector.
        if (e_.kernel.extent(a.axes[1]) % e_.target.lanes() == 0) {
          at(a.axes[1]) = f;
        } else {
          at(a.axes[0]).make_irregular(f);
          at(a.axes[1]).make_irregular(f);
        }
        break;
      }
      case Opcode::shift_:
      case Opcode::bound_:
        pin(a.from);
        break;
      case Opcode::pad_: {
        pin(a.from);
        Form f(n);
        if (a.stride == 1)
          f.add(at(a.from), 1);
        else
          f.make_irregular(at(a.from));
        at(a.to) = f;
        break;
      }
      case Opcode::place_:
        pin(a.to);
        break;
      case Opcode::gather_: {
        pending.push_back(op->operands[1]);
        Form f(n);
        for (AxisId x : e_.kernel.type(op->operands[1]).axes) f.make_irregular(at(x));
        at(a.from) = f;
        break;
      }
      case Opcode::concat_:
        pin(a.to);
        for (std::size_t i = 0; i < op->operands.size(); ++i) {
          std::vector<Form> inner = forms;
          if (a.axes[i].valid()) inner[a.axes[i].index] = at(a.to);
          trace(op->operands[i], read, std::move(inner), pending);
        }
        return;
      default:
        internal_error("an operation that is no address operation reads an argument in a kernel");
    }
    if (op->operands.size() > 1 && op->code != Opcode::gather_) pending.push_back(op->operands[1]);
    v = op->operands[0];
  }
  Walk w{.buffer = e_.buffer_of(v),
         .value = read,
         .axes = e_.kernel.type(read).axes,
         .stride = std::vector<std::int64_t>(n),
         .irregular = std::vector<bool>(n)};
  Form offset(n);
  for (AxisId x : e_.kernel.type(v).axes)
    if (const std::int64_t stride = e_.stride(w.buffer, x); stride != 0 && e_.kernel.extent(x) != 1)
      offset.add(forms[x.index], stride);
  w.stride = offset.coefficient;
  w.irregular = offset.irregular;
  walks_.push_back(std::move(w));
}

bool Space::composes(AxisId outer, const Dimension& inner) const {
  if (pinned_[outer.index] || pinned_[inner.axis.index]) return false;
  return std::all_of(walks_.begin(), walks_.end(), [&](const Walk& w) {
    return w.axes.contains(outer) == w.axes.contains(inner.axis) &&
           w.stride[outer.index] == w.stride[inner.axis.index] * inner.extent;
  });
}

// By which axes are sorted: the largest stride in memory of any store, or of any load where none
// has it.
std::int64_t Space::order(AxisId a) const {
  std::int64_t stored = 0, loaded = 0;
  for (const Walk& w : walks_)
    (w.store ? stored : loaded) = std::max(w.store ? stored : loaded, w.stride[a.index]);
  return stored != 0 ? stored : loaded;
}

std::vector<Dimension> Space::dimensions(const AxisList& axes) const {
  std::vector<AxisId> sorted;
  for (AxisId a : axes) {
    if (e_.kernel.extent(a) == 1) continue;
    const auto smaller = [&](AxisId b) { return order(b) < order(a); };
    sorted.insert(std::find_if(sorted.begin(), sorted.end(), smaller), a);
  }
  std::vector<Dimension> out;  // innermost first
  for (std::size_t i = sorted.size(); i-- > 0;) {
    const AxisId a = sorted[i];
    const std::int64_t extent = e_.kernel.extent(a);
    if (!out.empty() && extent != 0 && out.back().extent != 0 && composes(a, out.back())) {
      out.back().members.push_back(a);
      out.back().extent *= extent;
    } else {
      out.push_back({a, {a}, extent});
    }
  }
  std::reverse(out.begin(), out.end());
  return out;
}

double Space::cost(const std::vector<Dimension>& all, const Dimension& lane, int lanes) const {
  // In vector loads; these put the borders between ways where softmaxes of 4 … 64 had them on
  // Zen 4.
  constexpr double gathered = 12, broadcast = 0.3;
  double each = 0;
  for (const Walk& w : walks_) {
    if (w.buffer < 0 || (w.store && !has_axis(lane, w.axes))) continue;
    const std::int64_t stride = w.stride[lane.axis.index];
    double c = w.irregular[lane.axis.index] ? gathered
               : stride == 1                ? 1
               : stride == 0                ? broadcast
                                            : gathered;
    if (w.store) c = stride == 1 ? 2 : gathered * 2;
    each += c;
  }
  const double vectors = static_cast<double>((lane.extent + lanes - 1) / lanes);
  double others = 1;
  for (const Dimension& d : all)
    if (d.axis != lane.axis) others *= static_cast<double>(d.extent);
  return others * vectors * (each + 1);
}

std::int64_t product(std::span<const Dimension> dimensions) {
  std::int64_t n = 1;
  for (const Dimension& d : dimensions) n *= d.extent;
  return n;
}

bool has_axis(const Dimension& d, const AxisList& axes) {
  return std::any_of(d.members.begin(), d.members.end(),
                     [&](AxisId a) { return axes.contains(a); });
}

// ---- points

namespace {
constexpr std::int64_t any_multiple = std::int64_t{1} << 30;  // 0 is a multiple of everything
}

void set_dimension(Emitter& e, Point& point, const Dimension& d, llvm::Value* first,
                   std::int64_t step, std::int64_t multiple) {
  for (AxisId a : d.members) set_axis(point, a, e.i64(0), 0, any_multiple);
  set_axis(point, d.axis, first, step, multiple);
}

void set_single_axes(Emitter& e, Point& point, const AxisList& axes) {
  for (AxisId a : axes)
    if (e.kernel.extent(a) == 1) set_axis(point, a, e.i64(0), 0, any_multiple);
}

void set_decoded(Emitter& e, Point& point, std::span<const Dimension> dims, llvm::Value* index) {
  for (std::size_t i = dims.size(); i-- > 0;) {
    const std::int64_t extent = std::max<std::int64_t>(dims[i].extent, 1);
    set_dimension(e, point, dims[i], i == 0 ? index : e.ir.CreateURem(index, e.i64(extent)));
    if (i != 0) index = e.ir.CreateUDiv(index, e.i64(extent));
  }
}

}  // namespace gradc
