// Run-time positions behind operations of @loss.
#include "fuzz/season.h"

#include <algorithm>

#include "ir/builder.h"

namespace gradc::fuzz {
namespace {

// (step + c) mod n + least: i64.
ValueId position(Builder& to, ValueId step, int c, std::int64_t n, std::int64_t least) {
  const ValueId moved = to.binary(Opcode::add_, step, to.integer(c, DType::i64));
  const ValueId turned = to.binary(Opcode::mod_, moved, to.integer(n, DType::i64));
  return to.binary(Opcode::add_, turned, to.integer(least, DType::i64));
}

ValueId passed_through(Builder& to, ValueId x, AxisId axis, ValueId step, Random& random) {
  const Type type = to.type(x);
  const std::int64_t extent = to.function().extent(axis);
  const ValueId half = to.constant(0.5, type.dtype);
  if (random.chance(0.5)) {  // the mean of x and x up to some place
    const ValueId n = position(to, step, random.below(5), extent + 1, 0);
    const ValueId part = to.add(Opcode::bound_, {x, n}, {.from = axis}, type);
    const ValueId sum = to.add(Opcode::add_, {x, part}, {}, type);
    return to.add(Opcode::mul_, {sum, half}, {}, type);
  }
  // A stretch of x is halved. It may begin where it ends beyond x: what is outside is dropped.
  const std::int64_t length = random.between(1, static_cast<int>(std::min<std::int64_t>(extent, 4)));
  const AxisId stretch = to.fresh_axis("z", length);
  const ValueId p = position(to, step, random.below(5), extent + 1, 0);
  Type cut{type.dtype, {}};
  for (AxisId a : type.axes) cut.axes.push_back(a == axis ? stretch : a);
  const ValueId part =
      to.add(Opcode::slice_, {x, p}, {.integer = 0, .from = axis, .to = stretch}, cut);
  const ValueId changed = to.add(Opcode::mul_, {part, half}, {}, cut);
  return to.add(Opcode::update_, {x, changed, p}, {.from = stretch, .to = axis}, type);
}

}  // namespace

Program with_positions(const Program& program, Random& random) {
  const FunctionId loss = program.find("loss");
  if (!loss.valid()) return program;
  const Function& from = program.function(loss);
  ValueId step;
  for (ValueId v : from.body().arguments)
    if (program.text(from.value(v).name) == "step") step = v;
  std::vector<ValueId> fit;
  for (OpId id : from.body().ops)
    for (ValueId v : from.op(id).results) {
      const Type& t = from.type(v);
      if (is_real(t.dtype) && !t.axes.empty() && from.op(id).code != Opcode::uniform_)
        fit.push_back(v);
    }
  if (!step.valid() || fit.empty()) return program;
  random.shuffle(fit);
  fit.resize(std::min<std::size_t>(fit.size(), static_cast<std::size_t>(random.between(1, 2))));

  Program out = program;
  Function f{.name = from.name};
  Builder to(out, f);
  Cloner map(from, to);
  map.arguments();
  for (OpId id : from.body().ops) {
    map.clone(id);
    for (ValueId v : from.op(id).results)
      if (std::find(fit.begin(), fit.end(), v) != fit.end()) {
        const AxisList axes = to.type(map(v)).axes;
        const AxisId axis = axes[random.below(axes.size())];
        map.map(v, passed_through(to, map(v), axis, map(step), random));
      }
  }
  std::vector<ValueId> results;
  for (ValueId v : from.body().results) results.push_back(map(v));
  to.finish(results, from.result_names);
  out.functions[loss.index] = std::move(f);
  return out;
}

}  // namespace gradc::fuzz
