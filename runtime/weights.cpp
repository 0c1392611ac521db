// Parameters: started, loaded by stored name, saved.
#include "runtime/weights.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <type_traits>

#include "ir/evaluate.h"
#include "ir/pattern.h"
#include "runtime/initial.h"
#include "runtime/pool.h"
#include "runtime/safetensors.h"

namespace gradc {
namespace {

template <class Real>
std::span<Real> part(std::span<Real> values, const Leaf& leaf) {
  return values.subspan(static_cast<std::size_t>(leaf.offset),
                        static_cast<std::size_t>(leaf.elements));
}

void check_size(const Program& program, BundleId bundle, std::size_t values) {
  if (static_cast<std::int64_t>(values) != element_count(program, bundle))
    internal_error("a bundle's values have another size than the bundle");
}

// The value of `= e`, row-major in the member's order of axes.
Result<std::vector<double>> computed(const Program& program, const Leaf& leaf) {
  Result<std::vector<Array>> r = evaluate(program, leaf.member->initial.function, {});
  if (!r) return r.failure();
  if (r->size() != 1 || (*r)[0].extents != leaf.extents || !is_real((*r)[0].dtype))
    internal_error(fmt::format("the initial value of {} has another type", leaf.stored));
  return std::move((*r)[0].real);
}

// Elements [begin, end) of a tensor; begin is a multiple of 4.
template <class Real>
void fill(const Leaf& leaf, std::span<const double> known, std::uint64_t seed, std::size_t begin,
          std::size_t end, std::span<Real> out) {
  const Initial& initial = leaf.member->initial;
  const std::uint64_t hash = fnv1a(leaf.stored);
  std::array<double, 4> normals{};
  for (std::size_t i = begin; i < end; ++i) {
    double x = 0;
    switch (initial.kind) {
      case Initial::none: break;
      case Initial::number: x = initial.value; break;
      case Initial::normal:
        if (i % 4 == 0) normals = initial_normals(seed, hash, i / 4);
        x = initial.value * normals[i % 4];
        break;
      case Initial::uniform: x = initial.value * initial_uniform(seed, hash, i); break;
      case Initial::computed: x = known[i]; break;
    }
    // At the parameter's precision, so that interpreter and compiled program start alike.
    out[i] = static_cast<Real>(round_to(x, leaf.member->type.dtype));
  }
}

template <class Real>
Result<Done> start(const Program& program, BundleValues<Real> into, std::uint64_t seed) {
  check_size(program, into.bundle, into.values.size());
  std::map<const Member*, std::vector<double>> known;  // a turn's member is computed once
  const std::vector<Leaf> all = leaves(program, into.bundle);
  // Each element is a function of its place, so the processors share stretches as they come.
  constexpr std::size_t stretch = std::size_t{1} << 16;
  struct Share {
    const Leaf* leaf;
    std::size_t begin;
  };
  std::vector<Share> shares;
  for (const Leaf& leaf : all) {
    if (leaf.member->initial.kind == Initial::computed && !known.contains(leaf.member)) {
      Result<std::vector<double>> values = computed(program, leaf);
      if (!values) return values.failure();
      known[leaf.member] = std::move(*values);
    }
    for (std::size_t i = 0; i < static_cast<std::size_t>(leaf.elements); i += stretch)
      shares.push_back({&leaf, i});
  }
  const int threads = shares.size() > 16 ? available_processors() : 1;
  share_out(shares.size(), threads, [&](std::size_t n) {
    const Leaf& leaf = *shares[n].leaf;
    const std::span<Real> out = part(into.values, leaf);
    const auto values = known.find(leaf.member);
    fill(leaf, values == known.end() ? std::span<const double>{} : values->second, seed,
         shares[n].begin, std::min(shares[n].begin + stretch, out.size()), out);
  });
  return Done{};
}

// Whether `stored` arises from `declared` by multiplying adjacent extents: groups[i] tells that the
// extents up to i can make up the stored ones so far. (Greedy choice would fail beside extents of
// 1.)
bool groups_adjacent(const std::vector<std::int64_t>& declared,
                     const std::vector<std::int64_t>& stored) {
  std::vector<char> groups(declared.size() + 1, 0);
  groups[0] = 1;
  for (const std::int64_t s : stored) {
    std::vector<char> next(declared.size() + 1, 0);
    for (std::size_t i = 0; i < declared.size(); ++i) {
      if (!groups[i]) continue;
      std::int64_t product = 1;
      for (std::size_t j = i; j < declared.size(); ++j) {
        product *= declared[j];
        if (product == s) next[j + 1] = 1;
      }
    }
    groups = std::move(next);
  }
  return groups.back() != 0;
}

template <class Real>
Result<Done> load(const Program& program, std::span<const BundleValues<Real>> into,
                  const std::string& path, const std::vector<std::string>& ignore) {
  Result<Safetensors> file = Safetensors::open(path);
  if (!file) return file.failure();
  const auto ignored = [&](std::string_view name) {
    for (const std::string& p : ignore)
      if (matches(p, name)) return true;
    return false;
  };
  struct Fill {
    const StoredTensor* from;
    std::span<Real> to;
  };
  std::vector<Fill> fills;
  std::vector<Note> notes;
  std::map<std::string_view, bool> expected;
  std::vector<std::vector<Leaf>> all;  // names are views into these
  for (const BundleValues<Real>& b : into) {
    check_size(program, b.bundle, b.values.size());
    all.push_back(leaves(program, b.bundle));
  }
  for (std::size_t i = 0; i < all.size(); ++i)
    for (const Leaf& leaf : all[i]) {
      expected[leaf.stored] = true;
      const StoredTensor* t = file->find(leaf.stored);
      if (ignored(leaf.stored)) continue;
      if (t == nullptr) {
        if (leaf.member->initial.kind != Initial::computed)
          notes.push_back(
              {{}, fmt::format("missing: {} {}", leaf.stored, shape_text(leaf.extents))});
      } else if (!is_real(t->dtype)) {
        notes.push_back(
            {{}, fmt::format("misshapen: {} holds {}, not reals", leaf.stored, name(t->dtype))});
      } else if (!groups_adjacent(leaf.extents, t->shape)) {
        notes.push_back({{},
                         fmt::format("misshapen: {} is {}, which does not group the declared {}",
                                     leaf.stored, shape_text(t->shape), shape_text(leaf.extents))});
      } else {
        fills.push_back({t, part(into[i].values, leaf)});
      }
    }
  for (const StoredTensor& t : file->tensors())
    if (!expected.contains(t.name) && !ignored(t.name))
      notes.push_back({{}, fmt::format("unexpected: {} {}", t.name, shape_text(t.shape))});
  if (!notes.empty()) {
    Failure f = failure(Exit::file,
                        fmt::format("{}: {} of its tensors and the model's parameters do not fit "
                                    "(--ignore NAME leaves one out)",
                                    path, notes.size()));
    f.diagnostics[0].notes = std::move(notes);
    return f;
  }
  for (const Fill& f : fills) read_reals(*f.from, f.to);
  return Done{};
}

}  // namespace

Result<Done> initialize(const Program& program, BundleValues<float> into, std::uint64_t seed) {
  return start(program, into, seed);
}
Result<Done> initialize(const Program& program, BundleValues<double> into, std::uint64_t seed) {
  return start(program, into, seed);
}

Result<Done> load_weights(const Program& program, std::span<const BundleValues<float>> into,
                          const std::string& path, const std::vector<std::string>& ignore) {
  return load(program, into, path, ignore);
}
Result<Done> load_weights(const Program& program, std::span<const BundleValues<double>> into,
                          const std::string& path, const std::vector<std::string>& ignore) {
  return load(program, into, path, ignore);
}

Result<Done> save_weights(const Program& program, std::span<const BundleValues<float>> from,
                          const std::string& path,
                          const std::vector<std::pair<std::string, std::string>>& metadata) {
  std::vector<StoredTensor> tensors;
  for (const BundleValues<float>& b : from) {
    check_size(program, b.bundle, b.values.size());
    for (const Leaf& leaf : leaves(program, b.bundle))
      tensors.push_back(
          {.name = leaf.stored,
           .dtype = StoredDType::f32,
           .shape = leaf.extents,
           .data = reinterpret_cast<const unsigned char*>(part(b.values, leaf).data()),
           .elements = leaf.elements});
  }
  return write_safetensors(path, tensors, metadata);
}

}  // namespace gradc
