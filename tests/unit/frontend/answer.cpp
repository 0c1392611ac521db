// From a golden case to its text.
#include "unit/frontend/answer.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <charconv>

#include "ir/text.h"
#include "ir/verify.h"
#include "unit/frontend/tree.h"

namespace gradc::test {
namespace {

// \xNN and \{N*text}; a backslash before anything else stands for itself.
std::string unescape(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    if (text.starts_with("\\x") && text.size() >= 4) {
      unsigned byte = 0;
      REQUIRE(std::from_chars(text.data() + 2, text.data() + 4, byte, 16).ptr == text.data() + 4);
      out += static_cast<char>(byte);
      text.remove_prefix(4);
    } else if (text.starts_with("\\{")) {
      const std::size_t star = text.find('*'), end = text.find('}', star);
      REQUIRE(end != std::string_view::npos);
      int times = 0;
      std::from_chars(text.data() + 2, text.data() + star, times);
      out += repeated(text.substr(star + 1, end - star - 1), times);
      text.remove_prefix(end + 1);
    } else {
      out += text.front();
      text.remove_prefix(1);
    }
  }
  return out;
}

std::vector<std::string> words(std::string_view text) {
  std::vector<std::string> out;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find(' '), text.size());
    if (end > 0) out.emplace_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return out;
}

const golden::Section* section(const golden::Case& c, std::string_view name) {
  for (const golden::Section& s : c.sections)
    if (s.name == name) return &s;
  return nullptr;
}

std::string initialiser(const Program& p, const Member& m) {
  switch (m.initial.kind) {
    case Initial::none: return "";
    case Initial::number: return " = " + print_real(m.initial.value);
    case Initial::normal: return " ~ normal(" + print_real(m.initial.value) + ")";
    case Initial::uniform: return " ~ uniform(" + print_real(m.initial.value) + ")";
    case Initial::computed:
      return fmt::format(" = @{}()", p.text(p.function(m.initial.function).name));
  }
  return "";
}

// Every tensor of every bundle that no other one holds, with its flags if they are not the usual.
std::string parameters(const Program& p) {
  std::vector<bool> nested(p.bundles.size(), false);
  for (const Bundle& b : p.bundles)
    for (const Member& m : b.members)
      if (m.nested.valid()) nested[m.nested.index] = true;
  std::string out;
  for (std::size_t b = 0; b < p.bundles.size(); ++b) {
    if (nested[b]) continue;
    for (const Leaf& leaf : leaves(p, BundleId{static_cast<std::uint32_t>(b)})) {
      out += fmt::format("{} \"{}\" [", leaf.path, leaf.stored);
      const AxisList& axes = leaf.member->type.axes;
      for (int i = 0; i < axes.size(); ++i) {
        const Axis& axis = p.bundle(leaf.bundle).axes[axes[i].index];
        out += fmt::format("{}{}={}", i > 0 ? " " : "", p.text(axis.name), axis.extent);
      }
      out +=
          fmt::format("]{}{}{}\n", initialiser(p, *leaf.member),
                      leaf.member->decay ? "" : " no-decay", leaf.member->clip ? "" : " no-clip");
    }
  }
  return out;
}

std::string show(const Program& p, const std::string& function) {
  if (!p.find(function).valid()) return "no @" + function + "\n";
  PrintOptions options{.locations = false};
  options.functions = {function};
  return print(p, options);
}

}  // namespace

std::string answer(const golden::Case& c) {
  Files files;
  std::string name, text;
  LowerOptions options{.need_loss = c.has("need-loss")};
  for (const golden::Section& s : c.sections) {
    if (s.name == "file") files[s.args] = unescape(s.text);
    if (s.name == "model") name = s.args, text = unescape(s.text);
    if (s.name == "show") options.values = words(s.args);
    if (s.name != "set") continue;
    for (const std::string& w : words(s.args))
      options.set.emplace_back(w.substr(0, w.find('=')), w.substr(w.find('=') + 1));
  }
  Parsed p = parse(text, files, name);
  if (!p.file) return p.messages;
  Result<Model> model = lower(p.sources, *p.file, options);
  if (!model)
    return (model.failure().exit == Exit::text
                ? ""
                : fmt::format("exit {}\n", static_cast<int>(model.failure().exit))) +
           render_all(p.sources, model.failure());
  const std::vector<Fault> faults = verify(model->program);
  CHECK_MESSAGE(faults.empty(), text << (faults.empty() ? "" : faults[0].message));
  if (section(c, "show")) return show(model->program, "eval");
  if (section(c, "bundles")) return parameters(model->program);
  if (section(c, "token"))
    return fmt::format("batch {}, time {}\n", model->token_batch, model->token_time);
  if (section(c, "loss")) return show(model->program, "loss");
  std::string out;
  if (section(c, "warnings"))
    for (const Diagnostic& d : model->warnings) out += render(p.sources, d);
  return out.empty() ? "right\n" : out;
}

}  // namespace gradc::test
