// Owns the reading of one text: tokens to a tree (frontend/README.md has the grammar). One method a rule
// of the grammar. Stops at the first error. parse_expr.cpp has the expressions, parse_stmt.cpp the
// statements, parse_file.cpp what stands around them; parse.cpp follows `use`.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "frontend/ast.h"
#include "frontend/lexer.h"

namespace gradc {

// Brackets, calls, signs and bodies within one another: more is an error. What works on trees may
// recurse: between two of these lie at most six nodes.
inline constexpr int deepest_nesting = 256;

class Parser {
 public:
  Parser(const Sources& sources, std::uint32_t source);

  // Fills `out` and gives true, or leaves the error in fault().
  bool run(ast::File& out);
  const Diagnostic& fault() const { return *fault_; }

 private:
  // ---- tokens. After an error the rest of the text looks empty, so that every loop ends.
  const Token& peek(std::size_t ahead = 0) const;
  bool is(std::string_view text, std::size_t ahead = 0) const;   // a keyword or a sign
  bool is(Tok kind, std::size_t ahead = 0) const { return peek(ahead).kind == kind; }
  const Token& next();
  bool accept(std::string_view text);
  bool expect(std::string_view text, std::string_view why = {});
  // Behind an opening bracket: the closing one, or an error that shows where it was opened.
  bool close(std::string_view text, Span opened, std::string_view others = {});
  void skip_newlines();

  // ---- errors
  bool failed() const { return fault_.has_value(); }
  void fail(Span at, std::string message, std::vector<Note> notes = {});
  void expected(std::string_view what, std::string_view advice = {}, std::vector<Note> notes = {});
  std::string found() const;
  void misspelt(std::string_view what, std::span<const std::string_view> words);

  // ---- words
  ast::Word name(std::string_view what);         // that is or could be bound: no keyword, no function
  std::vector<ast::Word> list(bool may_be_empty, std::string_view whose);
  std::optional<ast::Word> label();              // [ `as` PATH ]

  // ---- expressions
  ast::ExprId expression();                      // expr
  ast::ExprId number();                          // num
  ast::ExprId chain(int level);
  ast::ExprId operand(int level);
  std::size_t signs(std::string_view sign);
  ast::ExprId inversion();
  ast::ExprId comparison();
  ast::ExprId negation();
  ast::ExprId postfix();
  ast::ExprId bracket(ast::ExprId of, std::size_t begin);
  ast::ExprId atom();
  ast::ExprId literal();
  ast::ExprId call();
  ast::ExprId reduction();
  ast::ExprId wrap(ast::ExprKind kind, ast::ExprId inside, std::size_t begin);
  ast::ExprId finish(ast::Expr&& e, std::size_t begin);
  Span since(std::size_t begin) const;           // from that token to the last one read

  // ---- statements and what stands around them
  std::vector<ast::StmtId> body(bool is_block);  // behind `{`, with the `}`; of a block up to `return`
  ast::StmtId statement();
  void end_of_statement();
  ast::StmtId axis();
  ast::StmtId input();
  ast::StmtId param();
  ast::ParamDecl declaration();
  ast::Init initial();
  ast::StmtId let();
  ast::StmtId repeat();
  ast::StmtId scan();
  ast::StmtId claim();
  ast::StmtId finish(ast::Stmt&& s);
  void use();
  void model();
  void block();
  void train();
  ast::Setting setting();
  std::vector<ast::Setting> settings(std::string_view whose);
  bool is_tuple() const;

  // Counts one level of nesting while it lives.
  class Nest {
   public:
    explicit Nest(Parser& p);
    ~Nest() { --parser_.depth_; }
    Nest(const Nest&) = delete;
    Nest& operator=(const Nest&) = delete;

   private:
    Parser& parser_;
  };
  friend class Nest;

  std::uint32_t source_;
  std::vector<Token> tokens_;
  std::optional<Diagnostic> lexical_, fault_;
  std::size_t at_ = 0;
  int depth_ = 0;
  std::vector<int> nested_;     // of each expression: the levels of nesting inside
  ast::ExprId standard_;        // of results after an error; never part of a tree that is handed out
  ast::File* file_ = nullptr;
};

}  // namespace gradc
