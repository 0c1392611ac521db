// Owns the running of a model's text in the interpreter: parameters and inputs are filled by a rule that a test
// can repeat, and values are read back by position.
#pragma once

#include <initializer_list>
#include <map>
#include <string>
#include <vector>

#include "frontend/frontend.h"
#include "ir/evaluate.h"

namespace gradc::test {

// Element i of a parameter with this stored name, and of an integer input: some number between −1 and 1,
// or some integer of the range.
double filling(const std::string& name, std::int64_t i);
std::int64_t filling(const std::string& name, std::int64_t i, std::int64_t low, std::int64_t high);

class Lowered {
 public:
  // Lowers with reals of f64 and asks @eval for `values` (the standard ones if empty). Fails the test on errors.
  explicit Lowered(const std::string& text, std::vector<std::string> values = {});

  const Model& model() const { return model_; }
  // By default as filling() says.
  void set(const std::string& name, std::vector<double> elements) { given_[name] = std::move(elements); }
  // Runs @eval, or @loss; the step and the seed count for random draws.
  std::vector<Array> run(std::string_view function = "eval", std::int64_t step = 0, std::int64_t seed = 0) const;
  // The value of that name in @eval.
  Array operator[](const std::string& value) const;
  // How often an operation occurs in a function.
  int count(std::string_view function, Opcode code) const;

 private:
  Array fill(const std::string& name, DType dtype, std::vector<std::int64_t> extents, std::int64_t low, std::int64_t high) const;
  Model model_;
  std::map<std::string, std::vector<double>> given_;
};

// The errors and warnings of a text, rendered; empty if it is right.
std::string complaints(const std::string& text, bool need_loss = false);

}  // namespace gradc::test
