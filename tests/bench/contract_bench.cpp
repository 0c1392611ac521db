// Owns the measurement of contraction kernels: GFLOP/s with one and two workers beside what the
// machine's multiply-add units give in the same run. With --own-time workers are timed by what they
// compute themselves, which a busy machine disturbs less. With --bf16=xy products are of bf16; an
// operand that is not named is f32 in memory and rounded in the kernel. Built on demand: ninja
// contract_bench.
#include <fmt/format.h>

#include <cstdio>
#include <string>
#include <vector>

#include "bench/measure.h"
#include "codegen/codegen.h"
#include "ir/builder.h"
#include "passes/group.h"
#include "runtime/jit.h"

namespace {

using namespace gradc;
using namespace gradc::bench;

struct Shape {
  std::string name, x, y, out;  // axes by letters, in the order of memory
  std::vector<std::pair<char, std::int64_t>> extent;
  // + bias, then gelu, both kept; or + bias + what there was.
  enum Behind { nothing, gelu, residual } behind = nothing;
};

struct Built {
  Program program;
  KernelInstance instance;
  std::vector<std::int64_t> elements;
  double flops = 2;
};

// What of bf16 there is: null, or the operands that are so in memory.
Built build(const Shape& s, const std::string* halves) {
  Built out;
  for (const auto& [letter, extent] : s.extent) out.flops *= static_cast<double>(extent);
  Function made;
  made.name = out.program.intern("k");
  made.family = Family::contract;
  Builder b(out.program, made);
  const auto type = [&](const std::string& axes, DType dtype = DType::f32) {
    Type t{.dtype = dtype};
    for (char l : axes)
      for (const auto& [letter, extent] : s.extent)
        if (letter == l) t.axes.push_back(b.axis(std::string(1, l), extent));
    return t;
  };
  const auto operand = [&](const std::string& axes, char name) {
    const bool half = halves != nullptr && halves->find(name) != std::string::npos;
    const ValueId v = b.argument(type(axes, half ? DType::bf16 : DType::f32));
    return halves == nullptr ? v : b.cast(v, DType::bf16);
  };
  const ValueId x = operand(s.x, 'x'), y = operand(s.y, 'y');
  const AxisList axes = type(s.out).axes;
  std::vector<ValueId> results;
  if (s.behind == Shape::residual) {
    const ValueId bias = b.argument(Type{DType::f32, AxisList{axes[axes.size() - 1]}});
    const ValueId before = b.argument(Type{DType::f32, axes});
    results = {
        b.binary(Opcode::add_, b.binary(Opcode::add_, b.contract(x, y, axes), bias), before)};
  } else if (s.behind == Shape::gelu) {
    const ValueId bias = b.argument(Type{DType::f32, AxisList{axes[axes.size() - 1]}});
    const ValueId z = b.binary(Opcode::add_, b.contract(x, y, axes), bias);
    const ValueId cube = b.binary(Opcode::mul_, b.binary(Opcode::mul_, z, z),
                                  b.binary(Opcode::mul_, z, b.constant(0.044715)));
    const ValueId t = b.unary(Opcode::tanh_, b.binary(Opcode::mul_, b.binary(Opcode::add_, z, cube),
                                                      b.constant(0.79788456)));
    results = {z, b.binary(Opcode::mul_, b.binary(Opcode::mul_, z, b.constant(0.5)),
                           b.binary(Opcode::add_, t, b.constant(1)))};
  } else {
    results = {b.contract(x, y, axes)};
  }
  b.finish(results);
  Function f = grouping::in_fewer_operations(out.program, made);
  std::vector<ValueId> buffers = f.body().arguments;
  buffers.insert(buffers.end(), f.body().results.begin(), f.body().results.end());
  for (ValueId v : buffers) {
    BufferLayout layout;
    layout.strides.resize(static_cast<std::size_t>(f.type(v).axes.size()));
    std::int64_t stride = 1;
    for (std::size_t i = layout.strides.size(); i-- > 0;) {
      layout.strides[i] = stride;
      stride *= f.extent(f.type(v).axes[static_cast<int>(i)]);
    }
    out.instance.buffers.push_back(layout);
    out.elements.push_back(stride);
  }
  out.program.functions.push_back(std::move(f));
  out.instance.kernel = FunctionId{0};
  return out;
}

int measure(const std::string& only, const Target& target, bool own_time, bool cold,
            const std::string* halves) {
  std::vector<Shape> shapes;
  const auto add = [&](std::string name, std::string x, std::string y, std::string out,
                       std::vector<std::pair<char, std::int64_t>> extent,
                       Shape::Behind behind = Shape::nothing) {
    shapes.push_back(
        {std::move(name), std::move(x), std::move(y), std::move(out), std::move(extent), behind});
  };
  add("x·w 4096 384 384", "mk", "kn", "mn", {{'m', 4096}, {'k', 384}, {'n', 384}});
  add("x·w 4096 384 1152", "mk", "kn", "mn", {{'m', 4096}, {'k', 384}, {'n', 1152}});
  add("x·w 4096 384 1536", "mk", "kn", "mn", {{'m', 4096}, {'k', 384}, {'n', 1536}});
  add("x·w 4096 1536 384", "mk", "kn", "mn", {{'m', 4096}, {'k', 1536}, {'n', 384}});
  add("gelu(x·w + b) 4096 384 1536", "mk", "kn", "mn", {{'m', 4096}, {'k', 384}, {'n', 1536}},
      Shape::gelu);
  add("x·w + b + r 4096 384 384", "mk", "kn", "mn", {{'m', 4096}, {'k', 384}, {'n', 384}},
      Shape::residual);
  add("x·w + b + r 4096 1536 384", "mk", "kn", "mn", {{'m', 4096}, {'k', 1536}, {'n', 384}},
      Shape::residual);
  add("x·wᵀ 4096 384 1536", "mk", "nk", "mn", {{'m', 4096}, {'k', 384}, {'n', 1536}});
  add("g·wᵀ 4096 1536 384", "mk", "nk", "mn", {{'m', 4096}, {'k', 1536}, {'n', 384}});
  add("xᵀ·g 384 4096 384", "km", "kn", "mn", {{'m', 384}, {'k', 4096}, {'n', 384}});
  add("xᵀ·g 384 4096 1152", "km", "kn", "mn", {{'m', 384}, {'k', 4096}, {'n', 1152}});
  add("xᵀ·g 384 4096 1536", "km", "kn", "mn", {{'m', 384}, {'k', 4096}, {'n', 1536}});
  add("xᵀ·g 1536 4096 384", "km", "kn", "mn", {{'m', 1536}, {'k', 4096}, {'n', 384}});
  add("logits 4096 384 256", "mk", "nk", "mn", {{'m', 4096}, {'k', 384}, {'n', 256}});
  const std::vector<std::pair<char, std::int64_t>> heads{
      {'b', 16}, {'h', 6}, {'t', 256}, {'s', 256}, {'e', 64}};
  add("q·kᵀ  96 × 256 64 256", "bthe", "bshe", "bhts", heads);
  add("p·v   96 × 256 256 64", "bhts", "bshe", "bthe", heads);
  add("pᵀ·do 96 × 256 256 64", "bhts", "bthe", "bshe", heads);
  add("do·vᵀ 96 × 256 64 256", "bthe", "bshe", "bhts", heads);
  add("project heads 4096 384 384", "bthe", "hed", "btd",
      {{'b', 16}, {'t', 256}, {'h', 6}, {'e', 64}, {'d', 384}});
  add("dot of rows 4096 × 384", "bd", "bd", "b", {{'b', 4096}, {'d', 384}});
  add("x·v 4096 384 1", "mk", "k", "m", {{'m', 4096}, {'k', 384}});
  add("v·w 1 384 1536", "k", "kn", "n", {{'k', 384}, {'n', 1536}});
  add("v·wᵀ 1 384 1536", "k", "nk", "n", {{'k', 384}, {'n', 1536}});
  add("gpt2 256 fc", "mk", "kn", "mn", {{'m', 256}, {'k', 768}, {'n', 3072}});
  add("gpt2 256 fc + gelu", "mk", "kn", "mn", {{'m', 256}, {'k', 768}, {'n', 3072}}, Shape::gelu);
  add("gpt2 256 proj", "mk", "kn", "mn", {{'m', 256}, {'k', 3072}, {'n', 768}});
  add("gpt2 256 d_fc", "mk", "nk", "mn", {{'m', 256}, {'k', 3072}, {'n', 768}});
  add("gpt2 256 d_proj", "mk", "nk", "mn", {{'m', 256}, {'k', 768}, {'n', 3072}});
  add("gpt2 256 w fc", "km", "kn", "mn", {{'m', 768}, {'k', 256}, {'n', 3072}});
  add("gpt2 256 w proj", "km", "kn", "mn", {{'m', 3072}, {'k', 256}, {'n', 768}});
  add("gpt2 256 w logits", "km", "kn", "mn", {{'m', 50257}, {'k', 256}, {'n', 768}});
  add("gpt2 256 d_logits", "mk", "kn", "mn", {{'m', 256}, {'k', 50257}, {'n', 768}});
  add("gpt2 fc 1024 768 3072", "mk", "kn", "mn", {{'m', 1024}, {'k', 768}, {'n', 3072}});
  add("gpt2 logits 256 768 50257", "mk", "nk", "mn", {{'m', 256}, {'k', 768}, {'n', 50257}});
  add("encdec 512 fc", "mk", "kn", "mn", {{'m', 512}, {'k', 512}, {'n', 2048}});
  add("encdec 512 proj", "mk", "kn", "mn", {{'m', 512}, {'k', 2048}, {'n', 512}});
  add("encdec 512 d_fc", "mk", "nk", "mn", {{'m', 512}, {'k', 2048}, {'n', 512}});
  add("encdec 512 d_proj", "mk", "nk", "mn", {{'m', 512}, {'k', 512}, {'n', 2048}});
  add("encdec 512 w fc", "km", "kn", "mn", {{'m', 512}, {'k', 512}, {'n', 2048}});
  add("encdec 512 w proj", "km", "kn", "mn", {{'m', 2048}, {'k', 512}, {'n', 512}});
  add("encdec 512 qkv", "mk", "kn", "mn", {{'m', 512}, {'k', 512}, {'n', 1536}});
  add("encdec 512 out", "mk", "kn", "mn", {{'m', 512}, {'k', 512}, {'n', 512}});
  add("encdec 512 w out", "km", "kn", "mn", {{'m', 512}, {'k', 512}, {'n', 512}});
  add("encdec 512 w logits", "km", "kn", "mn", {{'m', 8192}, {'k', 512}, {'n', 512}});
  add("char 768 fc", "mk", "kn", "mn", {{'m', 768}, {'k', 128}, {'n', 512}});
  add("char 768 fc + gelu", "mk", "kn", "mn", {{'m', 768}, {'k', 128}, {'n', 512}}, Shape::gelu);
  add("char 768 proj + b + r", "mk", "kn", "mn", {{'m', 768}, {'k', 512}, {'n', 128}},
      Shape::residual);
  add("char 768 d_fc", "mk", "nk", "mn", {{'m', 768}, {'k', 512}, {'n', 128}});
  add("char 768 d_proj", "mk", "nk", "mn", {{'m', 768}, {'k', 128}, {'n', 512}});
  add("char 768 w fc", "km", "kn", "mn", {{'m', 128}, {'k', 768}, {'n', 512}});
  add("char 768 w proj", "km", "kn", "mn", {{'m', 512}, {'k', 768}, {'n', 128}});
  add("char 768 out", "mk", "kn", "mn", {{'m', 768}, {'k', 128}, {'n', 128}});
  add("char 768 w out", "km", "kn", "mn", {{'m', 128}, {'k', 768}, {'n', 128}});
  add("lstm 16 gates", "mk", "nk", "mn", {{'m', 16}, {'k', 256}, {'n', 1024}});
  add("lstm 2048 w gates", "km", "kn", "mn", {{'m', 1024}, {'k', 2048}, {'n', 256}});
  add("lstm w gates, k as turns", "btn", "tbm", "mn",
      {{'b', 16}, {'t', 128}, {'m', 1024}, {'n', 256}});
  add("lstm 16 d_gates", "mk", "kn", "mn", {{'m', 16}, {'k', 1024}, {'n', 256}});
  // Strides of a power of two, which meet in few sets of a cache.
  add("pow2 x·w 4096 512 512", "mk", "kn", "mn", {{'m', 4096}, {'k', 512}, {'n', 512}});
  add("pow2 x·w 4096 1024 1024", "mk", "kn", "mn", {{'m', 4096}, {'k', 1024}, {'n', 1024}});
  add("pow2 xᵀ·g 512 4096 512", "km", "kn", "mn", {{'m', 512}, {'k', 4096}, {'n', 512}});
  add("pow2 xᵀ·g 1024 4096 1024", "km", "kn", "mn", {{'m', 1024}, {'k', 4096}, {'n', 1024}});
  add("pow2 xᵀ·g 256 4096 1024", "km", "kn", "mn", {{'m', 256}, {'k', 4096}, {'n', 1024}});
  add("square 1000", "mk", "kn", "mn", {{'m', 1000}, {'k', 1000}, {'n', 1000}});
  add("square 65", "mk", "kn", "mn", {{'m', 65}, {'k', 65}, {'n', 65}});
  add("square 16", "mk", "kn", "mn", {{'m', 16}, {'k', 16}, {'n', 16}});

  Pair pair(own_time);
  Result<std::unique_ptr<Jit>> jit = Jit::create(target);
  if (!jit.ok()) return 70;
  const double top[2] = {peak(pair, 1), peak(pair, 2)};
  fmt::print("{:30} {:>9} {:>16} {:>16}\n", target.name, "compile", "1 worker", "2 workers");
  fmt::print("{:30} {:>9} {:>9.1f} GF/s   {:>9.1f} GF/s\n", "multiply-adds in registers", "",
             top[0], top[1]);
  for (const Shape& s : shapes) {
    if (s.name.find(only) == std::string::npos) continue;
    const Built built = build(s, halves);
    const auto start = Clock::now();
    Result<Compiled> compiled = compile(built.program, built.instance, target);
    const double compile_ms = std::chrono::duration<double>(Clock::now() - start).count() * 1e3;
    if (!compiled.ok()) {
      fmt::print(stderr, "{}\n", compiled.failure().diagnostics[0].message);
      return 70;
    }
    Result<KernelFn> fn = (*jit)->add(*compiled);
    if (!fn.ok()) return 70;
    // Cold: as many sets of operands in turn as the last cache does not hold.
    std::int64_t all = 0;
    for (std::int64_t n : built.elements) all += n * 4;
    const std::int64_t sets = cold ? (std::int64_t{192} << 20) / all + 1 : 1;
    std::vector<Memory> buffers;
    std::vector<std::vector<std::byte*>> bases;
    for (std::int64_t set = 0; set < sets; ++set) {
      bases.emplace_back();
      for (std::int64_t n : built.elements) {
        buffers.push_back(memory(n * 4));
        bases.back().push_back(buffers.back().get());
      }
    }
    std::size_t turn = 0;
    const Memory shared = memory(compiled->shared_bytes);
    const Memory local[2] = {memory(compiled->local_bytes), memory(compiled->local_bytes)};
    fmt::print("{:30} {:>6.0f} ms", s.name, compile_ms);
    for (int workers : {1, 2}) {
      if (workers == 2 && !compiled->parallel) continue;
      const double seconds = fastest([&] {
        double sum = 0;
        std::byte* const* now = bases[turn++ % bases.size()].data();
        for (int phase = 0; phase < compiled->phases; ++phase) {
          Taken taken[2];
          sum += pair.run(workers, [&](int w) {
            (*fn)(now, w, workers, phase, shared.get(), local[w].get(), taken);
          });
        }
        return sum;
      });
      const double rate = built.flops / seconds * 1e-9;
      fmt::print(" {:>9.1f} {:>4.0f} %", rate,
                 top[workers - 1] > 0 ? rate / top[workers - 1] * 100 : 0);
    }
    fmt::print("   scratch {} KiB\n", compiled->local_bytes / 1024);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  std::string only;
  bool own_time = false, cold = false, bf16 = false;
  std::string halves;
  Target target = host_target();
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--help") {
      fmt::print(
          "contract_bench [--target=NAME] [--own-time] [--cold] [--bf16=xy] [PART OF A SHAPE'S NAME]\n");
      return 0;
    }
    if (argument.rfind("--target=", 0) == 0) {
      if (!target_by_name(argument.substr(9), target)) return 2;
    } else if (argument.rfind("--bf16=", 0) == 0) {
      bf16 = true;
      halves = argument.substr(7);
    } else if (argument == "--own-time") {
      own_time = true;
    } else if (argument == "--cold") {
      cold = true;
    } else {
      only = argument;
    }
  }
  return measure(only, target, own_time, cold, bf16 ? &halves : nullptr);
}
