// Owns the run of a program in the interpreter: functions, regions and scans on an explicit stack,
// values that are shared, counted against the limit, and freed after their last use.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "ir/evaluate.h"
#include "ir/program.h"

namespace gradc::interpreter {

// A value: an array of the machine's, or the caller's argument (without owner).
struct Slot {
  const Array* array = nullptr;
  std::shared_ptr<Array> owner;
};

// One run of a function. Regions of the function share its slots: a region is left before it is
// entered again, and it sees its own values only.
struct Activation {
  FunctionId id;
  std::vector<Slot> slots;
};

// How far a scan is, and what it holds meanwhile.
struct Scan {
  std::int64_t position = 0, length = 0;
  std::vector<Slot> states, sequences, invariants;
  std::vector<std::shared_ptr<Array>> collected;
};

struct Frame {
  std::shared_ptr<Activation> activation;
  RegionId region;
  std::size_t next = 0;  // operation of the region
  OpId owner;  // in the frame below; invalid: the outermost
  std::unique_ptr<Scan> scan;
};

class Machine {
 public:
  Machine(const Program& program, std::int64_t limit, StopTape* stops)
      : program_(program), limit_(limit), stops_(stops), last_use_(program.functions.size()) {}
  // Arguments match the function's types and outlive the machine.
  Result<std::vector<Array>> run(FunctionId f, std::span<const Array> arguments);

 private:
  const Function& function(const Frame& f) const { return program_.function(f.activation->id); }

  // Zeros of a type, counted while they live. Null, with the failure set, beyond the limit.
  std::shared_ptr<Array> make(const Function& f, const Type& type);
  // `slot` of type `from`, in the order of axes of `to`.
  Slot arrange(const Function& f, Slot slot, const Type& from, const Type& to);

  // For each value the position, in its region, of the last operation that uses it, or that defines
  // it where none does; `kept` for what a region yields.
  static constexpr std::uint32_t kept = UINT32_MAX;
  const std::vector<std::uint32_t>& last_use(FunctionId id);
  void release(Frame& frame, const std::vector<ValueId>& values);
  std::vector<Slot> take(Frame& frame, const Op& op);

  void step();
  void plain(Frame& frame, const Function& f, const Op& op);
  void tape(Array& stopped);
  void enter(FunctionId id, std::vector<Slot> arguments, OpId owner);
  void enter_fused(Frame& frame, const Function& f, OpId id);
  void leave();
  void deliver(const Op& op, std::vector<Slot> results);

  // evaluate_scan.cpp
  void enter_scan(Frame& frame, const Function& f, OpId id);
  void begin_position();
  void end_position(std::vector<Slot> yielded);
  void finish_scan();

  const Program& program_;
  const std::int64_t limit_;
  StopTape* const stops_;  // may be null
  std::int64_t alive_ = 0;
  std::size_t depth_ = 0;  // calls
  std::vector<std::vector<std::uint32_t>> last_use_;  // by function; filled when first entered
  std::vector<Slot> results_;
  std::vector<Frame> frames_;
  std::optional<Failure> failure_;
};

}  // namespace gradc::interpreter
