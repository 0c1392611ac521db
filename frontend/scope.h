// Owns what names mean (rule 1): a number, an axis, or a value (bound, an input, a parameter, an
// argument). A block's scope is closed; a repeat's turn sees the scope around it.
#pragma once

#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "frontend/blocks.h"
#include "frontend/term.h"

namespace gradc {

struct Binding {
  enum Kind : std::uint8_t { number, axis, value, input, param, argument, wrong } kind = wrong;
  Span at;
  Number exact;
  const NamedAxis* along = nullptr;
  Term term;
  bool used = false;
  bool carried = false;  // an outer value that this turn binds again
  std::size_t order = 0;

  bool is_value() const {
    return kind == value || kind == input || kind == param || kind == argument;
  }
};

class Scope {
 public:
  // `facts` are those of the body that the scope belongs to.
  Scope(Scope* outer, const BodyFacts* facts, std::uint32_t frame)
      : outer_(outer), facts_(facts), frame_(frame) {}

  Binding* find(const std::string& name);  // here or outside; null if unbound
  Binding* find_here(const std::string& name);
  Binding& bind(const std::string& name, Binding binding);
  // A name that is bound more than once is a value (rule 1).
  bool bound_once(const std::string& name) const;
  Scope* outer() { return outer_; }
  std::uint32_t frame() const { return frame_; }
  const BodyFacts& facts() const { return *facts_; }
  std::vector<std::string_view> names() const;  // all that can be seen
  // Its own, in the order in which they were first bound.
  std::vector<std::pair<const std::string*, Binding*>> in_order();

 private:
  Scope* outer_;
  const BodyFacts* facts_;
  std::uint32_t frame_;
  std::unordered_map<std::string, Binding> names_;
};

}  // namespace gradc
