// Attention as near to its f64 definition as its unfused operations are: with R the interpreter's
// value, U that of the operations compiled one by one and O the kernel's,
// rms(O − R) ≤ 3 · rms(U − R) + 4 · 2⁻²⁴ · rms(R).
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "unit/codegen/against.h"
#include "unit/codegen/attention_text.h"

using namespace gradc;
using namespace gradc::testing;

namespace {

std::vector<Array> run(const Program& p, const std::vector<Array>& arguments) {
  const Function& f = p.functions[0];
  KernelInstance instance{FunctionId{0}, {}};
  for (ValueId v : f.body().arguments) instance.buffers.push_back(row_major(f, f.type(v)));
  for (ValueId v : f.body().results) instance.buffers.push_back(row_major(f, f.type(v)));
  return Execution(p, instance, runnable_targets()[0]).run(arguments, 1);
}

// Each operation of the kernel as a kernel of its own.
std::vector<Array> unfused(const Program& p, const std::vector<Array>& arguments) {
  const Function& f = p.functions[0];
  std::vector<Array> known(f.values.size());
  for (std::size_t i = 0; i < arguments.size(); ++i)
    known[f.body().arguments[i].index] = arguments[i];
  for (OpId o : f.body().ops) {
    const Op& op = f.op(o);
    if (op.code == Opcode::constant_) continue;
    Program single = p;
    Function& g = single.functions[0];
    Region& body = g.regions[0];
    body.arguments.clear();
    body.ops.clear();
    g.result_names.clear();
    std::vector<Array> operands;
    for (ValueId v : op.operands) {
      const OpId def = f.value(v).def;
      if (def.valid() && f.op(def).code == Opcode::constant_) {
        body.ops.push_back(def);
      } else if (std::find(body.arguments.begin(), body.arguments.end(), v) ==
                 body.arguments.end()) {
        g.values[v.index].def = {};
        body.arguments.push_back(v);
        operands.push_back(known[v.index]);
      }
    }
    body.ops.push_back(o);
    body.results = {op.results[0]};
    const Kind kind = facts(op.code).kind;
    g.family = kind == Kind::contract ? Family::contract
               : kind == Kind::reduce ? Family::rows
                                      : Family::map;
    known[op.results[0].index] = run(single, operands)[0];
  }
  std::vector<Array> out;
  for (ValueId v : f.body().results) out.push_back(known[v.index]);
  return out;
}

double rms(const Array& a, const Array* minus = nullptr) {
  double sum = 0;
  for (std::size_t i = 0; i < a.real.size(); ++i) {
    const double d = a.real[i] - (minus == nullptr ? 0 : minus->real[i]);
    sum += d * d;
  }
  return std::sqrt(sum / static_cast<double>(std::max<std::size_t>(a.real.size(), 1)));
}

std::vector<Array> check_rule(const Program& p, const std::vector<Array>& arguments, bool extreme) {
  const Result<std::vector<Array>> exact = evaluate(p, FunctionId{0}, arguments);
  REQUIRE(exact.ok());
  const std::vector<Array> plain = unfused(p, arguments), got = run(p, arguments);
  for (std::size_t r = 0; r < got.size(); ++r) {
    const double of_plain = rms(plain[r], &(*exact)[r]), of_kernel = rms(got[r], &(*exact)[r]),
                 size = rms((*exact)[r]);
    INFO("result ", r, ": unfused ", of_plain, ", kernel ", of_kernel, ", size ", size);
    if (!extreme) CHECK(of_plain <= 1e-5 * size);
    CHECK(of_kernel <= 3 * of_plain + 4 * 0x1p-24 * size);
  }
  return *exact;
}

}  // namespace

TEST_CASE("attention and its gradient are as exact as their operations, at extreme scores, too") {
  const Extents extents{{"b", 1}, {"t", 100}, {"h", 1}, {"e", 16}, {"s", 100}, {"f", 16}};
  for (const double scale : {1.0, 60.0}) {  // scores to about 1, to 10⁴
    INFO("queries and keys times ", scale);
    const Program forward = kernel_program(attention_text({.map = causal_map}, extents));
    const Function& f = forward.functions[0];
    std::vector<Array> arguments;
    for (std::size_t i = 0; i < 3; ++i) {
      arguments.push_back(random_array(f, f.type(f.body().arguments[i]), 5 + i));
      for (double& x : arguments.back().real) x *= i < 2 ? scale : 1;
    }
    const std::vector<Array> saved = check_rule(forward, arguments, scale > 1);
    Array d_out = random_array(f, f.type(f.body().results[0]), 9), lse = saved[1], delta = lse;
    for (std::size_t row = 0; row < delta.real.size(); ++row) {
      double sum = 0;
      for (std::size_t k = 0; k < 16; ++k)
        sum += d_out.real[row * 16 + k] * saved[0].real[row * 16 + k];
      delta.real[row] = static_cast<float>(sum);
      lse.real[row] = static_cast<float>(lse.real[row]);
    }
    for (const Array& a : {lse, delta, d_out}) arguments.push_back(a);
    check_rule(kernel_program(
                   attention_grad_text({.map = causal_map, .gradient = causal_gradient}, extents)),
               arguments, scale > 1);
  }
}
