// The directory of compiled kernels, over POSIX calls relative to it, so that no path is looked up
// twice; links are never followed.
#include "runtime/cache.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <tuple>
#include <utility>
#include <vector>

#include "runtime/cache_entry.h"

namespace gradc {
namespace {

constexpr std::string_view suffix = ".kernel", unfinished = ".tmp";
constexpr std::time_t abandoned = 3600;   // seconds behind which a writer must have died

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  operator int() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

// mkdir -p, each folder its owner's alone.
void make_directories(const std::string& path) {
  for (std::size_t at = path.find('/', 1); at != std::string::npos; at = path.find('/', at + 1))
    ::mkdir(path.substr(0, at).c_str(), 0700);
  ::mkdir(path.c_str(), 0700);
}

bool ours_alone(const struct stat& s) {
  return s.st_uid == ::geteuid() && (s.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

bool write_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(n));
  }
  return true;
}

bool read_all(int fd, std::size_t size, std::string& out) {
  out.resize(size);
  for (std::size_t at = 0; at < size;) {
    const ssize_t n = ::read(fd, out.data() + at, size - at);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return false;
    if (n == 0) out.resize(size = at);   // shorter by now; its check will tell
    at += static_cast<std::size_t>(n);
  }
  return true;
}

}  // namespace

std::string default_cache_directory() {
  const auto variable = [](const char* name) {
    const char* value = std::getenv(name);
    return std::string(value != nullptr ? value : "");
  };
  if (std::string own = variable("GRADC_CACHE_DIR"); !own.empty()) return own;
  // Relative ones are to be ignored (XDG Base Directory Specification).
  const std::string xdg = variable("XDG_CACHE_HOME"), home = variable("HOME");
  if (xdg.starts_with('/')) return xdg + "/gradc";
  if (home.starts_with('/')) return home + "/.cache/gradc";
  return "";
}

KernelCache::KernelCache(const std::string& directory, std::int64_t bound)
    : directory_(directory), bound_(bound) {
  // `link/` would be followed.
  while (directory_.size() > 1 && directory_.ends_with('/')) directory_.pop_back();
  make_directories(directory_);
  Descriptor fd(::open(directory_.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  struct stat s{};
  if (fd < 0 || ::fstat(fd, &s) != 0)
    warn(fmt::format("cannot be used: {}", errno == ELOOP || errno == ENOTDIR
                                               ? "it is not a folder"
                                               : std::strerror(errno)));
  else if (!ours_alone(s))
    warn("is not used: it belongs to another user, or others may write to it");
  else
    descriptor_ = fd.release();
}

KernelCache::~KernelCache() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void KernelCache::warn(std::string text) {
  const std::lock_guard lock(guard_);
  if (warning_.empty())
    warning_ = fmt::format("the kernel cache {} {}; kernels are compiled anew", directory_, text);
}
void KernelCache::give_up(std::string_view what) {
  writes_ = false;
  warn(fmt::format("cannot be {}: {}", what, std::strerror(errno)));
}

std::string KernelCache::warning() const {
  const std::lock_guard lock(guard_);
  return warning_;
}

std::string KernelCache::file_of(std::string_view key) const {
  const std::size_t line = key.find('\n');
  std::string named(code_generator());
  named += key.substr(line == std::string_view::npos ? 0 : line);
  const Fingerprint f = fingerprint(named);
  return fmt::format("{:016x}{:016x}{}", f[0], f[1], suffix);
}

std::optional<Compiled> KernelCache::find(std::string_view key) {
  if (descriptor_ < 0) return {};
  const std::string name = file_of(key);
  constexpr int how = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
  Descriptor fd(::openat(descriptor_, name.c_str(), how));
  if (fd < 0 && errno == ENOENT) return {};
  struct stat s{};
  std::string bytes, why = "is not a file of its owner's alone";
  std::optional<Compiled> out;
  if (fd < 0 || ::fstat(fd, &s) != 0)
    why = std::strerror(errno);
  else if (S_ISREG(s.st_mode) && ours_alone(s) && s.st_size <= bound_) {
    if (read_all(fd, static_cast<std::size_t>(s.st_size), bytes))
      out = read_entry(bytes, code_generator(), key, why);
    else
      why = std::strerror(errno);
  }
  if (out)
    ::futimens(fd, nullptr);   // for trim(); a directory that cannot be written keeps its times
  else
    warn(fmt::format("has an entry that {}: {}", why, name));
  return out;
}

void KernelCache::store(std::string_view key, const Compiled& compiled) {
  if (descriptor_ < 0 || !writes_) return;
  static std::atomic<unsigned> count{0};
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  const std::string name = file_of(key);
  const std::string beside =
      fmt::format("{}.{}.{}.{}{}", name, ::getpid(), now.tv_nsec, count++, unfinished);
  constexpr int how = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
  Descriptor fd(::openat(descriptor_, beside.c_str(), how, 0600));
  if (fd < 0) return give_up("written");
  // Not synced: what a crash leaves half written its check tells.
  bool good = write_all(fd, entry_bytes(code_generator(), key, compiled));
  good = ::close(fd.release()) == 0 && good;
  good = good && ::renameat(descriptor_, beside.c_str(), descriptor_, name.c_str()) == 0;
  if (good) {
    stored_ = true;
    return;
  }
  const int error = errno;
  ::unlinkat(descriptor_, beside.c_str(), 0);
  errno = error;
  give_up("written");
}

void KernelCache::trim() {
  if (descriptor_ < 0 || !stored_.exchange(false)) return;
  // A descriptor of its own: the place in a directory belongs to the open file.
  Descriptor fd(::openat(descriptor_, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  DIR* list = fd < 0 ? nullptr : ::fdopendir(fd);
  if (list == nullptr) return;
  fd.release();
  struct File {
    timespec used;
    std::int64_t bytes;
    std::string name;
  };
  std::vector<File> files;
  std::int64_t total = 0;
  const std::time_t now = std::time(nullptr);
  while (const dirent* e = ::readdir(list)) {
    const std::string name = e->d_name;
    struct stat s{};
    if (!name.ends_with(suffix) && !name.ends_with(unfinished)) continue;   // not ours
    if (::fstatat(descriptor_, e->d_name, &s, AT_SYMLINK_NOFOLLOW) != 0) continue;
    if (name.ends_with(unfinished) && s.st_mtim.tv_sec + abandoned < now) {
      ::unlinkat(descriptor_, e->d_name, 0);
      continue;
    }
    total += s.st_size;
    files.push_back({s.st_mtim, s.st_size, name});
  }
  ::closedir(list);
  std::sort(files.begin(), files.end(), [](const File& a, const File& b) {
    return std::tie(a.used.tv_sec, a.used.tv_nsec, a.name) <
           std::tie(b.used.tv_sec, b.used.tv_nsec, b.name);
  });
  for (const File& f : files) {
    if (total <= bound_) break;
    if (f.name.ends_with(unfinished)) continue;   // somebody is writing it
    if (::unlinkat(descriptor_, f.name.c_str(), 0) == 0) total -= f.bytes;
  }
}

}  // namespace gradc
