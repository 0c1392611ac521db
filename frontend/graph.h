// Owns the typed graph between the syntax tree and the IR: every operation that a model means, in
// source order, with repeats and scans as ranges of one flat array. Elaboration
// (frontend/lowerer.h) appends to it, emission (frontend/emit.h) makes functions of what is alive.
// Capturing is nothing but an operand of an outer repeat, and an operation inside a scan keeps the
// scan's axis; emission takes it away.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "ir/diagnostic.h"
#include "ir/program.h"

namespace gradc {

using NodeId = Id<struct NodeTag>;
inline constexpr std::uint32_t no_index = UINT32_MAX;

// `operation` has an opcode; axes in its type and attributes index Graph::axes (storage axes), a
// uniform's site is attr.integer, counted within its home. The others:
//   training   true in @loss, false in @eval
//   input      item: which
//   param      item: into Graph::params
//   carried    what turn `owner` begins with; item: which of its values
//   repeat     the calls of repeat `owner`; its operands are what the first turn begins with
//   turned     what the last turn of `owner` leaves; item: which
//   state      a value of scan `owner` at the position before; item: which
//   scan       the end of scan `owner`
//   collected  a value of scan `owner` along its axis; item: into its `collected`
struct Node {
  enum Kind : std::uint8_t {
    operation,
    training,
    input,
    param,
    carried,
    repeat,
    turned,
    state,
    scan,
    collected
  };
  Kind kind = operation;
  Opcode code = Opcode::constant_;
  std::uint32_t home = 0;          // the repeat that it stands in; 0: the model
  std::uint32_t level = no_index;  // the scan whose states it depends on: computed once a position
  std::uint32_t owner = no_index, item = 0;
  Type type;
  Attr attr;
  std::vector<NodeId> operands;
  Span at;
  NameId name;
};

struct StorageAxis {
  std::string name;
  std::int64_t extent = 0;
};

// Parameters that one turn brings, or the model: a tree as repeats nest.
struct ParamMember {
  std::string name, stored;  // stored: a pattern with `@` and `@^`
  Type type;                 // storage axes
  Initial initial;
  NodeId computed;  // Initial::computed: what it is computed from
  Span at;
  std::uint32_t nested = no_index;  // into Graph::bundles, `turns` copies
  std::int64_t turns = 0;
};
struct ParamBundle {
  std::uint32_t parent = no_index;
  std::string name;  // `h`; empty for the model's
  std::vector<ParamMember> members;
};
// One copy of a bundle's members within its home's group: the home's own, or a turn that was
// unrolled.
struct ParamInstance {
  std::uint32_t trained = no_index, fixed = no_index;  // bundles
  std::uint32_t outer = no_index;  // the instance around, if this turn was unrolled
  std::uint32_t trained_member = 0, fixed_member = 0;  // of the outer instance's bundles
  std::int64_t turn = 0;
};
struct ParamRef {
  std::uint32_t instance = 0, member = 0;
  bool fixed = false;
};

struct RepeatInfo {
  std::uint32_t parent = no_index;
  std::int64_t turns = 1;
  std::string name;
  std::uint32_t begin = 0, end = 0;                    // nodes
  std::vector<NodeId> carried, results;                // begun with, left by a turn
  std::uint32_t trained = no_index, fixed = no_index;  // its bundles; no_index: none
  std::uint32_t trained_member = 0, fixed_member = 0;  // where they stand in the parent's
  std::int64_t sites = 0;                              // draws of one turn
  std::int64_t site = 0;                               // its first one, within the parent
};

struct ScanState {
  NodeId previous, next;
  NameId name;
};
struct ScanInfo {
  std::uint32_t outer = no_index;  // the scan whose states it depends on
  AxisId axis;
  bool reverse = false;
  std::uint32_t begin = 0, end = 0;  // nodes; `end` is the scan's own node
  std::vector<ScanState> states;
  std::vector<NodeId> collected;  // inner values
};

class Graph {
 public:
  explicit Graph(Program& names) : names_(names) { repeats.emplace_back(); }

  std::vector<Node> nodes;
  std::vector<StorageAxis> axes;
  std::vector<RepeatInfo> repeats;  // [0] is the model itself
  std::vector<ScanInfo> scans;
  std::vector<ParamBundle> bundles;
  std::vector<ParamInstance> instances;
  std::vector<ParamRef> params;

  std::uint32_t home = 0;  // of what is added

  const Node& node(NodeId n) const { return nodes[n.index]; }
  Node& node(NodeId n) { return nodes[n.index]; }
  std::int64_t extent(AxisId storage) const { return axes[storage.index].extent; }
  Program& names() { return names_; }
  NameId intern(std::string_view text) { return names_.intern(text); }

  // Appends; home and level are filled in from the context and the operands.
  NodeId add(Node node);
  NodeId add(Opcode code, std::vector<NodeId> operands, const Attr& attr, const Type& type,
             Span at);

  // A storage axis that no living value has: one that was given back, or a new one.
  AxisId take_axis(const std::string& name, std::int64_t extent);
  void give_axis(AxisId storage);

  bool within(std::uint32_t level, std::uint32_t scan) const;  // is `level` the scan or inside it?
  std::uint32_t deeper(std::uint32_t a, std::uint32_t b) const;

 private:
  std::uint32_t depth(std::uint32_t scan) const;
  Program& names_;
  std::unordered_map<std::string, std::vector<AxisId>> free_;
};

}  // namespace gradc
