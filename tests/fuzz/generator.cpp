// Which statements, in which order; the model around them, and its loss.
#include "fuzz/generator.h"

#include <fmt/format.h>

#include <algorithm>

#include "fuzz/writer.h"

namespace gradc::fuzz {

bool Writer::statement() {
  using Way = bool (Writer::*)();
  struct Row {
    Way way;
    int weight;
  };
  static constexpr Row rows[] = {
      {&Writer::unary, 7},
      {&Writer::arithmetic, 6},
      {&Writer::selection, 3},
      {&Writer::reduction, 7},
      {&Writer::contraction, 6},
      {&Writer::integer_value, 3},
      {&Writer::chance, 2},
      {&Writer::positions, 2},
      {&Writer::pick, 2},
      {&Writer::slice, 3},
      {&Writer::shift, 2},
      {&Writer::relabel, 1},
      {&Writer::flip, 1},
      {&Writer::window, 2},
      {&Writer::fold, 2},
      {&Writer::look_up, 3},
      {&Writer::outer, 2},
      {&Writer::scan, 6},
      {&Writer::repeat, 2},
      {&Writer::block, 1},
      {&Writer::library, 3},
      {&Writer::norm, 4},
      {&Writer::root_mean_square, 2},
      {&Writer::softmax, 3},
      {&Writer::cross_entropy, 2},
      {&Writer::activation, 4},
      {&Writer::attention, 7},
  };
  int total = 0;
  for (const Row& r : rows) total += r.weight;
  int k = random_.below(total);
  for (const Row& r : rows)
    if ((k -= r.weight) < 0) return (this->*r.way)();
  return false;
}

// A sum over what was not used, so that little is dead and most parameters have a gradient.
void Writer::loss() {
  std::string sum;
  int terms = 0;
  for (std::size_t i = values_.size(); i-- > 0 && terms < 5;) {
    const Value& v = values_[i];
    if (!v.bound || v.expr.sort != Sort::real || !v.expr.trained || (v.uses > 0 && terms > 0))
      continue;
    const std::string& x = v.expr.text;
    const std::string over = list(v.expr.axes);
    std::string term;
    if (v.expr.axes.empty())
      term = random_.chance(0.5) ? x : fmt::format("{0} * {0}", x);
    else if (const int way = random_.below(5); way == 0)
      term = fmt::format("mean{}({})", over, x);
    else if (way == 1)
      term = fmt::format("sum{}({} * sin({}))", over, x, x);
    else if (way == 2)
      term = fmt::format("mean{}({} * {} where {})", over, x, x, condition(v.expr.axes).text);
    else
      term = fmt::format("mean{}({} * {})", over, x, x);
    sum += fmt::format("{}{}", sum.empty() ? "" : random_.chance(0.3) ? " + 0.3 * " : " + ", term);
    ++terms;
  }
  line("loss = " + (sum.empty() ? "0.0" : sum));
}

std::string Writer::model() {
  b_ = make_axis(random_.between(1, 4), true);
  t_ = make_axis(random_.chance(0.1) ? 1 : random_.between(2, 7), true);
  d_ = make_axis(random_.chance(0.1) ? 1 : random_.between(2, 6), true);
  v_ = make_axis(random_.between(2, 7), true);
  line(fmt::format("input token{} < {}", list({b_, t_}), name(v_)));
  Expr token{"token", true, Sort::integer, {b_, t_}, 0, extent(v_) - 1.0, false, false};
  values_.push_back({"token", token, false, 0});
  if (random_.chance(0.4)) {
    const Axes axes = shuffled({b_, t_, d_});
    line(fmt::format("input data{}", list(axes)));
    values_.push_back({"data", of_text("data", axes, -3, 3, false), false, 0});
  }
  const Expr table = parameter({v_, d_});
  Expr x =
      of_text(fmt::format("{}[{} = token]", table.text, name(v_)), {b_, t_, d_}, -1.5, 1.5, true);
  if (random_.chance(0.5)) x = binary("+", x, parameter({t_, d_}));
  bind(x, random_.chance(0.2));
  const int wanted = random_.between(5, 40);
  for (int tries = 0; operations_ < wanted && tries < 60; ++tries) statement();
  loss();
  if (random_.chance(0.3)) {
    const bool adamw = random_.chance(0.7);
    const std::string optimizer =
        adamw ? fmt::format(
                    "adamw(lr = 0.001, betas = (0.9, 0.99), weight_decay = {}, clip = {}, except = "
                    "\"{}\")",
                    random_.chance(0.5) ? "0.1" : "0", random_.chance(0.5) ? "1" : "0",
                    random_.chance(0.5) ? "w1*" : "*gain, w2")
              : fmt::format("sgd(lr = 0.1, momentum = {}, clip = {})",
                            random_.chance(0.5) ? "0.9" : "0", random_.chance(0.5) ? "0.5" : "0");
    train_ = fmt::format("train {{ optimizer = {} }}\n", optimizer);
  }
  return fmt::format("model m({})\n{}{}{}", header_, blocks_, body_, train_);
}

std::string random_model(std::uint64_t seed) { return Writer(seed).model(); }

}  // namespace gradc::fuzz
