// Owns the parts of the verifier, in the order in which they are safe to run (ir/verify.cpp).
#pragma once

#include <string>
#include <unordered_set>
#include <vector>

#include "ir/text_names.h"
#include "ir/verify.h"

namespace gradc::verifier {

enum Invariant : int {
  names = 1, bundles, initialisers, recursion, inputs, entries, stored_names, locations,
  ids, axes, types, regions, definitions, uses, counts, attributes, typing, results, value_names,
  groups, kernels, placements,
};

// The faults found so far. The first few tell enough, and each prints an operation.
class Report {
 public:
  explicit Report(const Program& p) : program(p), layouts(p) {}
  void add(Invariant invariant, std::string message) { add(invariant, {}, {}, std::move(message)); }
  void add(Invariant invariant, FunctionId f, std::string message) {
    add(invariant, f, {}, std::move(message));
  }
  // `printable`: the operation's text can be shown (its ids and types hold).
  void add(Invariant invariant, FunctionId f, OpId op, std::string message, bool printable = true);
  bool any() const { return !faults_.empty(); }
  bool full() const { return faults_.size() >= 20; }
  std::vector<Fault> take() { return std::move(faults_); }

  const Program& program;
  text::Layouts layouts;

 private:
  std::vector<Fault> faults_;
};

void check_ids(Report& report);                      // 8, 9
void check_bundles(Report& report);                  // 2
void check_structure(Report& report, FunctionId f);  // 10 – 16, 20
void check_program(Report& report);                  // 1, 3 – 7
void check_function(Report& report, FunctionId f);   // 17 – 19, 21, 22

// `axes` of a bundle, an input or a function, and a type of them.
std::string check_axes(const Program& p, const std::vector<Axis>& axes);
std::string check_type(const std::vector<Axis>& axes, const Type& type);

}  // namespace gradc::verifier
