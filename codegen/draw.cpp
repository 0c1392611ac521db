// Random draws: Philox4x32-10 (ir/philox.h) on vectors of 32-bit words.
#include "codegen/elementwise.h"
#include "ir/philox.h"

namespace gradc {
namespace {

struct Words {
  llvm::Value* w[4];  // i32
};

// Philox4x32-10 on vectors of 32-bit words.
Words philox_rounds(Emitter& e, Words c, llvm::Value* k0, llvm::Value* k1, int lanes) {
  auto& ir = e.ir;
  llvm::Type* word = e.type(DType::i32, lanes);
  llvm::Type* wide = e.type(DType::i64, lanes);
  const auto word_constant = [&](std::uint32_t x) {
    return e.integer(DType::i32, static_cast<std::int32_t>(x), lanes);
  };
  struct Product {
    llvm::Value *high, *low;
  };
  const auto multiply = [&](llvm::Value* x, std::uint32_t m) {
    llvm::Value* p = ir.CreateMul(ir.CreateZExt(x, wide), e.integer(DType::i64, m, lanes));
    return Product{ir.CreateTrunc(ir.CreateLShr(p, e.integer(DType::i64, 32, lanes)), word),
                   ir.CreateTrunc(p, word)};
  };
  for (int round = 0; round < 10; ++round) {
    const Product p0 = multiply(c.w[0], philox_m0), p1 = multiply(c.w[2], philox_m1);
    c = {{ir.CreateXor(ir.CreateXor(p1.high, c.w[1]), k0), p1.low,
          ir.CreateXor(ir.CreateXor(p0.high, c.w[3]), k1), p0.low}};
    k0 = ir.CreateAdd(k0, word_constant(philox_w0));
    k1 = ir.CreateAdd(k1, word_constant(philox_w1));
  }
  return c;
}

// The four words of each block (i64, `lanes` of them).
Words draw_blocks(Emitter& e, llvm::Value* seed, llvm::Value* step, llvm::Value* site,
                  llvm::Value* block, int lanes) {
  auto& ir = e.ir;
  llvm::Type* word = e.type(DType::i32, lanes);
  const auto low = [&](llvm::Value* scalar) {
    return e.splat(ir.CreateTrunc(scalar, e.type(DType::i32)), lanes);
  };
  const auto high = [&](llvm::Value* scalar) { return low(ir.CreateLShr(scalar, e.i64(32))); };
  llvm::Value* block_high =
      ir.CreateTrunc(ir.CreateLShr(block, e.integer(DType::i64, 32, lanes)), word);
  const Words counter = {
      {ir.CreateTrunc(block, word), ir.CreateXor(block_high, high(site)), low(site), low(step)}};
  return philox_rounds(e, counter, low(seed), high(seed), lanes);
}

// (word >> 8)·2⁻²⁴: below 2²⁴, so the signed conversion is exact.
llvm::Value* unit_real(Emitter& e, llvm::Value* word, DType to, int lanes) {
  llvm::Value* x =
      e.ir.CreateSIToFP(e.ir.CreateLShr(word, e.integer(DType::i32, 8, lanes)), e.type(to, lanes));
  return e.ir.CreateFMul(x, e.constant(to, 0x1p-24, lanes));
}

}  // namespace

llvm::Value* emit_uniform(Emitter& e, llvm::Value* seed, llvm::Value* step, llvm::Value* site,
                          llvm::Value* index, DType to, int lanes) {
  auto& ir = e.ir;
  const Words words = draw_blocks(e, seed, step, site,
                                  ir.CreateLShr(index, e.integer(DType::i64, 2, lanes)), lanes);
  llvm::Value* which = ir.CreateAnd(ir.CreateTrunc(index, e.type(DType::i32, lanes)),
                                    e.integer(DType::i32, 3, lanes));
  llvm::Value* word = words.w[0];
  for (int k = 1; k < 4; ++k)
    word =
        ir.CreateSelect(ir.CreateICmpEQ(which, e.integer(DType::i32, k, lanes)), words.w[k], word);
  return unit_real(e, word, to, lanes);
}

llvm::Value* emit_uniform_run(Emitter& e, llvm::Value* seed, llvm::Value* step, llvm::Value* site,
                              llvm::Value* first, DType to, int lanes) {
  auto& ir = e.ir;
  const int blocks = lanes / 4;
  llvm::Value* block =
      ir.CreateAdd(e.splat(ir.CreateLShr(first, e.i64(2)), blocks), e.iota(blocks));
  const Words words = draw_blocks(e, seed, step, site, block, blocks);
  // Side by side, then block by block: lane 4·b + k is word k of block b.
  std::vector<llvm::Value*> parts(words.w, words.w + 4);
  if (blocks == 1)
    for (llvm::Value*& p : parts) p = ir.CreateVectorSplat(1, p);
  std::vector<int> both, order;
  for (int k = 0; k < 2 * blocks; ++k) both.push_back(k);
  for (int k = 0; k < lanes; ++k) order.push_back((k % 4) * blocks + k / 4);
  llvm::Value* low = ir.CreateShuffleVector(parts[0], parts[1], both);
  llvm::Value* high = ir.CreateShuffleVector(parts[2], parts[3], both);
  return unit_real(e, ir.CreateShuffleVector(low, high, order), to, lanes);
}

}  // namespace gradc
