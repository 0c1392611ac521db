// gradcheck: every parameter's derivative against finite differences, at the smallest sizes of the model.
#include <fmt/format.h>

#include "runtime/gradcheck.h"
#include "runtime/verbs.h"

namespace gradc {
namespace {

Result<int> gradcheck_model(const Common& common, const GradcheckOptions& o, Sources& sources) {
  Result<LowerOptions> lowering = lower_options(common);
  if (!lowering) return lowering.failure();
  lowering->values = {"loss"};
  Result<ModelFile> model = load_model(common, sources, *lowering);
  if (!model) return model.failure();
  sources = model->sources;
  Result<SmallModel> small = smallest_model(sources, *model->file, *lowering);
  if (!small) return small.failure();
  std::string sizes;
  for (const auto& [name, value] : small->set) sizes += fmt::format(" {}={}", name, value);
  if (!out(fmt::format("sizes:{}\n", sizes))) return static_cast<int>(Exit::file);
  Result<Target> target = chosen_target(common);
  if (!target) return target.failure();
  Result<Program> grad = run_pipeline(small->model.program, {.target = *target, .until = Stage::grad, .fuse = *chosen_fusion(common)});
  if (!grad) return grad.failure();
  bool written = true;
  Result<GradcheckReport> result =
      check_gradients(*grad, {.elements = o.elements, .seed = common.seed},
                      [&](const GradcheckLine& line) { written = out(text_of(line) + "\n") && written; });
  if (!result) return result.failure();
  std::size_t wrong = 0;
  for (const GradcheckLine& l : result->lines) wrong += l.ok ? 0 : 1;
  const std::string verdict = wrong == 0 ? "all derivatives agree" : fmt::format("{} derivatives differ", wrong);
  written = out(fmt::format("{} tensors, {} evaluations: {}\n", result->lines.size(), result->evaluations, verdict)) && written;
  if (!written) return static_cast<int>(Exit::file);
  return static_cast<int>(result->ok ? Exit::ok : Exit::check);
}

}  // namespace

int gradcheck(const Common& common, const GradcheckOptions& options) {
  Sources sources;
  Result<int> code = gradcheck_model(common, options, sources);
  return code ? *code : report(sources, code.failure());
}

}  // namespace gradc
