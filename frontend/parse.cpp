// parse_model: one text, then what it uses, each file once.
#include <fmt/format.h>

#include <unordered_map>

#include "frontend/frontend.h"
#include "frontend/parser.h"

namespace gradc {
namespace {

constexpr std::size_t most_files = 256;

Failure refuse(Span at, std::string message, std::vector<Note> notes = {}) {
  Failure f;
  f.diagnostics.push_back({at, std::move(message), std::move(notes), Severity::error});
  return f;
}

// What is wrong with a path behind `use`, or "".
std::string_view fault_of_path(std::string_view path) {
  if (path.empty()) return "an empty file name";
  if (path.front() == '/')
    return "an absolute path; `use` names a file beside or below the using one";
  if (path.find('\\') != std::string_view::npos)
    return "a backslash in a path; folders are separated by `/`";
  while (!path.empty()) {
    const std::size_t end = std::min(path.find('/'), path.size());
    if (path.substr(0, end) == "..")
      return "a path with `..`; `use` names a file beside or below the using one";
    path.remove_prefix(std::min(end + 1, path.size()));
  }
  return {};
}

// The path without `.` and empty parts, so that a file has one name; keeps a leading `/`.
std::string plain_path(std::string_view path) {
  std::string out = path.starts_with('/') ? "/" : "";
  while (!path.empty()) {
    const std::size_t end = std::min(path.find('/'), path.size());
    const std::string_view part = path.substr(0, end);
    if (!part.empty() && part != ".") {
      if (!out.empty() && out.back() != '/') out += '/';
      out += part;
    }
    path.remove_prefix(std::min(end + 1, path.size()));
  }
  return out;
}

std::string beside(std::string_view user, std::string_view path) {
  const std::size_t slash = user.rfind('/');
  return plain_path(
      fmt::format("{}{}", slash == std::string_view::npos ? "" : user.substr(0, slash + 1), path));
}

// Files that are being followed form a stack; a `use` of one of them is a cycle.
class Reader {
 public:
  Reader(Sources& sources, const ReadFile& read) : sources_(sources), read_(read) {}

  Result<FilePtr> run(std::uint32_t source) {
    if (auto r = add(source, {}); !r) return r.failure();
    while (!stack_.empty()) {
      const std::size_t user = stack_.back();
      if (files_[user].next == files_[user].tree->uses.size()) {
        files_[user].open = false;
        stack_.pop_back();
      } else if (auto r = follow(user, files_[user].next++); !r) {
        return r.failure();
      }
    }
    return FilePtr(files_[0].tree);
  }

 private:
  struct Entry {
    std::shared_ptr<ast::File> tree;
    std::size_t next = 0;  // of its uses
    bool open = true;      // on the stack
  };

  // Parses a source and puts it on the stack. `used`: the `use` that names it; the first has none.
  Result<Done> add(std::uint32_t source, Span used) {
    Parser parser(sources_, source);
    auto tree = std::make_shared<ast::File>();
    if (!parser.run(*tree)) {
      Diagnostic d = parser.fault();
      if (used.line != 0) d.notes.push_back({used, "used here"});
      return Failure{Exit::text, {std::move(d)}};
    }
    if (used.line != 0 && tree->has_model)
      return refuse(tree->model.at, "a used file brings blocks only, but this one has a model",
                    {{used, "used here"}});
    index_.emplace(plain_path(sources_.name(source)), files_.size());
    stack_.push_back(files_.size());
    files_.push_back({std::move(tree)});
    return Done{};
  }

  Result<Done> follow(std::size_t user, std::size_t which) {
    const ast::Word word = files_[user].tree->uses[which].path;
    if (const std::string_view fault = fault_of_path(word.text); !fault.empty())
      return refuse(word.at, std::string(fault));
    const std::string path = beside(sources_.name(files_[user].tree->source), word.text);
    auto found = index_.find(path);
    if (found == index_.end()) {
      if (files_.size() == most_files)
        return refuse(word.at, fmt::format("more than {} files are used", most_files));
      std::string text;
      if (!read_ || !read_(path, text))
        return refuse(word.at, fmt::format("cannot read the file `{}`", path));
      if (auto r = add(sources_.add(path, std::move(text)), word.at); !r) return r;
      found = index_.find(path);
    } else if (files_[found->second].open) {
      return refuse(word.at, fmt::format("`{}` uses itself", path), cycle(found->second));
    }
    files_[user].tree->uses[which].file = files_[found->second].tree;
    return Done{};
  }

  // The uses that lead from file `first` to the one on top of the stack.
  std::vector<Note> cycle(std::size_t first) const {
    std::vector<Note> notes;
    bool inside = false;
    for (std::size_t i = 0; i + 1 < stack_.size(); ++i) {
      inside = inside || stack_[i] == first;
      const Entry& e = files_[stack_[i]];
      if (inside) notes.push_back({e.tree->uses[e.next - 1].path.at, "by way of this"});
    }
    return notes;
  }

  Sources& sources_;
  const ReadFile& read_;
  std::vector<Entry> files_;
  std::vector<std::size_t> stack_;
  std::unordered_map<std::string, std::size_t> index_;  // by plain path
};

}  // namespace

Result<FilePtr> parse_model(Sources& sources, std::uint32_t source, const ReadFile& read) {
  return Reader(sources, read).run(source);
}

}  // namespace gradc
