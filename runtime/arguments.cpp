// From names to a function's arguments.
#include "runtime/arguments.h"

#include <fmt/format.h>

namespace gradc {
namespace {

std::string text_of(const std::vector<std::int64_t>& extents) {
  return fmt::format("[{}]", fmt::join(extents, " "));
}

Result<Done> check_range(const Program& p, const std::string& name, const Array& a) {
  std::int64_t low = a.dtype == DType::i32 ? INT32_MIN : INT64_MIN,
               last = a.dtype == DType::i32 ? INT32_MAX : INT64_MAX;
  for (const Input& in : p.inputs)
    if (in.bounded && p.text(in.name) == name) low = in.low, last = in.high - 1;
  for (std::int64_t x : a.integer)
    if (x < low || x > last)
      return failure(Exit::file, fmt::format("`{}` holds {}, outside {} … {}", name, x, low, last));
  return Done{};
}

}  // namespace

std::vector<std::string> argument_names(const Program& p, const Function& f) {
  std::vector<std::string> out;
  for (ValueId v : f.body().arguments) out.emplace_back(p.text(f.value(v).name));
  for (const Group& g : f.groups) {
    if (f.value(g.first).def.valid()) continue;
    const std::vector<Leaf> members = leaves(p, g.bundle);
    for (std::size_t i = 0; i < f.body().arguments.size(); ++i) {
      const std::uint32_t v = f.body().arguments[i].index;
      if (v >= g.first.index && v < g.first.index + g.count)
        out[i] = fmt::format("{}.{}", p.text(g.name), members[v - g.first.index].path);
    }
  }
  return out;
}

std::vector<std::int64_t> extents_of(const Function& f, const Type& type) {
  std::vector<std::int64_t> out;
  for (AxisId a : type.axes) out.push_back(f.extent(a));
  return out;
}

BundleId argument_bundle(const Program& program, FunctionId function, std::string_view name) {
  const Function& f = program.function(function);
  for (const Group& g : f.groups)
    if (program.text(g.name) == name && !f.value(g.first).def.valid()) return g.bundle;
  return {};
}

BundleId argument_bundle(const Program& program, std::string_view function, std::string_view name) {
  const FunctionId id = program.find(function);
  return id.valid() ? argument_bundle(program, id, name) : BundleId{};
}

void add_members(const Program& program, BundleId bundle, std::string_view group,
                 std::span<const double> values, Arrays& into) {
  for (const Leaf& leaf : leaves(program, bundle)) {
    Array a = Array::zeros(leaf.member->type.dtype, leaf.extents);
    const auto part = values.subspan(static_cast<std::size_t>(leaf.offset), a.real.size());
    a.real.assign(part.begin(), part.end());
    into[fmt::format("{}.{}", group, leaf.path)] = std::move(a);
  }
}

Result<std::vector<Array>> ordered_arguments(const Program& p, const Function& f,
                                             const Arrays& arguments) {
  std::vector<Array> out;
  const std::vector<std::string> names = argument_names(p, f);
  for (std::size_t i = 0; i < names.size(); ++i) {
    const Type& t = f.type(f.body().arguments[i]);
    const std::vector<std::int64_t> extents = extents_of(f, t);
    const auto it = arguments.find(names[i]);
    if (it == arguments.end() && (names[i] == "step" || names[i] == "seed")) {
      out.push_back(Array::scalar(std::int64_t{0}, DType::i64));
      continue;
    }
    if (it == arguments.end())
      return failure(Exit::usage, fmt::format("nothing feeds `{}`: {} of extents {}", names[i],
                                              name(t.dtype), text_of(extents)));
    Array a = it->second;
    if (a.extents != extents)
      return failure(Exit::usage, fmt::format("`{}` has extents {}, not {}", names[i],
                                              text_of(a.extents), text_of(extents)));
    if (is_real(a.dtype) != is_real(t.dtype))
      return failure(Exit::usage, fmt::format("`{}` is {}, not {}", names[i], name(a.dtype),
                                              name(t.dtype)));
    a.dtype = t.dtype;
    if (Result<Done> r = check_range(p, names[i], a); !r) return r.failure();
    out.push_back(std::move(a));
  }
  return out;
}

}  // namespace gradc
