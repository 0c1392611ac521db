// The source `flags`: a bit for every element of a bundle, found by its position.
#include <vector>

#include "codegen/values.h"

namespace gradc {

// Whether element `index` of a bundle's flat order has the flag. Runs of equal flags are found by
// binary search: lanes mostly lie in one run, which takes a scalar search; else each lane searches.
llvm::Value* emit_flags(Emitter& e, const Attr& attr, const Index& index, int lanes) {
  const bool clip = e.program.text(attr.flag) == "clip";
  std::vector<std::int64_t> ends;  // of runs; flags alternate
  bool first = true, now = true;
  std::int64_t at = 0;
  for (const Leaf& leaf : leaves(e.program, attr.bundle)) {
    const bool flag = clip ? leaf.member->clip : leaf.member->decay;
    if (leaf.elements == 0) continue;
    if (at == 0) first = now = flag;
    if (flag != now) ends.push_back(at);
    now = flag;
    at += leaf.elements;
  }
  if (ends.empty()) return e.integer(DType::boolean, first, lanes);
  const std::int64_t count = static_cast<std::int64_t>(ends.size());
  int steps = 1;
  while ((std::int64_t{1} << steps) <= count) ++steps;
  ends.resize(std::size_t{1} << steps, INT64_MAX);  // one sentinel at least
  llvm::Value* table = e.table(ends, "runs");
  // How many ends are ≤ x; the count's parity gives the flag.
  const auto search = [&](llvm::Value* x, int n) {
    llvm::Value* low = e.integer(DType::i64, 0, n);
    for (std::int64_t half = std::int64_t{1} << (steps - 1); half > 0; half /= 2) {
      llvm::Value* tried = e.ir.CreateAdd(low, e.integer(DType::i64, half, n));
      llvm::Value* end =
          e.gather(table, e.ir.CreateSub(tried, e.integer(DType::i64, 1, n)), DType::i64, n);
      low = e.ir.CreateSelect(e.ir.CreateICmpSLE(end, x), tried, low);
    }
    return low;
  };
  const auto flag = [&](llvm::Value* low, int n) {
    llvm::Value* odd = e.ir.CreateTrunc(low, e.type(DType::boolean, n));
    return first ? e.ir.CreateNot(odd) : odd;
  };
  if (lanes == 1) return flag(search(every_lane(e, index, 1), 1), 1);
  if (!linear(index)) return flag(search(index.each, lanes), lanes);
  llvm::Value* low = search(index.first, 1);
  llvm::Value* end = e.gather(table, low, DType::i64, 1);
  llvm::Value* same = e.splat(flag(low, 1), lanes);
  if (index.step == 0) return same;
  const auto one = [&] { return std::vector<llvm::Value*>{same}; };
  const auto many = [&] {
    return std::vector<llvm::Value*>{flag(search(every_lane(e, index, lanes), lanes), lanes)};
  };
  return e.choose(e.ir.CreateICmpSLT(e.add(index.first, index.step * (lanes - 1)), end), one,
                  many)[0];
}

}  // namespace gradc
