// Builds the attentions that fuse_grow.cpp found, at their weighted sums; the form (ir/attention.h)
// is asked for at the end.
#include "passes/fuse_attention.h"

#include <algorithm>

#include "ir/attention.h"
#include "passes/fuse_parts.h"

namespace gradc::fusing {
namespace {

class Rebuild {
 public:
  Rebuild(Program& program, const Function& from, Function& out, const std::map<OpId, Site>& sites)
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
  void named(ValueId v, ValueId like) { to_.name(v, program_.text(from_.value(like).name)); }

  Program& program_;
  const Function& from_;
  Builder to_;
  Cloner copy_;
  const std::map<OpId, Site>& sites_;  // by the weighted sum
  std::map<OpId, std::string> refused_;
};

}  // namespace

Program fuse_attention(const Program& program, std::vector<Remark>* remarks) {
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
    const std::map<OpId, Site> sites = attention_sites(out, from, refuse);
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
