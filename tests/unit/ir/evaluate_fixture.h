// Owns a small way to build one function and run it: for the tests of the interpreter.
#pragma once

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <string_view>

#include "ir/builder.h"
#include "ir/evaluate.h"

namespace gradc::evaluate_test {

inline constexpr double inf = std::numeric_limits<double>::infinity();
inline constexpr double NaN = std::numeric_limits<double>::quiet_NaN();
using Reals = std::vector<double>;
using Ints = std::vector<std::int64_t>;

// One function under construction with its arguments' arrays.
struct Fixture {
  Program program;
  Function function;
  Builder b{program, function};
  std::vector<Array> arguments;

  AxisId axis(std::string_view name, std::int64_t n) { return b.axis(name, n); }
  Array array(DType d, const AxisList& axes) {
    std::vector<std::int64_t> extents;
    for (AxisId a : axes) extents.push_back(function.extent(a));
    return Array::zeros(d, extents);
  }
  ValueId reals(const AxisList& axes, const Reals& x, DType d = DType::f32) {
    Array a = array(d, axes);
    REQUIRE(a.real.size() == x.size());
    a.real = x;
    arguments.push_back(a);
    return b.argument({d, axes});
  }
  ValueId ints(const AxisList& axes, const Ints& x, DType d = DType::i32) {
    Array a = array(d, axes);
    REQUIRE(a.integer.size() == x.size());
    a.integer = x;
    arguments.push_back(a);
    return b.argument({d, axes});
  }
  ValueId i64(std::int64_t x) { return ints({}, {x}, DType::i64); }

  Result<std::vector<Array>> run(std::initializer_list<ValueId> results,
                                 std::int64_t limit = std::int64_t{1} << 31) {
    b.finish(std::vector<ValueId>(results));
    function.name = program.intern("f");
    program.functions.push_back(function);
    return evaluate(program, FunctionId{static_cast<std::uint32_t>(program.functions.size() - 1)},
                    arguments, limit);
  }
  Array one(ValueId result) {
    Result<std::vector<Array>> r = run({result});
    REQUIRE(r.ok());
    REQUIRE(r->size() == 1);
    CHECK((*r)[0].size() == static_cast<std::int64_t>(is_real((*r)[0].dtype)
                                                          ? (*r)[0].real.size()
                                                          : (*r)[0].integer.size()));
    return (*r)[0];
  }
};

// Equal bit for bit in value: NaN equals NaN, −0 is not +0.
inline bool same(const Reals& a, const Reals& b) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (std::isnan(a[i]) && std::isnan(b[i])) continue;
    if (a[i] != b[i] || std::signbit(a[i]) != std::signbit(b[i])) return false;
  }
  return true;
}
inline Reals iota(std::size_t n, double from = 0) {
  Reals out;
  for (std::size_t i = 0; i < n; ++i) out.push_back(from + static_cast<double>(i));
  return out;
}

}  // namespace gradc::evaluate_test
