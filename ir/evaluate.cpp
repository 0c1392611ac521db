// The interpreter's entry: arrays, and arguments checked against a function's types.
#include "ir/evaluate.h"

#include <fmt/format.h>

#include "ir/evaluate_machine.h"
#include "ir/evaluate_ops.h"

namespace gradc {

std::int64_t Array::size() const {
  std::int64_t n = 1;
  for (std::int64_t e : extents)
    if (e == 0) return 0;  // whatever the others are, their product need not fit
  for (std::int64_t e : extents) n *= e;
  return n;
}

Array Array::zeros(DType dtype, std::vector<std::int64_t> extents) {
  Array a{dtype, std::move(extents), {}, {}};
  const auto n = static_cast<std::size_t>(a.size());
  if (is_real(dtype))
    a.real.resize(n);
  else
    a.integer.resize(n);
  return a;
}

Array Array::scalar(double x, DType dtype) {
  Array a = zeros(dtype, {});
  if (is_real(dtype))
    a.real[0] = x;
  else
    a.integer[0] = interpreter::wrap(static_cast<std::int64_t>(x), dtype);
  return a;
}

Array Array::scalar(std::int64_t x, DType dtype) {
  Array a = zeros(dtype, {});
  if (is_real(dtype))
    a.real[0] = static_cast<double>(x);
  else
    a.integer[0] = interpreter::wrap(x, dtype);
  return a;
}

namespace interpreter {
namespace {

// "" or what is wrong with an argument for a type.
std::string mismatch(const Function& f, const Type& type, const Array& a) {
  if (a.dtype != type.dtype)
    return fmt::format("has dtype {}, not {}", name(a.dtype), name(type.dtype));
  if (static_cast<int>(a.extents.size()) != type.axes.size())
    return fmt::format("has {} axes, not {}", a.extents.size(), type.axes.size());
  for (int i = 0; i < type.axes.size(); ++i)
    if (a.extents[static_cast<std::size_t>(i)] != f.extent(type.axes[i]))
      return fmt::format("has extent {}, not {}, along its axis {}",
                         a.extents[static_cast<std::size_t>(i)], f.extent(type.axes[i]), i + 1);
  const std::size_t held = is_real(a.dtype) ? a.real.size() : a.integer.size();
  return static_cast<std::int64_t>(held) == a.size()
             ? ""
             : "holds another number of elements than its extents say";
}

}  // namespace
}  // namespace interpreter

Result<std::vector<Array>> evaluate(const Program& program, FunctionId id,
                                    std::span<const Array> arguments, std::int64_t max_elements,
                                    StopTape* stops) {
  if (!id.valid() || id.index >= program.functions.size())
    return failure(Exit::usage, "there is no such function");
  const Function& f = program.function(id);
  const std::vector<ValueId>& formal = f.body().arguments;
  const std::string_view who = program.text(f.name);
  if (formal.size() != arguments.size())
    return failure(Exit::usage, fmt::format("@{} takes {} arguments, not {}", who, formal.size(),
                                            arguments.size()));
  for (std::size_t i = 0; i < formal.size(); ++i)
    if (const std::string fault = interpreter::mismatch(f, f.type(formal[i]), arguments[i]);
        !fault.empty()) {
      const std::string_view named = program.text(f.value(formal[i]).name);
      return failure(Exit::usage, named.empty()
                                      ? fmt::format("argument {} of @{} {}", i + 1, who, fault)
                                      : fmt::format("argument %{} of @{} {}", named, who, fault));
    }
  if (stops != nullptr) stops->next = 0;
  return interpreter::Machine(program, max_elements, stops).run(id, arguments);
}

}  // namespace gradc
