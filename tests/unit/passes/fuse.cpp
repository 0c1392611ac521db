// Protects recognition: spellings of one formula that must become one fused operation, look-alikes
// that must not and what is said of them (tests/golden/fuse), each spelling under seeded changes of
// its axes' names and of the order of terms and factors; and that the program means what it meant.
#include "passes/fuse.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <set>

#include "frontend/ast.h"
#include "frontend/frontend.h"
#include "ir/evaluate.h"
#include "ir/philox.h"
#include "ir/text.h"
#include "ir/verify.h"
#include "passes/passes.h"
#include "support/golden.h"

namespace gradc {
namespace {

// Every case begins with these extents; unused ones are no axes.
constexpr const char* header =
    "model m(b = 2, t = 5, s = 7, h = 2, g = 2, r = 3, d = 6, e = 4, f = 3, v = 9, c = 3)\n";

class Random {
 public:
  explicit Random(std::uint64_t seed) : seed_(seed) {}
  double uniform() { return philox_uniform(seed_, 0, 0, n_++); }
  std::size_t below(std::size_t n) {
    return std::min(n - 1, static_cast<std::size_t>(uniform() * static_cast<double>(n)));
  }

 private:
  std::uint64_t seed_, n_ = 0;
};

FilePtr parsed(Sources& sources, const std::string& text) {
  const auto file = [](const std::string&, std::string&) { return false; };
  Result<FilePtr> f = parse_model(sources, sources.add("m.grad", text), file);
  if (!f) FAIL(render(sources, f.failure().diagnostics[0]), "\n", text);
  return *f;
}

Program lowered(const std::string& text, const std::vector<std::string>& values) {
  Sources sources;
  const FilePtr file = parsed(sources, text);
  Result<Model> m =
      lower(sources, *file, {.values = values, .need_loss = false, .real = DType::f64});
  if (!m) FAIL(render(sources, m.failure().diagnostics[0]), "\n", text);
  drop_unreachable(m->program, {"eval"});
  return simplify(m->program);
}

// The same text with the axes of the header under other names, and operands of + and * elsewhere.
std::string varied(const std::string& text, std::uint64_t seed) {
  Random random(seed);
  std::vector<std::string> fresh{"i8", "j8", "k8", "n8", "q8", "w8",
                                 "y8", "z8", "a9", "b9", "c9", "d9"};
  std::map<std::string, std::string> renamed;
  for (const char* axis : {"b", "t", "s", "h", "g", "r", "d", "e", "f", "v", "c"}) {
    const std::size_t i = random.below(fresh.size());
    renamed[axis] = fresh[i];
    fresh.erase(fresh.begin() + static_cast<std::ptrdiff_t>(i));
  }
  std::string out;
  const auto in_word = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || c == '_';
  };
  for (std::size_t i = 0; i < text.size();) {
    std::size_t end = i;
    while (end < text.size() && in_word(text[end])) ++end;
    const std::string word = text.substr(i, end - i);
    if (word.empty()) {
      out += text[i++];
      continue;
    }
    const auto it = renamed.find(word);
    out += it == renamed.end() ? word : it->second;
    i = end;
  }
  Sources sources;
  ast::File file = *parsed(sources, out);
  for (ast::Expr& e : file.exprs) {
    const bool sum = e.kind == ast::ExprKind::sum;
    if (!sum && e.kind != ast::ExprKind::product) continue;
    // Positions in indices and numbers keep their order: only whole chains of one sign move.
    const std::string_view sign = sum ? "+" : "*";
    if (std::any_of(e.ops.begin() + 1, e.ops.end(),
                    [&](const std::string& op) { return op != sign; }))
      continue;
    for (std::size_t i = e.operands.size(); i > 1; --i)
      std::swap(e.operands[i - 1], e.operands[random.below(i)]);
  }
  return print_model(file);
}

std::vector<Array> draw(const Program& p, const Function& f, std::uint64_t seed) {
  Random random(seed);
  std::vector<Array> out;
  for (ValueId v : f.body().arguments) {
    const Type& t = f.type(v);
    std::vector<std::int64_t> extents;
    for (AxisId a : t.axes) extents.push_back(f.extent(a));
    Array a = Array::zeros(t.dtype, extents);
    for (double& x : a.real) x = 2 * random.uniform() - 1;
    std::int64_t low = 0, high = 1;
    for (const Input& in : p.inputs)
      if (in.name == f.value(v).name && in.bounded) low = in.low, high = in.high;
    for (std::int64_t& x : a.integer)
      x = low + static_cast<std::int64_t>(random.below(static_cast<std::size_t>(high - low)));
    out.push_back(std::move(a));
  }
  return out;
}

// Equal up to rounding; where the text divides 0 by 0, of what is wholly excluded, a fused form
// gives 0.
void check_same_meaning(const Program& before, const Program& after) {
  const FunctionId f = before.find("eval"), g = after.find("eval");
  const std::vector<Array> arguments = draw(before, before.function(f), 11);
  const auto a = evaluate(before, f, arguments), b = evaluate(after, g, arguments);
  REQUIRE(a.ok());
  REQUIRE(b.ok());
  for (std::size_t r = 0; r < a->size(); ++r) {
    CHECK((*a)[r].integer == (*b)[r].integer);
    REQUIRE((*a)[r].real.size() == (*b)[r].real.size());
    double largest = 1;
    for (double x : (*a)[r].real)
      if (std::isfinite(x)) largest = std::max(largest, std::fabs(x));
    for (std::size_t i = 0; i < (*a)[r].real.size(); ++i) {
      const double x = (*a)[r].real[i], y = (*b)[r].real[i];
      if (!(x == y || std::fabs(x - y) <= 1e-11 * largest || std::isnan(x))) {
        CHECK(x == y);
        return;
      }
    }
  }
}

// How often each claim was fused, and refused.
std::map<std::pair<Claim, bool>, int> counts(const std::vector<Remark>& remarks) {
  std::map<std::pair<Claim, bool>, int> out;
  for (const Remark& r : remarks) ++out[{r.claim, r.fused}];
  return out;
}

std::string said(const Program& p, const Remark& r) {
  const std::vector<SourcePos>& lines = p.location(r.at).lines;
  std::string at;
  std::uint32_t before = 0;
  for (const SourcePos& l : lines)
    if (l.line != std::exchange(before, l.line))
      at += fmt::format("{}{}", at.empty() ? "" : " ", l.line);
  if (r.fused) return fmt::format("{}: fused {} {}\n", at, name(r.claim), r.text);
  return fmt::format("{}: not fused {}: {}{}{}\n", at, name(r.claim), r.text,
                     r.advice.empty() ? "" : "; ", r.advice);
}

int spellings_seen = 0, look_alikes_seen = 0;

std::string fused(const golden::Case& c) {
  const bool fixed = c.has("fixed");  // names of axes that blocks of the library know
  const golden::Section& model = c.sections[0];
  std::vector<std::string> values{"y"};
  const Program before = lowered(header + model.text, values);
  std::vector<Remark> remarks;
  const Program after = fuse(before, {}, &remarks);
  CHECK(verify(after).empty());
  CHECK(check_claims(after) == "");
  const std::string text = print(after, {.locations = false});
  CHECK(print(fuse(after), {.locations = false}) == text);
  const Program back = unfuse(after);
  CHECK(std::none_of(back.functions[0].ops.begin(), back.functions[0].ops.end(),
                     [](const Op& op) { return op.code == Opcode::fused_; }));
  check_same_meaning(before, after);
  check_same_meaning(after, back);
  Sources sources;
  Result<Program> again = parse_ir(sources, sources.add("again", text));
  REQUIRE(again.ok());
  CHECK(print(*again, {.locations = false}) == text);

  for (std::uint64_t seed = 1; seed <= 4 && !fixed; ++seed) {
    const std::string other = varied(header + model.text, seed);
    std::vector<Remark> others;
    const Program p = lowered(other, values);
    const Program q = fuse(p, {}, &others);
    CHECK(check_claims(q) == "");
    check_same_meaning(p, q);
    CHECK_MESSAGE(counts(others) == counts(remarks), other);
  }
  for (const Remark& r : remarks) ++(r.fused ? spellings_seen : look_alikes_seen);

  std::string out;
  for (const Remark& r : remarks) out += said(after, r);
  return out + print(after, {.locations = false, .bodies = false, .functions = {"eval"}});
}

}  // namespace

TEST_CASE("recognition: spellings and look-alikes, under other names and orders") {
  golden::run("fuse", fused);
  CHECK(spellings_seen >= 40);
  CHECK(look_alikes_seen >= 20);
}

}  // namespace gradc
