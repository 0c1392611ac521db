// Running of functions on arrays, both ways.
#include "runtime/execute.h"

#include <fmt/format.h>

#include <bit>
#include <cstring>

#include "passes/pipeline.h"
#include "runtime/entry.h"

namespace gradc {
namespace {

// Visits every element of a type in row-major order with its offset under strides.
template <class F>
void each_element(const Function& f, const Type& t, const std::array<std::int64_t, max_rank>& strides, const F& visit) {
  const std::int64_t n = f.elements(t);
  std::array<std::int64_t, max_rank> at{};
  std::int64_t offset = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    visit(i, offset);
    for (int a = t.axes.size() - 1; a >= 0; --a) {
      const auto k = static_cast<std::size_t>(a);
      offset += strides[k];
      if (++at[k] < f.extent(t.axes[a])) break;
      offset -= at[k] * strides[k];
      at[k] = 0;
    }
  }
}

void store(const Function& f, const Type& t, const Placement& place, std::byte* base, const Array& from) {
  each_element(f, t, place.strides, [&](std::int64_t i, std::int64_t offset) {
    std::byte* at = base + offset * bytes(t.dtype);
    const auto k = static_cast<std::size_t>(i);
    switch (t.dtype) {
      case DType::f32: { const auto x = static_cast<float>(from.real[k]); std::memcpy(at, &x, 4); break; }
      case DType::f64: std::memcpy(at, &from.real[k], 8); break;
      case DType::i32: { const auto x = static_cast<std::int32_t>(from.integer[k]); std::memcpy(at, &x, 4); break; }
      case DType::i64: std::memcpy(at, &from.integer[k], 8); break;
      case DType::boolean: { const auto x = static_cast<std::uint8_t>(from.integer[k]); std::memcpy(at, &x, 1); break; }
      case DType::bf16: { const std::uint16_t x = bf16_bits(static_cast<float>(from.real[k])); std::memcpy(at, &x, 2); break; }
      case DType::f16: break;   // refused by codegen before any memory is filled
    }
  });
}

Array fetch(const Function& f, const Type& t, const Placement& place, const std::byte* base) {
  Array out = Array::zeros(t.dtype, extents_of(f, t));
  each_element(f, t, place.strides, [&](std::int64_t i, std::int64_t offset) {
    const std::byte* at = base + offset * bytes(t.dtype);
    const auto k = static_cast<std::size_t>(i);
    switch (t.dtype) {
      case DType::f32: { float x; std::memcpy(&x, at, 4); out.real[k] = static_cast<double>(x); break; }
      case DType::f64: std::memcpy(&out.real[k], at, 8); break;
      case DType::i32: { std::int32_t x; std::memcpy(&x, at, 4); out.integer[k] = x; break; }
      case DType::i64: std::memcpy(&out.integer[k], at, 8); break;
      case DType::boolean: { std::uint8_t x; std::memcpy(&x, at, 1); out.integer[k] = x; break; }
      case DType::bf16: {
        std::uint16_t x;
        std::memcpy(&x, at, 2);
        out.real[k] = static_cast<double>(std::bit_cast<float>(std::uint32_t{x} << 16));
        break;
      }
      case DType::f16: break;
    }
  });
  return out;
}

std::vector<std::string> result_names(const Program& p, const Function& f) {
  std::vector<std::string> out;
  for (std::size_t i = 0; i < f.body().results.size(); ++i)
    out.push_back(i < f.result_names.size() ? std::string(p.text(f.result_names[i])) : std::to_string(i));
  return out;
}

Result<Arrays> compiled(const Program& program, std::string_view function, const Arrays& arguments, const ExecuteOptions& options) {
  Result<Entry> entry = Entry::plan(program, {.target = options.target, .entry = function, .fuse = options.fuse, .precision = options.precision});
  if (!entry) return entry.failure();
  const Program& p = entry->program();
  const Function& f = entry->function();
  Result<std::vector<Array>> values = ordered_arguments(p, f, arguments);
  if (!values) return values.failure();
  Pool pool(options.threads);
  KernelStore store_of_kernels(options.target, options.cache);
  Result<std::vector<Array>> results = run_planned(p, p.find(function), *values, store_of_kernels, pool);
  if (!results) return results.failure();
  Arrays out;
  const std::vector<std::string> names = result_names(p, f);
  for (std::size_t i = 0; i < names.size(); ++i) out[names[i]] = std::move((*results)[i]);
  return out;
}

}  // namespace

Result<std::vector<Array>> run_planned(const Program& program, FunctionId planned, std::span<const Array> arguments,
                                       KernelStore& store_of_kernels, Pool& pool) {
  const Function& f = program.function(planned);
  const PlanSummary summary = summarize_plan(program, planned);
  std::vector<Mapping> mappings;
  Bases bases{};
  for (std::size_t arena = index(Arena::none) + 1; arena < arena_count; ++arena) {
    Result<Mapping> m = Mapping::allocate(static_cast<std::size_t>(summary.bytes[arena]));
    if (!m) return m.failure();
    bases[arena] = m->data();
    mappings.push_back(std::move(*m));
  }
  LoadReport report;
  Result<Step> step = Step::load(program, planned, store_of_kernels, pool, bases, report);
  if (!step) return step.failure();
  const auto base = [&](ValueId v) { return bases[index(f.placed[v.index].arena)] + f.placed[v.index].offset; };
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const ValueId v = f.body().arguments[i];
    if (f.placed[v.index].arena != Arena::none) store(f, f.type(v), f.placed[v.index], base(v), arguments[i]);
  }
  step->run();
  std::vector<Array> out;
  for (ValueId v : f.body().results) out.push_back(fetch(f, f.type(v), f.placed[v.index], base(v)));
  return out;
}

Result<Arrays> execute(const Program& program, std::string_view function, const Arrays& arguments, const ExecuteOptions& options) {
  if (!options.interpret) return compiled(program, function, arguments, options);
  const Program* p = &program;
  Program made;
  // Casts to bf16 are there once kernels are.
  const bool rounds = options.precision != Precision::f32;
  if (rounds || (!program.find(function).valid() && program.find("loss").valid())) {
    Result<Program> grad = run_pipeline(program, {.target = options.target, .until = rounds ? Stage::grouped : Stage::grad,
                                                  .entry = function, .fuse = options.fuse, .precision = options.precision});
    if (!grad) return grad.failure();
    made = std::move(*grad);
    p = &made;
  }
  const FunctionId id = p->find(function);
  if (!id.valid()) return failure(Exit::usage, fmt::format("there is no function `{}`", function));
  const Function& f = p->function(id);
  Result<std::vector<Array>> values = ordered_arguments(*p, f, arguments);
  if (!values) return values.failure();
  Result<std::vector<Array>> results = evaluate(*p, id, *values);
  if (!results) return results.failure();
  Arrays out;
  const std::vector<std::string> names = result_names(*p, f);
  for (std::size_t i = 0; i < names.size(); ++i) out[names[i]] = std::move((*results)[i]);
  return out;
}

}  // namespace gradc
