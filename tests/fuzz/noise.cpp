// Noise in every operation.
#include "fuzz/noise.h"

#include "ir/builder.h"

namespace gradc::fuzz {
namespace {

// A fused operation rounds inside.
bool is_noisy(const Op& op) {
  const Kind kind = facts(op.code).kind;
  return (is_elementwise(kind) || kind == Kind::reduce || kind == Kind::contract ||
          op.code == Opcode::scatter_ || op.code == Opcode::fused_) &&
         op.code != Opcode::stop_;
}

}  // namespace

Program with_noise(const Program& program, double size, std::uint64_t seed) {
  Program out = program;
  std::int64_t site = 0;
  for (std::size_t k = 0; k < program.functions.size(); ++k) {
    const Function& from = program.functions[k];
    Function f;
    f.name = from.name;
    Builder to(out, f);
    Cloner map(from, to);
    map.arguments();
    const ValueId key = to.integer(static_cast<std::int64_t>(seed), DType::i64);
    const ValueId zero = to.integer(0, DType::i64);
    for (OpId id : from.body().ops) {
      map.clone(id);
      const Op& op = from.op(id);
      if (!is_noisy(op)) continue;
      for (ValueId v : op.results) {
        if (!is_real(from.type(v).dtype)) continue;
        const ValueId x = map(v);
        const ValueId place = to.integer(++site, DType::i64);
        const Type type = to.type(x);
        const ValueId u = to.add(Opcode::uniform_, {key, zero, place}, {}, type);
        const ValueId twice = to.constant(2 * size, type.dtype),
                      low = to.constant(1 - size, type.dtype);
        const ValueId scaled = to.binary(Opcode::mul_, u, twice);
        const ValueId factor = to.binary(Opcode::add_, low, scaled);
        map.map(v, to.add(Opcode::mul_, {x, factor}, {}, type));
      }
    }
    std::vector<ValueId> results;
    for (ValueId v : from.body().results) results.push_back(map(v));
    to.finish(results, from.result_names);
    out.functions[k] = std::move(f);
  }
  return out;
}

}  // namespace gradc::fuzz
