// The contract family against one fma chain an element, bit for bit: extents that no tile divides
// in every role, all orders of axes in memory, batches, several axes a role; the same bits for any
// number of workers.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "ir/builder.h"
#include "unit/codegen/execute.h"

using namespace gradc;
using namespace gradc::testing;

namespace {

// A product of x and y over what `out` lacks. Axes are letters with the extents of `extent`; memory
// orders are those of the letters, outer to inner.
struct Case {
  std::string x, y, out;
  std::vector<std::pair<char, std::int64_t>> extent;
  std::string x_order = "", y_order = "", out_order = "";
  DType dtype = DType::f32;
  std::int64_t slack = 0;
  std::string rounded = "";  // "x", "y", "xy": f32 in memory, cast to bf16 in the kernel
};

BufferLayout order_by_letters(const Function& f, const Type& type, const std::string& axes,
                              const std::string& order, std::int64_t slack) {
  std::vector<int> numbers;
  for (char l : order.empty() ? axes : order) numbers.push_back(static_cast<int>(axes.find(l)));
  return layout(f, type, numbers, slack);
}

struct Built {
  Program program;
  KernelInstance instance;
};

Built build(const Case& c) {
  Built out;
  Function f;
  f.name = out.program.intern("k");
  f.family = Family::contract;
  {
    Builder b(out.program, f);
    const auto type = [&](const std::string& axes, DType dtype) {
      Type t{.dtype = dtype};
      for (char l : axes)
        for (const auto& [name, extent] : c.extent)
          if (name == l) t.axes.push_back(b.axis(std::string(1, l), extent));
      return t;
    };
    const auto stored = [&](char operand) {
      return c.rounded.find(operand) == std::string::npos ? c.dtype : DType::f32;
    };
    const ValueId x = b.argument(type(c.x, stored('x')), "x"),
                  y = b.argument(type(c.y, stored('y')), "y");
    const ValueId r =
        b.contract(b.cast(x, c.dtype), b.cast(y, c.dtype), type(c.out, DType::f32).axes);
    b.finish(std::vector<ValueId>{r});
    out.instance.buffers = {order_by_letters(f, f.type(x), c.x, c.x_order, c.slack),
                            order_by_letters(f, f.type(y), c.y, c.y_order, c.slack),
                            order_by_letters(f, f.type(r), c.out, c.out_order, c.slack)};
  }
  out.program.functions.push_back(std::move(f));
  out.instance.kernel = FunctionId{0};
  return out;
}

// Σ in ascending order of the summed axes as x lists them, by one chain in the contraction's dtype;
// in pairs the second of two comes first.
Array chain(const Case& c, const Array& x, const Array& y, bool fused, bool pairs = false) {
  std::string letters = c.out;
  for (char l : c.x)
    if (c.out.find(l) == std::string::npos) letters += l;
  std::vector<std::int64_t> extent, x_stride(letters.size()), y_stride(letters.size()), extents;
  for (char l : letters)
    for (const auto& [name, e] : c.extent)
      if (name == l) extent.push_back(e);
  const auto strides = [&](const std::string& axes, std::vector<std::int64_t>& to) {
    std::int64_t stride = 1;
    for (std::size_t i = axes.size(); i-- > 0;) {
      const std::size_t at = letters.find(axes[i]);
      to[at] = stride;
      stride *= extent[at];
    }
  };
  strides(c.x, x_stride);
  strides(c.y, y_stride);
  for (std::size_t i = 0; i < c.out.size(); ++i) extents.push_back(extent[i]);
  Array out = Array::zeros(c.dtype == DType::bf16 ? DType::f32 : c.dtype, extents);
  std::int64_t inner = 1;
  for (std::size_t i = c.out.size(); i < letters.size(); ++i) inner *= extent[i];
  std::vector<std::int64_t> at(letters.size());
  for (double& result : out.real) {
    float sum = 0, held = 0;
    double wide = 0;
    for (std::int64_t k = 0; k < inner; ++k) {
      std::int64_t xi = 0, yi = 0;
      for (std::size_t i = 0; i < letters.size(); ++i) {
        xi += at[i] * x_stride[i];
        yi += at[i] * y_stride[i];
      }
      const double a = x.real[static_cast<std::size_t>(xi)],
                   b = y.real[static_cast<std::size_t>(yi)];
      if (c.dtype == DType::bf16) {  // products are exact
        const float product = static_cast<float>(round_to(a, c.dtype)) *
                              static_cast<float>(round_to(b, c.dtype));
        if (pairs && k % 2 == 0 && k + 1 < inner)
          held = product;
        else if (pairs && k % 2 == 1)
          sum = sum + product + held;
        else
          sum = sum + product;
      } else if (c.dtype == DType::f64)
        wide = fused ? std::fma(a, b, wide) : wide + a * b;
      else
        sum = fused ? std::fma(static_cast<float>(a), static_cast<float>(b), sum)
                    : sum + static_cast<float>(a) * static_cast<float>(b);
      for (std::size_t i = letters.size(); i-- > c.out.size();) {
        if (++at[i] < extent[i]) break;
        at[i] = 0;
      }
    }
    result = c.dtype == DType::f64 ? wide : static_cast<double>(sum);
    for (std::size_t i = c.out.size(); i-- > 0;) {
      if (++at[i] < extent[i]) break;
      at[i] = 0;
    }
  }
  return out;
}

std::string describe(const Case& c, const Target& target) {
  std::string text = target.name + " " + c.x + " " + c.y + " -> " + c.out + ":";
  for (const auto& [name, extent] : c.extent)
    text += " " + std::string(1, name) + "=" + std::to_string(extent);
  return text + " in memory " + c.x_order + " " + c.y_order + " " + c.out_order;
}

void check(const Case& c, const Target& target, std::vector<int> workers = {1, 2, 3}) {
  INFO(describe(c, target));
  Built built = build(c);
  const Function& f = built.program.functions[0];
  const Array x = random_array(f, f.type(f.body().arguments[0]), 1),
              y = random_array(f, f.type(f.body().arguments[1]), 2);
  const Array expected = chain(c, x, y, target.name != "portable", target.bf16_dot);
  Execution execution(built.program, built.instance, target);
  for (int w : workers) {
    INFO("workers ", w);
    CHECK(same_bits(execution.run({x, y}, w)[0], expected));
  }
}

}  // namespace

TEST_CASE("every extent in every role") {
  // Tails of tiles in rows, columns and k; one extent varies at a time, then all are awkward at
  // once.
  for (const Target& target : runnable_targets()) {
    for (std::int64_t n : {1, 2, 7, 15, 16, 17, 48, 63, 65, 100}) {
      check({"mk", "kn", "mn", {{'m', n}, {'k', 19}, {'n', 50}}}, target, {2});
      check({"mk", "kn", "mn", {{'m', 21}, {'k', n}, {'n', 35}}}, target, {1});
      check({"mk", "kn", "mn", {{'m', 33}, {'k', 18}, {'n', n}}}, target, {3});
    }
    check({"mk", "kn", "mn", {{'m', 63}, {'k', 65}, {'n', 101}}}, target);
    check({"mk", "kn", "mn", {{'m', 1}, {'k', 1}, {'n', 1}}}, target);
  }
}

TEST_CASE("every order of axes in memory, with gaps") {
  // Packing chooses by strides between copying, transposing and gathering; rows have gaps behind
  // them.
  const std::string x[] = {"mk", "km"}, y[] = {"kn", "nk"}, out[] = {"mn", "nm"};
  for (const Target& target : runnable_targets())
    for (const std::string& a : x)
      for (const std::string& b : y)
        for (const std::string& c : out)
          check({"mk", "kn", "mn", {{'m', 37}, {'k', 50}, {'n', 70}}, a, b, c, DType::f32, 3},
                target, {2});
}

TEST_CASE("batches and several axes a role") {
  for (const Target& target : runnable_targets()) {
    const std::vector<std::pair<char, std::int64_t>> odd{
        {'b', 3}, {'h', 2}, {'t', 21}, {'s', 19}, {'e', 10}};
    const std::vector<std::pair<char, std::int64_t>> even{
        {'b', 17}, {'h', 3}, {'t', 16}, {'s', 32}, {'e', 16}};
    for (const auto& extent : {odd, even}) {
      check({"bthe", "bshe", "bhts", extent}, target, {1, 2});
      check({"bhts", "bshe", "bthe", extent}, target, {2, 3});
      check({"bhts", "bthe", "bshe", extent, "tbsh", "ehtb", "hbse"}, target, {2});
      // k of two axes that do not compose, n of two that do not compose in the result.
      check({"bthe", "hes", "bts", extent, "bhte"}, target, {3});
      check({"bts", "seh", "bthe", extent, "tbs", "hse", "bhte"}, target, {2});
      check({"seh", "bts", "bthe", extent, "esh", "stb", "ehbt"}, target, {2});
      // One operand's axes are all shared: a matrix and a vector a batch.
      check({"bhts", "bhs", "bht", extent}, target, {2});
      check({"bhs", "bhts", "bht", extent, "shb", "stbh", "tbh"}, target, {1});
    }
  }
}

TEST_CASE("few products over many batches run along the batch") {
  for (const Target& target : runnable_targets()) {
    for (std::int64_t b : {15, 16, 33, 100}) {
      check({"bk", "bk", "b", {{'b', b}, {'k', 37}}}, target, {1, 2});
      check({"bk", "bk", "b", {{'b', b}, {'k', 37}}, "kb", "bk"}, target, {3});
    }
    check({"abk", "kba", "ab", {{'a', 5}, {'b', 9}, {'k', 20}}, "akb", "", "ba", DType::f32, 1},
          target);
    check({"bmk", "bkn", "bmn", {{'b', 50}, {'m', 2}, {'n', 3}, {'k', 5}}}, target);
    check({"ab", "ab", "ab", {{'a', 7}, {'b', 40}}, "ab", "ba"}, target);
    check({"bjk", "bkj", "b", {{'b', 40}, {'j', 3}, {'k', 17}}}, target);
  }
}

TEST_CASE("of a few rows the other operand is read in place, across where its k is contiguous") {
  for (const Target& target : runnable_targets())
    for (std::int64_t m : {5, 8, 9, 13, 16}) {
      check({"mk", "nk", "mn", {{'m', m}, {'k', 37}, {'n', 96}}}, target, {2});
      check({"mk", "kn", "mn", {{'m', m}, {'k', 37}, {'n', 128}}}, target, {3});
      check({"bmk", "bnk", "bmn", {{'b', 3}, {'m', m}, {'k', 20}, {'n', 32}}, "mbk", "nbk", "", DType::f32, 3},
            target, {2});
      check({"mk", "hnk", "mhn", {{'m', m}, {'k', 18}, {'h', 4}, {'n', 48}}, "km", "nhk", "hmn"}, target, {1});
    }
}

TEST_CASE("a long k is added in blocks without a change of bits") {
  for (const Target& target : runnable_targets()) {
    check({"mk", "kn", "mn", {{'m', 21}, {'k', 2500}, {'n', 55}}}, target);
    check({"km", "kn", "mn", {{'m', 16}, {'k', 1025}, {'n', 96}}}, target, {2});
    check({"km", "kn", "mn", {{'m', 50}, {'k', 1025}, {'n', 96}}}, target, {3});
    check({"mk", "nk", "mn", {{'m', 5}, {'k', 1100}, {'n', 20}}, "", "", "", DType::f64}, target,
          {2});
    check({"k", "k", "", {{'k', 3000}}}, target);
  }
}

TEST_CASE("blocks of any size give the same bits") {
  // With caches of a few KiB every loop of the blocking has several turns.
  for (Target target : runnable_targets()) {
    for (std::int64_t l2 : {4 << 10, 32 << 10}) {
      target.l2_bytes = l2;
      check({"mk", "kn", "mn", {{'m', 75}, {'k', 130}, {'n', 260}}}, target, {1, 3});
      check({"km", "nk", "mn", {{'m', 260}, {'k', 130}, {'n', 75}}}, target, {2});
      check({"bmk", "bkn", "bmn", {{'b', 3}, {'m', 40}, {'k', 1200}, {'n', 30}}}, target, {2});
    }
  }
}

TEST_CASE("the next panel is packed between products, wherever it comes from") {
  // Copied and turned, at a slow and a fast pace, with a last panel that is not whole; over blocks of k
  // of two lengths, several panels a unit, units that others take.
  for (const Target& target : runnable_targets()) {
    check({"mk", "kn", "mn", {{'m', 110}, {'k', 68}, {'n', 275}}}, target);
    check({"mk", "nk", "mn", {{'m', 110}, {'k', 64}, {'n', 275}}}, target);
    check({"mk", "kn", "mn", {{'m', 32}, {'k', 132}, {'n', 200}}}, target, {2});
    check({"mk", "nk", "mn", {{'m', 32}, {'k', 128}, {'n', 200}}}, target, {2});
    check({"mk", "kn", "mn", {{'m', 50}, {'k', 2116}, {'n', 140}}}, target);
    check({"mk", "nk", "mn", {{'m', 50}, {'k', 4096}, {'n', 130}}}, target, {1, 3});
    check({"km", "kn", "mn", {{'m', 2100}, {'k', 40}, {'n', 300}}}, target, {2});
    check({"km", "nk", "mn", {{'m', 2100}, {'k', 48}, {'n', 300}}}, target, {3});
    check({"bmk", "bkn", "bmn", {{'b', 3}, {'m', 60}, {'k', 64}, {'n', 150}}}, target, {2});
    if (!target.bf16_dot) continue;
    for (const std::string rounded : {"", "y"})
      for (const std::string order : {"kn", "nk"}) {
        check({"mk", "kn", "mn", {{'m', 110}, {'k', 131}, {'n', 275}}, "", order, "", DType::bf16, 0,
               rounded},
              target, {2});
        check({"mk", "kn", "mn", {{'m', 60}, {'k', 4503}, {'n', 140}}, "", order, "", DType::bf16, 0,
               rounded},
              target, {3});
        check({"mk", "kn", "mn", {{'m', 110}, {'k', 128}, {'n', 275}}, "", order, "", DType::bf16, 0,
               rounded},
              target);
        check({"km", "kn", "mn", {{'m', 60}, {'k', 4500}, {'n', 140}}, "km", order, "", DType::bf16, 0,
               rounded},
              target, {2});
      }
  }
  // And so it is, rather than by the function that packs.
  const auto micro = [](const Case& c) {
    const Built built = build(c);
    const Result<std::string> text = asm_text(built.program, built.instance, avx512_target());
    const std::size_t begin = text->find("\nmicro:");
    return text->substr(begin, text->find(".Lfunc_end", begin) - begin);
  };
  CHECK(micro({"mk", "nk", "mn", {{'m', 256}, {'k', 768}, {'n', 3072}}}).find("vextractf32x4") !=
        std::string::npos);
  const std::string copied = micro({"mk", "kn", "mn", {{'m', 256}, {'k', 768}, {'n', 3072}}});
  int stores = 0;
  for (std::size_t at = 0; (at = copied.find("vmovups\t%zmm", at)) != std::string::npos; ++at) ++stores;
  CHECK(stores > 24);  // a tile's and those of copies
}

TEST_CASE("f64") {
  for (const Target& target : runnable_targets()) {
    check({"mk", "kn", "mn", {{'m', 33}, {'k', 29}, {'n', 41}}, "", "", "", DType::f64}, target);
    check({"km", "nk", "mn", {{'m', 16}, {'k', 8}, {'n', 24}}, "", "", "", DType::f64}, target,
          {2});
    check({"bk", "bk", "b", {{'b', 33}, {'k', 29}}, "", "", "", DType::f64}, target, {2});
  }
}

TEST_CASE("bf16: the same bits from every layout, tile and block") {
  for (Target target : bf16_targets())
    for (const std::string rounded : {"", "xy"}) {
      const auto bf16 = [&](Case c, std::vector<int> workers) {
        c.dtype = DType::bf16;
        c.rounded = rounded;
        check(c, target, workers);
      };
      const bool all = target.bf16_dot;
      for (std::int64_t n : {1, 7, 17, 100}) {
        if (!all) continue;
        bf16({"mk", "kn", "mn", {{'m', n}, {'k', 19}, {'n', 50}}}, {2});
        bf16({"mk", "kn", "mn", {{'m', 21}, {'k', n}, {'n', 35}}}, {1});
        bf16({"mk", "nk", "mn", {{'m', 37}, {'k', 64}, {'n', n}}}, {3});
      }
      bf16({"mk", "kn", "mn", {{'m', 64}, {'k', 40}, {'n', 96}}}, {1, 2, 3});
      for (const std::string a : {"mk", "km"})
        for (const std::string b : {"kn", "nk"})
          if (all || a == "mk")
            bf16({"mk", "kn", "mn", {{'m', 37}, {'k', 50}, {'n', 70}}, a, b, "mn", {}, 3}, {2});
      // Pairs within and across the stretches of a k of two axes; batches; many short products.
      for (std::int64_t e : {10, 7}) {
        if (!all && e == 10) continue;
        const std::vector<std::pair<char, std::int64_t>> extent{
            {'b', 3}, {'h', 3}, {'t', 21}, {'s', 19}, {'e', e}};
        bf16({"bthe", "hes", "bts", extent, "bhte"}, {3});
        bf16({"bthe", "hes", "bts", extent, "ehtb", "she"}, {1});
        bf16({"bthe", "bshe", "bhts", extent}, {2});
        bf16({"bhts", "bshe", "bthe", extent, "tbsh", "ehsb"}, {2});
      }
      bf16({"bk", "bk", "b", {{'b', 40}, {'k', 37}}}, {2});
      bf16({"mk", "kn", "mn", {{'m', 9}, {'k', 0}, {'n', 20}}}, {1});
      if (!all) continue;
      bf16({"mk", "kn", "mn", {{'m', 21}, {'k', 4501}, {'n', 55}}}, {2});
      target.l2_bytes = 4 << 10;
      bf16({"mk", "kn", "mn", {{'m', 75}, {'k', 131}, {'n', 130}}}, {1, 3});
      bf16({"km", "nk", "mn", {{'m', 130}, {'k', 260}, {'n', 75}}}, {2});
      target.l2_bytes = avx512_target().l2_bytes;
    }
}

TEST_CASE("nothing to add is zero, and nothing to compute is left alone") {
  for (const Target& target : runnable_targets()) {
    check({"mk", "kn", "mn", {{'m', 9}, {'k', 0}, {'n', 20}}}, target, {2});
    check({"bk", "bk", "b", {{'b', 20}, {'k', 0}}}, target, {2});
    check({"mk", "kn", "mn", {{'m', 0}, {'k', 5}, {'n', 20}}}, target, {2});
    check({"bmk", "bkn", "bmn", {{'b', 0}, {'m', 3}, {'k', 5}, {'n', 20}}}, target, {2});
  }
}

TEST_CASE("the microkernel keeps its accumulators in registers") {
  // Register pressure is the one thing that a change of LLVM or of the tile could spoil silently.
  const Case shapes[] = {{"mk", "kn", "mn", {{'m', 4096}, {'k', 384}, {'n', 384}}},
                         {"mk", "nk", "mn", {{'m', 256}, {'k', 64}, {'n', 256}}},
                         {"mk", "kn", "mn", {{'m', 256}, {'k', 256}, {'n', 64}}},
                         {"km", "kn", "mn", {{'m', 384}, {'k', 4096}, {'n', 1536}}},
                         {"mk", "kn", "mn", {{'m', 100}, {'k', 100}, {'n', 100}}},
                         {"mk", "kn", "mn", {{'m', 14}, {'k', 100}, {'n', 32}}},
                         {"k", "kn", "n", {{'k', 384}, {'n', 1536}}}};
  int last = 0;
  for (const Target& target :
       {avx512_bf16_target(), avx512_target(), avx2_target(), portable_target()})
    for (Case c : shapes) {
      if (target.bf16_dot) c.dtype = DType::bf16;
      INFO(describe(c, target));
      const Built built = build(c);
      const Result<std::string> text = asm_text(built.program, built.instance, target);
      REQUIRE(text.ok());
      const std::string fma = target.name == "portable" ? "mulps"
                              : target.bf16_dot         ? "vdpbf16ps"
                                                        : "vfmadd";
      // Another for the last rows, where these are fewer than a tile's.
      for (const bool of_last : {false, true}) {
        const std::size_t begin = text->find(of_last ? "\nlast_micro:" : "\nmicro:");
        if (of_last && begin == std::string::npos) continue;
        REQUIRE(begin != std::string::npos);
        last += of_last;
        const std::string micro = text->substr(begin, text->find(".Lfunc_end", begin) - begin);
        CHECK(micro.find(fma) != std::string::npos);
        std::size_t line = 0;
        while (line < micro.size()) {
          const std::size_t end = std::min(micro.find('\n', line), micro.size());
          const std::string one = micro.substr(line, end - line);
          CHECK_MESSAGE(
              !(one.find("mm") != std::string::npos && one.find("(%rsp") != std::string::npos), one);
          line = end + 1;
        }
      }
    }
  CHECK(last >= 4);
}

TEST_CASE("a key is the structure and the layouts, not the names") {
  const Case c{"mk", "kn", "mn", {{'m', 4}, {'k', 5}, {'n', 6}}};
  Case renamed{"ab", "bc", "ac", {{'a', 4}, {'b', 5}, {'c', 6}}};
  Case turned = c, longer = c;
  turned.y_order = "nk";
  longer.extent[1].second = 7;
  const auto key = [](const Case& x, const Target& target) {
    const Built built = build(x);
    return key_of(built.program, built.instance, target);
  };
  const std::string one = key(c, avx512_target());
  CHECK(key(renamed, avx512_target()) == one);
  CHECK(key(turned, avx512_target()) != one);
  CHECK(key(longer, avx512_target()) != one);
  CHECK(key(c, avx2_target()) != one);
}
