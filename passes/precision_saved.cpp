// What one function saves for another (a member of a bundle that is no parameter) in bf16: half the
// memory from forward to backward. A member is saved rounded if everything that is saved as it
//
//  - is read by products alone, and sums beside them: they would round it anyway; or
//  - is needed by forward only on its way to a rounding, element by element (what goes into a GELU
//    whose result is an operand): what backward computes of it is then as exact as that operand.
//
// So the stream of residuals, what norms read, and statistics of rows stay f32.
#include <algorithm>
#include <map>

#include "passes/plan.h"
#include "passes/precision.h"

namespace gradc::rounding {
namespace {

// A member of a bundle: all values that are it share their fate.
using Channel = std::pair<std::uint32_t, std::uint32_t>;  // bundle, member

class Saved {
 public:
  Saved(const Program& program, std::int64_t least) : p_(program), least_(least) {}

  std::vector<Border> run(Program& out) {
    for (const Function& f : p_.functions) {
      channel_.emplace_back(f.values.size(), none);
      result_.emplace_back(f.body().results.size(), none);
      borders_.push_back({std::vector<char>(f.values.size(), 0),
                          std::vector<char>(f.body().results.size(), 0)});
    }
    find_channels();
    match_calls();
    do {
      changed_ = false;
      draw_borders();
      for (std::size_t i = 0; i < p_.functions.size(); ++i) look_at(i);
    } while (changed_);
    for (std::size_t c = 0; c < members_.size(); ++c)
      if (alive_[c])
        out.bundles[members_[c].first].members[members_[c].second].type.dtype = DType::bf16;
    return std::move(borders_);
  }

 private:
  static constexpr std::uint32_t none = UINT32_MAX;
  void drop(std::uint32_t c) {
    if (c == none || !alive_[c]) return;
    alive_[c] = 0;
    changed_ = true;
  }
  bool alive(std::uint32_t c) const { return c != none && alive_[c]; }
  const Region& body(std::size_t f) const { return p_.functions[f].body(); }

  // Bundles that callers from outside know, with what is nested in them.
  std::vector<char> given() const {
    std::vector<char> called(p_.functions.size(), 0), out(p_.bundles.size(), 0);
    for (const Function& f : p_.functions)
      for (const Op& op : f.ops) {
        if (op.attr.callee.valid()) called[op.attr.callee.index] = 1;
        if (op.attr.bundle.valid()) out[op.attr.bundle.index] = 1;
      }
    for (std::size_t f = 0; f < p_.functions.size(); ++f)
      for (const Group& g : p_.functions[f].groups)
        if (!called[f] && !p_.functions[f].value(g.first).def.valid()) out[g.bundle.index] = 1;
    std::vector<std::uint32_t> work;
    for (std::uint32_t b = 0; b < out.size(); ++b)
      if (out[b]) work.push_back(b);
    while (!work.empty()) {
      const std::uint32_t b = work.back();
      work.pop_back();
      for (const Member& m : p_.bundles[b].members)
        if (m.nested.valid() && !out[m.nested.index]) {
          out[m.nested.index] = 1;
          work.push_back(m.nested.index);
        }
    }
    return out;
  }

  // Values of groups, by the member that they are.
  void find_channels() {
    const std::vector<char> outside = given();
    std::map<Channel, std::uint32_t> numbers;
    std::map<std::uint32_t, std::vector<std::uint32_t>> of_bundle;  // channels of its leaves
    for (std::size_t n = 0; n < p_.functions.size(); ++n)
      for (const Group& g : p_.functions[n].groups) {
        const auto [it, fresh] = of_bundle.try_emplace(g.bundle.index);
        if (fresh)
          for (const Leaf& leaf : leaves(p_, g.bundle)) {
            const Bundle& b = p_.bundle(leaf.bundle);
            const Channel c{leaf.bundle.index,
                            static_cast<std::uint32_t>(leaf.member - b.members.data())};
            const auto [at, first] =
                numbers.try_emplace(c, static_cast<std::uint32_t>(members_.size()));
            if (first) {
              members_.push_back(c);
              const Type& t = leaf.member->type;
              alive_.push_back(!outside[leaf.bundle.index] && t.dtype == DType::f32 &&
                               !t.axes.empty());
            }
            it->second.push_back(at->second);
          }
        for (std::uint32_t i = 0; i < g.count; ++i)
          channel_[n][g.first.index + i] = it->second[i];
      }
  }

  // Callers and callees see the same member, or none.
  void match_calls() {
    std::vector<std::vector<char>> met;  // by function and result: some call was seen
    for (const auto& r : result_) met.emplace_back(r.size(), 0);
    for (std::size_t n = 0; n < p_.functions.size(); ++n)
      for (const Op& op : p_.functions[n].ops) {
        if (op.code != Opcode::call_) {
          for (ValueId v : op.results) drop(channel_[n][v.index]);
          continue;
        }
        const std::uint32_t callee = op.attr.callee.index;
        for (std::size_t i = 0; i < op.results.size(); ++i) {
          const std::uint32_t here = channel_[n][op.results[i].index];
          std::uint32_t& there = result_[callee][i];
          if (met[callee][i] && there != here) {
            drop(here);
            drop(there);
          }
          there = here;
          met[callee][i] = 1;
        }
      }
  }

  void draw_borders() {
    for (std::size_t n = 0; n < p_.functions.size(); ++n) {
      for (std::size_t v = 0; v < channel_[n].size(); ++v)
        borders_[n].born[v] = alive(channel_[n][v]);
      for (std::size_t i = 0; i < result_[n].size(); ++i)
        borders_[n].results[i] = alive(result_[n][i]);
    }
  }

  // Drops what this function keeps from being rounded.
  void look_at(std::size_t n) {
    const Function& f = p_.functions[n];
    if (f.family != Family::none) return;
    const std::vector<Reader> readers = rounding::readers(p_, f, borders_, borders_[n], least_);
    for (std::size_t v = 0; v < channel_[n].size(); ++v) {
      const std::uint32_t c = channel_[n][v];
      if (alive(c) && readers[v] != Reader::none && readers[v] != Reader::product && !read_f32(c))
        drop(c);
    }
    // Nothing else is handed to who takes the member, or out of who gives it.
    for (const Op& op : f.ops)
      if (op.code == Opcode::call_)
        for (std::size_t i = 0; i < op.operands.size(); ++i) {
          const std::uint32_t here = channel_[n][op.operands[i].index];
          const std::uint32_t there = channel_[op.attr.callee.index]
                                              [body(op.attr.callee.index).arguments[i].index];
          if (here != there) {
            drop(here);
            drop(there);
          }
        }
  }

  // Whether backward may read the member in f32 although it was rounded: forward needed what was
  // saved only on its way to a rounding.
  bool read_f32(std::uint32_t c) {
    for (std::size_t n = 0; n < p_.functions.size(); ++n)
      for (std::size_t i = 0; i < result_[n].size(); ++i)
        if (const ValueId v = body(n).results[i];
            result_[n][i] == c && channel_[n][v.index] != c && !ways(n)[v.index])
          return false;
    return true;
  }

  // By value: it is read, and every reader rounds it or computes, element by element, what is only
  // on its way to be rounded; but for results that are saved.
  const std::vector<char>& ways(std::size_t n) {
    const auto [it, fresh] = ways_.try_emplace(n);
    if (!fresh) return it->second;
    const Function& f = p_.functions[n];
    std::vector<char> read(f.values.size(), 0), right(f.values.size(), 1);
    for (std::size_t i = 0; i < body(n).results.size(); ++i)
      if (result_[n][i] == none) right[body(n).results[i].index] = 0;
    for (auto o = body(n).ops.rbegin(); o != body(n).ops.rend(); ++o) {
      const Op& op = f.op(*o);
      for (std::size_t i = 0; i < op.operands.size(); ++i) {
        const ValueId v = op.operands[i];
        const bool passes =
            (planning::is_static_view(op) || is_elementwise(op.code)) &&
            f.elements(f.type(v)) == f.elements(f.type(op.results[0])) &&
            read[op.results[0].index] && right[op.results[0].index];
        right[v.index] &= rounds(f, op, i, least_) || passes;
        read[v.index] = 1;
      }
    }
    for (std::size_t v = 0; v < read.size(); ++v) it->second.push_back(read[v] && right[v]);
    return it->second;
  }

  const Program& p_;
  const std::int64_t least_;
  std::vector<Channel> members_;  // by channel
  std::vector<char> alive_;       // by channel
  std::vector<std::vector<std::uint32_t>> channel_, result_;  // by function: of values, of results
  std::vector<Border> borders_;
  std::map<std::size_t, std::vector<char>> ways_;
  bool changed_ = false;
};

}  // namespace

std::vector<Border> narrow_saved(const Program& program, std::int64_t least, Program& out) {
  return Saved(program, least).run(out);
}

}  // namespace gradc::rounding
