// Owns what the files of the mathematical printer share: one function being printed (Sheet), and
// the walk over functions (Printer). passes/math.h tells what comes out.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "ir/program.h"
#include "ir/text_names.h"
#include "passes/math_term.h"

namespace gradc::math {

// A word that no value can be called in the language; an axis's name, with `d.1` as `d_1`.
bool is_reserved(std::string_view word);
std::string plain(std::string_view name);

// Constants that stand for sizes, by the source lines of the operation that multiplies by them:
// backward has them from forward.
using Constants = std::map<std::pair<std::vector<SourcePos>, double>, Term>;

// One function: what its values are called and how they read. Its regions share it.
class Sheet {
 public:
  // `invented`: names that have been made up so far, in all functions.
  Sheet(const Program& program, text::Layouts& layouts, const Function& f, Constants& constants,
        std::unordered_set<std::string>& invented);

  const Function& f;
  std::vector<Term> terms;  // by value: how it reads
  std::vector<std::uint32_t> uses;
  std::vector<char> summed;  // by value: a reduction or contraction reads it

  // The name in the IR as the language has it: without dots, bundles' prefixes and numbers; "" for
  // what has none. d_ for cotangents. `stem`: x of %x.2, too.
  std::string own_name(ValueId v, bool stem = false) const;
  // A name like `wish` that nothing here has; taken from then on.
  std::string fresh(std::string wish);
  // Everything that reads as a name in `text` is taken.
  void reserve(const std::string& text);
  // A name for what has none in the IR.
  std::string invented(const Op& op);

  std::string axis(AxisId a) const { return plain(program_.text(f.axis(a).name)); }
  std::string axes(const AxisList& list) const;
  std::string axes(const std::vector<AxisId>& list) const;
  const Term& term(ValueId v) const { return terms[v.index]; }

  // ---- math_operations.cpp: an operation without regions or callees as a term of its operands
  Term read_as(const Op& op);

 private:
  Term elementwise(const Op& op);
  Term scaled(const Op& op, ValueId x, double by);
  const Term* known(const Op& op, double size) const;
  Term reduction(const Op& op);
  Term view(const Op& op);
  Term joined(const Op& op);
  Term scatter(const Op& op);
  const Op* def(ValueId v) const { return f.definition(v); }
  std::optional<double> constant(ValueId v) const;

  const Program& program_;
  text::ValueNames names_;
  Constants& constants_;
  std::unordered_set<std::string>& invented_;
  std::unordered_set<std::string> taken_;
};

class Printer {
 public:
  Printer(const Program& program, Constants constants)
      : p_(program), layouts_(program), constants_(std::move(constants)) {}
  std::string run(FunctionId id);
  const Constants& constants() const { return constants_; }  // recognised on the way

 private:
  Sheet& new_sheet(FunctionId id);
  static bool in_bundle(const Function& f, ValueId v);  // a member of some group

  // ---- math.cpp: lines, and which values get them
  void line(const std::string& text);
  // `name[axes] = term`; scans add their axis.
  void equation(const Sheet& s, const std::string& name, const Type& type, const Term& term);
  // A heading where a function turns from forward to backward.
  void turn_to(const Op& op);
  std::string argument_name(Sheet& s, ValueId v);
  void function(Sheet& s);
  void region(Sheet& s, const Region& region);
  // The operation as a term; if that is long, operands that stood in it get lines before.
  Term short_term(Sheet& s, const Op& op);
  // Gives the value a line, or leaves it to its readers.
  void place(Sheet& s, const Op& op, ValueId v, const Term& term, bool result);

  // ---- math_repeat.cpp: calls of one function in a row
  struct Carry {  // a result of a turn that is an argument of the next
    std::size_t argument, result;
  };
  static std::vector<OpId> calls_in(const Function& f, const Region& in, FunctionId callee);
  static std::vector<Carry> carried(const Function& f, const std::vector<OpId>& calls);
  // The formal is not read any more when the result is made, so the name can pass to it.
  static bool rebinds(const Function& f, ValueId formal, ValueId result);
  // A value that only calls read, as the start of what they hand on, has the name of that.
  void bind_starts(Sheet& s);
  void call_of(Sheet& s, const Region& in, OpId id);
  // Names of the callee's arguments; lines for what the caller calls otherwise.
  std::vector<std::string> pass_arguments(Sheet& s, const Op& call, Sheet& inner,
                                          const std::vector<Carry>& carry);
  // What forward kept reads as it did there.
  const Term* saved_term(const Sheet& s, ValueId v) const;
  // What a turn of forward hands to its turn of backward, as a comment.
  void kept(const Sheet& s, const Op& call, const Sheet& inner);
  // Behind the turns: what was handed on goes by its name, what each turn gave by its number.
  void after_turns(Sheet& s, const std::vector<OpId>& calls, const std::vector<Carry>& carry,
                   const Sheet& inner, const std::vector<std::string>& names);

  // ---- math_region.cpp: operations with regions
  void fused(Sheet& s, const Op& op);
  // Without a claim an operation is what stands in it.
  void group(Sheet& s, const Op& op);
  // What the operation means, in comments below it.
  void define(Sheet& s, const Op& op, const std::string& claim);
  void scan(Sheet& s, const Op& op);

  const Program& p_;
  text::Layouts layouts_;
  Constants constants_;
  std::unordered_set<std::string> invented_;
  std::map<std::uint32_t, std::unique_ptr<Sheet>> sheets_;  // by function
  // Names that values get since something reads them by it already: carried ones.
  std::map<std::pair<const Function*, std::uint32_t>, std::string> bound_;
  std::set<std::string> defined_;   // fused operations whose meaning has been printed, by structure
  std::vector<std::string> along_;  // axes of the scans around
  std::string out_;
  std::size_t depth_ = 0;
  int comment_ = 0;  // inside definitions of fused operations
  bool backward_ = false;
};

}  // namespace gradc::math
