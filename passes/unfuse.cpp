// Fused operations give way to their regions: what --no-fuse would have left, and what every fused
// form is compared with.
#include "ir/builder.h"
#include "passes/fuse.h"

namespace gradc {

Program unfuse_claims(const Program& program, const std::array<bool, claim_count>& which) {
  Program out = program;
  for (std::size_t i = 0; i < out.functions.size(); ++i) {
    const Function from = std::move(out.functions[i]);
    Function to;
    to.name = from.name;
    to.family = from.family;
    Builder builder(out, to);
    Cloner copy(from, builder);
    copy.arguments();
    struct Frame {
      const Region* region;
      const Op* owner = nullptr;  // of a region that is being inlined or copied
      bool opened = false;
      std::size_t next = 0, inner = 0;
      std::vector<RegionId> done;
    };
    std::vector<Frame> stack{{&from.body()}};
    const auto results_of = [&](const Region& r) {
      std::vector<ValueId> values;
      for (ValueId v : r.results) values.push_back(copy(v));
      return values;
    };
    while (true) {
      Frame& top = stack.back();
      if (top.next == top.region->ops.size()) {
        const Frame done = top;
        if (stack.size() == 1) break;
        stack.pop_back();
        const std::vector<ValueId> results = results_of(*done.region);
        if (!done.opened) {
          for (std::size_t k = 0; k < results.size(); ++k) {
            const ValueId was = done.owner->results[k];
            copy.map(was, results[k]);
            if (to.value(results[k]).def.valid() && from.value(was).name.valid())
              builder.name(results[k], std::string(out.text(from.value(was).name)));
          }
          continue;
        }
        builder.close(results);
        builder.at = done.owner->loc;
        std::vector<ValueId> operands;
        std::vector<Type> types;
        for (ValueId v : done.owner->operands) operands.push_back(copy(v));
        for (ValueId v : done.owner->results) types.push_back(copy(from.type(v)));
        const std::vector<ValueId> made =
            builder.add_multi(done.owner->code, operands, copy(done.owner->attr), types, done.done);
        for (std::size_t k = 0; k < made.size(); ++k) {
          copy.map(done.owner->results[k], made[k]);
          builder.name(made[k], out.text(from.value(done.owner->results[k]).name));
        }
        continue;
      }
      const OpId id = top.region->ops[top.next++];
      const Op& op = from.op(id);
      if (op.regions.empty()) {
        copy.clone(id);
        continue;
      }
      const Region& region = from.regions[op.regions[0].index];
      const bool gone = op.code == Opcode::fused_ && which[static_cast<std::size_t>(op.attr.claim)];
      Frame frame{.region = &region, .owner = &op, .opened = !gone};
      if (frame.opened) {
        frame.done.push_back(builder.open());
        for (ValueId v : region.arguments)
          copy.map(v, builder.argument(copy(from.type(v)), out.text(from.value(v).name)));
      } else {
        for (std::size_t k = 0; k < op.operands.size(); ++k)
          copy.map(region.arguments[k], copy(op.operands[k]));
      }
      stack.push_back(std::move(frame));
    }
    builder.finish(results_of(from.body()), from.result_names);
    out.functions[i] = std::move(to);
  }
  return out;
}

Program unfuse(const Program& program, bool all) {
  std::array<bool, claim_count> which;
  which.fill(true);
  for (Claim own_kernel : {Claim::attention, Claim::attention_grad})
    which[static_cast<std::size_t>(own_kernel)] = all;
  return unfuse_claims(program, which);
}

}  // namespace gradc
