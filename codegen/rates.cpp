// Emits the loops. Twelve chains of multiply-adds hide the latency of four cycles of two units;
// with sixteen registers they are also all that leaves room for the factors.
#include "codegen/rates.h"

#include <fmt/format.h>
#include <llvm/IR/IntrinsicsX86.h>

#include <memory>

#include "codegen/module.h"
#include "ir/builder.h"

namespace gradc {
namespace {

constexpr int chains = 12;
constexpr std::int64_t turns = 1 << 16;   // a tenth of a millisecond, less than a scheduler's slice
constexpr int unrolled = 8;               // vectors a turn of a stream

// A module needs a kernel that it is of. This one stands for its buffers alone.
struct Frame {
  Program program;
  KernelInstance instance{FunctionId{0}, {}};
  std::unique_ptr<Emitter> e;

  Frame(const Target& target, int arguments, std::int64_t elements, std::string_view symbol) {
    Function k;
    k.family = Family::map;
    {
      Builder b(program, k);
      const Type type{DType::f32, {b.axis("n", elements)}};
      for (int i = 0; i < arguments; ++i) b.argument(type);
      b.finish(std::vector<ValueId>{});
    }
    k.name = program.intern("rate");
    program.functions.push_back(std::move(k));
    for (int i = 0; i < arguments; ++i) instance.buffers.push_back({{1}, -1});
    e = std::make_unique<Emitter>(program, instance, target, symbol);
  }
  Result<RateLoop> finish(double work) {
    if (Result<Done> done = e->finish(); !done) return done.failure();
    Result<std::vector<char>> object = e->object();
    if (!object) return object.failure();
    RateLoop out{std::move(e->out), work};
    out.kernel.symbol = e->entry->getName().str();
    out.kernel.object = std::move(*object);
    return out;
  }
};

// What a loop computes must be stored, or it is left out.
void keep(Emitter& e, std::span<llvm::Value* const> values) {
  llvm::Value* sum = values[0];
  for (llvm::Value* v : values.subspan(1)) sum = e.ir.CreateFAdd(sum, v);
  e.store(sum, e.local, DType::f32, e.target.lanes());
  e.out.local_bytes = e.target.vector_bytes;
}

}  // namespace

Result<RateLoop> multiply_add_loop(const Target& target, DType dtype) {
  const bool pairs = dtype == DType::bf16;
  if (!pairs && dtype != DType::f32)
    return failure(Exit::usage, fmt::format("no rate is measured for {}", name(dtype)));
  if (pairs && target.vector_bytes != 64)
    return failure(Exit::usage,
                   fmt::format("the target {} has no products of bf16 pairs", target.name));
  Target with = target;
  if (pairs) with.features += with.features.empty() ? "+avx512bf16" : ",+avx512bf16";
  Frame frame(with, 0, 1, fmt::format("gradc_rate_{}", name(dtype)));
  Emitter& e = *frame.e;
  const int lanes = target.lanes();
  // A sum tends to 1 whatever it starts from: no denormals, nothing that folds.
  llvm::Value* const factor = e.constant(DType::f32, 0.999, lanes);
  llvm::Value* const term = e.constant(DType::f32, 0.001, lanes);
  llvm::Value* const tiny = llvm::ConstantFP::get(
      llvm::FixedVectorType::get(e.ir.getBFloatTy(), 2 * static_cast<unsigned>(lanes)), 0x1p-20);
  const auto multiply_add = [&](llvm::Value* x) -> llvm::Value* {
    if (!pairs) return e.fma(x, factor, term);
    return e.ir.CreateIntrinsic(llvm::Intrinsic::x86_avx512bf16_dpbf16ps_512, {}, {x, tiny, tiny});
  };
  std::vector<llvm::Value*> first;
  for (int c = 0; c < chains; ++c) first.push_back(e.constant(DType::f32, 1 + c / 64.0, lanes));
  keep(e, e.loop(e.i64(0), e.i64(turns), 1, first,
                 [&](llvm::Value*, std::span<llvm::Value* const> state) {
                   std::vector<llvm::Value*> next;
                   for (llvm::Value* x : state) next.push_back(multiply_add(x));
                   return next;
                 }));
  return frame.finish(2.0 * (pairs ? 2 : 1) * chains * lanes * turns);
}

Result<RateLoop> stream_loop(const Target& target, Stream stream, std::int64_t elements) {
  const bool copies = stream == Stream::copy || stream == Stream::copy_past;
  Frame frame(target, copies ? 2 : 1, elements,
              fmt::format("gradc_rate_stream{}", static_cast<int>(stream)));
  Emitter& e = *frame.e;
  const int lanes = target.lanes();
  const std::int64_t block = std::int64_t{unrolled} * lanes;
  const auto [lo, hi] = e.share(elements / block);
  const auto place = [&](int buffer, llvm::Value* turn, int k) {
    return e.at(e.buffer(buffer), e.add(e.mul(turn, block), k * lanes), DType::f32);
  };
  const auto align = llvm::Align(static_cast<std::uint64_t>(target.vector_bytes));
  if (stream == Stream::read) {
    const std::vector<llvm::Value*> zeros(unrolled, e.constant(DType::f32, 0, lanes));
    keep(e, e.loop(lo, hi, 1, zeros, [&](llvm::Value* i, std::span<llvm::Value* const> state) {
      std::vector<llvm::Value*> next;
      for (int k = 0; k < unrolled; ++k)
        next.push_back(e.ir.CreateFAdd(state[static_cast<std::size_t>(k)],
                                       e.load(place(0, i, k), DType::f32, lanes)));
      return next;
    }));
  } else {
    e.loop(lo, hi, 1, [&](llvm::Value* i) {
      for (int k = 0; k < unrolled; ++k) {
        llvm::Value* x = e.load(place(0, i, k), DType::f32, lanes);
        if (!copies) x = e.ir.CreateFMul(x, e.constant(DType::f32, 0.999, lanes));
        llvm::StoreInst* const s = e.ir.CreateAlignedStore(x, place(copies ? 1 : 0, i, k), align);
        if (stream == Stream::copy_past)
          s->setMetadata(
              llvm::LLVMContext::MD_nontemporal,
              llvm::MDNode::get(*e.context, llvm::ConstantAsMetadata::get(e.ir.getInt32(1))));
      }
    });
  }
  const std::int64_t moved = elements / block * block * 4;
  return frame.finish(static_cast<double>(stream == Stream::read ? moved : 2 * moved));
}

}  // namespace gradc
