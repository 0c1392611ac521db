// What forward saves for backward: one sweep forward that knows what is at hand, one backward for
// the arguments that recomputing reads.
#include "passes/saving.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <unordered_map>
#include <unordered_set>

namespace gradc {
namespace {

// A value's missing inputs are looked for no deeper than this; then the value itself is saved.
constexpr std::size_t search_limit = 64;

bool recomputes(const Op& op) {
  const Opcode code = op.code;
  if (code == Opcode::fused_) {
    const Claim c = op.attr.claim;
    return c == Claim::gelu || c == Claim::silu || c == Claim::layernorm || c == Claim::rmsnorm;
  }
  switch (facts(code).kind) {
    case Kind::source:
    case Kind::unary:
    case Kind::binary:
    case Kind::ternary:
    case Kind::view: return true;
    case Kind::read: return code != Opcode::gather_ && code != Opcode::scatter_;
    case Kind::reduce:
    case Kind::contract:
    case Kind::control: return false;
  }
  return false;
}

class Chooser {
 public:
  Chooser(const Function& f, const std::vector<ValueId>& asked)
      : f_(f),
        asked_(f.values.size(), 0),
        at_hand_(f.values.size(), 0),
        saved_(f.values.size(), 0) {
    for (ValueId v : asked) asked_[v.index] = 1;
  }

  Saving run() {
    const Region& body = f_.body();
    for (ValueId v : body.arguments) at_hand_[v.index] = 1;
    for (OpId o : body.ops)
      if (!recomputes(f_.op(o)))
        for (ValueId v : f_.op(o).results)
          if (asked_[v.index]) save(v);
    for (OpId o : body.ops) {
      const Op& op = f_.op(o);
      if (!recomputes(op)) continue;
      for (ValueId v : op.results) {
        if (at_hand_[v.index]) continue;
        at_hand_[v.index] = std::all_of(op.operands.begin(), op.operands.end(),
                                        [&](ValueId u) { return at_hand_[u.index] != 0; });
        if (asked_[v.index] && !at_hand_[v.index]) complete(v);
      }
    }
    return result();
  }

 private:
  void save(ValueId v) { saved_[v.index] = at_hand_[v.index] = 1; }

  // Saves what `v` lacks, or `v`.
  void complete(ValueId v) {
    const std::int64_t size = f_.elements(f_.type(v));
    std::int64_t lacking = 0;
    std::vector<ValueId> found{v}, leaves;
    for (std::size_t next = 0; next < found.size(); ++next) {
      const Op& op = f_.op(f_.value(found[next]).def);
      if (!recomputes(op)) {
        leaves.push_back(found[next]);
        lacking += f_.elements(f_.type(found[next]));
        continue;
      }
      for (ValueId u : op.operands)
        if (!at_hand_[u.index] && std::find(found.begin(), found.end(), u) == found.end())
          found.push_back(u);
      if (found.size() > search_limit) return save(v);
    }
    if (lacking >= size) {
      if (leaves.size() != 1) return save(v);
      // Values that lack this one alone: once they have more elements than it, it serves them all.
      std::vector<ValueId>& instead = instead_[leaves[0].index];
      std::int64_t total = size;
      for (ValueId u : instead) total += f_.elements(f_.type(u));
      if (lacking >= total) {
        instead.push_back(v);
        return save(v);
      }
      for (ValueId u : instead) saved_[u.index] = 0;
    }
    for (ValueId u : leaves) save(u);
    for (ValueId u : found) at_hand_[u.index] = 1;
  }

  Saving result() const {
    Saving out;
    const Region& body = f_.body();
    std::vector<char> read = asked_;
    for (auto o = body.ops.rbegin(); o != body.ops.rend(); ++o)
      for (ValueId v : f_.op(*o).results)
        if (read[v.index] && !saved_[v.index])
          for (ValueId u : f_.op(*o).operands) read[u.index] = 1;
    for (OpId o : body.ops)
      for (ValueId v : f_.op(o).results) {
        const Opcode code = f_.op(o).code;
        if (saved_[v.index]) out.saved.push_back(v);
        if (saved_[v.index] && !asked_[v.index]) out.instead.push_back(v);
        if (asked_[v.index] && !saved_[v.index] && !f_.type(v).axes.empty() &&
            (is_elementwise(code) || code == Opcode::fused_))
          out.again.push_back(v);
      }
    for (std::uint32_t i = 0; i < body.arguments.size(); ++i)
      if (read[body.arguments[i].index]) out.arguments.push_back(i);
    return out;
  }

  const Function& f_;
  std::vector<char> asked_, at_hand_, saved_;   // by value
  std::unordered_map<std::uint32_t, std::vector<ValueId>>
      instead_;  // saved in place of the one that they lacked
};

}  // namespace

Saving choose_saving(const Function& function, const std::vector<ValueId>& asked) {
  return Chooser(function, asked).run();
}

BundleId declare_saved(Program& program, const Function& function, std::string_view name,
                       const std::vector<SavedPart>& parts) {
  Bundle bundle;
  std::vector<AxisId> axes(function.axes.size());
  std::unordered_set<std::string> taken;
  // Without dots: `h.1` would look like a turn of `h`.
  const auto unique = [&](std::string_view own) {
    std::string wish(own.empty() ? "x" : own);
    std::replace(wish.begin(), wish.end(), '.', '_');
    std::string made = wish;
    for (int n = 1; !taken.insert(made).second; ++n) made = fmt::format("{}_{}", wish, n);
    return program.intern(made);
  };
  BundleId last;
  for (const SavedPart& part : parts) {
    if (part.nested.valid() && part.nested == last) {
      ++bundle.members.back().turns;
      continue;
    }
    last = part.nested;
    Type type = part.type;
    for (int i = 0; i < type.axes.size(); ++i) {
      AxisId& mine = axes[type.axes[i].index];
      if (!mine.valid()) {
        mine = AxisId{static_cast<std::uint32_t>(bundle.axes.size())};
        bundle.axes.push_back(function.axis(type.axes[i]));
      }
      type.axes[i] = mine;
    }
    bundle.members.push_back({.name = unique(part.name),
                              .type = type,
                              .nested = part.nested,
                              .turns = part.nested.valid() ? 1 : 0});
  }
  std::string own(name);
  const auto used = [&](const Bundle& b) { return program.text(b.name) == own; };
  for (int n = 1; std::any_of(program.bundles.begin(), program.bundles.end(), used); ++n)
    own = fmt::format("{}.{}", name, n);
  bundle.name = program.intern(own);
  program.bundles.push_back(std::move(bundle));
  return BundleId{static_cast<std::uint32_t>(program.bundles.size() - 1)};
}

}  // namespace gradc
