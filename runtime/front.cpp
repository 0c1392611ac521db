// Reading of models and talking to the user's terminal.
#include "runtime/front.h"

#include <fmt/format.h>

#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "runtime/cache.h"
#include "runtime/file.h"
#include "runtime/pool.h"

namespace gradc {

Result<std::string> read_text(const std::string& path) {
  const bool standard = path == "-";
  std::error_code error;
  if (!standard && std::filesystem::is_directory(path, error))
    return failure(Exit::file, path + ": is a folder");
  std::FILE* f = standard ? stdin : std::fopen(path.c_str(), "rb");
  if (f == nullptr) return failure(Exit::file, fmt::format("{}: {}", path, std::strerror(errno)));
  std::string text;
  char buffer[1 << 16];
  for (std::size_t n; (n = std::fread(buffer, 1, sizeof buffer, f)) > 0;) text.append(buffer, n);
  const bool bad = std::ferror(f) != 0;
  if (!standard) std::fclose(f);
  if (bad) return failure(Exit::file, path + ": cannot be read");
  return text;
}

Result<LowerOptions> lower_options(const Common& common) {
  LowerOptions out;
  for (const std::string& s : common.set) {
    const std::size_t eq = s.find('=');
    if (eq == std::string::npos || eq == 0)
      return failure(Exit::usage, fmt::format("--set takes NAME=VALUE, not `{}`", s));
    out.set.emplace_back(s.substr(0, eq), s.substr(eq + 1));
  }
  return out;
}

Result<Target> chosen_target(const Common& common) {
  Target t = host_target();
  if (!common.target.empty() && !target_by_name(common.target, t))
    return failure(Exit::usage, fmt::format("unknown target `{}`: avx512_bf16, avx512, avx2 or portable", common.target));
  return t;
}

Precision chosen_precision(const Common& common) {
  return common.precision == "bf16" ? Precision::bf16 : Precision::f32;
}

Result<FuseOptions> chosen_fusion(const Common& common) {
  FuseOptions out;
  const std::string& list = common.no_fuse;
  for (std::size_t begin = 0; begin < list.size();) {
    const std::size_t end = std::min(list.find(',', begin), list.size());
    const std::string word = list.substr(begin, end - begin);
    Claim claim = Claim::none;
    if (word == "all")
      out.off.fill(true);
    else if (parse_claim(word, claim) && claim != Claim::none)
      out.off[static_cast<std::size_t>(claim)] = true;
    else
      return failure(Exit::usage, fmt::format("--no-fuse: there is no fused form `{}`", word));
    begin = end + 1;
  }
  return out;
}

std::string chosen_cache(const Common& common) { return common.no_cache ? "" : default_cache_directory(); }

int chosen_threads(const Common& common) { return common.threads > 0 ? common.threads : available_processors(); }

Result<std::int64_t> chosen_budget(const Common& common) {
  const std::string& text = common.memory_budget;
  if (text.empty()) return std::int64_t{0};
  double value = 0;
  const char* const last = text.data() + text.size();
  const auto [end, error] = std::from_chars(text.data(), last, value);
  const std::string_view unit(end, static_cast<std::size_t>(last - end));
  double scale = 0;
  for (const auto& [name, s] : {std::pair<std::string_view, double>{"", 1}, {"K", 1e3}, {"M", 1e6}, {"G", 1e9}})
    if (unit == name) scale = s;
  if (error != std::errc() || !(value * scale >= 1) || !(value * scale < 0x1p62))
    return failure(Exit::usage, fmt::format("--memory-budget takes bytes, such as 800M or 1.5G, not `{}`", text));
  return static_cast<std::int64_t>(value * scale);
}

Result<ModelFile> load_model(const Common& common, Sources& sources, const LowerOptions& options, bool quiet, bool expect) {
  Result<FuseOptions> fusion = chosen_fusion(common);
  if (!fusion) return fusion.failure();
  Result<std::string> text = read_text(common.file);
  if (!text) return text.failure();
  const std::string name = common.file == "-" ? "<stdin>" : common.file;
  const std::uint32_t source = sources.add(name, std::move(*text));
  const auto read = [](const std::string& path, std::string& out) {
    Result<std::string> t = read_text(path);
    if (!t) return false;
    out = std::move(*t);
    return true;
  };
  Result<FilePtr> file = parse_model(sources, source, read);
  if (!file) return file.failure();
  Result<Model> model = lower(sources, **file, options);
  if (!model) return model.failure();
  if (expect)
    if (Result<Done> r = check_expectations(*model, *fusion); !r) return r.failure();
  if (!quiet)
    for (const Diagnostic& w : model->warnings) std::fputs(render(sources, w).c_str(), stderr);
  return ModelFile{sources, *file, std::move(*model)};
}

int report(const Sources& sources, const Failure& failure) {
  for (const Diagnostic& d : failure.diagnostics) std::fputs(render(sources, d).c_str(), stderr);
  return static_cast<int>(failure.exit);
}

Result<Done> write_file(const std::string& path, std::string_view content) {
  Result<ReplacedFile> file = ReplacedFile::create(path);
  if (!file) return file.failure();
  const auto* bytes = reinterpret_cast<const unsigned char*>(content.data());
  if (Result<Done> r = file->write({bytes, content.size()}); !r) return r;
  return file->commit();
}

bool out(std::string_view text) {
  if (text.empty()) return true;
  return std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0;
}

std::string with_commas(std::int64_t n) {
  std::string s = std::to_string(n);
  for (auto i = static_cast<std::int64_t>(s.size()) - 3; i > (n < 0 ? 1 : 0); i -= 3) s.insert(static_cast<std::size_t>(i), 1, ',');
  return s;
}

}  // namespace gradc
