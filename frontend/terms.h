// Owns the making of typed values: each method checks kinds, axes, ranges and sizes, reports what
// is wrong at `at`, and appends operations to the graph. Knows nothing of names or of the syntax
// tree. A wrong operand gives a wrong result silently. Rules by number are those of
// frontend/README.md.
//
//   terms.cpp              sources, conversions, limits
//   terms_elementwise.cpp  arithmetic, comparisons, functions (rules 5–7)
//   terms_range.cpp        ranges of integers, positions as formulas
//   terms_read.cpp         reads at positions, canonicalised (rule 10)
//   terms_stretch.cpp      lines, windows, repetitions and merges of an axis
//   terms_reduce.cpp       reductions (rules 11 and 12)
//   terms_product.cpp      sums of products as contractions
#pragma once

#include <span>
#include <vector>

#include "frontend/graph.h"
#include "frontend/report.h"
#include "frontend/term.h"

namespace gradc {

inline constexpr std::int64_t max_extent = 2147483647;
inline constexpr std::int64_t max_elements = std::int64_t{1} << 40;  // of one value
inline constexpr std::size_t max_operations = 1'000'000;  // of a model, calls and turns counted

class Terms {
 public:
  Terms(Graph& graph, Reporter& report, DType real) : graph_(graph), report_(report), real_(real) {}

  Graph& graph() { return graph_; }
  DType real() const { return real_; }

  // ---- sources
  Term position(const NamedAxis* axis, Span at);
  Term boolean(bool value, Span at);
  Term training(Span at);
  Term uniform(const Term& like, std::int64_t site, Span at);
  // A real of the value, without axes.
  Term constant(double value, Span at);

  // ---- conversions. materialise: a number becomes a tensor, a real one if it is told so.
  Term to_real(const Term& x, Span at);
  Term materialise(const Term& x, bool as_real, Span at);
  NodeId node_of(const Term& x, DType dtype, Span at);
  // To exactly these axes, in this order; all of x's must be among them.
  Term expand(const Term& x, const Axes& axes, Span at);
  // The same value where `from` is called `to`: the storage changes only if it must.
  Term rename(const Term& x, const NamedAxis* from, const NamedAxis* to, Span at);

  // ---- elementwise. arithmetic: add sub mul div floordiv mod max min pow.
  Term arithmetic(Opcode code, const Term& a, const Term& b, Span at);
  Term negate(const Term& x, Span at);
  Term compare(std::string_view sign, const Term& a, const Term& b, Span at);
  Term logic(Opcode code, const Term& a, const Term& b, Span at);
  Term invert(const Term& x, Span at);
  Term select(const Term& c, const Term& a, const Term& b, Span at);
  // exp log sqrt rsqrt sin cos tanh erf floor abs stop
  Term function(Opcode code, const Term& x, Span at);

  // ---- reads
  struct Entry {
    const NamedAxis* axis = nullptr;   // of x
    Term at;                           // where
    const NamedAxis* fresh = nullptr;  // a relabelling to a new axis: `at` does not count
    Span span;
  };
  Term read(Term x, std::vector<Entry> entries, Span at);

  // ---- reductions
  struct Reduction {
    std::string_view name;  // sum mean max min argmax softmax logsumexp
    Axes over;
    std::vector<Span> places;  // of the axes, for messages
    Term where;                // wrong: none
    bool has_where = false;
    Span where_at;
  };
  // The argument of sum and mean as its factors (rule 7 holds within each, not between them).
  Term reduce(const Reduction& r, std::vector<Term> factors, Span at);

  bool room(const Axes& axes, Span at);  // rank, elements and operations stay within bounds
  // Within a scan a value is known only at its own position: may `x` be asked elsewhere along
  // `axis`?
  bool movable(const Term& x, const NamedAxis* axis, Span at);

 private:
  Term tensor(NodeId node, DType dtype, Axes axes, std::initializer_list<const Term*> from);
  Type type_of(DType dtype, const Axes& axes) const;
  Term add(Opcode code, std::initializer_list<const Term*> operands, const Attr& attr, DType dtype,
           const Axes& axes, Span at);
  Term elementwise(Opcode code, DType dtype, std::initializer_list<const Term*> operands, Span at);
  bool numeric(const Term& x, Span at);
  Term number_arithmetic(Opcode code, const Number& a, const Number& b, Span at);
  bool bounded(Opcode code, const Term& a, const Term& b, Term& result, Span at);
  void find_witnesses(Opcode code, const Term& a, const Term& b, Term& result);
  void follow_position(Opcode code, const Term& a, const Term& b, Term& result);

  // reads along one axis
  Term read_one(const Term& x, const Entry& e, Span at);
  Term read_pick(const Term& x, const NamedAxis* a, std::int64_t k, Span at);
  Term read_affine(const Term& x, const NamedAxis* a, const Position& p, const Term& e, Span at);
  Term read_line(const Term& x, const NamedAxis* a, const NamedAxis* q, std::int64_t k,
                 std::int64_t m, Span at);
  Term read_windows(const Term& x, const NamedAxis* a, const NamedAxis* q, const NamedAxis* r,
                    const Position& p, Span at);
  Term read_divided(const Term& x, const NamedAxis* a, const Position& p, Span at);
  bool read_merged(Term& x, std::vector<Entry>& entries, Span at);
  Term read_gather(const Term& x, const NamedAxis* a, const Term& e, Span at);
  bool check_entry(const Term& x, const Entry& e);
  const NamedAxis* temporary(const std::string& name, std::int64_t extent);

  // reductions
  Term fold(Opcode code, const Term& x, const Axes& over, DType dtype, Span at);
  bool check_reduction(const Reduction& r, const Axes& argument, Span at);
  Term excluded(const Reduction& r, const Term& x, double instead, Span at);
  Term sum(const Reduction& r, std::vector<Term> factors, Span at);
  Term mean(const Reduction& r, std::vector<Term> factors, Span at);
  Term extreme(const Reduction& r, const Term& x, Span at);
  Term argmax(const Reduction& r, const Term& x, Span at);
  Term softmax(const Reduction& r, const Term& x, Span at);
  Term logsumexp(const Reduction& r, const Term& x, Span at);
  struct Shifted {
    Term shifted, highest;
  };
  Shifted shifted(const Reduction& r, const Term& x, Span at);
  Term product_sum(std::vector<Term> factors, const Axes& over, Span at);
  Term multiply_pair(const Term& a, const Term& b, const Axes& over, Span at);

  Graph& graph_;
  Reporter& report_;
  DType real_;
  std::vector<std::unique_ptr<NamedAxis>> temporaries_;
};

}  // namespace gradc
