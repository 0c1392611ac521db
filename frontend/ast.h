// Owns the syntax tree of a `.grad` file: flat pools and indices, one node a construct of the grammar
// (frontend/README.md). Chains of operators are one node each, so that a long sum is not deep. Every
// node knows its place. Nothing here is checked beyond the grammar.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "ir/diagnostic.h"
#include "ir/ids.h"

namespace gradc::ast {

using ExprId = Id<struct AstExprTag>;
using StmtId = Id<struct AstStmtTag>;

struct Word {
  std::string text;
  Span at;
};

enum class ExprKind : std::uint8_t {
  number,     // text as written; number
  boolean,    // integer 0 or 1
  training,
  name,       // text
  paren,      // operands[0]; kept, so that printing gives the same tree
  sum,        // operands in a chain; ops[i] before operand i: "+" or "-" (ops[0] is "")
  product,    // likewise "*" "/" "//" "%"
  both,       // likewise "and"
  either,     // likewise "or"
  negate,     // operands[0]
  invert,     // not operands[0]
  compare,    // operands[0] text operands[1]; text: < <= > >= == !=
  call,       // text(operands…), names[i].text: the argument's name or ""; path: `as`
  reduce,     // text[axes](operands… where `where`)
  list,       // operands[0][axes]
  index,      // operands[0][names[i] = operands[i + 1], …]
};

struct Expr {
  ExprKind kind{};
  Span at;                          // the whole expression (its first line)
  Span point;                       // the operator, callee or bracket: what a message points at
  std::string text;
  double number = 0;
  bool integer = false;             // number: written without fraction or exponent
  std::vector<ExprId> operands;
  std::vector<std::string> ops;
  std::vector<Span> op_at;          // of ops
  std::vector<Word> axes, names;
  ExprId where;
  std::optional<Word> path;
};

enum class StmtKind : std::uint8_t {
  axis,       // names[i] = exprs[i]
  input,      // name axes; low/high: bounds (only high: 0 .. high)
  param,      // decls; init or value
  let,        // name [axes if has_list] = value
  repeat,     // value times, path, body
  scan,       // name: the axis; body
  expect,     // name: the claim
};

struct ParamDecl {
  Word name;
  std::vector<Word> axes;
  std::vector<ExprId> extents;      // of axes; invalid where none is written
  std::optional<Word> path;
};
struct Init {
  enum Kind : std::uint8_t { none, number, normal, uniform, value } kind = none;  // `~ num`, `~ normal(num)`, …, `= expr`
  ExprId expr;
};

struct Stmt {
  StmtKind kind{};
  Span at;                          // the keyword or the left side
  Word name;
  bool has_list = false;
  std::vector<Word> names;
  std::vector<ExprId> exprs;
  std::vector<Word> axes;
  std::vector<ParamDecl> decls;
  Init init;
  ExprId low, high, value;
  std::optional<Word> path;
  std::vector<StmtId> body;
};

struct Formal {
  Word name;
  bool tensor = false;              // with a list: axes
  std::vector<Word> axes;
  ExprId standard;                  // `= num`; invalid: must be given
};
struct Block {
  Word name;
  std::vector<Formal> formals;
  std::vector<StmtId> body;
  ExprId result;
  Span at;                          // `block`
  bool in_model = false;            // stands behind `model`, …
  std::size_t place = 0;            // … before this item of File::body (for printing)
};

// `NAME = setting`: a number, a string, a call with named settings, or a tuple.
struct Setting {
  Word name;                        // empty in a tuple or for a positional argument
  enum Kind : std::uint8_t { number, string, call, tuple } kind = number;
  Span at;
  ExprId expr;                      // number
  std::string text;                 // string; call: the callee
  std::vector<Setting> items;       // call, tuple
};

struct HeaderNumber {
  Word name;
  ExprId value;
};

struct File {
  std::uint32_t source = 0;         // index into Sources
  std::vector<Expr> exprs;
  std::vector<Stmt> stmts;
  struct Use {
    Word path;                      // as written
    std::shared_ptr<const File> file;
  };
  std::vector<Use> uses;
  std::vector<Block> blocks;        // those before `model` and those inside it, in order
  bool has_model = false;
  Word model;
  std::vector<HeaderNumber> numbers;
  std::vector<StmtId> body;         // the model's statements in order
  std::vector<Setting> train;
  bool has_train = false;
  std::size_t train_place = 0;      // as Block::place
  Span train_at, end;               // end: where the text ends

  const Expr& expr(ExprId e) const { return exprs[e.index]; }
  const Stmt& stmt(StmtId s) const { return stmts[s.index]; }
};

}  // namespace gradc::ast
