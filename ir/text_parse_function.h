// Owns the parser of one function, for ir/text_parse.cpp. Operations go through a Builder as the
// text has them; each is checked against its type rule before it is made. Regions nest on a stack
// of our own.
#pragma once

#include "ir/text_parse.h"

namespace gradc::text {

struct Word {
  std::string text;
  Span at;
};

// What one type of a list stands for: a value, or the members of a bundle.
struct TypeItem {
  Span at;
  BundleId bundle;  // invalid: one value
  std::vector<Type> types;
  std::vector<Placement> places;  // as many, or none
};

// An operation whose line, or whose region, is being read.
struct Pending {
  Op op;
  Span at;
  std::vector<Word> names;
  std::vector<TypeItem> items;
  std::vector<Type> types;  // of items, one after the other
  Word from, to;            // axes are known when the types are
  std::vector<Word> axes;
  Token constant;
  std::vector<std::pair<std::size_t, Token>> literals;  // operands that are written as numbers
};

class FunctionParser {
 public:
  explicit FunctionParser(Parsed& parsed)
      : all_(parsed), r_(parsed.reader), p_(parsed.program), b_(parsed.program, f_) {}
  bool run();

 private:
  // ---- text_parse_function.cpp
  bool head();
  bool statement(bool& done);
  bool result_names(Pending& o);
  bool operands(std::vector<ValueId>& out, Pending* literals = nullptr);
  bool at_literal() const {
    return r_.at(Tok::number) || r_.at_word("true") || r_.at_word("false") || r_.at_word("inf") ||
           r_.at_word("nan");
  }
  bool literals(Pending& o);  // makes constants of them
  bool result_types(Pending& o);
  bool open_region(Pending& o);
  bool finish(Pending& o);  // makes the operation
  bool close(bool& done);   // of a region or, then done, of the body

  // ---- text_parse_types.cpp
  bool declare(const Word& axis, std::int64_t extent);
  bool type(Type& out);
  bool type_item(TypeItem& out);
  bool bundle_types(TypeItem& out);
  bool place(Placement& out, int rank);
  bool places(TypeItem& item);
  bool arguments(std::string_view close);
  bool define(const Word& name, const TypeItem& item, ValueId first);
  bool enter_name(std::string name, const Span& at, ValueId first, std::size_t count);
  bool head_results();
  bool head_result(std::vector<Type>& types, std::vector<NameId>& names, bool named);

  // ---- text_parse_attributes.cpp
  bool word(Word& out, std::string_view wanted);
  bool axis_words(std::vector<Word>& out, std::string_view close);
  bool before_operands(Pending& o);
  bool scan_head(Pending& o);
  bool behind_operands(Pending& o);
  bool shifted(Pending& o);
  bool affine(Pending& o);
  bool resolve(const Word& word, AxisId& out);
  bool resolve_axes(Pending& o);
  bool constant(const Token& text, DType dtype, Attr& out);
  bool location(LocId& out);

  Parsed& all_;
  Reader& r_;
  Program& p_;
  Function f_;
  Builder b_;
  AxisScope axes_;
  std::vector<Span> axis_at_;  // by axis
  struct Defined {
    ValueId first;
    std::uint32_t count;
    Span at;
  };
  std::unordered_map<std::string, Defined> values_;
  std::vector<std::uint32_t> region_of_;  // by value
  std::vector<Pending> open_;             // operations whose regions are being read
  std::vector<RegionId> regions_{RegionId{0}};
  std::vector<std::pair<ValueId, Placement>> placed_;
  std::vector<Type> declared_results_;
  std::vector<NameId> declared_names_;
};

}  // namespace gradc::text
