// The formulas of fused.def, read as forms and as operations.
#include "passes/fused_forms.h"

#include <map>

namespace gradc {
namespace {

namespace words {
using namespace term;
constexpr RuleTerm eps = RuleTerm::variable('e'), a = RuleTerm::variable('a'),
                   b = RuleTerm::variable('b'), target = RuleTerm::variable('t'),
                   share = RuleTerm::variable('n');  // 1 / how many a mean is of
constexpr RuleTerm sum(const RuleTerm& e) { return RuleTerm::apply(Opcode::sum_, {e}); }
constexpr RuleTerm mean(const RuleTerm& e) { return sum(e) * share; }
constexpr RuleTerm at(const RuleTerm& e, const RuleTerm& i) {
  return RuleTerm::apply(Opcode::gather_, {e, i});
}

constexpr Spelling table[] = {
#define CLAIM(...)
#define SPELLING(claim, formula) {Claim::claim, false, formula},
#define ALSO(claim, formula) {Claim::claim, true, formula},
#include "passes/fused.def"
#undef CLAIM
#undef SPELLING
#undef ALSO
};
}  // namespace words

constexpr ClaimRow claims[] = {
#define CLAIM(claim, what, instead) {Claim::claim, what, instead},
#define SPELLING(...)
#define ALSO(...)
#include "passes/fused.def"
#undef CLAIM
#undef SPELLING
#undef ALSO
};

double number_of(char name, const FormWords& w, const Function& f) {
  switch (name) {
    case 'e':
      return w.eps;
    case 'a':
      return w.a;
    case 'b':
      return w.b;
    default: {
      double n = 1;
      for (AxisId x : w.over) n *= static_cast<double>(f.extent(x));
      return 1 / n;
    }
  }
}

}  // namespace

std::span<const Spelling> spellings() { return words::table; }
std::span<const ClaimRow> claim_rows() { return claims; }

const Spelling& definition(Claim claim) {
  for (const Spelling& s : words::table)
    if (s.claim == claim) return s;
  return words::table[0];
}

canonical::TermId form_of(const RuleTerm& formula, const FormWords& w, canonical::Algebra& in,
                          const Function& f, DType dtype) {
  std::array<canonical::TermId, RuleTerm::capacity> t;
  for (std::size_t i = 0; i < static_cast<std::size_t>(formula.count); ++i) {
    const TermNode& n = formula.nodes[i];
    if (n.kind == TermNode::constant) {
      t[i] = in.number(n.value);
      continue;
    }
    if (n.kind == TermNode::variable) {
      t[i] = n.name == 'x' ? w.x : n.name == 't' ? w.target : in.number(number_of(n.name, w, f));
      continue;
    }
    const auto operand = [&](std::size_t k) { return t[static_cast<std::size_t>(n.operands[k])]; };
    switch (n.code) {
      case Opcode::add_:
        t[i] = in.add(operand(0), operand(1));
        break;
      case Opcode::sub_:
        t[i] = in.sub(operand(0), operand(1));
        break;
      case Opcode::mul_:
        t[i] = in.mul(operand(0), operand(1));
        break;
      case Opcode::div_:
        t[i] = in.div(operand(0), operand(1));
        break;
      case Opcode::neg_:
        t[i] = in.scale(operand(0), -1);
        break;
      case Opcode::exp_:
        t[i] = in.exp(operand(0));
        break;
      case Opcode::log_:
        t[i] = in.log(operand(0));
        break;
      case Opcode::rsqrt_:
        t[i] = in.power(operand(0), -0.5);
        break;
      case Opcode::sum_:
        t[i] = in.sum_over(operand(0), w.over, dtype);
        break;
      case Opcode::gather_: {
        AxisList axes = in.axes(operand(0)).without(w.over[0]);
        axes = unite(axes, in.axes(operand(1)));
        t[i] = in.operation(Opcode::gather_, {.from = w.over[0]}, dtype, {operand(0), operand(1)},
                            axes);
        break;
      }
      default:
        t[i] = in.odd(n.code, operand(0), dtype);
        break;  // tanh, erf
    }
  }
  return t[static_cast<std::size_t>(formula.count - 1)];
}

ValueId build_formula(const RuleTerm& formula, const FormWords& w, ValueId x, ValueId target,
                      Builder& to) {
  const DType dtype = to.type(x).dtype;
  std::map<std::vector<std::uint32_t>, ValueId> made;
  std::map<double, ValueId> numbers;
  std::array<ValueId, RuleTerm::capacity> v;
  const auto number = [&](double k) {
    ValueId& known = numbers[k];
    if (!known.valid()) known = to.constant(k, dtype);
    return known;
  };
  for (std::size_t i = 0; i < static_cast<std::size_t>(formula.count); ++i) {
    const TermNode& n = formula.nodes[i];
    if (n.kind == TermNode::constant) {
      v[i] = number(n.value);
      continue;
    }
    if (n.kind == TermNode::variable) {
      v[i] = n.name == 'x'   ? x
             : n.name == 't' ? target
                             : number(number_of(n.name, w, to.function()));
      continue;
    }
    std::vector<ValueId> operands;
    std::vector<std::uint32_t> key{static_cast<std::uint32_t>(n.code)};
    for (std::int8_t k : n.operands)
      if (k >= 0) {
        operands.push_back(v[static_cast<std::size_t>(k)]);
        key.push_back(operands.back().index);
      }
    ValueId& known = made[key];
    if (!known.valid()) {
      Attr attr;
      if (n.code == Opcode::sum_) attr.axes.assign(w.over.begin(), w.over.end());
      if (n.code == Opcode::gather_) attr.from = w.over[0];
      known = to.add(n.code, operands, attr);
    }
    v[i] = known;
  }
  return v[static_cast<std::size_t>(formula.count - 1)];
}

}  // namespace gradc
