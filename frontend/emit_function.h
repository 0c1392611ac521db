// Owns the emission of one function: what is alive for its results, its arguments, its operations
// in source order, scans as regions.
#pragma once

#include <map>
#include <unordered_map>
#include <vector>

#include "frontend/emit.h"
#include "ir/builder.h"

namespace gradc {

// An emitter for what stands anywhere: a function of positions.
inline constexpr std::uint32_t anywhere = no_index;

inline bool is_constant(const Node& n) {
  return n.kind == Node::operation && n.code == Opcode::constant_;
}

//   emit_function.cpp   types, values, operations, calls
//   emit_live.cpp       liveness      emit_arguments.cpp   arguments      emit_scan.cpp   scans
class FunctionEmitter {
 public:
  // `home`: the repeat whose turn it is; 0: an entry; no_index: a function of positions, from
  // wherever.
  FunctionEmitter(IrWriter& all, std::uint32_t home, bool training, std::string_view name);

  void mark(std::span<const NodeId> roots);
  void entry_arguments(std::span<const EntryInput> inputs);
  TurnFunction turn_arguments();
  void operations();
  // Pushes the function; results have exactly their nodes' types, or those given.
  FunctionId finish(std::span<const NodeId> results, std::span<const std::string> names,
                    std::span<const NodeId> like = {});
  bool differs() const { return differs_; }

 private:
  // The body, or a scan's region: values of nodes, axes taken away.
  struct Body {
    std::unordered_map<std::uint32_t, ValueId> values;
    std::map<std::pair<DType, std::uint64_t>, ValueId> constants;
    std::vector<AxisId> dropped;  // storage
  };

  // ---- liveness
  void need(NodeId n);
  void visit(NodeId n);
  // What an operation is made of: its operands' thin forms if they have all its axes, else the
  // operands.
  std::vector<NodeId> used(const Node& n) const;
  void externals();

  // ---- types and values
  AxisId axis(AxisId storage);
  Type type(const Type& storage);
  Attr attributes(const Attr& a);
  ValueId value(NodeId n);  // with all axes of the node
  ValueId base(NodeId n);   // of a thin node
  ValueId constant(const Node& n);
  ValueId exactly(ValueId v, const Type& storage);  // its axes in this order
  void define(NodeId n, ValueId v);
  void group(std::uint32_t bundle, BundleId id, std::string_view name, ValueId& first);
  ValueId fitted(ValueId v, const AxisList& want);
  // What stands for each axis of a callee; of its storage axes at first.
  using Standing = std::unordered_map<std::uint32_t, AxisId>;
  Standing standing(const TurnFunction& callee);
  ValueId member_for(const TurnFunction& callee, std::size_t argument, ValueId v, Standing& stands);

  // ---- operations
  void operation(NodeId n);
  void calls(NodeId n);
  void scan(NodeId n);
  void draw(NodeId n);
  ValueId site(std::int64_t offset);
  void name(ValueId v, NameId n);

  IrWriter& all_;
  Graph& graph_;
  std::uint32_t home_;
  bool training_, differs_ = false, random_ = false;
  std::uint32_t stamp_;
  Function function_;
  Builder builder_;
  std::vector<Body> bodies_;
  std::vector<NodeId> work_, live_;
  std::vector<NodeId> captured_;
  std::unordered_map<std::uint32_t, char> is_captured_;
  std::map<std::uint32_t, std::vector<NodeId>> by_scan_;  // live nodes of a scan's level
  std::map<std::uint32_t, std::vector<NodeId>> outside_;  // what a scan reads from outside it
  std::unordered_map<std::uint32_t, AxisId> axes_;        // by storage
  std::unordered_map<std::uint32_t, AxisId> storage_of_;  // by axis
  ValueId trained_, fixed_, site_, step_, seed_;          // first members, scalars
};

}  // namespace gradc
