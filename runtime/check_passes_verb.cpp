// check --passes: every pass of the pipeline against what stood before it, at the smallest sizes of
// the model.
#include <fmt/format.h>

#include <optional>

#include "runtime/check_passes.h"
#include "runtime/gradcheck.h"
#include "runtime/verbs.h"

namespace gradc {
namespace {

Result<int> check_model(const Common& common, Sources& sources) {
  Result<LowerOptions> lowering = lower_options(common);
  if (!lowering) return lowering.failure();
  lowering->need_loss = false;
  Result<Target> target = chosen_target(common);
  if (!target) return target.failure();
  Result<ModelFile> model = load_model(common, sources, *lowering);
  if (!model) return model.failure();
  sources = model->sources;
  Result<SmallModel> small = smallest_model(sources, *model->file, *lowering);
  if (!small) return small.failure();
  std::string text = "sizes:";
  for (const auto& [name, value] : small->set) text += fmt::format(" {}={}", name, value);
  bool written = out(text + "\n");
  const Program& program = small->model.program;
  Result<PassCheck> check = PassCheck::begin(program, common.seed);
  if (!check) return check.failure();
  std::optional<Failure> failed;
  std::optional<PassLine> wrong;
  int passes = 0;
  const auto behind = [&](std::string_view pass, const Program& p) {
    if (failed || wrong) return;
    Result<PassLine> line = check->behind(pass, p);
    if (!line) {
      failed = line.failure();
      return;
    }
    ++passes;
    written = out(text_of(*line) + "\n") && written;
    if (!line->ok) wrong = std::move(*line);
  };
  // Without a loss there is nothing to train: then the passes of @eval.
  const std::string_view entry = program.find("loss").valid() ? "step" : "eval";
  Result<Program> planned =
      run_pipeline(program, {.target = *target, .entry = entry, .fuse = *chosen_fusion(common), .after = behind});
  if (failed) return *failed;
  if (!planned) return planned.failure();
  written = out(wrong ? fmt::format("the first pass that differs is {}, in {}\n", wrong->pass,
                                    wrong->value)
                      : fmt::format("{} passes: all values agree\n", passes)) &&
            written;
  if (!written) return static_cast<int>(Exit::file);
  return static_cast<int>(wrong ? Exit::check : Exit::ok);
}

}  // namespace

int check_passes(const Common& common) {
  Sources sources;
  Result<int> code = check_model(common, sources);
  return code ? *code : report(sources, code.failure());
}

}  // namespace gradc
