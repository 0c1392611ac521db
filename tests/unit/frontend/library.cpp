// What is shipped: embedded byte for byte, and no parameter left to a default (rule 23).
#include <doctest/doctest.h>

#include <filesystem>
#include <set>

#include "support/golden.h"
#include "unit/frontend/tree.h"

using namespace gradc;

namespace {

std::set<std::string> grad_files(const std::string& folder) {
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(golden::source_path(folder)))
    if (entry.path().extension() == ".grad") names.insert(entry.path().filename().string());
  return names;
}

void check_initialisers(const std::string& text, const std::string& name) {
  const test::Parsed p = test::parse(text, {}, name);
  REQUIRE_MESSAGE(p.file != nullptr, p.messages);
  for (const ast::Stmt& s : p.file->stmts)
    if (s.kind == ast::StmtKind::param)
      CHECK_MESSAGE(s.init.kind != ast::Init::none, name << ":" << s.at.line);
}

// Blocks and model without header, initialisers, `expect` and `train`, each parameter a statement of its own.
std::string equations(std::string text, const std::string& name) {
  const test::Parsed p = test::parse(text, {}, name);
  REQUIRE_MESSAGE(p.file != nullptr, p.messages);
  ast::File f = *p.file;
  f.model.text.clear();
  f.numbers.clear();
  f.train.clear();
  f.has_train = false;
  f.train_place = 0;
  const auto split = [&](std::vector<ast::StmtId>& body) {
    std::vector<ast::StmtId> out;
    for (ast::StmtId id : body) {
      const ast::Stmt s = f.stmt(id);
      if (s.kind != ast::StmtKind::param && s.kind != ast::StmtKind::expect) out.push_back(id);
      for (const ast::ParamDecl& d : s.decls) {
        out.push_back({static_cast<std::uint32_t>(f.stmts.size())});
        f.stmts.push_back({.kind = s.kind, .decls = {d}});
      }
    }
    body = std::move(out);
  };
  split(f.body);
  for (ast::Block& b : f.blocks) {
    split(b.body);
    b.place = 0;
  }
  return test::tree(f);
}

}  // namespace

TEST_CASE("the library in the binary is frontend/lib, byte for byte") {
  std::set<std::string> embedded;
  for (const Embedded& e : library()) {
    embedded.insert(std::string(e.name));
    CHECK_MESSAGE(
        golden::read_file(golden::source_path("frontend/lib/" + std::string(e.name))) == e.text,
        e.name);
  }
  CHECK(embedded == grad_files("frontend/lib"));
}

TEST_CASE("every parameter of the library and of the models says how it starts") {
  for (const std::string folder : {"frontend/lib/", "frontend/models/"})
    for (const std::string& name : grad_files(folder))
      check_initialisers(golden::read_file(golden::source_path(folder + name)), name);
}

TEST_CASE("the library has the blocks that models share, each once") {
  std::multiset<std::string> blocks;
  for (const Embedded& e : library()) {
    const test::Parsed p = test::parse(std::string(e.text), {}, std::string(e.name));
    REQUIRE_MESSAGE(p.file != nullptr, p.messages);
    CHECK(!p.file->has_model);
    for (const ast::Block& b : p.file->blocks) blocks.insert(b.name.text);
  }
  for (const char* name : {"relu", "sigmoid", "silu", "gelu", "gelu_erf", "dropout", "layernorm",
                           "rmsnorm", "attention", "mlp", "rotary", "sinusoid"})
    CHECK_MESSAGE(blocks.count(name) == 1, name);
}

TEST_CASE("every shipped model compiles, without a warning") {
  for (const std::string& name : grad_files("frontend/models")) {
    test::Parsed p =
        test::parse(golden::read_file(golden::source_path("frontend/models/" + name)), {}, name);
    REQUIRE_MESSAGE(p.file != nullptr, p.messages);
    const Result<Model> model = lower(p.sources, *p.file, {});
    REQUIRE_MESSAGE(model.ok(), test::render_all(p.sources, model.failure()));
    for (const Diagnostic& d : model->warnings) FAIL_CHECK(render(p.sources, d));
    CHECK(model->token_batch == "b");
    CHECK(model->token_time == "t");
  }
}

TEST_CASE(
    "gpt.grad is GPT-2: the equations, names and layouts that parity with PyTorch was shown for") {
  const std::string ours = golden::read_file(golden::source_path("frontend/models/gpt.grad"));
  const std::string theirs = golden::read_file(golden::source_path("tests/parity/gpt2/model.grad"));
  CHECK(equations(ours, "gpt.grad") == equations(theirs, "model.grad"));
  CHECK(ours.find("model gpt2(layers = 4, d = 128, h = 4, v = 256, t = 64, b = 12, p = t)") !=
        std::string::npos);
  test::Parsed p = test::parse(ours);
  const Result<Model> gpt2 = lower(p.sources, *p.file,
                                   {.set = {{"layers", "12"},
                                            {"d", "768"},
                                            {"h", "12"},
                                            {"v", "50257"},
                                            {"t", "1024"},
                                            {"b", "4"}}});
  REQUIRE_MESSAGE(gpt2.ok(), test::render_all(p.sources, gpt2.failure()));
  std::int64_t count = 0;
  for (std::uint32_t i = 0; i < gpt2->program.bundles.size(); ++i)
    if (gpt2->program.text(gpt2->program.bundles[i].name) == "params")
      count = element_count(gpt2->program, BundleId{i});
  CHECK(count == 124439808);
}
