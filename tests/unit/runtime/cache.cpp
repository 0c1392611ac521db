// Protects the cache of kernels: what it gives is what was stored, whatever happened to the directory
// in between; what it cannot give costs a compilation and one warning, never a run.
#include "runtime/cache.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <filesystem>

#include "runtime/cache_entry.h"
#include "scratch.h"

namespace gradc {
namespace {

using runtime_test::Scratch;
namespace fs = std::filesystem;

const std::string key = "cpu features\navx512/64 map{...}\n-1 8 1";

Compiled some_kernel(char fill = 'x', std::size_t size = 300) {
  return {.symbol = "gradc_1",
          .object = std::vector<char>(size, fill),
          .phases = 2,
          .shared_bytes = 64,
          .local_bytes = 128,
          .parallel = false,
          .tiles_at = 16,
          .tile_planes = 3};
}
bool same(const Compiled& a, const Compiled& b) {
  return a.symbol == b.symbol && a.object == b.object && a.phases == b.phases &&
         a.shared_bytes == b.shared_bytes && a.local_bytes == b.local_bytes &&
         a.parallel == b.parallel && a.tiles_at == b.tiles_at && a.tile_planes == b.tile_planes;
}
bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// The last time a file was used: `ago` seconds before now.
void age(const std::string& path, long ago) {
  timespec at{};
  clock_gettime(CLOCK_REALTIME, &at);
  at.tv_sec -= ago;
  const timespec both[] = {at, at};
  REQUIRE(utimensat(AT_FDCWD, path.c_str(), both, 0) == 0);
}

}  // namespace

TEST_CASE("the cache gives what was stored, to later caches of the directory too; it is its owner's alone") {
  Scratch scratch;
  const std::string dir = scratch.path("a/b/c");
  {
    KernelCache cache(dir);
    CHECK_FALSE(cache.find(key));
    cache.store(key, some_kernel());
    const std::optional<Compiled> found = cache.find(key);
    REQUIRE(found);
    CHECK(same(*found, some_kernel()));
    CHECK_FALSE(cache.find(key + " 2"));
    CHECK(cache.warning() == "");
  }
  struct stat s{};
  REQUIRE(stat(dir.c_str(), &s) == 0);
  CHECK((s.st_mode & 0777) == 0700);
  const std::optional<Compiled> later = KernelCache(dir).find(key);
  REQUIRE(later);
  CHECK(same(*later, some_kernel()));
}

TEST_CASE("an entry with any byte changed, cut anywhere, or with more behind it is none; it is written anew") {
  Scratch scratch;
  KernelCache first(scratch.path("d"));
  const std::string file = "d/" + first.file_of(key);
  first.store(key, some_kernel());
  const std::string whole = scratch.read(file);
  REQUIRE(whole.size() > 400);
  const auto refused = [&](const std::string& bytes) {
    scratch.write(file, bytes);
    KernelCache cache(scratch.path("d"));
    return !cache.find(key) && has(cache.warning(), "is damaged") &&
           has(cache.warning(), scratch.path("d"));
  };
  for (std::size_t i = 0; i < whole.size(); ++i) {
    std::string flipped = whole;
    flipped[i] = static_cast<char>(flipped[i] ^ (1 << i % 8));
    CAPTURE(i);
    CHECK(refused(flipped));
    CHECK(refused(whole.substr(0, i)));
  }
  CHECK(refused(whole + "x"));
  KernelCache cache(scratch.path("d"));
  CHECK_FALSE(cache.find(key));
  cache.store(key, some_kernel());
  CHECK(cache.find(key));
  CHECK(scratch.read(file) == whole);
}

TEST_CASE("lengths within an entry are not trusted even where its check holds") {
  std::string why;
  const std::string whole = entry_bytes("m", key, some_kernel());
  CHECK(read_entry(whole, "m", key, why));
  const std::size_t of_maker = 24, of_key = of_maker + 8 + 1, of_symbol = of_key + 8 + key.size();
  for (const std::size_t at : {of_maker, of_key, of_symbol, whole.size() - 300 - 8})
    for (const std::int64_t length : {std::int64_t{-1}, INT64_MAX, std::int64_t{1} << 40}) {
      std::string wrong = whole;
      std::memcpy(wrong.data() + at, &length, 8);
      const Fingerprint check = fingerprint(std::string_view(wrong).substr(24));
      std::memcpy(wrong.data() + 8, check.data(), sizeof check);
      CHECK_FALSE(read_entry(wrong, "m", key, why));
    }
}

TEST_CASE("an entry of another processor, compiler or kernel is none, and the warning tells") {
  Scratch scratch;
  const std::string dir = scratch.path("d"), other = "znver9 \n" + key.substr(key.find('\n') + 1);
  KernelCache(dir).store(key, some_kernel('a'));
  KernelCache moved(dir);
  CHECK_FALSE(moved.find(other));
  CHECK(has(moved.warning(), "made for the processor cpu features, this is znver9"));
  moved.store(other, some_kernel('b'));
  CHECK(moved.find(other)->object[0] == 'b');
  scratch.write("d/" + moved.file_of(key), entry_bytes("LLVM 3.0", key, some_kernel()));
  KernelCache old(dir);
  CHECK_FALSE(old.find(key));
  CHECK(has(old.warning(), "was made by LLVM 3.0, this is LLVM 19"));
  // Two keys of one hash.
  scratch.write("d/" + moved.file_of(key), entry_bytes(code_generator(), key + " ", some_kernel()));
  KernelCache clash(dir);
  CHECK_FALSE(clash.find(key));
  CHECK(has(clash.warning(), "holds another kernel"));
}

TEST_CASE("links are not followed, and what others may write to is not used") {
  Scratch scratch;
  const std::string dir = scratch.path("d");
  {
    KernelCache cache(dir);
    cache.store(key, some_kernel());
    fs::rename(dir + "/" + cache.file_of(key), scratch.path("elsewhere"));
    fs::create_symlink(scratch.path("elsewhere"), dir + "/" + cache.file_of(key));
    CHECK_FALSE(cache.find(key));
    CHECK(cache.warning() != "");
    cache.store(key, some_kernel());   // replaces the link
    CHECK(cache.find(key));
    REQUIRE(chmod((dir + "/" + cache.file_of(key)).c_str(), 0622) == 0);
    CHECK_FALSE(cache.find(key));
    fs::remove(dir + "/" + cache.file_of(key));
    REQUIRE(mkfifo((dir + "/" + cache.file_of(key)).c_str(), 0600) == 0);
    CHECK_FALSE(cache.find(key));      // and does not wait for a writer
  }
  fs::create_directory_symlink(dir, scratch.path("link"));
  for (const char* name : {"link", "link/"}) {
    KernelCache cache(scratch.path(name));
    cache.store(key, some_kernel());
    CHECK_FALSE(cache.find(key));
    CHECK(has(cache.warning(), "cannot be used: it is not a folder"));
  }
  REQUIRE(chmod(dir.c_str(), 0777) == 0);
  KernelCache open(dir);
  open.store(key, some_kernel());
  CHECK_FALSE(open.find(key));
  CHECK(has(open.warning(), "others may write to it"));
  if (geteuid() == 0) {
    REQUIRE(chmod(dir.c_str(), 0700) == 0);
    REQUIRE(chown(dir.c_str(), 12345, 12345) == 0);
    CHECK(has(KernelCache(dir).warning(), "belongs to another user"));
  }
}

TEST_CASE("a place that is no folder, cannot be written, or is full: one warning, and nothing left behind") {
  Scratch scratch;
  scratch.write("file", "");
  for (const std::string& place : {scratch.path("file"), scratch.path("file/below")}) {
    KernelCache cache(place);
    cache.store(key, some_kernel());
    CHECK_FALSE(cache.find(key));
    cache.trim();
    CHECK(has(cache.warning(), "cannot be used"));
  }
  // A folder of this user's in which nobody can make a file, root included.
  KernelCache fixed("/proc/self/task");
  CHECK(fixed.warning() == "");
  fixed.store(key, some_kernel());
  CHECK(has(fixed.warning(), "cannot be written"));
  CHECK_FALSE(fixed.find(key));
  if (geteuid() != 0) {
    KernelCache(scratch.path("d")).store(key, some_kernel());
    REQUIRE(chmod(scratch.path("d").c_str(), 0500) == 0);
    KernelCache cache(scratch.path("d"));
    CHECK(cache.find(key));
    cache.store(key + "2", some_kernel());
    CHECK(has(cache.warning(), "cannot be written"));
    REQUIRE(chmod(scratch.path("d").c_str(), 0700) == 0);
  }
  // No byte may be written any more: as on a full disk.
  KernelCache full(scratch.path("full"));
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit none{0, before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &none);
  full.store(key, some_kernel());
  full.store(key + "2", some_kernel());
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  CHECK(has(full.warning(), "cannot be written: File too large"));
  CHECK(fs::is_empty(scratch.path("full")));
}

TEST_CASE("beyond the bound what was not used for longest goes, and what dead writers left") {
  Scratch scratch;
  const std::string dir = scratch.path("d");
  KernelCache cache(dir, 3500);
  const auto path = [&](int n) { return dir + "/" + cache.file_of(key + std::to_string(n)); };
  for (int n = 0; n < 5; ++n) {
    cache.store(key + std::to_string(n), some_kernel('x', 700));   // about 900 bytes with its head
    age(path(n), 100 - n);
  }
  scratch.write("d/dead.1.tmp", "…");
  age(scratch.path("d/dead.1.tmp"), 7200);
  scratch.write("d/alive.2.tmp", "…");
  scratch.write("d/not ours", std::string(4000, 'x'));
  CHECK(cache.find(key + "0"));   // used now
  cache.trim();
  CHECK(fs::exists(path(0)));
  CHECK_FALSE(fs::exists(path(1)));
  CHECK_FALSE(fs::exists(path(2)));
  CHECK(fs::exists(path(3)));
  CHECK(fs::exists(path(4)));
  CHECK_FALSE(fs::exists(scratch.path("d/dead.1.tmp")));
  CHECK(fs::exists(scratch.path("d/alive.2.tmp")));
  CHECK(fs::exists(scratch.path("d/not ours")));
  CHECK(cache.warning() == "");
}

TEST_CASE("processes at once find whole entries or none") {
  Scratch scratch;
  std::vector<pid_t> children;
  for (int c = 0; c < 3; ++c) {
    const pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      KernelCache cache(scratch.path("d"), 8000);
      int found = 0;
      for (int turn = 0; turn < 400; ++turn) {
        const int n = (turn * 7 + c) % 10;
        const std::string own = key + std::to_string(n);
        const Compiled kernel =
            some_kernel(static_cast<char>('a' + n), 500 + static_cast<std::size_t>(100 * n));
        if (const std::optional<Compiled> k = cache.find(own)) {
          if (!same(*k, kernel)) _exit(1);
          ++found;
        }
        if (turn % 3 == 0) cache.store(own, kernel);
        if (turn % 16 == 0) cache.trim();
      }
      _exit(!cache.warning().empty() ? 2 : found == 0 ? 3 : 0);
    }
    children.push_back(child);
  }
  for (const pid_t child : children) {
    int status = -1;
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 0);
  }
  for (const auto& f : fs::directory_iterator(scratch.path("d"))) CHECK(f.path().extension() == ".kernel");
}

TEST_CASE("where the cache is: the variables in their order") {
  const auto with = [](const char* own, const char* xdg, const char* home) {
    const std::pair<const char*, const char*> set[] = {
        {"GRADC_CACHE_DIR", own}, {"XDG_CACHE_HOME", xdg}, {"HOME", home}};
    std::vector<std::optional<std::string>> before;
    for (const auto& [name, value] : set) {
      const char* old = std::getenv(name);
      before.push_back(old != nullptr ? std::optional<std::string>(old) : std::nullopt);
      setenv(name, value, 1);
    }
    const std::string out = default_cache_directory();
    for (std::size_t i = 0; i < before.size(); ++i)
      before[i] ? setenv(set[i].first, before[i]->c_str(), 1) : unsetenv(set[i].first);
    return out;
  };
  CHECK(with("/own", "/xdg", "/home/me") == "/own");
  CHECK(with("", "/xdg", "/home/me") == "/xdg/gradc");
  CHECK(with("", "xdg", "/home/me") == "/home/me/.cache/gradc");
  CHECK(with("", "", "") == "");
}

}  // namespace gradc
