// Inner regions first, callees first; then the root.
#include "passes/derive.h"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_set>

#include "passes/reverse.h"
#include "passes/saving.h"
#include "passes/simplify.h"

namespace gradc {
namespace {

class Maker {
 public:
  Maker(Program& program, FunctionId root, const std::vector<std::uint32_t>& wrt,
        std::string_view name, std::string_view gradients_of, std::vector<Remark>* remarks)
      : program_(program),
        wrt_(wrt),
        name_(name),
        remarks_(remarks),
        gradient_{program, root, Activity(program, root, wrt), std::string(gradients_of), {}} {}

  Result<FunctionId> run() {
    if (gradient_.activity.launches())
      return failure(Exit::text,
                     "a launched kernel has no derivative: differentiate before grouping");
    for (FunctionId f : gradient_.activity.functions()) {
      if (std::string why = uncollectable(f); !why.empty()) return failure(Exit::text, why);
      for (RegionId r : gradient_.activity.regions(f))
        if (r.index != 0) make_region(f, r);
      if (f != gradient_.root && wanted(f, RegionId{0})) make_function(f);
    }
    return make_root();
  }

 private:
  bool wanted(FunctionId f, RegionId r) const {
    const std::vector<char>& slots = gradient_.activity.wanted_results(f, r);
    return std::find(slots.begin(), slots.end(), 1) != slots.end();
  }

  // States are collected along the scan's axis, which must fit into their types.
  std::string uncollectable(FunctionId id) const {
    const Function& f = program_.function(id);
    for (const Op& op : f.ops)
      if (op.code == Opcode::scan_ && gradient_.activity.active(id, op))
        for (std::uint32_t i = 0; i < op.attr.carried; ++i)
          if (f.type(op.operands[i]).axes.full())
            return fmt::format(
                "a state of a scan has {} axes, which leaves none to collect it along", max_rank);
    return "";
  }

  Derived& start(FunctionId f, RegionId r) {
    Derived& d = gradient_.derived[{f, r}];
    const std::vector<char>& slots = gradient_.activity.wanted_results(f, r);
    for (std::uint32_t i = 0; i < slots.size(); ++i)
      if (slots[i]) d.slots.push_back(i);
    return d;
  }

  void seed(Reverse& reverse, Builder& to, const Function& from, const Region& region,
            const Derived& d) {
    for (std::uint32_t i : d.slots) {
      const ValueId v = region.results[i];
      reverse.seed(i, to.argument(reverse.map()(from.type(v)), reverse.cotangent_name(v)));
    }
  }

  // The operation that the region belongs to.
  static const Op& owner(const Function& f, RegionId r) {
    for (const Op& op : f.ops)
      for (RegionId mine : op.regions)
        if (mine == r) return op;
    internal_error("a region belongs to no operation");
  }

  void make_region(FunctionId id, RegionId r) {
    const Function& from = program_.function(id);
    const Region& region = from.regions[r.index];
    const Op& op = owner(from, r);
    Derived& d = start(id, r);
    Function made{.name = from.name};
    Builder to(program_, made);
    Reverse reverse(gradient_, id, r, to, Reverse::Values::taken);
    reverse.map_all_axes();
    if (op.code == Opcode::fused_) reverse.set_claim(op, d);
    if (op.code == Opcode::scan_) reverse.keep_products(op);
    const std::size_t cotangents = d.slots.size();
    seed(reverse, to, from, region, d);
    reverse.walk();
    std::vector<ValueId> results;
    for (std::uint32_t i = 0; i < region.arguments.size(); ++i) {
      if (!gradient_.activity.varied(id, region.arguments[i])) continue;
      const ValueId c = reverse.cotangent(region.arguments[i]);
      if (!c.valid()) continue;
      d.gives.push_back(i);
      results.push_back(c);
    }
    to.finish(results);
    take_in_order(reverse, made.regions[0].arguments, cotangents, d);
    if (op.code == Opcode::fused_ && op.attr.claim == Claim::attention && d.delta) {
      made = simplify_function(program_, std::move(made));
      d.body = std::move(made);
      split_attention_grad(d);
      return;
    }
    d.body = std::move(made);
  }

  // Arguments were taken in the order of need; from now on in the region's, with the rest behind.
  static void take_in_order(const Reverse& reverse, std::vector<ValueId>& formal,
                            std::size_t cotangents, Derived& d) {
    std::vector<std::pair<Reverse::Taken, ValueId>> order;
    for (std::size_t i = 0; i < reverse.taken().size(); ++i)
      order.push_back({reverse.taken()[i], formal[cotangents + i]});
    std::sort(order.begin(), order.end());
    for (std::size_t i = 0; i < order.size(); ++i) {
      formal[cotangents + i] = order[i].second;
      const Reverse::Taken& t = order[i].first;
      switch (t.what) {
        case Reverse::Taken::argument:
          d.arguments.push_back(t.index);
          break;
        case Reverse::Taken::kept:
          d.kept.push_back(ValueId{t.index});
          break;
        case Reverse::Taken::lse:
          d.lse = true;
          break;
        case Reverse::Taken::delta:
          d.delta = true;
          break;
      }
    }
  }

  // ---- functions

  void make_function(FunctionId id) {
    Derived& d = start(id, RegionId{0});
    std::vector<OpId> extras;
    Saving saving = rehearse(id, d, extras);
    if (remarks_ != nullptr) tell(id, saving);
    complete_groups(program_.function(id), saving.arguments);
    d.arguments = saving.arguments;
    Function forward = make_forward(id, saving, extras, d);
    Function backward = make_backward(id, saving, extras, d);
    d.forward = push(std::move(forward));
    d.backward = push(std::move(backward));
  }

  FunctionId push(Function f) {
    program_.functions.push_back(std::move(f));
    return FunctionId{static_cast<std::uint32_t>(program_.functions.size() - 1)};
  }

  // Goes back once only to see what is read.
  Saving rehearse(FunctionId id, const Derived& d, std::vector<OpId>& extras) {
    const Function& from = program_.function(id);
    Function scratch{.name = from.name};
    Builder to(program_, scratch);
    Reverse reverse(gradient_, id, RegionId{0}, to, Reverse::Values::asked);
    reverse.map_all_axes();
    seed(reverse, to, from, from.body(), d);
    reverse.walk();
    const std::unordered_set<OpId> asked(reverse.asked_extras().begin(),
                                         reverse.asked_extras().end());
    for (OpId o : from.body().ops)
      if (asked.contains(o)) extras.push_back(o);
    return choose_saving(from, reverse.asked());
  }

  // What a call of the function computes again, and how much less it saves for that.
  void tell(FunctionId id, const Saving& saving) {
    const Function& f = program_.function(id);
    std::vector<std::pair<std::string_view, int>> what;
    std::int64_t spared = 0;
    const auto size = [&](ValueId v) { return f.elements(f.type(v)) * bytes(f.type(v).dtype); };
    for (ValueId v : saving.instead) spared -= size(v);
    for (ValueId v : saving.again) {
      spared += size(v);
      const Op& op = f.op(f.value(v).def);
      const std::string_view own =
          op.code == Opcode::fused_ ? gradc::name(op.attr.claim) : facts(op.code).name;
      const auto at = std::find_if(what.begin(), what.end(), [&](auto& w) { return w.first == own; });
      at == what.end() ? void(what.emplace_back(own, 1)) : void(++at->second);
    }
    if (spared <= 0) return;
    std::string list;
    for (const auto& [own, count] : what) {
      list += fmt::format("{}{}", list.empty() ? "" : ", ", own);
      if (count > 1) list += fmt::format(" ({})", count);
    }
    const OpId first = f.value(saving.again[0]).def;
    remarks_->push_back({.at = f.op(first).loc,
                         .text = fmt::format("recomputed: in the backward pass of @{}: {}: {} less a call",
                                             program_.text(f.name), list, human_bytes(spared))});
  }

  static bool in_arguments(const Function& f, const Group& g) {
    return g.count > 0 && !f.value(g.first).def.valid();
  }

  // Where the arguments of a function's body stand that a group has.
  static std::uint32_t position(const Function& f, const Group& g) {
    const std::vector<ValueId>& a = f.body().arguments;
    return static_cast<std::uint32_t>(std::find(a.begin(), a.end(), g.first) - a.begin());
  }

  // A bundle travels as a whole: one name, and parameters lie in memory anyway.
  static void complete_groups(const Function& f, std::vector<std::uint32_t>& arguments) {
    std::vector<char> needed(f.body().arguments.size(), 0);
    for (std::uint32_t i : arguments) needed[i] = 1;
    for (const Group& g : f.groups) {
      if (!in_arguments(f, g)) continue;
      const auto first = needed.begin() + position(f, g);
      if (std::find(first, first + g.count, 1) != first + g.count)
        std::fill(first, first + g.count, 1);
    }
    arguments.clear();
    for (std::uint32_t i = 0; i < needed.size(); ++i)
      if (needed[i]) arguments.push_back(i);
  }

  Function make_forward(FunctionId id, const Saving& saving, const std::vector<OpId>& extras,
                        Derived& d) {
    const Function& from = program_.function(id);
    Function made{.name = program_.intern(program_.unique_function_name(
                      fmt::format("{}.fwd", program_.text(from.name))))};
    Builder to(program_, made);
    Reverse reverse(gradient_, id, RegionId{0}, to, Reverse::Values::copied);
    reverse.map_all_axes();
    reverse.map().arguments();
    for (OpId o : from.body().ops) reverse.copy_forward(o);
    std::vector<ValueId> results, saved;
    for (ValueId v : from.body().results) results.push_back(reverse.map()(v));
    for (ValueId v : saving.saved) saved.push_back(reverse.map()(v));
    for (OpId o : extras)
      for (ValueId v : reverse.extras(o)) saved.push_back(v);
    if (!saved.empty()) d.saved = declare(id, made, saving, extras, reverse);
    results.insert(results.end(), saved.begin(), saved.end());
    std::vector<std::string> names;
    for (std::size_t i = 0; i < from.body().results.size(); ++i)
      names.emplace_back(program_.text(from.result_names.empty()
                                           ? from.value(from.body().results[i]).name
                                           : from.result_names[i]));
    if (d.saved.valid())
      for (const Leaf& leaf : leaves(program_, d.saved)) names.push_back("s." + leaf.path);
    to.finish(results, distinct(names, "y"));
    return made;
  }

  // Names for results, so that a bundle among them prints as one.
  std::vector<NameId> distinct(const std::vector<std::string>& wishes, std::string_view standard) {
    std::vector<NameId> out;
    std::unordered_set<std::string> taken(wishes.begin(), wishes.end()), used;
    for (const std::string& wish : wishes) {
      std::string name = wish.empty() ? std::string(standard) : wish;
      if (wish.empty() || used.contains(name))
        for (int n = 1; taken.contains(name) || used.contains(name); ++n)
          name = fmt::format("{}.{}", wish.empty() ? standard : wish, n);
      used.insert(name);
      out.push_back(program_.intern(name));
    }
    return out;
  }

  // What a scan collects for its derivative: states, then what is kept.
  std::string collected_name(FunctionId id, const Op& scan, std::size_t i) const {
    const Derived& d = gradient_.of(id, scan);
    const std::size_t states = d.states_read(scan);
    if (i < states) return "state";
    const Function& f = program_.function(id);
    const Value& kept = f.value(d.kept[i - states]);
    return std::string(kept.name.valid() ? program_.text(kept.name)
                                         : facts(f.op(kept.def).code).name);
  }

  // Values, then what scans collect, then bundles of what is called.
  BundleId declare(FunctionId id, const Function& made, const Saving& saving,
                   const std::vector<OpId>& extras, Reverse& reverse) {
    const Function& from = program_.function(id);
    std::vector<SavedPart> parts;
    for (ValueId v : saving.saved) {
      const Value& value = from.value(v);
      const std::string_view own =
          value.name.valid() ? program_.text(value.name) : facts(from.op(value.def).code).name;
      parts.push_back({std::string(own), made.type(reverse.map()(v)), {}});
    }
    for (OpId o : extras) {
      const Op& op = from.op(o);
      if (op.code == Opcode::call_)
        parts.push_back({std::string(program_.text(program_.function(op.attr.callee).name)),
                         {},
                         gradient_.of(id, op).saved});
      else if (op.code == Opcode::scan_)
        for (std::size_t i = 0; i < reverse.extras(o).size(); ++i)
          parts.push_back({collected_name(id, op, i), made.type(reverse.extras(o)[i]), {}});
      else
        for (ValueId v : reverse.extras(o))
          parts.push_back({std::string(program_.text(made.value(v).name)), made.type(v), {}});
    }
    return declare_saved(program_, made, fmt::format("{}.saved", program_.text(from.name)), parts);
  }

  Function make_backward(FunctionId id, const Saving& saving, const std::vector<OpId>& extras,
                         Derived& d) {
    const Function& from = program_.function(id);
    const Region& body = from.body();
    Function made{.name = program_.intern(program_.unique_function_name(
                      fmt::format("{}.bwd", program_.text(from.name))))};
    Builder to(program_, made);
    Reverse reverse(gradient_, id, RegionId{0}, to, Reverse::Values::given);
    Cloner& map = reverse.map();
    reverse.map_all_axes();
    const auto take = [&](ValueId v) {
      map.map(v, to.argument(map(from.type(v)), program_.text(from.value(v).name)));
    };
    for (std::uint32_t i : d.arguments) take(body.arguments[i]);
    for (const Group& g : from.groups)
      if (in_arguments(from, g) && map.mapped(g.first))
        to.group(program_.text(g.name), g.bundle, map(g.first), g.count);
    const auto first_saved = static_cast<std::uint32_t>(made.values.size());
    for (ValueId v : saving.saved) take(v);
    for (OpId o : extras) reverse.take_extras(o);
    if (d.saved.valid())
      to.group("s", d.saved, ValueId{first_saved},
               static_cast<std::uint32_t>(made.values.size()) - first_saved);
    seed(reverse, to, from, body, d);
    reverse.walk();
    std::vector<ValueId> cotangents(body.arguments.size());
    for (std::size_t i = 0; i < body.arguments.size(); ++i)
      if (gradient_.activity.varied(id, body.arguments[i]))
        cotangents[i] = reverse.cotangent(body.arguments[i]);
    fill_groups(from, reverse, cotangents);
    std::vector<ValueId> results;
    std::vector<std::string> names;
    for (std::uint32_t i = 0; i < cotangents.size(); ++i) {
      if (!cotangents[i].valid()) continue;
      d.gives.push_back(i);
      results.push_back(cotangents[i]);
      names.push_back(reverse.cotangent_name(body.arguments[i]));
    }
    to.finish(results, distinct(names, "d"));
    return made;
  }

  // A bundle's cotangents come back as that bundle, zeros for the few members that nothing reaches.
  static void fill_groups(const Function& from, Reverse& reverse,
                          std::vector<ValueId>& cotangents) {
    for (const Group& g : from.groups) {
      if (!in_arguments(from, g)) continue;
      const std::uint32_t first = position(from, g);
      std::uint32_t present = 0;
      bool real = true;
      for (std::uint32_t i = first; i < first + g.count; ++i) {
        present += cotangents[i].valid();
        real = real && is_real(from.type(from.body().arguments[i]).dtype);
      }
      if (!real || 2 * present < g.count) continue;
      for (std::uint32_t i = first; i < first + g.count; ++i)
        if (!cotangents[i].valid())
          cotangents[i] = reverse.zeros(reverse.map()(from.type(from.body().arguments[i])));
    }
  }

  // ---- the root

  FunctionId make_root() {
    const FunctionId id = gradient_.root;
    const Function& from = program_.function(id);
    const Region& body = from.body();
    Function made{.name = program_.intern(program_.unique_function_name(name_))};
    Builder to(program_, made);
    Reverse reverse(gradient_, id, RegionId{0}, to, Reverse::Values::copied);
    reverse.map().arguments();
    std::vector<std::uint32_t> real;
    for (std::uint32_t i = 0; i < body.results.size(); ++i)
      if (is_real(from.type(body.results[i]).dtype)) real.push_back(i);
    const bool scalar = real.size() == 1 && from.type(body.results[real[0]]).axes.empty();
    std::vector<ValueId> seeds;
    if (!scalar)
      for (std::uint32_t i : real)
        seeds.push_back(to.argument(reverse.map()(from.type(body.results[i])),
                                    reverse.cotangent_name(body.results[i])));
    for (OpId o : body.ops) reverse.copy_forward(o);
    for (std::size_t n = 0; n < real.size(); ++n) {
      const ValueId result = body.results[real[n]];
      if (!gradient_.activity.wanted(id, result)) continue;
      const OpId def = from.value(result).def;
      to.at = reverse.gradient_of(def.valid() ? from.op(def).loc : LocId{});
      reverse.seed(real[n], scalar ? to.constant(1, from.type(result).dtype) : seeds[n]);
    }
    reverse.walk();
    to.at = reverse.gradient_of({});
    std::vector<ValueId> results;
    std::vector<NameId> names;
    for (std::uint32_t i : wrt_) {
      const ValueId v = body.arguments[i];
      ValueId c = reverse.cotangent(v, true);
      if (!c.valid()) c = zero_gradient(reverse, to, v);
      results.push_back(c);
      names.push_back(program_.intern(reverse.cotangent_name(v)));
    }
    for (ValueId v : body.results) results.push_back(reverse.map()(v));
    names.insert(names.end(), from.result_names.begin(), from.result_names.end());
    const bool named = !from.result_names.empty() &&
                       std::none_of(names.begin(), names.end(),
                                    [&](NameId n) { return program_.text(n).empty(); });
    to.finish(results, named ? names : std::vector<NameId>{});
    return push(std::move(made));
  }

  ValueId zero_gradient(Reverse& reverse, Builder& to, ValueId v) {
    const Type type = reverse.map()(program_.function(gradient_.root).type(v));
    const ValueId c = reverse.zeros(type);
    if (!type.axes.empty()) to.name(c, reverse.cotangent_name(v));
    return c;
  }

  Program& program_;
  const std::vector<std::uint32_t>& wrt_;
  std::string name_;
  std::vector<Remark>* const remarks_;
  Gradient gradient_;
};

}  // namespace

Result<FunctionId> derive(Program& program, FunctionId root, const std::vector<std::uint32_t>& wrt,
                          std::string_view name, std::string_view gradients_of,
                          std::vector<Remark>* remarks) {
  return Maker(program, root, wrt, name, gradients_of, remarks).run();
}

}  // namespace gradc
