// Owns canonical forms: every value of a region as a sum of products, hash-consed, so that equal
// mathematics has equal ids however it was spelled. A form is
//
//     constant + Σ coefficient · Π base^power
//
// over bases that are values (arguments, results of calls, …), operations of forms, or sums raised
// to a power. What meets: x / sqrt(v), x * rsqrt(v), x * pow(v, -0.5); a mean as sum / n or sum *
// (1/n); c * (a + b) and c * a + c * b; exp of a sum is a product of exps, so whatever is
// subtracted before a softmax cancels; what lacks the axis comes out of a reduction or contraction;
// `expand` is nothing. Exclusion has two words: mask(c) is 0 where c, else −∞, and select(c, x, −∞)
// is x + mask(c); indicator(c) is 1 where c, else 0, and select(c, x, 0) is x · indicator(c) = exp
// of the mask.
//
// Forms are equal as real functions where every value is finite; they say nothing about rounding.
// Numbers are compared to nine digits. So a form recognises, and a region is built anew
// (fused.def). Products of sums are not multiplied out; a sum or product of more than `widest`
// parts is opaque, so a form costs constant time.
#pragma once

#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "ir/builder.h"

namespace gradc::canonical {

using TermId = Id<struct CanonicalTermTag>;
using ProductId = Id<struct CanonicalProductTag>;
using BaseId = Id<struct CanonicalBaseTag>;

struct Factor {
  BaseId base;
  double power = 1;
};
struct Product {
  std::vector<Factor> factors;  // by base, each once; none is empty
  AxisList axes;
};
struct Part {
  ProductId product;
  double coefficient = 1;
};
struct Sum {
  double constant = 0;
  std::vector<Part> parts;  // by product, each once
  AxisList axes;            // that it depends on
};
struct Base {
  enum Kind : std::uint8_t {
    value,
    operation,  // `code` with `attr` of `arguments`; exp is of a single product
    sum,    // arguments[0]: two parts or more, the first with coefficient 1 (or −1 under a root)
    group,  // arguments[0], opaque: too wide, or a product under a root
    mask,   // of condition arguments[0]
    indicator,
  } kind = value;
  ValueId of;
  Opcode code = Opcode::constant_;
  Attr attr;
  DType dtype = DType::f32;
  std::vector<TermId> arguments;
  AxisList axes;
  bool nonnegative = false;
};

class Algebra {
 public:
  // Of a function that is there, to look at; or of one that is being built.
  Algebra(const Program& program, const Function& f) : program_(program), f_(f) {}
  Algebra(const Program& program, Builder& to) : program_(program), f_(to.function()), to_(&to) {}

  // The form of a value of the builder's function; those of its operands must be known. A value
  // whose axes are those of its form is found again by `value`.
  TermId of(ValueId v);
  // The first value that has the form, or an invalid one.
  ValueId value(TermId t) const;
  // A value of the form, made of values that are known where there is none: invalid if it is too
  // deep. `met` gets the known values that it is made of. Needs a builder.
  ValueId realise(TermId t, DType dtype, std::vector<ValueId>* met = nullptr, int depth = 0);

  const Sum& sum(TermId t) const { return sums_[t.index]; }
  const Product& product(ProductId p) const { return products_[p.index]; }
  const Base& base(BaseId b) const { return bases_[b.index]; }
  const AxisList& axes(TermId t) const { return sums_[t.index].axes; }
  // The sums and multiples whose roots became powers of the base, as they were written.
  const std::vector<TermId>& under_roots(BaseId b) const;

  // A number alone; a single product, its coefficient and factors.
  bool is_number(TermId t, double& x) const;
  bool is_product(TermId t) const;
  double coefficient(TermId t) const { return sums_[t.index].parts[0].coefficient; }
  const std::vector<Factor>& factors(TermId t) const;
  // The base of a single factor of power 1 and coefficient 1; null if it is anything else.
  const Base* only_base(TermId t) const;

  TermId number(double x);
  TermId term(BaseId b);
  TermId term(double coefficient, std::vector<Factor> factors);
  TermId term(Part part) { return term(part.coefficient, product(part.product).factors); }
  TermId add(TermId a, TermId b);
  TermId sub(TermId a, TermId b) { return add(a, scale(b, -1)); }
  TermId scale(TermId t, double c);
  TermId mul(TermId a, TermId b);
  TermId div(TermId a, TermId b) { return mul(a, power(b, -1)); }
  TermId power(TermId t, double p);
  TermId exp(TermId t);
  TermId log(TermId t);
  TermId odd(Opcode code, TermId t, DType dtype);  // tanh, erf
  TermId mask(TermId condition);
  TermId indicator(TermId condition);
  TermId sum_over(TermId t, const AxisList& over, DType dtype);
  TermId contract(TermId a, TermId b, const AxisList& result, DType dtype);
  TermId operation(Opcode code, const Attr& attr, DType dtype, std::vector<TermId> arguments,
                   const AxisList& axes);
  // Without the parts that have none of the axes; and only those.
  TermId bound(TermId t, const AxisList& axes);
  TermId free(TermId t, const AxisList& axes) { return sub(t, bound(t, axes)); }

 private:
  void note_root(BaseId b, TermId t);
  TermId intern(Sum s);
  ProductId intern(std::vector<Factor> factors);
  BaseId intern(Base b);
  TermId form(const Op& op, const Type& type);
  std::optional<TermId> form_of_choice(TermId chosen);
  TermId negated(TermId condition);
  TermId form_of_gather(const Op& op, const Type& type);
  TermId form_of_select(const Op& op, const Type& type);
  bool sums_exponentials(TermId t) const;
  TermId group(TermId t);
  bool nonnegative(TermId t) const;
  bool masked(TermId t) const;
  // c · base^1: a sum as a factor. `root`: the coefficient is positive.
  std::pair<double, BaseId> as_factor(TermId t, bool root);
  std::pair<double, std::vector<Factor>> as_product(TermId t);
  ValueId realise_product(const std::vector<Factor>& factors, DType dtype,
                          std::vector<ValueId>* met, int depth);
  ValueId realise_factor(const Factor& f, DType dtype, std::vector<ValueId>* met, int depth);
  ValueId realise_base(const Base& b, DType dtype, std::vector<ValueId>* met, int depth);
  ValueId made(ValueId v) {
    of(v);
    return v;
  }

  const Program& program_;
  const Function& f_;
  Builder* to_ = nullptr;
  std::vector<Sum> sums_;
  std::vector<Product> products_;
  std::vector<Base> bases_;
  std::unordered_map<std::string, std::uint32_t> known_;
  std::unordered_map<std::uint32_t, std::vector<TermId>> under_roots_;  // by base
  std::vector<TermId> of_;                                              // by value
  std::unordered_map<std::uint32_t, ValueId> value_of_;                 // by term
};

// Least and greatest of an integer value, where bounds of inputs, positions and numbers tell.
std::optional<std::pair<std::int64_t, std::int64_t>> range_of(const Program& program,
                                                              const Function& f, ValueId v);

// Equal to nine digits; to six.
bool same_number(double a, double b);
bool close(double a, double b);

}  // namespace gradc::canonical
