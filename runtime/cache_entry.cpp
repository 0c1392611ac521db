// Writing and reading of a cached kernel's bytes. A reader trusts nothing before the check holds, and
// no length even then.
#include "runtime/cache_entry.h"

#include <fmt/format.h>

#include <bit>
#include <cstring>

namespace gradc {
namespace {

constexpr std::string_view magic("gradck\0\1", 8);
constexpr std::size_t head = 8 + sizeof(Fingerprint);

void put(std::string& out, std::int64_t n) {
  char raw[8];
  std::memcpy(raw, &n, 8);
  out.append(raw, 8);
}
void put(std::string& out, std::string_view text) {
  put(out, static_cast<std::int64_t>(text.size()));
  out += text;
}

class Reader {
 public:
  explicit Reader(std::string_view rest) : rest_(rest) {}
  std::int64_t number() {
    std::int64_t n = 0;
    const std::string_view raw = take(8);
    if (good_) std::memcpy(&n, raw.data(), 8);
    return n;
  }
  std::string_view text() {
    const std::int64_t n = number();
    return take(static_cast<std::uint64_t>(n));   // a negative one is too long
  }
  bool whole() const { return good_ && rest_.empty(); }

 private:
  std::string_view take(std::uint64_t n) {
    good_ = good_ && n <= rest_.size();
    if (!good_) return {};
    const std::string_view out = rest_.substr(0, n);
    rest_.remove_prefix(n);
    return out;
  }
  std::string_view rest_;
  bool good_ = true;
};

std::string_view first_line(std::string_view key) { return key.substr(0, key.find('\n')); }

}  // namespace

Fingerprint fingerprint(std::string_view bytes) {
  constexpr std::uint64_t k0 = 0x9e3779b97f4a7c15, k1 = 0xd6e8feb86659fd93;   // odd, so invertible
  std::uint64_t a = 0x243f6a8885a308d3 ^ bytes.size(), b = 0x13198a2e03707344 + bytes.size();
  for (std::size_t i = 0; i < bytes.size(); i += 8) {
    std::uint64_t w = 0;
    std::memcpy(&w, bytes.data() + i, std::min<std::size_t>(8, bytes.size() - i));
    a = std::rotl((a ^ w) * k0, 29);
    b = (std::rotl(b, 31) + w) * k1;
    b ^= b >> 32;
  }
  for (int turn = 0; turn < 3; ++turn) {
    a = (a ^ (a >> 31)) * k1;
    b = (b ^ (b >> 29)) * k0;
  }
  return {a ^ (a >> 32), b ^ (b >> 32)};
}

std::string entry_bytes(std::string_view maker, std::string_view key, const Compiled& c) {
  std::string out(magic);
  out.append(sizeof(Fingerprint), '\0');
  put(out, maker);
  put(out, key);
  put(out, c.symbol);
  for (std::int64_t n : {std::int64_t{c.phases}, c.shared_bytes, c.local_bytes,
                         std::int64_t{c.parallel}, c.tiles_at, c.tile_planes})
    put(out, n);
  put(out, std::string_view(c.object.data(), c.object.size()));
  const Fingerprint check = fingerprint(std::string_view(out).substr(head));
  std::memcpy(out.data() + magic.size(), check.data(), sizeof check);
  return out;
}

std::optional<Compiled> read_entry(std::string_view bytes, std::string_view maker,
                                   std::string_view key, std::string& why) {
  why = "is damaged";
  Fingerprint check;
  if (bytes.size() < head || bytes.substr(0, magic.size()) != magic) return {};
  std::memcpy(check.data(), bytes.data() + magic.size(), sizeof check);
  if (fingerprint(bytes.substr(head)) != check) return {};
  Reader in(bytes.substr(head));
  const std::string_view its_maker = in.text(), its_key = in.text();
  Compiled c;
  c.symbol = in.text();
  c.phases = static_cast<int>(in.number());
  c.shared_bytes = in.number();
  c.local_bytes = in.number();
  c.parallel = in.number() != 0;
  c.tiles_at = in.number();
  c.tile_planes = in.number();
  const std::string_view object = in.text();
  if (!in.whole()) return {};
  if (its_maker != maker) {
    why = fmt::format("was made by {}, this is {}", its_maker, maker);
  } else if (first_line(its_key) != first_line(key)) {
    why = fmt::format("was made for the processor {}, this is {}", first_line(its_key),
                      first_line(key));
  } else if (its_key != key) {
    why = "holds another kernel";
  } else {
    c.object.assign(object.begin(), object.end());
    return c;
  }
  return {};
}

}  // namespace gradc
