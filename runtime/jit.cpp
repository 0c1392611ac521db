// ORC's linking layer alone, without its compilers: what comes in is objects. One JITDylib an object;
// libm is found in the process.
#include "runtime/jit.h"

#include <fmt/format.h>
#include <llvm/ExecutionEngine/Orc/Core.h>
#include <llvm/ExecutionEngine/Orc/ExecutionUtils.h>
#include <llvm/ExecutionEngine/Orc/ExecutorProcessControl.h>
#include <llvm/ExecutionEngine/Orc/ObjectLinkingLayer.h>
#include <llvm/Support/MemoryBuffer.h>

#include <atomic>

namespace gradc {

struct Jit::State {
  explicit State(std::unique_ptr<llvm::orc::ExecutorProcessControl> control)
      : session(std::move(control)), layer(session) {}
  ~State() { llvm::consumeError(session.endSession()); }
  llvm::orc::ExecutionSession session;
  llvm::orc::ObjectLinkingLayer layer;
  llvm::orc::JITDylib* process = nullptr;
  std::atomic<unsigned> next{0};
};

namespace {
Failure rejected(llvm::Error error) {
  return failure(Exit::internal, "LLVM's JIT: " + llvm::toString(std::move(error)));
}
}  // namespace

Jit::Jit() = default;
Jit::~Jit() = default;

Result<std::unique_ptr<Jit>> Jit::create(const Target&) {
  // Tasks run where they arise: the standard dispatcher starts a thread for each.
  auto control = llvm::orc::SelfExecutorProcessControl::Create(
      nullptr, std::make_unique<llvm::orc::InPlaceTaskDispatcher>());
  if (!control) return rejected(control.takeError());
  auto symbols = llvm::orc::DynamicLibrarySearchGenerator::GetForCurrentProcess('\0');
  if (!symbols) return rejected(symbols.takeError());
  std::unique_ptr<Jit> out(new Jit);
  out->state_ = std::make_unique<State>(std::move(*control));
  out->state_->process = &out->state_->session.createBareJITDylib("process");
  out->state_->process->addGenerator(std::move(*symbols));
  return out;
}

Result<KernelFn> Jit::add(const Compiled& compiled) {
  llvm::orc::ExecutionSession& session = state_->session;
  llvm::orc::JITDylib& dylib =
      session.createBareJITDylib(fmt::format("k{}", state_->next.fetch_add(1)));
  dylib.addToLinkOrder(*state_->process);
  auto buffer = llvm::MemoryBuffer::getMemBufferCopy(
      {compiled.object.data(), compiled.object.size()}, compiled.symbol);
  if (llvm::Error e = state_->layer.add(dylib, std::move(buffer))) return rejected(std::move(e));
  auto address = session.lookup({&dylib}, session.intern(compiled.symbol));
  if (!address) return rejected(address.takeError());
  return address->getAddress().toPtr<KernelFn>();
}

}  // namespace gradc
