// Owns which values a gradient concerns, in a function and all that it calls: those that depend on
// what is asked for (varied) and whose own cotangent is therefore asked for (wanted). It follows
// the rows of passes/derivatives.def operand by operand, so it says exactly what the walker will
// do.
//
// A function that is called several times has one answer for all calls, their union; each call
// knows exactly which of its results reach which operands. Linear in the operations, times
// (arguments / 64) for functions and regions that are called or nested.
#pragma once

#include <unordered_map>
#include <vector>

#include "ir/program.h"

namespace gradc {

// Which results (rows) depend, through what has a derivative, on which arguments (columns).
class Reach {
 public:
  Reach() = default;
  Reach(std::size_t rows, std::size_t columns)
      : words_((columns + 63) / 64), bits_(rows * words_) {}
  bool operator()(std::size_t row, std::size_t column) const {
    return (bits_[row * words_ + column / 64] >> (column % 64)) & 1;
  }
  void set(std::size_t row, std::size_t column) {
    bits_[row * words_ + column / 64] |= std::uint64_t{1} << (column % 64);
  }
  // Adds a row of `other` to a row of this; true if that changed it.
  bool join(std::size_t row, const Reach& other, std::size_t other_row);

 private:
  std::size_t words_ = 0;
  std::vector<std::uint64_t> bits_;
};

class Activity {
 public:
  // Derivatives of the real results of `root` by its arguments `wrt` (indices).
  Activity(const Program& program, FunctionId root, const std::vector<std::uint32_t>& wrt);

  // Functions that matter, callees first, and a function's regions, inner ones first.
  const std::vector<FunctionId>& functions() const { return functions_; }
  const std::vector<RegionId>& regions(FunctionId f) const { return of_[f.index].inner_first; }

  bool varied(FunctionId f, ValueId v) const { return of_[f.index].varied[v.index] != 0; }
  bool wanted(FunctionId f, ValueId v) const { return of_[f.index].wanted[v.index] != 0; }
  // The results of a region, by position, whose cotangents come in.
  const std::vector<char>& wanted_results(FunctionId f, RegionId r) const {
    return of_[f.index].slots[r.index];
  }
  // Some result of the operation has a cotangent, and some operand wants one.
  bool active(FunctionId f, const Op& op) const;
  // For call, fused, scan: result → operand, all turns taken together.
  const Reach& reach(FunctionId f, OpId op) const;
  // An active `launch`, which has no derivative: differentiate before grouping.
  bool launches() const { return launches_; }

 private:
  struct PerFunction {
    std::vector<char> varied, wanted;
    std::vector<std::vector<char>> slots;              // by region
    std::vector<RegionId> inner_first;
    std::vector<Reach> reach;                          // by region; empty for the root's body
    std::unordered_map<std::uint32_t, Reach> scans;    // by operation: closed over the turns
  };
  void close_scan(FunctionId f, OpId op);
  Reach reach_of(FunctionId f, RegionId r);
  void forward(FunctionId f, RegionId r);
  void backward(FunctionId f, RegionId r);

  const Program& program_;
  std::vector<FunctionId> functions_;
  std::vector<PerFunction> of_;
  bool launches_ = false;
};

// Whether the operation's row gives its operand `k` a cotangent at all: real, and not `stop`. For
// call, fused and scan: real.
bool passes_gradient(const Function& f, const Op& op, std::size_t k);

}  // namespace gradc
