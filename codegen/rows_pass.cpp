// One pass of a rows kernel at one position, and the states that loops carry.
#include "codegen/rows.h"

namespace gradc {

Accumulators::Accumulators(const RowsKernel& k, const Pass& pass, int tracks, int lanes)
    : k_(&k), pass_(&pass), tracks_(tracks), lanes_(lanes) {
  for (int r = 0; r < k.reductions_in(pass); ++r)
    for (int t = 0; t < tracks; ++t) states_.push_back(reducer(r).identity());
}

Accumulators::Accumulators(const Accumulators& like, std::span<llvm::Value* const> flat)
    : Accumulators(like) {
  std::size_t next = 0;
  for (Reducer::State& s : states_)
    for (llvm::Value*& x : s) x = flat[next++];
}

std::vector<llvm::Value*> Accumulators::flat() const {
  std::vector<llvm::Value*> out;
  for (const Reducer::State& s : states_) out.insert(out.end(), s.begin(), s.end());
  return out;
}

void Accumulators::take(int reduction, int track, llvm::Value* x, llvm::Value* position,
                        llvm::Value* mask) {
  Reducer::State& s = state(reduction, track);
  s = reducer(reduction).take(s, x, position, mask);
}

void Accumulators::merge(const Accumulators& other) {
  for (std::size_t i = 0; i < states_.size(); ++i)
    states_[i] = reducer(static_cast<int>(i) / tracks_).merge(states_[i], other.states_[i]);
}

Reducer::State Accumulators::merged(int reduction) const {
  const Reducer r = reducer(reduction);
  const auto begin = states_.begin() + static_cast<std::ptrdiff_t>(reduction * tracks_);
  std::vector<Reducer::State> tree(begin, begin + tracks_);
  if (tree.empty()) return r.identity();
  while (tree.size() > 1) {
    std::vector<Reducer::State> next;
    for (std::size_t i = 0; i < tree.size(); i += 2)
      next.push_back(i + 1 < tree.size() ? r.merge(tree[i], tree[i + 1]) : tree[i]);
    tree = std::move(next);
  }
  return tree[0];
}

void Bound::bind(Values& values) const {
  for (const auto& [v, x] : uniform) values.bind_uniform(v, x);
  for (const auto& [v, x] : each) values.bind(v, x);
}

// ---- scratch

namespace {
std::int64_t part_bytes(const RowsKernel& k, ValueId v, std::int64_t elements) {
  return (elements * bytes(k.e.kernel.type(v).dtype) + 63) / 64 * 64;
}
}  // namespace

std::int64_t saved_bytes(const RowsKernel& k, std::int64_t elements) {
  std::int64_t total = 0;
  for (ValueId v : k.plan.saved) total += part_bytes(k, v, elements);
  return total;
}

Saved::Saved(const RowsKernel& k, std::int64_t elements) : k_(k) {
  std::int64_t offset = 0;
  for (ValueId v : k.plan.saved) {
    at_.push_back(k.e.at_byte(k.e.local, offset));
    offset += part_bytes(k, v, elements);
  }
}

void Saved::load(const Pass& pass, Values& values, llvm::Value* index) const {
  for (int s : pass.loads) {
    const ValueId v = k_.plan.saved[static_cast<std::size_t>(s)];
    const DType dtype = k_.e.kernel.type(v).dtype;
    values.bind(v, k_.e.load(k_.e.at(at_[static_cast<std::size_t>(s)], index, dtype), dtype,
                             values.point().lanes));
  }
}

void Saved::store(const Pass& pass, Values& values, llvm::Value* index) const {
  for (int s : pass.saves) {
    const ValueId v = k_.plan.saved[static_cast<std::size_t>(s)];
    const DType dtype = k_.e.kernel.type(v).dtype;
    k_.e.store(values.get(v), k_.e.at(at_[static_cast<std::size_t>(s)], index, dtype), dtype,
               values.point().lanes);
  }
}

// ---- passes and loops

void run_pass(const RowsKernel& k, const Pass& pass, std::span<At> at, const Saved& saved,
              Accumulators& to) {
  for (At& a : at) {
    if (a.saved != nullptr) saved.load(pass, *a.values, a.saved);
    for (ValueId r : pass.roots) a.values->get(r);
  }
  for (At& a : at) {
    if (a.saved != nullptr) saved.store(pass, *a.values, a.saved);
    for (int r : pass.stores) a.values->store_result(r);
  }
  for (std::size_t t = 0; t < at.size(); ++t)
    for (int r = 0; r < k.reductions_in(pass); ++r)
      to.take(r, static_cast<int>(t),
              at[t].values->get(k.reduction(pass, static_cast<std::size_t>(r)).operand),
              at[t].position, at[t].values->point().mask);
}

Accumulators loop(const RowsKernel& k, llvm::Value* lo, llvm::Value* hi, std::int64_t step,
                  const Accumulators& from,
                  llvm::function_ref<void(llvm::Value* i, Accumulators& state)> body) {
  const std::vector<llvm::Value*> first = from.flat();
  const auto last =
      k.e.loop(lo, hi, step, first, [&](llvm::Value* i, std::span<llvm::Value* const> carried) {
        Accumulators state(from, carried);
        body(i, state);
        return state.flat();
      });
  return Accumulators(from, last);
}

Accumulators in_blocks(
    const RowsKernel& k, const Pass& pass, int tracks, int lanes, std::int64_t extent,
    std::int64_t block,
    llvm::function_ref<Accumulators(llvm::Value* lo, llvm::Value* hi, const Accumulators& from)>
        body) {
  const Accumulators none(k, pass, tracks, lanes);
  if (none.empty() || extent <= block) return body(k.e.i64(0), k.e.i64(extent), none);
  return loop(k, k.e.i64(0), k.e.i64(extent), block, none,
              [&](llvm::Value* i, Accumulators& state) {
                state.merge(body(i, k.e.min(k.e.add(i, block), k.e.i64(extent)), none));
              });
}

void read_for_row(const RowsKernel& k, std::size_t p, Values& row) {
  if (!k.plan.guarded) return;
  for (const auto& [v, stage] : k.plan.row_reads)
    if (stage <= static_cast<int>(p)) row.get(v);
}

void store_row_results(const RowsKernel& k, Values& row) {
  for (int r : k.plan.row_results) row.get(k.e.kernel.body().results[static_cast<std::size_t>(r)]);
  for (int r : k.plan.row_results) row.store_result(r);
}

}  // namespace gradc
