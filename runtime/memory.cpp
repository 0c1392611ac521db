// Anonymous mappings with a wish for huge pages.
#include "runtime/memory.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <utility>

namespace gradc {

Mapping::~Mapping() {
  if (data_ != nullptr) munmap(data_, size_);
}
Mapping::Mapping(Mapping&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
Mapping& Mapping::operator=(Mapping&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

Result<Mapping> Mapping::allocate(std::size_t bytes) {
  constexpr std::size_t huge = std::size_t{2} << 20;
  Mapping m;
  m.size_ = bytes < huge ? (bytes + 4095) / 4096 * 4096 + 4096 : (bytes + huge - 1) / huge * huge + huge;
  void* p = mmap(nullptr, m.size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED)
    return failure(Exit::file, fmt::format("no memory for {:.1f} MiB", static_cast<double>(bytes) / (1 << 20)));
  m.data_ = static_cast<std::byte*>(p);
  if (bytes >= huge) madvise(p, m.size_, MADV_HUGEPAGE);
  return m;
}

}  // namespace gradc
