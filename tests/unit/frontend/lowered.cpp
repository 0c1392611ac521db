// From a text to numbers.
#include "unit/frontend/lowered.h"

#include <doctest/doctest.h>

#include "ir/diagnostic.h"

namespace gradc::test {
namespace {

std::uint64_t hash(const std::string& name, std::int64_t i) {
  std::uint64_t h = 1469598103934665603u + static_cast<std::uint64_t>(i) * 0x9E3779B97F4A7C15u;
  for (unsigned char c : name) h = (h ^ c) * 1099511628211u;
  h ^= h >> 29;
  h *= 0xBF58476D1CE4E5B9u;
  return h ^ (h >> 32);
}

bool nothing(const std::string&, std::string&) { return false; }

}  // namespace

double filling(const std::string& name, std::int64_t i) { return static_cast<double>(hash(name, i) % 2001) / 1000 - 1; }
std::int64_t filling(const std::string& name, std::int64_t i, std::int64_t low, std::int64_t high) {
  return low + static_cast<std::int64_t>(hash(name, i) % static_cast<std::uint64_t>(high - low));
}

Lowered::Lowered(const std::string& text, std::vector<std::string> values) {
  Sources sources;
  sources.add("m.grad", text);
  Result<FilePtr> file = parse_model(sources, 0, nothing);
  if (!file) FAIL(render(sources, file.failure().diagnostics[0]));
  LowerOptions options{.values = std::move(values), .need_loss = false, .real = DType::f64};
  Result<Model> m = lower(sources, **file, options);
  if (!m) FAIL(render(sources, m.failure().diagnostics[0]));
  model_ = std::move(*m);
}

Array Lowered::fill(const std::string& name, DType dtype, std::vector<std::int64_t> extents, std::int64_t low, std::int64_t high) const {
  Array a = Array::zeros(dtype, std::move(extents));
  const auto given = given_.find(name);
  for (std::int64_t i = 0; i < a.size(); ++i) {
    const std::size_t k = static_cast<std::size_t>(i);
    if (is_real(dtype))
      a.real[k] = given != given_.end() ? given->second.at(k) : filling(name, i);
    else
      a.integer[k] = given != given_.end() ? static_cast<std::int64_t>(given->second.at(k)) : filling(name, i, low, high);
  }
  return a;
}

std::vector<Array> Lowered::run(std::string_view function, std::int64_t step, std::int64_t seed) const {
  const Program& p = model_.program;
  std::vector<Array> arguments;
  for (const char* bundle : {"params", "fixed"})
    for (std::uint32_t i = 0; i < p.bundles.size(); ++i) {
      if (p.text(p.bundles[i].name) != bundle) continue;
      for (const Leaf& leaf : leaves(p, BundleId{i})) {
        if (leaf.member->initial.kind == Initial::computed)
          arguments.push_back(evaluate(p, leaf.member->initial.function, {})->at(0));
        else
          arguments.push_back(fill(leaf.stored, DType::f64, leaf.extents, 0, 0));
      }
    }
  for (const Input& in : p.inputs) {
    std::vector<std::int64_t> extents;
    for (const Axis& a : in.axes) extents.push_back(a.extent);
    arguments.push_back(fill(std::string(p.text(in.name)), in.dtype, extents, in.low, in.high));
  }
  arguments.push_back(Array::scalar(step, DType::i64));
  arguments.push_back(Array::scalar(seed, DType::i64));
  Result<std::vector<Array>> out = evaluate(p, p.find(function), arguments);
  if (!out) FAIL(out.failure().diagnostics[0].message);
  return std::move(*out);
}

Array Lowered::operator[](const std::string& value) const {
  const Program& p = model_.program;
  const std::vector<NameId>& names = p.function(p.find("eval")).result_names;
  const std::vector<Array> out = run();
  for (std::size_t i = 0; i < names.size(); ++i)
    if (p.text(names[i]) == value) return out[i];
  FAIL("@eval does not give " << value);
  return {};
}

int Lowered::count(std::string_view function, Opcode code) const {
  const Function& f = model_.program.function(model_.program.find(function));
  int n = 0;
  for (const Op& o : f.ops) n += o.code == code ? 1 : 0;
  return n;
}

std::string complaints(const std::string& text, bool need_loss) {
  Sources sources;
  sources.add("m.grad", text);
  Result<FilePtr> file = parse_model(sources, 0, nothing);
  if (!file) return render(sources, file.failure().diagnostics[0]);
  Result<Model> m = lower(sources, **file, {.need_loss = need_loss});
  std::string out;
  for (const Diagnostic& d : m ? m->warnings : m.failure().diagnostics) out += render(sources, d);
  return out;
}

}  // namespace gradc::test
