// Operations with regions in the mathematical printer: what fused ones mean, and scans.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "passes/math_print.h"

namespace gradc::math {
namespace {

// Of softmax and cross_entropy, which the language has as reductions.
std::string claimed_axes(const Sheet& s, const Op& op) {
  if (op.attr.claim != Claim::softmax && op.attr.claim != Claim::cross_entropy) return "";
  for (OpId o : s.f.regions[op.regions[0].index].ops)
    if (facts(s.f.op(o).code).kind == Kind::reduce) return s.axes(s.f.op(o).attr.axes);
  return "";
}

// Regions that compute the same but for names and extents have the same key.
std::string key_of(const Function& f, const Op& fused) {
  const Region& body = f.regions[fused.regions[0].index];
  std::map<std::uint32_t, std::size_t> values, axes;
  std::string key(name(fused.attr.claim));
  const auto value = [&](ValueId v) {
    key += fmt::format(" %{}", values.try_emplace(v.index, values.size()).first->second);
  };
  const auto axis = [&](AxisId a) {
    if (a.valid()) key += fmt::format(" {}", axes.try_emplace(a.index, axes.size()).first->second);
  };
  const auto define = [&](ValueId v) {
    value(v);
    key += fmt::format(":{}", name(f.type(v).dtype));
    for (AxisId a : f.type(v).axes) axis(a);
  };
  for (ValueId v : body.arguments) define(v);
  for (OpId id : body.ops) {
    const Op& op = f.op(id);
    key += fmt::format("\n{} {} {} {}", facts(op.code).name, op.attr.real, op.attr.integer,
                       op.attr.stride);
    for (ValueId v : op.operands) value(v);
    axis(op.attr.from);
    axis(op.attr.to);
    for (AxisId a : op.attr.axes) axis(a);
    for (ValueId v : op.results) define(v);
  }
  for (ValueId v : body.results) value(v);
  return key;
}

}  // namespace

void Printer::fused(Sheet& s, const Op& op) {
  const Region& body = s.f.regions[op.regions[0].index];
  if (op.attr.claim == Claim::none) return group(s, op);
  std::vector<std::string> arguments;
  for (ValueId v : op.operands) arguments.push_back(show(s.term(v)));
  const std::string claim(name(op.attr.claim));
  const std::string list = claimed_axes(s, op);
  Term made =
      list.empty() ? call(claim, arguments)
      : op.attr.claim == Claim::softmax && !s.term(op.operands[0]).condition.empty()
          ? reduce(claim, list, s.term(op.operands[0]).chosen, s.term(op.operands[0]).condition)
          : reduce(claim, list, fmt::format("{}", fmt::join(arguments, ", ")));
  // Named before what stands inside, which often has the same names.
  for (ValueId v : op.results)
    if (const std::string own = s.own_name(v, true); !own.empty() && s.uses[v.index] > 0)
      bound_.try_emplace({&s.f, v.index}, s.fresh(own));
  place(s, op, op.results[0], made, true);
  for (std::size_t i = 1; i < op.results.size(); ++i) {
    std::string part = s.own_name(op.results[i], true);
    if (part.empty()) part = s.own_name(body.results[i], true);
    if (part.empty()) part = fmt::format("{}", i);
    const Term more = call(fmt::format("{}_{}", claim, part), arguments);
    place(s, op, op.results[i], more, s.uses[op.results[i].index] > 0);
  }
  if (defined_.insert(key_of(s.f, op)).second) define(s, op, claim);
}

void Printer::group(Sheet& s, const Op& op) {
  const Region& body = s.f.regions[op.regions[0].index];
  for (std::size_t i = 0; i < body.arguments.size(); ++i) {
    const ValueId v = op.operands[i], inside = body.arguments[i];
    if (const OpId def = s.f.value(v).def;
        def.valid() && s.uses[inside.index] > 1 && !s.term(v).light) {
      const std::string name = s.invented(s.f.op(def));
      equation(s, name, s.f.type(v), s.term(v));
      s.terms[v.index] = light(name);
    }
    s.terms[inside.index] = s.term(v);
  }
  for (std::size_t i = 0; i < op.results.size(); ++i)
    if (const std::string own = s.own_name(op.results[i]); !own.empty()) {
      const auto bound = bound_.find({&s.f, op.results[i].index});
      bound_[{&s.f, body.results[i].index}] = bound != bound_.end() ? bound->second : s.fresh(own);
    }
  region(s, body);
  for (std::size_t i = 0; i < op.results.size(); ++i)
    s.terms[op.results[i].index] = s.term(body.results[i]);
}

void Printer::define(Sheet& s, const Op& op, const std::string& claim) {
  const Region& body = s.f.regions[op.regions[0].index];
  std::vector<std::string> names, results;
  for (std::size_t i = 0; i < body.arguments.size(); ++i) {
    const Term& given = s.term(op.operands[i]);
    Term& inside = s.terms[body.arguments[i].index];
    inside = given.light ? given : light(argument_name(s, body.arguments[i]));
    names.push_back(show(inside));
  }
  // What it gives has lines, so that the heading can name it.
  std::string before = std::move(out_);
  out_.clear();
  comment_ += 2;
  region(s, body);
  comment_ -= 2;
  before.swap(out_);
  for (ValueId v : body.results) results.push_back(show(s.term(v)));
  ++comment_;
  line(fmt::format("{}({}) gives {}:", claim, fmt::join(names, ", "), fmt::join(results, ", ")));
  --comment_;
  out_ += before;
}

void Printer::scan(Sheet& s, const Op& op) {
  const Region& body = s.f.regions[op.regions[0].index];
  const std::string t = s.axis(op.attr.from);
  for (std::size_t i = 0; i < op.operands.size(); ++i) {
    const ValueId inside = body.arguments[i];
    const Term& given = s.term(op.operands[i]);
    if (i < op.attr.carried) {
      // Read one step back, by the name that its next value gets.
      const ValueId next = body.results[i];
      const std::string own = s.own_name(next, true);
      const std::string name = s.fresh(own.empty() ? s.own_name(inside, true) : own);
      bound_[{&s.f, next.index}] = name;
      s.terms[inside.index] =
          read(light(name), t, fmt::format("{} {} 1", t, op.attr.reverse ? "+" : "-"));
      if (show(given) != "0") line(fmt::format("# {} starts as {}", name, show(given)));
    } else if (given.light || show(given).size() <= 16) {
      s.terms[inside.index] = given;
    } else {
      const std::string name = argument_name(s, inside);
      equation(s, name, s.f.type(op.operands[i]), given);
      s.terms[inside.index] = light(name);
    }
  }
  line(fmt::format("scan {} {{{}", t, op.attr.reverse ? "  # the last position first" : ""));
  ++depth_;
  along_.push_back(t);
  region(s, body);
  along_.pop_back();
  --depth_;
  line("}");
  for (std::size_t i = 0; i < op.results.size(); ++i) {
    const Term& inside = s.term(body.results[i]);
    Term& outside = s.terms[op.results[i].index];
    outside = inside;
    if (i < op.attr.carried)
      outside = read(inside, t, op.attr.reverse ? "0" : fmt::format("size({}) - 1", t));
    outside.light = true;
  }
}

}  // namespace gradc::math
