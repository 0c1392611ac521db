// Owns the directory of compiled kernels: found, verified, written, kept within a bound. A cache never
// fails: what cannot be read or written is compiled as if it were not there, and one warning says so.
#pragma once

#include <atomic>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "codegen/codegen.h"

namespace gradc {

// $GRADC_CACHE_DIR, else $XDG_CACHE_HOME/gradc, else $HOME/.cache/gradc; empty if none is set.
std::string default_cache_directory();

// One file a kernel, named by the hash of its key and of what made it, but for the processor: a
// directory that has moved to another machine is told from one that never held the kernel.
// Thread-safe, and safe beside other processes: files are written under names of their own and renamed.
class KernelCache {
 public:
  static constexpr std::int64_t standard_bound = std::int64_t{256} << 20;
  // Makes the directory, readable by its owner alone. It is not used if it is a link, another user's,
  // or if others may write to it.
  explicit KernelCache(const std::string& directory, std::int64_t bound = standard_bound);
  ~KernelCache();
  KernelCache(const KernelCache&) = delete;
  KernelCache& operator=(const KernelCache&) = delete;

  // By key_of(). What is found counts as used now.
  std::optional<Compiled> find(std::string_view key);
  void store(std::string_view key, const Compiled& compiled);
  // Removes files that were not used for longest until all together are within the bound, and what
  // writers that died left behind. Does nothing unless something was stored.
  void trim();
  // What went wrong first; empty if nothing did.
  std::string warning() const;
  std::string file_of(std::string_view key) const;   // the name of its file in the directory

 private:
  void warn(std::string text);
  void give_up(std::string_view what);               // stops writing: errno says why
  std::string directory_;
  std::int64_t bound_;
  int descriptor_ = -1;                              // of the directory; −1: there is none to use
  std::atomic<bool> writes_{true}, stored_{false};
  mutable std::mutex guard_;
  std::string warning_;
};

}  // namespace gradc
