// Owns the printing of functions as mathematics, in the language of the models
// (frontend/README.md): what a dump of the IR says in single operations, as one would write it on a
// whiteboard.
//
// A value has a line, `name[axes] = expression`, if it is named, read several times, or too long to
// stand where it is read; the others are written out in their reader. Parameters and what forward
// keeps go by the names that they have there; the cotangent of x is d_x. Calls in a row of one
// function are a `repeat`, whose carried value is bound again each turn; of fused operations, what
// they mean stands below in comments, once. Each line parses as a statement of the language.
// Grouping of sums and products is the reader's: 1/size(e) may have been a constant, a - b - c an a
// - (b + c).
#pragma once

#include <string>
#include <string_view>

#include "ir/program.h"

namespace gradc {

// The function of that name and what it calls; for the gradient, `grad`. It must be there.
std::string math_text(const Program& program, std::string_view function);

}  // namespace gradc
