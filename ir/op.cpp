// The operations' facts as a table, and names of claims.
#include "ir/op.h"

#include <bit>
#include <iterator>

namespace gradc {
namespace {

constexpr int many = -1;

#define OP(op_name, fewest, greatest, op_kind, form, ...) \
  Facts{.name = #op_name, .least = (fewest), .most = (greatest), .kind = Kind::op_kind, .attr = AttrForm::form, __VA_ARGS__},
constexpr Facts rows[] = {
#include "ir/ops.def"
};
#undef OP

constexpr std::string_view claims[] = {"group",     "softmax", "attention",     "attention_grad",
                                       "layernorm", "rmsnorm", "cross_entropy", "gelu",
                                       "silu",      "optimizer"};

}  // namespace

const Facts& facts(Opcode code) { return rows[static_cast<int>(code)]; }

bool parse_opcode(std::string_view text, Opcode& out) {
  for (int i = 0; i < opcode_count; ++i)
    if (rows[i].name == text) {
      out = static_cast<Opcode>(i);
      return true;
    }
  return false;
}

std::string_view name(Claim claim) { return claims[static_cast<int>(claim)]; }

bool parse_claim(std::string_view text, Claim& out) {
  for (std::size_t i = 0; i < std::size(claims); ++i)
    if (claims[i] == text) {
      out = static_cast<Claim>(i);
      return true;
    }
  return false;
}

bool operator==(const Attr& a, const Attr& b) {
  return std::bit_cast<std::uint64_t>(a.real) == std::bit_cast<std::uint64_t>(b.real) && a.integer == b.integer &&
         a.stride == b.stride && a.from == b.from && a.to == b.to && a.axes == b.axes && a.bundle == b.bundle &&
         a.flag == b.flag && a.callee == b.callee && a.claim == b.claim && a.carried == b.carried &&
         a.sliced == b.sliced && a.reverse == b.reverse;
}

}  // namespace gradc
