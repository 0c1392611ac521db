// One pass of a rows kernel at one position, and the states that loops carry.
#include <algorithm>
#include <limits>

#include "codegen/rows.h"

namespace gradc {

Accumulators::Accumulators(const RowsKernel& k, const Pass& pass, int tracks, int lanes)
    : k_(&k), pass_(&pass), tracks_(tracks), lanes_(lanes) {
  for (int r = 0; r < k.reductions_in(pass); ++r) {
    const bool noted =
        k.notes_nans && Reducer::is_extreme(k.reduction(pass, static_cast<std::size_t>(r)));
    for (int t = 0; t < tracks; ++t) states_.push_back(reducer(r).identity());
    nans_.push_back(noted ? k.e.integer(DType::boolean, 0, lanes) : nullptr);
  }
}

Accumulators::Accumulators(const Accumulators& like, std::span<llvm::Value* const> flat)
    : Accumulators(like) {
  std::size_t next = 0;
  for (Reducer::State& s : states_)
    for (llvm::Value*& x : s) x = flat[next++];
  for (llvm::Value*& x : nans_)
    if (x != nullptr) x = flat[next++];
}

std::vector<llvm::Value*> Accumulators::flat() const {
  std::vector<llvm::Value*> out;
  for (const Reducer::State& s : states_) out.insert(out.end(), s.begin(), s.end());
  std::copy_if(nans_.begin(), nans_.end(), std::back_inserter(out),
               [](llvm::Value* x) { return x != nullptr; });
  return out;
}

void Accumulators::take(int reduction, std::span<At> at) {
  const ValueId operand = k_->reduction(*pass_, static_cast<std::size_t>(reduction)).operand;
  llvm::Value*& nans = nans_[static_cast<std::size_t>(reduction)];
  const Reducer to = reducer(reduction);
  auto& ir = k_->e.ir;
  for (std::size_t t = 0; t < at.size(); ++t) {
    Reducer::State& s = state(reduction, static_cast<int>(t));
    llvm::Value *x = at[t].values->get(operand), *mask = at[t].values->point().mask;
    s = nans == nullptr ? to.take(s, x, at[t].position, mask) : to.take_number(s, x, mask);
  }
  if (nans == nullptr) return;
  for (std::size_t t = 0; t < at.size(); ++t) {
    llvm::Value *x = at[t].values->get(operand), *y = x;
    llvm::Value* mask = at[t].values->point().mask;
    // One comparison for two vectors.
    if (t + 1 < at.size() && at[t + 1].values->point().mask == mask)
      y = at[++t].values->get(operand);
    nans = ir.CreateOr(nans, both(k_->e, ir.CreateFCmpUNO(x, y), mask));
  }
}

void Accumulators::merge(const Accumulators& other) {
  for (std::size_t i = 0; i < states_.size(); ++i)
    states_[i] = reducer(static_cast<int>(i) / tracks_).merge(states_[i], other.states_[i]);
  for (std::size_t r = 0; r < nans_.size(); ++r)
    if (nans_[r] != nullptr) nans_[r] = k_->e.ir.CreateOr(nans_[r], other.nans_[r]);
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
  if (llvm::Value* nans = nans_[static_cast<std::size_t>(reduction)]; nans != nullptr) {
    const DType dtype = k_->reduction(*pass_, static_cast<std::size_t>(reduction)).dtype;
    llvm::Value* nan = k_->e.constant(dtype, std::numeric_limits<double>::quiet_NaN(), lanes_);
    tree[0][0] = k_->e.ir.CreateSelect(nans, nan, tree[0][0]);
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
  for (const SavedValue& s : k.plan.saved)
    if (s.result < 0) total += part_bytes(k, s.value, elements);
  return total;
}

Saved::Saved(const RowsKernel& k, std::int64_t elements) : k_(k) {
  std::int64_t offset = 0;
  for (const SavedValue& s : k.plan.saved) {
    at_.push_back(k.e.at_byte(k.e.local, offset));
    if (s.result < 0) offset += part_bytes(k, s.value, elements);
  }
}

void Saved::load(const Pass& pass, Values& values, llvm::Value* index) const {
  for (int s : pass.loads) {
    const auto [v, r] = k_.plan.saved[static_cast<std::size_t>(s)];
    const DType dtype = k_.e.kernel.type(v).dtype;
    if (r >= 0)
      values.bind(v, values.load_result(r));
    else
      values.bind(v, k_.e.load(k_.e.at(at_[static_cast<std::size_t>(s)], index, dtype), dtype,
                             values.point().lanes));
  }
}

void Saved::store(const Pass& pass, Values& values, llvm::Value* index) const {
  for (int s : pass.saves) {
    const auto [v, r] = k_.plan.saved[static_cast<std::size_t>(s)];
    const DType dtype = k_.e.kernel.type(v).dtype;
    if (r >= 0)
      values.store_result(r, values.get(v));
    else
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
  for (int r = 0; r < k.reductions_in(pass); ++r) to.take(r, at);
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
