// Ten faults. Each looks for places in all functions that the entries reach and changes one, in
// place.
#include "fuzz/faults.h"

#include <algorithm>
#include <functional>

namespace gradc::fuzz {
namespace {

struct Place {
  FunctionId function;
  OpId op;
};

constexpr std::string_view names[] = {
    "a term of a gradient dropped",
    "a shift along another axis",
    "a buffer read when it is stale",
    "a sign",
    "a mask's bound",
    "an operand of an epilogue lost",
    "a scale",
    "the branches of a select swapped",
    "an axis of a sum left out",
    "a slice or shift off by one",
};

bool gradient(const Program& p, const Op& op) { return p.location(op.loc).role == Role::gradient; }

bool binary(const Op& op) { return op.code == Opcode::add_ || op.code == Opcode::mul_; }

// Whether the operand can stand for the result.
bool stands(const Function& f, const Op& op, std::size_t operand) {
  return f.type(op.operands[operand]) == f.type(op.results[0]);
}

void redirect(Function& f, ValueId from, ValueId to) {
  for (Op& op : f.ops) std::replace(op.operands.begin(), op.operands.end(), from, to);
  for (Region& r : f.regions) std::replace(r.results.begin(), r.results.end(), from, to);
}

// Another axis of the operand, of more than one place; invalid if there is none.
AxisId another_axis(const Function& f, const Op& op) {
  for (AxisId a : f.type(op.operands[0]).axes)
    if (a != op.attr.from && f.extent(a) > 1) return a;
  return {};
}

bool is_place(const Program& p, const Function& f, const Op& op, int fault) {
  const bool kernel = f.family != Family::none;
  switch (fault) {
    case 1:
      return op.code == Opcode::add_ && gradient(p, op) && stands(f, op, 0);
    case 2:
      return op.code == Opcode::shift_ && another_axis(f, op).valid();
    case 4:
      return op.code == Opcode::sub_ || (op.code == Opcode::neg_ && stands(f, op, 0));
    case 5:
      return (op.code == Opcode::lt_ || op.code == Opcode::le_) &&
             is_integer(f.type(op.operands[0]).dtype);
    case 6:
      return kernel && binary(op) && stands(f, op, 0);
    case 7:
      return op.code == Opcode::constant_ && is_real(f.type(op.results[0]).dtype) &&
             op.attr.real != 0;
    case 8:
      return op.code == Opcode::select_;
    case 9:
      return op.code == Opcode::sum_ && op.attr.axes.size() == 1 && f.extent(op.attr.axes[0]) > 1 &&
             !kernel;
    case 10:
      return (op.code == Opcode::slice_ || op.code == Opcode::pick_ || op.code == Opcode::shift_) &&
             op.operands.size() == 1 && f.extent(op.attr.from) > 1;
    default:
      return false;
  }
}

// The result of one launch in the buffer of another that is read later.
bool overlap(Function& f, Random& random) {
  std::vector<ValueId> results;
  for (OpId id : f.body().ops)
    if (const Op& op = f.op(id); op.code == Opcode::launch_)
      for (ValueId v : op.results)
        if (f.placed[v.index].arena == Arena::activations) results.push_back(v);
  for (int tries = 0; tries < 20 && results.size() > 1; ++tries) {
    const std::size_t k =
        static_cast<std::size_t>(random.below(static_cast<int>(results.size()) - 1));
    const ValueId a = results[k], b = results[k + 1];
    bool read_later = false;  // a, behind the launch that gives b
    bool behind = false;
    for (OpId id : f.body().ops) {
      const Op& op = f.op(id);
      if (behind)
        read_later =
            read_later || std::find(op.operands.begin(), op.operands.end(), a) != op.operands.end();
      behind = behind || std::find(op.results.begin(), op.results.end(), b) != op.results.end();
    }
    if (!read_later || f.placed[a.index].offset == f.placed[b.index].offset) continue;
    f.placed[b.index].offset = f.placed[a.index].offset;
    return true;
  }
  return false;
}

// Operations of the body that some result needs.
std::vector<OpId> live(const Function& f) {
  std::vector<char> needed(f.values.size(), 0);
  for (ValueId v : f.body().results) needed[v.index] = 1;
  std::vector<OpId> out;
  for (auto id = f.body().ops.rbegin(); id != f.body().ops.rend(); ++id) {
    const Op& op = f.op(*id);
    if (std::none_of(op.results.begin(), op.results.end(),
                     [&](ValueId v) { return needed[v.index]; }))
      continue;
    out.push_back(*id);
    for (ValueId v : op.operands) needed[v.index] = 1;
  }
  return out;
}

void apply(Function& f, Op& op, int fault, Random& random) {
  switch (fault) {
    case 1:
    case 6:
      return redirect(f, op.results[0], op.operands[0]);
    case 2:
      op.attr.from = another_axis(f, op);
      return;
    case 4:
      if (op.code == Opcode::neg_) return redirect(f, op.results[0], op.operands[0]);
      std::swap(op.operands[0], op.operands[1]);
      return;
    case 5:
      op.code = op.code == Opcode::lt_ ? Opcode::le_ : Opcode::lt_;
      return;
    case 7:
      op.attr.real *= random.chance(0.5) ? 0.5 : 1.01;
      return;
    case 8:
      std::swap(op.operands[1], op.operands[2]);
      return;
    case 9: {
      Attr pick;
      pick.integer = 0;
      pick.from = op.attr.axes[0];
      op.code = Opcode::pick_;
      op.attr = pick;
      return;
    }
    case 10: {
      const bool first = op.attr.integer > 0 || op.code == Opcode::shift_;
      op.attr.integer += first ? -1 : 0;
      if (!first && op.code == Opcode::pick_) op.attr.integer = 1;
      if (!first && op.code == Opcode::slice_) {
        const std::int64_t last = op.attr.stride * (f.extent(op.attr.to) - 1);
        if (last + 1 < f.extent(op.attr.from))
          op.attr.integer = 1;
        else
          op.attr.stride = op.attr.stride > 1 ? 1 : op.attr.stride;
      }
      return;
    }
    default:
      return;
  }
}

}  // namespace

std::string_view fault_name(int fault) { return names[fault - 1]; }

std::optional<Program> with_fault(const Program& program, int fault, Random& random) {
  std::vector<FunctionId> roots;
  for (std::string_view entry : {"step", "grad", "loss"})
    if (roots.empty() && program.find(entry).valid()) roots.push_back(program.find(entry));
  Program wrong = program;
  if (fault == 3) {
    Function& f = wrong.function(roots[0]);
    if (f.placed.empty() || !overlap(f, random)) return std::nullopt;
    return wrong;
  }
  std::vector<Place> places;
  for (FunctionId id : reachable(program, roots)) {
    const Function& f = program.function(id);
    for (OpId o : live(f))
      if (is_place(program, f, f.op(o), fault)) places.push_back({id, o});
  }
  if (places.empty()) return std::nullopt;
  const Place at = random.of(places);
  Function& f = wrong.function(at.function);
  apply(f, f.ops[at.op.index], fault, random);
  return wrong;
}

}  // namespace gradc::fuzz
