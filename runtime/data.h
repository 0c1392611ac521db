// Owns training text: files mapped into memory as bytes (a byte is a token), cut into windows, split for
// validation, shuffled by (seed, epoch). Nothing is copied but the batch.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "ir/diagnostic.h"

namespace gradc {

// A file's bytes, mapped read-only.
class MappedFile {
 public:
  static Result<MappedFile> open(const std::string& path);
  MappedFile() = default;
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  std::span<const unsigned char> bytes() const { return {data_, size_}; }

 private:
  const unsigned char* data_ = nullptr;
  std::size_t size_ = 0;
};

class Corpus {
 public:
  // `paths`: files, or folders whose regular files are taken in order of name. The last `validation`
  // (0 … 0.5) of every file is held out. Windows have `length` + 1 bytes. Exit 3 if a file cannot be read
  // or no window fits.
  static Result<Corpus> open(const std::vector<std::string>& paths, double validation, std::int64_t length);

  std::int64_t train_bytes() const { return train_bytes_; }
  std::int64_t validation_bytes() const { return validation_bytes_; }
  std::size_t files() const { return files_.size(); }
  int greatest_byte() const { return greatest_byte_; }
  std::int64_t windows() const { return windows_; }                       // of an epoch
  std::int64_t validation_windows() const { return validation_windows_; }

  // Window number `index` of training, over all epochs: epoch index / windows(), where the order and the
  // cut's phase follow from (seed, epoch). Writes `length` tokens and the `length` that follow them.
  void window(std::uint64_t seed, std::int64_t index, std::int32_t* token, std::int32_t* target) const;
  // The held-out window number `index`, in order.
  void validation_window(std::int64_t index, std::int32_t* token, std::int32_t* target) const;

  // Entropy of a byte given the one before it, over all the text, in nats: what a table of pairs could reach.
  double bigram_entropy() const;

 private:
  struct Part {
    std::size_t file;
    std::int64_t begin, size, first;   // bytes of the file; number of its first window
  };
  void copy(const Part& part, std::int64_t at, std::int32_t* token, std::int32_t* target) const;
  std::vector<MappedFile> files_;
  std::vector<Part> train_, validation_;
  std::int64_t length_ = 0, windows_ = 0, validation_windows_ = 0, train_bytes_ = 0, validation_bytes_ = 0;
  int greatest_byte_ = 0;
};

// A permutation of 0 … n − 1 chosen by (seed, epoch): a balanced Feistel network over the next power of
// four, walked until it lands inside (Black and Rogaway, "Ciphers with arbitrary finite domains", 2002, §3).
std::int64_t permuted(std::int64_t i, std::int64_t n, std::uint64_t seed, std::uint64_t epoch);

}  // namespace gradc
