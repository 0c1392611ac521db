// A function's arguments: bundles as groups, inputs, what a turn is given.
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
    for (AxisId a : builder_.type(v).axes)
      axes.push_back(storage_of_.contains(a.index) ? storage_of_[a.index] : AxisId{});
    t.arguments.push_back(std::move(axes));
  }
  return t;
}

// The value with the axes of a callee's argument: relabelled where a name meant another axis.
ValueId FunctionEmitter::fitted(ValueId v, const std::vector<AxisId>& storage) {
  AxisList want;
  const AxisList have = builder_.type(v).axes;
  for (std::size_t i = 0; i < storage.size(); ++i)
    want.push_back(storage[i].valid() ? axis(storage[i]) : have[static_cast<int>(i)]);
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
