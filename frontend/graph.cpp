// Appending to the typed graph.
#include "frontend/graph.h"

#include <fmt/format.h>

namespace gradc {

NodeId Graph::add(Node node) {
  node.home = home;
  for (NodeId o : node.operands) node.level = deeper(node.level, nodes[o.index].level);
  nodes.push_back(std::move(node));
  return NodeId{static_cast<std::uint32_t>(nodes.size() - 1)};
}

NodeId Graph::add(Opcode code, std::vector<NodeId> operands, const Attr& attr, const Type& type,
                  Span at) {
  return add(
      Node{.code = code, .type = type, .attr = attr, .operands = std::move(operands), .at = at});
}

AxisId Graph::take_axis(const std::string& name, std::int64_t extent) {
  if (const auto it = free_.find(fmt::format("{}={}", name, extent));
      it != free_.end() && !it->second.empty()) {
    const AxisId a = it->second.back();
    it->second.pop_back();
    return a;
  }
  axes.push_back({name, extent});
  return AxisId{static_cast<std::uint32_t>(axes.size() - 1)};
}

void Graph::give_axis(AxisId storage) {
  const StorageAxis& a = axes[storage.index];
  free_[fmt::format("{}={}", a.name, a.extent)].push_back(storage);
}

std::uint32_t Graph::depth(std::uint32_t scan) const {
  std::uint32_t n = 0;
  for (; scan != no_index; scan = scans[scan].outer) ++n;
  return n;
}

bool Graph::within(std::uint32_t level, std::uint32_t scan) const {
  for (; level != no_index; level = scans[level].outer)
    if (level == scan) return true;
  return false;
}

std::uint32_t Graph::deeper(std::uint32_t a, std::uint32_t b) const {
  if (a == b || b == no_index) return a;
  if (a == no_index) return b;
  return depth(a) >= depth(b) ? a : b;
}

}  // namespace gradc
