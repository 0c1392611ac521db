// Elementwise operations by kind and dtype. One function a dtype class; operations that need more
// than an instruction have a function of their own.
#include "codegen/elementwise.h"

#include <llvm/IR/Intrinsics.h>

#include <cmath>
#include <limits>
#include <optional>

#include "codegen/math.h"

namespace gradc {
namespace {

using llvm::Intrinsic::ID;

struct Operation {
  Emitter& e;
  Opcode code;
  std::span<llvm::Value* const> x;
  DType from, to;
  int lanes;

  llvm::IRBuilder<>& ir() const { return e.ir; }
  llvm::Value* unary(ID id) const { return e.ir.CreateUnaryIntrinsic(id, x[0]); }
  llvm::Value* binary(ID id) const { return e.ir.CreateBinaryIntrinsic(id, x[0], x[1]); }
  llvm::Value* number(double c) const { return e.constant(from, c, lanes); }
  llvm::Value* integer(std::int64_t c) const { return e.integer(from, c, lanes); }
};

[[noreturn]] void no_rule(Opcode code) {
  internal_error(std::string("codegen has no elementwise rule for ") +
                 std::string(facts(code).name));
}

// ---- reals

// One call of libm a lane. Only f64 takes this way: its operations stand in scalar kernels (the
// optimizer's bias corrections, schedules), never in hot ones.
llvm::Value* call_libm(const Operation& o, const char* function) {
  llvm::Type* t = o.e.type(DType::f64);
  const std::vector<llvm::Type*> parameters(o.x.size(), t);
  const llvm::FunctionCallee callee =
      o.e.module->getOrInsertFunction(function, llvm::FunctionType::get(t, parameters, false));
  const auto call = [&](int lane) {
    std::vector<llvm::Value*> arguments;
    for (llvm::Value* x : o.x)
      arguments.push_back(
          o.lanes == 1 ? x : o.ir().CreateExtractElement(x, static_cast<std::uint64_t>(lane)));
    return o.ir().CreateCall(callee, arguments);
  };
  if (o.lanes == 1) return call(0);
  llvm::Value* out = llvm::PoisonValue::get(o.e.type(DType::f64, o.lanes));
  for (int k = 0; k < o.lanes; ++k)
    out = o.ir().CreateInsertElement(out, call(k), static_cast<std::uint64_t>(k));
  return out;
}

llvm::Value* sigmoid_by_libm(Operation o) {
  llvm::Value* minus = o.ir().CreateFNeg(o.x[0]);
  o.x = std::span(&minus, 1);
  return o.ir().CreateFDiv(o.number(1), o.ir().CreateFAdd(o.number(1), call_libm(o, "exp")));
}

llvm::Value* transcendental(const Operation& o) {
  const bool wide = o.from == DType::f64;
  switch (o.code) {
    case Opcode::exp_:
      return wide ? call_libm(o, "exp") : emit_exp(o.e, o.x[0]);
    case Opcode::log_:
      return wide ? call_libm(o, "log") : emit_log(o.e, o.x[0]);
    case Opcode::sin_:
      return wide ? call_libm(o, "sin") : emit_sin(o.e, o.x[0]);
    case Opcode::cos_:
      return wide ? call_libm(o, "cos") : emit_cos(o.e, o.x[0]);
    case Opcode::tanh_:
      return wide ? call_libm(o, "tanh") : emit_tanh(o.e, o.x[0]);
    case Opcode::sigmoid_:
      return wide ? sigmoid_by_libm(o) : emit_sigmoid(o.e, o.x[0]);
    case Opcode::erf_:
      return wide ? call_libm(o, "erf") : emit_erf(o.e, o.x[0]);
    case Opcode::pow_:
      return wide ? call_libm(o, "pow") : emit_pow(o.e, o.x[0], o.x[1]);
    default:
      no_rule(o.code);
  }
}

llvm::Value* on_reals(const Operation& o) {
  auto& ir = o.ir();
  switch (o.code) {
    case Opcode::neg_:
      return ir.CreateFNeg(o.x[0]);
    case Opcode::abs_:
      return o.unary(llvm::Intrinsic::fabs);
    case Opcode::floor_:
      return o.unary(llvm::Intrinsic::floor);
    case Opcode::sqrt_:
      return o.unary(llvm::Intrinsic::sqrt);
    case Opcode::rsqrt_:
      return ir.CreateFDiv(o.number(1), o.unary(llvm::Intrinsic::sqrt));
    case Opcode::add_:
      return ir.CreateFAdd(o.x[0], o.x[1]);
    case Opcode::sub_:
      return ir.CreateFSub(o.x[0], o.x[1]);
    case Opcode::mul_:
      return ir.CreateFMul(o.x[0], o.x[1]);
    case Opcode::div_:
      return ir.CreateFDiv(o.x[0], o.x[1]);
    case Opcode::max_:
      return o.binary(llvm::Intrinsic::maximum);
    case Opcode::min_:
      return o.binary(llvm::Intrinsic::minimum);
    case Opcode::lt_:
      return ir.CreateFCmpOLT(o.x[0], o.x[1]);
    case Opcode::le_:
      return ir.CreateFCmpOLE(o.x[0], o.x[1]);
    case Opcode::eq_:
      return ir.CreateFCmpOEQ(o.x[0], o.x[1]);
    case Opcode::ne_:
      return ir.CreateFCmpUNE(o.x[0], o.x[1]);
    default:
      return transcendental(o);
  }
}

// ---- integers

// The value of every lane where all are one constant.
std::optional<std::int64_t> known(llvm::Value* x) {
  auto* c = llvm::dyn_cast<llvm::Constant>(x);
  if (c == nullptr) return std::nullopt;
  if (c->getType()->isVectorTy()) c = c->getSplatValue();
  auto* number = llvm::dyn_cast_or_null<llvm::ConstantInt>(c);
  return number == nullptr ? std::nullopt : std::optional(number->getSExtValue());
}

struct Quotient {
  llvm::Value *floor, *rest;
};

// By a constant: shifts, or the multiplication that LLVM makes of it.
Quotient divide_by(const Operation& o, std::int64_t b) {
  auto& ir = o.ir();
  llvm::Value* a = o.x[0];
  if (b == 0) return {o.integer(0), o.integer(0)};
  if (b == -1) return {ir.CreateNeg(a), o.integer(0)};
  if (b > 0 && (b & (b - 1)) == 0) {
    const int shift = __builtin_ctzll(static_cast<std::uint64_t>(b));
    return {ir.CreateAShr(a, o.integer(shift)), ir.CreateAnd(a, o.integer(b - 1))};
  }
  llvm::Value* q = ir.CreateSDiv(a, o.integer(b));
  llvm::Value* r = ir.CreateSub(a, ir.CreateMul(q, o.integer(b)));
  llvm::Value* beyond =
      b > 0 ? ir.CreateICmpSLT(r, o.integer(0)) : ir.CreateICmpSGT(r, o.integer(0));
  return {ir.CreateSub(q, ir.CreateZExt(beyond, q->getType())),
          ir.CreateSelect(beyond, ir.CreateAdd(r, o.integer(b)), r)};
}

// By anything. i32 goes through f64: with |a|, |b| ≤ 2³¹ a quotient that is no integer lies 2⁻³¹ or
// more from the next one, relative to it 2⁻⁶², but never closer than the rounding moves it:
// |a/b|·2⁻⁵³ < 1/|b|.
Quotient divide(const Operation& o) {
  if (const auto b = known(o.x[1])) return divide_by(o, *b);
  auto& ir = o.ir();
  llvm::Value *a = o.x[0], *b = o.x[1];
  llvm::Value* zero = ir.CreateICmpEQ(b, o.integer(0));
  llvm::Value* minus = ir.CreateICmpEQ(b, o.integer(-1));  // the least integer has no opposite
  llvm::Value* safe = ir.CreateSelect(ir.CreateOr(zero, minus), o.integer(1), b);
  llvm::Value* q = nullptr;
  if (o.from == DType::i32) {
    llvm::Type* wide = o.e.type(DType::f64, o.lanes);
    llvm::Value* ratio = ir.CreateFDiv(ir.CreateSIToFP(a, wide), ir.CreateSIToFP(safe, wide));
    q = ir.CreateFPToSI(ir.CreateUnaryIntrinsic(llvm::Intrinsic::floor, ratio), a->getType());
  } else {
    q = ir.CreateSDiv(a, safe);
    llvm::Value* r = ir.CreateSub(a, ir.CreateMul(q, safe));
    llvm::Value* beyond = ir.CreateAnd(ir.CreateICmpNE(r, o.integer(0)),
                                       ir.CreateICmpSLT(ir.CreateXor(r, safe), o.integer(0)));
    q = ir.CreateSub(q, ir.CreateZExt(beyond, q->getType()));
  }
  llvm::Value* r = ir.CreateSub(a, ir.CreateMul(q, safe));
  q = ir.CreateSelect(zero, o.integer(0), ir.CreateSelect(minus, ir.CreateNeg(a), q));
  r = ir.CreateSelect(ir.CreateOr(zero, minus), o.integer(0), r);
  return {q, r};
}

llvm::Value* on_integers(const Operation& o) {
  auto& ir = o.ir();
  switch (o.code) {
    case Opcode::neg_:
      return ir.CreateNeg(o.x[0]);
    case Opcode::abs_:
      return ir.CreateBinaryIntrinsic(llvm::Intrinsic::abs, o.x[0], ir.getFalse());
    case Opcode::add_:
      return ir.CreateAdd(o.x[0], o.x[1]);
    case Opcode::sub_:
      return ir.CreateSub(o.x[0], o.x[1]);
    case Opcode::mul_:
      return ir.CreateMul(o.x[0], o.x[1]);
    case Opcode::max_:
      return o.binary(llvm::Intrinsic::smax);
    case Opcode::min_:
      return o.binary(llvm::Intrinsic::smin);
    case Opcode::floordiv_:
      return divide(o).floor;
    case Opcode::mod_:
      return divide(o).rest;
    case Opcode::lt_:
      return ir.CreateICmpSLT(o.x[0], o.x[1]);
    case Opcode::le_:
      return ir.CreateICmpSLE(o.x[0], o.x[1]);
    case Opcode::eq_:
      return ir.CreateICmpEQ(o.x[0], o.x[1]);
    case Opcode::ne_:
      return ir.CreateICmpNE(o.x[0], o.x[1]);
    default:
      no_rule(o.code);
  }
}

llvm::Value* on_bools(const Operation& o) {
  auto& ir = o.ir();
  switch (o.code) {
    case Opcode::not_:
      return ir.CreateNot(o.x[0]);
    case Opcode::and_:
      return ir.CreateAnd(o.x[0], o.x[1]);
    case Opcode::or_:
      return ir.CreateOr(o.x[0], o.x[1]);
    case Opcode::eq_:
      return ir.CreateICmpEQ(o.x[0], o.x[1]);
    case Opcode::ne_:
      return ir.CreateXor(o.x[0], o.x[1]);
    default:
      no_rule(o.code);
  }
}

// ---- casts

llvm::Value* cast(const Operation& o) {
  auto& ir = o.ir();
  llvm::Value* x = o.x[0];
  llvm::Type* t = o.e.type(o.to, o.lanes);
  if (o.from == o.to) return x;
  if (is_real(o.from)) {
    if (o.to == DType::bf16) return round_to_bf16(o.e, x, o.lanes);
    if (o.from == DType::bf16 && o.to == DType::f32) return x;
    if (is_real(o.to)) return o.to == DType::f64 ? ir.CreateFPExt(x, t) : ir.CreateFPTrunc(x, t);
    if (o.to == DType::boolean) return ir.CreateFCmpUNE(x, o.number(0));
    return ir.CreateIntrinsic(llvm::Intrinsic::fptosi_sat, {t, x->getType()},
                              {x});  // NaN 0, beyond: the nearest end
  }
  if (o.from == DType::boolean) return is_real(o.to) ? ir.CreateUIToFP(x, t) : ir.CreateZExt(x, t);
  if (is_real(o.to)) return ir.CreateSIToFP(x, t);
  if (o.to == DType::boolean) return ir.CreateICmpNE(x, o.integer(0));
  return ir.CreateSExtOrTrunc(x, t);
}

}  // namespace

// AVX-512's instruction takes what is below 2⁻¹²⁶ as 0, as products of bf16 do, too. In integers:
// half a unit in the last place is added, less a bit where that is even; a NaN stays one whatever
// its bits.
llvm::Value* round_to_bf16(Emitter& e, llvm::Value* x, int lanes) {
  auto& ir = e.ir;
  llvm::Type* const wide = e.type(DType::i32, lanes);
  const auto integer = [&](std::int64_t i) { return e.integer(DType::i32, i, lanes); };
  if (e.target.bf16_dot) {
    const auto like = [&](llvm::Type* scalar) -> llvm::Type* {
      if (lanes == 1) return scalar;
      return llvm::FixedVectorType::get(scalar, static_cast<unsigned>(lanes));
    };
    llvm::Value* half =
        ir.CreateBitCast(ir.CreateFPTrunc(x, like(ir.getBFloatTy())), like(ir.getInt16Ty()));
    return ir.CreateBitCast(ir.CreateShl(ir.CreateZExt(half, wide), integer(16)), x->getType());
  }
  llvm::Value* bits = ir.CreateBitCast(x, wide);
  llvm::Value* odd = ir.CreateAnd(ir.CreateLShr(bits, integer(16)), integer(1));
  llvm::Value* up = ir.CreateAdd(bits, ir.CreateAdd(odd, integer(0x7fff)));
  llvm::Value* rounded =
      ir.CreateSelect(ir.CreateFCmpUNO(x, x), ir.CreateOr(bits, integer(0x400000)), up);
  return ir.CreateBitCast(ir.CreateAnd(rounded, integer(~std::int64_t{0xffff})), x->getType());
}

llvm::Value* emit_elementwise(Emitter& e, Opcode code, std::span<llvm::Value* const> operands,
                              DType from, DType to, int lanes) {
  const Operation o{e, code, operands, from, to, lanes};
  switch (code) {
    case Opcode::stop_:
      return operands[0];
    case Opcode::cast_:
      return cast(o);
    case Opcode::select_:
      return e.ir.CreateSelect(operands[0], operands[1], operands[2]);
    default:
      break;
  }
  if (from == DType::boolean) return on_bools(o);
  return is_real(from) ? on_reals(o) : on_integers(o);
}

}  // namespace gradc
