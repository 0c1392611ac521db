// Owns which block a name means (rule 2), and what can be known of a body before it is checked:
// which names stand in brackets (rule 3), how its calls are labelled (rule 15), how often a name is
// bound (rule 1).
#pragma once

#include <deque>
#include <span>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "frontend/ast.h"
#include "frontend/frontend.h"
#include "frontend/report.h"

namespace gradc {

struct BlockRef {
  const ast::File* file = nullptr;
  const ast::Block* block = nullptr;
};

// What a body says before it is checked. Of a repeat it counts as its own body, of a scan as the
// body around.
struct BodyFacts {
  std::unordered_map<std::string, Span> bracketed;  // names of axes in brackets, repeats included
  std::unordered_map<std::string, int> bound;       // lets, repeats and scans included
  std::unordered_map<std::uint32_t, std::string> labels;  // by call expression without `as`
};

class Blocks {
 public:
  Blocks(Sources& sources, Reporter& report) : sources_(sources), report_(report) {}

  // Two blocks of one name in a file, or in two files that one uses, are errors.
  void check(const ast::File& main);
  // The block that `name` means in `file`; nothing if there is none.
  BlockRef find(const ast::File& file, const std::string& name);
  std::vector<std::string_view> names(const ast::File& file);  // for suggestions

  // Of a body with what belongs to it; `result` is a block's. Remembered.
  const BodyFacts& facts(const ast::File& file, const std::vector<ast::StmtId>& body,
                         ast::ExprId result);

 private:
  void check_file(const ast::File& file);
  const std::vector<std::shared_ptr<const ast::File>>& library_files();
  Sources& sources_;
  Reporter& report_;
  bool loaded_ = false;
  std::vector<std::shared_ptr<const ast::File>> library_;
  std::unordered_map<const void*, BodyFacts> facts_;
  std::unordered_map<const ast::File*, std::unordered_map<std::string, BlockRef>> visible_;
};

}  // namespace gradc
