// Protects what `check` prints: the margin keeps the text as it is, and the tree says each parameter once.
#include <doctest/doctest.h>

#include "unit/frontend/lowered.h"
#include "unit/frontend/tree.h"

namespace gradc::test {

TEST_CASE("the margin tells what each line binds, the tree what a model stores") {
  const Parsed p = parse(R"(model m(n = 2, d = 4, t = 3, b = 2, v = 8)   # a comment stays
block part(x[d], f) {
  param up[d f] as weight, c[f] ~ 0
  y = sum[d](x * up) + c                       # of the first call
  return sum[f](y * up)
}
input token[b t] < v
param emb[v d] as table ~ uniform(0.1)
half = size(d) / 2
x = emb[v = token]

repeat n as layer.@ {
  param g[d] ~ 1
  x = x + part(x * g, f = 3) as mlp
  repeat 3 as inner.@ { param s[d] as s@ ~ 0
    x = x * s }
}
param wave[t d] = sin(t) * d
odd = token % 2 == 1
z = x + wave
)");
  REQUIRE(p.file != nullptr);
  Sources sources = p.sources;
  const Result<std::string> text = annotate(sources, *p.file, {.need_loss = false});
  REQUIRE(text.ok());
  CHECK(*text == R"(model m(n = 2, d = 4, t = 3, b = 2, v = 8)   # a comment stays
block part(x[d], f) {
  param up[d f] as weight, c[f] ~ 0                                 | up f32[d=4 f=3], c f32[f=3]
  y = sum[d](x * up) + c                       # of the first call  | y f32[b=2 t=3 f=3]
  return sum[f](y * up)                                             | f32[b=2 t=3 d=4]
}
input token[b t] < v                                                | token i32[b=2 t=3]
param emb[v d] as table ~ uniform(0.1)                              | emb f32[v=8 d=4]
half = size(d) / 2                                                  | half = 2
x = emb[v = token]                                                  | x f32[b=2 t=3 d=4]

repeat n as layer.@ {
  param g[d] ~ 1                                                    | g f32[d=4]
  x = x + part(x * g, f = 3) as mlp                                 | x f32[b=2 t=3 d=4]
  repeat 3 as inner.@ { param s[d] as s@ ~ 0                        | s f32[d=4]
    x = x * s }                                                     | x f32[b=2 t=3 d=4]
}
param wave[t d] = sin(t) * d                                        | wave f32[t=3 d=4]
odd = token % 2 == 1                                                | odd bool[b=2 t=3]
z = x + wave                                                        | z f32[b=2 t=3 d=4]

table            [v=8 d=4]  uniform(0.1)            32
layer.0 … 1                                     2 x 31
  g              [d=4]      1.0                      4
  mlp.weight     [d=4 f=3]  0.0                     12
  mlp.c          [f=3]      0.0                      3
  inner.0 … 2                                    3 x 4
    s0 … 2       [d=4]      0.0                      4
wave             [t=3 d=4]  @fixed.wave, fixed      12
parameters, 12 of them fixed                       106
)");
}

}  // namespace gradc::test
