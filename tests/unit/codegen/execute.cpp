// Kernels in tests: layouts, memory, calls.
#include "unit/codegen/execute.h"

#include <doctest/doctest.h>
#include <sys/mman.h>

#include <bit>
#include <cstring>
#include <limits>
#include <optional>

namespace gradc::testing {
namespace {

Jit& jit() {
  static const std::unique_ptr<Jit> one = [] {
    Result<std::unique_ptr<Jit>> made = Jit::create(host_target());
    REQUIRE(made.ok());
    return std::move(*made);
  }();
  return *one;
}

// Walks the elements of a type in row-major order with their offsets in a layout.
template <class Each>
void for_elements(const Function& f, const Type& type, const BufferLayout& layout, Each each) {
  std::vector<std::int64_t> at(static_cast<std::size_t>(type.axes.size()));
  const std::int64_t count = f.elements(type);
  for (std::int64_t i = 0; i < count; ++i) {
    std::int64_t offset = 0;
    for (std::size_t k = 0; k < at.size(); ++k) offset += at[k] * layout.strides[k];
    each(i, offset);
    for (std::size_t k = at.size(); k-- > 0;) {
      if (++at[k] < f.extent(type.axes[static_cast<int>(k)])) break;
      at[k] = 0;
    }
  }
}

void put(std::byte* to, DType dtype, const Array& from, std::int64_t i) {
  const auto k = static_cast<std::size_t>(i);
  const auto write = [&](auto x) { std::memcpy(to, &x, sizeof x); };
  switch (dtype) {
    case DType::f32:
      return write(static_cast<float>(from.real[k]));
    case DType::f64:
      return write(from.real[k]);
    case DType::i32:
      return write(static_cast<std::int32_t>(from.integer[k]));
    case DType::i64:
      return write(from.integer[k]);
    case DType::boolean:
      return write(static_cast<std::uint8_t>(from.integer[k] != 0));
    case DType::bf16:
      return write(static_cast<std::uint16_t>(
          std::bit_cast<std::uint32_t>(static_cast<float>(from.real[k])) >> 16));
    default:
      FAIL("a dtype that no kernel holds");
  }
}

void get(const std::byte* from, DType dtype, Array& to, std::int64_t i) {
  const auto k = static_cast<std::size_t>(i);
  const auto read = [&](auto x) {
    std::memcpy(&x, from, sizeof x);
    return x;
  };
  switch (dtype) {
    case DType::f32:
      to.real[k] = read(float{});
      return;
    case DType::f64:
      to.real[k] = read(double{});
      return;
    case DType::i32:
      to.integer[k] = read(std::int32_t{});
      return;
    case DType::i64:
      to.integer[k] = read(std::int64_t{});
      return;
    case DType::boolean:
      to.integer[k] = read(std::uint8_t{});
      return;
    case DType::bf16:
      to.real[k] = static_cast<double>(
          std::bit_cast<float>(static_cast<std::uint32_t>(read(std::uint16_t{})) << 16));
      return;
    default:
      FAIL("a dtype that no kernel holds");
  }
}

// Memory between two pages that cannot be touched: it ends at the second one, or begins at the
// first; what is left of its pages on the other side is marked.
class Fenced {
 public:
  Fenced(std::size_t size, bool at_end, std::byte fill) : size_(size), at_end_(at_end) {
    body_ = (size + page - 1) / page * page;
    void* got = mmap(nullptr, body_ + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(got != MAP_FAILED);
    map_ = static_cast<std::byte*>(got);
    if (body_ == 0) return;
    REQUIRE(mprotect(map_ + page, body_, PROT_READ | PROT_WRITE) == 0);
    std::memset(map_ + page, static_cast<int>(mark), body_);
    std::memset(base(), static_cast<int>(fill), size);
  }
  Fenced(Fenced&& other) noexcept : size_(other.size_), body_(other.body_), at_end_(other.at_end_) {
    std::swap(map_, other.map_);
  }
  Fenced& operator=(Fenced&&) = delete;
  ~Fenced() {
    if (map_ != nullptr) munmap(map_, body_ + 2 * page);
  }
  std::byte* base() const { return map_ + page + (at_end_ ? body_ - size_ : 0); }
  bool kept() const {
    const std::byte* from = at_end_ ? map_ + page : base() + size_;
    for (std::size_t i = 0; i < body_ - size_; ++i)
      if (from[i] != mark) return false;
    return true;
  }

 private:
  static constexpr std::size_t page = 4096;
  static constexpr std::byte mark{0xa5};
  std::byte* map_ = nullptr;
  std::size_t size_, body_ = 0;
  bool at_end_;
};

// All bits set: NaN in every real, where a kernel reads before it writes.
Fenced scratch(std::int64_t bytes) {
  return Fenced((static_cast<std::size_t>(bytes) + 63) / 64 * 64, true, std::byte{0xff});
}

}  // namespace

std::vector<Target> runnable_targets() {
  std::vector<Target> out;
  const std::string best = host_target().name;
  if (best.starts_with("avx512")) out.push_back(avx512_target());
  if (best != "portable") out.push_back(avx2_target());
  out.push_back(portable_target());
  return out;
}

std::vector<Target> bf16_targets() {
  std::vector<Target> out = runnable_targets();
  if (host_target().bf16_dot) out.insert(out.begin(), avx512_bf16_target());
  return out;
}

BufferLayout layout(const Function& f, const Type& type, const std::vector<int>& order,
                    std::int64_t slack) {
  BufferLayout out;
  out.strides.assign(static_cast<std::size_t>(type.axes.size()), 1);
  std::int64_t stride = 1;
  for (std::size_t i = order.size(); i-- > 0;) {
    out.strides[static_cast<std::size_t>(order[i])] = stride;
    stride *= f.extent(type.axes[order[i]]);
    if (i + 1 == order.size()) stride += slack;
  }
  return out;
}

BufferLayout row_major(const Function& f, const Type& type) {
  std::vector<int> order;
  for (int i = 0; i < type.axes.size(); ++i) order.push_back(i);
  return layout(f, type, order);
}

std::int64_t elements_of(const Function& f, const Type& type, const BufferLayout& layout) {
  std::int64_t last = 0;
  for (int i = 0; i < type.axes.size(); ++i) {
    if (f.extent(type.axes[i]) == 0) return 0;
    last += (f.extent(type.axes[i]) - 1) * layout.strides[static_cast<std::size_t>(i)];
  }
  return last + 1;
}

Execution::Execution(const Program& program, KernelInstance instance, const Target& target)
    : instance_(std::move(instance)), kernel_(program.function(instance_.kernel)) {
  Result<Compiled> compiled = compile(program, instance_, target);
  if (!compiled.ok()) FAIL(compiled.failure().diagnostics[0].message);
  compiled_ = std::move(*compiled);
  Result<KernelFn> fn = jit().add(compiled_);
  if (!fn.ok()) FAIL(fn.failure().diagnostics[0].message);
  fn_ = *fn;
}

std::vector<Array> Execution::run(const std::vector<Array>& arguments, int workers) {
  const Region& body = kernel_.body();
  std::vector<std::optional<Fenced>> memory;
  std::vector<std::byte*> buffers;
  for (std::size_t b = 0; b < instance_.buffers.size(); ++b) {
    const bool result = b >= body.arguments.size();
    const ValueId v = result ? body.results[b - body.arguments.size()] : body.arguments[b];
    const Type& type = kernel_.type(v);
    const BufferLayout& lies = instance_.buffers[b];
    memory.emplace_back();
    if (lies.alias >= 0) {
      buffers.push_back(buffers[static_cast<std::size_t>(lies.alias)]);
      continue;
    }
    const auto size = static_cast<std::size_t>(elements_of(kernel_, type, lies)) *
                      static_cast<std::size_t>(bytes(type.dtype));
    memory.back().emplace(size, workers != 2, std::byte{0xa5});
    buffers.push_back(memory.back()->base());
    if (!result)
      for_elements(kernel_, type, lies, [&](std::int64_t i, std::int64_t offset) {
        put(buffers[b] + offset * bytes(type.dtype), type.dtype, arguments[b], i);
      });
  }
  const Fenced shared = scratch(compiled_.shared_bytes);
  std::vector<Fenced> local;
  for (int w = 0; w < workers; ++w) local.push_back(scratch(compiled_.local_bytes));
  // Of two workers each finds the other's share taken; of three the first finds nothing taken.
  constexpr std::int64_t all = std::int64_t{1} << 40;
  for (int phase = 0; phase < compiled_.phases; ++phase) {
    std::vector<Taken> taken(static_cast<std::size_t>(workers));
    for (int w = workers - 1; w >= 0; --w) {
      if (workers == 2) taken = {Taken{w == 0 ? 0 : all}, Taken{w == 0 ? all : 0}};
      fn_(buffers.data(), w, workers, phase, shared.base(),
          local[static_cast<std::size_t>(w)].base(), taken.data());
    }
  }
  tiles_ = {};
  for (const Fenced& scratch : local) {
    if (compiled_.tiles_at < 0) break;
    std::int64_t counts[2];
    std::memcpy(counts, scratch.base() + compiled_.tiles_at, sizeof counts);
    tiles_ = {tiles_.computed + counts[0], tiles_.all + counts[1]};
  }
  for (std::size_t b = 0; b < memory.size(); ++b)
    CHECK_MESSAGE((!memory[b] || memory[b]->kept()), "a kernel writes outside buffer ", b);
  std::vector<Array> out;
  for (std::size_t r = 0; r < body.results.size(); ++r) {
    const std::size_t b = body.arguments.size() + r;
    const Type& type = kernel_.type(body.results[r]);
    std::vector<std::int64_t> extents;
    for (AxisId a : type.axes) extents.push_back(kernel_.extent(a));
    out.push_back(Array::zeros(type.dtype, extents));
    for_elements(kernel_, type, instance_.buffers[b], [&](std::int64_t i, std::int64_t offset) {
      get(buffers[b] + offset * bytes(type.dtype), type.dtype, out.back(), i);
    });
  }
  return out;
}

Array random_array(const Function& f, const Type& type, std::uint64_t seed) {
  std::vector<std::int64_t> extents;
  for (AxisId a : type.axes) extents.push_back(f.extent(a));
  Array out = Array::zeros(type.dtype, extents);
  std::uint64_t state = seed * 0x9e3779b97f4a7c15u + 1;
  const auto next = [&] {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state >> 11;
  };
  for (double& x : out.real) {
    x = static_cast<float>(static_cast<double>(next()) * 0x1p-52 - 1);
    if (type.dtype == DType::bf16) x = round_to(x, DType::bf16);
  }
  for (std::int64_t& x : out.integer)
    x = type.dtype == DType::boolean ? static_cast<std::int64_t>(next() % 2)
                                     : static_cast<std::int64_t>(next() % 7) - 3;
  return out;
}

bool same_bits(const Array& a, const Array& b) {
  if (a.extents != b.extents || a.integer != b.integer || a.real.size() != b.real.size())
    return false;
  for (std::size_t i = 0; i < a.real.size(); ++i)
    if (std::bit_cast<std::uint64_t>(a.real[i]) != std::bit_cast<std::uint64_t>(b.real[i]))
      return false;
  return true;
}

}  // namespace gradc::testing
