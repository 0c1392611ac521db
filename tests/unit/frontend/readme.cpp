// The snippets of frontend/README.md: each compiles, or is refused with the message that it states.
#include <doctest/doctest.h>

#include <algorithm>

#include "support/golden.h"
#include "unit/frontend/tree.h"

using namespace gradc;

namespace {

struct Snippet {
  int line = 0;  // of the first line of its text in the README
  std::string text;
};

std::vector<Snippet> snippets(const std::string& text) {
  std::vector<Snippet> out;
  bool inside = false;
  int number = 0;
  std::size_t at = 0;
  while (at < text.size()) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    const std::string line = text.substr(at, end - at);
    at = end + 1;
    ++number;
    if (line == "```grad") {
      inside = true;
      out.push_back({number + 1, ""});
    } else if (line == "```") {
      inside = false;
    } else if (inside) {
      out.back().text += line + "\n";
    }
  }
  return out;
}

struct Expected {
  std::uint32_t line = 0;  // 0: none
  std::string message;
};

Expected expected_error(const std::string& text) {
  constexpr std::string_view mark = "# error: ";
  const std::size_t at = text.find(mark);
  if (at == std::string::npos) return {};
  return {static_cast<std::uint32_t>(
              std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(at), '\n')) +
              1,
          text.substr(at + mark.size(), text.find('\n', at) - at - mark.size())};
}

Result<Model> compile(test::Parsed& p, const std::string& text) {
  p.source = p.sources.add("README.grad", text);
  Result<FilePtr> file = parse_model(p.sources, p.source, {});
  if (!file) return file.failure();
  return lower(p.sources, **file, {.need_loss = false});
}

}  // namespace

TEST_CASE("every snippet of the reference says the truth") {
  const std::vector<Snippet> all =
      snippets(golden::read_file(golden::source_path("frontend/README.md")));
  REQUIRE(all.size() > 40);
  const auto first = std::find_if(all.begin(), all.end(),
                                  [](const Snippet& s) { return s.text.starts_with("model m("); });
  REQUIRE(first != all.end());
  const std::string prelude = first->text;
  int refused = 0;
  for (const Snippet& s : all) {
    const bool whole = s.text.starts_with("model ") || s.text.find("\nmodel ") != std::string::npos;
    const std::string text = whole ? s.text : prelude + s.text;
    const Expected want = expected_error(text);
    test::Parsed p;
    const Result<Model> model = compile(p, text);
    const std::string got = model ? "" : test::render_all(p.sources, model.failure());
    if (want.line == 0) {
      CHECK_MESSAGE(model.ok(), "frontend/README.md:" << s.line << ":\n" << got);
      continue;
    }
    ++refused;
    REQUIRE_MESSAGE(!model.ok(), "frontend/README.md:" << s.line << ": not refused");
    const Diagnostic& d = model.failure().diagnostics[0];
    constexpr std::string_view cut = "…";
    const bool same =
        want.message.ends_with(cut)
            ? d.message.starts_with(want.message.substr(0, want.message.size() - cut.size()))
            : d.message == want.message;
    CHECK_MESSAGE((d.at.line == want.line && same), "frontend/README.md:" << s.line << ":\n"
                                                                          << got);
  }
  CHECK(refused > 20);
}
