// Owns the making of one kernel's LLVM module: context, builder, entry function, structured control
// flow, memory access by dtype, the pass pipeline and emission. It knows nothing of what kernels
// compute.
#pragma once

#include <llvm/ADT/STLFunctionalExtras.h>
#include <llvm/IR/IRBuilder.h>
#include <llvm/IR/LLVMContext.h>
#include <llvm/IR/Module.h>

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "codegen/codegen.h"

namespace llvm {
class TargetMachine;
}

namespace gradc {

// How a value of a kernel stands in registers: `lanes` elements as <lanes x T>, or plain T where
// lanes is 1. f32 float, f64 double, i32, i64; a bool is i1 in registers and a byte (0 or 1) in
// memory; a bf16 is the float that it stands for in registers (its lower half 0) and that float's
// upper half in memory. Arithmetic carries no fast-math flags: each operation rounds; fma is asked
// for by name.
class Emitter {
 public:
  Emitter(const Program& program, const KernelInstance& instance, const Target& target,
          std::string_view symbol);
  ~Emitter();
  Emitter(const Emitter&) = delete;
  Emitter& operator=(const Emitter&) = delete;

  // ---- what is compiled
  const Program& program;
  const KernelInstance& instance;
  const Function& kernel;
  const Target& target;
  // phases, shared_bytes, local_bytes and parallel are the family's to set; compile() fills in the
  // rest.
  Compiled out;

  // ---- LLVM
  std::unique_ptr<llvm::LLVMContext> context;
  std::unique_ptr<llvm::Module> module;
  llvm::IRBuilder<> ir;  // stands in the entry's body at first
  llvm::Function* entry = nullptr;
  llvm::Value *worker = nullptr, *workers = nullptr, *phase = nullptr;  // i64
  llvm::Value *shared = nullptr, *local = nullptr, *taken = nullptr;  // ptr, 64-byte aligned

  // ---- buffers: arguments, then results; addresses are loaded once at the head of the entry
  int argument_count() const { return static_cast<int>(kernel.body().arguments.size()); }
  int buffer_count() const {
    return argument_count() + static_cast<int>(kernel.body().results.size());
  }
  int buffer_of(ValueId argument) const;
  llvm::Value* buffer(int i) const { return buffers_[static_cast<std::size_t>(i)]; }
  ValueId buffer_value(int i) const;  // the argument, or the result
  const Type& buffer_type(int i) const { return kernel.type(buffer_value(i)); }
  // How many operands and results of the body a value is.
  int readers(ValueId v) const { return readers_[v.index]; }
  // In elements, 0 if the buffer's type lacks the axis.
  std::int64_t stride(int i, AxisId axis) const;

  // ---- types and constants
  llvm::Type* type(DType dtype, int lanes = 1);
  llvm::Type* ptr() { return ir.getPtrTy(); }
  llvm::ConstantInt* i64(std::int64_t x) { return ir.getInt64(static_cast<std::uint64_t>(x)); }
  // A number of the dtype in every lane (a bool: x ≠ 0).
  llvm::Constant* constant(DType dtype, double x, int lanes = 1);
  llvm::Constant* integer(DType dtype, std::int64_t x, int lanes = 1);
  llvm::Value* splat(llvm::Value* scalar, int lanes);  // itself if lanes is 1
  llvm::Constant* iota(int lanes);  // <lanes x i64> 0 1 2 …
  // i1 of `lanes`: lane k is on where k < n (i64, may be negative or beyond).
  llvm::Value* first_lanes(llvm::Value* n, int lanes);

  // ---- integers known or unknown; folded where both are constants
  llvm::Value* add(llvm::Value* a, llvm::Value* b) { return ir.CreateAdd(a, b, "", false, true); }
  llvm::Value* add(llvm::Value* a, std::int64_t b) { return b == 0 ? a : add(a, i64(b)); }
  llvm::Value* mul(llvm::Value* a, std::int64_t b) {
    return b == 1 ? a : ir.CreateMul(a, i64(b), "", false, true);
  }
  llvm::Value* min(llvm::Value* a, llvm::Value* b);  // signed, i64
  llvm::Value* max(llvm::Value* a, llvm::Value* b);
  llvm::Value* ceil_div(llvm::Value* a, std::int64_t b);  // a ≥ 0, b > 0

  // ---- memory. Indices are elements of the dtype, and may lie outside where a mask is off;
  // alignment is the dtype's own.
  llvm::Value* at(llvm::Value* base, llvm::Value* index, DType dtype);
  llvm::Value* at_byte(llvm::Value* base, std::int64_t bytes);
  // Consecutive elements. mask: i1 of `lanes` or null; what is masked reads as 0 and is not
  // touched.
  llvm::Value* load(llvm::Value* address, DType dtype, int lanes, llvm::Value* mask = nullptr);
  void store(llvm::Value* x, llvm::Value* address, DType dtype, int lanes,
             llvm::Value* mask = nullptr);
  // Elements at base[index[k]], index <lanes x i64> (i64 where lanes is 1).
  llvm::Value* gather(llvm::Value* base, llvm::Value* index, DType dtype, int lanes,
                      llvm::Value* mask = nullptr);
  void scatter(llvm::Value* x, llvm::Value* base, llvm::Value* index, DType dtype, int lanes,
               llvm::Value* mask = nullptr);
  // Asks for the cache line at an address, which need not exist. near: into the L1, else the L2.
  void prefetch(llvm::Value* address, bool write = false, bool near = true);
  // The same for a line every 64 bytes from an address on.
  void prefetch_run(llvm::Value* address, std::int64_t bytes, bool write, bool near);
  // A read-only table in the module.
  llvm::Value* table(std::span<const std::int64_t> values, std::string_view name);
  // Uninitialised space in the frame of the current function, 64-byte aligned.
  llvm::Value* stack(DType dtype, std::int64_t elements);

  // ---- control flow; each leaves the builder behind what it made
  using Body = llvm::function_ref<void(llvm::Value* i)>;
  using Carry = llvm::function_ref<std::vector<llvm::Value*>(llvm::Value* i,
                                                             std::span<llvm::Value* const> state)>;
  using Block = llvm::function_ref<void()>;
  // for (i = lo; i < hi; i += step), step > 0.
  void loop(llvm::Value* lo, llvm::Value* hi, std::int64_t step, Body body);
  void loop(std::int64_t lo, std::int64_t hi, std::int64_t step, Body body) {
    loop(i64(lo), i64(hi), step, body);
  }
  // The same with state: `first` before the first turn, the body gives the next, the last is
  // returned.
  std::vector<llvm::Value*> loop(llvm::Value* lo, llvm::Value* hi, std::int64_t step,
                                 std::span<llvm::Value* const> first, Carry body);
  void when(llvm::Value* condition, Block then, Block otherwise = [] {});
  // The same, giving values: as many, of the same types, on both ways.
  using Give = llvm::function_ref<std::vector<llvm::Value*>()>;
  std::vector<llvm::Value*> choose(llvm::Value* condition, Give then, Give otherwise);
  // In the entry, at its end: block k runs in phase k. Sets out.phases.
  void in_phases(std::span<const Block> blocks);
  // This worker's part [lo, hi) of 0 … units − 1: contiguous, sizes differ by at most one.
  std::pair<llvm::Value*, llvm::Value*> share(std::int64_t units) {
    return share(i64(units), worker);
  }
  // Units 0 … units − 1, each by one of the workers: this one takes those of its share in order,
  // `grain` at a time, then what others have not begun of theirs, so that a worker that was kept
  // from running for a while holds up the others for a unit at most. State as of loop().
  std::vector<llvm::Value*> take(std::int64_t units, std::int64_t grain,
                                 std::span<llvm::Value* const> first, Carry body);
  // Without state, a 64th of all at a time or a unit.
  void take(std::int64_t units, Body body);

  // ---- functions beside the entry, internal and never inlined, void; `body` gets the arguments
  llvm::Function* function(std::string_view name, std::span<llvm::Type* const> parameters,
                           llvm::function_ref<void(std::span<llvm::Value* const>)> body);
  // fma(a, b, c), rounded once; on targets without it a·b + c, rounded twice.
  llvm::Value* fma(llvm::Value* a, llvm::Value* b, llvm::Value* c);
  bool has_fma() const { return target.name != "portable"; }

  // ---- ending: returns from the entry, verifies, optimises; a rejected module is exit 70
  Result<Done> finish();
  Result<std::vector<char>> object();
  std::string text() const;
  Result<std::string> assembly();

 private:
  std::pair<llvm::Value*, llvm::Value*> share(llvm::Value* units, llvm::Value* whose);
  void set_attributes(llvm::Function* f);
  Result<Done> emit(llvm::raw_pwrite_stream& to, bool as_text);
  std::unique_ptr<llvm::TargetMachine> machine_;
  std::vector<llvm::Value*> buffers_;
  std::vector<int> readers_;  // by ValueId.index
};

}  // namespace gradc
