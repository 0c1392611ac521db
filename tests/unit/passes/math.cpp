// Protects the mathematical text of gradients: what a reader sees of mini.grad and gpt.grad, that
// every operation has a form in the language, and that the text of every shipped model parses as
// the body of a model.
#include "passes/math.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <filesystem>
#include <sstream>

#include "frontend/frontend.h"
#include "ir/text.h"
#include "ir/verify.h"
#include "passes/pipeline.h"
#include "support/golden.h"

namespace gradc {
namespace {

bool no_file(const std::string&, std::string&) { return false; }

std::string math_of_model(const std::string& path) {
  Sources sources;
  const std::uint32_t source = sources.add(path, golden::read_file(golden::source_path(path)));
  const auto parsed = parse_model(sources, source, no_file);
  if (!parsed) FAIL(render(sources, parsed.failure().diagnostics[0]));
  const Result<Model> lowered = lower(sources, **parsed, {.values = {"loss"}});
  if (!lowered) FAIL(render(sources, lowered.failure().diagnostics[0]));
  const Result<Program> program =
      run_pipeline(lowered->program, {.target = avx512_target(), .until = Stage::grad});
  if (!program) FAIL(program.failure().diagnostics[0].message);
  return math_text(*program, "grad");
}

// "" if the text is the body of a model, else why not. The lines of definitions that stand in
// comments, which have a left side, count.
std::string why_not_language(const std::string& text) {
  std::istringstream lines(text);
  std::string body = "model m()\n", comments;
  for (std::string line; std::getline(lines, line);) {
    body += line + "\n";
    const std::size_t at = line.find_first_not_of(' ');
    if (at != std::string::npos && line[at] == '#' && line.find(" = ") != std::string::npos &&
        line.find(": ") == std::string::npos)
      comments += line.substr(line.find_first_not_of("# ", at)) + "\n";
  }
  Sources sources;
  const auto parsed = parse_model(sources, sources.add("math", body + comments), no_file);
  return parsed ? "" : render(sources, parsed.failure().diagnostics[0]);
}

}  // namespace

TEST_CASE("math: gradients as one would write them") {
  golden::run("math", [](const golden::Case& c) {
    const golden::Section& in = c.sections[0];
    std::string text;
    if (in.name == "model") {
      text = math_of_model(in.args);
    } else {
      Sources sources;
      const Result<Program> program = parse_ir(sources, sources.add("x.ir", in.text));
      if (!program) return render(sources, program.failure().diagnostics[0]);
      for (const Fault& f : verify(*program)) return "fault: " + f.message + "\n";
      text = math_text(*program, in.args);
    }
    CHECK(why_not_language(text) == "");
    return text;
  });
}

TEST_CASE("math: the gradient of every shipped model is text of the language") {
  for (const auto& file :
       std::filesystem::directory_iterator(golden::source_path("frontend/models"))) {
    const std::string path = "frontend/models/" + file.path().filename().string();
    CAPTURE(path);
    const std::string text = math_of_model(path);
    CHECK(why_not_language(text) == "");
    CHECK(text.find("\n# backward\n") != std::string::npos);
    // Every trained parameter has its gradient; nothing is left without a form.
    for (const char* left : {"call(", "launch(", "%"}) {
      CAPTURE(left);
      const std::size_t at = text.find(left);
      // The remainder is the one operation written with a percent sign.
      CHECK((at == std::string::npos || text.compare(at - 1, 3, " % ") == 0));
    }
  }
}

}  // namespace gradc
