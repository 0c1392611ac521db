// ORC's LLJIT, one JITDylib an object; libm is found in the process.
#include "runtime/jit.h"

#include <fmt/format.h>
#include <llvm/ExecutionEngine/Orc/ExecutionUtils.h>
#include <llvm/ExecutionEngine/Orc/LLJIT.h>
#include <llvm/Support/MemoryBuffer.h>
#include <llvm/Support/TargetSelect.h>

#include <atomic>

namespace gradc {

struct Jit::State {
  std::unique_ptr<llvm::orc::LLJIT> jit;
  std::atomic<unsigned> next{0};
};

namespace {
Failure rejected(llvm::Error error) {
  return failure(Exit::internal, "LLVM's JIT: " + llvm::toString(std::move(error)));
}
}  // namespace

Jit::Jit() : state_(std::make_unique<State>()) {}
Jit::~Jit() = default;

Result<std::unique_ptr<Jit>> Jit::create(const Target&) {
  static const bool ready = [] {
    llvm::InitializeNativeTarget();
    llvm::InitializeNativeTargetAsmPrinter();
    return true;
  }();
  (void)ready;
  auto made = llvm::orc::LLJITBuilder().create();
  if (!made) return rejected(made.takeError());
  std::unique_ptr<Jit> out(new Jit);
  out->state_->jit = std::move(*made);
  return out;
}

Result<KernelFn> Jit::add(const Compiled& compiled) {
  llvm::orc::LLJIT& jit = *state_->jit;
  auto dylib = jit.createJITDylib(fmt::format("k{}", state_->next.fetch_add(1)));
  if (!dylib) return rejected(dylib.takeError());
  auto process = llvm::orc::DynamicLibrarySearchGenerator::GetForCurrentProcess(jit.getDataLayout().getGlobalPrefix());
  if (!process) return rejected(process.takeError());
  dylib->addGenerator(std::move(*process));
  auto buffer = llvm::MemoryBuffer::getMemBufferCopy({compiled.object.data(), compiled.object.size()}, compiled.symbol);
  if (llvm::Error e = jit.addObjectFile(*dylib, std::move(buffer))) return rejected(std::move(e));
  auto address = jit.lookup(*dylib, compiled.symbol);
  if (!address) return rejected(address.takeError());
  return address->toPtr<KernelFn>();
}

}  // namespace gradc
