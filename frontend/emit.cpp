// Bundles, folding of what is known, and one function a repeat and mode.
#include "frontend/emit.h"

#include <algorithm>

#include "frontend/emit_function.h"
#include "ir/diagnostic.h"

namespace gradc {

namespace {
// What the IR's text can carry (ir/text_names.h); turns count as members.
constexpr std::int64_t most_members = std::int64_t{1} << 16, most_of_all = std::int64_t{1} << 18;
constexpr std::int64_t most_parameters = std::int64_t{1} << 46;
}  // namespace

IrWriter::IrWriter(Program& program, Graph& graph, Reporter& report, const Sources& sources)
    : program_(program), graph_(graph), report_(report) {
  for (std::uint32_t i = 0; i < sources.size(); ++i) {
    files_.push_back(FileId{static_cast<std::uint32_t>(program.files.size())});
    program.files.push_back(sources.name(i));
  }
  fold(false);
  fold(true);
  stamps_.assign(graph.nodes.size(), 0);
}

LocId IrWriter::location(Span at) {
  if (at.line == 0 || at.source >= files_.size()) return {};
  return program_.intern(Location{Role::forward, {{files_[at.source], at.line, at.column}}});
}

// One pass over the nodes in order: operands stand before what is made of them.
void IrWriter::fold(bool training) {
  std::vector<signed char>& known = known_[training];
  std::vector<NodeId>& thin = thin_[training];
  known.assign(graph_.nodes.size(), -1);
  thin.resize(graph_.nodes.size());
  for (std::uint32_t i = 0; i < graph_.nodes.size(); ++i) {
    const Node& n = graph_.nodes[i];
    thin[i] = NodeId{i};
    const auto at = [&](std::size_t k) { return known[n.operands[k].index]; };
    const auto same_as = [&](std::size_t k) {
      thin[i] = thin[n.operands[k].index];
      known[i] = at(k);
    };
    if (n.kind == Node::training) known[i] = training ? 1 : 0;
    if (n.kind != Node::operation) continue;
    switch (n.code) {
      case Opcode::constant_:
        if (n.type.dtype == DType::boolean) known[i] = n.attr.integer != 0 ? 1 : 0;
        break;
      case Opcode::expand_:
      case Opcode::relabel_:
        if (n.code == Opcode::expand_) thin[i] = thin[n.operands[0].index];
        known[i] = at(0);
        break;
      case Opcode::not_:
        if (at(0) >= 0) known[i] = static_cast<signed char>(1 - at(0));
        break;
      case Opcode::and_:
      case Opcode::or_: {
        const signed char decides = n.code == Opcode::or_ ? 1 : 0;
        for (const std::size_t k : {std::size_t{0}, std::size_t{1}}) {
          if (at(k) == decides) {
            known[i] = decides;
            break;
          }
          if (at(k) == 1 - decides) same_as(1 - k);
        }
        break;
      }
      case Opcode::select_:
        if (at(0) >= 0) same_as(at(0) == 1 ? 1 : 2);
        break;
      default: break;
    }
  }
}

bool IrWriter::bundle(std::uint32_t index, const std::string& name) {
  ParamBundle& from = graph_.bundles[index];
  Bundle made{program_.intern(name), {}, {}};
  std::unordered_map<std::uint32_t, AxisId> axes;
  std::unordered_map<std::string, int> names;
  for (ParamMember& m : from.members) {
    offsets_[index].push_back(totals_[index]);
    Member out{
        .name = program_.intern(m.name), .type = {}, .stored = m.stored, .initial = m.initial};
    if (m.nested != no_index) {
      if (!bundle(m.nested, name + "." + m.name)) return false;
      out.nested = bundle_ids_[m.nested];
      out.turns = m.turns;
      totals_[index] += m.turns * totals_[m.nested];
      sizes_[index] += m.turns * (1 + sizes_[m.nested]);
    } else {
      ++totals_[index];
      ++sizes_[index];
      out.type.dtype = m.type.dtype;
      for (AxisId s : m.type.axes) {
        auto [it, fresh] =
            axes.try_emplace(s.index, AxisId{static_cast<std::uint32_t>(made.axes.size())});
        if (fresh) {
          const StorageAxis& a = graph_.axes[s.index];
          const int n = names[a.name]++;
          made.axes.push_back(
              {program_.intern(n == 0 ? a.name : a.name + "." + std::to_string(n)), a.extent});
        }
        out.type.axes.push_back(it->second);
      }
    }
    if (sizes_[index] > most_members) {
      report_.error(m.at,
                    fmt::format("the model has more than {} parameters and turns", most_members));
      return false;
    }
    made.members.push_back(std::move(out));
  }
  all_sizes_ += sizes_[index];
  if (all_sizes_ > most_of_all) {
    report_.error({},
                  fmt::format("repeats within one another have more than {} parameters and turns",
                              most_of_all));
    return false;
  }
  if (made.axes.size() > most_axes) {
    report_.error(from.members.back().at, fmt::format("more than {} axes", most_axes));
    return false;
  }
  bundle_ids_[index] = BundleId{static_cast<std::uint32_t>(program_.bundles.size())};
  program_.bundles.push_back(std::move(made));
  return true;
}

bool IrWriter::bundles() {
  bundle_ids_.resize(graph_.bundles.size());
  offsets_.resize(graph_.bundles.size());
  totals_.resize(graph_.bundles.size());
  sizes_.resize(graph_.bundles.size());
  if (!graph_.bundles[0].members.empty() && !bundle(0, "params")) return false;
  if (!graph_.bundles[1].members.empty() && !bundle(1, "fixed")) return false;
  computed();
  // Names unrolled, and sizes, once all is known.
  std::unordered_map<std::string, const Member*> stored;
  std::unordered_map<const Member*, Span> places;
  for (std::uint32_t b = 0; b < graph_.bundles.size(); ++b)
    if (bundle_ids_[b].valid())
      for (std::size_t i = 0; i < graph_.bundles[b].members.size(); ++i)
        places[&program_.bundles[bundle_ids_[b].index].members[i]] =
            graph_.bundles[b].members[i].at;
  bool fine = true;
  double total = 0;
  for (const std::uint32_t root : {0u, 1u}) {
    if (!bundle_ids_[root].valid()) continue;
    for (const Leaf& leaf : leaves(program_, bundle_ids_[root])) {
      total += static_cast<double>(leaf.elements);
      const auto [it, fresh] = stored.try_emplace(leaf.stored, leaf.member);
      if (fresh) continue;
      fine = false;
      const bool turns = it->second == leaf.member;
      report_.error(
          places[leaf.member],
          fmt::format("two parameters would be stored as `{}`{}", leaf.stored,
                      turns ? ": each turn has one, so the label needs an `@`"
                            : "; a label (`as`) would tell them apart"),
          turns ? std::vector<Note>{} : std::vector<Note>{{places[it->second], "the other one"}});
      if (turns) break;
    }
  }
  if (total > static_cast<double>(most_parameters)) {
    report_.error({}, fmt::format("the model has {:.3g} parameters, more than 2^46", total));
    fine = false;
  }
  return fine;
}

void IrWriter::computed() {
  for (std::uint32_t b = 0; b < graph_.bundles.size(); ++b) {
    if (!bundle_ids_[b].valid()) continue;
    for (std::size_t i = 0; i < graph_.bundles[b].members.size(); ++i) {
      const ParamMember& m = graph_.bundles[b].members[i];
      if (m.initial.kind != Initial::computed) continue;
      const std::string name = program_.unique_function_name(
          std::string(program_.text(program_.bundles[bundle_ids_[b].index].name)) + "." + m.name);
      FunctionEmitter f(*this, no_index, false, name);
      const NodeId roots[] = {m.computed};
      f.mark(roots);
      f.operations();
      program_.bundles[bundle_ids_[b].index].members[i].initial.function = f.finish(roots, {});
    }
  }
}

std::int64_t IrWriter::first_of(std::uint32_t instance, bool fixed) const {
  std::int64_t first = 0;
  for (std::uint32_t i = instance; graph_.instances[i].outer != no_index;
       i = graph_.instances[i].outer) {
    const ParamInstance& p = graph_.instances[i];
    const ParamInstance& outer = graph_.instances[p.outer];
    first += fixed ? offsets_[outer.fixed][p.fixed_member] + p.turn * totals_[p.fixed]
                   : offsets_[outer.trained][p.trained_member] + p.turn * totals_[p.trained];
  }
  return first;
}

std::int64_t IrWriter::leaf(const ParamRef& p) const {
  const ParamInstance& i = graph_.instances[p.instance];
  return first_of(p.instance, p.fixed) + offsets_[p.fixed ? i.fixed : i.trained][p.member];
}

void IrWriter::leaf_types(std::uint32_t bundle, std::vector<const Type*>& out) const {
  for (const ParamMember& m : graph_.bundles[bundle].members) {
    if (m.nested == no_index) {
      out.push_back(&m.type);
      continue;
    }
    std::vector<const Type*> turn;  // as deep as repeats nest, which is bounded
    leaf_types(m.nested, turn);
    for (std::int64_t k = 0; k < m.turns; ++k) out.insert(out.end(), turn.begin(), turn.end());
  }
}

const TurnFunction& IrWriter::turn(std::uint32_t repeat, bool training) {
  // As deep as repeats nest, which is bounded.
  auto& slots = turns_[repeat];
  if (slots[training]) return *slots[training];
  if (slots[!training] && !slots[!training]->differs) return *slots[!training];
  const RepeatInfo& r = graph_.repeats[repeat];
  FunctionEmitter f(*this, repeat, training,
                    program_.unique_function_name(
                        slots[!training] ? r.name + (training ? ".train" : ".eval") : r.name));
  f.mark(r.results);
  TurnFunction t = f.turn_arguments();
  f.operations();
  t.function = f.finish(r.results, {}, r.carried);
  t.differs = f.differs();
  auto& slot = turns_[repeat][training];
  slot = std::move(t);
  return *slot;
}

FunctionId IrWriter::entry(std::string_view name, bool training, std::span<const NodeId> results,
                           std::span<const std::string> names, std::span<const EntryInput> inputs) {
  FunctionEmitter f(*this, 0, training, name);
  f.mark(results);
  f.entry_arguments(inputs);
  f.operations();
  return f.finish(results, names);
}

}  // namespace gradc
