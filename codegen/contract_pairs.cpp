// Products of bf16 by pairs of k, on targets with an instruction for them (Target::bf16_dot): how
// pairs come to stand in one 32-bit lane, and what is made of them.
#include <llvm/IR/IntrinsicsX86.h>

#include "codegen/contract.h"
#include "codegen/elementwise.h"

namespace gradc {
namespace {

llvm::Value* bits_of(Emitter& e, llvm::Value* x, int lanes) {
  return e.ir.CreateBitCast(x, e.type(DType::i32, lanes));
}
// The upper halves of two registers of 16 floats to nearest even, those of `low` first.
llvm::Value* narrow(Emitter& e, llvm::Value* low, llvm::Value* high) {
  return e.ir.CreateIntrinsic(llvm::Intrinsic::x86_avx512bf16_cvtne2ps2bf16_512, {}, {high, low});
}

}  // namespace

llvm::Value* pair_up(Emitter& e, const Operand& operand, llvm::Value* first, llvm::Value* second,
                     int lanes, llvm::Value* both) {
  if (both != nullptr)
    second = e.ir.CreateSelect(both, second, llvm::Constant::getNullValue(second->getType()));
  if (operand.rounds && lanes == 16) {
    std::vector<int> interleaved;
    for (int l = 0; l < 32; ++l) interleaved.push_back(l / 2 + l % 2 * 16);
    return e.ir.CreateBitCast(e.ir.CreateShuffleVector(narrow(e, first, second), interleaved),
                              e.type(DType::i32, lanes));
  }
  if (operand.rounds) {
    first = round_to_bf16(e, first, lanes);
    second = round_to_bf16(e, second, lanes);
  }
  llvm::Value* low =
      e.ir.CreateLShr(bits_of(e, first, lanes), e.integer(DType::i32, 16, lanes));
  return e.ir.CreateOr(low, bits_of(e, second, lanes));
}

llvm::Value* load_pairs(Emitter& e, const Operand& operand, llvm::Value* address, int lanes) {
  llvm::Type* const pairs = e.type(DType::i32, lanes);
  const DType stored = stored_dtype(e, operand);
  if (!operand.rounds) return e.ir.CreateAlignedLoad(pairs, address, llvm::Align(2));
  if (lanes == 16) {
    llvm::Value* low = load_operand(e, operand, address, lanes);
    llvm::Value* high = load_operand(e, operand, e.at(address, e.i64(lanes), stored), lanes);
    return neighbours(e, low, high);
  }
  llvm::Value* rounded =
      round_to_bf16(e, load_operand(e, operand, address, 2 * lanes), 2 * lanes);
  llvm::Value* upper = e.ir.CreateLShr(bits_of(e, rounded, 2 * lanes),
                                       e.integer(DType::i32, 16, 2 * lanes));
  llvm::Type* halves =
      llvm::FixedVectorType::get(e.ir.getInt16Ty(), static_cast<unsigned>(2 * lanes));
  return e.ir.CreateBitCast(e.ir.CreateTrunc(upper, halves), pairs);
}

llvm::Value* neighbours(Emitter& e, llvm::Value* low, llvm::Value* high) {
  return e.ir.CreateBitCast(narrow(e, low, high), e.type(DType::i32, 16));
}

llvm::Value* add_pairs(Emitter& e, llvm::Value* a, llvm::Value* b, llvm::Value* sum) {
  llvm::Type* const halves = llvm::FixedVectorType::get(e.ir.getBFloatTy(), 32);
  return e.ir.CreateIntrinsic(
      llvm::Intrinsic::x86_avx512bf16_dpbf16ps_512, {},
      {sum, e.ir.CreateBitCast(b, halves), e.ir.CreateBitCast(a, halves)});
}

}  // namespace gradc
