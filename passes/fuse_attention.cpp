// Attention, grown around a softmax over keys. Backward from the softmax's x, through elementwise
// operations, stands one contraction of queries and keys; forward from its weight, through products
// with what does not know the scores, one contraction over the keys. What lies between goes inside,
// and so does all that makes masks and biases in the axes of the scores. Nothing inside may have a
// reader outside. ir/attention.h has the form, which is asked for at the end.
#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "ir/attention.h"
#include "passes/fuse_parts.h"

namespace gradc::fusing {
namespace {

// Where an attention stands in a function.
struct Site {
  OpId softmax, score, sum;
  AxisId keys;
  ValueId q, k, u;
  int weight_slot = 0;             // of `sum`'s operands
  bool guarded = false;
  std::vector<OpId> inside;        // in the region's order; softmax, score and sum among them
  std::set<std::uint32_t> made_of_scores;  // of these: what the attention replaces
  std::vector<ValueId> captures;
};

struct Refusal {
  std::string text, advice;
  LocId at;  // where the reason stands
};

bool is_read_of_memory(Opcode code) {
  const Kind k = facts(code).kind;
  return (k == Kind::view || k == Kind::read) && code != Opcode::expand_ &&
         code != Opcode::scatter_ && code != Opcode::update_;
}

class Growth {
 public:
  Growth(const Program& program, const Function& f)
      : program_(program), f_(f), users_(f.values.size()), escapes_(f.values.size(), 0),
        order_(f.ops.size(), 0) {
    std::uint32_t n = 0;
    for (const Region& r : f.regions) {
      for (OpId o : r.ops) {
        order_[o.index] = n++;
        for (ValueId v : f.op(o).operands) users_[v.index].push_back(o);
      }
      for (ValueId v : r.results) escapes_[v.index] = 1;
    }
  }

  // nullopt without a refusal: nobody contracts the weights over the keys.
  std::optional<Site> grow(OpId softmax, std::optional<Refusal>& refusal) {
    Site s;
    s.softmax = softmax;
    const Op& op = f_.op(softmax);
    SoftmaxForm form;
    const Region& region = f_.regions[op.regions[0].index];
    if (!softmax_form(f_, region.results[0], form)) return std::nullopt;
    s.keys = form.axis;
    s.guarded = form.guarded;
    part_.assign(f_.values.size(), none);
    inside_.clear();
    std::optional<Refusal> why;
    const bool candidate = follow_weights(s, why);
    if (!candidate) return std::nullopt;
    if (!why) why = follow_scores(s);
    if (!why) why = collect(s);
    if (why) {
      if (!why->at.valid()) why->at = f_.op(s.sum).loc;
      refusal = std::move(why);
      return std::nullopt;
    }
    return s;
  }

 private:
  enum Part : char { none, of_score, of_weight };

  const Op* def(ValueId v) const {
    const OpId d = f_.value(v).def;
    return d.valid() ? &f_.op(d) : nullptr;
  }
  std::string shown(ValueId v) const {
    const std::string_view n = program_.text(f_.value(v).name);
    const std::string axes = text_of_axes(program_, f_, f_.type(v).axes);
    return n.empty() ? fmt::format("a value [{}]", axes) : fmt::format("`{}` [{}]", n, axes);
  }
  std::string axis(AxisId a) const { return std::string(program_.text(f_.axis(a).name)); }
  bool is_zero(ValueId v) const {
    const Op* op = def(v);
    while (op != nullptr && op->code == Opcode::expand_) op = def(op->operands[0]);
    return op != nullptr && op->code == Opcode::constant_ && op->attr.real == 0 &&
           op->attr.integer == 0;
  }

  // The operand through which the operation multiplies; −1: it does not.
  int multiplies(const Op& op, ValueId w) const {
    const auto slot = [&] {
      return static_cast<int>(std::find(op.operands.begin(), op.operands.end(), w) -
                              op.operands.begin());
    };
    switch (op.code) {
      case Opcode::mul_: return op.operands[0] != op.operands[1] ? slot() : -1;
      case Opcode::div_: return op.operands[0] == w && op.operands[1] != w ? 0 : -1;
      case Opcode::neg_:
      case Opcode::expand_: return 0;
      case Opcode::select_:
        if (op.operands[1] == w && is_zero(op.operands[2])) return 1;
        if (op.operands[2] == w && is_zero(op.operands[1])) return 2;
        return -1;
      default: return -1;
    }
  }

  bool follow_weights(Site& s, std::optional<Refusal>& why) {
    const ValueId first = f_.op(s.softmax).results[0];
    std::vector<ValueId> work{first};
    part_[first.index] = of_weight;
    std::optional<Refusal> fault;
    while (!work.empty()) {
      const ValueId w = work.back();
      work.pop_back();
      if (escapes_[w.index])
        fault = {fmt::format("its weights {} are a result of their own", shown(w)),
                 "compute them a second time for what else needs them", {}};
      for (OpId o : users_[w.index]) {
        const Op& op = f_.op(o);
        if (op.code == Opcode::contract_) {
          if (s.sum == o || !f_.type(op.operands[0]).axes.contains(s.keys) ||
              !f_.type(op.operands[1]).axes.contains(s.keys) ||
              f_.type(op.results[0]).axes.contains(s.keys))
            continue;
          if (s.sum.valid()) {
            fault = {"its weights are contracted twice", "write the softmax once for each",
                     op.loc};
            continue;
          }
          s.sum = o;
          s.weight_slot = op.operands[0] == w ? 0 : 1;
          continue;
        }
        if (multiplies(op, w) < 0) {
          if (!fault || !fault->at.valid())
            fault = {fmt::format("its weights {} are used by `{}`, too", shown(w),
                                 facts(op.code).name),
                     "between softmax and weighted sum only products with what does not know the "
                     "scores keep the weights inside",
                     op.loc};
          continue;
        }
        const ValueId r = op.results[0];
        if (part_[r.index] != none) continue;
        part_[r.index] = of_weight;
        inside_.insert(o.index);
        work.push_back(r);
      }
    }
    if (!s.sum.valid()) return false;
    why = std::move(fault);
    const Op& sum = f_.op(s.sum);
    s.u = sum.operands[static_cast<std::size_t>(1 - s.weight_slot)];
    if (!why && part_[s.u.index] == of_weight)
      why = {"its weights are contracted with themselves", "", sum.loc};
    return true;
  }

  std::optional<Refusal> follow_scores(Site& s) {
    const ValueId x = f_.op(s.softmax).operands[0];
    std::set<std::uint32_t> seen;
    std::vector<ValueId> work{x};
    std::vector<OpId> contractions;
    while (!work.empty()) {
      const ValueId v = work.back();
      work.pop_back();
      if (!seen.insert(v.index).second) continue;
      const Op* op = def(v);
      if (op == nullptr) continue;
      if (op->code == Opcode::contract_ && f_.type(v).axes.contains(s.keys))
        contractions.push_back(f_.value(v).def);
      if (is_elementwise(op->code) || op->code == Opcode::expand_)
        work.insert(work.end(), op->operands.begin(), op->operands.end());
    }
    std::sort(contractions.begin(), contractions.end(),
              [&](OpId a, OpId b) { return order_[a.index] < order_[b.index]; });
    std::vector<OpId> scores;
    for (OpId o : contractions) {
      const Op& op = f_.op(o);
      const bool left = f_.type(op.operands[0]).axes.contains(s.keys);
      const bool right = f_.type(op.operands[1]).axes.contains(s.keys);
      if (left == right) continue;
      const AxisList& k = f_.type(op.operands[left ? 0 : 1]).axes;
      const AxisList& q = f_.type(op.operands[left ? 1 : 0]).axes;
      const AxisList& result = f_.type(op.results[0]).axes;
      if (std::any_of(result.begin(), result.end(),
                      [&](AxisId a) { return q.contains(a) && !k.contains(a); }))
        scores.push_back(o);
    }
    if (scores.empty()) {
      if (contractions.empty())
        return Refusal{fmt::format("the scores {} are no product of queries and keys", shown(x)),
                       "scores are a sum over features of q * k", {}};
      return Refusal{
          fmt::format("no factor of the scores lacks the axis `{}` and has one of its own",
                      axis(s.keys)),
          "queries have an axis that the keys lack, and the reverse", f_.op(contractions[0]).loc};
    }
    if (scores.size() > 1)
      return Refusal{"the scores are a sum of two contractions",
                     "put the features of both side by side, so that one sum over them gives the "
                     "scores",
                     f_.op(scores[1]).loc};
    s.score = scores[0];
    const Op& score = f_.op(s.score);
    const bool left = f_.type(score.operands[0]).axes.contains(s.keys);
    s.k = score.operands[left ? 0 : 1];
    s.q = score.operands[left ? 1 : 0];
    const ValueId first = score.results[0];
    for (AxisId a : f_.type(first).axes)
      if (a != s.keys && !f_.type(s.q).axes.contains(a))
        return Refusal{fmt::format("the keys have two axes that the queries lack, `{}` and `{}`",
                                   axis(a), axis(s.keys)),
                       "attention is over one axis of keys; merge two into one", score.loc};
    if (!same_set(f_.type(first).axes, f_.type(x).axes))
      return Refusal{fmt::format("the softmax has the axes [{}], the scores [{}]",
                                 text_of_axes(program_, f_, f_.type(x).axes),
                                 text_of_axes(program_, f_, f_.type(first).axes)),
                     "what is added to scores may not have axes that these lack", score.loc};
    // Who reads the scores.
    part_[first.index] = of_score;
    work = {first};
    while (!work.empty()) {
      const ValueId v = work.back();
      work.pop_back();
      if (escapes_[v.index])
        return Refusal{fmt::format("its scores {} are a result of their own", shown(v)),
                       "compute them a second time for what else needs them", {}};
      for (OpId o : users_[v.index]) {
        if (o == s.softmax) continue;
        const Op& op = f_.op(o);
        if (op.results.size() != 1 || !seen.contains(op.results[0].index))
          return Refusal{fmt::format("its scores {} are used by `{}`, too", shown(v),
                                     facts(op.code).name),
                         "compute them a second time for what else needs them", op.loc};
        const ValueId r = op.results[0];
        if (part_[r.index] != none) continue;
        part_[r.index] = of_score;
        inside_.insert(o.index);
        work.push_back(r);
      }
    }
    const Op& sum = f_.op(s.sum);
    const AxisList& out = f_.type(sum.results[0]).axes;
    for (AxisId a : f_.type(first).axes)
      if (a != s.keys && !out.contains(a))
        return Refusal{fmt::format("the weighted sum is over `{}`, too", axis(a)),
                       "sum over the keys first, and over the rest of the result", sum.loc};
    for (AxisId a : f_.type(s.u).axes)
      if (a != s.keys && !out.contains(a))
        return Refusal{fmt::format("the weighted sum is over `{}`, too", axis(a)),
                       "sum over the keys first, and over the rest of the result", sum.loc};
    for (AxisId a : f_.type(s.u).axes)
      if (f_.type(first).axes.contains(a) && !f_.type(s.k).axes.contains(a))
        return Refusal{fmt::format("the values have the rows' axis `{}`", axis(a)),
                       "each row of scores weights the same values", sum.loc};
    return std::nullopt;
  }

  bool is_pair(const Site& s, ValueId v) const {
    const AxisList& axes = f_.type(v).axes;
    if (!axes.contains(s.keys)) return false;
    const AxisList& score = f_.type(f_.op(s.score).results[0]).axes;
    return std::any_of(axes.begin(), axes.end(), [&](AxisId a) {
      return score.contains(a) && !f_.type(s.k).axes.contains(a);
    });
  }
  // Cheap, and what tells which tiles a mask excludes: integers, conditions, numbers made of
  // positions.
  bool shows_structure(ValueId v) {
    const Op* op = def(v);
    if (op == nullptr) return false;
    if (facts(op->code).kind == Kind::source) return op->code != Opcode::flags_;
    if (!is_elementwise(op->code)) return op->code == Opcode::expand_ && shows_structure(op->operands[0]);
    if (!is_real(f_.type(v).dtype)) return true;
    return facts(op->code).cost <= 1 &&
           std::all_of(op->operands.begin(), op->operands.end(),
                       [&](ValueId o) { return shows_structure(o); });
  }

  // The operations inside and the values that they read outside.
  std::optional<Refusal> collect(Site& s) {
    const AxisList& axes = f_.type(f_.op(s.score).results[0]).axes;
    for (OpId o : {s.softmax, s.score, s.sum}) inside_.insert(o.index);
    std::vector<ValueId> work;
    const auto read = [&](const Op& op) {
      for (ValueId v : op.operands)
        if (v != s.q && v != s.k && v != s.u) work.push_back(v);
    };
    s.made_of_scores = inside_;
    for (std::uint32_t o : s.made_of_scores)
      if (OpId{o} != s.score) read(f_.op(OpId{o}));
    std::set<std::uint32_t> seen, captured;
    while (!work.empty()) {
      const ValueId v = work.back();
      work.pop_back();
      if (part_[v.index] != none || !seen.insert(v.index).second) continue;
      const Op* op = def(v);
      const bool pair = is_pair(s, v);
      const bool small = axes.contains_all(f_.type(v).axes);
      const bool can = op != nullptr && op->results.size() == 1 && depends_on_nothing(*op) &&
                       ((small && (is_elementwise(op->code) || op->code == Opcode::expand_ ||
                                   facts(op->code).kind == Kind::source)) ||
                        is_read_of_memory(op->code));
      if (can && ((pair && reads_memory(*op)) || (small && shows_structure(v)))) {
        inside_.insert(f_.value(v).def.index);
        read(*op);
        continue;
      }
      if (pair && op != nullptr && facts(op->code).kind != Kind::control)
        return Refusal{fmt::format("{} has the axes of rows and keys and is made by `{}`", shown(v),
                                   facts(op->code).name),
                       "masks and biases are elementwise, or read from tables", op->loc};
      if (captured.insert(v.index).second) s.captures.push_back(v);
    }
    for (std::uint32_t o : inside_) s.inside.push_back(OpId{o});
    const auto before = [&](OpId a, OpId b) { return order_[a.index] < order_[b.index]; };
    std::sort(s.inside.begin(), s.inside.end(), before);
    std::sort(s.captures.begin(), s.captures.end());
    return std::nullopt;
  }
  bool depends_on_nothing(const Op& op) const {
    return std::none_of(op.operands.begin(), op.operands.end(),
                        [&](ValueId v) { return part_[v.index] != none; });
  }
  // A view or read goes inside if what it reads comes in as it is.
  bool reads_memory(const Op& op) const {
    if (!is_read_of_memory(op.code)) return true;
    const std::size_t tensors = op.code == Opcode::concat_ ? op.operands.size() : 1;
    for (std::size_t i = 0; i < tensors; ++i) {
      const Op* from = def(op.operands[i]);
      if (from != nullptr && is_elementwise(from->code)) return false;
    }
    return true;
  }

  const Program& program_;
  const Function& f_;
  std::vector<std::vector<OpId>> users_;
  std::vector<char> escapes_;
  std::vector<std::uint32_t> order_;  // of an operation in the text
  std::vector<Part> part_;
  std::set<std::uint32_t> inside_;
};

class Rebuild {
 public:
  Rebuild(Program& program, const Function& from, Function& out,
          const std::map<OpId, Site>& sites)
      : program_(program), from_(from), to_(program, out), copy_(from, to_), sites_(sites) {}

  // Reasons by the softmax's operation, where the form did not come out.
  std::map<OpId, std::string> run() {
    copy_.arguments();
    operations(from_.body());
    std::vector<ValueId> results;
    for (ValueId v : from_.body().results) results.push_back(copy_(v));
    to_.finish(results, from_.result_names);
    return std::move(refused_);
  }

 private:
  void operations(const Region& region) {
    for (OpId id : region.ops) {
      const Op& op = from_.op(id);
      if (!op.regions.empty() && op.attr.claim == Claim::none) {
        inner(op);
        continue;
      }
      copy_.clone(id);
      if (const auto it = sites_.find(id); it != sites_.end()) attention(it->second);
    }
  }

  void inner(const Op& op) {
    std::vector<RegionId> regions;
    for (RegionId r : op.regions) {
      const Region& region = from_.regions[r.index];
      const RegionId opened = to_.open();
      for (ValueId v : region.arguments)
        copy_.map(v, to_.argument(copy_(from_.type(v)), program_.text(from_.value(v).name)));
      operations(region);
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

  void attention(const Site& s) {
    const Op& sum = from_.op(s.sum);
    std::vector<ValueId> outer{s.q, s.k, s.u};
    outer.insert(outer.end(), s.captures.begin(), s.captures.end());
    const RegionId region = to_.open();
    Cloner inner(from_, to_);
    for (std::uint32_t i = 0; i < from_.axes.size(); ++i)
      inner.map_axis(AxisId{i}, copy_(AxisId{i}));
    std::vector<ValueId> operands, arguments;
    for (ValueId v : outer) {
      operands.push_back(copy_(v));
      arguments.push_back(
          to_.argument(to_.type(operands.back()), program_.text(from_.value(v).name)));
    }
    for (std::size_t i = 0; i < outer.size(); ++i) inner.map(outer[i], arguments[i]);
    LocId loc = from_.op(s.softmax).loc;
    ValueId out;
    for (OpId o : s.inside) {
      const Op& op = from_.op(o);
      to_.at = op.loc;
      if (o == s.score || o == s.sum) {
        const ValueId a = o == s.score
                              ? arguments[0]
                              : inner(op.operands[static_cast<std::size_t>(s.weight_slot)]);
        const ValueId b = arguments[o == s.score ? 1 : 2];
        const ValueId r = to_.add(Opcode::contract_, {a, b}, {}, inner(from_.type(op.results[0])));
        named(r, op.results[0]);
        inner.map(op.results[0], r);
        if (o == s.sum) out = r;
      } else if (o == s.softmax) {
        const SoftmaxForm form =
            build_softmax(to_, inner(op.operands[0]), copy_(s.keys), s.guarded);
        named(form.weight, op.results[0]);
        inner.map(op.results[0], form.weight);
      } else {
        inner.clone(o);
        if (s.made_of_scores.contains(o.index)) loc = program_.unite(loc, op.loc);
        continue;
      }
      loc = program_.unite(loc, op.loc);
    }
    to_.close(std::array{out});
    to_.at = loc;
    const std::vector<ValueId> made =
        to_.add_multi(Opcode::fused_, operands, {.claim = Claim::attention},
                      std::array{to_.type(out)}, std::array{region});
    AttentionForm form;
    const Function& f = to_.function();
    if (const std::string why = attention_form(f, f.regions[region.index], form); !why.empty()) {
      refused_[s.softmax] = why;
      return;
    }
    const ValueId plain = copy_(sum.results[0]);
    std::vector<Value>& values = to_.function().values;
    std::swap(values[made[0].index].name, values[plain.index].name);
    copy_.map(sum.results[0], made[0]);
  }
  void named(ValueId v, ValueId like) {
    to_.name(v, program_.text(from_.value(like).name));
  }

  Program& program_;
  const Function& from_;
  Builder to_;
  Cloner copy_;
  const std::map<OpId, Site>& sites_;  // by the weighted sum
  std::map<OpId, std::string> refused_;
};

}  // namespace

Program fuse_attention(const Program& program, const FuseOptions&, std::vector<Remark>* remarks) {
  Program out = program;
  for (std::size_t i = 0; i < out.functions.size(); ++i) {
    if (out.functions[i].family != Family::none) continue;
    const Function from = out.functions[i];
    const std::string function(out.text(from.name));
    const auto refuse = [&](const Refusal& r) {
      if (remarks != nullptr)
        remarks->push_back({.at = r.at,
                            .claim = Claim::attention,
                            .fused = false,
                            .function = function,
                            .text = r.text,
                            .advice = r.advice});
    };
    std::map<OpId, Site> sites;
    Growth growth(out, from);
    for (std::uint32_t o = 0; o < from.ops.size(); ++o) {
      if (from.ops[o].code != Opcode::fused_ || from.ops[o].attr.claim != Claim::softmax) continue;
      std::optional<Refusal> refusal;
      if (std::optional<Site> s = growth.grow(OpId{o}, refusal))
        sites.emplace(s->sum, std::move(*s));
      else if (refusal)
        refuse(*refusal);
    }
    if (sites.empty()) continue;
    Function to;
    to.name = from.name;
    for (const auto& [softmax, why] : Rebuild(out, from, to, sites).run())
      refuse({why, "", from.op(softmax).loc});
    out.functions[i] = std::move(to);
  }
  return out;
}

}  // namespace gradc::fusing
