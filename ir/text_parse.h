// Owns the parsing of IR text: what is shared between the program's items (ir/text_parse.cpp) and
// the functions (ir/text_parse_function.cpp).
#pragma once

#include <unordered_map>

#include "ir/builder.h"
#include "ir/text_names.h"
#include "ir/text_reader.h"

namespace gradc::text {

// The program so far, by name. A thing is declared before it is used, initialisers aside.
struct Parsed {
  explicit Parsed(Reader& r) : reader(r), layouts(program) {}
  template <class IdType>
  struct Declared {
    IdType id;
    Span at;
  };
  struct BundleSize {
    std::int64_t members = 0;  // leaves and turns
    std::int64_t elements = 0;
    int depth = 1;
  };

  Reader& reader;
  Program program;
  Layouts layouts;
  std::unordered_map<std::string, Declared<BundleId>> bundles;
  std::unordered_map<std::string, Declared<FunctionId>> functions;
  std::unordered_map<std::string, FileId> files;
  std::vector<BundleSize> sizes;  // by bundle
  std::int64_t grouped = 0;       // members of groups so far

  // `@name` of a bundle.
  bool take_bundle(BundleId& out);
};

// At `func` or `kernel`.
bool parse_function(Parsed& parsed);
// `=n` of an axis.
bool take_extent(Reader& reader, std::int64_t& out);
bool take_dtype(Reader& reader, DType& out);

}  // namespace gradc::text
