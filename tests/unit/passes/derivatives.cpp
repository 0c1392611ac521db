// Protects the derivative table: every row against finite differences, first and second
// derivatives. The cases are generated from the table and from ir/ops.def, so a new elementwise
// operation or reduction is covered as soon as it has a row; any other needs a text below, and its
// absence fails.
#include "passes/derivatives.h"

#include <map>

#include "ir/builder.h"
#include "ir/typing.h"
#include "gradient_check.h"

namespace gradc {
namespace {

using namespace gradient_test;
using Row = Derivative::Kind;

// Texts for operations whose attributes cannot be guessed: @f uses the operation, at three shapes
// or more.
const std::multimap<std::string_view, std::string_view> texts = {
    {"expand", R"(func @f(%x: f32[x=2 y=3]) -> f32[z=2 y x] {
  %r = expand %x -> f32[z y x]
  return %r
})"},
    {"expand", R"(func @f(%x: f32[], %y: f32[a=1]) -> f32[a], f32[x=1 a] {
  %r = expand %x -> f32[a]
  %s = expand %y -> f32[x a]
  return %r, %s
})"},
    {"relabel", R"(func @f(%x: f32[t=3 d=2], %y: f32[t o=1]) -> f32[s=3 t], f32[s o] {
  %a = relabel %x [t -> s] -> f32[s d]
  %b = sum %a over d -> f32[s]
  %r = mul %b, %y -> f32[s t o]
  %q = sum %r over o -> f32[s t]
  %z = relabel %y [t -> s] -> f32[s o]
  return %q, %z
})"},
    {"pick", R"(func @f(%x: f32[n=3 t=2], %y: f32[n o=1]) -> f32[t], f32[o], f32[n] {
  %a = pick %x [n = 1] -> f32[t]
  %b = pick %x [n = 2] -> f32[t]
  %c = mul %a, %b -> f32[t]
  %d = pick %y [n = 0] -> f32[o]
  %e = pick %y [o = 0] -> f32[n]
  return %c, %d, %e
})"},
    {"pick", R"(func @f(%x: f32[n=4 t=2], %p: i64[]) -> f32[t], f32[t], f32[t] {
  %a = pick %x, %p [n = 0] -> f32[t]
  %b = pick %x, %p [n = 1] -> f32[t]
  %c = pick %x, %p [n = 4] -> f32[t]
  %d = mul %a, %a -> f32[t]
  return %d, %b, %c
})"},
    {"slice", R"(func @f(%x: f32[t=7 d=2], %y: f32[o=1]) -> f32[u=3 d], f32[w=4 d], f32[z=1] {
  %a = slice %x [t = 0 + 2*u] -> f32[u d]
  %b = mul %a, %a -> f32[u d]
  %c = slice %x [t = 1 + 1*w] -> f32[w d]
  %e = slice %y [o = 0 + 1*z] -> f32[z]
  return %b, %c, %e
})"},
    {"slice", R"(func @f(%x: f32[t=6 d=2], %p: i64[]) -> f32[u=3 d], f32[d u], f32[t d] {
  %a = slice %x, %p [t = 1 + 1*u] -> f32[u d]
  %b = slice %x, %p [t = -2 + 2*u] -> f32[u d]
  %c = mul %a, %b -> f32[u d]
  %d = slice %x, %p [t = 4 + 1*u] -> f32[d u]
  %e = slice %x, %p [t = 1 + 2*t] -> f32[t d]
  return %c, %d, %e
})"},
    {"split", R"(func @f(%x: f32[n=6 d=2], %y: f32[d]) -> f32[i=2 j=3 d], f32[k=1 l=2] {
  %a = split %x [n -> i j] -> f32[i j d]
  %b = mul %a, %y -> f32[i j d]
  %c = split %y [d -> k l] -> f32[k l]
  return %b, %c
})"},
    {"merge", R"(func @f(%x: f32[i=2 d=3 j=2], %y: f32[i a=1]) -> f32[d n=4], f32[i] {
  %a = merge %x [j i -> n] -> f32[d n]
  %b = mul %a, %a -> f32[d n]
  %c = merge %y [i a -> i] -> f32[i]
  return %b, %c
})"},
    {"shift", R"(func @f(%x: f32[t=4 d=2], %y: f32[o=1]) -> f32[t d], f32[t d], f32[o] {
  %a = shift %x [t - 1] -> f32[t d]
  %b = mul %a, %x -> f32[t d]
  %c = shift %x [t + 2] -> f32[d t]
  %d = mul %c, %x -> f32[t d]
  %e = shift %y [o + 1] -> f32[o]
  return %b, %d, %e
})"},
    {"pad", R"(func @f(%x: f32[u=3 d=2], %y: f32[o=1]) -> f32[t=7 d], f32[u] {
  %a = pad %x [t = 1 + 2*u] -> f32[t d]
  %b = mul %a, %a -> f32[t d]
  %c = pad %y [u = 2 + 1*o] -> f32[u]
  return %b, %c
})"},
    {"place", R"(func @f(%x: f32[d=2], %y: f32[], %z: f32[o=1]) -> f32[n=3 d], f32[m=1], f32[o n] {
  %a = place %x [n = 1] -> f32[n d]
  %b = mul %a, %x -> f32[n d]
  %c = place %y [m = 0] -> f32[m]
  %e = place %z [n = 2] -> f32[o n]
  return %b, %c, %e
})"},
    {"concat", R"(func @f(%q: f32[d=2 u=3], %k: f32[d], %v: f32[w=1 d]) -> f32[n=5 d], f32[a=4] {
  %a = concat %q, %k, %v [n = u _ w] -> f32[n d]
  %b = mul %a, %a -> f32[n d]
  %c = concat %k, %k [a = d d] -> f32[a]
  return %b, %c
})"},
    {"gather", R"(func @f(%w: f32[v=4 d=2], %y: f32[b=2 v], %i: i32[b t=3]) -> f32[b t d], f32[b t] {
  %a = gather %w, %i [v] -> f32[b t d]
  %b = mul %a, %a -> f32[b t d]
  %c = gather %y, %i [v] -> f32[b t]
  %d = mul %c, %c -> f32[b t]
  return %b, %d
})"},
    {"gather", R"(func @f(%w: f32[v=1 d=2], %i: i64[t=3]) -> f32[t d] {
  %a = gather %w, %i [v] -> f32[t d]
  return %a
})"},
    {"scatter", R"(func @f(%g: f32[t=5 d=2], %i: i32[t], %base: f32[v=3 d], %h: f32[o=1 b=2 t]) -> f32[v d], f32[v d], f32[b v o] {
  %a = scatter %g, %i [v] -> f32[v d]
  %b = mul %a, %a -> f32[v d]
  %c = mul %base, %base -> f32[v d]
  %e = scatter %g, %i, %c [v] -> f32[v d]
  %k = scatter %h, %i [v] -> f32[b v o]
  return %b, %e, %k
})"},
    {"update", R"(func @f(%x: f32[t=4 d=2], %y: f32[d u=2], %p: i64[], %z: f32[o=1 d]) -> f32[t d], f32[t d] {
  %a = update %x, %y, %p [u -> t] -> f32[t d]
  %b = mul %a, %a -> f32[t d]
  %c = update %b, %z, %p [o -> t] -> f32[t d]
  return %b, %c
})"},
    {"bound", R"(func @f(%x: f32[t=4 d=2], %n: i64[], %y: f32[o=1]) -> f32[t d], f32[o] {
  %a = bound %x, %n [t] -> f32[t d]
  %b = mul %a, %x -> f32[t d]
  %c = bound %y, %n [o] -> f32[o]
  return %b, %c
})"},
    {"contract", R"(func @f(%a: f32[b=2 t=3 d=2], %w: f32[d e=2 b], %o: f32[z=1 d]) -> f32[b t e], f32[e t], f32[t], f32[z b t], f32[b] {
  %x = contract %a, %w -> f32[b t e]
  %y = contract %a, %w -> f32[e t]
  %s = contract %a, %x -> f32[t d e]
  %u = contract %s, %s -> f32[t]
  %v = contract %o, %a -> f32[z b t]
  %q = contract %a, %a -> f32[b]
  return %x, %y, %u, %v, %q
})"},
    {"contract", R"(func @f(%a: f32[], %b: f32[d=1], %c: f32[e=2]) -> f32[d], f32[], f32[e d] {
  %x = contract %a, %b -> f32[d]
  %y = contract %b, %b -> f32[]
  %z = contract %b, %c -> f32[e d]
  return %x, %y, %z
})"},
    {"cast", R"(func @f(%a: f32[x=2 y=3], %b: f64[x=2], %c: f32[o=1], %k: i32[y]) -> f64[x y], f32[x], f64[o], f32[x y] {
  %p = cast %a -> f64[y x]
  %q = mul %p, %b -> f64[x y]
  %r = cast %b -> f32[x]
  %s = cast %c -> f64[o]
  %t = cast %k -> f32[y]
  %u = mul %t, %a -> f32[x y]
  return %q, %r, %s, %u
})"},
    {"flat", R"(bundle @inner {
  a: f32[d=2 e=3] as "a.@"
  s: f32[] as "s.@"
}
bundle @b {
  h: 2 x @inner
  w: f32[o=1 k=2 d=2] as "w"
  z: f32[n=15] as "z"
}
func @f(%p: @b) -> f32[n.1=33], f32[n.1] {
  %x = flat %p: @b [n.1] -> f32[n.1]
  %y = mul %x, %x -> f32[n.1]
  return %x, %y
})"},
    {"call", R"(func @h(%x: f32[d=2], %w: f32[d e=2], %i: i32[]) -> f32[d], f32[e] {
  %a = contract %x, %w -> f32[e]
  %b = tanh %a -> f32[e]
  %c = contract %b, %w -> f32[d]
  return %c, %b
}
func @f(%x: f32[k=2], %w: f32[k d=2], %i: i32[]) -> f32[k], f32[d] {
  %a, %b = call @h %x, %w, %i -> f32[k], f32[d]
  %c, %d = call @h %a, %w, %i -> f32[k], f32[d]
  %e = mul %b, %d -> f32[d]
  return %c, %e
})"},
    {"fused", R"(func @f(%x: f32[t=3 s=2], %y: f32[o=1 s], %c: bool[t s]) -> f32[t s], f32[t o] {
  %p, %q = fused group %x, %y, %c -> f32[t s], f32[t o] { (%a: f32[t s], %b: f32[o s], %k: bool[t s])
    %m = amax %a over s -> f32[t]
    %d = sub %a, %m -> f32[t s]
    %e = exp %d -> f32[t s]
    %z = sum %e over s -> f32[t]
    %r = div %e, %z -> f32[t s]
    %n = neg %r -> f32[t s]
    %w = select %k, %r, %n -> f32[t s]
    %u = contract %w, %b -> f32[t o]
    yield %w, %u
  }
  return %p, %q
})"},
    {"scan", R"(func @f(%h0: f32[b=2 d=2], %z: f32[b t=3 d], %w: f32[d k=2]) -> f32[b d], f32[b t d] {
  %h, %hs = scan t carry 1 slice 1 %h0, %z, %w -> f32[b d], f32[b t d] { (%h1: f32[b d], %z1: f32[b d], %w1: f32[d k])
    %a = relabel %h1 [d -> k] -> f32[b k]
    %c = contract %a, %w1 -> f32[b d]
    %e = add %c, %z1 -> f32[b d]
    %next = tanh %e -> f32[b d]
    %y = mul %next, %h1 -> f32[b d]
    yield %next, %y
  }
  return %h, %hs
})"},
    {"scan", R"(func @f(%h0: f32[d=2], %z: f32[t=3 d], %c0: f32[]) -> f32[d], f32[], f32[d t] {
  %h, %c, %hs = scan t reverse carry 2 slice 1 %h0, %c0, %z -> f32[d], f32[], f32[d t] { (%h1: f32[d], %c1: f32[], %z1: f32[d])
    %next = mul %h1, %z1 -> f32[d]
    %s = sum %z1 over d -> f32[]
    yield %next, %s, %h1
  }
  return %h, %c, %hs
})"},
    {"scan", R"(func @f(%h0: f32[o=1], %w: f32[o], %z: f32[o t=1]) -> f32[o] {
  %h = scan t carry 1 slice 1 %h0, %z, %w -> f32[o] { (%h1: f32[o], %z1: f32[o], %w1: f32[o])
    %a = mul %h1, %w1 -> f32[o]
    %next = mul %a, %z1 -> f32[o]
    yield %next
  }
  return %h
})"},
};

// ---- generated: elementwise operations and reductions

struct Shape {
  std::string_view name;
  // Axes of operands a, b, c: letters of x = 2, y = 3, o = 1.
  std::array<std::string_view, 3> axes;
};
constexpr Shape shapes[] = {
    {"one shape", {"xy", "xy", "xy"}},
    {"an axis of 1", {"ox", "xo", "o"}},
    {"broadcast", {"xy", "y", "x"}},
    {"broadcast the other way", {"y", "xoy", "yx"}},
    {"scalars", {"", "xy", ""}},
};
std::int64_t extent_of(char axis) { return axis == 'x' ? 2 : axis == 'y' ? 3 : 1; }

struct Sample {
  Program program;
  bool built = false;
};

// @f applies the operation to operands of these dtypes; with `twice` its real operands are all one
// value.
Sample sample(Opcode code, const std::vector<DType>& dtypes, const Shape& shape, bool twice) {
  Sample s;
  Function f{.name = s.program.intern("f")};
  Builder b(s.program, f);
  std::vector<ValueId> operands;
  ValueId shared;
  for (std::size_t i = 0; i < dtypes.size(); ++i) {
    Type t{dtypes[i], {}};
    for (char a : shape.axes[i]) t.axes.push_back(b.axis(std::string_view(&a, 1), extent_of(a)));
    if (twice && is_real(t.dtype) && shared.valid()) {
      operands.push_back(shared);
      continue;
    }
    operands.push_back(b.argument(t, std::string(1, static_cast<char>('a' + i))));
    if (is_real(t.dtype)) shared = operands.back();
  }
  Attr attr;
  if (facts(code).attr == AttrForm::axes) {
    const AxisList axes = f.type(operands[0]).axes;
    if (axes.empty()) return s;
    attr.axes.push_back(axes[axes.size() - 1]);
    if (twice && axes.size() > 1) attr.axes.push_back(axes[0]);
  }
  std::string fault;
  if (!infer(s.program, f, code, operands, attr, fault)) return s;
  const ValueId r = b.add(code, operands, attr);
  b.finish(std::vector{r});
  s.program.functions.push_back(std::move(f));
  s.built = true;
  return s;
}

bool finite(const std::vector<Array>& arrays) {
  for (const Array& a : arrays)
    for (double x : a.real)
      if (!std::isfinite(x)) return false;
  return true;
}

void check_no_gradient(Program& p, const std::vector<Array>& arguments) {
  std::vector<std::uint32_t> wrt;
  for (std::uint32_t i = 0; i < arguments.size(); ++i)
    if (is_real(arguments[i].dtype)) wrt.push_back(i);
  const Result<FunctionId> made = add_gradient(p, FunctionId{0}, wrt, "g");
  REQUIRE(made.ok());
  check_well_formed(p);
  std::vector<Array> with = arguments;
  const Function& grad = p.function(*made);
  Random random(5);
  for (std::size_t i = arguments.size(); i < grad.body().arguments.size(); ++i)
    with.push_back(draw(grad, grad.type(grad.body().arguments[i]), random, true));
  const std::vector<Array> got = run(p, *made, with);
  for (std::size_t n = 0; n < wrt.size(); ++n)
    CHECK(std::all_of(got[n].real.begin(), got[n].real.end(), [](double x) { return x == 0; }));
}

// Every assignment of dtypes that the type rule takes, with at least one real.
int check_generated(Opcode code) {
  int done = 0;
  const int n = facts(code).most;
  constexpr DType choices[] = {DType::f32, DType::boolean, DType::i32};
  int assignments = 1;
  for (int i = 0; i < n; ++i) assignments *= 3;
  for (int k = 0; k < assignments; ++k) {
    std::vector<DType> dtypes;
    bool real = false;
    for (int i = 0, rest = k; i < n; ++i, rest /= 3) {
      dtypes.push_back(choices[rest % 3]);
      real = real || is_real(dtypes.back());
    }
    if (!real) continue;
    for (const Shape& shape : shapes)
      for (bool twice : {false, true}) {
        Sample s = sample(code, dtypes, shape, twice);
        if (!s.built) continue;
        CAPTURE(shape.name);
        CAPTURE(twice);
        const Function& f = s.program.functions[0];
        Random random(3);
        std::vector<Array> arguments = draw_all(f, random, true);
        // Roots, logarithms and powers want positive arguments.
        if (!finite(run(s.program, FunctionId{0}, arguments))) {
          Random again(3);
          arguments = draw_all(f, again, false);
        }
        if (derivative(code).kind == Row::none)
          check_no_gradient(s.program, arguments);
        else
          check_gradient(s.program, FunctionId{0}, arguments);
        ++done;
      }
  }
  return done;
}

}  // namespace

TEST_CASE("derivatives: every row by finite differences, and its derivative again") {
  for (int i = 0; i < opcode_count; ++i) {
    const auto code = static_cast<Opcode>(i);
    const Facts& row = facts(code);
    const Row kind = derivative(code).kind;
    CAPTURE(row.name);
    int done = 0;
    if (is_elementwise(code) || row.kind == Kind::reduce) done += check_generated(code);
    const auto [first, last] = texts.equal_range(row.name);
    for (auto it = first; it != last; ++it)
      check_text(std::string(it->second), static_cast<std::uint64_t>(++done));
    // `launch` is refused; it has a test of its own.
    if (kind != Row::none && code != Opcode::launch_) CHECK(done > 0);
    if (kind == Row::formula && (is_elementwise(code) || row.kind == Kind::reduce) &&
        code != Opcode::cast_)
      CHECK(done >= 3);
  }
}

}  // namespace gradc
