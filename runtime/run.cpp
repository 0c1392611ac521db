// run: a model, or a function of IR text, on arrays from files.
#include <fmt/format.h>

#include <algorithm>

#include "frontend/near.h"
#include "ir/text.h"
#include "ir/verify.h"
#include "runtime/entry.h"
#include "runtime/execute.h"
#include "runtime/npy.h"
#include "runtime/oracle.h"
#include "runtime/safetensors.h"
#include "runtime/verbs.h"

namespace gradc {
namespace {

constexpr std::int64_t printed_elements = 12;

// `known`: what can be fed; a NAME beside it is a mistake, a further tensor of a file is not.
Result<Arrays> read_inputs(const RunOptions& o, const std::vector<std::string>& known) {
  Arrays out;
  for (const std::string& text : o.inputs) {
    const std::size_t eq = text.find('=');
    const std::string path = eq == std::string::npos ? text : text.substr(eq + 1), name = text.substr(0, eq);
    if (eq != std::string::npos && std::find(known.begin(), known.end(), name) == known.end()) {
      const std::string_view meant = nearest(name, std::vector<std::string_view>(known.begin(), known.end()));
      return failure(Exit::usage, fmt::format("--input {}: there is no input `{}`{}", text, name,
                                              meant.empty() ? "" : fmt::format("; did you mean `{}`?", meant)));
    }
    if (path.ends_with(".npy")) {
      if (eq == std::string::npos) return failure(Exit::usage, fmt::format("--input {}: which input? NAME={}", text, path));
      Result<Npy> file = Npy::open(path);
      if (!file) return file.failure();
      Result<Array> a = to_array(file->tensor());
      if (!a) return a.failure();
      out[name] = std::move(*a);
      continue;
    }
    Result<Safetensors> file = Safetensors::open(path);
    if (!file) return file.failure();
    for (const StoredTensor& t : file->tensors()) {
      if (eq != std::string::npos && t.name != name) continue;
      Result<Array> a = to_array(t);
      if (!a) return a.failure();
      out[t.name] = std::move(*a);
    }
    if (eq != std::string::npos && !out.contains(name))
      return failure(Exit::file, fmt::format("{}: has no tensor `{}`", path, name));
  }
  return out;
}

std::string show(const std::string& name, const Array& a) {
  std::string text = fmt::format("{}: {}[{}]", name, gradc::name(a.dtype), fmt::join(a.extents, " "));
  const std::int64_t n = std::min(a.size(), printed_elements);
  for (std::int64_t i = 0; i < n; ++i) {
    const auto k = static_cast<std::size_t>(i);
    text += is_real(a.dtype) ? " " + print_real(a.real[k]) : fmt::format(" {}", a.integer[k]);
  }
  return text + (a.size() > n ? " …\n" : "\n");
}

Result<Done> deliver(const RunOptions& o, const std::vector<std::pair<std::string, Array>>& results, bool& written) {
  if (o.output.empty()) {
    std::string text;
    for (const auto& [name, a] : results) text += show(name, a);
    written = out(text);
    return Done{};
  }
  std::vector<std::vector<unsigned char>> bytes;
  std::vector<StoredTensor> tensors;
  for (const auto& [name, a] : results) {
    const StoredDType d = o.interpret && a.dtype == DType::f32 ? StoredDType::f64 : stored_dtype(a.dtype);
    bytes.push_back(to_bytes(a, d));
    tensors.push_back({name, d, a.extents, nullptr, a.size()});
  }
  for (std::size_t i = 0; i < bytes.size(); ++i) tensors[i].data = bytes[i].data();
  if (!o.output.ends_with(".npy")) return write_safetensors(o.output, tensors, {});
  if (tensors.size() != 1) return failure(Exit::usage, fmt::format("an .npy file holds one value, not {}: choose with --value", tensors.size()));
  return write_npy(o.output, tensors[0]);
}

Result<Done> run_ir(const Common& common, const RunOptions& o, Sources& sources, const ExecuteOptions& how, bool& written) {
  Result<std::string> text = read_text(common.file);
  if (!text) return text.failure();
  Result<Program> program = parse_ir(sources, sources.add(common.file == "-" ? "<stdin>" : common.file, std::move(*text)));
  if (!program) return program.failure();
  if (const std::vector<Fault> faults = verify(*program); !faults.empty())
    return failure(Exit::text, fmt::format("the program is not well-formed: {}", faults[0].message));
  const std::string function = o.function.starts_with("@") ? o.function.substr(1) : o.function;
  const FunctionId id = program->find(function);
  if (!id.valid()) return failure(Exit::usage, fmt::format("there is no function `{}`; choose with --function", function));
  Result<Arrays> inputs = read_inputs(o, argument_names(*program, program->function(id)));
  if (!inputs) return inputs.failure();
  Result<Arrays> values = execute(*program, function, *inputs, how);
  if (!values) return values.failure();
  std::vector<std::pair<std::string, Array>> chosen;
  for (auto& [name, a] : *values)
    if (o.values.empty() || std::find(o.values.begin(), o.values.end(), name) != o.values.end()) chosen.emplace_back(name, std::move(a));
  for (const std::string& v : o.values)
    if (!values->contains(v)) return failure(Exit::usage, fmt::format("@{} has no result `{}`", function, v));
  return deliver(o, chosen, written);
}

Result<Done> run_model(const Common& common, const RunOptions& o, Sources& sources, const ExecuteOptions& how, bool& written) {
  Result<LowerOptions> lowering = lower_options(common);
  if (!lowering) return lowering.failure();
  const auto is_gradient = [](const std::string& v) { return v.starts_with("grad."); };
  const bool gradients = std::any_of(o.values.begin(), o.values.end(), is_gradient);
  for (const std::string& v : o.values)
    if (!is_gradient(v)) lowering->values.push_back(v);
  lowering->need_loss = gradients;
  Result<ModelFile> model = load_model(common, sources, *lowering);
  if (!model) return model.failure();
  sources = model->sources;
  const Program& p = model->model.program;
  Result<OracleFeed> feed = initial_feed(p, common.seed);
  if (!feed) return feed.failure();
  if (!o.weights.empty())
    if (Result<Done> r = load_feed(p, *feed, o.weights, o.ignore); !r) return r;
  std::vector<std::string> known;
  for (const Input& input : p.inputs) known.emplace_back(p.text(input.name));
  Result<Arrays> inputs = read_inputs(o, known);
  if (!inputs) return inputs.failure();
  feed->inputs = std::move(*inputs);
  const Arrays arguments = named_arguments(p, *feed);
  const BundleId trained = argument_bundle(p, "eval", "p");
  Arrays values, cotangents;
  if (!gradients || !lowering->values.empty()) {
    Result<Arrays> r = execute(p, "eval", arguments, how);
    if (!r) return r.failure();
    values = std::move(*r);
  }
  if (gradients) {
    Result<Arrays> r = execute(p, "grad", arguments, how);
    if (!r) return r.failure();
    cotangents = std::move(*r);
  }
  std::vector<std::pair<std::string, Array>> chosen;
  if (o.values.empty())
    for (auto& [name, a] : values) chosen.emplace_back(name, std::move(a));
  for (const std::string& v : o.values) {
    if (!is_gradient(v)) {
      chosen.emplace_back(v, values.at(v));
      continue;
    }
    bool found = false;
    for (const Leaf& leaf : trained.valid() ? leaves(p, trained) : std::vector<Leaf>{}) {
      if (v != "grad." + leaf.stored && v != "grad.*") continue;
      chosen.emplace_back("grad." + leaf.stored, cotangents.at("g." + leaf.path));
      found = true;
    }
    if (!found) return failure(Exit::usage, fmt::format("no parameter is stored as `{}`; `gradc check` lists them", v.substr(5)));
  }
  return deliver(o, chosen, written);
}

}  // namespace

int run(const Common& common, const RunOptions& options) {
  Sources sources;
  Result<Target> target = chosen_target(common);
  if (!target) return report(sources, target.failure());
  Result<FuseOptions> fusion = chosen_fusion(common);
  if (!fusion) return report(sources, fusion.failure());
  const ExecuteOptions how{.interpret = options.interpret, .target = *target, .threads = chosen_threads(common), .fuse = *fusion, .precision = chosen_precision(common), .cache = chosen_cache(common)};
  bool written = true;
  Result<Done> done = common.file.ends_with(".grad") ? run_model(common, options, sources, how, written)
                                                     : run_ir(common, options, sources, how, written);
  if (!done) return report(sources, done.failure());
  return static_cast<int>(written ? Exit::ok : Exit::file);
}

}  // namespace gradc
