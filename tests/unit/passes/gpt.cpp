// Protects what simplification does to a whole training step: the operations of GPT's step before and
// after, and how often each rule fired. A rule that stops firing on a real model shows here.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <map>

#include "frontend/frontend.h"
#include "ir/verify.h"
#include "passes/passes.h"
#include "support/golden.h"

namespace gradc {
namespace {

std::map<std::string, int> operations(const Program& p) {
  std::map<std::string, int> out;
  for (const Function& f : p.functions)
    for (const Op& op : f.ops) ++out[std::string(facts(op.code).name)];
  return out;
}

}  // namespace

TEST_CASE("GPT's step, simplified: operations before and after, and the rules that fired") {
  golden::run("simplify-gpt", [](const golden::Case& c) {
    Sources sources;
    const std::string path = c.sections[0].args;
    Result<FilePtr> file = parse_model(sources, sources.add(path, golden::read_file(golden::source_path(path))),
                                       [](const std::string&, std::string&) { return false; });
    REQUIRE(file.ok());
    Result<Model> model = lower(sources, **file, {.values = {"loss"}});
    REQUIRE(model.ok());
    RuleCounts counts, again;
    Result<Program> grad = differentiate(simplify(model->program, &counts));
    REQUIRE(grad.ok());
    Program step = add_update(*grad);
    drop_unreachable(step, {"step"});
    const Program after = simplify(step, &counts);
    CHECK(verify(after).empty());
    simplify(after, &again);
    CHECK(again.empty());
    const auto was = operations(step), is = operations(after);
    std::string out = fmt::format("{:<12} {:>6} {:>6}\n", "operation", "before", "after");
    int sum_was = 0, sum_is = 0;
    for (const auto& [name, n] : was) {
      const auto it = is.find(name);
      const int m = it == is.end() ? 0 : it->second;
      out += fmt::format("{:<12} {:>6} {:>6}\n", name, n, m);
      sum_was += n;
    }
    for (const auto& [name, n] : is) {
      sum_is += n;
      if (!was.contains(name)) out += fmt::format("{:<12} {:>6} {:>6}\n", name, 0, n);
    }
    out += fmt::format("{:<12} {:>6} {:>6}\n\n", "all", sum_was, sum_is);
    for (const auto& [name, n] : counts) out += fmt::format("{:<18} {:>6}\n", name, n);
    return out;
  });
}

}  // namespace gradc
