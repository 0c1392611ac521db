// Protects rule 10: whatever a read is canonicalised into (slice, shift, split, merge, concat, gather), it
// means x at position e along a, and 0 outside.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <functional>

#include "unit/frontend/lowered.h"

namespace gradc::test {
namespace {

// x[a c] is read along a; the result has the axes q, r (some of extent 1 in the comparison) and c.
using Where = std::function<std::int64_t(std::int64_t q, std::int64_t r, std::int64_t c)>;
struct Case {
  const char* read;      // of x[a c]
  const char* axes;      // of the result, in the order q r c, as its left side lists them
  std::int64_t q, r;     // extents; 1: the axis is not there
  Where at;
  Opcode made;           // an operation that must occur
};
constexpr std::int64_t a = 6, c = 3;

void check(const Case& t) {
  CAPTURE(t.read);
  const Lowered m(fmt::format("model m(a = {}, c = {})\naxis i = 3, j = 2, k = 2, p = 4, w = 3, z = 12\nparam x[a c] ~ 0\n"
                              "y[{}] = {}\n", a, c, t.axes, t.read), {"y"});
  const Array y = m["y"];
  REQUIRE(y.size() == t.q * t.r * c);
  for (std::int64_t q = 0; q < t.q; ++q)
    for (std::int64_t r = 0; r < t.r; ++r)
      for (std::int64_t e = 0; e < c; ++e) {
        const std::int64_t at = t.at(q, r, e);
        const double want = at < 0 || at >= a ? 0 : filling("x", at * c + e);
        CHECK(y.real[static_cast<std::size_t>((q * t.r + r) * c + e)] == want);
      }
  CHECK(m.count("eval", t.made) > 0);
}

}  // namespace

TEST_CASE("reads at positions mean x at e, and 0 outside") {
  const Case cases[] = {
      {"x[a = p]", "p c", 4, 1, [](auto q, auto, auto) { return q; }, Opcode::slice_},
      {"x[a = p + 2]", "p c", 4, 1, [](auto q, auto, auto) { return q + 2; }, Opcode::slice_},
      {"x[a = p + 4]", "p c", 4, 1, [](auto q, auto, auto) { return q + 4; }, Opcode::pad_},
      {"x[a = p - 1]", "p c", 4, 1, [](auto q, auto, auto) { return q - 1; }, Opcode::pad_},
      {"x[a = 2 * w]", "w c", 3, 1, [](auto q, auto, auto) { return 2 * q; }, Opcode::slice_},
      {"x[a = 2 * w + 1]", "w c", 3, 1, [](auto q, auto, auto) { return 2 * q + 1; }, Opcode::slice_},
      {"x[a = 3 * p - 2]", "p c", 4, 1, [](auto q, auto, auto) { return 3 * q - 2; }, Opcode::pad_},
      {"x[a = 2 * a]", "a c", 6, 1, [](auto q, auto, auto) { return 2 * q; }, Opcode::pad_},
      {"x[a = a - 2]", "a c", 6, 1, [](auto q, auto, auto) { return q - 2; }, Opcode::shift_},
      {"x[a = a + 7]", "a c", 6, 1, [](auto q, auto, auto) { return q + 7; }, Opcode::shift_},
      {"x[a = p + 9]", "p c", 4, 1, [](auto q, auto, auto) { return q + 9; }, Opcode::expand_},
      {"x[a = size(a) - 1 - a]", "a c", 6, 1, [](auto q, auto, auto) { return 5 - q; }, Opcode::gather_},
      {"x[a = a * a]", "a c", 6, 1, [](auto q, auto, auto) { return q * q; }, Opcode::gather_},
      {"x[a = 2 * i + j]", "i j c", 3, 2, [](auto q, auto r, auto) { return 2 * q + r; }, Opcode::split_},
      {"x[a = j + 2 * i]", "i j c", 3, 2, [](auto q, auto r, auto) { return 2 * q + r; }, Opcode::split_},
      {"x[a = 2 * j + k + 1]", "j k c", 2, 2, [](auto q, auto r, auto) { return 2 * q + r + 1; }, Opcode::split_},
      {"x[a = a + w - 2]", "a w c", 6, 3, [](auto q, auto r, auto) { return q + r - 2; }, Opcode::concat_},
      {"x[a = a - w]", "a w c", 6, 3, [](auto q, auto r, auto) { return q - r; }, Opcode::concat_},
      {"x[a = 2 * p + w - 1]", "p w c", 4, 3, [](auto q, auto r, auto) { return 2 * q + r - 1; }, Opcode::concat_},
      {"x[a = a + a - w]", "a w c", 6, 3, [](auto q, auto r, auto) { return 2 * q - r; }, Opcode::concat_},
      {"x[a = z // 2]", "z c", 12, 1, [](auto q, auto, auto) { return q / 2; }, Opcode::merge_},
      {"x[a = z % 6]", "z c", 12, 1, [](auto q, auto, auto) { return q % 6; }, Opcode::merge_},
      {"x[a = z % 4]", "z c", 12, 1, [](auto q, auto, auto) { return q % 4; }, Opcode::gather_},
      {"x[a = c]", "c", 1, 1, [](auto, auto, auto e) { return e; }, Opcode::gather_},
      {"x[a = c + 4]", "c", 1, 1, [](auto, auto, auto e) { return e + 4; }, Opcode::gather_},
      {"x[a = min(p, 2)]", "p c", 4, 1, [](auto q, auto, auto) { return q < 2 ? q : 2; }, Opcode::gather_},
      {"x[a = 5]", "c", 1, 1, [](auto, auto, auto) { return 5; }, Opcode::pick_},
  };
  for (const Case& t : cases) check(t);
}

TEST_CASE("several entries are read at once") {
  // The axis that comes in is not the one that goes: a transposition, a diagonal, a merge.
  const Lowered m(R"(model m(i = 3, j = 3, n = 9, b = 2)
param w[i j], u[b i j] ~ 0
turned[i j] = w[i = j, j = i]
diagonal = w[i = n // 3, j = n // 3]
merged[b n] = u[i = n // size(j), j = n % size(j)]
swapped[n] = w[i = n % 3, j = n // 3]
moved[i j] = w[i = j, j = i - 1]
)", {"turned", "diagonal", "merged", "swapped", "moved"});
  const Array turned = m["turned"], diagonal = m["diagonal"], merged = m["merged"], swapped = m["swapped"], moved = m["moved"];
  for (std::int64_t i = 0; i < 3; ++i)
    for (std::int64_t j = 0; j < 3; ++j) {
      CHECK(turned.real[static_cast<std::size_t>(3 * i + j)] == filling("w", 3 * j + i));
      CHECK(swapped.real[static_cast<std::size_t>(3 * i + j)] == filling("w", 3 * j + i));
      CHECK(moved.real[static_cast<std::size_t>(3 * i + j)] == (i == 0 ? 0 : filling("w", 3 * j + i - 1)));
    }
  for (std::int64_t n = 0; n < 9; ++n) CHECK(diagonal.real[static_cast<std::size_t>(n)] == filling("w", 4 * (n / 3)));
  for (std::int64_t n = 0; n < 18; ++n) CHECK(merged.real[static_cast<std::size_t>(n)] == filling("u", n));
}

TEST_CASE("data positions align with the axes that the value has") {
  const Lowered m(R"(model m(v = 5, t = 4, b = 2)
input token[b t] < v
param emb[v t], bias[v b t] ~ 0
rows[b t] = emb[v = token]
own[b t] = bias[v = token]
)", {"rows", "own"});
  const Array rows = m["rows"], own = m["own"];
  for (std::int64_t i = 0; i < 8; ++i) {
    const std::int64_t token = filling("token", i, 0, 5);
    CHECK(rows.real[static_cast<std::size_t>(i)] == filling("emb", token * 4 + i % 4));
    CHECK(own.real[static_cast<std::size_t>(i)] == filling("bias", token * 8 + i));
  }
}

}  // namespace gradc::test
