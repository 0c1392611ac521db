// Sources, conversions and limits of typed values.
#include "frontend/terms.h"

#include <algorithm>

namespace gradc {

Type Terms::type_of(DType dtype, const Axes& axes) const {
  Type t{dtype, {}};
  for (const NamedAxis* a : axes) t.axes.push_back(a->storage);
  return t;
}

bool Terms::room(const Axes& axes, Span at) {
  if (graph_.nodes.size() >= max_operations) {
    report_.error(at, fmt::format("the model has more than {} operations, calls and turns counted",
                                  max_operations));
    return false;
  }
  if (axes.size() > static_cast<std::size_t>(max_rank)) {
    report_.error(at, fmt::format("this value would have {} axes; at most {} are possible: {}",
                                  axes.size(), max_rank, describe(axes)));
    return false;
  }
  std::int64_t n = 1;
  for (const NamedAxis* a : axes)
    if (__builtin_mul_overflow(n, a->extent, &n) || n > max_elements) {
      report_.error(
          at, fmt::format("this value would have more than 2^40 elements: {}", describe(axes)));
      return false;
    }
  return true;
}

Term Terms::tensor(NodeId node, DType dtype, Axes axes, std::initializer_list<const Term*> from) {
  Term t;
  t.kind = Term::tensor;
  t.dtype = dtype;
  t.node = node;
  t.axes = std::move(axes);
  t.positional = true;
  for (const Term* f : from) {
    t.positional = t.positional && f->positional;
    t.trained = t.trained || (f->trained && is_real(dtype));
    for (const NamedAxis* a : f->data)
      if (has(t.axes, a)) add_axis(t.data, a);
  }
  return t;
}

Term Terms::add(Opcode code, std::initializer_list<const Term*> operands, const Attr& attr,
                DType dtype, const Axes& axes, Span at) {
  if (!room(axes, at)) return {};
  std::vector<NodeId> nodes;
  for (const Term* t : operands) nodes.push_back(t->node);
  return tensor(graph_.add(code, std::move(nodes), attr, type_of(dtype, axes), at), dtype, axes,
                operands);
}

Term Terms::position(const NamedAxis* axis, Span at) {
  Term t = add(Opcode::position_, {}, {.to = axis->storage}, DType::i32, {axis}, at);
  if (!t.ok()) return t;
  t.low = 0;
  t.high = axis->extent - 1;
  t.position = std::make_shared<Position>(Position{.terms = {{axis, 1}}});
  return t;
}

Term Terms::boolean(bool value, Span at) {
  Term t = add(Opcode::constant_, {}, {.integer = value ? 1 : 0}, DType::boolean, {}, at);
  t.truth = value ? 1 : 0;
  return t;
}

Term Terms::training(Span at) {
  if (!room({}, at)) return {};
  Node n{.kind = Node::training, .type = {DType::boolean, {}}, .at = at};
  Term t = tensor(graph_.add(std::move(n)), DType::boolean, {}, {});
  t.positional = false;
  return t;
}

Term Terms::uniform(const Term& like, std::int64_t site, Span at) {
  if (!like.ok()) return {};
  Term t = add(Opcode::uniform_, {}, {.integer = site}, real_, like.axes, at);
  t.positional = false;
  t.data = t.axes;
  return t;
}

Term Terms::constant(double value, Span at) {
  return add(Opcode::constant_, {}, {.real = value}, real_, {}, at);
}

NodeId Terms::node_of(const Term& x, DType dtype, Span at) {
  if (x.is_number()) {
    Attr attr;
    if (is_real(dtype))
      attr.real = x.exact.value();
    else
      attr.integer = x.exact.as_integer().value_or(0);
    return graph_.add(Opcode::constant_, {}, attr, Type{dtype, {}}, at);
  }
  if (x.dtype == dtype) return x.node;
  return graph_.add(Opcode::cast_, {x.node}, {}, type_of(dtype, x.axes), at);
}

Term Terms::to_real(const Term& x, Span at) {
  if (!x.ok() || x.real() || !numeric(x, at)) return x.real() ? x : Term{};
  Term t = tensor(node_of(x, real_, at), real_, x.axes, {&x});
  t.data = x.data;
  return t;
}

Term Terms::materialise(const Term& x, bool as_real, Span at) {
  if (!x.is_number()) return x;
  const std::optional<std::int64_t> n = x.exact.whole() ? x.exact.as_integer() : std::nullopt;
  if (as_real || !n || *n < INT32_MIN || *n > INT32_MAX) return to_real(x, at);
  Term t = tensor(node_of(x, DType::i32, at), DType::i32, {}, {&x});
  t.low = t.high = *n;
  t.position = std::make_shared<Position>(Position{.constant = *n});
  return t;
}

Term Terms::expand(const Term& x, const Axes& axes, Span at) {
  if (!x.ok() || x.axes == axes) return x;
  Term t = add(Opcode::expand_, {&x}, {}, x.dtype, axes, at);
  if (!t.ok()) return t;
  t.low = x.low;
  t.high = x.high;
  t.position = x.position;
  t.truth = x.truth;
  return t;
}

namespace {

Axes replaced(const Axes& axes, const NamedAxis* from, const NamedAxis* to) {
  Axes out = axes;
  std::replace(out.begin(), out.end(), from, to);
  return out;
}

}  // namespace

Term Terms::rename(const Term& x, const NamedAxis* from, const NamedAxis* to, Span at) {
  if (!x.ok() || !has(x.axes, from)) return x;
  Term t = x;
  t.axes = replaced(x.axes, from, to);
  t.data = replaced(x.data, from, to);
  if (x.position) {
    Position p = *x.position;
    for (auto& [axis, coefficient] : p.terms)
      if (axis == from) axis = to;
    t.position = std::make_shared<Position>(std::move(p));
  }
  if (from->storage == to->storage) return t;
  if (!movable(x, from, at) || !room(t.axes, at)) return {};
  t.node = graph_.add(Opcode::relabel_, {x.node}, {.from = from->storage, .to = to->storage},
                      type_of(x.dtype, t.axes), at);
  return t;
}

const NamedAxis* Terms::temporary(const std::string& name, std::int64_t extent) {
  auto axis = std::make_unique<NamedAxis>();
  axis->name = name;
  axis->extent = extent;
  axis->storage = graph_.take_axis(name, extent);
  temporaries_.push_back(std::move(axis));
  return temporaries_.back().get();
}

bool Terms::movable(const Term& x, const NamedAxis* axis, Span at) {
  if (x.kind != Term::tensor) return true;
  for (std::uint32_t s = graph_.node(x.node).level; s != no_index; s = graph_.scans[s].outer)
    if (graph_.scans[s].axis == axis->storage) {
      report_.error(at, fmt::format("`{0}` is the axis of the scan around, and this value comes of "
                                    "what the scan binds: it is known only "
                                    "at the same `{0}` here",
                                    axis->name));
      return false;
    }
  return true;
}

}  // namespace gradc
