// Owns what the tests of this room share: reading of models from memory, and trees as text for comparison.
#pragma once

#include <map>
#include <string>

#include "frontend/ast.h"
#include "frontend/frontend.h"

namespace gradc::test {

using Files = std::map<std::string, std::string>;

// A text and the files that it may use; `main` is its name.
struct Parsed {
  Sources sources;
  std::uint32_t source = 0;
  FilePtr file;              // null if it was refused
  std::string messages;      // rendered
};
Parsed parse(const std::string& text, const Files& files = {}, const std::string& main = "m.grad");

// Everything that a tree says but places: two texts mean the same if these are equal.
std::string tree(const ast::File& file);
std::string tree(const ast::File& file, ast::ExprId e);

std::string render_all(const Sources& sources, const Failure& failure);
std::string repeated(std::string_view text, int times);

}  // namespace gradc::test
