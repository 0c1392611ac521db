// Recognition. Every function is rebuilt front to back; each value gets its canonical form
// (canonical.h), and the first value whose form a spelling of fused.def divides becomes the fused
// operation times what is left. What that leaves unneeded, simplification drops. Then attention is
// grown around each softmax (fuse_attention.cpp). One form a value, a bounded number of spellings a
// form: linear.
#include "passes/fuse.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "ir/attention.h"
#include "passes/fuse_parts.h"
#include "passes/passes.h"

namespace gradc {
namespace fusing {

using canonical::Algebra;
using canonical::TermId;

std::string text_of_axes(const Program& program, const Function& f, const AxisList& axes) {
  std::string out;
  for (AxisId a : axes)
    out += fmt::format("{}{}", out.empty() ? "" : " ", program.text(f.axis(a).name));
  return out;
}

std::string text_of_value(const Program& program, const Function& f, ValueId v) {
  if (f.value(v).name.valid()) return fmt::format("`{}`", program.text(f.value(v).name));
  for (const Group& g : f.groups)
    if (v.index >= g.first.index && v.index < g.first.index + g.count)
      return fmt::format("`{}`", leaves(program, g.bundle)[v.index - g.first.index].path);
  return fmt::format("a value [{}]", text_of_axes(program, f, f.type(v).axes));
}

// Through elementwise operations: −∞ comes from a constant, from a logarithm, or from outside.
bool may_be_lowest(const Function& f, ValueId x) {
  std::vector<char> seen(f.values.size(), 0);
  std::vector<ValueId> work{x};
  while (!work.empty()) {
    const ValueId v = work.back();
    work.pop_back();
    if (seen[v.index]++ || !is_real(f.type(v).dtype)) continue;
    const OpId def = f.value(v).def;
    if (!def.valid()) {
      // Parameters are numbers; an argument by itself may hold anything.
      const auto in_group = [&](const Group& g) {
        return v.index >= g.first.index && v.index < g.first.index + g.count;
      };
      if (std::none_of(f.groups.begin(), f.groups.end(), in_group)) return true;
      continue;
    }
    const Op& op = f.op(def);
    if (op.code == Opcode::log_) return true;
    if (op.code == Opcode::constant_ && op.attr.real == -std::numeric_limits<double>::infinity())
      return true;
    const Kind kind = facts(op.code).kind;
    if (!is_elementwise(kind) && kind != Kind::view && kind != Kind::read) continue;
    work.insert(work.end(), op.operands.begin(), op.operands.end());
  }
  return false;
}

namespace {

class Rebuild {
 public:
  Rebuild(Program& program, const Function& from, Function& out, const FuseOptions& options,
          std::vector<Remark>& remarks)
      : program_(program),
        from_(from),
        to_(program, out),
        copy_(from, to_),
        options_(options),
        remarks_(remarks) {}

  void run() {
    copy_.arguments();
    Algebra algebra(program_, to_);
    operations(from_.body(), algebra);
    std::vector<ValueId> results;
    for (ValueId v : from_.body().results) results.push_back(copy_(v));
    to_.finish(results, from_.result_names);
  }

 private:
  // Depth of regions is bounded by the parsers.
  void operations(const Region& region, Algebra& algebra) {
    Finder finder(program_, to_.function(), algebra, options_);
    for (OpId id : region.ops) {
      const Op& op = from_.op(id);
      if (!op.regions.empty() && op.attr.claim == Claim::none) {
        inner(op);
        continue;
      }
      copy_.clone(id);
      if (facts(op.code).kind == Kind::control || !is_real(from_.type(op.results[0]).dtype))
        continue;
      const ValueId v = copy_(op.results[0]);
      if (!is_elementwise(op.code) && op.code != Opcode::contract_) {
        algebra.of(v);
        continue;
      }
      const auto found = finder.find(v, algebra.of(v));
      if (!found) continue;
      const ValueId better = make(*found, v, algebra);
      if (better.valid()) replace(op.results[0], v, better);
    }
    for (Remark& r : finder.near()) remarks_.push_back(std::move(r));
  }

  void inner(const Op& op) {
    std::vector<RegionId> regions;
    for (RegionId r : op.regions) {
      const Region& region = from_.regions[r.index];
      const RegionId opened = to_.open();
      for (ValueId v : region.arguments)
        copy_.map(v, to_.argument(copy_(from_.type(v)), program_.text(from_.value(v).name)));
      Algebra algebra(program_, to_);
      operations(region, algebra);
      std::vector<ValueId> results;
      for (ValueId v : region.results) results.push_back(copy_(v));
      to_.close(results);
      regions.push_back(opened);
    }
    to_.at = op.loc;
    std::vector<ValueId> operands;
    std::vector<Type> types;
    for (ValueId v : op.operands) operands.push_back(copy_(v));
    for (ValueId v : op.results) types.push_back(copy_(from_.type(v)));
    const std::vector<ValueId> made =
        to_.add_multi(op.code, operands, copy_(op.attr), types, regions);
    for (std::size_t i = 0; i < made.size(); ++i) {
      copy_.map(op.results[i], made[i]);
      to_.name(made[i], program_.text(from_.value(op.results[i]).name));
    }
  }

  // The better value takes the name.
  void replace(ValueId of, ValueId v, ValueId better) {
    copy_.map(of, better);
    std::vector<Value>& values = to_.function().values;
    if (!values[better.index].name.valid())
      std::swap(values[better.index].name, values[v.index].name);
  }

  // Lines of what stands between the fused operation's operands and its value.
  LocId lines(ValueId v, const std::vector<ValueId>& until) {
    const Function& f = to_.function();
    LocId loc = f.op(f.value(v).def).loc;
    std::set<std::uint32_t> seen;
    for (ValueId u : until) seen.insert(u.index);
    std::vector<ValueId> work{v};
    while (!work.empty()) {
      const ValueId w = work.back();
      work.pop_back();
      const OpId def = f.value(w).def;
      if (!seen.insert(w.index).second || !def.valid()) continue;
      const Op& op = f.op(def);
      const Kind kind = facts(op.code).kind;
      const bool part = is_elementwise(kind) || kind == Kind::reduce ||
                        op.code == Opcode::expand_ || (w == v && kind == Kind::contract) ||
                        op.code == Opcode::gather_;
      if (!part) continue;
      loc = program_.unite(loc, op.loc);
      work.insert(work.end(), op.operands.begin(), op.operands.end());
    }
    return loc;
  }

  ValueId make(const Found& found, ValueId v, Algebra& algebra) {
    const Type type = to_.type(v);
    to_.at = to_.function().op(to_.function().value(v).def).loc;
    std::vector<ValueId> met;
    const ValueId x = algebra.realise(found.words.x, type.dtype, &met);
    if (!x.valid() || !to_.type(x).axes.contains_all(found.words.over)) return {};
    ValueId target;
    if (found.words.target.valid()) {
      target = algebra.value(found.words.target);
      // A number has no dtype in the algebra, so its value may be a real.
      if (!target.valid() || !is_integer(to_.type(target).dtype)) return {};
    }
    double ignored = 1;
    const bool alone = algebra.is_number(found.rest, ignored);
    const ValueId rest = alone ? ValueId{} : algebra.realise(found.rest, type.dtype, &met);
    if (!alone && !rest.valid()) return {};
    met.push_back(x);
    if (target.valid()) met.push_back(target);
    const LocId here = to_.at;
    to_.at = lines(v, met);
    ValueId y = fused(found, x, target, algebra);
    if (found.contracted) {
      y = contracted(found, y, type, algebra);
      if (!y.valid()) return {};
    }
    to_.at = here;
    return finish(found, y, rest, type, algebra);
  }

  ValueId fused(const Found& found, ValueId x, ValueId target, Algebra& algebra) {
    const Claim claim = found.spelling->claim;
    const auto key =
        std::tuple(found.spelling, x, target, found.words.eps,
                   std::vector<AxisId>(found.words.over.begin(), found.words.over.end()));
    if (const auto it = made_.find(key); it != made_.end()) return it->second;
    const bool guarded = claim == Claim::softmax && may_be_lowest(to_.function(), x);
    std::vector<ValueId> operands{x};
    if (target.valid()) operands.push_back(target);
    const RegionId region = to_.open();
    std::vector<ValueId> arguments;
    for (ValueId o : operands) {
      const std::string name(program_.text(to_.function().value(o).name));
      arguments.push_back(to_.argument(to_.type(o), name));
    }
    const ValueId target_inside = target.valid() ? arguments[1] : ValueId{};
    ValueId y;
    if (claim == Claim::softmax)
      y = build_softmax(to_, arguments[0], found.words.over[0], guarded).weight;
    else if (claim == Claim::cross_entropy)
      y = build_cross_entropy(to_, arguments[0], target_inside, found.words.over[0]);
    else
      y = build_formula(found.spelling->formula, found.words, arguments[0], target_inside, to_);
    to_.close(std::array{y});
    const ValueId out = to_.add_multi(Opcode::fused_, operands, {.claim = claim},
                                      std::array{to_.type(y)}, std::array{region})[0];
    algebra.of(out);
    return made_[key] = out;
  }

  ValueId contracted(const Found& found, ValueId weight, const Type& type, Algebra& algebra) {
    const TermId weights = algebra.mul(algebra.of(weight), found.weights);
    const ValueId a = algebra.realise(weights, type.dtype);
    const ValueId b = algebra.realise(found.with, type.dtype);
    if (!a.valid() || !b.valid()) return {};
    AxisList axes;
    for (AxisId x : unite(to_.type(a).axes, to_.type(b).axes))
      if (!found.words.over.contains(x)) axes.push_back(x);
    if (!to_.type(a).axes.contains_all(found.words.over) ||
        !to_.type(b).axes.contains_all(found.words.over))
      return {};
    const ValueId y = to_.contract(a, b, axes);
    algebra.of(y);
    return y;
  }

  // The fused value with what is left of the form, as the value that it replaces.
  ValueId finish(const Found& found, ValueId y, ValueId rest, const Type& type, Algebra& algebra) {
    double k = 1;
    const bool number = algebra.is_number(found.rest, k);
    if (found.added) {
      if (found.coefficient == -1) {
        y = to_.unary(Opcode::neg_, y);
      } else if (found.coefficient != 1) {
        const ValueId c = to_.constant(found.coefficient, type.dtype);
        y = to_.binary(Opcode::mul_, y, c);
      }
      if (number && k != 0) {
        const ValueId c = to_.constant(k, type.dtype);
        y = to_.binary(Opcode::add_, y, c);
      }
      if (!number) y = to_.binary(Opcode::add_, y, rest);
    } else if (!number) {
      y = to_.binary(Opcode::mul_, y, rest);
    } else if (k != 1) {
      const ValueId c = to_.constant(k, type.dtype);
      y = to_.binary(Opcode::mul_, y, c);
    }
    if (!type.axes.contains_all(to_.type(y).axes)) return {};
    y = to_.expand(y, type.axes);
    algebra.of(y);
    return y;
  }

  Program& program_;
  const Function& from_;
  Builder to_;
  Cloner copy_;
  const FuseOptions& options_;
  std::vector<Remark>& remarks_;
  std::map<std::tuple<const Spelling*, ValueId, ValueId, double, std::vector<AxisId>>, ValueId>
      made_;
};

}  // namespace

ValueId build_cross_entropy(Builder& to, ValueId x, ValueId target, AxisId axis) {
  const ValueId max = to.reduce(Opcode::amax_, x, {axis});
  const ValueId shift = to.unary(Opcode::stop_, max);
  const ValueId centred = to.add(Opcode::sub_, {x, shift}, {}, to.type(x));
  const ValueId exp = to.unary(Opcode::exp_, centred);
  const ValueId sum = to.sum(exp, {axis});
  const ValueId log = to.unary(Opcode::log_, sum);
  const ValueId lse = to.binary(Opcode::add_, shift, log);
  const ValueId at = to.add(Opcode::gather_, {x, target}, {.from = axis});
  return to.binary(Opcode::sub_, lse, at);
}

}  // namespace fusing

namespace {

// What a fused operation is of, in the words of its kind.
std::string told(const Program& program, const Function& f, const Op& op) {
  const Region& region = f.regions[op.regions[0].index];
  AttentionForm form;
  if (op.attr.claim == Claim::attention && attention_form(f, region, form).empty())
    return fmt::format("of {} over {}", fusing::text_of_axes(program, f, form.rows),
                       program.text(f.axis(form.keys).name));
  for (OpId o : region.ops)
    if (const Op& inner = f.op(o); facts(inner.code).kind == Kind::reduce) {
      AxisList over;
      for (AxisId a : inner.attr.axes) over.push_back(a);
      return fmt::format("over {}", fusing::text_of_axes(program, f, over));
    }
  return fmt::format("of [{}]", fusing::text_of_axes(program, f, f.type(op.results[0]).axes));
}

// What stands fused in the end, and what came near.
void tell(const Program& program, std::vector<Remark> near, std::vector<Remark>& out) {
  for (const Function& f : program.functions)
    for (const Op& op : f.ops)
      if (op.code == Opcode::fused_ && op.attr.claim != Claim::none)
        out.push_back({.at = op.loc,
                       .claim = op.attr.claim,
                       .fused = true,
                       .function = std::string(program.text(f.name)),
                       .text = told(program, f, op),
                       .advice = ""});
  out.insert(out.end(), std::make_move_iterator(near.begin()), std::make_move_iterator(near.end()));
  const auto place = [&](const Remark& r) {
    const std::vector<SourcePos>& lines = program.location(r.at).lines;
    return lines.empty() ? SourcePos{} : lines[0];
  };
  std::stable_sort(out.begin(), out.end(),
                   [&](const Remark& a, const Remark& b) { return place(a) < place(b); });
}

}  // namespace

Program fuse(const Program& program, const FuseOptions& options, std::vector<Remark>* remarks) {
  Program out = program;
  std::vector<Remark> near;
  for (std::size_t i = 0; i < out.functions.size(); ++i) {
    if (out.functions[i].family != Family::none) continue;
    const Function from = std::move(out.functions[i]);
    Function to;
    to.name = from.name;
    const std::size_t before = near.size();
    fusing::Rebuild(out, from, to, options, near).run();
    for (std::size_t k = before; k < near.size(); ++k) near[k].function = out.text(from.name);
    out.functions[i] = std::move(to);
  }
  out = simplify(out);
  if (options.on(Claim::attention)) {
    out = simplify(fusing::fuse_attention(out, &near));
    // A softmax was looked for so that attention could be.
    std::array<bool, claim_count> softmax{};
    softmax[static_cast<std::size_t>(Claim::softmax)] = true;
    if (!options.on(Claim::softmax)) out = unfuse_claims(out, softmax);
  }
  if (remarks != nullptr) tell(out, std::move(near), *remarks);
  return out;
}

}  // namespace gradc
