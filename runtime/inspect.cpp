// check, dump and opt: what the compiler thinks, stage by stage. LLVM is touched only for its own stages.
#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <unordered_set>

#include "codegen/codegen.h"
#include "ir/text.h"
#include "ir/verify.h"
#include "passes/math.h"
#include "passes/pipeline.h"
#include "runtime/step.h"
#include "runtime/verbs.h"

namespace gradc {
namespace {

struct StageRow {
  std::string_view name, help;
  Stage until;
};
constexpr StageRow stages[] = {
    {"ast", "the program as .grad text again", Stage::ir},
    {"ir", "as the frontend made it", Stage::ir},
    {"fused", "simplified; attention, norms and their like are one operation each", Stage::fused},
    {"grad", "simplified and differentiated: @grad, @update, @step", Stage::grad},
    {"grouped", "operations joined into kernels", Stage::grouped},
    {"plan", "inlined, ordered, every value in its place", Stage::plan},
    {"llvm", "LLVM IR of each distinct kernel", Stage::plan},
    {"asm", "machine code of each distinct kernel", Stage::plan},
};

int finish(bool written) { return static_cast<int>(written ? Exit::ok : Exit::file); }

// The kernels of the planned @step, each once.
Result<std::string> kernels_text(const Program& p, bool assembly, const Target& target) {
  const Function& step = p.function(p.find("step"));
  std::unordered_set<std::string> seen;
  std::string text;
  for (OpId id : step.body().ops) {
    const Op& op = step.op(id);
    if (op.code != Opcode::launch_) continue;
    const KernelInstance instance = instance_of(p, step, op);
    if (!seen.insert(key_of(p, instance, target)).second) continue;
    Result<std::string> part = assembly ? asm_text(p, instance, target) : llvm_text(p, instance, target);
    if (!part) return part;
    text += *part + "\n";
  }
  return text;
}

// A line a decision: `file:line: fused …` or `file:line: not fused …: reason; advice`, then what
// later passes decided. A block that was
// lowered twice says the same twice, and is told once.
std::string text_of_remarks(const Program& p, const std::vector<Remark>& remarks) {
  std::string text;
  std::set<std::string> told;
  for (const Remark& r : remarks) {
    const std::vector<SourcePos>& lines = p.location(r.at).lines;
    std::string at = "<the whole step>", others;
    if (!lines.empty()) at = fmt::format("{}:{}", p.files[lines[0].file.index], lines[0].line);
    for (std::size_t i = 1; i < lines.size(); ++i) {
      if (lines[i].file == lines[i - 1].file && lines[i].line == lines[i - 1].line) continue;
      others += others.empty() ? ", with " : ", ";
      if (lines[i].file != lines[0].file) others += p.files[lines[i].file.index] + ":";
      others += std::to_string(lines[i].line);
    }
    const std::string line =
        r.claim == Claim::none
            ? fmt::format("{}: {}{}{}\n", at, r.text, r.advice.empty() ? "" : "; ", r.advice)
        : r.fused ? fmt::format("{}: fused {} {}{}\n", at, name(r.claim), r.text, others)
                : fmt::format("{}: not fused {}: {}{}{}\n", at, name(r.claim), r.text,
                              r.advice.empty() ? "" : "; ", r.advice);
    if (told.insert(line).second) text += line;
  }
  return text;
}

Result<std::string> dump_text(const Common& common, const DumpOptions& o, Sources& sources) {
  const auto row = std::find_if(std::begin(stages), std::end(stages), [&](const StageRow& r) { return r.name == o.stage; });
  if (row == std::end(stages)) {
    std::string names;
    for (const StageRow& r : stages) names += fmt::format("{}{}", names.empty() ? "" : ", ", r.name);
    return failure(Exit::usage, fmt::format("unknown stage `{}`; there are {}", o.stage, names));
  }
  Result<LowerOptions> lowering = lower_options(common);
  if (!lowering) return lowering.failure();
  Result<Target> target = chosen_target(common);
  if (!target) return target.failure();
  lowering->need_loss = row->until != Stage::ir && row->until != Stage::fused && !o.remarks;
  // What is expected and missing can be looked at.
  Result<ModelFile> model = load_model(common, sources, *lowering, false, false);
  if (!model) return model.failure();
  if (row->name == "ast") return print_model(*model->file);
  Result<std::int64_t> budget = chosen_budget(common);
  if (!budget) return budget.failure();
  std::vector<Remark> remarks;
  Pipeline pipeline{.target = *target, .until = row->until, .fuse = *chosen_fusion(common), .precision = chosen_precision(common), .memory_budget = *budget, .remarks = &remarks};
  const bool trains = model->model.program.find("loss").valid();
  if (o.remarks) pipeline.until = trains ? Stage::plan : Stage::fused;
  Program behind;
  bool found = false;
  if (!o.after.empty()) {
    pipeline.until = Stage::plan;
    pipeline.after = [&](std::string_view pass, const Program& p) {
      if (pass != o.after || found) return;
      behind = p;
      found = true;
    };
  }
  Result<Program> program = run_pipeline(model->model.program, pipeline);
  if (!program) return program.failure();
  if (o.remarks) return text_of_remarks(*program, remarks);
  if (!o.after.empty()) {
    if (!found) return failure(Exit::usage, fmt::format("no pass `{}` runs; `gradc opt --list` has their names", o.after));
    *program = std::move(behind);
  }
  if (row->name == "llvm" || row->name == "asm") return kernels_text(*program, row->name == "asm", *target);
  if (o.math) {
    const std::string name = o.function.empty() ? "grad" : o.function.substr(o.function.starts_with("@"));
    if (row->name != "grad" || !o.after.empty()) return failure(Exit::usage, "--math goes with --stage=grad");
    if (!program->find(name).valid()) return failure(Exit::usage, fmt::format("there is no function `{}` at this stage", name));
    // On a whiteboard an attention is its equations.
    return math_text(simplify(unfuse(*program)), name);
  }
  PrintOptions print_options{.locations = !o.brief, .bodies = !o.brief, .functions = {}};
  if (!o.function.empty()) {
    const std::string name = o.function.starts_with("@") ? o.function.substr(1) : o.function;
    if (!program->find(name).valid()) return failure(Exit::usage, fmt::format("there is no function `{}` at this stage", name));
    print_options.functions = {name};
  } else if (program->find("step").valid()) {
    print_options.functions = {"step"};
  }
  std::string text;
  if (o.brief && row->name == "plan" && o.after.empty()) {
    std::string summary = summary_text(summarize_plan(*program, program->find("step")));
    const bool steps = program->find("step").valid();
    const auto beside = [&](const Remark& r) { return steps && (r.function == "loss" || r.function == "eval"); };
    for (const Remark& r : remarks)
      if (r.claim == Claim::none && !beside(r)) summary += r.text + "\n";
    for (std::size_t at = 0, end; at < summary.size(); at = end + 1) {
      end = summary.find('\n', at);
      text += fmt::format("# {}\n", std::string_view(summary).substr(at, end - at));
    }
  }
  return text + print(*program, print_options);
}

}  // namespace

int check(const Common& common) {
  Sources sources;
  Result<LowerOptions> options = lower_options(common);
  if (!options) return report(sources, options.failure());
  options->need_loss = false;
  Result<ModelFile> model = load_model(common, sources, *options);
  if (!model) return report(sources, model.failure());
  Result<std::string> text = annotate(model->sources, *model->file, *options);
  if (!text) return report(model->sources, text.failure());
  return finish(out(*text));
}

int dump(const Common& common, const DumpOptions& o) {
  if (o.list_stages) {
    std::string text;
    for (const StageRow& r : stages) text += fmt::format("{:<8} {}\n", r.name, r.help);
    return finish(out(text));
  }
  Sources sources;
  Result<std::string> text = dump_text(common, o, sources);
  if (!text) return report(sources, text.failure());
  return finish(out(*text));
}

int opt(const Common& common, const OptOptions& o) {
  Sources sources;
  if (o.list) {
    std::string text;
    for (const PassInfo& p : pass_list()) text += fmt::format("{:<14} {}\n", p.name, p.help);
    return finish(out(text));
  }
  Result<Target> target = chosen_target(common);
  if (!target) return report(sources, target.failure());
  std::vector<std::string> passes;
  for (std::size_t begin = 0; begin < o.passes.size();) {
    const std::size_t end = std::min(o.passes.find(',', begin), o.passes.size());
    if (end > begin) passes.push_back(o.passes.substr(begin, end - begin));
    begin = end + 1;
  }
  for (const std::string& pass : passes)
    if (std::none_of(pass_list().begin(), pass_list().end(), [&](const PassInfo& p) { return p.name == pass; }))
      return report(sources, failure(Exit::usage, fmt::format("unknown pass `{}`; `gradc opt --list` has their names", pass)));
  Result<std::string> text = read_text(common.file);
  if (!text) return report(sources, text.failure());
  const std::uint32_t source = sources.add(common.file == "-" ? "<stdin>" : common.file, std::move(*text));
  Result<Program> program = parse_ir(sources, source);
  if (!program) return report(sources, program.failure());
  if (const std::vector<Fault> faults = verify(*program); !faults.empty())
    return report(sources, failure(Exit::text, fmt::format("the program is not well-formed: {}", faults[0].message)));
  for (const std::string& pass : passes) {
    program = run_pass(*program, pass, *target);
    if (!program) return report(sources, program.failure());
  }
  return finish(out(print(*program, {.locations = !o.brief, .bodies = !o.brief, .functions = {}})));
}

}  // namespace gradc
