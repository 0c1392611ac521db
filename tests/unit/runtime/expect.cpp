// Protects `expect fused(K)`: what a text expects is fused, or it is an error there that says why.
#include <doctest/doctest.h>

#include <string>

#include "runtime/front.h"

using namespace gradc;

namespace {

// The messages of a model's expectations; empty where all hold.
std::string missed(const std::string& text, const FuseOptions& fuse = {}) {
  Sources sources;
  const auto no_file = [](const std::string&, std::string&) { return false; };
  Result<FilePtr> file = parse_model(sources, sources.add("m.grad", text), no_file);
  REQUIRE(file.ok());
  Result<Model> model = lower(sources, **file, {.need_loss = false});
  if (!model) FAIL(render(sources, model.failure().diagnostics[0]));
  const Result<Done> r = check_expectations(*model, fuse);
  if (r) return "";
  CHECK(r.failure().exit == Exit::text);
  std::string out;
  for (const Diagnostic& d : r.failure().diagnostics) out += render(sources, d);
  return out;
}

std::string attention(const std::string& last) {
  return "model m(b = 2, t = 4, s = 4, h = 2, e = 4)\n"
         "block attend(q[b t h e], k[b s h e]) {\n"
         "  expect fused(attention)\n"
         "  a = sum[e](q * k)\n"
         "  y = sum[s](softmax[s](a) * k)\n"
         "  return " +
         last +
         "\n"
         "}\n"
         "param q[b t h e], k[b s h e]\n"
         "y = attend(q, k)\n";
}

}  // namespace

TEST_CASE("what is expected and fused says nothing") { CHECK(missed(attention("y")) == ""); }

TEST_CASE("what is expected and not fused is an error at the word, with the reason at its line") {
  const std::string m = missed(attention("y + mean[s](a)"));
  CHECK(m.find("m.grad:3:16: error: no `attention` was fused from these lines, in @eval") == 0);
  CHECK(m.find("m.grad:6:14: note: its scores `a` are used by `sum`, too") != std::string::npos);
}

TEST_CASE("what is not looked for is not missed") {
  FuseOptions off;
  off.off[static_cast<std::size_t>(Claim::attention)] = true;
  CHECK(missed(attention("y + mean[s](a)"), off) == "");
}

TEST_CASE("each call of a block is held to what the block expects") {
  std::string text = attention("y");
  text +=
      "block twice(q[b t h e], k[b s h e]) {\n"
      "  expect fused(layernorm)\n"
      "  return attend(q, k)\n"
      "}\n"
      "z = twice(q, k)\n";
  CHECK(missed(text).find("no `layernorm` was fused") == std::string::npos);  // no line of its own
  const std::string norm =
      "model m(b = 2, d = 4)\n"
      "block norm(x[b d], n) {\n"
      "  expect fused(rmsnorm)\n"
      "  return x / sqrt(sum[d](x * x) / n + 0.001)\n"
      "}\n"
      "param x[b d], w[b d]\n"
      "y = norm(x, 4) + ";
  CHECK(missed(norm + "norm(w, 4)\n") == "");
  CHECK(missed(norm + "norm(w, 3)\n").find("m.grad:3:16: error") == 0);
}
