// Calls and regions of the interpreter: one frame a region that is being run.
#include "ir/evaluate_machine.h"

#include <fmt/format.h>

#include <new>

#include "ir/evaluate_ops.h"

namespace gradc::interpreter {

Result<std::vector<Array>> Machine::run(FunctionId f, std::span<const Array> arguments) {
  std::vector<Slot> slots;
  for (const Array& a : arguments) {
    slots.push_back({&a, nullptr});
    alive_ += a.size();
  }
  enter(f, std::move(slots), {});
  while (!failure_ && !frames_.empty()) step();
  frames_.clear();
  if (failure_) return std::move(*failure_);
  std::vector<Array> out;
  for (Slot& s : results_)
    if (s.owner && s.owner.use_count() == 1)
      out.push_back(std::move(*s.owner));
    else
      out.push_back(*s.array);
  return out;
}

std::shared_ptr<Array> Machine::make(const Function& f, const Type& type) {
  std::vector<std::int64_t> extents;
  std::int64_t n = 1;
  bool fits = true, empty = false;
  for (AxisId a : type.axes) {
    extents.push_back(f.extent(a));
    empty = empty || extents.back() == 0;
    fits = fits && !__builtin_mul_overflow(n, extents.back(), &n);
  }
  if (empty) n = 0;
  if (!empty && (!fits || n > limit_ - alive_)) {
    failure_ =
        failure(Exit::file,
                fmt::format("the interpreter would hold more than {} elements at once", limit_));
    return nullptr;
  }
  try {
    auto array = std::make_unique<Array>(Array::zeros(type.dtype, std::move(extents)));
    alive_ += n;
    return {array.release(), [this, n](Array* a) {
              alive_ -= n;
              delete a;
            }};
  } catch (const std::bad_alloc&) {
    failure_ = failure(Exit::file, fmt::format("no memory for {} elements in the interpreter", n));
    return nullptr;
  }
}

Slot Machine::arrange(const Function& f, Slot slot, const Type& from, const Type& to) {
  if (from.axes == to.axes) return slot;
  std::shared_ptr<Array> out = make(f, to);
  if (!out) return {};
  permute(f, *slot.array, from, *out, to);
  return {out.get(), out};
}

const std::vector<std::uint32_t>& Machine::last_use(FunctionId id) {
  std::vector<std::uint32_t>& last = last_use_[id.index];
  const Function& f = program_.function(id);
  if (!last.empty() || f.values.empty()) return last;
  last.assign(f.values.size(), 0);
  for (const Region& r : f.regions) {
    for (std::size_t i = 0; i < r.ops.size(); ++i) {
      const Op& op = f.op(r.ops[i]);
      for (ValueId v : op.operands) last[v.index] = static_cast<std::uint32_t>(i);
      for (ValueId v : op.results) last[v.index] = static_cast<std::uint32_t>(i);
    }
    for (ValueId v : r.results) last[v.index] = kept;
  }
  return last;
}

// Of the values of the operation that was just begun, drops those that nothing later uses.
void Machine::release(Frame& frame, const std::vector<ValueId>& values) {
  const std::vector<std::uint32_t>& last = last_use(frame.activation->id);
  for (ValueId v : values)
    if (last[v.index] == frame.next - 1) frame.activation->slots[v.index] = {};
}

std::vector<Slot> Machine::take(Frame& frame, const Op& op) {
  std::vector<Slot> out;
  for (ValueId v : op.operands) out.push_back(frame.activation->slots[v.index]);
  release(frame, op.operands);
  return out;
}

void Machine::step() {
  Frame& frame = frames_.back();
  const Function& f = function(frame);
  const Region& region = f.regions[frame.region.index];
  if (frame.next == region.ops.size()) return leave();
  const OpId id = region.ops[frame.next++];
  const Op& op = f.op(id);
  switch (op.code) {
    case Opcode::call_:
    case Opcode::launch_: {
      std::vector<Slot> arguments = take(frame, op);
      return enter(op.attr.callee, std::move(arguments), id);
    }
    case Opcode::fused_: return enter_fused(frame, f, id);
    case Opcode::scan_: return enter_scan(frame, f, id);
    default: return plain(frame, f, op);
  }
}

static void evaluate_plain(const Evaluation& e, Array& out) {
  switch (facts(e.op.code).kind) {
    case Kind::source: return evaluate_source(e, out);
    case Kind::unary:
    case Kind::binary:
    case Kind::ternary: return evaluate_elementwise(e, out);
    case Kind::view:
    case Kind::read: return evaluate_move(e, out);
    case Kind::reduce: return evaluate_reduce(e, out);
    case Kind::contract: return evaluate_contract(e, out);
    case Kind::control: return evaluate_move(e, out);  // flat
  }
}

void Machine::plain(Frame& frame, const Function& f, const Op& op) {
  std::vector<Slot>& slots = frame.activation->slots;
  std::vector<const Array*> operands;
  for (ValueId v : op.operands) operands.push_back(slots[v.index].array);
  std::shared_ptr<Array> out = make(f, f.type(op.results[0]));
  if (!out) return;
  const Evaluation e{program_, f, op, operands};
  if (out->size() > 0) evaluate_plain(e, *out);
  if (op.code == Opcode::stop_ && stops_ != nullptr) tape(*out);
  slots[op.results[0].index] = {out.get(), out};
  release(frame, op.operands);
  release(frame, op.results);
}

// Which operations run, and in what order, never depends on values: the tape fits every run.
void Machine::tape(Array& stopped) {
  if (!stops_->replay)
    stops_->values.push_back(stopped);
  else if (stops_->next < stops_->values.size())
    stopped = stops_->values[stops_->next++];
  else
    internal_error("a tape of stops is replayed on another function");
}

void Machine::enter(FunctionId id, std::vector<Slot> arguments, OpId owner) {
  if (depth_ == program_.functions.size())
    internal_error("the interpreter met a function that calls itself");
  ++depth_;
  auto activation = std::make_shared<Activation>(Activation{id, {}});
  const Function& f = program_.function(id);
  activation->slots.resize(f.values.size());
  for (std::size_t i = 0; i < arguments.size(); ++i)
    activation->slots[f.body().arguments[i].index] = std::move(arguments[i]);
  frames_.push_back({std::move(activation), RegionId{0}, 0, owner, nullptr});
}

void Machine::enter_fused(Frame& frame, const Function& f, OpId id) {
  const Op& op = f.op(id);
  const Region& region = f.regions[op.regions[0].index];
  std::vector<Slot> arguments = take(frame, op);
  const std::shared_ptr<Activation> activation = frame.activation;
  for (std::size_t i = 0; i < arguments.size() && !failure_; ++i)
    activation->slots[region.arguments[i].index] =
        arrange(f, std::move(arguments[i]), f.type(op.operands[i]), f.type(region.arguments[i]));
  frames_.push_back({activation, op.regions[0], 0, id, nullptr});  // invalidates frame
}

void Machine::deliver(const Op& op, std::vector<Slot> results) {
  Frame& frame = frames_.back();
  for (std::size_t i = 0; i < results.size(); ++i)
    frame.activation->slots[op.results[i].index] = std::move(results[i]);
  release(frame, op.results);
}

void Machine::leave() {
  Frame& frame = frames_.back();
  const Function& f = function(frame);
  const Region& region = f.regions[frame.region.index];
  std::vector<Slot>& slots = frame.activation->slots;
  std::vector<Slot> results;
  for (ValueId v : region.results) results.push_back(slots[v.index]);
  for (ValueId v : region.results) slots[v.index] = {};
  for (ValueId v : region.arguments) slots[v.index] = {};
  if (frame.scan) return end_position(std::move(results));
  const Frame done = std::move(frame);
  frames_.pop_back();
  const bool body = done.region == RegionId{0};
  if (body) --depth_;
  if (frames_.empty()) {
    results_ = std::move(results);
    return;
  }
  const Op& op = function(frames_.back()).op(done.owner);
  if (!body)  // fused: the same axes, perhaps in another order
    for (std::size_t i = 0; i < results.size() && !failure_; ++i)
      results[i] =
          arrange(f, std::move(results[i]), f.type(region.results[i]), f.type(op.results[i]));
  if (!failure_) deliver(op, std::move(results));
}

}  // namespace gradc::interpreter
