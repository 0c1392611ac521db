// The derivative table and the proof that it is complete.
#include "passes/derivatives.h"

namespace gradc {
namespace {

// ---- the language of the rows
namespace words {

constexpr Formula leaf(Formula::What what) {
  Formula f;
  f.nodes[0] = {.what = what};
  f.size = 1;
  return f;
}
constexpr Formula g = leaf(Formula::What::g), r = leaf(Formula::What::r);
constexpr Formula a = leaf(Formula::What::a), b = leaf(Formula::What::b),
                  c = leaf(Formula::What::c);
constexpr Formula stop;
constexpr double two_over_root_pi = 1.1283791670955126;

template <class... Rest>
constexpr Formula node(Formula::What what, Opcode code, const Rest&... parts) {
  Formula out;
  Formula::Node root{.what = what, .code = code};
  const auto append = [&](const Formula& part) {
    const int base = out.size;
    for (int i = 0; i < part.size; ++i) {
      Formula::Node n = part.nodes[static_cast<std::size_t>(i)];
      for (std::int8_t& k : n.of)
        if (k >= 0) k = static_cast<std::int8_t>(k + base);
      out.nodes[static_cast<std::size_t>(out.size++)] = n;
    }
    root.of[static_cast<std::size_t>(root.count++)] = static_cast<std::int8_t>(out.size - 1);
  };
  (append(parts), ...);
  out.nodes[static_cast<std::size_t>(out.size++)] = root;
  return out;
}
template <class... Rest>
constexpr Formula apply(Opcode code, const Rest&... parts) {
  return node(Formula::What::apply, code, parts...);
}

using F = const Formula&;
constexpr Formula operator-(F x) { return apply(Opcode::neg_, x); }
[[maybe_unused]] constexpr Formula operator+(F x, F y) { return apply(Opcode::add_, x, y); }
constexpr Formula operator-(F x, F y) { return apply(Opcode::sub_, x, y); }
constexpr Formula operator*(F x, F y) { return apply(Opcode::mul_, x, y); }
constexpr Formula operator/(F x, F y) { return apply(Opcode::div_, x, y); }
constexpr Formula operator<(F x, F y) { return apply(Opcode::lt_, x, y); }
constexpr Formula operator>(F x, F y) { return apply(Opcode::lt_, y, x); }
constexpr Formula operator>=(F x, F y) { return apply(Opcode::le_, y, x); }
constexpr Formula operator==(F x, F y) { return apply(Opcode::eq_, x, y); }
constexpr Formula operator&&(F x, F y) { return apply(Opcode::and_, x, y); }
constexpr Formula select(F x, F y, F z) { return apply(Opcode::select_, x, y, z); }
constexpr Formula exp(F x) { return apply(Opcode::exp_, x); }
constexpr Formula log(F x) { return apply(Opcode::log_, x); }
constexpr Formula sin(F x) { return apply(Opcode::sin_, x); }
constexpr Formula cos(F x) { return apply(Opcode::cos_, x); }
constexpr Formula pow(F x, F y) { return apply(Opcode::pow_, x, y); }
constexpr Formula real(F x) { return apply(Opcode::cast_, x); }
constexpr Formula sum(F x) { return apply(Opcode::sum_, x); }
constexpr Formula contract(F x, F y) { return apply(Opcode::contract_, x, y); }
constexpr Formula relabel(F x) { return apply(Opcode::relabel_, x); }
constexpr Formula place(F x) { return apply(Opcode::place_, x); }
constexpr Formula pad(F x) { return apply(Opcode::pad_, x); }
constexpr Formula pick(F x) { return apply(Opcode::pick_, x); }
constexpr Formula slice(F x) { return apply(Opcode::slice_, x); }
constexpr Formula slice(F x, F at) { return apply(Opcode::slice_, x, at); }
constexpr Formula merge(F x) { return apply(Opcode::merge_, x); }
constexpr Formula split(F x) { return apply(Opcode::split_, x); }
constexpr Formula shift(F x) { return apply(Opcode::shift_, x); }
constexpr Formula gather(F x, F i) { return apply(Opcode::gather_, x, i); }
constexpr Formula scatter(F x, F i) { return apply(Opcode::scatter_, x, i); }
constexpr Formula update(F x, F y, F at) { return apply(Opcode::update_, x, y, at); }
constexpr Formula bound(F x, F n) { return apply(Opcode::bound_, x, n); }
constexpr Formula zeros(F x) { return node(Formula::What::zeros, Opcode::constant_, x); }
constexpr Formula only(F x, F condition) {
  return node(Formula::What::only, Opcode::select_, x, condition);
}
constexpr Formula unless(F x, F condition) {
  return node(Formula::What::unless, Opcode::select_, x, condition);
}

}  // namespace words

template <class... Formulas>
constexpr Derivative formulas(Opcode code, const Formulas&... of) {
  Derivative d{.code = code, .kind = Derivative::Kind::formula};
  ((d.of[static_cast<std::size_t>(d.count++)] = of), ...);
  return d;
}

constexpr auto listed() {
  using namespace words;
  return std::array{
#define FORMULA(name, ...) formulas(Opcode::name##_, __VA_ARGS__),
#define NONE(name) Derivative{.code = Opcode::name##_, .kind = Derivative::Kind::none},
#define WALKER(name) Derivative{.code = Opcode::name##_, .kind = Derivative::Kind::walker},
#include "passes/derivatives.def"
#undef FORMULA
#undef NONE
#undef WALKER
  };
}

// ---- proofs
constexpr int many = -1;
constexpr int most_operands[] = {
#define OP(name, least, most, ...) most,
#include "ir/ops.def"
#undef OP
};
constexpr int rows_of(Opcode code) {
  int n = 0;
  for (const Derivative& d : listed()) n += d.code == code;
  return n;
}
// The enumerator is in the error's text: the operation that lacks its row.
template <Opcode operation>
constexpr bool has_one_row() {
  static_assert(rows_of(operation) == 1,
                "an operation of ir/ops.def needs exactly one row in passes/derivatives.def");
  return true;
}
#define OP(name, ...) static_assert(has_one_row<Opcode::name##_>());
#include "ir/ops.def"
#undef OP

constexpr std::array<Derivative, opcode_count> by_opcode() {
  std::array<Derivative, opcode_count> out{};
  for (const Derivative& d : listed()) out[static_cast<std::size_t>(d.code)] = d;
  return out;
}
constexpr std::array<Derivative, opcode_count> table = by_opcode();

constexpr bool a_formula_for_each_operand() {
  for (const Derivative& d : table)
    if (d.kind == Derivative::Kind::formula && d.count != most_operands[static_cast<int>(d.code)])
      return false;
  return true;
}
static_assert(a_formula_for_each_operand(),
              "a row of passes/derivatives.def has too many or too few formulas");

constexpr bool exclusions_are_outermost() {
  for (const Derivative& d : table)
    for (const Formula& f : d.of)
      for (int i = 0; i + 1 < f.size; ++i)
        if (const auto what = f.nodes[static_cast<std::size_t>(i)].what;
            what == Formula::What::only || what == Formula::What::unless)
          return false;
  return true;
}
static_assert(exclusions_are_outermost(), "only() and unless() stand outermost in a formula");

}  // namespace

const Derivative& derivative(Opcode code) { return table[static_cast<std::size_t>(code)]; }

}  // namespace gradc
