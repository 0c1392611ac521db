// Owns what the files of the grouping pass share: its four steps and what they hand on.
// passes/group.cpp tells of the algorithm.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "ir/program.h"

namespace gradc::grouping {

// What becomes of an operation.
enum class Fate : std::uint8_t {
  view,    // strides outside kernels: no work and no memory
  clone,   // cheaper to compute again in every kernel that wants it than to keep
  placed,  // in one kernel, which hands its value out if others want it
  opaque,  // stands by itself: calls, concat, flat, scatter, update, scan
};

// A kernel in the making, or one opaque operation. Nodes are numbered from the end of the function:
// of two nodes the one with the larger number runs first, and every value flows to a smaller
// number.
struct Node {
  Family family = Family::none;  // none: opaque, or a launch that was there before
  AxisList axes;                 // map, contract: of every result; rows: kept and reduced
  AxisList kept, reduced;        // rows
  bool along = false;     // rows: reduces the innermost axes, so results of all axes may follow
  std::vector<OpId> ops;  // placed here; clones come when it is written out
  struct Input {
    std::uint32_t node;
    bool memory;  // read through a view or as a contraction's operand: never internal
    bool total = false;  // a sum over all axes: not there before a contract kernel ends
  };
  std::vector<Input> inputs;  // nodes that make what this one reads, as far as they are known
  std::uint32_t moved_to = UINT32_MAX;  // merged into that node
};

// Who wants a value. Nodes may have moved since they were noted.
struct Uses {
  std::vector<std::uint32_t> inside;  // nodes that read it elementwise: could compute it themselves
  std::vector<std::uint32_t> memory;  // nodes that need it in memory before they start
  bool kept = false;                  // must be in memory: returned, or has `memory` uses
  bool before_sum = false;  // some use leads to the operand of a reduction, or to a full-size value
};

struct Clusters {
  std::vector<Fate> fate;  // by operation
  // By operation: its node; none for views, for clones that nobody keeps and for dead ones.
  std::vector<std::uint32_t> owner;
  std::vector<char> free_source;  // by operation: a clone that loads nothing (a mask of positions)
  std::vector<Node> nodes;
  std::vector<Uses> uses;  // by value
  std::vector<std::uint32_t> products;  // by value: how often contractions read it
  static constexpr std::uint32_t none = UINT32_MAX;

  std::uint32_t find(std::uint32_t node) const;  // where it moved to
};

// The operand's index that must be an argument of the kernel: read from memory before the kernel
// starts.
bool reads_memory(const Function& f, const Clusters& c, const Op& op, std::size_t operand);
// A contraction's operand that is a cast of something in memory: the cast moves into the kernel,
// unless another contraction reads it, too, and a copy is not too large. What is wider than what it
// is a cast of is never kept.
bool is_absorbed_cast(const Function& f, const Clusters& c, ValueId operand);
inline constexpr std::int64_t most_copied = std::int64_t{1} << 22;  // elements
bool is_address(Opcode code);  // a view or read that can be the addressing of a load

// Kernels of the whole program; equal ones are found by structure_key.
struct KernelTable {
  std::unordered_map<std::string, FunctionId> by_key;
  std::unordered_set<std::string> names;  // of all functions that were there before
  int count[family_count] = {};           // by family, for names of new ones
};
// The kernel, or one that is the same, in `program`.
FunctionId define(Program& program, KernelTable& kernels, Function kernel);

// Step 1: a copy of `f` with attention as launches, other `fused` operations replaced by their
// meaning, and scatters brought into the two forms that kernels know.
Function prepare(Program& program, const Function& f, KernelTable& kernels);
// Step 2: who computes what.
Clusters cluster(const Function& f);
// Step 3: the function of launches. New kernels are appended to `program`.
Function write_out(Program& program, const Function& f, const Clusters& clusters,
                   KernelTable& kernels);
// Step 4, of each kernel: its elementwise arithmetic in fewer operations.
Function in_fewer_operations(Program& program, const Function& kernel);

}  // namespace gradc::grouping
