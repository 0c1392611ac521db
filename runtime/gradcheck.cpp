// Derivatives against finite differences.
#include "runtime/gradcheck.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "runtime/initial.h"
#include "runtime/oracle.h"
#include "runtime/stored.h"

namespace gradc {
namespace {

constexpr double first_steps[] = {5e-2, 1e-3,
                                  2e-5};  // the later ones only where an earlier one disagrees
constexpr int levels = 7;  // of the extrapolation; the step halves at each

// What one check holds: the program at one point, and its loss along lines through the point.
struct Check {
  const Program& program;
  const GradcheckSettings& settings;
  FunctionId loss;
  OracleFeed feed;
  std::vector<Array> arguments;  // of @loss; the first are %p's tensors
  StopTape stops;
  std::vector<double> gradient;  // flat
  double largest = 0;
  std::int64_t evaluations = 0;

  double tolerance(double exact) const {
    return std::max(settings.relative * std::abs(exact), settings.floor * largest);
  }

  Result<double> evaluate_loss() {
    ++evaluations;
    Result<std::vector<Array>> r =
        evaluate(program, loss, arguments, std::int64_t{1} << 31, &stops);
    if (!r) return r.failure();
    const double value = (*r)[0].real[0];
    if (!std::isfinite(value))
      return failure(Exit::numbers,
                     "the loss is not finite at a random point: derivatives cannot be compared");
    return value;
  }

  // (L(x + h·d) − L(x − h·d)) / 2h along one tensor.
  Result<double> central(std::size_t tensor, const std::vector<double>& direction, double h) {
    std::vector<double>& x = arguments[tensor].real;
    const std::vector<double> point = x;
    double sides[2];
    for (const int side : {0, 1}) {
      for (std::size_t i = 0; i < x.size(); ++i)
        x[i] = point[i] + (side == 0 ? h : -h) * direction[i];
      Result<double> value = evaluate_loss();
      x = point;
      if (!value) return value.failure();
      sides[side] = *value;
    }
    return (sides[0] - sides[1]) / (2 * h);
  }

  // Ridders' extrapolation to h = 0, until its own estimate of the error is well within `enough`.
  Result<double> extrapolated(std::size_t tensor, const std::vector<double>& direction, double h,
                              double enough) {
    double table[levels][levels];
    double best = 0, error = std::numeric_limits<double>::infinity();
    for (int i = 0; i < levels; ++i, h /= 2) {
      Result<double> d = central(tensor, direction, h);
      if (!d) return d;
      table[0][i] = *d;
      if (i == 0) best = *d;
      double factor = 1;
      for (int j = 1; j <= i; ++j) {
        factor *= 4;
        table[j][i] = (table[j - 1][i] * factor - table[j - 1][i - 1]) / (factor - 1);
        const double e = std::max(std::abs(table[j][i] - table[j - 1][i]),
                                  std::abs(table[j][i] - table[j - 1][i - 1]));
        if (e <= error) {
          error = e;
          best = table[j][i];
        }
      }
      if (error <= 0.05 * enough) break;
      if (i > 1 && std::abs(table[i][i] - table[i - 1][i - 1]) >= 2 * error)
        break;  // rounding has taken over
    }
    return best;
  }

  // The numeric derivative that comes nearest, of those that the first steps give; one is enough if
  // it agrees.
  Result<double> numeric(std::size_t tensor, const std::vector<double>& direction, double exact) {
    double scale = 1;
    for (std::size_t i = 0; i < direction.size(); ++i)
      if (direction[i] != 0) scale = std::max(scale, std::abs(arguments[tensor].real[i]));
    double best = std::numeric_limits<double>::infinity();
    for (const double first : first_steps) {
      Result<double> d = extrapolated(tensor, direction, first * scale, tolerance(exact));
      if (!d) return d;
      if (std::abs(*d - exact) < std::abs(best - exact)) best = *d;
      if (std::abs(best - exact) <= tolerance(exact)) break;
    }
    return best;
  }
};

Result<Done> prepare(Check& c) {
  const Program& program = c.program;
  c.loss = program.find("loss");
  const FunctionId grad = program.find("grad");
  if (!c.loss.valid() || !grad.valid())
    return failure(Exit::internal, "a check of derivatives needs @loss and @grad");
  Result<OracleFeed> feed = random_feed(program, c.settings.seed);
  if (!feed) return feed.failure();
  c.feed = std::move(*feed);
  Result<std::vector<Array>> arguments = entry_arguments(program, c.loss, c.feed);
  if (!arguments) return arguments.failure();
  c.arguments = std::move(*arguments);
  Result<std::vector<Array>> gradients = run_entry(program, grad, c.feed);
  if (!gradients) return gradients.failure();
  for (std::size_t i = 0; i + 1 < gradients->size(); ++i)
    for (const double g : (*gradients)[i].real) c.gradient.push_back(g);
  if (c.gradient.size() != c.feed.p.size())
    internal_error("@grad gives another number of elements than %p has");
  for (const double g : c.gradient) c.largest = std::max(c.largest, std::abs(g));
  return Done{};
}

// Distinct indices: the largest gradient's, then random ones.
std::vector<std::size_t> chosen_elements(const Check& c, const Leaf& leaf) {
  const auto n = static_cast<std::size_t>(leaf.elements),
             wanted = std::min(n, static_cast<std::size_t>(c.settings.elements) + 1);
  const double* g = c.gradient.data() + leaf.offset;
  std::vector<std::size_t> out;
  if (n == 0) return out;
  out.push_back(static_cast<std::size_t>(
      std::max_element(g, g + n, [](double a, double b) { return std::abs(a) < std::abs(b); }) -
      g));
  const std::uint64_t hash = fnv1a("element " + leaf.stored);
  for (std::uint64_t draw = 0; out.size() < wanted; ++draw) {
    // After many draws that hit what is taken, the next free one: a tensor of few elements ends.
    auto i = static_cast<std::size_t>((initial_uniform(c.settings.seed, hash, draw) + 1) / 2 *
                                      static_cast<double>(n)) %
             n;
    while (draw > 8 * wanted && std::find(out.begin(), out.end(), i) != out.end()) i = (i + 1) % n;
    if (std::find(out.begin(), out.end(), i) == out.end()) out.push_back(i);
  }
  return out;
}

Result<GradcheckLine> check_tensor(Check& c, std::size_t tensor, const Leaf& leaf) {
  GradcheckLine line{.stored = leaf.stored, .extents = leaf.extents};
  const auto n = static_cast<std::size_t>(leaf.elements);
  const double* g = c.gradient.data() + leaf.offset;
  const auto error = [&](double numeric, double exact) {
    const double scale = c.tolerance(exact);  // 0 only where every gradient is 0
    return numeric == exact ? 0 : std::abs(numeric - exact) / scale * c.settings.relative;
  };
  std::vector<double> direction(n);
  double length = 0, along = 0;
  for (std::size_t i = 0; i < n; ++i) {
    direction[i] = initial_normal(c.settings.seed, fnv1a("direction " + leaf.stored), i);
    length += direction[i] * direction[i];
    line.norm += g[i] * g[i];
  }
  line.norm = std::sqrt(line.norm);
  for (std::size_t i = 0; i < n; ++i) {
    direction[i] /= std::sqrt(length);
    along += direction[i] * g[i];
  }
  Result<double> d = c.numeric(tensor, direction, along);
  if (!d) return d.failure();
  line.direction_error = error(*d, along);
  for (const std::size_t i : chosen_elements(c, leaf)) {
    std::fill(direction.begin(), direction.end(), 0);
    direction[i] = 1;
    Result<double> e = c.numeric(tensor, direction, g[i]);
    if (!e) return e.failure();
    ++line.elements;
    if (line.worst >= 0 && error(*e, g[i]) <= line.element_error) continue;
    line.element_error = error(*e, g[i]);
    line.worst = static_cast<std::int64_t>(i);
    line.worst_exact = g[i];
    line.worst_numeric = *e;
  }
  // Written so that a NaN fails.
  line.ok =
      line.direction_error <= c.settings.relative && line.element_error <= c.settings.relative;
  return line;
}

}  // namespace

Result<GradcheckReport> check_gradients(const Program& program, const GradcheckSettings& settings,
                                        const std::function<void(const GradcheckLine&)>& each) {
  Check c{program, settings, {}, {}, {}, {}, {}, 0, 0};
  if (Result<Done> r = prepare(c); !r) return r.failure();
  GradcheckReport report{.largest = c.largest};
  Result<double> loss = c.evaluate_loss();  // records what `stop` holds
  if (!loss) return loss.failure();
  report.loss = *loss;
  c.stops.replay = true;
  const BundleId bundle = argument_bundle(program, c.loss, "p");
  if (bundle.valid()) {
    std::size_t tensor = 0;
    for (const Leaf& leaf : leaves(program, bundle)) {
      Result<GradcheckLine> line = check_tensor(c, tensor++, leaf);
      if (!line) return line.failure();
      report.ok = report.ok && line->ok;
      if (each) each(*line);
      report.lines.push_back(std::move(*line));
    }
  }
  report.evaluations = c.evaluations;
  return report;
}

std::string text_of(const GradcheckLine& l) {
  std::string out = fmt::format("{}  {} {}   norm {:.1e}   direction {:.1e}   {} elements {:.1e}",
                                l.ok ? "ok  " : "FAIL", l.stored, shape_text(l.extents), l.norm,
                                l.direction_error, l.elements, l.element_error);
  if (!l.ok && l.worst >= 0)
    out += fmt::format("   element {}: {:.10e}, numerically {:.10e}", l.worst, l.worst_exact,
                       l.worst_numeric);
  return out;
}

}  // namespace gradc
