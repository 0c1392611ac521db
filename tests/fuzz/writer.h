// Owns what the generator's parts share: typed expressions with intervals, the values in scope, and
// the lines written so far. writer.cpp has expressions and values; plain.cpp, reads.cpp, fused.cpp
// and attention.cpp kinds of statements, generator.cpp chooses among these.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "fuzz/random.h"

namespace gradc::fuzz {

enum class Sort : std::uint8_t { real, integer, boolean };
using Axes = std::vector<int>;  // indices into Writer::axes_

struct NamedAxis {
  std::string name;
  int extent = 1;
  bool gone = false;  // made in a turn that is closed
};

// A text with what is known of its value. low, high: of a real roughly, of an integer exactly.
struct Expr {
  std::string text;
  bool atom = true;  // needs no brackets as an operand
  Sort sort = Sort::real;
  Axes axes;
  double low = 0, high = 0;
  bool trained = false;     // a gradient may reach a parameter through it
  bool positional = false;  // positions and numbers alone
  double most() const { return low < -high ? -low : high; }
};

struct Value {
  std::string name;
  Expr expr;          // its text is the name
  bool bound = true;  // by a statement, so that it may be bound again; not a parameter or input
  int uses = 0;
};

class Writer {
 public:
  explicit Writer(std::uint64_t seed) : random_(seed) {}
  std::string model();

 private:
  // ---- axes
  int make_axis(int extent, bool in_header = false);
  int other_axis(int extent, const Axes& avoid);  // of that extent; perhaps a new one
  std::string list(const Axes& axes) const;       // "[b t d]"
  std::string name(int axis) const { return axes_[static_cast<std::size_t>(axis)].name; }
  int extent(int axis) const { return axes_[static_cast<std::size_t>(axis)].extent; }
  int elements(const Axes& axes) const;
  static bool has(const Axes& axes, int axis);
  static bool covers(const Axes& a, const Axes& b);
  static Axes both(const Axes& a, const Axes& b);
  static Axes without(const Axes& a, const Axes& b);
  Axes some(const Axes& axes);  // at least one of them, in any order
  Axes shuffled(Axes axes);

  // ---- expressions
  Expr number(double x) const;
  Expr small_number();
  Expr position(int axis) const;
  std::string inner(const Expr& e);                                  // in brackets unless an atom
  Expr binary(std::string_view sign, const Expr& a, const Expr& b);  // + - * / // % max min pow
  Expr call(std::string_view function, const Expr& a);
  Expr choose(const Expr& c, const Expr& a, const Expr& b);  // select(c, a, b)
  Expr of_text(std::string text, const Axes& axes, double low, double high, bool trained);
  Expr brought_within(Expr e, double most);
  Expr positive(const Expr& e);  // 0.2 at least
  Expr reduced(std::string_view name, const Axes& over, const Expr& e, std::string_view where = {});
  Expr product_sum(const Axes& over, std::vector<Expr> factors);

  // ---- values
  Expr use(std::size_t value);
  Expr bind(const Expr& e, bool with_list = false);  // a statement; gives the name
  Expr piece(const Expr& e);                         // bound or left inline
  bool any_real(Expr& out, int least_axes = 1, int most_elements = 200);
  bool real_within(const Axes& axes, Expr& out);  // of axes among these, at least one
  bool real_covering(const Axes& axes, Expr& out);
  Expr parameter(const Axes& axes, double low = -1.5, double high = 1.5);
  void line(std::string text);
  std::string fresh(std::string_view stem);
  void enter();
  void leave();

  // ---- integers and conditions, over some of these axes
  Expr integer(const Axes& axes, int depth = 0);
  Expr index(const Axes& axes, int extent);  // 0 … extent − 1
  Expr condition(const Axes& axes, int depth = 0);

  // ---- statements; each gives false where nothing fits
  bool statement();
  bool unary();
  bool arithmetic();
  bool selection();
  bool reduction();
  bool contraction();
  bool integer_value();
  bool chance();
  bool positions();
  bool pick();
  bool slice();
  bool shift();
  bool relabel();
  bool flip();
  bool window();
  bool fold();
  bool look_up();
  bool outer();
  bool scan();
  bool repeat();
  bool block();
  bool library();
  bool norm();
  bool root_mean_square();
  bool softmax();
  bool cross_entropy();
  bool activation();
  bool attention();

  // ---- parts of statements
  Expr mean(const Axes& over, const Expr& e);
  Expr activated(const Expr& e);
  Expr softmax_of(const Expr& x, int axis, const Expr* mask);
  Expr masked_scores(const Expr& scores, const Expr* mask, int axis);
  Expr mask_of(int rows, int keys, const Axes& axes);
  Expr score_map(Expr scores, int rows, int keys, const Axes& batch);
  Expr weight_map(Expr weight);
  void loss();

  Random random_;
  std::vector<NamedAxis> axes_;
  std::vector<Value> values_;
  struct Scope {
    std::size_t values, axes;  // where those of the open turn begin
  };
  std::vector<Scope> scopes_;
  std::string header_, blocks_, body_, train_;
  std::vector<std::string> taken_;
  int counter_ = 0, depth_ = 0, operations_ = 0;
  int b_ = 0, t_ = 0, d_ = 0, v_ = 0;
};

}  // namespace gradc::fuzz
