// The vocabulary of code: constants, memory by dtype, loops and branches.
#include <llvm/IR/Intrinsics.h>

#include <fmt/format.h>

#include <algorithm>

#include "codegen/module.h"

namespace gradc {

// ---- types and constants

llvm::Type* Emitter::type(DType dtype, int lanes) {
  llvm::Type* scalar = nullptr;
  switch (dtype) {
    case DType::f32:
    case DType::bf16:
      scalar = ir.getFloatTy();
      break;
    case DType::f64:
      scalar = ir.getDoubleTy();
      break;
    case DType::i32:
      scalar = ir.getInt32Ty();
      break;
    case DType::i64:
      scalar = ir.getInt64Ty();
      break;
    case DType::boolean:
      scalar = ir.getInt1Ty();
      break;
    case DType::f16:
      internal_error("an f16 reached the emitter");
  }
  return lanes == 1 ? scalar : llvm::FixedVectorType::get(scalar, static_cast<unsigned>(lanes));
}

llvm::Constant* Emitter::constant(DType dtype, double x, int lanes) {
  if (!is_real(dtype)) return integer(dtype, static_cast<std::int64_t>(x), lanes);
  return llvm::ConstantFP::get(type(dtype, lanes), x);
}

llvm::Constant* Emitter::integer(DType dtype, std::int64_t x, int lanes) {
  if (is_real(dtype)) return constant(dtype, static_cast<double>(x), lanes);
  if (dtype == DType::boolean) x = x != 0;
  return llvm::ConstantInt::get(type(dtype, lanes), static_cast<std::uint64_t>(x), true);
}

llvm::Value* Emitter::splat(llvm::Value* scalar, int lanes) {
  return lanes == 1 ? scalar : ir.CreateVectorSplat(static_cast<unsigned>(lanes), scalar);
}

llvm::Constant* Emitter::iota(int lanes) {
  if (lanes == 1) return i64(0);
  std::vector<llvm::Constant*> lane;
  for (int k = 0; k < lanes; ++k) lane.push_back(i64(k));
  return llvm::ConstantVector::get(lane);
}

llvm::Value* Emitter::first_lanes(llvm::Value* n, int lanes) {
  if (lanes == 1) return ir.CreateICmpSGT(n, i64(0));
  // 32-bit lanes: half the registers of 64-bit ones; n beyond the lanes is all on.
  llvm::Value* bounded = ir.CreateTrunc(min(max(n, i64(0)), i64(lanes)), ir.getInt32Ty());
  std::vector<llvm::Constant*> lane;
  for (int k = 0; k < lanes; ++k) lane.push_back(ir.getInt32(static_cast<std::uint32_t>(k)));
  return ir.CreateICmpSLT(llvm::ConstantVector::get(lane), splat(bounded, lanes));
}

// ---- integers

llvm::Value* Emitter::min(llvm::Value* a, llvm::Value* b) {
  return ir.CreateBinaryIntrinsic(llvm::Intrinsic::smin, a, b);
}
llvm::Value* Emitter::max(llvm::Value* a, llvm::Value* b) {
  return ir.CreateBinaryIntrinsic(llvm::Intrinsic::smax, a, b);
}
llvm::Value* Emitter::ceil_div(llvm::Value* a, std::int64_t b) {
  return ir.CreateUDiv(add(a, b - 1), i64(b));
}

// ---- memory

namespace {
llvm::Type* stored_type(Emitter& e, DType dtype, int lanes) {
  if (dtype != DType::boolean && dtype != DType::bf16) return e.type(dtype, lanes);
  llvm::Type* scalar = dtype == DType::boolean ? e.ir.getInt8Ty() : e.ir.getInt16Ty();
  return lanes == 1 ? scalar : llvm::FixedVectorType::get(scalar, static_cast<unsigned>(lanes));
}
llvm::Value* from_stored(Emitter& e, llvm::Value* x, DType dtype, int lanes) {
  if (dtype == DType::boolean)
    return e.ir.CreateICmpNE(x, llvm::Constant::getNullValue(x->getType()));
  if (dtype != DType::bf16) return x;
  llvm::Value* bits = e.ir.CreateZExt(x, e.type(DType::i32, lanes));
  return e.ir.CreateBitCast(e.ir.CreateShl(bits, e.integer(DType::i32, 16, lanes)),
                            e.type(dtype, lanes));
}
llvm::Value* to_stored(Emitter& e, llvm::Value* x, DType dtype, int lanes) {
  if (dtype == DType::boolean) return e.ir.CreateZExt(x, stored_type(e, dtype, lanes));
  if (dtype != DType::bf16) return x;
  llvm::Value* bits = e.ir.CreateBitCast(x, e.type(DType::i32, lanes));
  return e.ir.CreateTrunc(e.ir.CreateLShr(bits, e.integer(DType::i32, 16, lanes)),
                          stored_type(e, dtype, lanes));
}
llvm::GlobalVariable* read_only(llvm::Module& module, llvm::Constant* value, llvm::StringRef name,
                                std::uint64_t align) {
  std::string free = name.str();
  for (int i = 1; module.getNamedGlobal(free) != nullptr; ++i)
    free = fmt::format("{}.{}", name.str(), i);
  auto* global = llvm::cast<llvm::GlobalVariable>(module.getOrInsertGlobal(free, value->getType()));
  global->setInitializer(value);
  global->setConstant(true);
  global->setLinkage(llvm::GlobalValue::PrivateLinkage);
  global->setAlignment(llvm::Align(align));
  return global;
}
llvm::Align align_of(DType dtype) { return llvm::Align(static_cast<std::uint64_t>(bytes(dtype))); }
}  // namespace

llvm::Value* Emitter::at(llvm::Value* base, llvm::Value* index, DType dtype) {
  return ir.CreateGEP(stored_type(*this, dtype, 1), base, index);
}

llvm::Value* Emitter::at_byte(llvm::Value* base, std::int64_t bytes) {
  return bytes == 0 ? base : ir.CreateInBoundsGEP(ir.getInt8Ty(), base, i64(bytes));
}

llvm::Value* Emitter::load(llvm::Value* address, DType dtype, int lanes, llvm::Value* mask) {
  llvm::Type* t = stored_type(*this, dtype, lanes);
  if (mask == nullptr)
    return from_stored(*this, ir.CreateAlignedLoad(t, address, align_of(dtype)), dtype, lanes);
  if (lanes > 1)
    return from_stored(
        *this,
        ir.CreateMaskedLoad(t, address, align_of(dtype), mask, llvm::Constant::getNullValue(t)),
        dtype, lanes);
  return gather(address, i64(0), dtype, 1, mask);
}

void Emitter::store(llvm::Value* x, llvm::Value* address, DType dtype, int lanes,
                    llvm::Value* mask) {
  x = to_stored(*this, x, dtype, lanes);
  if (mask == nullptr) {
    ir.CreateAlignedStore(x, address, align_of(dtype));
  } else if (lanes > 1) {
    ir.CreateMaskedStore(x, address, align_of(dtype), mask);
  } else {
    when(mask, [&] { ir.CreateAlignedStore(x, address, align_of(dtype)); });
  }
}

llvm::Value* Emitter::gather(llvm::Value* base, llvm::Value* index, DType dtype, int lanes,
                             llvm::Value* mask) {
  llvm::Type* t = stored_type(*this, dtype, lanes);
  if (lanes == 1) {
    // A read that is off must not touch memory: read the module's own zero instead, without a
    // branch.
    llvm::Value* address = at(base, index, dtype);
    if (mask != nullptr) {
      llvm::GlobalVariable* zero = module->getNamedGlobal("zero");
      if (zero == nullptr) {
        llvm::Constant* value = llvm::Constant::getNullValue(ir.getInt64Ty());
        zero = read_only(*module, value, "zero", 8);
      }
      address = ir.CreateSelect(mask, address, zero);
    }
    return from_stored(*this, ir.CreateAlignedLoad(t, address, align_of(dtype)), dtype, 1);
  }
  llvm::Value* addresses = ir.CreateGEP(stored_type(*this, dtype, 1), base, index);
  return from_stored(
      *this,
      ir.CreateMaskedGather(t, addresses, align_of(dtype), mask, llvm::Constant::getNullValue(t)),
      dtype, lanes);
}

void Emitter::scatter(llvm::Value* x, llvm::Value* base, llvm::Value* index, DType dtype, int lanes,
                      llvm::Value* mask) {
  if (lanes == 1) return store(x, at(base, index, dtype), dtype, 1, mask);
  llvm::Value* addresses = ir.CreateGEP(stored_type(*this, dtype, 1), base, index);
  ir.CreateMaskedScatter(to_stored(*this, x, dtype, lanes), addresses, align_of(dtype), mask);
}

void Emitter::prefetch(llvm::Value* address, bool write, bool near) {
  ir.CreateIntrinsic(llvm::Intrinsic::prefetch, {ptr()},
                     {address, ir.getInt32(write), ir.getInt32(near ? 3 : 2), ir.getInt32(1)});
}
void Emitter::prefetch_run(llvm::Value* address, std::int64_t bytes, bool write, bool near) {
  for (std::int64_t b = 0; b < bytes; b += 64) prefetch(at_byte(address, b), write, near);
}

llvm::Value* Emitter::table(std::span<const std::int64_t> values, std::string_view name) {
  llvm::Constant* data = llvm::ConstantDataArray::get(
      *context, llvm::ArrayRef<std::int64_t>(values.data(), values.size()));
  return read_only(*module, data, llvm::StringRef(name.data(), name.size()), 64);
}

llvm::Value* Emitter::stack(DType dtype, std::int64_t elements) {
  llvm::BasicBlock& head = ir.GetInsertBlock()->getParent()->getEntryBlock();
  llvm::IRBuilder<> at_head(&head, head.begin());
  llvm::AllocaInst* space = at_head.CreateAlloca(
      llvm::ArrayType::get(stored_type(*this, dtype, 1), static_cast<std::uint64_t>(elements)));
  space->setAlignment(llvm::Align(64));
  return space;
}

// ---- control flow

void Emitter::loop(llvm::Value* lo, llvm::Value* hi, std::int64_t step, Body body) {
  loop(lo, hi, step, {}, [&](llvm::Value* i, std::span<llvm::Value* const>) {
    body(i);
    return std::vector<llvm::Value*>();
  });
}

std::vector<llvm::Value*> Emitter::loop(llvm::Value* lo, llvm::Value* hi, std::int64_t step,
                                        std::span<llvm::Value* const> first, Carry body) {
  llvm::Function* f = ir.GetInsertBlock()->getParent();
  llvm::BasicBlock* before = ir.GetInsertBlock();
  llvm::BasicBlock* turn = llvm::BasicBlock::Create(*context, "turn", f);
  llvm::BasicBlock* behind = llvm::BasicBlock::Create(*context, "behind", f);
  ir.CreateCondBr(ir.CreateICmpSLT(lo, hi), turn, behind);
  ir.SetInsertPoint(turn);
  llvm::PHINode* i = ir.CreatePHI(ir.getInt64Ty(), 2, "i");
  i->addIncoming(lo, before);
  std::vector<llvm::PHINode*> phis;
  std::vector<llvm::Value*> state;
  for (llvm::Value* x : first) {
    phis.push_back(ir.CreatePHI(x->getType(), 2));
    phis.back()->addIncoming(x, before);
    state.push_back(phis.back());
  }
  const std::vector<llvm::Value*> next = body(i, state);
  llvm::Value* following = add(i, step);
  llvm::BasicBlock* end = ir.GetInsertBlock();
  i->addIncoming(following, end);
  for (std::size_t k = 0; k < phis.size(); ++k) phis[k]->addIncoming(next[k], end);
  ir.CreateCondBr(ir.CreateICmpSLT(following, hi), turn, behind);
  // Blocks stand in the order of the text.
  behind->moveAfter(end);
  ir.SetInsertPoint(behind);
  std::vector<llvm::Value*> last;
  for (std::size_t k = 0; k < phis.size(); ++k) {
    llvm::PHINode* out = ir.CreatePHI(phis[k]->getType(), 2);
    out->addIncoming(first[k], before);
    out->addIncoming(next[k], end);
    last.push_back(out);
  }
  return last;
}

void Emitter::when(llvm::Value* condition, Block then, Block otherwise) {
  llvm::Function* f = ir.GetInsertBlock()->getParent();
  llvm::BasicBlock* yes = llvm::BasicBlock::Create(*context, "then", f);
  llvm::BasicBlock* no = llvm::BasicBlock::Create(*context, "else", f);
  llvm::BasicBlock* behind = llvm::BasicBlock::Create(*context, "behind", f);
  ir.CreateCondBr(condition, yes, no);
  ir.SetInsertPoint(yes);
  then();
  ir.CreateBr(behind);
  no->moveAfter(ir.GetInsertBlock());
  ir.SetInsertPoint(no);
  otherwise();
  ir.CreateBr(behind);
  behind->moveAfter(ir.GetInsertBlock());
  ir.SetInsertPoint(behind);
}

std::vector<llvm::Value*> Emitter::choose(llvm::Value* condition, Give then, Give otherwise) {
  std::vector<llvm::Value*> yes, no, out;
  llvm::BasicBlock *from_yes = nullptr, *from_no = nullptr;
  when(
      condition,
      [&] {
        yes = then();
        from_yes = ir.GetInsertBlock();
      },
      [&] {
        no = otherwise();
        from_no = ir.GetInsertBlock();
      });
  for (std::size_t k = 0; k < yes.size(); ++k) {
    llvm::PHINode* phi = ir.CreatePHI(yes[k]->getType(), 2);
    phi->addIncoming(yes[k], from_yes);
    phi->addIncoming(no[k], from_no);
    out.push_back(phi);
  }
  return out;
}

void Emitter::in_phases(std::span<const Block> blocks) {
  out.phases = static_cast<int>(blocks.size());
  if (blocks.size() == 1) return blocks[0]();
  llvm::BasicBlock* end = llvm::BasicBlock::Create(*context, "end", entry);
  llvm::SwitchInst* which = ir.CreateSwitch(phase, end, static_cast<unsigned>(blocks.size()));
  for (std::size_t k = 0; k < blocks.size(); ++k) {
    llvm::BasicBlock* block = llvm::BasicBlock::Create(*context, fmt::format("phase{}", k), entry);
    which->addCase(i64(static_cast<std::int64_t>(k)), block);
    ir.SetInsertPoint(block);
    blocks[k]();
    ir.CreateBr(end);
  }
  end->moveAfter(ir.GetInsertBlock());
  ir.SetInsertPoint(end);
}

std::pair<llvm::Value*, llvm::Value*> Emitter::share(llvm::Value* units, llvm::Value* whose) {
  const auto bound = [&](llvm::Value* w) {
    return ir.CreateUDiv(ir.CreateMul(units, w, "", true, true), workers);
  };
  return {bound(whose), bound(add(whose, 1))};
}

std::vector<llvm::Value*> Emitter::take(std::int64_t units, std::int64_t grain,
                                        std::span<llvm::Value* const> first, Carry body) {
  const std::int64_t grains = (units + grain - 1) / grain;
  // Whose share it is: first this worker's own, then those of the ones behind it, around.
  const auto share_of = [&](llvm::Value* turn, std::span<llvm::Value* const> state) {
    llvm::Value* whose = add(worker, turn);
    llvm::Value* around = ir.CreateSub(whose, workers);
    whose = ir.CreateSelect(ir.CreateICmpSGE(around, i64(0)), around, whose);
    const auto [lo, hi] = share(i64(grains), whose);
    llvm::Value* counter = ir.CreateGEP(ir.getInt8Ty(), taken, mul(whose, sizeof(Taken)));

    llvm::Function* f = ir.GetInsertBlock()->getParent();
    llvm::BasicBlock* before = ir.GetInsertBlock();
    llvm::BasicBlock* next = llvm::BasicBlock::Create(*context, "next", f);
    llvm::BasicBlock* turn_of = llvm::BasicBlock::Create(*context, "taken", f);
    llvm::BasicBlock* behind = llvm::BasicBlock::Create(*context, "behind", f);
    ir.CreateBr(next);
    ir.SetInsertPoint(next);
    std::vector<llvm::PHINode*> phis;
    for (llvm::Value* x : state) {
      phis.push_back(ir.CreatePHI(x->getType(), 2));
      phis.back()->addIncoming(x, before);
    }
    llvm::Value* count =
        ir.CreateAtomicRMW(llvm::AtomicRMWInst::Add, counter, i64(1), llvm::Align(64),
                           llvm::AtomicOrdering::Monotonic);
    llvm::Value* g = add(lo, count);
    ir.CreateCondBr(ir.CreateICmpSLT(g, hi), turn_of, behind);
    ir.SetInsertPoint(turn_of);
    const std::vector<llvm::Value*> now(phis.begin(), phis.end());
    llvm::Value* from = mul(g, grain);
    const std::vector<llvm::Value*> got =
        grain == 1 ? body(g, now)
                   : loop(from, min(add(from, grain), i64(units)), 1, now, body);
    for (std::size_t k = 0; k < phis.size(); ++k)
      phis[k]->addIncoming(got[k], ir.GetInsertBlock());
    behind->moveAfter(ir.GetInsertBlock());
    ir.CreateBr(next);
    ir.SetInsertPoint(behind);
    return now;
  };
  return loop(i64(0), workers, 1, first, share_of);
}

void Emitter::take(std::int64_t units, Body body) {
  take(units, std::max<std::int64_t>((units + 63) / 64, 1), {},
       [&](llvm::Value* i, std::span<llvm::Value* const>) {
         body(i);
         return std::vector<llvm::Value*>();
       });
}

}  // namespace gradc
