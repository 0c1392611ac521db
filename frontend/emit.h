// Owns emission: functions of the IR from what is alive in the typed graph. Booleans that are known
// (`training`, a flag of a block's header) are folded on the way, so @eval holds nothing of
// training.
#pragma once

#include <array>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "frontend/graph.h"
#include "frontend/report.h"
#include "ir/program.h"

namespace gradc {

// A repeat's turn as a function, and what its calls need.
struct TurnFunction {
  FunctionId function;
  std::vector<NodeId> captured;  // arguments behind the carried values
  std::vector<std::vector<AxisId>>
      arguments;  // storage axes of each argument of a bundle or value; empty entries: scalars.
                  // Invalid where an axis of the function is that of a bundle's member alone
  std::vector<std::vector<AxisId>> own;  // the function's axes of each
  bool trained = false, fixed = false;  // takes %p, %f
  bool random = false;                  // takes %site, %step, %seed
  bool differs = false;                 // another function in training than outside
};

inline constexpr std::size_t most_axes = 4096;  // of a function; ir/text_names.h

struct EntryInput {
  std::string name;
  NodeId node;
};

class IrWriter {
 public:
  IrWriter(Program& program, Graph& graph, Reporter& report, const Sources& sources);

  // The bundles of the program, with the functions of fixed parameters. False after an error.
  bool bundles();
  FunctionId entry(std::string_view name, bool training, std::span<const NodeId> results,
                   std::span<const std::string> names, std::span<const EntryInput> inputs);

  // ---- for function emission
  Program& program() { return program_; }
  Reporter& report() { return report_; }
  Graph& graph() { return graph_; }
  BundleId trained(std::uint32_t repeat) const { return made(graph_.repeats[repeat].trained); }
  BundleId fixed(std::uint32_t repeat) const { return made(graph_.repeats[repeat].fixed); }
  BundleId made(std::uint32_t bundle) const {
    return bundle == no_index ? BundleId{} : bundle_ids_[bundle];
  }
  std::int64_t leaf(const ParamRef& p) const;  // within its home's group
  std::int64_t first_leaf(std::uint32_t bundle, std::uint32_t member) const {
    return offsets_[bundle][member];
  }
  std::int64_t leaf_count(std::uint32_t bundle) const { return totals_[bundle]; }
  // Storage types of a bundle's leaves, in order.
  void leaf_types(std::uint32_t bundle, std::vector<const Type*>& out) const;
  const TurnFunction& turn(std::uint32_t repeat, bool training);
  LocId location(Span at);

  signed char known(NodeId n, bool training) const { return known_[training][n.index]; }
  NodeId thin(NodeId n, bool training) const { return thin_[training][n.index]; }
  bool differs(NodeId n) const {
    return known_[0][n.index] != known_[1][n.index] || thin_[0][n.index] != thin_[1][n.index];
  }
  std::uint32_t next_stamp() { return ++stamp_; }
  std::vector<std::uint32_t>& stamps() { return stamps_; }

 private:
  void fold(bool training);
  bool bundle(std::uint32_t index, const std::string& name);
  void computed();
  std::int64_t first_of(std::uint32_t instance, bool fixed) const;

  Program& program_;
  Graph& graph_;
  Reporter& report_;
  std::vector<FileId> files_;
  std::array<std::vector<signed char>, 2> known_;  // by mode and node: −1 unknown, 0, 1
  std::array<std::vector<NodeId>, 2>
      thin_;  // what it is before broadcasts and choices that are known
  std::vector<BundleId> bundle_ids_;
  std::vector<std::vector<std::int64_t>> offsets_;
  std::vector<std::int64_t> totals_, sizes_;  // by bundle: leaves, and leaves with turns
  std::int64_t all_sizes_ = 0;
  std::unordered_map<std::uint32_t, std::array<std::optional<TurnFunction>, 2>> turns_;
  std::vector<std::uint32_t> stamps_;
  std::uint32_t stamp_ = 0;
};

}  // namespace gradc
