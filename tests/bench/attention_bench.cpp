// Owns the measurement of attention kernels: GFLOP/s on the tiles that are computed, forward and
// gradient, beside what the machine's multiply-add units give in the same run. q, k and u are
// thirds of one buffer, as a projection leaves them. With --own-time workers are timed by what they
// compute themselves. Built on demand: ninja attention_bench.
#include <fmt/format.h>

#include <cstdio>
#include <string>
#include <vector>

#include "bench/measure.h"
#include "codegen/codegen.h"
#include "ir/text.h"
#include "runtime/jit.h"

namespace {

using namespace gradc;
using namespace gradc::bench;

struct Shape {
  std::string name;
  int b, h, t, e;
  enum Mask { none, causal, window } mask = causal;
};

std::string text_of(const Shape& s, bool gradient) {
  const std::string first = fmt::format("f32[b={} t={} h={} e={}]", s.b, s.t, s.h, s.e);
  std::string text = gradient ? "kernel @k attention_grad" : "kernel @k attention";
  text += fmt::format("(%q: {}, %k: f32[b s={} h e], %u: f32[b s h f={}]", first, s.t, s.e);
  text += gradient ? ", %lse: f32[b t h], %delta: f32[b t h], %g: f32[b t h f]) -> (dq: f32[b t h "
                     "e], dk: f32[b s h e], du: f32[b s h f]) {\n"
                   : ") -> (out: f32[b t h f], lse: f32[b t h]) {\n";
  text += "  %score = contract %q, %k -> f32[b t h s]\n  %y = mul %score, 0.125 -> f32[b t h s]\n";
  text += "  %i = position t -> i32[t]\n  %j = position s -> i32[s]\n";
  text += s.mask == Shape::none ? "  %see = lt %j, 2147483647 -> bool[s]\n"
          : s.mask == Shape::causal
              ? "  %see = le %j, %i -> bool[s t]\n"
              : "  %past = le %j, %i -> bool[s t]\n  %d = sub %i, %j -> i32[t s]\n"
                "  %near = lt %d, 256 -> bool[t s]\n"
                "  %see = and %past, %near -> bool[s t]\n";
  text += "  %x = select %see, %y, -inf -> f32[b t h s]\n";
  if (!gradient)
    return text +
           "  %max = amax %x over s -> f32[b t h]\n  %none = eq %max, -inf -> bool[b t h]\n"
           "  %finite = select %none, 0.0, %max -> f32[b t h]\n"
           "  %shift = stop %finite -> f32[b t h]\n  %c = sub %x, %shift -> f32[b t h s]\n"
           "  %exp = exp %c -> f32[b t h s]\n  %sum = sum %exp over s -> f32[b t h]\n"
           "  %zero = eq %sum, 0.0 -> bool[b t h]\n"
           "  %norm = select %zero, 1.0, %sum -> f32[b t h]\n"
           "  %weight = div %exp, %norm -> f32[b t h s]\n"
           "  %out = contract %weight, %u -> f32[b t h f]\n  %log = log %norm -> f32[b t h]\n"
           "  %lse = add %shift, %log -> f32[b t h]\n  return %out, %lse\n}\n";
  return text +
         "  %c = sub %x, %lse -> f32[b t h s]\n  %weight = exp %c -> f32[b t h s]\n"
         "  %dw = contract %g, %u -> f32[b t h s]\n  %dc = sub %dw, %delta -> f32[b t h s]\n"
         "  %dx = mul %weight, %dc -> f32[b t h s]\n"
         "  %dy = select %see, %dx, 0.0 -> f32[b t h s]\n"
         "  %ds = mul %dy, 0.125 -> f32[b t h s]\n  %dq = contract %ds, %k -> f32[b t h e]\n"
         "  %dk = contract %ds, %q -> f32[b s h e]\n  %du = contract %weight, %g -> f32[b s h f]\n"
         "  return %dq, %dk, %du\n}\n";
}

int measure(const std::string& only, const Target& target, bool own_time) {
  const Shape shapes[] = {
      {"gpt2 4 × 12 × 1024 × 64 causal", 4, 12, 1024, 64},
      {"gpt2 4 × 12 × 1024 × 64 full", 4, 12, 1024, 64, Shape::none},
      {"4 × 12 × 64 × 64 causal", 4, 12, 64, 64},
      {"16 × 6 × 256 × 64 causal", 16, 6, 256, 64},
      {"12 × 4 × 64 × 32 causal", 12, 4, 64, 32},
      {"1 × 8 × 1024 × 128 causal", 1, 8, 1024, 128},
      {"1 × 8 × 1024 × 80 causal", 1, 8, 1024, 80},
      {"4 × 12 × 1024 × 16 causal", 4, 12, 1024, 16},
      {"1 × 2 × 4096 × 64 causal", 1, 2, 4096, 64},
      {"1 × 2 × 4096 × 64 window 256", 1, 2, 4096, 64, Shape::window},
      {"4 × 12 × 1000 × 64 causal", 4, 12, 1000, 64},
  };
  Pair pair(own_time);
  Result<std::unique_ptr<Jit>> jit = Jit::create(target);
  if (!jit.ok()) return 70;
  const double top[2] = {peak(pair, 1), peak(pair, 2)};
  fmt::print("{:42} {:>9} {:>22} {:>22}\n", target.name, "compile", "1 worker", "2 workers");
  fmt::print("{:42} {:>9} {:>9.1f} GF/s {:>16.1f} GF/s\n", "multiply-adds in registers", "", top[0],
             top[1]);
  for (const Shape& s : shapes)
    for (const bool gradient : {false, true}) {
      const std::string name = s.name + (gradient ? " gradient" : "");
      if (name.find(only) == std::string::npos) continue;
      Sources sources;
      Result<Program> program = parse_ir(sources, sources.add("k.ir", text_of(s, gradient)));
      if (!program.ok()) return 70;
      const Function& f = program->functions[0];
      KernelInstance instance{FunctionId{0}, {}};
      std::vector<Memory> buffers;
      std::vector<std::byte*> bases;
      std::vector<ValueId> values = f.body().arguments;
      values.insert(values.end(), f.body().results.begin(), f.body().results.end());
      for (std::size_t v = 0; v < values.size(); ++v) {
        const Type& type = f.type(values[v]);
        std::int64_t stride = 1;
        BufferLayout lies;
        lies.strides.resize(static_cast<std::size_t>(type.axes.size()));
        const std::int64_t apart = v < 3 ? 3 : 1;  // q, k, u lie side by side
        for (std::size_t i = lies.strides.size(); i-- > 0;) {
          const std::int64_t outer = i < 2 ? apart : 1;
          lies.strides[i] = stride * outer;
          stride *= f.extent(type.axes[static_cast<int>(i)]);
        }
        instance.buffers.push_back(lies);
        if (v == 0 || v >= 3) {
          buffers.push_back(memory(stride * apart * 4));
          auto* x = reinterpret_cast<float*>(buffers.back().get());
          for (std::int64_t i = 0; i < stride * apart; ++i)
            x[i] = static_cast<float>(i * 2654435761u % 1000) * 0.002f - 1;
          bases.push_back(buffers.back().get());
        } else {
          bases.push_back(bases[0] + static_cast<std::int64_t>(v) * s.h * s.e * 4);
        }
      }
      const auto start = Clock::now();
      Result<Compiled> compiled = compile(*program, instance, target);
      const double compile_ms = std::chrono::duration<double>(Clock::now() - start).count() * 1e3;
      if (!compiled.ok()) {
        fmt::print(stderr, "{}\n", compiled.failure().diagnostics[0].message);
        return 70;
      }
      Result<KernelFn> fn = (*jit)->add(*compiled);
      if (!fn.ok()) return 70;
      const Memory shared = memory(compiled->shared_bytes);
      const Memory local[2] = {memory(compiled->local_bytes), memory(compiled->local_bytes)};
      fmt::print("{:42} {:>6.0f} ms", name, compile_ms);
      std::int64_t tiles = 0, all = 0;
      for (int workers : {1, 2}) {
        if (workers == 2 && !compiled->parallel) continue;
        const double seconds = fastest([&] {
          double sum = 0;
          for (int phase = 0; phase < compiled->phases; ++phase) {
            Taken taken[2];
            sum += pair.run(workers, [&](int w) {
              (*fn)(bases.data(), w, workers, phase, shared.get(), local[w].get(), taken);
            });
          }
          return sum;
        });
        tiles = all = 0;
        for (int w = 0; w < workers; ++w) {
          const auto* counts =
              reinterpret_cast<const std::int64_t*>(local[w].get() + compiled->tiles_at);
          tiles += counts[0];
          all += counts[1];
        }
        // Two products forward, five in the gradient; a tile's part of all scores.
        const double scores =
            1.0 * s.b * s.h * s.t * s.t * static_cast<double>(tiles) / static_cast<double>(all);
        const double rate = scores * s.e * 2 * (gradient ? 5 : 2) / seconds * 1e-9;
        fmt::print(" {:>8.3f} ms {:>6.1f} {:>3.0f} %", seconds * 1e3, rate,
                   top[workers - 1] > 0 ? rate / top[workers - 1] * 100 : 0);
      }
      fmt::print("   {} of {} tiles, scratch {} + {} KiB\n", tiles, all,
                 compiled->local_bytes / 1024, compiled->shared_bytes / 1024);
    }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Target target = host_target();
  std::string only;
  bool own_time = false;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--help") {
      fmt::print("attention_bench [--target=NAME] [--own-time] [PART OF A SHAPE'S NAME]\n");
      return 0;
    }
    if (argument.rfind("--target=", 0) == 0) {
      if (!target_by_name(argument.substr(9), target)) return 2;
    } else if (argument == "--own-time") {
      own_time = true;
    } else {
      only = argument;
    }
  }
  return measure(only, target, own_time);
}
