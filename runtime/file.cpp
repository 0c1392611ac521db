// Replacing a file in one piece, over POSIX calls.
#include "runtime/file.h"

#include <fcntl.h>
#include <unistd.h>

#include <fmt/format.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

namespace gradc {

Failure ReplacedFile::fault(const char* what) {
  return failure(Exit::file, fmt::format("{}: cannot {}: {}", path_, what, std::strerror(errno)));
}

Result<ReplacedFile> ReplacedFile::create(const std::string& path) {
  static std::atomic<int> count{0};
  ReplacedFile f;
  f.path_ = path;
  f.temporary_ = fmt::format("{}.{}.{}.tmp", path, getpid(), count++);
  f.descriptor_ = ::open(f.temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (f.descriptor_ < 0) {
    f.temporary_.clear();
    return f.fault("be written");
  }
  return f;
}

ReplacedFile::ReplacedFile(ReplacedFile&& other) noexcept
    : path_(std::move(other.path_)),
      temporary_(std::exchange(other.temporary_, {})),
      descriptor_(std::exchange(other.descriptor_, -1)) {}

ReplacedFile::~ReplacedFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

Result<Done> ReplacedFile::write(std::span<const unsigned char> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(descriptor_, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fault("be written");
    bytes = bytes.subspan(static_cast<std::size_t>(n));
  }
  return Done{};
}

Result<Done> ReplacedFile::commit() {
  if (::fsync(descriptor_) != 0) return fault("be synced");
  if (::close(std::exchange(descriptor_, -1)) != 0) return fault("be written");
  if (std::rename(temporary_.c_str(), path_.c_str()) != 0) return fault("be replaced");
  temporary_.clear();
  // The new name lasts once its folder is on disk; some file systems cannot sync a folder, so no
  // fault.
  const std::size_t slash = path_.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : path_.substr(0, slash + 1);
  if (const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); fd >= 0) {
    ::fsync(fd);
    ::close(fd);
  }
  return Done{};
}

}  // namespace gradc
