// Terms to text.
#include "passes/math_term.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <cmath>

namespace gradc::math {
namespace {

// Equal factors as powers from the third on: rstd * rstd * rstd is pow(rstd, 3).
std::vector<std::string> powers(const std::vector<std::string>& factors) {
  std::vector<std::string> out, seen;
  for (const std::string& f : factors) {
    if (std::find(seen.begin(), seen.end(), f) != seen.end()) continue;
    const auto n = std::count(factors.begin(), factors.end(), f);
    if (n > 2) {
      seen.push_back(f);
      const bool bracketed = f.starts_with('(') && f.ends_with(')');
      out.push_back(fmt::format("pow({}, {})", bracketed ? f.substr(1, f.size() - 2) : f, n));
    } else {
      out.push_back(f);
    }
  }
  return out;
}

// The product without its sign.
std::string unsigned_product(const Term& t) {
  std::vector<std::string> over = powers(t.over);
  const std::vector<std::string> under = powers(t.under);
  const double size = std::fabs(t.number);
  if (size != 1 || over.empty()) over.insert(over.begin(), fmt::format("{}", size));
  std::string out = fmt::format("{}", fmt::join(over, " * "));
  if (under.size() == 1) out += " / " + under[0];
  if (under.size() > 1) out += fmt::format(" / ({})", fmt::join(under, " * "));
  return out;
}
bool is_single(const Term& t) {
  return t.under.empty() && t.over.size() + (std::fabs(t.number) != 1 || t.over.empty()) == 1;
}

Term as_product(const Term& t) {
  if (t.kind == Term::product) return t;
  Term out;
  out.kind = Term::product;
  out.over.push_back(show(t, Level::atom));
  return out;
}

Term as_sum(const Term& t) {
  if (t.kind == Term::sum) return t;
  Term out;
  out.kind = Term::sum;
  if (t.kind == Term::product)
    out.parts.emplace_back(std::signbit(t.number), unsigned_product(t));
  else
    out.parts.emplace_back(false, show(t, Level::product));
  return out;
}

}  // namespace

std::string show(const Term& t, Level least) {
  std::string out;
  Level own = Level::atom;
  switch (t.kind) {
    case Term::text:
      out = t.word;
      own = t.level;
      break;
    case Term::product:
      out = (std::signbit(t.number) ? "-" : "") + unsigned_product(t);
      own = is_single(t) && !std::signbit(t.number) && !unsigned_product(t).empty() &&
                    unsigned_product(t).find(" / ") == std::string::npos
                ? Level::atom
                : Level::product;
      break;
    case Term::sum:
      for (std::size_t i = 0; i < t.parts.size(); ++i) {
        const auto& [minus, part] = t.parts[i];
        out += i == 0 ? (minus ? "-" : "") : (minus ? " - " : " + ");
        out += part;
      }
      own = t.parts.size() == 1 && !t.parts[0].first ? Level::product : Level::sum;
      break;
  }
  return own < least ? fmt::format("({})", out) : out;
}

Term word(std::string text, Level level) {
  Term t;
  t.word = std::move(text);
  t.level = level;
  return t;
}
Term light(std::string text) {
  Term t = word(std::move(text));
  t.light = true;
  return t;
}
Term number(double value) {
  Term t;
  t.light = true;
  if (std::isnan(value)) return light("nan");
  t.kind = Term::product;
  t.number = value;
  if (std::isinf(value)) {
    t.number = std::copysign(1, value);
    t.over = {"inf"};
  }
  return t;
}
Term call(std::string_view function, const std::vector<std::string>& arguments) {
  return word(fmt::format("{}({})", function, fmt::join(arguments, ", ")));
}
bool mentions(std::string_view text, std::string_view name) {
  const auto is_letter = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_';
  };
  for (std::size_t i = text.find(name); i != std::string_view::npos; i = text.find(name, i + 1)) {
    const std::size_t end = i + name.size();
    if ((i == 0 || !is_letter(text[i - 1])) && (end == text.size() || !is_letter(text[end])))
      return true;
  }
  return false;
}

Term read(const Term& x, std::string_view axis, std::string_view at, bool positions) {
  const bool joins = positions && !x.places.empty() && !mentions(x.places, axis);
  const std::string base = joins ? x.base : show(x, Level::atom);
  const std::string places =
      fmt::format("{}{}{} = {}", joins ? x.places : "", joins ? ", " : "", axis, at);
  Term t = word(fmt::format("{}[{}]", base, places));
  t.light = x.light && t.word.size() <= 24;
  if (positions) t.base = base, t.places = places;
  return t;
}
Term reduce(std::string_view function, const std::string& axes, const std::string& inside,
            const std::string& condition) {
  return word(condition.empty()
                  ? fmt::format("{}[{}]({})", function, axes, inside)
                  : fmt::format("{}[{}]({} where {})", function, axes, inside, condition));
}
Term infix(const Term& a, std::string_view sign, const Term& b, Level own, Level left,
           Level right) {
  Term t = word(fmt::format("{} {} {}", show(a, left), sign, show(b, right)), own);
  t.light = a.light && b.light && t.word.size() <= 12;
  return t;
}

Term multiply(const Term& a, const Term& b) {
  Term out = as_product(a);
  const Term more = as_product(b);
  out.light = false;
  out.number *= more.number;
  out.over.insert(out.over.end(), more.over.begin(), more.over.end());
  out.under.insert(out.under.end(), more.under.begin(), more.under.end());
  return out;
}
Term divide(const Term& a, const Term& b) {
  Term out = as_product(a);
  const Term by = as_product(b);
  out.light = false;
  out.number /= by.number;
  out.over.insert(out.over.end(), by.under.begin(), by.under.end());
  out.under.insert(out.under.end(), by.over.begin(), by.over.end());
  return out;
}
Term add(const Term& a, const Term& b, bool subtract) {
  Term out = as_sum(a);
  for (const auto& [minus, part] : as_sum(b).parts) out.parts.emplace_back(minus != subtract, part);
  // What is added stands before what is subtracted, if that saves a leading sign.
  if (out.parts[0].first)
    for (auto it = out.parts.begin(); it != out.parts.end(); ++it)
      if (!it->first) {
        std::rotate(out.parts.begin(), it, it + 1);
        break;
      }
  return out;
}
Term negate(const Term& a) {
  if (a.kind == Term::sum) {
    Term out = a;
    out.light = false;
    for (auto& part : out.parts) part.first = !part.first;
    return out;
  }
  Term out = as_product(a);
  out.light = false;
  out.number = -out.number;
  return out;
}

}  // namespace gradc::math
