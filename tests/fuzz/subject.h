// Owns what is asked of one model: that every pass keeps its values, in the interpreter, and that
// the compiled step gives them too, by the default passes and by a random choice of them.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>

#include "ir/program.h"
#include "runtime/step.h"

namespace gradc::fuzz {

enum class Verdict : std::uint8_t { right, refused, differs, failed, not_finite };

struct Outcome {
  Verdict verdict = Verdict::right;
  std::string where;      // the pass, or "compiled", or "compiled without …"
  std::string message;    // the value and both sides, or what was refused
  bool gradient = false;  // some element is not 0
  bool compiled = false, compilable = true;
  int unstable = 0;                        // differences that rounding explains
  std::array<bool, opcode_count> ops{};    // that some stage has
  std::array<bool, claim_count> claims{};  // that some stage has as `fused`
  bool ok() const { return verdict == Verdict::right; }
  // What a smaller program must share to fail in the same way.
  std::string signature() const;
};

struct Compilers;  // kernels and workers, shared by all programs of a process

struct Question {
  std::uint64_t seed = 0;
  bool compiled = false;       // also compiled
  bool chosen = false;         // again, by a random choice of passes
  bool wide = false;           // reals of 64 bits (interpreted)
  bool bf16 = false;           // the operands of products rounded, however few elements they have
  int fault = 0;               // inject this one (faults.h) where it can be
  double* injected = nullptr;  // then: 0 not, 1 injected, 2 found
};

class Examiner {
 public:
  Examiner();
  ~Examiner();
  Outcome examine(const std::string& text, const Question& question);

 private:
  std::unique_ptr<Compilers> compilers_;  // made when first asked for
};

}  // namespace gradc::fuzz
