// Entry functions in the interpreter.
#include "runtime/oracle.h"

#include <fmt/format.h>

#include <cmath>

#include "runtime/initial.h"
#include "runtime/weights.h"

namespace gradc {
namespace {

constexpr double noise = 0.3;  // deviation added to the initial values of a random feed

FunctionId forward_entry(const Program& program) {
  const FunctionId loss = program.find("loss");
  return loss.valid() ? loss : program.find("eval");
}

std::vector<BundleValues<double>> parts(const Program& program, OracleFeed& feed) {
  std::vector<BundleValues<double>> out;
  const FunctionId f = forward_entry(program);
  if (!f.valid()) return out;
  for (const auto& [name, values] : {std::pair{"p", &feed.p}, std::pair{"f", &feed.f}})
    if (const BundleId b = argument_bundle(program, f, name); b.valid()) {
      values->resize(static_cast<std::size_t>(element_count(program, b)));
      out.push_back({b, *values});
    }
  return out;
}

// Random within the bounds. Where negative values are allowed beside others (an ignored target),
// most are not.
Array random_input(const Program& program, const Input& input, std::uint64_t seed) {
  std::vector<std::int64_t> extents;
  for (const Axis& a : input.axes) extents.push_back(a.extent);
  Array out = Array::zeros(input.dtype, std::move(extents));
  const std::uint64_t hash = fnv1a("input " + std::string(program.text(input.name)));
  for (std::size_t i = 0; i < out.real.size(); ++i) out.real[i] = initial_normal(seed, hash, i);
  for (std::size_t i = 0; i < out.integer.size(); ++i) {
    const double u = (initial_uniform(seed, hash, 2 * i) + 1) / 2;
    const bool low_too =
        input.low >= 0 || input.high <= 0 || initial_uniform(seed, hash, 2 * i + 1) > 0.5;
    const double low = static_cast<double>(low_too ? input.low : 0),
                 high = static_cast<double>(input.high);
    out.integer[i] =
        input.bounded ? static_cast<std::int64_t>(std::floor(low + u * (high - low))) : 0;
  }
  return out;
}

}  // namespace

Result<OracleFeed> initial_feed(const Program& program, std::uint64_t seed) {
  OracleFeed feed;
  feed.seed = static_cast<std::int64_t>(seed);
  for (const BundleValues<double>& b : parts(program, feed))
    if (Result<Done> r = initialize(program, b, seed); !r) return r.failure();
  return feed;
}

Result<OracleFeed> random_feed(const Program& program, std::uint64_t seed) {
  Result<OracleFeed> feed = initial_feed(program, seed);
  if (!feed) return feed;
  for (std::size_t i = 0; i < feed->p.size(); ++i)
    feed->p[i] += noise * initial_normal(seed, fnv1a("noise"), i);
  for (const Input& input : program.inputs)
    feed->inputs[std::string(program.text(input.name))] = random_input(program, input, seed);
  return feed;
}

Result<Done> load_feed(const Program& program, OracleFeed& feed, const std::string& path,
                       const std::vector<std::string>& ignore) {
  const std::vector<BundleValues<double>> into = parts(program, feed);
  return load_weights(program, std::span<const BundleValues<double>>(into), path, ignore);
}

Arrays named_arguments(const Program& program, const OracleFeed& feed) {
  Arrays out = feed.inputs;
  const FunctionId f = forward_entry(program);
  for (const auto& [name, values] : {std::pair{"p", &feed.p}, std::pair{"f", &feed.f}})
    if (const BundleId b = f.valid() ? argument_bundle(program, f, name) : BundleId{}; b.valid())
      add_members(program, b, name, *values, out);
  out["step"] = Array::scalar(feed.step, DType::i64);
  out["seed"] = Array::scalar(feed.seed, DType::i64);
  return out;
}

Result<std::vector<Array>> entry_arguments(const Program& program, FunctionId f,
                                           const OracleFeed& feed) {
  return ordered_arguments(program, program.function(f), named_arguments(program, feed));
}

Result<std::vector<Array>> run_entry(const Program& program, FunctionId f, const OracleFeed& feed,
                                     StopTape* stops) {
  Result<std::vector<Array>> arguments = entry_arguments(program, f, feed);
  if (!arguments) return arguments.failure();
  return evaluate(program, f, *arguments, std::int64_t{1} << 31, stops);
}

}  // namespace gradc
