// Mapping, cutting and shuffling of text.
#include "runtime/data.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <utility>

#include "ir/philox.h"

namespace gradc {
namespace {

Failure unreadable(const std::string& path, std::string_view why) {
  return failure(Exit::file, fmt::format("{}: {}", path, why));
}

// Regular files of a folder by name, however deep; hidden ones are left out.
Result<std::vector<std::string>> files_of(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code error;
  if (!fs::is_directory(path, error)) return std::vector<std::string>{path};
  std::vector<std::string> out;
  for (fs::recursive_directory_iterator it(path, error), end; !error && it != end; it.increment(error))
    if (it->is_regular_file(error) && !it->path().filename().string().starts_with("."))
      out.push_back(it->path().string());
  if (error) return unreadable(path, error.message());
  if (out.empty()) return unreadable(path, "the folder has no files");
  std::sort(out.begin(), out.end());
  return out;
}

}  // namespace

Result<MappedFile> MappedFile::open(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return unreadable(path, std::strerror(errno));
  struct stat st {};
  if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
    ::close(fd);
    return unreadable(path, "is not a regular file");
  }
  MappedFile out;
  out.size_ = static_cast<std::size_t>(st.st_size);
  if (out.size_ > 0) {
    void* p = mmap(nullptr, out.size_, PROT_READ, MAP_PRIVATE, fd, 0);
    if (p == MAP_FAILED) {
      ::close(fd);
      out.size_ = 0;
      return unreadable(path, std::strerror(errno));
    }
    out.data_ = static_cast<const unsigned char*>(p);
  }
  ::close(fd);
  return out;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) munmap(const_cast<unsigned char*>(data_), size_);
}
MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

Result<Corpus> Corpus::open(const std::vector<std::string>& paths, double validation, std::int64_t length) {
  Corpus c;
  c.length_ = length;
  std::array<bool, 256> seen{};
  for (const std::string& path : paths) {
    Result<std::vector<std::string>> files = files_of(path);
    if (!files) return files.failure();
    for (const std::string& f : *files) {
      Result<MappedFile> file = MappedFile::open(f);
      if (!file) return file.failure();
      const auto size = static_cast<std::int64_t>(file->bytes().size());
      for (unsigned char b : file->bytes()) seen[b] = true;
      const auto held = static_cast<std::int64_t>(static_cast<double>(size) * validation);
      const auto add = [&](std::vector<Part>& parts, std::int64_t begin, std::int64_t n, std::int64_t& windows,
                           std::int64_t& bytes) {
        bytes += n;
        if (n <= length) return;
        parts.push_back({c.files_.size(), begin, n, windows});
        // One window fewer than fit where the cut's phase may shift all of them by up to length − 1.
        windows += std::max<std::int64_t>(1, (n - 1) / length - (&parts == &c.train_ ? 1 : 0));
      };
      add(c.train_, 0, size - held, c.windows_, c.train_bytes_);
      add(c.validation_, size - held, held, c.validation_windows_, c.validation_bytes_);
      c.files_.push_back(std::move(*file));
    }
  }
  if (c.windows_ == 0)
    return failure(Exit::file, fmt::format("{}: no file has the {} bytes that one sequence takes",
                                           paths.empty() ? "data" : paths[0], length + 1));
  for (int b = 0; b < 256; ++b)
    if (seen[static_cast<std::size_t>(b)]) c.greatest_byte_ = b;
  return c;
}

void Corpus::copy(const Part& part, std::int64_t at, std::int32_t* token, std::int32_t* target) const {
  const unsigned char* text = files_[part.file].bytes().data() + part.begin + at;
  for (std::int64_t i = 0; i < length_; ++i) {
    token[i] = text[i];
    target[i] = text[i + 1];
  }
}

void Corpus::window(std::uint64_t seed, std::int64_t index, std::int32_t* token, std::int32_t* target) const {
  const auto epoch = static_cast<std::uint64_t>(index / windows_);
  const std::int64_t w = permuted(index % windows_, windows_, seed, epoch);
  const auto part = std::prev(std::upper_bound(train_.begin(), train_.end(), w,
                                               [](std::int64_t n, const Part& p) { return n < p.first; }));
  const auto phase = static_cast<std::int64_t>(philox_uniform(seed, epoch, 0x70686173, 0) * static_cast<double>(length_));
  const std::int64_t last = part->size - 1 - length_;   // the last start that has a target
  copy(*part, std::min((w - part->first) * length_ + phase, last), token, target);
}

void Corpus::validation_window(std::int64_t index, std::int32_t* token, std::int32_t* target) const {
  const auto part = std::prev(std::upper_bound(validation_.begin(), validation_.end(), index,
                                               [](std::int64_t n, const Part& p) { return n < p.first; }));
  copy(*part, (index - part->first) * length_, token, target);
}

double Corpus::bigram_entropy() const {
  std::vector<std::int64_t> pairs(256 * 256, 0), singles(256, 0);
  for (const MappedFile& f : files_) {
    const auto b = f.bytes();
    for (std::size_t i = 1; i < b.size(); ++i) {
      ++pairs[b[i - 1] * 256u + b[i]];
      ++singles[b[i - 1]];
    }
  }
  double h = 0, total = 0;
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    if (pairs[i] == 0) continue;
    const auto n = static_cast<double>(pairs[i]);
    h -= n * std::log(n / static_cast<double>(singles[i / 256]));
    total += n;
  }
  return total > 0 ? h / total : 0;
}

std::int64_t permuted(std::int64_t i, std::int64_t n, std::uint64_t seed, std::uint64_t epoch) {
  int half = 1;
  while (half < 31 && (std::int64_t{1} << (2 * half)) < n) ++half;
  const std::uint64_t mask = (std::uint64_t{1} << half) - 1;
  auto x = static_cast<std::uint64_t>(i);
  do {
    std::uint64_t left = x >> half, right = x & mask;
    for (std::uint32_t round = 0; round < 6; ++round) {
      const auto bits = philox({static_cast<std::uint32_t>(right), static_cast<std::uint32_t>(epoch),
                                static_cast<std::uint32_t>(epoch >> 32), round},
                               static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32));
      const std::uint64_t next = left ^ (bits[0] & mask);
      left = right;
      right = next;
    }
    x = left << half | right;
  } while (x >= static_cast<std::uint64_t>(n));
  return static_cast<std::int64_t>(x);
}

}  // namespace gradc
