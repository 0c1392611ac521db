// From a syntax tree to a program: elaboration, then emission of @loss and @eval.
#include <fmt/format.h>

#include <algorithm>

#include "frontend/emit.h"
#include "frontend/frontend.h"
#include "frontend/lowerer.h"
#include "frontend/reach.h"
#include "ir/pattern.h"
#include "ir/verify.h"

namespace gradc {
namespace {

std::vector<std::string> patterns_of(const std::string& text) {
  std::vector<std::string> out(1);
  for (char c : text)
    if (c == ' ' || c == ',')
      out.emplace_back();
    else
      out.back() += c;
  std::erase(out, "");
  return out;
}

// A pattern of `except` that names nothing is a slip. (What it means for decay is the optimizer's
// business.)
void warn_patterns(const Program& program, const ast::File& file, Reporter& report) {
  std::vector<std::string> patterns = patterns_of(program.training.except);
  const auto root = std::find_if(program.bundles.begin(), program.bundles.end(),
                                 [&](const Bundle& b) { return program.text(b.name) == "params"; });
  if (patterns.empty() || root == program.bundles.end()) return;
  for (const Leaf& leaf :
       leaves(program, BundleId{static_cast<std::uint32_t>(root - program.bundles.begin())}))
    std::erase_if(patterns, [&](const std::string& p) { return matches(p, leaf.stored); });
  for (const std::string& p : patterns)
    report.warning(
        file.train_at,
        fmt::format("`except` has the pattern `{}`, which no parameter's stored name fits", p));
}

void add_inputs(Program& program, const Lowerer& low) {
  for (const ModelInput& in : low.inputs()) {
    Input out{.name = program.intern(in.name),
              .dtype = in.term.dtype,
              .bounded = in.bounded,
              .low = in.low,
              .high = in.high};
    for (const NamedAxis* a : in.term.axes)
      out.axes.push_back({program.intern(a->name), a->extent});
    program.inputs.push_back(std::move(out));
  }
}

Failure fail(Lowerer& low) {
  std::vector<Diagnostic> all = low.report().take();
  // What a wrong text leaves unused says nothing.
  std::erase_if(all, [](const Diagnostic& d) { return d.severity != Severity::error; });
  return {low.exit(), std::move(all)};
}

// The values that @eval gives; unknown ones are the command line's fault.
Result<Done> wanted(Lowerer& low, const LowerOptions& options, std::vector<std::string>& names,
                    std::vector<NodeId>& nodes) {
  std::vector<std::string> wish = options.values;
  if (wish.empty())
    for (const char* standard : {"loss", "logits"})
      if (low.final(standard) != nullptr) wish.emplace_back(standard);
  if (wish.empty())
    for (const FinalValue& f : low.finals()) wish.push_back(f.name);
  for (const std::string& name : wish) {
    if (std::find(names.begin(), names.end(), name) != names.end()) continue;
    const FinalValue* f = low.final(name);
    if (f == nullptr) {
      std::string known;
      for (const FinalValue& v : low.finals()) known += (known.empty() ? "" : ", ") + v.name;
      return failure(Exit::usage, fmt::format("the model has no value `{}`; it has {}", name,
                                              known.empty() ? "none" : known));
    }
    names.push_back(name);
    nodes.push_back(f->term.node);
  }
  return Done{};
}

void check_program(const Program& program) {
  const std::vector<Fault> faults = verify(program);
  if (!faults.empty())
    internal_error(
        fmt::format("lowering broke invariant {}: {}", faults[0].invariant, faults[0].message));
}

}  // namespace

Result<Model> lower(Sources& sources, const ast::File& file, const LowerOptions& options) {
  std::vector<BoundLine> lines;
  return lower(sources, file, options, lines);
}

Result<Model> lower(Sources& sources, const ast::File& file, const LowerOptions& options,
                    std::vector<BoundLine>& lines) {
  Lowerer low(sources, file, options);
  if (!low.run()) return fail(low);
  Program& program = low.program();
  std::vector<std::string> names;
  std::vector<NodeId> nodes;
  if (Result<Done> r = wanted(low, options, names, nodes); !r) return r.failure();
  IrWriter emit(program, low.graph(), low.report(), sources);
  if (emit.bundles()) warn_patterns(program, file, low.report());
  if (low.report().failed()) return fail(low);
  add_inputs(program, low);
  std::vector<EntryInput> inputs;
  for (const ModelInput& in : low.inputs()) inputs.push_back({in.name, in.term.node});
  if (const FinalValue* loss = low.final("loss")) {
    const std::string name[] = {"loss"};
    const NodeId node[] = {loss->term.node};
    emit.entry("loss", true, node, name, inputs);
    warn_unreached(low.graph(), loss->term.node, low.report());
  }
  if (!low.report().failed()) emit.entry("eval", false, nodes, names, inputs);
  if (low.report().failed()) return fail(low);
  check_program(program);

  Model model;
  for (const FinalValue& f : low.finals()) model.values.push_back(f.name);
  model.numbers = low.numbers();
  for (const ModelInput& in : low.inputs())
    if (in.name == "token" && !in.term.axes.empty()) {
      model.token_batch = in.term.axes.front()->name;
      model.token_time = in.term.axes.back()->name;
    }
  model.expectations = low.expectations();
  lines = low.lines();
  model.program = std::move(program);
  model.warnings = low.report().take();
  return model;
}

}  // namespace gradc
