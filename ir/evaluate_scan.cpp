// The interpreter's scan: the region once a position, states handed on, slices read, results
// collected.
#include "ir/evaluate_machine.h"
#include "ir/evaluate_ops.h"

namespace gradc::interpreter {
namespace {

// The position along the axis that the scan is at.
std::int64_t place_of(const Op& op, const Scan& scan) {
  return op.attr.reverse ? scan.length - 1 - scan.position : scan.position;
}

}  // namespace

void Machine::enter_scan(Frame& frame, const Function& f, OpId id) {
  const Op& op = f.op(id);
  const Region& region = f.regions[op.regions[0].index];
  auto scan = std::make_unique<Scan>();
  scan->length = f.extent(op.attr.from);
  std::vector<Slot> arguments = take(frame, op);
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const bool sliced = i >= op.attr.carried && i < op.attr.carried + op.attr.sliced;
    const Type& theirs = f.type(op.operands[i]);
    if (sliced) {
      scan->sequences.push_back(std::move(arguments[i]));
      continue;
    }
    Slot s = arrange(f, std::move(arguments[i]), theirs, f.type(region.arguments[i]));
    (i < op.attr.carried ? scan->states : scan->invariants).push_back(std::move(s));
  }
  for (std::size_t i = op.attr.carried; i < op.results.size() && !failure_; ++i)
    scan->collected.push_back(make(f, f.type(op.results[i])));
  if (failure_) return;
  frames_.push_back(
      {frame.activation, op.regions[0], 0, id, std::move(scan)});  // invalidates frame
  if (frames_.back().scan->length == 0)
    finish_scan();
  else
    begin_position();
}

// The region's arguments at the scan's position.
void Machine::begin_position() {
  Frame& frame = frames_.back();
  const Function& f = function(frame);
  const Op& op = f.op(frame.owner);
  const Region& region = f.regions[frame.region.index];
  Scan& scan = *frame.scan;
  std::vector<Slot>& slots = frame.activation->slots;
  std::size_t next = 0;
  for (Slot& s : scan.states) slots[region.arguments[next++].index] = std::move(s);
  for (const Slot& s : scan.sequences) {
    const Type& whole = f.type(op.operands[next]);
    const ValueId argument = region.arguments[next++];
    std::shared_ptr<Array> part = make(f, f.type(argument));
    if (!part) return;
    Grid<2> grid;
    for (AxisId a : f.type(argument).axes)
      grid.axis(f.extent(a), {stride_of(f, f.type(argument), a), stride_of(f, whole, a)});
    grid.start = {0, place_of(op, scan) * stride_of(f, whole, op.attr.from)};
    copy(*part, *s.array, grid);
    slots[argument.index] = {part.get(), part};
  }
  for (const Slot& s : scan.invariants) slots[region.arguments[next++].index] = s;
  frame.next = 0;
}

// Keeps the next states and collects the rest; on to the next position, or out.
void Machine::end_position(std::vector<Slot> yielded) {
  Frame& frame = frames_.back();
  const Function& f = function(frame);
  const Op& op = f.op(frame.owner);
  const Region& region = f.regions[frame.region.index];
  Scan& scan = *frame.scan;
  for (std::size_t i = 0; i < yielded.size(); ++i) {
    const Type& theirs = f.type(region.results[i]);
    if (i < op.attr.carried) {
      scan.states[i] = arrange(f, std::move(yielded[i]), theirs, f.type(region.arguments[i]));
      continue;
    }
    const Type& whole = f.type(op.results[i]);
    Grid<2> grid;
    for (AxisId a : theirs.axes)
      grid.axis(f.extent(a), {stride_of(f, whole, a), stride_of(f, theirs, a)});
    grid.start = {place_of(op, scan) * stride_of(f, whole, op.attr.from), 0};
    copy(*scan.collected[i - op.attr.carried], *yielded[i].array, grid);
  }
  if (failure_) return;
  if (++scan.position == scan.length)
    finish_scan();
  else
    begin_position();
}

void Machine::finish_scan() {
  const Frame frame = std::move(frames_.back());
  frames_.pop_back();
  const Function& f = program_.function(frame.activation->id);
  const Op& op = f.op(frame.owner);
  const Region& region = f.regions[frame.region.index];
  std::vector<Slot> results;
  for (std::size_t i = 0; i < op.attr.carried; ++i)
    results.push_back(arrange(f, std::move(frame.scan->states[i]), f.type(region.arguments[i]),
                              f.type(op.results[i])));
  for (const std::shared_ptr<Array>& c : frame.scan->collected) results.push_back({c.get(), c});
  deliver(op, std::move(results));
}

}  // namespace gradc::interpreter
