// What the parser makes of right texts: trees, places, newlines, `use`, and text again.
#include <doctest/doctest.h>

#include <chrono>
#include <filesystem>

#include "support/golden.h"
#include "unit/frontend/tree.h"

using namespace gradc;
using gradc::test::parse;
using gradc::test::repeated;
using gradc::test::tree;

namespace {

// What the first statement binds.
const ast::Expr& value_of(const test::Parsed& p) {
  REQUIRE_MESSAGE(p.file != nullptr, p.messages);
  return p.file->expr(p.file->stmt(p.file->body[0]).value);
}

test::Parsed expression(const std::string& text) { return parse("model m()\nx = " + text + "\n"); }

// Operators as nested lists with spelt heads, so that a test can be read.
std::string shape(const ast::File& f, ast::ExprId id) {
  const ast::Expr& e = f.expr(id);
  if (e.operands.empty() && e.kind != ast::ExprKind::call) return e.text;
  std::string out = "(";
  switch (e.kind) {
    case ast::ExprKind::negate: out += "neg"; break;
    case ast::ExprKind::invert: out += "not"; break;
    case ast::ExprKind::paren: out += "paren"; break;
    case ast::ExprKind::list: out += "list"; break;
    case ast::ExprKind::index: out += "at"; break;
    default: out += e.text;
  }
  for (std::size_t i = 0; i < e.operands.size(); ++i) {
    out += " ";
    if (i < e.ops.size()) out += e.ops[i];
    out += shape(f, e.operands[i]);
  }
  return out + ")";
}

std::string shape(const std::string& text) {
  const test::Parsed p = expression(text);
  REQUIRE_MESSAGE(p.file != nullptr, p.messages);
  return shape(*p.file, p.file->stmt(p.file->body[0]).value);
}

void check_round_trip(const std::string& text, const std::string& name) {
  const test::Parsed first = parse(text, {}, name);
  REQUIRE_MESSAGE(first.file != nullptr, first.messages);
  const std::string printed = print_model(*first.file);
  const test::Parsed second = parse(printed, {}, name);
  REQUIRE_MESSAGE(second.file != nullptr, second.messages);
  CHECK_MESSAGE(tree(*first.file) == tree(*second.file), name);
  CHECK(print_model(*second.file) == printed);
}

}  // namespace

TEST_CASE("operators bind as in the grammar, and a chain is one node") {
  CHECK(shape("a + b - c * d / e") == "( a +b -( c *d /e))");
  CHECK(shape("-a * b") == "( (neg a) *b)");
  CHECK(shape("-a[t = 1]") == "(neg (at a 1))");
  CHECK(shape("a or b and not c < d + 1 or e") == "( a or( b and(not (< c ( d +1)))) ore)");
  CHECK(shape("a - (b - c)") == "( a -(paren ( b -c)))");
  CHECK(shape("--a") == "(neg (neg a))");
  CHECK(shape("a // b % c") == "( a //b %c)");
  CHECK(shape("f(x)[t = s][b d]") == "(list (at (f x) s))");
}

TEST_CASE("max and min reduce before a bracket and take two values before a parenthesis") {
  CHECK(value_of(expression("max[t](a)")).kind == ast::ExprKind::reduce);
  CHECK(value_of(expression("max(a, b)")).kind == ast::ExprKind::call);
  CHECK(value_of(expression("min (a, b)")).kind == ast::ExprKind::call);
}

TEST_CASE("a sum of 100,000 terms is one node, read in well under a second") {
  const auto begin = std::chrono::steady_clock::now();
  const test::Parsed p = expression("a" + repeated(" + a", 99999));
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  CHECK(value_of(p).operands.size() == 100000);
  CHECK(took.count() < 1.0);
  check_round_trip("model m()\nx = a" + repeated(" * a", 999) + "\n", "chain");
}

TEST_CASE("nesting of exactly the allowed depth is read, and stays within the stack") {
  for (const auto& [open, close] : {std::pair{"(", ")"}, {"abs(", ")"}, {"sum[t](", ")"}}) {
    const test::Parsed p = expression(repeated(open, 255) + "a" + repeated(close, 255));
    CHECK_MESSAGE(p.file != nullptr, p.messages);
    CHECK(expression(repeated(open, 300) + "a" + repeated(close, 300)).file == nullptr);
  }
  // Depth adds up over kinds: neither kind alone is too deep.
  CHECK(expression(repeated("(", 200) + "a" + repeated("[t = 1]", 200) + repeated(")", 200)).file ==
        nullptr);
  CHECK(expression(repeated("(-", 128) + "a" + repeated(")", 128)).file != nullptr);
  CHECK(expression(repeated("(-", 129) + "a" + repeated(")", 129)).file == nullptr);
}

TEST_CASE("a newline ends a statement except inside ( ) and [ ]") {
  const test::Parsed p = parse(
      "model m(a =\n 3,\n\n b = 4)\n\n# comment\nx = (a +   # more\n b)\ny[a\n b] = f(x,\n a = "
      "1)\n\n");
  REQUIRE_MESSAGE(p.file != nullptr, p.messages);
  CHECK(p.file->numbers.size() == 2);
  CHECK(p.file->body.size() == 2);
  CHECK(parse("model m()\nx = a +\n b\n").file == nullptr);
  CHECK(parse("model m()\nx = a\n + b\n").file == nullptr);
  CHECK(parse("model m()\nx = a y = b\n").file == nullptr);
  CHECK(parse("model m()\r\nx = a\r\ny = b # c\r\n").file != nullptr);
  CHECK(parse("model m()\nx = a").file != nullptr);
}

TEST_CASE("places are exact: whole expressions, and what a message points at") {
  const test::Parsed p = parse("model m()\nxy = abc + sum[t](q * k) / -sqrt(d)\n");
  const ast::Expr& whole = value_of(p);
  auto place = [](const Span& s) {
    return std::to_string(s.line) + ":" + std::to_string(s.column) + "+" + std::to_string(s.length);
  };
  CHECK(place(whole.at) == "2:6+30");
  CHECK(place(whole.op_at[1]) == "2:10+1");
  const ast::Expr& quotient = p.file->expr(whole.operands[1]);
  CHECK(place(quotient.at) == "2:12+24");
  CHECK(place(quotient.point) == "2:26+1");
  const ast::Expr& sum = p.file->expr(quotient.operands[0]);
  CHECK(place(sum.at) == "2:12+13");
  CHECK(place(sum.point) == "2:12+3");
  CHECK(place(p.file->expr(sum.operands[0]).at) == "2:19+5");
  // What goes on over several lines is underlined on its first.
  const test::Parsed q = parse("model m()\nx = f(a,   # one\n  b)\n");
  CHECK(place(value_of(q).at) == "2:5+4");
}

TEST_CASE("a tree printed as text parses to the same tree") {
  const std::vector<std::string> folders = {"frontend/lib", "frontend/models"};
  int files = 0;
  for (const std::string& folder : folders)
    for (const auto& entry : std::filesystem::directory_iterator(golden::source_path(folder)))
      if (entry.path().extension() == ".grad")
        check_round_trip(golden::read_file(entry.path().string()), entry.path().string()), ++files;
  CHECK(files >= 12);
  check_round_trip(
      "block f(x[], y[b t] = -1, n, k = 2 * (3 + 1)) { return x }\n"
      "model m(a = 3, b = a // 2)\nblock g() { expect fused(softmax)\n return true }\n"
      "axis s = a, r = size(s) * 2 - 1\ninput u[s]\ninput v[s r] < a\ninput w[s] in -1 .. a + 1\n"
      "param p[], q[s r = 3 t = a] as x.@._2 ~ uniform(1e-3)\nparam k[s] = p * training\nparam "
      "z[s] ~ -1\n"
      "train { steps = 3 optimizer = adamw(lr = cosine(1e-3, warmup = 2), betas = (1 / 2, (0.9)), "
      "except = \"a* b\") }\n",
      "every construct");
}

TEST_CASE("blocks and settings of a model keep their places in the printed text") {
  const std::string text =
      "model m(d = 3)\nblock f(x[]) {\n  return x\n}\nx = d\nblock g(x[]) {\n  return x\n}\ny = "
      "d\ntrain {\n  steps = 3\n}\ny = x\n";
  const test::Parsed p = parse(text);
  REQUIRE_MESSAGE(p.file != nullptr, p.messages);
  CHECK(print_model(*p.file) == text);
}

TEST_CASE("settings: numbers, strings, calls and tuples, told apart from bracketed numbers") {
  const test::Parsed p = parse(
      "model m(d = 3)\ntrain { a = (1 + 2) * 3\n b = size(d) c = (1, 2) e = sgd(0.1, clip = "
      "cosine(1)) f = \"x\" }\n");
  REQUIRE_MESSAGE(p.file != nullptr, p.messages);
  const std::vector<ast::Setting>& s = p.file->train;
  REQUIRE(s.size() == 5);
  CHECK(s[0].kind == ast::Setting::number);
  CHECK(s[1].kind == ast::Setting::number);
  CHECK(s[2].kind == ast::Setting::tuple);
  CHECK(s[2].items.size() == 2);
  CHECK(s[3].kind == ast::Setting::call);
  CHECK(s[3].items[0].name.text.empty());
  CHECK(s[3].items[1].name.text == "clip");
  CHECK(s[3].items[1].kind == ast::Setting::call);
  CHECK(s[4].text == "x");
}

TEST_CASE("use: relative to the using file, once a file, shared when used twice") {
  const test::Files files = {{"models/parts/a.grad", "use \"./b.grad\"\nblock a() { return 1 }\n"},
                             {"models/parts/b.grad", "block b() { return 1 }\n"}};
  const test::Parsed p =
      parse("use \"parts/a.grad\"\nuse \"parts//b.grad\"\nuse \"./parts/a.grad\"\nmodel m()\n",
            files, "models/m.grad");
  REQUIRE_MESSAGE(p.file != nullptr, p.messages);
  REQUIRE(p.file->uses.size() == 3);
  CHECK(p.file->uses[0].file == p.file->uses[2].file);
  CHECK(p.file->uses[0].file->uses[0].file == p.file->uses[1].file);
  CHECK(p.sources.size() == 3);
  CHECK(p.sources.name(p.file->uses[1].file->source) == "models/parts/b.grad");
}

TEST_CASE("use: a long chain of files is followed without recursion, an endless one is refused") {
  const auto chain = [](int length) {
    test::Files files;
    for (int i = 0; i < length; ++i)
      files["f" + std::to_string(i) + ".grad"] = "use \"f" + std::to_string(i + 1) + ".grad\"\n";
    files["f" + std::to_string(length) + ".grad"] = "block last() { return 1 }\n";
    return parse("use \"f0.grad\"\nmodel m()\n", files);
  };
  CHECK(chain(200).file != nullptr);
  CHECK(chain(300).messages.find("more than 256 files are used") != std::string::npos);
}
