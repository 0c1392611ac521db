// The structural key of a function.
#include "ir/structure.h"

#include <bit>
#include <charconv>

#include "ir/walk.h"

namespace gradc {
namespace {

class KeyWriter {
 public:
  KeyWriter(const Program& p, const Function& f)
      : p_(p), f_(f), axis_(f.axes.size(), unseen), value_(f.values.size(), unseen) {}

  std::string run() {
    out_.append(name(f_.family));
    walk(
        f_, [&](RegionId r, OpId) { enter(r); }, [&](OpId o) { operation(f_.op(o)); },
        [&](RegionId r, OpId) { leave(r); });
    return std::move(out_);
  }

 private:
  static constexpr std::uint32_t unseen = UINT32_MAX;

  void number(std::uint64_t n) {
    char digits[20];
    out_.append(digits, std::to_chars(digits, digits + sizeof digits, n).ptr);
  }
  void whole(char mark, std::int64_t n) {
    out_ += mark;
    if (n < 0) out_ += '-';
    number(n < 0 ? -static_cast<std::uint64_t>(n) : static_cast<std::uint64_t>(n));
  }
  void axis(AxisId a) {
    if (!a.valid()) {
      out_ += " _";
      return;
    }
    std::uint32_t& seen = axis_[a.index];
    const bool fresh = seen == unseen;
    if (fresh) seen = axes_++;
    out_ += ' ';
    number(seen);
    if (fresh) whole('=', f_.extent(a));
  }
  void type(const Type& t) {
    out_.append(name(t.dtype));
    out_ += '[';
    for (AxisId a : t.axes) axis(a);
    out_ += ']';
  }
  void define(ValueId v) {
    value_[v.index] = values_++;
    type(f_.type(v));
  }
  void use(ValueId v) {
    out_ += '%';
    number(value_[v.index]);
  }

  void enter(RegionId r) {
    out_ += "{(";
    for (ValueId v : f_.regions[r.index].arguments) define(v);
    out_ += ')';
  }
  void leave(RegionId r) {
    out_ += '^';
    for (ValueId v : f_.regions[r.index].results) use(v);
    out_ += '}';
  }
  void operation(const Op& op) {
    out_ += ';';
    out_.append(facts(op.code).name);
    for (ValueId v : op.operands) use(v);
    attributes(op);
    out_ += '>';
    for (ValueId v : op.results) define(v);
  }

  // All fields in one fixed order; those at their defaults are left out.
  void attributes(const Op& op) {
    const Attr& a = op.attr;
    const Attr standard;
    if (a == standard) return;
    out_ += '(';
    if (const auto bits = std::bit_cast<std::uint64_t>(a.real); bits != 0)
      out_ += 'r', number(bits);
    if (a.integer != 0) whole('i', a.integer);
    if (a.stride != 1) whole('*', a.stride);
    if (a.from.valid()) out_ += 'f', axis(a.from);
    if (a.to.valid()) out_ += 't', axis(a.to);
    if (!a.axes.empty()) {
      out_ += 'a';
      for (AxisId x : a.axes) axis(x);
    }
    if (a.bundle.valid()) bundle(a);
    if (a.callee.valid()) out_ += '@', number(a.callee.index);
    if (a.claim != Claim::none) out_.append(name(a.claim));
    if (a.carried != 0) out_ += 'c', number(a.carried);
    if (a.sliced != 0) out_ += 's', number(a.sliced);
    if (a.reverse) out_ += '~';
    out_ += ')';
  }
  void bundle(const Attr& a) {
    const std::string_view flag = p_.text(a.flag);
    out_ += 'b';
    out_.append(flag);
    for (const Leaf& leaf : leaves(p_, a.bundle)) {
      whole(' ', leaf.elements);
      if (flag == "decay") out_ += leaf.member->decay ? '+' : '-';
      if (flag == "clip") out_ += leaf.member->clip ? '+' : '-';
    }
  }

  const Program& p_;
  const Function& f_;
  std::vector<std::uint32_t> axis_, value_;  // numbers by order of occurrence
  std::uint32_t axes_ = 0, values_ = 0;
  std::string out_;
};

}  // namespace

std::string structure_key(const Program& program, const Function& function) {
  return KeyWriter(program, function).run();
}

}  // namespace gradc
