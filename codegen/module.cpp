// One module a kernel: entry, control flow, memory, passes, emission.
#include "codegen/module.h"

#include <llvm/ADT/SmallString.h>
#include <llvm/Analysis/TargetTransformInfo.h>
#include <llvm/IR/Intrinsics.h>
#include <llvm/IR/LegacyPassManager.h>
#include <llvm/IR/MDBuilder.h>
#include <llvm/IR/Verifier.h>
#include <llvm/MC/TargetRegistry.h>
#include <llvm/Passes/PassBuilder.h>
#include <llvm/Support/TargetSelect.h>
#include <llvm/Support/raw_ostream.h>
#include <llvm/Target/TargetMachine.h>
#include <llvm/TargetParser/Host.h>

#include <fmt/format.h>

#include <algorithm>
#include <mutex>

namespace gradc {
namespace {

std::unique_ptr<llvm::TargetMachine> make_machine(const Target& target) {
  static std::once_flag once;
  std::call_once(once, [] {
    llvm::InitializeNativeTarget();
    llvm::InitializeNativeTargetAsmPrinter();
  });
  const std::string triple = llvm::sys::getProcessTriple();
  std::string why;
  const llvm::Target* found = llvm::TargetRegistry::lookupTarget(triple, why);
  if (found == nullptr) internal_error("LLVM knows no target for this machine: " + why);
  llvm::TargetOptions options;
  options.AllowFPOpFusion = llvm::FPOpFusion::Strict;
  return std::unique_ptr<llvm::TargetMachine>(found->createTargetMachine(
      triple, target.cpu, target.features, options, llvm::Reloc::PIC_, llvm::CodeModel::Small,
      llvm::CodeGenOptLevel::Default, /*JIT=*/true));
}

// What is emitted is already vector code: only clean it up. No vectoriser, no InstCombine (it
// dominates compile times elsewhere and rewrites shuffles that were chosen with care).
constexpr const char* pipeline =
    "function(sroa,early-cse<memssa>,instsimplify,simplifycfg,loop-mssa(licm),early-cse<memssa>,"
    "simplifycfg,adce)";

}  // namespace

Emitter::Emitter(const Program& program, const KernelInstance& instance, const Target& target,
                 std::string_view symbol)
    : program(program),
      instance(instance),
      kernel(program.function(instance.kernel)),
      target(target),
      context(std::make_unique<llvm::LLVMContext>()),
      module(
          std::make_unique<llvm::Module>(llvm::StringRef(symbol.data(), symbol.size()), *context)),
      ir(*context),
      machine_(make_machine(target)),
      readers_(kernel.values.size()) {
  for (OpId o : kernel.body().ops)
    for (ValueId v : kernel.op(o).operands) ++readers_[v.index];
  for (ValueId v : kernel.body().results) ++readers_[v.index];
  module->setTargetTriple(machine_->getTargetTriple().str());
  module->setDataLayout(machine_->createDataLayout());
  llvm::Type* i = ir.getInt64Ty();
  llvm::Type* parameters[] = {ptr(), i, i, i, ptr(), ptr(), ptr()};
  entry = llvm::Function::Create(llvm::FunctionType::get(ir.getVoidTy(), parameters, false),
                                 llvm::Function::ExternalLinkage, module->getName(), *module);
  set_attributes(entry);
  worker = entry->getArg(1);
  workers = entry->getArg(2);
  phase = entry->getArg(3);
  shared = entry->getArg(4);
  local = entry->getArg(5);
  taken = entry->getArg(6);
  const char* names[] = {"buffers", "worker", "workers", "phase", "shared", "local", "taken"};
  for (unsigned k = 0; k < 7; ++k) entry->getArg(k)->setName(names[k]);
  ir.SetInsertPoint(llvm::BasicBlock::Create(*context, "head", entry));
  for (int b = 0; b < buffer_count(); ++b)
    buffers_.push_back(ir.CreateAlignedLoad(
        ptr(),
        ir.CreateConstInBoundsGEP1_64(ptr(), entry->getArg(0), static_cast<std::uint64_t>(b)),
        llvm::Align(8), fmt::format("buffer{}", b)));
}

Emitter::~Emitter() = default;

void Emitter::set_attributes(llvm::Function* f) {
  f->addFnAttr(llvm::Attribute::NoUnwind);
  f->addFnAttr("target-cpu", machine_->getTargetCPU());
  if (!target.features.empty()) f->addFnAttr("target-features", target.features);
  f->addFnAttr("prefer-vector-width", std::to_string(target.vector_bytes * 8));
  f->addFnAttr("min-legal-vector-width", std::to_string(target.vector_bytes * 8));
}

ValueId Emitter::buffer_value(int i) const {
  const Region& body = kernel.body();
  return i < argument_count() ? body.arguments[static_cast<std::size_t>(i)]
                              : body.results[static_cast<std::size_t>(i - argument_count())];
}

int Emitter::buffer_of(ValueId argument) const {
  const std::vector<ValueId>& arguments = kernel.body().arguments;
  return static_cast<int>(std::find(arguments.begin(), arguments.end(), argument) -
                          arguments.begin());
}

std::int64_t Emitter::stride(int i, AxisId axis) const {
  const int at = buffer_type(i).axes.index_of(axis);
  return at < 0
             ? 0
             : instance.buffers[static_cast<std::size_t>(i)].strides[static_cast<std::size_t>(at)];
}

// ---- functions

llvm::Function* Emitter::function(std::string_view name, std::span<llvm::Type* const> parameters,
                                  llvm::function_ref<void(std::span<llvm::Value* const>)> body) {
  llvm::Function* f = llvm::Function::Create(
      llvm::FunctionType::get(
          ir.getVoidTy(), llvm::ArrayRef<llvm::Type*>(parameters.data(), parameters.size()), false),
      llvm::Function::InternalLinkage, llvm::StringRef(name.data(), name.size()), *module);
  set_attributes(f);
  f->addFnAttr(llvm::Attribute::NoInline);
  llvm::IRBuilderBase::InsertPointGuard guard(ir);
  ir.SetInsertPoint(llvm::BasicBlock::Create(*context, "head", f));
  std::vector<llvm::Value*> arguments;
  for (llvm::Argument& a : f->args()) arguments.push_back(&a);
  body(arguments);
  ir.CreateRetVoid();
  return f;
}

llvm::Value* Emitter::fma(llvm::Value* a, llvm::Value* b, llvm::Value* c) {
  if (!has_fma()) return ir.CreateFAdd(ir.CreateFMul(a, b), c);
  return ir.CreateIntrinsic(llvm::Intrinsic::fma, {a->getType()}, {a, b, c});
}

// ---- ending

Result<Done> Emitter::finish() {
  ir.CreateRetVoid();
  std::string why;
  llvm::raw_string_ostream stream(why);
  if (llvm::verifyModule(*module, &stream))
    return failure(Exit::internal, fmt::format("LLVM rejects the module of kernel @{}: {}",
                                               program.text(kernel.name), stream.str()));
  llvm::LoopAnalysisManager loops;
  llvm::FunctionAnalysisManager functions;
  llvm::CGSCCAnalysisManager calls;
  llvm::ModuleAnalysisManager modules;
  llvm::PassBuilder passes(machine_.get());
  passes.registerModuleAnalyses(modules);
  passes.registerCGSCCAnalyses(calls);
  passes.registerFunctionAnalyses(functions);
  passes.registerLoopAnalyses(loops);
  passes.crossRegisterProxies(loops, functions, calls, modules);
  llvm::ModulePassManager manager;
  if (llvm::Error fault = passes.parsePassPipeline(manager, pipeline))
    return failure(Exit::internal,
                   "LLVM refuses the pass pipeline: " + llvm::toString(std::move(fault)));
  manager.run(*module, modules);
  return Done{};
}

Result<Done> Emitter::emit(llvm::raw_pwrite_stream& to, bool as_text) {
  llvm::legacy::PassManager passes;
  const auto kind =
      as_text ? llvm::CodeGenFileType::AssemblyFile : llvm::CodeGenFileType::ObjectFile;
  if (machine_->addPassesToEmitFile(passes, to, nullptr, kind))
    return failure(Exit::internal, "LLVM cannot emit code for this target");
  passes.run(*module);
  return Done{};
}

Result<std::vector<char>> Emitter::object() {
  llvm::SmallVector<char, 0> bytes;
  llvm::raw_svector_ostream stream(bytes);
  if (Result<Done> done = emit(stream, false); !done.ok()) return done.failure();
  return std::vector<char>(bytes.begin(), bytes.end());
}

std::string Emitter::text() const {
  std::string text;
  llvm::raw_string_ostream stream(text);
  module->print(stream, nullptr);
  return stream.str();
}

Result<std::string> Emitter::assembly() {
  llvm::SmallVector<char, 0> bytes;
  llvm::raw_svector_ostream stream(bytes);
  if (Result<Done> done = emit(stream, true); !done.ok()) return done.failure();
  return std::string(bytes.begin(), bytes.end());
}

}  // namespace gradc
