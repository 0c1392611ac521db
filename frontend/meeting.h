// Owns rule 7's question: may these operands meet? Any order of a chain means the same (principle
// 2), so it is asked of all of them at once: if one has all axes that there are, the chain can
// begin with it.
#pragma once

#include "frontend/term.h"

namespace gradc {

class Meeting {
 public:
  void add(const Term& t);
  // Axes that one of them has and another lacks; empty if one has all.
  Axes disputed() const;
  bool fine() const { return fine_; }
  const std::vector<Axes>& widest() const { return widest_; }  // none covers another

 private:
  bool fine_ = true;
  std::vector<Axes> widest_;
};

}  // namespace gradc
