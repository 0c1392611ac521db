// Owns recognition: the mathematics of a softmax, an attention, a norm and their like becomes one
// operation that carries its definition (`fused CLAIM … { … }`, ir/README.md), wherever it was
// written and however it was spelled. The table is fused.def, the algebra canonical.h.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "ir/program.h"
#include "passes/remark.h"

namespace gradc {

struct FuseOptions {
  std::array<bool, claim_count> off{};  // claims that are not looked for

  bool on(Claim c) const { return !off[static_cast<std::size_t>(c)]; }
};

// Every function but kernels; what is fused already stays as it is. Unneeded operations are gone,
// the rest is simplified. Locations: a fused operation has the lines of all that it replaced.
Program fuse(const Program& program, const FuseOptions& options = {},
             std::vector<Remark>* remarks = nullptr);

// Every fused operation gives way to its region; but not attention and its backward unless `all`:
// they have kernels of their own.
Program unfuse(const Program& program, bool all = true);
Program unfuse_claims(const Program& program, const std::array<bool, claim_count>& which);

// Whether the region of a `fused` says what its claim says: "", or what is wrong. A pass that
// changes a region or makes one is held to this (pipeline.cpp).
std::string check_claim(const Program& program, const Function& f, const Op& fused);
// The first fault of any function, as text; "" if there is none.
std::string check_claims(const Program& program);

}  // namespace gradc
