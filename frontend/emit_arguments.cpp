// A function's arguments: bundles as groups, inputs, what a turn is given.
#include <algorithm>

#include "frontend/emit_function.h"

namespace gradc {

// The group's members take the axes that their names mean here (ir/text_names.h); what the graph
// would call otherwise is relabelled where it is used.
void FunctionEmitter::group(std::uint32_t bundle, BundleId id, std::string_view text,
                            ValueId& first) {
  const Group g = builder_.arguments(id, text);
  first = g.first;
  std::vector<const Type*> types;
  all_.leaf_types(bundle, types);
  for (std::uint32_t i = 0; i < g.count; ++i) {
    const AxisList actual = builder_.type(ValueId{g.first.index + i}).axes;
    for (int k = 0; k < actual.size(); ++k) {
      const AxisId s = types[i]->axes[k];
      if (axes_.contains(s.index) || storage_of_.contains(actual[k].index)) continue;
      axes_[s.index] = actual[k];
      storage_of_[actual[k].index] = s;
    }
  }
}

void FunctionEmitter::entry_arguments(std::span<const EntryInput> inputs) {
  if (const BundleId p = all_.trained(0); p.valid())
    group(graph_.repeats[0].trained, p, "p", trained_);
  if (const BundleId f = all_.fixed(0); f.valid()) group(graph_.repeats[0].fixed, f, "f", fixed_);
  for (const EntryInput& in : inputs)
    define(in.node, builder_.argument(type(graph_.node(in.node).type), in.name));
  step_ = builder_.argument(Type{DType::i64, {}}, "step");
  seed_ = builder_.argument(Type{DType::i64, {}}, "seed");
}

TurnFunction FunctionEmitter::turn_arguments() {
  const RepeatInfo& r = graph_.repeats[home_];
  TurnFunction t;
  t.captured = captured_;
  t.random = random_;
  std::vector<NodeId> values = r.carried;
  values.insert(values.end(), captured_.begin(), captured_.end());
  for (NodeId n : values) {
    const ValueId v = builder_.argument(type(graph_.node(n).type));
    name(v, graph_.node(n).name);
    define(n, v);
  }
  if (const BundleId p = all_.trained(home_); p.valid()) {
    group(r.trained, p, "p", trained_);
    t.trained = true;
  }
  if (const BundleId f = all_.fixed(home_); f.valid()) {
    group(r.fixed, f, "f", fixed_);
    t.fixed = true;
  }
  if (random_) {
    site_ = builder_.argument(Type{DType::i64, {}}, "site");
    step_ = builder_.argument(Type{DType::i64, {}}, "step");
    seed_ = builder_.argument(Type{DType::i64, {}}, "seed");
  }
  for (ValueId v : function_.regions[0].arguments) {
    std::vector<AxisId> axes;
    const AxisList own = builder_.type(v).axes;
    for (AxisId a : own)
      axes.push_back(storage_of_.contains(a.index) ? storage_of_[a.index] : AxisId{});
    t.arguments.push_back(std::move(axes));
    t.own.emplace_back(own.begin(), own.end());
  }
  return t;
}

FunctionEmitter::Standing FunctionEmitter::standing(const TurnFunction& callee) {
  Standing out;
  for (std::size_t n = 0; n < callee.arguments.size(); ++n)
    for (std::size_t i = 0; i < callee.arguments[n].size(); ++i)
      if (const AxisId s = callee.arguments[n][i]; s.valid())
        out.try_emplace(callee.own[n][i].index, axis(s));
  return out;
}

// A member of a bundle as an argument of the callee. An axis that nothing else of the callee has
// stays what it is here, unless that stands for another axis of the callee already.
ValueId FunctionEmitter::member_for(const TurnFunction& callee, std::size_t argument, ValueId v,
                                    Standing& stands) {
  AxisList want;
  const AxisList have = builder_.type(v).axes;
  for (int i = 0; i < have.size(); ++i) {
    const AxisId own = callee.own[argument][static_cast<std::size_t>(i)];
    if (const auto it = stands.find(own.index); it != stands.end()) {
      want.push_back(it->second);
      continue;
    }
    const bool taken = std::any_of(stands.begin(), stands.end(),
                                   [&](const auto& s) { return s.second == have[i]; });
    const AxisId here = taken ? builder_.fresh_axis(all_.program().text(function_.axis(have[i]).name),
                                                    function_.extent(have[i]))
                              : have[i];
    stands.emplace(own.index, here);
    want.push_back(here);
  }
  return fitted(v, want);
}

// The value with these axes: relabelled where a name meant another axis.
ValueId FunctionEmitter::fitted(ValueId v, const AxisList& want) {
  for (int i = 0; i < want.size(); ++i) {
    const AxisList now = builder_.type(v).axes;
    if (now[i] == want[i]) continue;
    // Another axis may stand where this one goes; it steps aside.
    if (const int other = now.index_of(want[i]); other >= 0) {
      const AxisId aside = builder_.fresh_axis(all_.program().text(function_.axis(want[i]).name),
                                               function_.extent(want[i]));
      v = builder_.add(Opcode::relabel_, {v}, {.from = want[i], .to = aside});
    }
    v = builder_.add(Opcode::relabel_, {v}, {.from = builder_.type(v).axes[i], .to = want[i]});
  }
  return v;
}

}  // namespace gradc
