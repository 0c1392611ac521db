// Owns elaboration: one walk over the syntax tree, in which blocks are checked anew at each call
// and scans stay whole-tensor operations, that fills the typed graph (frontend/graph.h) or reports
// what is wrong. The rules that its parts keep are numbered as in frontend/README.md.
//
//   lower_model.cpp     header, body, final values, warnings
//   lower_stmt.cpp      axis, input, bindings (rules 1, 3, 9, 13)
//   lower_param.cpp     parameters and their names (rule 15)
//   lower_repeat.cpp    repeat (rule 16); lower_turns.cpp its names and bundles
//   lower_scan.cpp      scan (rule 17); lower_guess.cpp the kinds of its states
//   lower_expr.cpp      expressions (rules 5–7)
//   lower_number.cpp    number contexts (rule 4)
//   lower_access.cpp    x[a b], x[a = e], reductions (rules 9–12)
//   lower_call.cpp      calls of blocks (rules 2, 14); lower_arguments.cpp their arguments;
//   lower_builtin.cpp   calls of functions
//   lower_train.cpp     the settings of `train` and --set
//   lower_hints.cpp     what messages say about names
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "frontend/blocks.h"
#include "frontend/frontend.h"
#include "frontend/graph.h"
#include "frontend/meeting.h"
#include "frontend/report.h"
#include "frontend/scope.h"
#include "frontend/terms.h"

namespace gradc {

// A line that binds or returns something, for the margin of `check`.
struct BoundLine {
  std::uint32_t source = 0, line = 0;
  std::string text;  // `x f32[b=2 t=64]`, `half = 32`; of a `return` the type or number alone
};
struct FinalValue {
  std::string name;
  Term term;
  Span at;
};
struct ModelInput {
  std::string name;
  Term term;
  bool bounded = false;
  std::int64_t low = 0, high = 0;
};

class Lowerer {
 public:
  Lowerer(Sources& sources, const ast::File& file, const LowerOptions& options);

  // False: the messages tell why, and exit() with what.
  bool run();
  Exit exit() const { return exit_; }
  Reporter& report() { return report_; }
  Program& program() { return program_; }
  Graph& graph() { return graph_; }

  const std::vector<FinalValue>& finals() const { return finals_; }
  const FinalValue* final(std::string_view name) const;
  const std::vector<ModelInput>& inputs() const { return inputs_; }
  const std::vector<std::pair<std::string, double>>& numbers() const { return numbers_; }
  const std::vector<BoundLine>& lines() const { return lines_; }
  const std::vector<Expectation>& expectations() const { return expectations_; }

 private:
  using ExprId = ast::ExprId;
  // Where the walk stands: in the model or in one call of a block.
  struct Frame {
    const ast::File* file = nullptr;
    Scope* scope = nullptr;
    Axes listed;  // axes of its left side
    std::uint32_t id = 0;
    std::string path;          // of labels; a turn's `@` is followed by its level, see label()
    std::string members;       // the same for names within the bundle
    std::vector<AxisId> made;  // storage that ends with the call
  };

  // ---- the model
  void header();
  void body(const std::vector<ast::StmtId>& statements);
  void finish();
  void check_loss();
  void warn_unused(Scope& scope, bool model);
  void note_settings();

  // ---- statements
  void statement(const ast::Stmt& s);
  void axis_statement(const ast::Stmt& s);
  void input_statement(const ast::Stmt& s);
  void let_statement(const ast::Stmt& s);
  void expect_statement(const ast::Stmt& s);
  std::uint32_t last_line(ExprId id) const;
  const NamedAxis* make_axis(const std::string& name, std::int64_t extent, Span at);
  NamedAxis* new_axis(const std::string& name, std::int64_t extent, Span at);
  // The axes of a list; reports what is unbound, no axis, or named twice.
  bool axis_list(const std::vector<ast::Word>& words, Axes& out);
  const NamedAxis* axis_named(const ast::Word& word);
  bool may_bind(const ast::Word& word, bool as_let);
  void bind_value(const ast::Word& word, Term term, Binding::Kind kind);
  void record(const ast::Word& word, const Term& term);  // an empty word: what a block returns

  // ---- parameters
  void param_statement(const ast::Stmt& s);
  void declare(const ast::ParamDecl& d, const ast::Stmt& s, Initial initial);
  std::string label(const std::string& path, const std::string& text, int level, Span at);
  std::string stored_name(const std::string& path) const;
  std::string member_name(const std::string& path, const std::string& text) const;
  std::string free_member(std::uint32_t bundle, const std::string& wish, bool nested);
  Term fixed_value(const ast::ParamDecl& d, const ast::Stmt& s, const Axes& axes);

  // ---- repeat and scan
  void repeat_statement(const ast::Stmt& s);
  void repeat_function(const ast::Stmt& s, std::int64_t turns);
  struct FunctionTurn {  // of a repeat whose turn becomes a function
    std::uint32_t repeat = 0;
    std::vector<std::string> names;  // outer values that it binds again
    Scope* outer = nullptr;
    std::vector<Term> before;  // what the first turn begins with
    bool fine = true, trained = false;
  };
  void begin_turn(const FunctionTurn& turn, Scope& scope, Span at);
  void end_turn(FunctionTurn& turn, Scope& scope);
  void leave_turns(const FunctionTurn& turn, Scope& scope, Span at);
  Term placeholder(Node node, const Term& like);
  void give_axes(std::size_t made);
  void repeat_unrolled(const ast::Stmt& s, std::int64_t turns);
  std::vector<std::string> rebound(const ast::Stmt& s);
  bool same_type(const std::string& name, const Binding& before, const Term& after, Span at);
  std::string repeat_name(const std::string& label);
  struct Turns {  // the bundles of a repeat's turn
    std::uint32_t trained = no_index, fixed = no_index, trained_slot = 0, fixed_slot = 0;
  };
  Turns open_turns(const std::string& name);
  void close_turns(Turns& t, std::int64_t turns, Span at);
  void scan_statement(const ast::Stmt& s);
  const NamedAxis* scan_axis(const ast::Stmt& s);
  struct State {
    const ast::Stmt* let = nullptr;
    Term term;                       // the value at the position before
    std::uint32_t index = no_index;  // in the scan's states
    Span read;
  };
  struct StateTable {
    std::uint32_t scan = 0;
    const NamedAxis* axis = nullptr;
    Scope* scope = nullptr;
    std::map<std::string, State> states;
  };
  struct Direction {
    int step = 0;  // −1, +1; 0: nothing was read yet
    Span at;
  };
  void find_states(const std::vector<ast::StmtId>& statements, StateTable& table);
  void close_states(StateTable& table);
  // Is it `h[t = t - 1]` of a state? `entry` is the one that says so.
  bool reads_state(const ast::Expr& e, Term& out, std::size_t& entry);
  struct Guess {
    DType dtype = DType::f32;
    std::int64_t low = 0, high = 0;
  };
  std::optional<Guess> guess(ExprId id, const std::string& name, const Guess& assumed);
  Guess guess_state(const std::string& name, const StateTable& table);
  Term state_term(const ast::Expr& name, State& state, StateTable& table);

  // ---- expressions
  Term eval(ExprId id);
  Term eval_inner(const ast::Expr& e);
  Term name(const ast::Expr& e);
  Term arithmetic_chain(const ast::Expr& e);
  Term logic_chain(const ast::Expr& e);
  bool bare_position(ExprId id, const char* role);
  void check_meeting(const Meeting& m, const ast::Expr& e);
  Term index(const ast::Expr& e);
  Term list(const ast::Expr& e);
  Term reduction(const ast::Expr& e);
  Term cross_entropy(const ast::Expr& e, const Terms::Reduction& r);
  void factors(ExprId id, std::vector<Term>& out);
  Term call(const ast::Expr& e);
  Term builtin(const ast::Expr& e);
  Term block_call(const ast::Expr& e, BlockRef ref);
  struct Arguments;  // lower_arguments.h
  bool match_arguments(const ast::Expr& e, Arguments& a);
  bool eval_arguments(const ast::Expr& e, Arguments& a);
  bool header_axes(const ast::Expr& e, Arguments& a, Frame& inner);
  bool bind_formal(const ast::Expr& e, Arguments& a, std::size_t which, Frame& caller);
  bool bind_tensor(const ast::Formal& formal, Term value, Span at, Arguments& a);
  Term tell(Term result, const Frame& inner, const ast::Expr& e, const ast::Block& block);
  bool enter_call(const ast::Expr& e, BlockRef ref);
  Term unknown_block(const ast::Expr& e);

  // ---- numbers
  std::optional<Number> number(ExprId id, std::string_view what);
  std::optional<std::int64_t> integer(ExprId id, const std::string& what, std::int64_t low,
                                      std::int64_t high);
  std::optional<Number> number_call(const ast::Expr& e, std::string_view what);
  std::optional<std::int64_t> extent(ExprId id, const std::string& axis);
  const NamedAxis* size_of(const ast::Expr& e);
  std::vector<Note> known_numbers(ExprId id);  // what the names in an expression stand for

  // ---- train
  void train_settings();
  void train_setting(const ast::Setting& s);
  void optimizer(const ast::Setting& s);
  void schedule(const ast::Setting& s);
  bool train_number(const ast::Setting& s, double low, double high, const char* range, double& out);
  void apply_settings();
  bool find_setting_names();

  // ---- help
  // Enough errors, or more operations or calls than a model may have (which it then reports).
  bool stopped();
  const ast::Expr& expr(ExprId id) const { return frame_.file->expr(id); }
  std::string near(const std::string& name, std::vector<std::string_view> candidates) const;
  // Of a name that is bound to nothing here (lower_hints.cpp).
  std::string unbound_advice(const std::string& name);
  std::vector<Note> unbound_notes(const std::string& name, Span at);
  Binding* lookup(const std::string& name, Span at, std::string_view what);

  Sources& sources_;
  const ast::File& file_;
  const LowerOptions& options_;
  Reporter report_;
  Program program_;
  Graph graph_;
  Terms terms_;
  Blocks blocks_;
  Exit exit_ = Exit::text;

  std::deque<NamedAxis> axes_;
  std::unique_ptr<Scope> model_scope_;
  Frame frame_;
  std::uint32_t frames_ = 0;
  int depth_ = 0;                    // of evaluation, calls included
  int turns_around_ = 0;             // repeats around, calls included
  double copies_ = 1;                // turns around, multiplied
  std::int64_t sites_ = 0;           // random draws of the current home so far
  std::uint32_t instance_ = 0;       // of parameters
  std::vector<StateTable*> tables_;  // scans around and turns unrolled in them
  std::vector<std::pair<std::uint32_t, Direction>> directions_;
  struct Cursor {  // into the bundles of an instance: turns after the first declare the same
    std::uint32_t trained = 0, fixed = 0, inner = 0;
  };
  Cursor cursor_;
  std::vector<std::vector<std::pair<std::uint32_t, std::uint32_t>>>
      inner_;  // by trained bundle: those of its repeats
  struct MemberNames {
    std::unordered_set<std::string> all, nested, prefixes;  // prefixes: `a` and `a.b` of `a.b.c`
  };
  std::vector<MemberNames> member_names_;  // by bundle
  std::unordered_set<std::string> repeat_names_{"loss", "eval", "grad", "update",
                                                "step"};  // taken, as functions

  std::vector<FinalValue> finals_;
  std::vector<ModelInput> inputs_;
  std::vector<std::pair<std::string, double>> numbers_;
  std::vector<BoundLine> lines_;
  std::vector<Expectation> expectations_;
  std::unordered_set<std::string> recorded_;
  std::vector<const ast::Block*> active_;  // blocks whose calls are open
  std::size_t calls_ = 0;
  Span here_;  // the statement or call that is looked at
};

// As frontend.h's lower, which also gives the lines of what is bound.
Result<Model> lower(Sources& sources, const ast::File& file, const LowerOptions& options,
                    std::vector<BoundLine>& lines);

}  // namespace gradc
