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
    if (s.kind == ast::StmtKind::param) CHECK_MESSAGE(s.init.kind != ast::Init::none, name << ":" << s.at.line);
}

}  // namespace

TEST_CASE("the library in the binary is frontend/lib, byte for byte") {
  std::set<std::string> embedded;
  for (const Embedded& e : library()) {
    embedded.insert(std::string(e.name));
    CHECK_MESSAGE(golden::read_file(golden::source_path("frontend/lib/" + std::string(e.name))) == e.text, e.name);
  }
  CHECK(embedded == grad_files("frontend/lib"));
}

TEST_CASE("every parameter of the library and of the models says how it starts") {
  for (const std::string folder : {"frontend/lib/", "frontend/models/"})
    for (const std::string& name : grad_files(folder)) check_initialisers(golden::read_file(golden::source_path(folder + name)), name);
}

TEST_CASE("the library has the blocks that models share, each once") {
  std::multiset<std::string> blocks;
  for (const Embedded& e : library()) {
    const test::Parsed p = test::parse(std::string(e.text), {}, std::string(e.name));
    REQUIRE_MESSAGE(p.file != nullptr, p.messages);
    CHECK(!p.file->has_model);
    for (const ast::Block& b : p.file->blocks) blocks.insert(b.name.text);
  }
  for (const char* name : {"relu", "sigmoid", "silu", "gelu", "gelu_erf", "dropout", "layernorm", "rmsnorm", "attention", "mlp", "rotary", "sinusoid"})
    CHECK_MESSAGE(blocks.count(name) == 1, name);
}

TEST_CASE("every shipped model compiles, without a warning") {
  for (const std::string& name : grad_files("frontend/models")) {
    test::Parsed p = test::parse(golden::read_file(golden::source_path("frontend/models/" + name)), {}, name);
    REQUIRE_MESSAGE(p.file != nullptr, p.messages);
    const Result<Model> model = lower(p.sources, *p.file, {});
    REQUIRE_MESSAGE(model.ok(), test::render_all(p.sources, model.failure()));
    for (const Diagnostic& d : model->warnings) FAIL_CHECK(render(p.sources, d));
    CHECK(model->token_batch == "b");
    CHECK(model->token_time == "t");
  }
}
