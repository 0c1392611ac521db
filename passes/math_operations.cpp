// Operations as terms.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cmath>

#include "passes/math_print.h"

namespace gradc::math {
namespace {

bool near(double a, double b) { return std::fabs(a - b) <= 1e-12 * std::fabs(b); }

std::string at(std::int64_t offset, std::int64_t step, const std::string& axis) {
  std::string out = step == 1 ? axis : fmt::format("{} * {}", step, axis);
  if (offset > 0) out += fmt::format(" + {}", offset);
  if (offset < 0) out += fmt::format(" - {}", -offset);
  return out;
}

Term chosen(const std::string& condition, const Term& yes, const Term& no) {
  return call("select", {condition, show(yes), show(no)});
}

}  // namespace

std::optional<double> Sheet::constant(ValueId v) const {
  const Op* op = def(v);
  if (op == nullptr) {  // a region's argument may stand for one
    const Term& t = term(v);
    if (t.kind != Term::product || !t.over.empty() || !t.under.empty()) return {};
    return t.number;
  }
  if (op->code == Opcode::expand_ || op->code == Opcode::cast_) return constant(op->operands[0]);
  if (op->code != Opcode::constant_) return {};
  return is_real(f.type(v).dtype) ? op->attr.real : static_cast<double>(op->attr.integer);
}

Term Sheet::read_as(const Op& op) {
  const Facts& row = facts(op.code);
  if (is_elementwise(row.kind)) return elementwise(op);
  if (row.kind == Kind::reduce || row.kind == Kind::contract) return reduction(op);
  switch (op.code) {
    case Opcode::constant_:
      if (f.type(op.results[0]).dtype == DType::boolean)
        return light(op.attr.integer != 0 ? "true" : "false");
      if (const Term* size = known(op, std::fabs(*constant(op.results[0]))); size != nullptr)
        return std::signbit(*constant(op.results[0])) ? negate(*size) : *size;
      return number(*constant(op.results[0]));
    case Opcode::position_:
      if (op.operands.empty()) return light(axis(op.attr.to));
      return add(light(axis(op.attr.to)), term(op.operands[0]));
    case Opcode::uniform_:  // by its place: backward draws the same
      return call("uniform", {show(term(op.operands[2]))});
    case Opcode::flags_:
      return light(std::string(program_.text(op.attr.flag)));
    case Opcode::flat_: {
      std::string group = own_name(op.operands[0]);
      for (const Group& g : f.groups)
        if (g.first == op.operands[0] && g.count == op.operands.size())
          group = plain(program_.text(g.name));
      return light(group);
    }
    case Opcode::concat_:
      return joined(op);
    case Opcode::scatter_:
      return scatter(op);
    default:
      return view(op);
  }
}

// A constant that was recognised where the same source line, or no other, has it. One of few
// digits could be anything.
const Term* Sheet::known(const Op& op, double size) const {
  const auto it = constants_.find({program_.location(op.loc).lines, size});
  if (it != constants_.end()) return &it->second;
  const Term* only = nullptr;
  if (fmt::format("{}", size).size() < 10) return nullptr;
  for (const auto& [key, term] : constants_)
    if (key.second == size) {
      if (only != nullptr && show(*only) != show(term)) return nullptr;
      only = &term;
    }
  return only;
}

// x times a constant: sizes are recognised where they come from, the mean of a sum and the root
// that scales a score.
Term Sheet::scaled(const Op& op, ValueId x, double by) {
  const Term& of = term(x);
  const double size = std::fabs(by);
  const auto signed_as = [&](const Term& t) { return std::signbit(by) ? negate(t) : t; };
  if (of.count > 1) {
    std::vector<std::string> sizes;
    for (std::size_t i = 0; i < of.axes.size();) {
      const std::size_t end = std::min(of.axes.find(' ', i), of.axes.size());
      sizes.push_back(fmt::format("size({})", of.axes.substr(i, end - i)));
      i = end + 1;
    }
    Term factor = number(1);
    if (near(size, 1 / of.count))
      factor.under = sizes;
    else if (near(size, 1 / std::sqrt(of.count)))
      factor.under = {fmt::format("sqrt({})", fmt::join(sizes, " * "))};
    if (!factor.under.empty()) {
      constants_.insert_or_assign({program_.location(op.loc).lines, size}, factor);
      const bool mean = near(size, 1 / of.count) && !of.inside.empty();
      return signed_as(mean ? reduce("mean", of.axes, of.inside) : multiply(of, factor));
    }
  }
  if (const Term* factor = known(op, size)) return signed_as(multiply(of, *factor));
  return multiply(of, number(by));
}

Term Sheet::elementwise(const Op& op) {
  const Term& a = term(op.operands[0]);
  const Term none;
  const Term& b = op.operands.size() > 1 ? term(op.operands[1]) : none;
  const auto applied = [&] {
    std::vector<std::string> arguments;
    for (ValueId v : op.operands) arguments.push_back(show(term(v)));
    return call(facts(op.code).name, arguments);
  };
  const auto compare = [&](std::string_view sign) {
    return infix(a, sign, b, Level::compare, Level::sum, Level::sum);
  };
  switch (op.code) {
    case Opcode::add_:
      return add(a, b);
    case Opcode::sub_:
      return add(a, b, true);
    case Opcode::neg_:
      return negate(a);
    case Opcode::mul_:
    case Opcode::div_: {
      const std::optional<double> left = constant(op.operands[0]), right = constant(op.operands[1]);
      if (op.code == Opcode::mul_ && left) return scaled(op, op.operands[1], *left);
      if (op.code == Opcode::mul_ && right) return scaled(op, op.operands[0], *right);
      if (op.code == Opcode::mul_) {
        Term t = multiply(a, b);
        t.light = op.operands[0] == op.operands[1] && a.light && show(t).size() <= 24;
        return t;
      }
      if (right && *right != 0) return scaled(op, op.operands[0], 1 / *right);
      if (const Term* size = left ? known(op, std::fabs(*left)) : nullptr)
        return divide(std::signbit(*left) ? negate(*size) : *size, b);
      return divide(a, b);
    }
    case Opcode::floordiv_:
      return infix(a, "//", b, Level::product, Level::product, Level::atom);
    case Opcode::mod_:
      return infix(a, "%", b, Level::product, Level::product, Level::atom);
    case Opcode::lt_:
      return compare("<");
    case Opcode::le_:
      return compare("<=");
    case Opcode::eq_:
      return compare("==");
    case Opcode::ne_:
      return compare("!=");
    case Opcode::and_:
      return infix(a, "and", b, Level::both, Level::both, Level::inverse);
    case Opcode::or_:
      return infix(a, "or", b, Level::either, Level::either, Level::both);
    case Opcode::not_:
      return word("not " + show(a, Level::inverse), Level::inverse);
    case Opcode::stop_: {
      Term t = applied();
      t.light = a.light && t.word.size() <= 16;
      return t;
    }
    case Opcode::cast_: {
      const DType from = f.type(op.operands[0]).dtype, to = f.type(op.results[0]).dtype;
      if (from == DType::boolean) return call("select", {show(a), "1", "0"});
      if (is_real(from) && is_integer(to)) return call("floor", {show(a)});
      if (to == DType::bf16 || to == DType::f16) return call(name(to), {show(a)});
      return a;
    }
    case Opcode::select_: {
      Term t = applied();
      if (const std::optional<double> otherwise = constant(op.operands[2])) {
        t.condition = show(a);
        t.chosen = show(b);
        t.otherwise = *otherwise;
      }
      return t;
    }
    default:
      return applied();
  }
}

Term Sheet::reduction(const Op& op) {
  const AxisList& left = f.type(op.results[0]).axes;
  AxisList over;
  for (AxisId a : f.type(op.operands[0]).axes)
    if (!left.contains(a)) over.push_back(a);
  Term inside = term(op.operands[0]);
  if (op.code == Opcode::contract_) inside = multiply(inside, term(op.operands[1]));
  if (over.empty()) return inside;
  std::string_view function = "sum";
  double nothing = 0;
  if (op.code == Opcode::amax_) function = "max", nothing = -INFINITY;
  if (op.code == Opcode::amin_) function = "min", nothing = INFINITY;
  if (op.code == Opcode::argmax_) function = "argmax", nothing = -INFINITY;
  const std::string list = axes(over);
  if (op.code != Opcode::contract_ && !inside.condition.empty() && inside.otherwise == nothing)
    return reduce(function, list, inside.chosen, inside.condition);
  Term t = reduce(function, list, show(inside));
  if (function == "sum") {
    t.axes = list;
    t.inside = show(inside);
    t.count = 1;
    for (AxisId a : over) t.count *= static_cast<double>(f.extent(a));
  }
  return t;
}

Term Sheet::view(const Op& op) {
  const Term& x = term(op.operands[0]);
  const Attr& a = op.attr;
  const auto base = [&](const std::string& position) {  // at a run-time offset
    return op.operands.size() < 2 ? position
                                  : show(term(op.operands[1]), Level::sum) + " + " + position;
  };
  switch (op.code) {
    case Opcode::expand_:
      return x;
    case Opcode::relabel_:
      return read(x, axis(a.from), axis(a.to));
    case Opcode::pick_:
      return read(x, axis(a.from), base(fmt::format("{}", a.integer)));
    case Opcode::slice_:
      return read(x, axis(a.from), base(at(a.integer, a.stride, axis(a.to))));
    case Opcode::split_:
      return read(x, axis(a.from),
                  fmt::format("{0} * size({1}) + {1}", axis(a.axes[0]), axis(a.axes[1])));
    case Opcode::merge_: {
      const std::string to = axis(a.to), inner = axis(a.axes[1]);
      return word(fmt::format("{}[{} = {} // size({}), {} = {} % size({})]", show(x, Level::atom),
                              axis(a.axes[0]), to, inner, inner, to, inner));
    }
    case Opcode::shift_:
      return read(x, axis(a.from), at(a.integer, 1, axis(a.from)));
    case Opcode::pad_: {  // from: the result's axis, to: the operand's
      const std::string from = at(-a.integer, 1, axis(a.from));
      if (a.stride == 1) return read(x, axis(a.to), from);
      const std::string in = a.integer == 0 ? from : fmt::format("({})", from);
      return chosen(fmt::format("{} % {} == 0", in, a.stride),
                    read(x, axis(a.to), fmt::format("{} // {}", in, a.stride)), number(0));
    }
    case Opcode::place_:
      return chosen(fmt::format("{} == {}", axis(a.to), a.integer), x, number(0));
    case Opcode::gather_:
      return read(x, axis(a.from), show(term(op.operands[1])));
    case Opcode::bound_:
      return chosen(fmt::format("{} < {}", axis(a.from), show(term(op.operands[1]), Level::sum)), x,
                    number(0));
    case Opcode::update_: {
      const std::string to = axis(a.to), from = axis(a.from);
      const std::string p = show(term(op.operands[2]), Level::sum);
      return chosen(fmt::format("{0} <= {1} and {1} < {0} + size({2})", p, to, from),
                    read(term(op.operands[1]), from, fmt::format("{} - {}", to, p)), x);
    }
    default: {
      std::vector<std::string> arguments;
      for (ValueId v : op.operands) arguments.push_back(show(term(v)));
      return call(facts(op.code).name, arguments);
    }
  }
}

// Stretches of an axis, one after the other: the first that the position lies in.
Term Sheet::joined(const Op& op) {
  const std::string n = axis(op.attr.to);
  std::int64_t end = f.extent(op.attr.to);
  Term out;
  for (std::size_t i = op.operands.size(); i-- > 0;) {
    const AxisId along = op.attr.axes[i];
    const std::int64_t size = along.valid() ? f.extent(along) : 1;
    const Term part = along.valid() ? read(term(op.operands[i]), axis(along), at(size - end, 1, n))
                                    : term(op.operands[i]);
    const std::string here =
        !along.valid() ? fmt::format("{} == {}", n, end - 1) : fmt::format("{} < {}", n, end);
    out = i + 1 == op.operands.size() ? part : chosen(here, part, out);
    end -= size;
  }
  return out;
}

// The sum of all that the index sends to a position.
Term Sheet::scatter(const Op& op) {
  const Type& result = f.type(op.results[0]);
  AxisList over;
  for (std::size_t i = 0; i < 2; ++i)
    for (AxisId a : f.type(op.operands[i]).axes)
      if (!result.axes.contains(a) && !over.contains(a)) over.push_back(a);
  const Term& g = term(op.operands[0]);
  const Term hit = infix(term(op.operands[1]), "==", light(axis(op.attr.to)), Level::compare,
                         Level::sum, Level::sum);
  Term sum = over.empty() ? call("select", {show(hit), show(g), "0"})
                          : reduce("sum", axes(over), show(g), show(hit));
  return op.operands.size() == 3 ? add(term(op.operands[2]), sum) : sum;
}

}  // namespace gradc::math
