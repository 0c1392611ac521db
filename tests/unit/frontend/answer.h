// Owns the running of a golden case of this room: a model and what is asked of it, to the text that comes out.
//
//     ---- model NAME.grad      the text; in it \xNN is a byte and \{N*text} is the text N times
//     ---- file NAME.grad       one that it may use
//     ---- set NAME=VALUE …     as behind --set
//     ---- show NAME …          asks for @eval of these values, in brief
//     ---- loss                 asks for @loss, in brief
//     ---- warnings             asks for warnings
//     ---- bundles              asks for the parameters: path, stored name, type, initialiser
//     ---- need-loss            as `train` compiles it
//     ---- token                asks for the names of token's first and last axis
//
// Whatever is asked, errors are rendered instead. Nothing asked, or no warnings: `right`.
#pragma once

#include "support/golden.h"

namespace gradc::test {

std::string answer(const golden::Case& c);

}  // namespace gradc::test
