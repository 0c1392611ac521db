// Owns what an expression of the language can be: a number, or a tensor whose axes are objects of
// the language. An axis of the graph (storage) may serve several of them, never two in one value.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "frontend/graph.h"
#include "frontend/number.h"

namespace gradc {

// An axis of the language: made once, at `at`, in the call `frame`; known by identity, not by name.
struct NamedAxis {
  std::string name;
  std::int64_t extent = 0;
  Span at;
  AxisId storage;
  std::uint32_t frame = 0;
  const NamedAxis* outer = nullptr;  // of a header: the caller's axis that it stands for
};
using Axes = std::vector<const NamedAxis*>;

bool has(const Axes& axes, const NamedAxis* a);
void add_axis(Axes& axes, const NamedAxis* a);  // unless there
Axes union_of(const Axes& a, const Axes& b);
Axes without(const Axes& axes, const Axes& gone);
bool covers(const Axes& a, const Axes& b);  // a ⊇ b

// An integer made of positions: constant + Σ coefficient · position, then by a divisor or its
// remainder.
struct Position {
  std::int64_t constant = 0;
  std::vector<std::pair<const NamedAxis*, std::int64_t>> terms;  // coefficients are not 0
  std::int64_t divisor = 0;                                      // 0: none
  bool remainder = false;

  const NamedAxis* bare() const {  // the axis that it is the position along
    return divisor == 0 && constant == 0 && terms.size() == 1 && terms[0].second == 1
               ? terms[0].first
               : nullptr;
  }
};

struct Term {
  enum Kind : std::uint8_t {
    wrong,
    number,
    tensor
  } kind = wrong;            // wrong: was reported, stay silent
  bool positional = false;   // made of positions and numbers alone
  signed char truth = -1;    // a boolean that is known: 0, 1
  bool trained = false;      // a gradient reaches a parameter through it
  DType dtype = DType::f32;  // Lowering's real dtype, i32 or bool
  Number exact;              // number
  NodeId node;
  Axes axes;                       // in the order of the node's type
  Axes data;                       // those that come from data rather than positions
  std::int64_t low = 0, high = 0;  // of an integer
  std::shared_ptr<const Position> position;
  // Of a boolean: places along axes at which it holds wherever the other axes are. A softmax over
  // such an axis has no row of which all is excluded.
  std::vector<std::pair<const NamedAxis*, std::int64_t>> witnesses;

  bool ok() const { return kind != wrong; }
  bool is_number() const { return kind == number; }
  bool real() const { return kind == tensor && is_real(dtype); }
  bool integer() const { return kind == tensor && dtype == DType::i32; }
  bool boolean() const { return kind == tensor && dtype == DType::boolean; }
};

inline Term number_term(Number n) {
  Term v;
  v.kind = Term::number;
  v.positional = true;
  v.exact = n;
  return v;
}

// `[b=2 t=64]`, and with what it holds: `integer [b=2]`; for messages.
std::string describe(const Axes& axes);
std::string describe(const Term& value);

}  // namespace gradc
