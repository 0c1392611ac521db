// One walk back from the loss over what passes gradients.
#include "frontend/reach.h"

#include <map>

namespace gradc {
namespace {

class Walk {
 public:
  explicit Walk(const Graph& graph) : graph_(graph), reached_(graph.nodes.size(), 0) {}

  void from(NodeId loss) {
    reach(loss);
    while (!work_.empty()) {
      const NodeId n = work_.back();
      work_.pop_back();
      visit(graph_.node(n));
    }
  }
  bool reached(std::size_t node) const { return reached_[node] != 0; }

 private:
  // Only reals have gradients, so comparisons, indices and conditions end here.
  void reach(NodeId n) {
    if (!n.valid() || reached_[n.index] != 0 || !is_real(graph_.node(n).type.dtype)) return;
    reached_[n.index] = 1;
    work_.push_back(n);
  }

  void visit(const Node& n) {
    switch (n.kind) {
      case Node::operation:
        if (n.code == Opcode::stop_ || n.code == Opcode::floor_) return;
        for (NodeId o : n.operands) reach(o);
        return;
      case Node::carried: {
        const RepeatInfo& r = graph_.repeats[n.owner];
        reach(graph_.nodes[r.end].operands[n.item]);   // the repeat's own node stands at its end
        if (r.turns > 1) reach(r.results[n.item]);
        return;
      }
      case Node::turned: return reach(graph_.repeats[n.owner].results[n.item]);
      case Node::state: return reach(graph_.scans[n.owner].states[n.item].next);
      case Node::collected: return reach(graph_.scans[n.owner].collected[n.item]);
      case Node::training:
      case Node::input:
      case Node::param:
      case Node::repeat:
      case Node::scan: return;
    }
  }

  const Graph& graph_;
  std::vector<char> reached_;
  std::vector<NodeId> work_;
};

}   // namespace

void warn_unreached(const Graph& graph, NodeId loss, Reporter& report) {
  Walk walk(graph);
  walk.from(loss);
  std::vector<char> read(graph.nodes.size(), 0);
  for (const Node& n : graph.nodes)
    for (NodeId o : n.operands) read[o.index] = 1;
  // A parameter has a node in each turn that is unrolled; it is reached if one of them is.
  struct Use {
    Span at;
    std::string name;
    bool read = false, reached = false;
  };
  std::map<std::pair<std::uint32_t, std::uint32_t>, Use> uses;
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    const Node& n = graph.nodes[i];
    if (n.kind != Node::param || graph.params[n.item].fixed) continue;
    const ParamRef& p = graph.params[n.item];
    const std::uint32_t bundle = graph.instances[p.instance].trained;
    Use& u = uses[{bundle, p.member}];
    u.at = n.at;
    u.name = graph.bundles[bundle].members[p.member].name;
    u.read = u.read || read[i] != 0;
    u.reached = u.reached || walk.reached(i);
  }
  for (const auto& [member, u] : uses)
    if (u.read && !u.reached)
      report.warning(
          u.at, fmt::format("no gradient of `loss` reaches `{}`, so it is not trained", u.name));
}

}   // namespace gradc
