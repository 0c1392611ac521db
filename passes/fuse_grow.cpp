// Attention, grown around a softmax over keys. Backward from the softmax's x, through elementwise
// operations, stands one contraction of queries and keys; forward from its weight, through products
// with what does not know the scores, one contraction over the keys. What lies between goes inside,
// and so does all that makes masks and biases in the axes of the scores. Nothing inside may have a
// reader outside.
#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "ir/attention.h"
#include "passes/fuse_attention.h"
#include "passes/fuse_parts.h"

namespace gradc::fusing {
namespace {

bool is_read_of_memory(Opcode code) {
  const Kind k = facts(code).kind;
  return (k == Kind::view || k == Kind::read) && code != Opcode::expand_ &&
         code != Opcode::scatter_ && code != Opcode::update_;
}

class Growth {
 public:
  Growth(const Program& program, const Function& f)
      : program_(program),
        f_(f),
        users_(f.values.size()),
        escapes_(f.values.size(), 0),
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
    if (!f_.value(v).name.valid() && f_.value(v).def.valid())
      return fmt::format("[{}]", text_of_axes(program_, f_, f_.type(v).axes));
    return text_of_value(program_, f_, v);
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
      case Opcode::mul_:
        return op.operands[0] != op.operands[1] ? slot() : -1;
      case Opcode::div_:
        return op.operands[0] == w && op.operands[1] != w ? 0 : -1;
      case Opcode::neg_:
      case Opcode::expand_:
        return 0;
      case Opcode::select_:
        if (op.operands[1] == w && is_zero(op.operands[2])) return 1;
        if (op.operands[2] == w && is_zero(op.operands[1])) return 2;
        return -1;
      default:
        return -1;
    }
  }

  bool is_product(ValueId w) const {
    const Op* op = def(w);
    return op != nullptr && op->code == Opcode::mul_;
  }
  // A contraction of something else with what the weights multiply.
  bool is_scaled_row(const Op& op, ValueId w) const {
    const ValueId other = op.operands[op.operands[0] == w ? 1 : 0];
    return part_[other.index] == of_weight;
  }

  bool follow_weights(Site& s, std::optional<Refusal>& why) {
    const ValueId first = f_.op(s.softmax).results[0];
    std::vector<ValueId> work{first};
    part_[first.index] = of_weight;
    std::optional<Refusal> fault;
    OpId elementwise, elsewhere;
    while (!work.empty()) {
      const ValueId w = work.back();
      work.pop_back();
      if (escapes_[w.index])
        fault = {fmt::format("its weights {} are a result of their own", shown(w)),
                 "compute them a second time for what else needs them",
                 {}};
      for (OpId o : users_[w.index]) {
        const Op& op = f_.op(o);
        if (op.code == Opcode::contract_) {
          const int slot = op.operands[0] == w ? 0 : 1;
          if (!f_.type(op.operands[static_cast<std::size_t>(1 - slot)]).axes.contains(s.keys) ||
              f_.type(op.results[0]).axes.contains(s.keys)) {
            if (!is_scaled_row(op, w)) elsewhere = o;
            continue;
          }
          if (s.sum == o) continue;
          if (s.sum.valid()) {
            fault = {"its weights are contracted twice", "write the softmax once for each", op.loc};
            continue;
          }
          s.sum = o;
          s.weight_slot = slot;
          continue;
        }
        if (op.code == Opcode::sum_ && op.attr.axes == std::vector{s.keys} && is_product(w)) {
          elementwise = o;
          continue;
        }
        if (multiplies(op, w) < 0) {
          if (!fault || !fault->at.valid())
            fault = {
                fmt::format("its weights {} are used by `{}`, too", shown(w), facts(op.code).name),
                "between softmax and weighted sum only products with what does not know the "
                "scores keep the weights inside",
                op.loc};
          if (!is_elementwise(op.code)) continue;
        }
        const ValueId r = op.results[0];
        if (part_[r.index] != none) continue;
        part_[r.index] = of_weight;
        inside_.insert(o.index);
        work.push_back(r);
      }
    }
    // Near, and yet no weighted sum: told of what else looks like attention.
    if (!s.sum.valid() && elementwise.valid()) {
      s.sum = elementwise;
      why = {"weights and values are multiplied element by element: neither has an axis of its own",
             "rows have an axis that the values lack, values one of features that rows lack",
             {}};
      return true;
    }
    if (!s.sum.valid() && elsewhere.valid()) {
      s.sum = elsewhere;
      why = {fmt::format("the softmax is over `{}`, the weighted sum is not", axis(s.keys)),
             "both are over the keys",
             {}};
      return true;
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
        return Refusal{"the scores are no product of queries and keys",
                       "scores are a sum over features of q * k",
                       {}};
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
                       "compute them a second time for what else needs them",
                       {}};
      for (OpId o : users_[v.index]) {
        if (o == s.softmax) continue;
        const Op& op = f_.op(o);
        if (op.results.size() != 1 || !seen.contains(op.results[0].index))
          return Refusal{
              fmt::format("its scores {} are used by `{}`, too", shown(v), facts(op.code).name),
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
    if (!is_elementwise(op->code))
      return op->code == Opcode::expand_ && shows_structure(op->operands[0]);
    if (!is_real(f_.type(v).dtype)) return true;
    return facts(op->code).cost <= 1 && std::all_of(op->operands.begin(), op->operands.end(),
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

}  // namespace

std::map<OpId, Site> attention_sites(const Program& program, const Function& f,
                                     const std::function<void(const Refusal&)>& refuse) {
  std::map<OpId, Site> sites;
  Growth growth(program, f);
  for (std::uint32_t o = 0; o < f.ops.size(); ++o) {
    if (f.ops[o].code != Opcode::fused_ || f.ops[o].attr.claim != Claim::softmax) continue;
    std::optional<Refusal> refusal;
    if (std::optional<Site> s = growth.grow(OpId{o}, refusal))
      sites.emplace(s->sum, std::move(*s));
    else if (refusal)
      refuse(*refusal);
  }
  return sites;
}

}  // namespace gradc::fusing
